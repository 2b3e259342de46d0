"""What is replayed: names of chains, what they are a prediction about, and which are refused."""

import pytest

from core.errors import InvalidInput
from core.prompts.prompts import Prompt
from core.replay.candidates import ReplayCandidate

PROMPT = Prompt("qa", "3", "", "{context} {question}", 3, 2, None)


def test_a_chain_is_named_after_its_parts_in_the_order_in_which_they_act() -> None:
    chain = ReplayCandidate("docs-v2", model="/srv/models/static-256/", reranker="bm25", prompt=PROMPT)
    assert chain.name == "docs-v2 + model static-256 + reranker bm25 + prompt qa-v3"
    assert ReplayCandidate("docs-v2").name == "docs-v2"
    cut = ReplayCandidate(documents="/srv/handbook", characters=400)
    assert cut.changes == ("documents handbook", "passages of 400")
    assert "pw" not in ReplayCandidate(reranker="https://rank.example.org/rerank?key=pw").name


def test_what_is_built_for_the_replay_is_told_from_what_is_there() -> None:
    assert [
        ReplayCandidate(**given).is_staged
        for given in (
            {"index": "docs-v2"},
            {"reranker": "bm25"},
            {"model": "m"},
            {"characters": 300},
            {"documents": "v2"},
        )
    ] == [False, False, True, True, True]


def test_a_prediction_is_about_the_index_that_goes_live() -> None:
    assert ReplayCandidate("docs-v2").name_claim("default") == "version:docs-v2"
    assert ReplayCandidate("docs-v2", prompt=PROMPT).name_claim("default") == "version:docs-v2"
    assert ReplayCandidate(characters=400).name_claim("help") == "index:help"
    with pytest.raises(InvalidInput, match="about: no index goes live here"):
        ReplayCandidate(reranker="bm25").name_claim("default")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "candidate: give an index, or one of"),
        ({"characters": 3}, "characters: must be 100 to 10,000, not 3"),
        ({"index": "docs-v2", "documents": "v2"}, "documents: docs-v2 has its documents"),
        ({"reranker": "magic"}, "reranker: must be bm25, or the http address"),
    ],
)
def test_what_makes_no_candidate_is_named(given: dict, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        ReplayCandidate(**given)


@pytest.mark.parametrize("address", ["https://ada:pw@rank.example.org", "http://[pw", "http://rank:pw/", "http://a pw"])
def test_an_address_that_cannot_be_asked_is_refused_without_repeating_it(address: str) -> None:
    with pytest.raises(InvalidInput, match="^reranker: must ") as caught:
        ReplayCandidate(reranker=address)
    assert "pw" not in str(caught.value).replace("password", "")

"""BM25 by hand, and a reranking server that is busy, wrong, dear and gone."""

import math
from pathlib import Path

import pytest

from core.errors import InvalidInput, SourceUnavailable
from core.prompts.spending import Budget, CeilingReached
from core.replay.cross_encoder import CrossEncoder
from core.replay.remembered import RememberedScores
from core.replay.reranking import LexicalScores, list_words, order_hits
from tests.rerank_server import serve_reranker


def test_bm25_is_the_published_formula() -> None:
    passages = ["port forwarding", "open the port of the ring", "a ring buffer"]
    found = LexicalScores(passages)("Port ring?", passages)
    idf, mean = math.log(1 + (3 - 2 + 0.5) / (2 + 0.5)), (2 + 6 + 3) / 3

    def weigh(words: int) -> float:
        return idf * 2.2 / (1 + 1.2 * (0.25 + 0.75 * words / mean))

    assert found == pytest.approx([weigh(2), 2 * weigh(6), weigh(3)])


def test_words_are_runs_of_letters_however_long_the_text() -> None:
    assert list_words("Größe: rte_eth_dev 2048!") == ["grösse", "rte_eth_dev", "2048"]
    assert len(list_words("a" * 2_000_000 + " " + "-" * 2_000_000)) == 1  # ends at once: no pattern backtracks


def test_hits_are_ordered_by_score_and_ties_stay() -> None:
    assert order_hits("abcd", [0.1, 0.9, 0.1, 0.5], 3) == ("b", "d", "a")


def test_a_server_is_asked_again_while_it_is_busy_and_paid_only_for_answers(tmp_path: Path) -> None:
    with serve_reranker(statuses=[429, 503]) as server:
        budget, waits = Budget(0.01), list[float]()
        ask = CrossEncoder(server.url, budget=budget, usd=0.002, environ={}, sleep=waits.append)
        assert ask("port", ["a ring", "the port"]) == [0.0, 1.0]
        assert (budget.spent_usd, len(waits), len(server.bodies)) == (0.002, 2, 3)
        assert server.bodies[-1] == {"query": "port", "documents": ["a ring", "the port"], "top_n": 2}
        with pytest.raises(CeilingReached, match="the next call could cost"):
            CrossEncoder(server.url, budget=Budget(0.001), usd=0.002, environ={})("port", ["x"])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"statuses": [401]}, "answered HTTP 401"),
        ({"statuses": [500] * 3}, "answered HTTP 500"),
        ({"answer": b"<html>"}, "did not answer with JSON"),
        ({"answer": b"[" * 100_000}, "did not answer with JSON"),
        ({"answer": b'{"results": [{"index": Infinity, "relevance_score": 1}]}'}, "did not answer with `results`"),
        ({"answer": b'{"results": []}'}, "did not answer with `results`"),
        ({"answer": b'{"results": [{"index": 0, "relevance_score": NaN}]}'}, "did not answer with `results`"),
    ],
)
def test_what_a_server_does_wrong_is_one_line_without_the_key(given: dict, message: str) -> None:
    with serve_reranker(**given) as server:
        ask = CrossEncoder(
            server.url + "?token=secret", budget=Budget(), environ={"QUARTERDECK_RERANKER_KEY": "sk-secret"},
            sleep=lambda _s: None,
        )  # fmt: skip
        with pytest.raises(SourceUnavailable, match=message) as caught:
            ask("port", ["a"])
        assert "secret" not in str(caught.value)
        assert server.keys[0] == "Bearer sk-secret"


def test_a_server_that_is_gone_and_an_address_that_is_none() -> None:
    with serve_reranker() as server:
        url = server.url
    with pytest.raises(SourceUnavailable, match="was not reached"):
        CrossEncoder(url, budget=Budget(), environ={}, sleep=lambda _s: None)("q", ["a"])
    with pytest.raises(InvalidInput, match="reranker: must be bm25, or the http address"):
        CrossEncoder("file:///etc/passwd", budget=Budget(), environ={})


def test_scores_are_remembered_across_runs_and_a_torn_line_is_forgotten(tmp_path: Path) -> None:
    path = tmp_path / "scores.txt"
    RememberedScores(path).record("a", [0.5, 1.0])
    with path.open("a") as file:
        file.write("\nb [0.5, ")
    again = RememberedScores(path)
    assert (again.find("a"), again.find("b")) == ([0.5, 1.0], None)
    again.record("c", [2.0])
    assert RememberedScores(path).find("c") == [2.0]

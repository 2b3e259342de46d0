import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from uuid import UUID

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from core.intake.rows import read_api_time
from quarterdeck.clock import from_ms, to_ms
from quarterdeck.errors import InvalidInput
from quarterdeck.retrieval import COLUMNS, LATEST, MAX_QUERY_CHARACTERS, Retrieval, to_columns
from quarterdeck.rollups import bin_of, middle_of, roll_up
from quarterdeck.schema import SUMS

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("score", {"score": math.nan}),
        ("score", {"score": 1.2}),
        ("score", {"score": -1.1}),
        ("score", {"score": 1.5, "score_kind": "probability"}),
        ("score_kind", {"score_kind": "cosinus"}),
        ("documents", {"documents": "docs/a.md"}),
        ("documents", {"documents": [{"score": 0.5}]}),
        ("attributes", {"attributes": ["tenant"]}),
        ("weight", {"weight": 0}),
        ("score", {"score": True}),
        ("score", {"score": "0.5"}),
        ("query", {"query": "  \n"}),
        ("query", {"query": "x" * 1_000_000}),
        ("query", {"query": "a\x00b"}),
        ("query", {"query": None}),
        ("query", {"query": "half a pair \ud83d"}),
        ("ts", {"ts": datetime(1, 1, 1, tzinfo=UTC)}),
        ("ts", {"ts": datetime(9999, 1, 1, tzinfo=UTC)}),
        ("arm", {"arm": ["blue"]}),
        ("ts", {"ts": datetime(2026, 3, 1)}),  # noqa: DTZ001 - a time without a zone is the fault under test
        ("session_id", {"session_id": ""}),
        ("arm", {"arm": "blue\ngreen"}),
        ("prompt_version", {"prompt_version": 3.5}),
        ("latency_ms", {"latency_ms": -1}),
        ("cost_usd", {"cost_usd": math.inf}),
        ("faithfulness", {"faithfulness": 2}),
        ("feedback", {"feedback": -1.5}),
    ],
)
def test_a_wrong_value_is_refused_in_one_line_that_starts_with_its_field(field, values):
    with pytest.raises(InvalidInput) as caught:
        Retrieval(**{"ts": NOON, "query": "what is an mbuf", "score": 0.5} | values)
    assert str(caught.value).startswith(f"{field}: ")
    assert "\n" not in str(caught.value)


def test_everything_at_its_limits_is_accepted():
    Retrieval(NOON, "x" * MAX_QUERY_CHARACTERS, 1, latency_ms=0, cost_usd=0, faithfulness=1.0, feedback=-1)
    assert Retrieval(NOON, "<b>hi</b> **there** 你好", None).score is None


def test_times_survive_the_way_to_milliseconds_and_back():
    assert to_ms(NOON) == 1_772_366_400_000
    assert from_ms(to_ms(NOON)) == NOON


@pytest.mark.parametrize(("score", "expected"), [(0.0, 0), (0.0199, 0), (0.5, 25), (0.999, 49), (1.0, 49)])
def test_each_score_has_one_bin_of_fifty(score, expected):
    (row, *_) = roll_up([Retrieval(NOON, "q", score).row]).rollups
    counted = dict(zip(SUMS, row[4:], strict=True))
    assert (counted["n"], counted["empty"], counted[f"b{expected:02}"]) == (1, 0, 1)


@pytest.mark.parametrize(
    ("values", "state", "column"),
    [
        ({"score": 0.5}, "scored", "n"),
        ({"documents": [("a", 0.4), ("b", 0.6)]}, "scored", "n"),
        ({"score": 12.5, "score_kind": "bm25"}, "scored", "unmapped"),
        ({"documents": ["a", "b"]}, "unscored", "unscored"),
        ({"documents": [("a", math.nan)]}, "unscored", "unscored"),
        ({}, "empty", "empty"),
        ({"documents": []}, "empty", "empty"),
        ({"error": TimeoutError("no answer"), "documents": []}, "failed", "failed"),
    ],
)
def test_every_question_is_counted_under_its_state(values, state, column):
    retrieval = Retrieval(NOON, "q", **values)
    (row, *_) = roll_up([retrieval.row]).rollups
    counted = dict(zip(SUMS, row[4:], strict=True))
    assert retrieval.state == state
    states = ("n", "unmapped", "unscored", "empty", "failed")
    assert {name: counted[name] for name in states} == {name: int(name == column) for name in states}


@pytest.mark.parametrize(
    ("kind", "score", "similarity"),
    [
        (None, 0.78, 0.78), ("cosine", 1.0000001, 1.0), ("cosine", -0.2, 0.0), ("probability", 0.3, 0.3),
        ("cosine_distance", 0.25, 0.75), ("cosine_distance", 1.6, 0.0), ("l2", 1.0, 0.5), ("squared_l2", 1.0, 0.5),
        ("l2", 7.0, None), ("dot", 31.0, None), ("bm25", 12.4, None), ("rrf", 0.016, None), ("rerank", -3.2, None),
    ],
)  # fmt: skip
def test_a_number_of_any_kind_becomes_a_similarity_and_stays_as_it_was_given(kind, score, similarity):
    retrieval = Retrieval(NOON, "q", score, score_kind=kind)
    assert retrieval.similarity == similarity
    assert retrieval.score == score


def test_the_best_hit_is_the_nearest_one_and_not_the_largest_distance():
    hits = [("far", 0.9), ("near", 0.1)]
    assert Retrieval(NOON, "q", documents=hits, score_kind="cosine_distance").similarity == 0.9
    assert Retrieval(NOON, "q", documents=hits).similarity == 0.9


def test_numbers_of_other_libraries_are_numbers():
    numbers = (np.float32(0.5), np.float64(0.5), Decimal("0.5"), np.array(0.5))
    assert [Retrieval(NOON, "q", number).similarity for number in numbers] == [0.5] * 4
    assert Retrieval(NOON, "q", np.float32(1.0000001)).similarity == 1.0
    assert Retrieval(NOON, "q", 0.5, latency_ms=np.float32(12.5), session_id=17).row[3:8:4] == ("17", 12.5)


def test_documents_keep_their_order_and_are_at_most_twenty():
    hits = [{"id": number, "rank": 30 - number, "score": number / 40} for number in range(30)]
    kept = Retrieval(NOON, "q", documents=hits).row[COLUMNS.index("documents")]
    assert [name for name, _ in kept] == [str(number) for number in reversed(range(10, 30))]


def test_attributes_are_bounded_and_plain():
    many = {f"key{number}": number for number in range(50)} | {"long": "x" * 900}
    kept = Retrieval(NOON, "q", 0.5, attributes={"when": NOON, "text": "a\nb", "none": None, **many}).row[18]
    assert len(kept) == 32
    assert (kept["when"], kept["text"], "none" in kept) == (str(NOON), "a b", False)
    assert len(Retrieval(NOON, "q", 0.5, attributes={"long": "x" * 900}).row[18]["long"]) == 256


@given(st.floats(min_value=-1e12, max_value=1e12, allow_nan=False))
def test_the_middle_of_a_bin_is_near_every_number_of_it(number):
    assume(number == 0 or abs(number) > 1e-12)
    assert middle_of(bin_of(number)) == pytest.approx(number, rel=0.05)


def test_the_row_is_built_once_and_no_part_of_what_is_compared_or_shown():
    retrieval = Retrieval(NOON, "what is an mbuf", 1, arm="blue")
    assert retrieval.row is retrieval.row
    assert dict(zip(COLUMNS, retrieval.row[:-1], strict=True))["score"] == retrieval.score == 1.0
    assert (retrieval.row[0], retrieval.ts_ms) == (to_ms(NOON), to_ms(NOON))
    later = replace(retrieval, ts=from_ms(to_ms(NOON) + 5), score=0.25)
    assert (later.row[0], later.row[2]) == (to_ms(NOON) + 5, 0.25)
    assert "row=" not in repr(retrieval)
    assert retrieval == Retrieval(NOON, "what is an mbuf", 1.0, arm="blue")


def test_time_ends_in_2100_for_every_way_in():
    last = LATEST - timedelta(milliseconds=1)
    assert Retrieval(last, "q", 0.5).ts_ms == to_ms(LATEST) - 1
    assert read_api_time(to_ms(last), now=NOON) == last
    with pytest.raises(InvalidInput, match="between the years 1970 and 2100"):
        Retrieval(LATEST, "q", 0.5)
    with pytest.raises(InvalidInput, match="between 1970 and 2100"):
        read_api_time(to_ms(LATEST), now=NOON)


def test_a_whole_number_of_any_size_is_kept_as_a_float():
    row = Retrieval(datetime(2026, 3, 1, tzinfo=UTC), "q", 1, latency_ms=2**70).row
    assert [type(value) for value in (row[2], row[7])] == [float, float]


def test_documents_of_frameworks_are_hits_by_their_ids_or_texts():
    document = SimpleNamespace(id=None, page_content="mbufs hold packets", metadata={"source": "mbuf.md"})
    unnamed = SimpleNamespace(id=None, page_content="mbufs hold packets", metadata={})
    point = SimpleNamespace(id=UUID(int=7), score=np.float32(0.5), payload={})
    node = SimpleNamespace(node_id="n-1", score=0.25, text="rings hold mbufs")
    hits = [(document, 0.75), document, point, node, (Path("ring.md"), 0.5), unnamed]
    kept = Retrieval(NOON, "q", documents=hits).row[COLUMNS.index("documents")]
    assert kept[:5] == (
        ("mbuf.md", 0.75), ("mbuf.md", None), (str(UUID(int=7)), 0.5), ("n-1", 0.25), ("ring.md", 0.5),
    )  # fmt: skip
    assert len(kept[5][0]) == 16


@pytest.mark.parametrize("hits", [[(0.5, "a.md")], [{"id": "a.md", "score": "0.5"}], [None], [object()]])
def test_a_hit_that_cannot_be_read_is_refused_and_not_guessed(hits):
    with pytest.raises(InvalidInput, match="^documents: "):
        Retrieval(NOON, "q", documents=hits)


def test_names_are_uuids_and_whole_numbers_of_any_library():
    row = Retrieval(NOON, "q", 0.5, session_id=UUID(int=5), user_id=np.int64(42)).row
    assert (row[3], row[12]) == (str(UUID(int=5)), "42")


def test_names_that_are_known_are_bounded_too():
    names = [f"bound-{number}" for number in range(64)]
    for some in (names[:32], names[32:], names):
        kept = Retrieval(NOON, "q", 0.5, attributes=dict.fromkeys(some, "x")).row[18]
    assert len(kept) == 32
    Retrieval(NOON, "q", documents=["d" * 200])
    assert list(Retrieval(NOON, "q", 0.5, attributes={"d" * 200: "x"}).row[18]) == ["d" * 64]


def test_what_a_search_failed_with_is_kept_as_text_that_every_store_takes():
    row = Retrieval(NOON, "q", error=ValueError("half \ud83d of it\nand\x00 more")).row
    assert row[18] == {"error": "half   of it and  more"}
    assert to_columns(row)[18] == '{"error":"half   of it and  more"}'

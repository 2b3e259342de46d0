import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from core.intake.rows import read_api_time
from quarterdeck.clock import HOUR_MS, from_ms, to_ms
from quarterdeck.errors import InvalidInput
from quarterdeck.retrieval import COLUMNS, LATEST, MAX_QUERY_CHARACTERS, Retrieval
from quarterdeck.rollups import roll_up

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("score", {"score": math.nan}),
        ("score", {"score": 1.2}),
        ("score", {"score": -0.1}),
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
        ("prompt_version", {"prompt_version": 3}),
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


@pytest.mark.parametrize(("score", "expected"), [(0.0, 0), (0.0199, 0), (0.5, 25), (0.999, 49), (1.0, 49), (None, -1)])
def test_each_score_has_one_bin_of_fifty_and_an_empty_hit_list_its_own(score, expected):
    ((*_, number, count, _total, _squares),) = roll_up([Retrieval(NOON, "q", score).row]).by_period[HOUR_MS]
    assert (number, count) == (expected, 1)


def test_the_row_is_built_once_and_no_part_of_what_is_compared_or_shown():
    retrieval = Retrieval(NOON, "what is an mbuf", 1, arm="blue")
    assert retrieval.row is retrieval.row
    assert dict(zip(COLUMNS, retrieval.row, strict=True))["score"] == retrieval.score == 1.0
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

"""The filters in the page's address, and the questions that they mean."""

import pytest

from core.drift.present import LowScores
from core.errors import InvalidInput
from core.log.calendars import make_calendar
from core.log.filters import QuestionFilter
from core.questions.wanted import Pairs, ShownSpan, make_filter, say_filter
from quarterdeck.scope import DEFAULT_SCOPE

DAY_MS = 86_400_000
BERLIN = make_calendar("Europe/Berlin")
SPAN = ShownSpan(1_700_000_000_000, 1_800_000_000_000, BERLIN)


def read(*pairs: tuple[str, str]) -> QuestionFilter:
    return make_filter(pairs, DEFAULT_SCOPE, SPAN, low=LowScores(0.46))


def test_without_filters_it_is_the_scope_in_the_span() -> None:
    assert read() == QuestionFilter(scope=DEFAULT_SCOPE, start_ms=SPAN.start_ms, end_ms=SPAN.end_ms)


def test_every_filter_has_its_part() -> None:
    found = read(
        ("text", "mbuf pool"), ("low", "1"), ("state", "empty"), ("state", "failed"), ("session", "s-1"),
        ("user", "u-1"), ("document", "a.md"), ("document", "b.md"), ("arm", "(none)"), ("model", "m"),
        ("attribute", "tenant=a=b"), ("score", "feedback < 0"),
    )  # fmt: skip
    assert (found.search, found.below, found.states) == ("mbuf pool", 0.46, ("empty", "failed"))
    assert (found.session_id, found.user_id, found.documents) == ("s-1", "u-1", ("a.md", "b.md"))
    assert (found.labels, found.attributes) == ((("arm", ""), ("model", "m")), (("tenant", "a=b"),))
    assert (found.score_name, found.score_below) == ("feedback", 0.0)
    assert read(("score", "quality")).score_name == "quality"


def test_a_day_is_one_of_the_zone_and_since_ends_with_the_span() -> None:
    day = read(("day", "2026-03-29"))  # 23 hours in Berlin
    assert day.end_ms is not None
    assert day.start_ms is not None
    assert day.end_ms - day.start_ms == DAY_MS - 3_600_000
    since = read(("since", "2026-03-29"))
    assert (since.start_ms, since.end_ms) == (day.start_ms, SPAN.end_ms)


def test_an_id_is_looked_for_at_any_time() -> None:
    found = read(("id", "q-1"), ("day", "2026-03-29"))
    assert (found.retrieval_id, found.start_ms, found.end_ms) == ("q-1", None, None)


@pytest.mark.parametrize(
    "wrong",
    [("day", "yesterday"), ("since", "9999-01-01"), ("attribute", "tenant"), ("attribute", "=x"), ("state", "lost"),
     ("score", "<0"), ("score", "a<b")],
)  # fmt: skip
def test_a_filter_that_means_nothing_is_refused_by_its_name(wrong: tuple[str, str]) -> None:
    with pytest.raises(InvalidInput, match=wrong[0]):
        read(wrong)


def test_a_filter_is_said_in_a_few_words() -> None:
    pairs: Pairs = (("low", "1"), ("prompt_version", "v3"))
    assert [say_filter(*pair) for pair in pairs] == ["low only", "prompt: v3"]

"""Histories of arms, by hour, in every kind of log: equal to a loop over the rows, however often they are read."""

import random
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import astuple, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from core.arms import histories
from core.arms.arms import Arm, ArmsReading, Metric
from core.arms.histories import ArmHistories, Watched
from core.arms.sequential import adjust_moments
from core.errors import InvalidInput
from core.log.exposures import Exposure
from core.log.retrievals import list_asked_by, list_user_sums
from quarterdeck.log import RetrievalLog
from quarterdeck.recorder import append_retrievals
from quarterdeck.retrieval import Retrieval
from tests.backends import BACKENDS

START = datetime(2026, 3, 3, 9, 20, tzinfo=UTC)
END = START + timedelta(hours=40, minutes=7)
WATCHED = Watched("arm", ("blue", "green"), START)


def draw_rows(count: int = 1_500) -> list[Retrieval]:
    rng = random.Random(4)
    return [
        Retrieval(
            START + timedelta(seconds=rng.randrange(-7_200, int((END - START).total_seconds()) + 3_600)),
            "what is an mbuf",
            None if rng.random() < 0.1 else rng.random(),
            session_id=rng.choice([None, *(f"s{number}" for number in range(90))]),
            arm=rng.choice([None, "blue", "blue", "green", "gray"]),
            latency_ms=rng.choice([None, rng.uniform(10, 900)]),
            cost_usd=rng.choice([None, rng.uniform(0.001, 0.01)]),
            feedback=rng.choice([None, None, -1.0, 1.0]),
        )
        for _ in range(count)
    ]


ROWS = draw_rows()


@pytest.fixture(params=BACKENDS)
def log(request: pytest.FixtureRequest, open_new_log: Callable[[str], RetrievalLog]) -> RetrievalLog:
    return open_new_log(request.param)


def value_of(row: Retrieval, metric: Metric) -> float | None:
    fields = {Metric.SCORE: row.score, Metric.LATENCY: row.latency_ms, Metric.COST: row.cost_usd}
    return {**fields, Metric.ERRORS: float(row.score is None), Metric.FEEDBACK: row.feedback}.get(metric)


def loop(rows: Iterable[Retrieval], arm_of: Callable[[Retrieval], str | None], arm: str) -> dict[Metric, list[float]]:
    """Each user's mean of each metric, by a plain loop."""
    asked: dict[Metric, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        for metric in Metric:
            value = value_of(row, metric)
            if arm_of(row) == arm and row.session_id is not None and value is not None:
                asked[metric][row.session_id].append(value)
    return {metric: [statistics.fmean(values) for values in users.values()] for metric, users in asked.items()}


def assert_same(found: Arm, expected: dict[Metric, list[float]]) -> None:
    assert set(found.moments) == set(expected)
    for metric, means in expected.items():
        moments = found.moments[metric]
        assert moments.users == len(means)
        assert moments.mean == pytest.approx(statistics.fmean(means), rel=1e-6, abs=1e-9)
        assert moments.variance == pytest.approx(statistics.variance(means), rel=1e-4, abs=1e-9)


def assert_alike(found: Sequence[ArmsReading], expected: Sequence[ArmsReading]) -> None:
    """The same looks; sums may differ in their last digit, because rows come in any order."""
    assert [(look.start, look.at) for look in found] == [(look.start, look.at) for look in expected]
    for one, other in zip(found, expected, strict=True):
        assert {arm: (a.users, a.queries, a.anonymous) for arm, a in one.arms.items()} == {
            arm: (a.users, a.queries, a.anonymous) for arm, a in other.arms.items()
        }
        for arm in one.arms:
            assert one.arms[arm].moments.keys() == other.arms[arm].moments.keys()
            for metric, moments in one.arms[arm].moments.items():
                same = other.arms[arm].moments[metric]
                assert (moments.users, moments.mean) == (same.users, pytest.approx(same.mean))
                assert moments.variance == pytest.approx(same.variance, rel=1e-6, abs=1e-12)
            assert one.last[arm].users == other.last[arm].users


def between(first: datetime, last: datetime) -> list[Retrieval]:
    return [row for row in ROWS if first <= row.ts < last]


@pytest.mark.deep
def test_each_look_is_what_a_loop_over_the_rows_finds(log: RetrievalLog) -> None:
    append_retrievals(log, ROWS)
    looks = ArmHistories(log).read(WATCHED, until=END)
    assert looks[-1].at == END
    for look in (looks[0], looks[17], looks[-1]):
        for arm in ("blue", "green"):
            assert_same(look.arms[arm], loop(between(START, look.at), lambda row: row.arm, arm))
    anonymous = [row for row in between(START, END) if row.arm == "green" and row.session_id is None]
    assert looks[-1].arms["green"].anonymous == len(anonymous)
    hour = between(looks[17].start, looks[17].at)
    scores = [row.score for row in hour if row.arm == "green" and row.session_id and row.score is not None]
    assert looks[17].last["green"].mean(Metric.SCORE) == pytest.approx(statistics.fmean(scores))


def test_looking_again_later_gives_what_a_first_look_would(log: RetrievalLog) -> None:
    append_retrievals(log, ROWS)
    again = ArmHistories(log)
    for hours in (1, 2, 7, 30):
        again.read(WATCHED, until=START + timedelta(hours=hours))
    assert_alike(again.read(WATCHED, until=END), ArmHistories(log).read(WATCHED, until=END))


@pytest.mark.deep
@pytest.mark.parametrize("busy_rows", [0, 200_000])
def test_looking_while_rows_come_in_gives_what_a_first_look_would(
    log: RetrievalLog, busy_rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(histories, "_BUSY_ROWS", busy_rows)
    kept, waiting, now = ArmHistories(log), sorted(ROWS, key=lambda row: row.ts, reverse=True), START
    while now < END:
        now = min(END, now + timedelta(minutes=19))
        append_retrievals(log, [waiting.pop() for row in list(waiting) if row.ts < now])
        looks = kept.read(WATCHED, until=now)
    assert_alike(looks, ArmHistories(log).read(WATCHED, until=END))


@pytest.mark.deep
@pytest.mark.parametrize("minutes", [30, 51])
@pytest.mark.parametrize("busy_rows", [0, 200_000])
def test_a_row_that_comes_late_in_a_busy_hour_is_noticed_when_the_hour_is_over(
    log: RetrievalLog, busy_rows: int, minutes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(histories, "_BUSY_ROWS", busy_rows)
    append_retrievals(log, ROWS)
    kept, now = ArmHistories(log), START + timedelta(hours=5)  # 20 minutes into an hour
    before = kept.read(WATCHED, until=now)
    append_retrievals(log, [replace(ROWS[0], ts=now - timedelta(minutes=2), arm="green")])
    found = kept.read(WATCHED, until=now + timedelta(minutes=minutes))
    fresh = ArmHistories(log).read(WATCHED, until=now + timedelta(minutes=minutes))
    missing = int(busy_rows == 0 and minutes == 30)
    assert found[-1].arms["green"].queries + missing == fresh[-1].arms["green"].queries
    assert fresh[-1].arms["green"].queries > before[-1].arms["green"].queries
    if not missing:
        assert_alike(found, fresh)


def test_many_rows_are_read_in_parts(log: RetrievalLog, monkeypatch: pytest.MonkeyPatch) -> None:
    append_retrievals(log, ROWS)
    whole = ArmHistories(log).read(WATCHED, until=END)
    monkeypatch.setattr(histories, "_MOST_ROWS", 10)
    assert_alike(ArmHistories(log).read(WATCHED, until=END), whole)


def test_rows_that_come_in_late_are_noticed(log: RetrievalLog) -> None:
    late = [row for row in ROWS if row.ts < START + timedelta(hours=3)]
    append_retrievals(log, [row for row in ROWS if row not in late])
    kept = ArmHistories(log)
    before = kept.read(WATCHED, until=END)
    append_retrievals(log, late)
    after = kept.read(WATCHED, until=END)
    assert after[-1].arms["blue"].queries > before[-1].arms["blue"].queries
    assert_same(after[-1].arms["blue"], loop(between(START, END), lambda row: row.arm, "blue"))


def test_an_earlier_time_can_be_asked_for(log: RetrievalLog) -> None:
    append_retrievals(log, ROWS)
    kept = ArmHistories(log)
    kept.read(WATCHED, until=END)
    earlier = START + timedelta(hours=5)
    assert_alike(kept.read(WATCHED, until=earlier), ArmHistories(log).read(WATCHED, until=earlier))


def test_an_empty_log_gives_one_look_with_nobody_in_it(log: RetrievalLog) -> None:
    (look,) = ArmHistories(log).read(WATCHED, until=END)
    assert look.arms == {"blue": Arm(), "green": Arm()}


def test_users_can_be_told_by_what_they_were_exposed_to(log: RetrievalLog) -> None:
    append_retrievals(log, ROWS)
    exposures = [Exposure(f"s{n}", "short" if n % 3 else "long", START) for n in range(60)]
    exposures.append(Exposure("s7", "long", START + timedelta(hours=2)))
    arms = {e.targeting_key: e.variant for e in exposures if e.targeting_key != "s7"}
    watched = Watched("", ("short", "long"), START)
    looks = ArmHistories(log).read(watched, until=END, exposures=exposures)
    for arm in ("short", "long"):
        assert_same(looks[-1].arms[arm], loop(between(START, END), lambda row: arms.get(row.session_id or ""), arm))


def test_an_exposure_that_is_reported_late_is_noticed(log: RetrievalLog) -> None:
    append_retrievals(log, ROWS)
    exposures = [Exposure(f"s{n}", "short" if n % 3 else "long", START) for n in range(60)]
    kept, watched = ArmHistories(log), Watched("", ("short", "long"), START)
    kept.read(watched, until=END, exposures=exposures[:50])
    found = kept.read(watched, until=END, exposures=exposures)
    assert_alike(found, ArmHistories(log).read(watched, until=END, exposures=exposures))


def note_starts(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Note from where on rows are read from now on."""
    starts: list[int] = []

    def noting(*arguments: Any, start_ms: int, **options: Any) -> Any:
        starts.append(start_ms)
        return list_user_sums(*arguments, start_ms=start_ms, **options)

    monkeypatch.setattr(histories, "list_user_sums", noting)
    return starts


def test_only_the_last_hours_are_read_again(log: RetrievalLog, monkeypatch: pytest.MonkeyPatch) -> None:
    append_retrievals(log, ROWS)
    kept = ArmHistories(log)
    kept.read(WATCHED, until=END)
    read = note_starts(monkeypatch)
    kept.read(WATCHED, until=END + timedelta(minutes=1))
    assert [END.timestamp() * 1000 - start < 2 * 3_600_000 for start in read] == [True]


def test_of_a_busy_hour_the_newest_rows_alone_are_read_again(
    log: RetrievalLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    append_retrievals(log, ROWS)
    kept = ArmHistories(log)
    monkeypatch.setattr(histories, "_BUSY_ROWS", 0)
    kept.read(WATCHED, until=END)
    read = note_starts(monkeypatch)
    kept.read(WATCHED, until=END + timedelta(minutes=1))
    assert [END.timestamp() * 1000 - start <= 10_000 for start in read] == [True, True]


@pytest.mark.deep
def test_fifty_rollouts_in_turns_are_each_read_on_and_not_anew(
    log: RetrievalLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    append_retrievals(log, ROWS)
    kept = ArmHistories(log)
    many = [replace(WATCHED, since=START + timedelta(seconds=number)) for number in range(50)]
    for watched in many:
        kept.read(watched, until=END)
    read = note_starts(monkeypatch)
    for watched in many:
        kept.read(watched, until=END + timedelta(minutes=1))
    assert len(read) == 50
    assert all(END.timestamp() * 1000 - start < 2 * 3_600_000 for start in read)


def test_where_memory_is_short_the_oldest_is_read_anew_and_says_the_same(
    log: RetrievalLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    append_retrievals(log, ROWS)
    kept, later = ArmHistories(log), END + timedelta(minutes=1)
    monkeypatch.setattr(histories, "_MOST_USERS", 2_000)  # less than two take
    first, second = WATCHED, replace(WATCHED, since=START + timedelta(hours=1))
    taken = kept.read(first, until=END)
    kept.read(second, until=END)
    kept.read(second, until=later)
    read = note_starts(monkeypatch)
    assert kept.up_to(timedelta(minutes=2)).read(first, until=later) is taken  # its reading is kept
    assert read == []
    assert_alike(kept.read(first, until=later), ArmHistories(log).read(first, until=later))
    assert min(read) == START.timestamp() * 1000


def test_who_is_content_with_an_older_look_gets_the_one_that_somebody_took(log: RetrievalLog) -> None:
    kept, later = ArmHistories(log), END + timedelta(seconds=9)
    taken = kept.read(WATCHED, until=END)
    append_retrievals(log, ROWS)
    content = kept.up_to(timedelta(seconds=10))
    assert content.read(WATCHED, until=later) is taken
    assert kept.read(WATCHED, until=later)[-1].arms["green"].queries
    assert content.read(WATCHED, until=later)[-1].at == later


def test_a_dimension_that_is_none_is_refused(log: RetrievalLog) -> None:
    with pytest.raises(InvalidInput, match="segment: must be one of"):
        ArmHistories(log).read(Watched("query", ("a", "b"), START), until=END)


def draw_repeating(count: int = 2_500) -> list[Retrieval]:
    """Questions that score the same each time, but for noise, from a week before the start."""
    rng = random.Random(8)
    found = []
    for _ in range(count):
        question, user = rng.randrange(12), rng.randrange(300)
        ts = START + timedelta(hours=rng.uniform(-160, 40))
        score = 0.4 + 0.04 * question + rng.uniform(-0.02, 0.02)
        text = f"Question {question}" if rng.random() < 0.5 else f"question  {question}"
        found.append(Retrieval(ts, text, score, session_id=f"s{user}"))
    return found


def list_scores(look: ArmsReading) -> list[float]:
    """What is known of the score in each arm; the order of rows, which a log is free in, changes the last digits."""
    found = [look.arms[arm].moments.get(Metric.SCORE) for arm in ("blue", "green")]
    return [number for each in found if each for number in (*astuple(each)[:3], *(astuple(each)[3] or ()))]


@pytest.mark.deep
def test_with_expected_scores_the_repeated_questions_are_taken_out_of_the_spread(
    log: RetrievalLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    append_retrievals(log, draw_repeating())
    exposures = [Exposure(f"s{user}", ("blue", "green")[user % 2], START) for user in range(300)]
    watched = Watched("", ("blue", "green"), START, expects=True)
    kept = ArmHistories(log)
    for hour in range(1, 40, 6):  # step by step, with a part of an hour each time
        kept.read(watched, until=START + timedelta(hours=hour, minutes=17), exposures=exposures)
    looks = kept.read(watched, until=END, exposures=exposures)
    plain = ArmHistories(log).read(replace(watched, expects=False), until=END, exposures=exposures)
    at_once = ArmHistories(log).read(watched, until=END, exposures=exposures)
    assert [list_scores(look) for look in looks] == [pytest.approx(list_scores(look)) for look in at_once]
    monkeypatch.setattr(histories, "_BUSY_ROWS", 0)
    busy = ArmHistories(log)
    for minute in (1, 3, 6):
        busy.read(watched, until=END - timedelta(minutes=10 - minute), exposures=exposures)
    newest = busy.read(watched, until=END, exposures=exposures)[-1]
    assert list_scores(newest) == pytest.approx(list_scores(looks[-1]))
    before, after = (
        [look.arms[arm].moments[Metric.SCORE] for arm in ("blue", "green")] for look in (plain[-1], looks[-1])
    )
    for one, other in zip(before, after, strict=True):
        assert (one.users, one.covariate) == (other.users, None)
        assert (one.mean, one.variance) == pytest.approx((other.mean, other.variance))
    first, second = adjust_moments(*after)
    assert first.variance < 0.1 * before[0].variance
    assert second.mean - first.mean == pytest.approx(0.0, abs=0.01)


def test_questions_are_summed_by_user_text_and_hour(log: RetrievalLog) -> None:
    append_retrievals(log, ROWS)
    start_ms, end_ms = (int(moment.timestamp() * 1_000) for moment in (START, END))
    expected: dict[tuple[int, str | None], list[float]] = defaultdict(list)
    for row in ROWS:
        if start_ms <= row.ts_ms < end_ms and row.score is not None:
            expected[row.ts_ms // 3_600_000 * 3_600_000, row.session_id].append(row.score)
    found = list_asked_by(log, start_ms=start_ms, end_ms=end_ms)
    assert [row.start_ms for row in found] == sorted(row.start_ms for row in found)
    assert {(row.start_ms, row.user): row.asked for row in found} == {key: len(each) for key, each in expected.items()}
    assert {(row.start_ms, row.user): row.total for row in found} == pytest.approx(
        {key: sum(each) for key, each in expected.items()}
    )

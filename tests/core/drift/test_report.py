"""The verdict of a scope over a real store."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest

from core.audit.acts import Act
from core.drift.operations import accept_level
from core.drift.report import report_as_of, report_drift, report_episodes
from core.drift.verdict import DriftStatus
from core.log.closing import close_days
from quarterdeck.recorder import append_retrievals
from quarterdeck.retrieval import Retrieval
from quarterdeck.scope import DEFAULT_SCOPE, Scope
from quarterdeck.store import Store

NOW = datetime(2026, 3, 20, 12, tzinfo=UTC)
TODAY = NOW.date()
ME = Act("ada", "because")
STAGING = Scope("staging", "default")


def write(
    store: Store, levels: Sequence[float | None], *, scope: Scope = DEFAULT_SCOPE, per_day: int = 100, **more
) -> None:
    """Write whole days of a service that end yesterday, each around its level; None is a search that found nothing."""
    rng = np.random.default_rng(3)
    append_retrievals(
        store,
        [
            Retrieval(
                NOW - timedelta(days=len(levels) - day, seconds=60 * n), f"q{n}",
                None if level is None else float(np.clip(rng.normal(level, 0.05), 0, 1)), scope=scope, **more,
            )
            for day, level in enumerate(levels)
            for n in range(per_day)
        ],
    )  # fmt: skip


def test_a_drop_in_staging_or_in_another_service_is_no_drop_here(store: Store) -> None:
    write(store, [0.7] * 40)
    write(store, [0.7] * 35 + [0.3] * 5, scope=STAGING)
    write(store, [0.7] * 35 + [0.3] * 5, scope=Scope("production", "search"))
    found = {
        scope: report_drift(store, scope=scope, today=TODAY)
        for scope in (DEFAULT_SCOPE, STAGING, Scope("production", "search"))
    }
    assert [each.report.status for each in found.values()] == [
        DriftStatus.STABLE, DriftStatus.DRIFTING, DriftStatus.DRIFTING,
    ]  # fmt: skip
    assert sum(day.count for day in found[DEFAULT_SCOPE].days) == 4_000


def test_a_level_is_accepted_for_one_service_alone(store: Store) -> None:
    search = Scope("production", "search")
    for scope in (DEFAULT_SCOPE, search):
        write(store, [0.7] * 35 + [0.3] * 5, scope=scope)
    accept_level(store, TODAY - timedelta(days=5), ME, service="search")
    assert report_drift(store, scope=DEFAULT_SCOPE, today=TODAY).report.status is DriftStatus.DRIFTING
    assert report_drift(store, scope=search, today=TODAY).report.status is not DriftStatus.DRIFTING


def test_an_environment_without_rows_has_no_verdict(store: Store) -> None:
    write(store, [0.7] * 40)
    found = report_drift(store, scope=STAGING, today=TODAY)
    assert (found.days, found.report.status) == ((), DriftStatus.INSUFFICIENT_DATA)


def test_the_day_that_is_not_over_is_in_no_verdict_whatever_it_brings(store: Store) -> None:
    write(store, [0.7] * 40)
    before = report_drift(store, scope=DEFAULT_SCOPE, today=TODAY).report
    night = [Retrieval(NOW - timedelta(seconds=30 * n), f"q{n}", 0.3) for n in range(200)]
    append_retrievals(store, night)
    found = report_drift(store, scope=DEFAULT_SCOPE, today=TODAY)
    assert found.report == before
    assert found.days[-1].day == TODAY
    assert report_drift(store, scope=DEFAULT_SCOPE, today=TODAY + timedelta(days=1)).report.status == "drifting"


def test_a_log_of_today_alone_says_when_the_verdict_comes(store: Store) -> None:
    append_retrievals(store, [Retrieval(NOW - timedelta(seconds=n), f"q{n}", 0.7) for n in range(30)])
    report = report_drift(store, scope=DEFAULT_SCOPE, today=TODAY).report
    assert (report.status, report.reason) == (
        DriftStatus.INSUFFICIENT_DATA, "All 30 questions are of today: the first whole day counts tomorrow.",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"score": 0.7}, "The only question is of today: the first whole day counts tomorrow."),
        ({}, "1 search is recorded, on 20 Mar 2026, and it found nothing."),
        ({"documents": ["a"]}, "The only question recorded has no similarity: it had hits without a score."),
    ],
)
def test_the_first_question_is_told_in_the_singular(store: Store, row: dict[str, Any], reason: str) -> None:
    append_retrievals(store, [Retrieval(NOW, "q", **row)])
    assert report_drift(store, scope=DEFAULT_SCOPE, today=TODAY).report.reason == reason


def test_rows_of_a_wrong_clock_decide_nothing_and_are_told(store: Store) -> None:
    write(store, [0.6] * 45)
    plain = report_drift(store, scope=DEFAULT_SCOPE, today=TODAY).report
    append_retrievals(store, [Retrieval(datetime(1970, 1, 2, tzinfo=UTC), f"q{n}", 0.9) for n in range(50)])
    append_retrievals(store, [Retrieval(NOW + timedelta(days=700), "q", 0.9)])
    found = report_drift(store, scope=DEFAULT_SCOPE, today=TODAY)
    assert found.report.status is DriftStatus.STABLE
    assert replace(found.report, notes=()) == plain
    assert found.report.notes == (
        "50 questions on 2 Jan 1970 are set aside: more than 30 days lie between them and the rest.",
        "1 question on 18 Feb 2028 is set aside: they are dated in the future.",
    )
    assert (len(found.days), found.recorded) == (45, 4_551)


def test_a_trial_of_long_ago_is_no_reference(store: Store) -> None:
    first = NOW - timedelta(days=610)
    append_retrievals(store, [Retrieval(first + timedelta(hours=n), f"trial {n}", 0.5) for n in range(200)])
    write(store, [0.6] * 45)
    report = report_drift(store, scope=DEFAULT_SCOPE, today=TODAY).report
    assert report.status is DriftStatus.STABLE
    assert report.notes[0].startswith("200 questions from 18 Jul 2024 to ")


def test_clocks_that_are_a_little_ahead_are_not_set_aside(store: Store) -> None:
    write(store, [0.6] * 45)
    append_retrievals(store, [Retrieval(NOW + timedelta(hours=20), "q", 0.9)])
    assert report_drift(store, scope=DEFAULT_SCOPE, today=TODAY).report.notes == ()


@pytest.mark.deep
def test_three_days_on_which_nothing_is_found_are_an_outage_with_its_first_day(store: Store) -> None:
    write(store, [0.6] * 42 + [None] * 3, per_day=200)
    report = report_drift(store, scope=DEFAULT_SCOPE, today=TODAY).report
    assert (report.status, report.outage_since) == (DriftStatus.OUTAGE, TODAY - timedelta(days=3))
    assert report.reason == (
        "100% of the searches of 19 Mar 2026 found nothing, 200 of 200, against 0% before; this began on 17 Mar 2026."
    )


def test_half_of_the_searches_of_one_day_are_enough_and_a_day_later_all_is_well(store: Store) -> None:
    write(store, [0.6] * 40)
    write(store, [None], per_day=100)
    assert report_drift(store, scope=DEFAULT_SCOPE, today=TODAY).report.status is DriftStatus.OUTAGE
    append_retrievals(store, [Retrieval(NOW - timedelta(seconds=n), f"q{n}", 0.6) for n in range(100)])
    later = report_drift(store, scope=DEFAULT_SCOPE, today=TODAY + timedelta(days=1)).report
    assert later.status is not DriftStatus.OUTAGE


def test_hits_that_come_without_a_score_since_yesterday_are_told_as_such(store: Store) -> None:
    write(store, [0.6] * 40)
    day = NOW - timedelta(days=1)
    append_retrievals(store, [Retrieval(day + timedelta(seconds=n), f"q{n}", documents=["a"]) for n in range(90)])
    report = report_drift(store, scope=DEFAULT_SCOPE, today=TODAY).report
    assert report.status is DriftStatus.OUTAGE
    assert "47% of the searches of 19 Mar 2026 came back without a score" in report.reason


def test_a_log_in_which_nothing_was_ever_found_is_recorded_and_out(store: Store) -> None:
    write(store, [None] * 45, per_day=200)
    found = report_drift(store, scope=DEFAULT_SCOPE, today=TODAY)
    assert (found.report.status, found.days) == (DriftStatus.OUTAGE, ())
    assert found.report.reason == "9,000 searches are recorded since 3 Feb 2026, and none found anything."


def test_a_drop_that_is_open_is_told_beside_the_outage(store: Store) -> None:
    write(store, [0.7] * 30 + [0.4] * 9 + [None])
    report = report_drift(store, scope=DEFAULT_SCOPE, today=TODAY).report
    assert report.status is DriftStatus.OUTAGE
    assert "Besides: Retrieval score fell by" in report.reason


@pytest.mark.deep
def test_another_embedding_model_is_told_with_both_scales_and_never_called_drift(store: Store) -> None:
    write(store, [0.7] * 40, model="small-v1")
    rng = np.random.default_rng(4)
    for ago, share in ((5, 0.3), (4, 0.6), (3, 1.0), (2, 1.0), (1, 1.0)):
        start = NOW - timedelta(days=ago)
        count = int(share / (1 - share) * 100) if share < 1 else 10_000
        append_retrievals(
            store,
            [
                Retrieval(start + timedelta(seconds=n), f"n{n}", float(rng.normal(0.4, 0.05)), model="large-v2")
                for n in range(count)
            ],
        )
        report = report_drift(store, scope=DEFAULT_SCOPE, today=(start + timedelta(days=1)).date()).report
        assert report.status in (DriftStatus.STABLE, DriftStatus.INSUFFICIENT_DATA), ago
    found = report_drift(store, scope=DEFAULT_SCOPE, today=TODAY)
    assert found.report.notes[0].startswith(
        "The embedding model changed from small-v1 to large-v2 on 17 Mar 2026. Their scores are on different scales "
        "(mean 0.70 with small-v1, 0.40 with large-v2), so this is no drift"
    )
    assert all(each.status is not DriftStatus.DRIFTING for _, listed in found.segments for each in listed)


def test_two_models_with_half_of_the_questions_each_do_not_take_turns(store: Store) -> None:
    levels = {"small-v1": 0.7, "large-v2": 0.4}
    for model, level in levels.items():
        write(store, [level] * 40, model=model)
    for ago, model in ((3, "small-v1"), (2, "large-v2"), (1, "small-v1")):
        at = NOW - timedelta(days=ago)
        more = [Retrieval(at - timedelta(seconds=n), f"m{n}", levels[model], model=model) for n in range(20)]
        append_retrievals(store, more)
        found = report_drift(store, scope=DEFAULT_SCOPE, today=TODAY - timedelta(days=ago - 1))
        assert found.report.status is DriftStatus.STABLE
        assert found.report.notes == ()
        assert found.report.recent_count in (720, 740)
        assert found.report.recent_avg_score == pytest.approx(0.7, abs=0.01)
    assert report_episodes(store, scope=DEFAULT_SCOPE, today=TODAY) == ()


def test_a_drop_of_the_new_model_is_a_drop(store: Store) -> None:
    write(store, [0.7] * 20, model="small-v1")
    with store.begin() as connection:
        connection.exec_driver_sql("UPDATE rollups SET start_ms = start_ms - 3456000000")
    write(store, [0.5] * 35 + [0.2] * 5, model="large-v2")
    assert report_drift(store, scope=DEFAULT_SCOPE, today=TODAY).report.status is DriftStatus.DRIFTING


@pytest.mark.deep
@pytest.mark.parametrize(
    ("lost", "what"),
    [
        ({"score": None}, "found nothing"),
        ({"error": "timeout"}, "found nothing"),
        ({"documents": ["a"]}, "without a score"),
    ],
    ids=["empty", "failed", "unscored"],
)
def test_half_of_all_searches_for_three_days_are_one_outage_called_on_the_first_day(
    store: Store, lost: dict[str, object], what: str
) -> None:
    write(store, [0.6] * 40 + [0.6] * 3, per_day=60)
    for ago in (3, 2, 1):
        day = NOW - timedelta(days=ago)
        append_retrievals(store, [Retrieval(day + timedelta(seconds=n), f"q{n}", **lost) for n in range(60)])
    for ago in (3, 2, 1):
        then = report_as_of(store, scope=DEFAULT_SCOPE, day=TODAY - timedelta(days=ago), today=TODAY).report
        assert (then.status, then.outage_since) == (DriftStatus.OUTAGE, TODAY - timedelta(days=3))
        assert what in then.reason
    before = report_as_of(store, scope=DEFAULT_SCOPE, day=TODAY - timedelta(days=4), today=TODAY).report
    assert before.status is DriftStatus.STABLE
    (episode,) = report_episodes(store, scope=DEFAULT_SCOPE, today=TODAY)
    first = TODAY - timedelta(days=3)
    assert (episode.kind, episode.changed_on, episode.called_on, episode.ended_on) == ("outage", first, first, None)


@pytest.mark.parametrize("session", ["crawler", None], ids=["one session", "many sessions"])
def test_a_session_with_a_third_of_some_days_moves_no_verdict_and_many_sessions_do(
    store: Store, session: str | None
) -> None:
    write(store, [0.7] * 60, session_id=None)
    rows = [
        Retrieval(
            NOW - timedelta(days=ago, seconds=30 * n), f"page {ago} {n}", 0.3,
            session_id=session and f"{session} {ago}",
        )
        for ago in (1, 2, 3, 11, 21, 31)
        for n in range(43)
    ]  # fmt: skip
    append_retrievals(store, rows)
    close_days(store, now=NOW)
    found = report_drift(store, scope=DEFAULT_SCOPE, today=TODAY)
    last = found.days[-1]
    if session:
        assert last.total / last.count < 0.6  # the plain mean follows the session
        assert last.mean == pytest.approx(0.7, abs=0.03)
        assert found.report.status is DriftStatus.STABLE
        assert report_episodes(store, scope=DEFAULT_SCOPE, today=TODAY) == ()
    else:
        assert last.mean < 0.6
        assert found.report.status is DriftStatus.DRIFTING


def test_a_former_day_is_judged_by_the_rows_before_its_end_alone(store: Store) -> None:
    write(store, [0.7] * 40)
    then = report_drift(store, scope=DEFAULT_SCOPE, today=TODAY)
    for day in range(6):
        rows = [Retrieval(NOW + timedelta(days=day, seconds=n), f"q{n}", 0.4) for n in range(100)]
        append_retrievals(store, rows)
    later = TODAY + timedelta(days=6)
    assert report_drift(store, scope=DEFAULT_SCOPE, today=later).report.status is DriftStatus.DRIFTING
    again = report_as_of(store, scope=DEFAULT_SCOPE, day=TODAY - timedelta(days=1), today=later)
    assert (again.report, again.days) == (then.report, then.days)


def test_days_that_are_still_to_be_closed_make_no_drop_of_a_popular_question(store: Store) -> None:
    rng = np.random.default_rng(31)
    rows = [
        Retrieval(
            NOW - timedelta(days=40 - day, seconds=400 * n),
            "hello" if is_popular else f"q{rng.integers(500)}",
            float(np.clip(rng.normal(0.85 if is_popular else 0.6, 0.08), 0, 1)),
        )
        for day in range(40)
        for n, is_popular in enumerate(rng.random(100) < 0.3)
    ]  # the capped mean of a day is about 0.60, the plain one 0.68
    append_retrievals(store, rows)
    close_days(store, now=NOW, most=2_000)
    found = report_drift(store, scope=DEFAULT_SCOPE, today=TODAY)
    assert found.report.status is DriftStatus.STABLE
    assert found.report.notes == (
        "2,000 questions from 8 Feb 2026 to 27 Feb 2026 are in no verdict yet: the capped means of their days are "
        "being made.",
    )
    assert report_episodes(store, scope=DEFAULT_SCOPE, today=TODAY) == ()
    close_days(store, now=NOW, most=None)
    found = report_drift(store, scope=DEFAULT_SCOPE, today=TODAY)
    assert (found.report.status, found.report.notes) == (DriftStatus.STABLE, ())
    assert sum(day.count for day in found.days) == 4_000

"""Changes are gathered from every source, a failing source does not hide others, and the demo's true cause is first."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import NoReturn
from zoneinfo import ZoneInfo

import pytest

from core.audit.acts import Act
from core.audit.trail import list_audit, list_audit_by_hour
from core.causes.causes import CauseKind
from core.causes.changes import compare_same_questions, explain_drift, gather_changes
from core.causes.outside import OutsideChange, OutsideKind
from core.causes.outside_changes import list_outside, store_changes
from core.causes.timeline import ChangeKind, TimelineChange
from core.corpus.corpus import Corpus
from core.drift.report import report_drift
from core.drift.verdict import DriftReport, DriftStatus
from core.errors import SourceUnavailable
from core.flags.operations import create_flag, switch_flag
from core.flags.store import get_flag
from core.log.retrievals import list_daily_scores
from core.log.service_operations import save_service
from core.log.services import ServiceSettings
from core.tracking.gateway import Tracking
from quarterdeck.clock import start_of
from quarterdeck.definitions import boolean_flag
from quarterdeck.recorder import append_retrievals
from quarterdeck.retrieval import Retrieval
from quarterdeck.scope import DEFAULT_SCOPE, Scope
from quarterdeck.store import Store
from tests.conftest import CHAT, Demo
from tests.core.drift.test_report import TODAY as LAST
from tests.core.drift.test_sentences import write

NOW = datetime.now(UTC)
TODAY = NOW.date()
LONG_AGO = start_of(TODAY - timedelta(days=100))


@pytest.fixture(scope="module")
def gathered(demo: Demo) -> tuple[tuple[TimelineChange, ...], tuple[str, ...]]:
    config = demo.config
    store = Store(config.database_url)
    try:
        return gather_changes(
            store,
            lambda: Corpus(config.corpus_repo),
            lambda: Tracking(config.tracking_uri),
            scope=CHAT,
            since=LONG_AGO,
        )
    finally:
        store.close()


@pytest.mark.slow
def test_the_demo_s_timeline_holds_every_source_in_order(
    gathered: tuple[tuple[TimelineChange, ...], tuple[str, ...]],
) -> None:
    changes, problems = gathered
    assert problems == ()
    assert [change.ts for change in changes] == sorted(change.ts for change in changes)
    told = [change.summary for change in changes]
    for expected in (
        "corpus v2 committed: +17 files, 2 modified, 1 renamed",
        "default set to docs-v1",
        "new_prompt_v3 rolled out from 5% to 20%",
        "canary answer-service created at 5%",
        "prompt qa v2 registered, now in production",
    ):
        assert expected in told
    assert all(change.entry_id for change in changes if change.kind in ("flag", "canary", "index"))


@pytest.mark.slow
def test_the_demo_s_drop_is_laid_to_new_questions_and_not_to_the_changes_around_it(
    demo: Demo, gathered: tuple[tuple[TimelineChange, ...], tuple[str, ...]]
) -> None:
    store = Store(demo.config.database_url)
    found = report_drift(store, scope=CHAT, today=TODAY)
    told = explain_drift(store, found, gathered, today=TODAY)
    store.close()
    top = told.causes.first
    assert top is not None
    assert top.kind is CauseKind.NEW_QUESTIONS
    assert top.confidence > 0.8
    decoys = [cause for cause in told.causes.ranked if cause.change]
    assert {"new_prompt_v3", "answer-service"} <= {cause.change.target for cause in decoys if cause.change}
    assert all(cause.confidence < 0.1 for cause in decoys)
    assert "users ask about something new" in told.sentence
    assert told.segments.startswith("No segment carries the drop")


def test_each_drop_that_is_open_has_its_own_causes(store: Store) -> None:
    write(store, [0.70] * 25 + [0.64] * 15 + [0.54] * 10)
    began = start_of(LAST - timedelta(days=50))
    index, flag = (
        TimelineChange(began + timedelta(days=day), kind, target, f"{target} changed", "ada", "why", (), 1)
        for day, kind, target in ((25, ChangeKind.INDEX, "default"), (40, ChangeKind.FLAG, "hyde"))
    )
    found = report_drift(store, scope=DEFAULT_SCOPE, today=LAST)
    told = explain_drift(store, found, ((index, flag), ()), today=LAST)
    assert [drop.changed_on for drop in found.report.open_drops] == [index.ts.date(), flag.ts.date()]
    assert found.report.changed_on == flag.ts.date()
    assert told.causes.first is not None
    assert told.causes.first.change == flag
    (further,) = told.further
    assert further.causes.first is not None
    assert further.causes.first.change == index
    assert further.causes.first.confidence > 0.5
    assert further.sentence.startswith(f"It had fallen before by {-further.drop.fall:.2f} on ")
    assert "default changed" in further.sentence
    assert further.drop.fall == pytest.approx(-0.06, abs=0.02)


def test_a_change_counts_on_the_day_that_it_is_for_the_service(store: Store) -> None:
    save_service(store, ServiceSettings("default", zone="Pacific/Auckland"), Act("ada", "where they are"))
    zone = ZoneInfo("Pacific/Auckland")
    began = datetime(2026, 3, 10, tzinfo=zone)
    rows = [
        Retrieval(began + timedelta(days=day, minutes=14 * at), f"q{at}", (0.70 if day < 0 else 0.60) + at % 7 / 100)
        for day in range(-40, 6)
        for at in range(100)
    ]
    append_retrievals(store, rows)
    at_midnight, at_eleven = (
        TimelineChange((began + timedelta(hours=hour)).astimezone(UTC), ChangeKind.RELEASE, f"api {hour}", "", "", "")
        for hour in (0, 11)  # at eleven it is the midnight of UTC
    )
    found = report_drift(store, scope=DEFAULT_SCOPE, today=date(2026, 3, 16))
    assert found.report.changed_on == began.date()
    told = explain_drift(store, found, ((at_midnight, at_eleven), ()), today=date(2026, 3, 16))
    first, second = (cause for cause in told.causes.ranked if cause.change)
    assert first.change == at_midnight
    assert first.change.ts.tzinfo is UTC
    assert first.confidence > 2 * second.confidence
    assert ", 10 Mar (" in told.sentence


def _broken(problem: str) -> Callable[[], NoReturn]:
    def fail() -> NoReturn:
        raise SourceUnavailable(problem)

    return fail


def test_a_source_that_fails_is_named_and_the_others_stay(store: Store) -> None:
    create_flag(store, "hyde", boolean_flag(on=True), Act("ada", "to try it"))
    changes, problems = gather_changes(
        store, _broken("no git here"), _broken("no MLflow here"), scope=DEFAULT_SCOPE, since=LONG_AGO
    )
    assert [change.summary for change in changes] == ["hyde created at 100%"]
    assert problems == ("corpus versions: no git here", "prompts: no MLflow here")


def test_a_store_that_is_missing_is_a_problem_and_no_crash(tmp_path: Path) -> None:
    absent = Store(f"sqlite:///{tmp_path / 'absent.db'}")
    changes, problems = gather_changes(
        absent, _broken("no git"), _broken("no MLflow"), scope=DEFAULT_SCOPE, since=LONG_AGO
    )
    assert changes == ()
    assert len(problems) == 4
    assert problems[0].startswith("flags and indexes: ")
    assert "absent.db" in problems[0]


def test_flags_of_other_environments_and_old_changes_stay_out(store: Store) -> None:
    create_flag(store, "here", boolean_flag(on=True), Act("ada", "why"))
    create_flag(store, "there", boolean_flag(on=True), Act("ada", "why", "staging"))
    create_flag(store, "old", boolean_flag(on=True), Act("ada", "why", at=NOW - timedelta(days=200)))
    changes, _ = gather_changes(store, _broken("x"), _broken("x"), scope=DEFAULT_SCOPE, since=LONG_AGO)
    assert [change.target for change in changes] == ["here"]


def test_a_flag_that_somebody_flips_all_the_time_is_one_change_an_hour(store: Store) -> None:
    nine = (NOW - timedelta(days=1)).replace(hour=9, minute=0)
    create_flag(store, "busy", boolean_flag(on=True), Act("ada", "why", at=nine - timedelta(hours=1)))
    create_flag(store, "calm", boolean_flag(on=True), Act("ada", "why", at=nine - timedelta(hours=1)))
    for minute in range(20):
        flag = get_flag(store, "production", "busy")
        switch_flag(store, flag, Act("bot", f"flip {minute}", at=nine + timedelta(minutes=minute)), on=bool(minute % 2))
    changes, _ = gather_changes(store, _broken("x"), _broken("x"), scope=DEFAULT_SCOPE, since=LONG_AGO)
    assert [(change.target, change.reason) for change in changes] == [
        ("busy", "why"), ("calm", "why"), ("busy", "flip 19"),
    ]  # fmt: skip
    newest = list_audit(store, limit=1)[0]
    assert changes[-1].entry_id == newest.entry_id
    read = list_audit_by_hour(store, "production", since_ms=0, most_an_hour=13, limit=100)
    assert [entry.reason for entry in read] == [*(f"flip {n}" for n in range(19, 6, -1)), "why", "why"]


CHANGED = date(2026, 11, 10)
REPORT = DriftReport(DriftStatus.DRIFTING, "", "", changed_on=CHANGED, fall=-0.1)


def _log(store: Store, *asked: tuple[int, str, float]) -> None:
    append_retrievals(
        store,
        [Retrieval(start_of(CHANGED) + timedelta(days=day, hours=1), text, score) for day, text, score in asked],
    )


def test_questions_are_compared_with_themselves_whatever_else_is_asked(store: Store) -> None:
    _log(
        store, (-3, "How?", 0.8), (-2, "why", 0.6), (1, "how?", 0.7), (1, "how?", 0.7), (2, "why", 0.6), (2, "new", 0.1)
    )
    same = compare_same_questions(store, REPORT, list_daily_scores(store), today=CHANGED + timedelta(days=3))
    assert same is not None
    assert same.count == 3
    assert (same.before, same.after) == (pytest.approx(2.2 / 3), pytest.approx(2.0 / 3))
    assert same.fall == pytest.approx(-0.2 / 3)
    assert same.new_share == pytest.approx(1 / 4)


def test_a_log_in_which_nothing_is_asked_twice_compares_nothing(store: Store) -> None:
    _log(store, (-3, "one", 0.8), (1, "two", 0.2))
    assert compare_same_questions(store, REPORT, list_daily_scores(store), today=CHANGED + timedelta(days=3)) is None


def test_changes_of_other_systems_are_on_the_timeline_of_their_service(store: Store) -> None:
    told = OutsideChange(
        datetime(2026, 3, 2, 9, tzinfo=UTC), OutsideKind.FEED_OUTAGE, "prices are late", "production", "answers",
        url="https://status.example.org/17", external_id="17", actor="monitor",
    )  # fmt: skip
    store_changes(store, [told, replace(told, external_id="18", environment="staging")], now_ms=0)
    for service, count in (("answers", 1), ("search", 0)):
        found = list_outside(store, Scope("production", service), datetime(2026, 1, 1, tzinfo=UTC))
        assert len(found) == count
    change = told.as_change()
    assert (change.kind, change.summary, change.url) == (ChangeKind.FEED, "prices are late", told.url)

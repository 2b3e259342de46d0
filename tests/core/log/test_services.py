"""Settings of services, and services that continue under another name."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from core.audit.acts import Act
from core.audit.settings import get_setting
from core.audit.trail import list_audit
from core.drift.operations import accept_level
from core.drift.report import get_accepted_day, report_drift
from core.drift.verdict import DriftStatus
from core.errors import Conflict, InvalidInput, NotFound
from core.log.closing import close_days
from core.log.filters import QuestionFilter
from core.log.questions import list_page
from core.log.retrievals import list_days, list_dimensions, list_scopes, list_segment_scores
from core.log.service_operations import merge_services, rename_service, save_service
from core.log.services import ServiceSettings, get_service, list_new_scopes, service_key
from core.log.successions import count_holdings, find_successions
from quarterdeck.clock import to_ms
from quarterdeck.recorder import append_retrievals
from quarterdeck.retrieval import Retrieval
from quarterdeck.schema import settings, topics
from quarterdeck.scope import DEFAULT_SCOPE, Scope
from quarterdeck.store import Store

NOW = datetime(2026, 4, 10, 12, tzinfo=UTC)
ME = Act("ada", "it has a name now")
ANSWERS = Scope("production", "answers")


def write(store: Store, scope: Scope, *, first: int, last: int, level: float = 0.7) -> None:
    """Write the days from `first` to `last` days ago."""
    rows = [
        Retrieval(
            NOW - timedelta(days=ago, minutes=9 * n), f"q{n}", level + 0.02 * (n % 5 - 2), session_id=f"s{n}",
            attributes={"tenant": "a"}, scope=scope,
        )
        for ago in range(first, last - 1, -1)
        for n in range(60)
    ]  # fmt: skip
    append_retrievals(store, rows)


def add_topic(store: Store, scope_id: int) -> None:
    values = {
        "topic_id": "t-1", "label": "nat", "model": "m", "centroid": b"", "first_seen_ms": 1, "last_seen_ms": 1,
        "state": "planned", "owner": "", "note": "", "version": 2, "scope_id": scope_id,
    }  # fmt: skip
    with store.begin() as connection:
        connection.execute(topics.insert().values(values))


def test_settings_are_saved_with_their_audit_entry_and_read_back(store: Store) -> None:
    wanted = ServiceSettings(
        "answers", ("tenant", "locale"), "Europe/Berlin", "https://traces.example/{trace_id}", "bm25"
    )
    save_service(store, wanted, ME)
    found = get_service(store, "answers")
    assert (found.dimensions, found.zone, found.score_kind) == (("tenant", "locale"), "Europe/Berlin", "bm25")
    assert found.link_to("abc") == "https://traces.example/abc"
    assert list_dimensions(store, ANSWERS)[-2:] == ("tenant", "locale")
    assert list_audit(store)[0].after == wanted.to_audit()
    with pytest.raises(Conflict):
        save_service(store, wanted, ME)
    assert get_service(store, "nobody") == ServiceSettings("nobody")


def test_what_others_keep_in_the_same_setting_survives_a_save(store: Store) -> None:
    with store.begin() as connection:
        value = '{"keep_text": true, "zone": "Europe/Berlin", "dimensions": 7}'
        connection.execute(settings.insert().values(name="service:answers", value=value, version=4))
    found = get_service(store, "answers")
    assert (found.zone, found.dimensions, found.version) == ("Europe/Berlin", (), 4)
    save_service(store, replace(found, zone="UTC", dimensions=("tenant",)), ME)
    stored, _ = get_setting(store, service_key("answers"))
    assert stored == {"keep_text": True, "dimensions": ["tenant"]}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("zone", "Mars/Olympus"), ("zone", "../etc/passwd"), ("trace_link", "https://x.example/"),
        ("trace_link", "javascript:{trace_id}"), ("score_kind", "stars"), ("dimensions", ("arm",)),
        ("dimensions", ("",)), ("dimensions", tuple(f"d{n}" for n in range(21))),
    ],
)  # fmt: skip
def test_settings_that_cannot_work_are_refused_by_name(field: str, value: object) -> None:
    with pytest.raises(InvalidInput, match=field):
        ServiceSettings("answers", **{field: value})  # type: ignore[arg-type]


def test_another_zone_makes_the_days_anew(store: Store) -> None:
    write(store, DEFAULT_SCOPE, first=10, last=1)
    close_days(store, now=NOW)
    save_service(store, ServiceSettings("default", zone="Pacific/Auckland"), ME)
    days = list_days(store, scope=DEFAULT_SCOPE)
    assert {day.capped for day in days} == {None}
    assert close_days(store, now=NOW) == len(days) - 1  # there, the last day began just now


def test_a_merge_continues_verdicts_gaps_levels_and_rows_under_the_new_name(store: Store) -> None:
    write(store, DEFAULT_SCOPE, first=40, last=4)
    write(store, ANSWERS, first=3, last=1, level=0.4)
    add_topic(store, 1)
    accept_level(store, (NOW - timedelta(days=35)).date(), ME)
    close_days(store, now=NOW)
    assert report_drift(store, scope=ANSWERS, today=NOW.date()).report.status is DriftStatus.INSUFFICIENT_DATA
    questions = count_holdings(store, DEFAULT_SCOPE).questions + count_holdings(store, ANSWERS).questions
    (succession,) = find_successions(store, since_ms=to_ms(NOW - timedelta(days=30)))
    assert (succession.former, succession.new) == (DEFAULT_SCOPE, ANSWERS)
    assert "quarterdeck services merge default answers --environment production" in succession.offer
    merge_services(store, DEFAULT_SCOPE, ANSWERS, ME)
    assert list_scopes(store) == (ANSWERS,)
    held = count_holdings(store, ANSWERS)
    assert (held.questions, held.rows, held.topics, held.decided) == (questions, questions, 1, 1)
    assert get_accepted_day(store, ANSWERS) == (NOW - timedelta(days=35)).date()
    report = report_drift(store, scope=ANSWERS, today=NOW.date()).report
    assert report.status is DriftStatus.DRIFTING
    assert report.changed_on == (NOW - timedelta(days=3)).date()
    assert list_audit(store)[0].action == "service.merge"
    assert find_successions(store, since_ms=0) == ()
    with pytest.raises(NotFound):
        merge_services(store, DEFAULT_SCOPE, ANSWERS, ME)


def test_a_merge_keeps_both_rows_where_two_services_used_one_id(store: Store) -> None:
    rows = [
        Retrieval(NOW, f"asked {scope.service}", 0.5, retrieval_id=name, scope=scope)
        for scope, names in ((DEFAULT_SCOPE, ("q-1", "q-2")), (ANSWERS, ("q-2", "q-3")))
        for name in names
    ]
    append_retrievals(store, rows)
    merge_services(store, DEFAULT_SCOPE, ANSWERS, ME)
    found = list_page(store, QuestionFilter(scope=ANSWERS)).questions
    assert sorted((each.query, each.retrieval_id) for each in found if each.retrieval_id[0] == "q") == [
        ("asked answers", "q-2"), ("asked answers", "q-3"), ("asked default", "q-1"),
    ]  # fmt: skip
    assert sum(day.questions for day in list_days(store, scope=ANSWERS)) == len(found) == 4


def test_a_renamed_service_keeps_everything_and_its_writers_go_on(store: Store) -> None:
    write(store, DEFAULT_SCOPE, first=20, last=1)
    add_topic(store, 1)
    before = list_days(store, scope=DEFAULT_SCOPE)
    rename_service(store, DEFAULT_SCOPE, ANSWERS, ME)
    assert list_days(store, scope=ANSWERS) == before
    assert list_days(store, scope=DEFAULT_SCOPE) == ()
    assert count_holdings(store, ANSWERS).decided == 1
    write(store, ANSWERS, first=0, last=0)
    write(store, DEFAULT_SCOPE, first=0, last=0)
    assert list_scopes(store) == (ANSWERS, DEFAULT_SCOPE)
    with pytest.raises(Conflict, match="services merge"):
        rename_service(store, DEFAULT_SCOPE, ANSWERS, ME)
    with pytest.raises(NotFound, match="nobody recorded nothing"):
        rename_service(store, Scope("production", "nobody"), Scope("production", "x"), ME)


@pytest.mark.deep
def test_declared_dimensions_are_segments_of_their_service_alone(store: Store) -> None:
    save_service(store, ServiceSettings("answers", ("tenant",)), ME)
    write(store, ANSWERS, first=40, last=1)
    write(store, DEFAULT_SCOPE, first=40, last=1)
    assert list_segment_scores(store, "tenant", scope=ANSWERS).keys() == {"a"}
    with pytest.raises(InvalidInput, match="segment"):
        list_segment_scores(store, "tenant", scope=DEFAULT_SCOPE)
    assert "tenant" in dict(report_drift(store, scope=ANSWERS, today=NOW.date()).segments)


def test_a_service_is_new_for_a_week_where_others_are_older(store: Store) -> None:
    write(store, ANSWERS, first=1, last=1)
    now = datetime.now(UTC)
    assert list_new_scopes(store, now=now) == frozenset()
    with store.begin() as connection:
        connection.exec_driver_sql("UPDATE scopes SET first_seen_ms = 1 WHERE id = 1")
    assert list_new_scopes(store, now=now) == {ANSWERS}
    assert list_new_scopes(store, now=now + timedelta(days=8)) == frozenset()

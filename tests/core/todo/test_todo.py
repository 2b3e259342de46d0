"""The to-do list: a line is put off for everybody, comes back after its day, and each step has an audit entry."""

from datetime import date, timedelta

import pytest

from core.audit.acts import Act
from core.audit.trail import list_audit
from core.errors import Conflict, InvalidInput
from core.todo.items import Todo, TodoState, arrange_todos
from core.todo.operations import snooze_todo, wake_todo
from core.todo.snoozes import Snooze, read_snoozes, save_snoozes
from quarterdeck.scope import Scope
from quarterdeck.store import Store

TODAY = date(2026, 3, 1)
CHAT, STAGING = Scope("production", "chat"), Scope("staging", "chat")
BY = Act("ada", "after the release")
LINES = (
    Todo("topic/t1", "coverage", "Index “mbuf”"),
    Todo("topic/t2", "coverage", "Gap “vpp”", TodoState.PLANNED, "docs team"),
    Todo("corpus/v2", "corpus", "Ship v2"),
)


def list_waiting(store: Store, scope: Scope, day: date) -> list[str]:
    return [todo.key for todo in arrange_todos(LINES, snoozed=read_snoozes(store, scope)[0], today=day).decide]


def test_a_line_that_is_put_off_leaves_the_list_of_its_service_and_returns(store: Store) -> None:
    entry = snooze_todo(store, CHAT, "corpus/v2", until=TODAY + timedelta(days=7), today=TODAY, by=BY)
    assert list_waiting(store, CHAT, TODAY) == ["topic/t1"]
    assert list_waiting(store, STAGING, TODAY) == ["topic/t1", "corpus/v2"]
    assert list_waiting(store, CHAT, TODAY + timedelta(days=7)) == ["topic/t1"]
    assert list_waiting(store, CHAT, TODAY + timedelta(days=8)) == ["topic/t1", "corpus/v2"]
    newest = list_audit(store, limit=1)[0]
    assert (newest.entry_id, newest.action, newest.target) == (entry, "todo.snooze", "corpus/v2")
    assert newest.after == {"until": "2026-03-08"}


def test_it_is_brought_back_before_its_day(store: Store) -> None:
    snooze_todo(store, STAGING, "corpus/v2", until=TODAY, today=TODAY, by=BY)
    wake_todo(store, STAGING, "corpus/v2", today=TODAY, by=BY)
    assert list_waiting(store, STAGING, TODAY) == ["topic/t1", "corpus/v2"]
    newest = list_audit(store, limit=1)[0]
    assert (newest.action, newest.environment, newest.before, newest.after) == (
        "todo.wake", "staging", {"until": "2026-03-01"}, None,
    )  # fmt: skip
    with pytest.raises(InvalidInput, match="not put off"):
        wake_todo(store, STAGING, "corpus/v2", today=TODAY, by=BY)


@pytest.mark.parametrize(
    ("key", "until"),
    [("", TODAY), ("x" * 301, TODAY), ("corpus/v2", TODAY - timedelta(days=1)), ("corpus/v2", date(2027, 3, 2))],
)
def test_a_day_that_is_over_or_too_far_and_a_key_that_cannot_be_kept_are_refused(
    key: str, until: date, store: Store
) -> None:
    with pytest.raises(InvalidInput):
        snooze_todo(store, CHAT, key, until=until, today=TODAY, by=BY)
    assert list_audit(store) == ()


def test_the_second_of_two_who_write_at_once_gets_a_conflict(store: Store) -> None:
    with store.begin() as connection:
        save_snoozes(connection, CHAT, {"a": TODAY}, expected_version=0)
    with pytest.raises(Conflict), store.begin() as connection:
        save_snoozes(connection, CHAT, {"b": TODAY}, expected_version=0)


def test_what_was_decided_is_under_way_with_its_owner_and_cannot_be_put_off() -> None:
    found = arrange_todos(LINES, snoozed={"topic/t2": TODAY}, today=TODAY)
    assert [(todo.key, todo.owner, str(todo.state)) for todo in found.under_way] == [
        ("topic/t2", "docs team", "planned")
    ]
    assert Snooze.read(Snooze(TODAY).to_audit()) == Snooze(TODAY)

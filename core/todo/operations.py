"""Shell: puts lines of the to-do list off, and brings them back, each time with an audit entry."""

from dataclasses import replace
from datetime import date, timedelta

from core.audit.actions import Action
from core.audit.acts import Act, changing
from core.errors import InvalidInput
from core.todo.snoozes import LONGEST_KEY, Snooze, read_snoozes, save_snoozes
from quarterdeck.scope import Scope, fold_environment
from quarterdeck.store import Store

LONGEST_DAYS = 365


def snooze_todo(store: Store, scope: Scope, key: str, *, until: date, today: date, by: Act) -> int:
    """Put a line of a scope's list off until the end of a day, at most a year. Raises InvalidInput and Conflict."""
    if not key or len(key) > LONGEST_KEY or "\x00" in key:
        raise InvalidInput("key", f"must have 1 to {LONGEST_KEY} characters, without null characters")
    if not today <= until <= today + timedelta(days=LONGEST_DAYS):
        raise InvalidInput("until", f"must be a day from today on, at most {LONGEST_DAYS} days away")
    return _save(store, scope, key, Snooze(until), by, today=today)


def wake_todo(store: Store, scope: Scope, key: str, *, today: date, by: Act) -> int:
    """Bring a line back that was put off. Raises InvalidInput if it is on the list, and Conflict."""
    return _save(store, scope, key, None, by, today=today)


def _save(store: Store, scope: Scope, key: str, snooze: Snooze | None, by: Act, *, today: date) -> int:
    known, version = read_snoozes(store, scope)
    before = Snooze(known[key]) if key in known else None
    if before is None and snooze is None:
        raise InvalidInput("key", f"{key!r} is not put off")
    current = {name: until for name, until in known.items() if until >= today and name != key}
    if snooze:
        current[key] = snooze.until
    if fold_environment(by.environment) != scope.environment:
        by = replace(by, environment=scope.environment)
    with changing(store, by) as change:
        save_snoozes(change.connection, scope, current, expected_version=version)
        change.record(Action.TODO_SNOOZE if snooze else Action.TODO_WAKE, key, before, snooze)
    return change.entry_id

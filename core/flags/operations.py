"""Shell: creates, updates, switches, imports and removes flags, each change with its audit entry in one transaction.

Every function takes the `Act` (who, why, and in which environment) and returns the audit entry's id. A change that
carries a stale version raises Conflict and leaves everything as it was.
"""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from core.audit.acts import Act, Change, changing
from core.errors import InvalidInput
from core.flags.canary_plan import read_plan
from core.flags.impact import must_type_name
from core.flags.preview import preview_change
from core.flags.schedule import OPEN, check_one_plan
from core.flags.store import Flag, delete_flag, list_flags, save_flag
from core.flags.timetable import list_schedules
from quarterdeck import definitions
from quarterdeck.clock import from_ms
from quarterdeck.documents import check_document, resolve_references
from quarterdeck.store import Store
from quarterdeck.validation import validate_definition, validate_document


def create_flag(store: Store, key: str, definition: Mapping[str, Any], by: Act) -> int:
    """Add a flag. Raises InvalidInput for a bad definition and Conflict when there is a flag of that key."""
    check_definition(key, definition)
    _check_schedules(store, by.environment, key, definition)
    with changing(store, by) as change:
        flag = Flag(by.environment, key, dict(definition), 0, from_ms(change.at_ms), by.actor)
        _save_flag(change, flag, before=None)
    return change.entry_id


def update_flag(store: Store, flag: Flag, definition: Mapping[str, Any], by: Act) -> int:
    """Replace the definition of `flag`, as it was read. Raises InvalidInput, and Conflict when somebody was faster.

    Conflict, too, for a canary's plan while a schedule moves the flag's share.
    """
    check_definition(flag.key, definition)
    _check_schedules(store, by.environment, flag.key, definition)
    with changing(store, by) as change:
        _save_flag(change, replace(flag, definition=dict(definition), updated_by=by.actor), before=flag.definition)
    return change.entry_id


def check_definition(key: str, definition: Mapping[str, Any]) -> None:
    """Raises InvalidInput, naming the field, unless this definition and its canary's plan are fit to be saved."""
    validate_definition(key, definition)
    check_plan("", definition)


def _check_schedules(store: Store, environment: str, key: str, definition: Mapping[str, Any]) -> None:
    if read_plan(definition) is not None:
        for schedule in list_schedules(store, environment=environment, flag=key, states=OPEN):
            check_one_plan(key, definition, schedule.steps[schedule.next_step :])


def check_plan(prefix: str, definition: Mapping[str, Any]) -> None:
    """Raises InvalidInput, its field after `prefix`, where a canary's plan in the metadata is wrong."""
    try:
        read_plan(definition)
    except InvalidInput as error:
        raise InvalidInput(f"{prefix}{error.field}", error.problem) from None


def switch_flag(store: Store, flag: Flag, by: Act, *, on: bool) -> int:
    """Turn a flag on or off; off is the kill switch: every client gets its code default."""
    return update_flag(store, flag, definitions.switch_flag(flag.definition, on=on), by)


def change_rollout(store: Store, flag: Flag, rollout_pct: float, by: Act) -> int:
    """Roll a flag out to `rollout_pct` percent of users. Raises InvalidInput outside 0..100."""
    return update_flag(store, flag, definitions.set_rollout(flag.definition, rollout_pct), by)


def import_flags(store: Store, document: Mapping[str, Any], by: Act) -> tuple[str, ...]:
    """Add or replace the flags of a flagd document, all of them or none; return the keys that changed."""
    given = check_document(document)
    wanted = resolve_references(given["flags"], given.get("$evaluators") or {})
    if not wanted:
        raise InvalidInput("flags", 'the document must hold an object "flags" with at least one flag')
    validate_document(given)  # with its evaluators: a circle of references is named as one
    validate_document({"flags": wanted})
    for key, definition in wanted.items():
        check_plan(f"flags.{key}.", definition)
        _check_schedules(store, by.environment, key, definition)
    known = {flag.key: flag for flag in list_flags(store, by.environment)}
    changed = []
    with changing(store, by) as change:
        for key, definition in wanted.items():
            former = known.get(key) or Flag(by.environment, key, {}, 0, from_ms(change.at_ms), by.actor)
            if former.definition != definition:
                flag = replace(former, definition=dict(definition), updated_by=by.actor)
                _save_flag(change, flag, before=former.definition or None)
                changed.append(key)
    return tuple(changed)


def _save_flag(change: Change, flag: Flag, *, before: dict[str, Any] | None) -> None:
    save_flag(change.connection, flag, updated_ms=change.at_ms)
    change.record("flag.update" if before else "flag.create", flag.key, before, flag.definition)


def save_edit(store: Store, flag: Flag, wanted: Mapping[str, Any], by: Act, *, typed_name: str, now: datetime) -> int:
    """Replace a flag, as it was read; over half of production's users takes the flag's name, typed.

    Raises InvalidInput, and Conflict when somebody was faster.
    """
    check_typed_name(store, flag, wanted, typed_name, now=now)
    return update_flag(store, flag, wanted, by)


def remove_flag(store: Store, flag: Flag, by: Act, *, typed_name: str) -> int:
    """Delete a flag, as it was read; takes its name, typed. Raises InvalidInput, and Conflict."""
    if typed_name != flag.key:
        raise InvalidInput("name", f"type {flag.key} to delete it")
    with changing(store, by) as change:
        delete_flag(change.connection, flag)
        change.record("flag.delete", flag.key, flag.definition, None)
    return change.entry_id


def check_typed_name(store: Store, flag: Flag, wanted: Mapping[str, Any], typed: str, *, now: datetime) -> None:
    """Raise InvalidInput where a change is so wide that it takes the flag's name, and that was not typed."""
    impact, _ = preview_change(store, flag.environment, flag.key, flag.definition, wanted, now=now)
    if must_type_name(flag.environment, impact) and typed != flag.key:
        raise InvalidInput("name", f"{impact.share:.0%} of users get another answer; type {flag.key} to go on")

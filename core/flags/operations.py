"""Shell: creates, updates, switches, imports and removes flags, each change with its audit entry in one transaction.

Every function takes the `Act` (who, why, and in which environment) and returns the audit entry's id. A change that
carries a stale version raises Conflict and leaves everything as it was.
"""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from core.audit.actions import Action
from core.audit.acts import Act, Change, changing
from core.errors import InvalidInput
from core.flags.canary_plan import check_margins
from core.flags.definition import FlagDefinition
from core.flags.impact import must_type_name
from core.flags.layer_store import check_slices, get_holdout
from core.flags.layers import hold_out
from core.flags.preview import preview_change
from core.flags.schedule import OPEN, check_one_plan
from core.flags.store import Flag, delete_flag, list_flags, save_flag
from core.flags.timetable import list_schedules
from core.metrics.builtin import BUILT_IN
from core.metrics.records import list_own_metrics
from quarterdeck import definitions
from quarterdeck.clock import from_ms
from quarterdeck.documents import check_document, resolve_references
from quarterdeck.store import Store
from quarterdeck.validation import validate_definition, validate_document


def create_flag(store: Store, key: str, definition: Mapping[str, Any], by: Act) -> int:
    """Add a flag; an experiment or a canary keeps out of the holdout that runs.

    Raises InvalidInput for a bad definition and Conflict if the key exists.
    """
    check_plan_here(store, by.environment, key, check_definition(key, definition))
    definition = hold_out(get_holdout(store, by.environment), key, definition)
    with changing(store, by) as change:
        replace_definition(change, _new_flag(change, key), definition)
    return change.entry_id


def update_flag(store: Store, flag: Flag, definition: Mapping[str, Any], by: Act) -> int:
    """Replace the definition of `flag`, with optimistic locking. Raises InvalidInput and Conflict.

    An experiment or a canary keeps out of the holdout that runs.
    Also raises Conflict for a canary plan while a schedule changes the flag's share.
    """
    check_plan_here(store, by.environment, flag.key, check_definition(flag.key, definition))
    definition = hold_out(get_holdout(store, by.environment), flag.key, definition)
    with changing(store, by) as change:
        replace_definition(change, flag, definition)
    return change.entry_id


def check_definition(key: str, definition: Mapping[str, Any]) -> FlagDefinition:
    """Return the definition, fit to be saved with its canary's plan. Raises InvalidInput, naming the field."""
    validate_definition(key, definition)
    return _check_plan("", definition)


def check_plan_here(store: Store, environment: str, key: str, definition: FlagDefinition) -> None:
    """Raise InvalidInput for a canary's margin that can never fire, and Conflict for a plan beside an open schedule."""
    plan = definition.plan
    if plan is not None:
        if plan.guardrails or plan.signals:
            check_margins(plan, (*BUILT_IN, *list_own_metrics(store, environment)))
        for schedule in list_schedules(store, environment=environment, flag=key, states=OPEN):
            check_one_plan(key, definition, schedule.steps[schedule.next_step :])


def _check_plan(prefix: str, definition: Mapping[str, Any]) -> FlagDefinition:
    """Raise InvalidInput, with `prefix` before its field, if a canary plan in the metadata is wrong."""
    said = FlagDefinition(definition)
    try:
        said.plan  # noqa: B018 - read here, and not again
    except InvalidInput as error:
        raise InvalidInput(f"{prefix}{error.field}", error.problem) from None
    return said


def switch_flag(store: Store, flag: Flag, by: Act, *, on: bool) -> int:
    """Turn a flag on or off. Off is the kill switch: every client gets its code default, and nobody has to approve."""
    return update_flag(store, flag, definitions.switch_flag(flag.definition, on=on), replace(by, stops=not on))


def change_rollout(store: Store, flag: Flag, rollout_pct: float, by: Act) -> int:
    """Roll a flag out to `rollout_pct` percent of users. Raises InvalidInput outside 0..100."""
    return update_flag(store, flag, definitions.set_rollout(flag.definition, rollout_pct), by)


def change_hash_version(store: Store, flag: Flag, hash_version: str, by: Act) -> int:
    """Bucket the flag's users by another of flagd's hashes. Raises InvalidInput for one that is unknown."""
    return update_flag(store, flag, definitions.set_hash_version(flag.definition, hash_version), by)


def import_flags(store: Store, document: Mapping[str, Any], by: Act) -> tuple[str, ...]:
    """Add or replace the flags of a flagd document, all or none; return the keys that changed."""
    given = check_document(document)
    wanted = resolve_references(given["flags"], given.get("$evaluators") or {})
    if not wanted:
        raise InvalidInput("flags", 'the document must have an object "flags" with at least one flag')
    validate_document(given)  # with its evaluators, so that circular references are reported
    validate_document({"flags": wanted})
    for key, definition in wanted.items():
        check_plan_here(store, by.environment, key, _check_plan(f"flags.{key}.", definition))
    known = {flag.key: flag for flag in list_flags(store, by.environment)}
    holdout = get_holdout(store, by.environment)
    wanted = {key: hold_out(holdout, key, definition) for key, definition in wanted.items()}
    changed = []
    with changing(store, by) as change:
        for key, definition in wanted.items():
            former = known.get(key) or _new_flag(change, key)
            if former.definition != definition:
                replace_definition(change, former, definition)
                changed.append(key)
    return tuple(changed)


def replace_definition(change: Change, flag: Flag, definition: Mapping[str, Any]) -> None:
    """Save a definition over the one that was read, with its audit entry, an update or a creation. Raises Conflict."""
    save_definition(change, flag, definition)
    before = flag.definition or None
    change.record(Action.FLAG_UPDATE if before else Action.FLAG_CREATE, flag.key, before, dict(definition))


def save_definition(change: Change, flag: Flag, definition: Mapping[str, Any]) -> None:
    """Save a definition over the one that was read; the audit entry is the caller's. Raises Conflict.

    The flag must not touch users of another flag of its layer, or of the holdout: this is checked here, in the change.
    Raises InvalidInput for a flag of another environment than the act's, whose roles were not checked.
    """
    if flag.environment != change.act.environment:
        raise InvalidInput("environment", f"{flag.key} is of {flag.environment}, the act of {change.act.environment}")
    saved = replace(flag, definition=dict(definition), updated_by=change.act.actor)
    save_flag(change.connection, saved, updated_ms=change.at_ms)
    check_slices(change.connection, flag.environment, flag.key, saved.view)


def _new_flag(change: Change, key: str) -> Flag:
    """The empty place where a flag will be."""
    return Flag(change.act.environment, key, {}, 0, from_ms(change.at_ms), change.act.actor)


def save_edit(store: Store, flag: Flag, wanted: Mapping[str, Any], by: Act, *, typed_name: str, now: datetime) -> int:
    """Save a definition over the version that was read. If over half of production's users get another answer,
    `typed_name` must be the flag's key.

    Raises InvalidInput, and Conflict if the flag was changed since it was read.
    """
    check_typed_name(store, flag, wanted, typed_name, now=now)
    return update_flag(store, flag, wanted, by)


def remove_flag(store: Store, flag: Flag, by: Act, *, typed_name: str) -> int:
    """Delete a flag, with optimistic locking; `typed_name` must be its key. Raises InvalidInput and Conflict."""
    if typed_name != flag.key:
        raise InvalidInput("name", f"type {flag.key} to delete it")
    with changing(store, by) as change:
        delete_flag(change.connection, flag)
        change.record(Action.FLAG_DELETE, flag.key, flag.definition, None)
    return change.entry_id


def check_typed_name(store: Store, flag: Flag, wanted: Mapping[str, Any], typed: str, *, now: datetime) -> None:
    """Raise InvalidInput if a change is so wide that `typed` must be the flag's key, but is not."""
    impact, _ = preview_change(store, flag.environment, flag.key, flag.definition, wanted, now=now)
    if must_type_name(flag.environment, impact) and typed != flag.key:
        raise InvalidInput("name", f"{impact.share:.0%} of users get another answer; type {flag.key} to continue")

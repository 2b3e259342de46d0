"""Shell: brings back the state before any audit entry, by a change with an entry of its own.

Nothing is taken out of the trail. A revert is refused if somebody changed the same thing since the visitor saw it.
"""

from dataclasses import replace
from typing import Any

from core.alerts.operations import delete_alert_rule, save_alert_rule
from core.alerts.rules import read_rule
from core.audit.actions import Action, Subject, subject_of
from core.audit.acts import Act, changing
from core.audit.trail import AuditEntry, AuditFilter, get_audit_entry, list_audit
from core.coverage.backlog import TopicDecision, TopicName, get_backlog_topic
from core.coverage.operations import mark_topic, rename_topic
from core.drift.audited import AcceptedLevel, service_of_level
from core.drift.operations import accept_level
from core.errors import Conflict, InvalidInput
from core.flags.operations import create_flag, update_flag
from core.flags.store import Flag, delete_flag, get_flag, list_flags
from core.indexes.audited import SwapState
from core.indexes.operations import swap_index
from core.indexes.registry import list_aliases
from core.rollouts.audited import ExperimentAudit
from core.rollouts.experiment_design import note_users
from quarterdeck.store import Store

_OF_FLAGS = (
    Action.FLAG_CREATE,
    Action.FLAG_UPDATE,
    Action.FLAG_DELETE,
    Action.CANARY_PROMOTE,
    Action.CANARY_ROLLBACK,
    Action.EXPERIMENT_DECIDE,
)
_OF_RULES = (Action.ALERT_SAVE, Action.ALERT_DELETE)


def explain_irreversible(entry: AuditEntry) -> str:
    """Return why an entry cannot be undone here, and what to do; "" if it can."""
    if entry.action in _OF_FLAGS or entry.action in (*_OF_RULES, Action.DRIFT_ACCEPT):
        return ""
    if entry.action == Action.INDEX_SWAP and SwapState.read(entry.before):
        return ""
    if entry.action in (Action.TOPIC_MARK, Action.TOPIC_RENAME) and entry.before:
        return ""
    if entry.action == Action.PROMPT_PROMOTE:
        page = f"roll it back on the page Prompts, or with `quarterdeck prompts rollback {entry.target}`"
        return f"{entry.entry_id} is in MLflow too: {page}"
    if subject_of(entry.action) is Subject.EXPERIMENT:
        return f"{entry.entry_id} cannot be undone here: stop or start experiments on Rollouts"
    return f"{entry.entry_id} has no former state to restore"


def find_newest(store: Store, entry: AuditEntry) -> int:
    """Return the newest entry about the same thing: what a visitor who looks now has seen."""
    environment = None if entry.action == Action.INDEX_SWAP else entry.environment  # an alias is that of all of them
    return list_audit(store, AuditFilter(target=entry.target, environment=environment), limit=1)[0].entry_id


def find_state(store: Store, entry: AuditEntry) -> dict[str, Any] | None:
    """Return a flag's current definition, to compare with the restored one; None if it is deleted or not a flag."""
    known = list_flags(store, entry.environment) if entry.action in _OF_FLAGS else ()
    return next((flag.definition for flag in known if flag.key == entry.target), None)


def former_state(entry: AuditEntry) -> dict[str, Any] | None:
    """Return the state that `revert` restores; None for nothing."""
    if entry.action != Action.EXPERIMENT_DECIDE:
        return entry.before
    flag = ExperimentAudit.read(entry.before).flag
    return note_users(flag, None) if flag else None  # the experiment is over: nobody is noted for it


def revert(store: Store, entry_id: int, by: Act, *, seen: int | None = None) -> int:
    """Restore the state before an audit entry. `seen` is the newest entry about the same thing that the caller saw.

    Raises NotFound, InvalidInput if it cannot be undone, and Conflict if somebody changed the thing since.
    """
    entry = get_audit_entry(store, entry_id)
    if problem := explain_irreversible(entry):
        raise InvalidInput("audit entry", problem)
    by = replace(by, environment=entry.environment)
    if entry.action == Action.INDEX_SWAP and (swapped := SwapState.read(entry.before)):
        live = next(alias for alias in list_aliases(store) if alias.alias == entry.target)
        _check_seen(store, entry, seen)
        return swap_index(store, entry.target, swapped.index, by, expected=live.index_name)
    if entry.action == Action.TOPIC_MARK and (decided := TopicDecision.read(entry.before)):
        topic = get_backlog_topic(store, entry.target)
        _check_seen(store, entry, seen)
        return mark_topic(store, topic, decided.state, by, owner=decided.owner, note=decided.note)
    if entry.action == Action.TOPIC_RENAME and (called := TopicName.read(entry.before)):
        topic = get_backlog_topic(store, entry.target)
        _check_seen(store, entry, seen)
        return rename_topic(store, topic, called.label, by)
    if entry.action == Action.DRIFT_ACCEPT:
        _check_seen(store, entry, seen)
        level = AcceptedLevel.read(entry.before)
        return accept_level(store, level.accepted_on if level else None, by, service=service_of_level(entry.target))
    if entry.action in _OF_RULES:
        _check_seen(store, entry, seen)
        if entry.before is None:
            return delete_alert_rule(store, entry.target, by)
        return save_alert_rule(store, read_rule(entry.before), by)
    known = {flag.key: flag for flag in list_flags(store, entry.environment)}
    _check_seen(store, entry, seen)  # after reading the flag, whose version detects changes in between
    return _revert_flag(store, entry, known, former_state(entry), by)


def _revert_flag(
    store: Store, entry: AuditEntry, known: dict[str, Flag], former: dict[str, Any] | None, by: Act
) -> int:
    if former is None:
        flag = known.get(entry.target) or get_flag(store, entry.environment, entry.target)
        with changing(store, by) as change:
            delete_flag(change.connection, flag)
            change.record(Action.FLAG_DELETE, flag.key, flag.definition, None)
        return change.entry_id
    if entry.target in known:
        return update_flag(store, known[entry.target], former, by)
    return create_flag(store, entry.target, former, by)


def _check_seen(store: Store, entry: AuditEntry, seen: int | None) -> None:
    if seen is not None and (newest := find_newest(store, entry)) > seen:
        raise Conflict(
            f"{entry.target} was changed by entry {newest} after you loaded it; reload and check. Nothing was changed"
        )

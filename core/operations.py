"""Every change of stored state: load, decide, save, and the audit entry, in one transaction.

All functions take the `Act`: who does it, why, and in which environment. They return the audit entry's id. A change
that carries a stale version raises Conflict and leaves everything as it was.
"""

from collections.abc import Mapping
from dataclasses import asdict, replace
from datetime import date, datetime
from typing import Any

from sqlalchemy import delete, insert, select, update

from core.acts import MAX_TEXT, Act, Change, changing
from core.alerts import AlertRule, alert_rules_setting, check_url
from core.backlog import BacklogTopic, TopicState, save_decision
from core.canary_plan import read_plan
from core.config import check_environment
from core.control import (
    Flag,
    Index,
    IndexState,
    get_setting,
    list_aliases,
    list_flags,
    list_indexes,
    list_swaps,
    lock_index,
    move_state_version,
    newest_swap_id,
    save_flag,
    save_setting,
    save_versioned,
)
from core.environments import ENVIRONMENTS, list_environments
from core.errors import Conflict, InvalidInput, NotFound
from core.exposures import count_reported, delete_reported
from core.prediction import Prediction, prediction_setting
from core.retention import former_indexes
from core.schedules import OPEN, check_one_plan
from core.timetable import list_schedules
from quarterdeck import definitions
from quarterdeck.definitions import validate_definition
from quarterdeck.documents import check_document, resolve_references
from quarterdeck.log import as_log
from quarterdeck.retrieval import from_ms, to_ms
from quarterdeck.schema import aliases, indexes
from quarterdeck.store import Store
from quarterdeck.validation import validate_document


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


def add_environment(store: Store, name: str, by: Act) -> int:
    """Make an environment known before it holds any flag. Raises InvalidInput, and Conflict when there is one."""
    check_environment(name)
    if name in list_environments(store, by.environment):
        raise Conflict(f"environment {name!r} is there already")
    added, version = get_setting(store, ENVIRONMENTS)
    with changing(store, by) as change:
        save_setting(change.connection, ENVIRONMENTS, sorted([*(added or ()), name]), expected_version=version)
        change.record("environment.add", name, None, {"name": name})
    return change.entry_id


def register_index(store: Store, index: Index, by: Act) -> int:
    """Make a finished vector index known. Raises Conflict when its name is taken."""
    if index.name in {known.name for known in list_indexes(store)}:
        raise Conflict(f"index {index.name!r} is registered already")
    values = {
        "location": index.location, "corpus_version": index.corpus_version, "model": index.model,
        "chunks": index.chunks, "built_ms": to_ms(index.built), "built_by": index.built_by, "chunking": index.chunking,
    }  # fmt: skip
    with changing(store, by) as change:
        change.connection.execute(insert(indexes).values(name=index.name, **values))
        change.record("index.register", index.name, None, values)
    return change.entry_id


def swap_index(
    store: Store, alias: str, index_name: str, by: Act, *, expected: str | None, probe: str = "", rollback: bool = False
) -> int:
    """Let `alias` stand for another index. `expected` is the one that it stands for now; Conflict if it does not.

    `probe` is kept in the audit trail: what was checked before. Raises NotFound for an index that is not registered,
    or is being removed.
    """
    after = {"index": index_name} | ({"probe": probe} if probe else {}) | ({"rollback": True} if rollback else {})
    with changing(store, by) as change:
        if lock_index(change.connection, index_name) != IndexState.READY:
            raise NotFound(f"index: no index {index_name!r} is registered; build it first")
        live = change.connection.execute(select(aliases).where(aliases.c.alias == alias)).first()
        if (live.index_name if live else None) != expected:
            raise Conflict(f"alias {alias!r} stands for {live.index_name if live else 'nothing'}, not for {expected}")
        values = {"index_name": index_name, "updated_ms": change.at_ms, "updated_by": by.actor}
        version = live.version if live else 0
        save_versioned(change.connection, aliases, {"alias": alias}, values, expected_version=version)
        move_state_version(change.connection)
        change.record("index.swap", alias, {"index": expected} if expected else None, after)
    return change.entry_id


def find_rollback(store: Store, alias: str) -> str | None:
    """Return the index that a rollback of `alias` would go back to: the last before the present that still exists."""
    ready = {index.name for index in list_indexes(store)}
    return next((name for name in former_indexes(list_swaps(store, alias)) if name in ready), None)


def rollback_index(store: Store, alias: str, by: Act) -> str:
    """Let `alias` stand for the index it stood for before, and return its name; twice in a row goes back two.

    Raises NotFound when there is no former index, or none that still exists.
    """
    live = next((known for known in list_aliases(store) if known.alias == alias), None)
    if live is None:
        raise NotFound(f"alias: there is no alias {alias!r}")
    former = find_rollback(store, alias)
    if former is None:
        raise NotFound(f"alias {alias!r} stood for no other index that still exists; build one and swap it in")
    swap_index(store, alias, former, by, expected=live.index_name, rollback=True)
    return former


def retire_index(store: Store, name: str, by: Act, *, newest_swap: int) -> int:
    """Bar an index from being swapped in, so that its files can be removed.

    `newest_swap` is the swap that the decision rests on. Raises Conflict when an alias stands for the index, or
    when there was a swap since: somebody may have used the index in the meantime.
    """
    with changing(store, by) as change:
        state = lock_index(change.connection, name)
        if state is None:
            raise NotFound(f"index: no index {name!r} is registered")
        if name in change.connection.scalars(select(aliases.c.index_name)):
            raise Conflict(f"index {name!r} is live and is not removed")
        if newest_swap_id(change.connection) != newest_swap:
            raise Conflict(f"an alias was swapped while index {name!r} was to be removed; look again")
        change.connection.execute(update(indexes).where(indexes.c.name == name).values(state=IndexState.RETIRED))
        change.record("index.retire", name, {"state": state}, {"state": str(IndexState.RETIRED)})
    return change.entry_id


def forget_index(store: Store, name: str, by: Act) -> int:
    """Take a retired index, whose files are gone, off the list. Raises Conflict when it is not retired."""
    with changing(store, by) as change:
        if lock_index(change.connection, name) != IndexState.RETIRED:
            raise Conflict(f"index {name!r} is not retired; nothing was removed")
        row = change.connection.execute(select(indexes).where(indexes.c.name == name)).mappings().one()
        change.connection.execute(delete(indexes).where(indexes.c.name == name))
        change.record("index.remove", name, {key: row[key] for key in ("corpus_version", "chunks", "built_ms")}, None)
    return change.entry_id


def save_prediction(store: Store, prediction: Prediction, by: Act) -> int:
    """Keep what a corpus version is predicted to do, to be compared with what it does; replaces the last of it."""
    name = prediction_setting(prediction.target)
    _, version = get_setting(store, name)
    after = {"live": prediction.live, "lifted_share": round(prediction.lifted_share, 4)}
    with changing(store, by) as change:
        save_setting(change.connection, name, asdict(prediction), expected_version=version)
        change.record("prediction.save", prediction.target, None, after)
    return change.entry_id


def mark_topic(
    store: Store, topic: BacklogTopic, state: TopicState, by: Act, *, owner: str = "", note: str = ""
) -> int:
    """Decide about a coverage gap, as it was read. Raises InvalidInput, and Conflict when somebody was faster."""
    for name, value in (("owner", owner), ("note", note)):
        if len(value) > MAX_TEXT or "\x00" in value:
            raise InvalidInput(name, f"must be at most {MAX_TEXT:,} characters, without null characters")
    before = {"state": topic.state, "owner": topic.owner, "note": topic.note}
    with changing(store, by) as change:
        save_decision(change.connection, topic, state, owner=owner.strip(), note=note.strip())
        after = {"state": str(state), "owner": owner.strip(), "note": note.strip(), "label": topic.label}
        change.record("topic.mark", topic.topic_id, before, after)
    return change.entry_id


def accept_level(store: Store, accepted_on: date | None, by: Act) -> int:
    """Take the level of scores from `accepted_on` on as the new normal: the drift reference restarts there.

    None takes back whatever was accepted.
    """
    name = accepted_level_setting(by.environment)
    former, version = get_setting(store, name)
    after = {"accepted_on": accepted_on.isoformat()} if accepted_on else None
    with changing(store, by) as change:
        save_setting(change.connection, name, after, expected_version=version)
        change.record("drift.accept", "retrieval score", former, after)
    return change.entry_id


def purge_retrievals(store: Store, before: datetime, by: Act) -> int:
    """Delete the retrievals older than `before`; return how many. What was counted of them stays, without any text.

    So go the users of A/B tests, the tracked events and the counts of flag evaluations of that age. The audit entry is
    written first, with the number found then; the rows go in slices, so that a purge that was cut off is simply run
    again. Raises SourceUnavailable.
    """
    log, before_ms = as_log(store), to_ms(before)
    found, reported = log.count_before(before_ms), count_reported(store, before)
    if not found and not reported:
        return 0
    with changing(store, by) as change:
        delete_reported(change.connection, before)
        gone = {"rows": found} | ({"flag_reports": reported} if reported else {})
        change.record("log.purge", "retrievals", gone, {"older_than": before.isoformat()})
    return log.purge(before_ms)


def record_restore(store: Store, created: str, by: Act) -> int:
    """Note in the audit trail that everything in the store came from a backup of that time."""
    with changing(store, by) as change:
        change.record("store.restore", "store", None, {"backup": created})
    return change.entry_id


def accepted_level_setting(environment: str) -> str:
    """Return the name of the setting that holds since when the present level counts as normal."""
    return f"accepted_level:{environment}"


def save_alert_rule(store: Store, rule: AlertRule, by: Act) -> int:
    """Add an alert rule or replace the one of its name. Its secret is stored and never shown or audited.

    Raises InvalidInput for an address that cannot be called.
    """
    check_url(rule.url)
    return _change_alert_rules(store, rule.name, rule, by)


def delete_alert_rule(store: Store, name: str, by: Act) -> int:
    """Remove an alert rule. Raises NotFound."""
    return _change_alert_rules(store, name, None, by)


def _change_alert_rules(store: Store, name: str, rule: AlertRule | None, by: Act) -> int:
    setting = alert_rules_setting(by.environment)
    stored, version = get_setting(store, setting)
    known = {each["name"]: each for each in stored or ()}
    before = known.pop(name, None)
    if rule is None and before is None:
        raise NotFound(f"alert rule: there is no rule {name!r} in {by.environment}")
    after = asdict(rule) if rule else None
    with changing(store, by) as change:
        save_setting(
            change.connection, setting, [*known.values(), *([after] if after else [])], expected_version=version
        )
        change.record("alert.save" if rule else "alert.delete", name, _without_secret(before), _without_secret(after))
    return change.entry_id


def _without_secret(rule: dict[str, Any] | None) -> dict[str, Any] | None:
    return {name: value for name, value in rule.items() if name != "secret"} if rule else None


def _save_flag(change: Change, flag: Flag, *, before: dict[str, Any] | None) -> None:
    if flag.environment != change.act.environment:  # the roles that were asked are those held there
        raise InvalidInput("environment", f"{flag.key} is of {flag.environment}, the act of {change.act.environment}")
    save_flag(change.connection, flag, updated_ms=change.at_ms)
    change.record("flag.update" if before else "flag.create", flag.key, before, flag.definition)

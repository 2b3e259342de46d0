"""Shell: saves the settings of services, renames and merges services, each change with its audit entry."""

from collections.abc import Callable
from dataclasses import asdict, replace

from sqlalchemy import select

from core.audit.actions import Action
from core.audit.acts import Act, changing
from core.audit.settings import get_setting, move_state_version, save_setting
from core.errors import Conflict, InvalidInput, NotFound
from core.log.clickhouse_changes import count_scope, move_scope
from core.log.days import forget_days
from core.log.dimensions import declare_within
from core.log.scope_ids import find_scope_id
from core.log.services import KEYS, ServiceSettings, get_service, service_key
from core.log.successions import (
    Holdings,
    count_holdings,
    merge_sums,
    move_rows,
    rename_scope,
)
from quarterdeck.clickhouse import ClickHouseLog
from quarterdeck.log import SqlLog, as_log
from quarterdeck.registry import registry_of
from quarterdeck.schema import scopes
from quarterdeck.scope import Scope
from quarterdeck.store import Store


def save_service(store: Store, service: ServiceSettings, by: Act) -> int:
    """Save the settings of a service, which hold in all environments; return the audit entry's id.

    What another release keeps beside them stays.
    Another zone makes its closed days anew. Raises Conflict if somebody else changed them since they were read.
    """
    before, (stored, _) = get_service(store, service.name), get_setting(store, service_key(service.name))
    with changing(store, by) as change:
        key = service_key(service.name)
        others = {name: value for name, value in (stored or {}).items() if name not in KEYS}
        save_setting(change.connection, key, others | service.to_audit(), expected_version=service.version)
        if service.dimensions != before.dimensions:
            declare_within(store, change.connection)
        if service.zone != before.zone:
            ids = change.connection.scalars(select(scopes.c.id).where(scopes.c.service == service.name))
            forget_days(change.connection, list(ids))
        if service.score_kind != before.score_kind:
            move_state_version(change.connection)  # clients read it with their flags
        change.record(Action.SERVICE_SET, service.name, before.to_audit(), service.to_audit())
    return change.entry_id


def rename_service(store: Store, former: Scope, new: Scope, by: Act) -> int:
    """Give a service another name, in its environment; verdicts, gaps and decisions continue. Returns the audit entry.

    Raises NotFound if nothing of it is recorded, and Conflict if the new name reports already.
    """
    held = _check(store, former, new)
    if _is_known(store, new):
        raise Conflict(f"{new.service} reports in {new.environment} already; use: quarterdeck services merge")
    with changing(store, replace(by, environment=former.environment)) as change:
        rename_scope(change.connection, former, new)
        move_state_version(change.connection)
        change.record(Action.SERVICE_RENAME, former.service, asdict(held), {"service": new.service})
    registry_of(store).forget()
    if isinstance(log := as_log(store), ClickHouseLog):
        move_scope(log, former, new)
    return change.entry_id


def merge_services(
    store: Store, former: Scope, new: Scope, by: Act, *, on_progress: Callable[[int, int], None] = lambda _n, _all: None
) -> int:
    """Add what is recorded of one service to another of its environment; return the audit entry's id.

    Verdicts, gaps and decisions continue under the new name at once; stored rows follow in slices. After an
    interruption, repeat it. Raises NotFound if nothing is recorded of one of them.
    """
    held = _check(store, former, new)
    if not _is_known(store, new):
        raise NotFound(f"service: {new.service} recorded nothing in {new.environment}; use: services rename")
    with changing(store, replace(by, environment=former.environment)) as change:
        merge_sums(change.connection, former, new)
        move_state_version(change.connection)
        change.record(Action.SERVICE_MERGE, former.service, asdict(held), {"service": new.service})
    moved = 0
    if isinstance(log := as_log(store), ClickHouseLog):
        on_progress(move_scope(log, former, new), held.rows)
        return change.entry_id
    for count in move_rows(store, former, new):
        moved += count
        on_progress(moved, held.rows)
    registry_of(store).forget()
    return change.entry_id


def preview_succession(store: Store, former: Scope, new: Scope) -> Holdings:
    """Return what `rename_service` or `merge_services` would hand over; raises what they raise."""
    return _check(store, former, new)


def _is_known(store: Store, scope: Scope) -> bool:
    with store.read() as connection:
        known = find_scope_id(connection, scope) is not None
    log = as_log(store)
    return known or (isinstance(log, ClickHouseLog) and bool(count_scope(log, scope)[0]))


def _check(store: Store, former: Scope, new: Scope) -> Holdings:
    log = as_log(store)
    if isinstance(log, ClickHouseLog) and log.is_cluster:
        raise InvalidInput(
            "log",
            "services on a ClickHouse cluster cannot be moved; let the service report under its former name",
        )
    if not isinstance(log, ClickHouseLog) and (not isinstance(log, SqlLog) or log.store.name != store.name):
        raise InvalidInput("log", "services of a log in another SQL store cannot be moved; move the log into the store")
    if former == new:
        raise InvalidInput("service", "the two names are the same")
    held = count_holdings(store, former)
    if not held.questions and not held.rows:
        raise NotFound(f"service: {former.service} recorded nothing in {former.environment}")
    return held

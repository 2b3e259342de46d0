"""Gateway to what belongs to a service by name or id: counts it, and hands it to another service.

The sums of the former service are added to those of the new one in one transaction; its rows follow in slices. Whoever
still writes keeps the id that it knows, so the new service keeps its own. Repeating a merge goes on with what is left.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from sqlalchemy import Connection, delete, func, select, text, update

from core.audit.settings import Family, scope_key
from core.log.clickhouse_changes import count_scope
from core.log.days import forget_days
from core.log.documents import forget_all_packs
from core.log.scope_ids import find_scope_id
from quarterdeck.clickhouse import ClickHouseLog
from quarterdeck.clock import from_ms
from quarterdeck.log import as_log
from quarterdeck.schema import (
    dimension_values,
    document_days,
    flag_exposures,
    judged_answers,
    metric_bins,
    metric_sums,
    retrievals,
    review_queues,
    rollups,
    scopes,
    score_maps,
    scores,
    settings,
    topics,
    tracked_events,
    upsert,
)
from quarterdeck.scope import DEFAULT_SERVICE, Scope
from quarterdeck.store import Store

SLICE_ROWS = 20_000
_CLOSE = timedelta(days=1)  # a service that begins this near to another's end may be the same one
_BY_NAME = (scores, tracked_events, flag_exposures, review_queues, judged_answers)
_SUMS = (rollups, metric_sums, metric_bins, document_days)
_OF_SCOPE = (Family.ACCEPTED_LEVEL,)


@dataclass(frozen=True, slots=True)
class Holdings:
    """What belongs to a scope: questions in the rollups, stored rows, days, and topics of which some are decided."""

    questions: int
    rows: int
    days: int
    topics: int
    decided: int


@dataclass(frozen=True, slots=True)
class Succession:
    """A service that ended as another began: perhaps the same one under its new name."""

    former: Scope
    new: Scope

    @property
    def offer(self) -> str:
        """Return what happened and the command that continues the history."""
        return (
            f"{self.new.service} began in {self.new.environment} as {self.former.service} ended. If it is the same "
            f"service, continue its history: quarterdeck services merge {self.former.service} {self.new.service} "
            f"--environment {self.new.environment}"
        )


def count_holdings(store: Store, scope: Scope) -> Holdings:
    """Return what belongs to a scope."""
    found = _count_in_store(store, scope)
    log = as_log(store)
    if isinstance(log, ClickHouseLog):
        questions, days, rows = count_scope(log, scope)
        return replace(found, questions=questions, days=days, rows=rows)
    return found


def _count_in_store(store: Store, scope: Scope) -> Holdings:
    with store.read() as connection:
        number = find_scope_id(connection, scope)
        if number is None:
            return Holdings(0, 0, 0, 0, 0)
        c = rollups.c
        whole = (c.scope_id == number, c.dimension == "", c.value == "")
        questions, days = connection.execute(
            select(
                func.coalesce(func.sum(c.n + c.unmapped + c.unscored + c.empty + c.failed), 0),
                func.count(func.distinct(c.start_ms // 86_400_000)),
            ).where(*whole)
        ).one()
        of_topics = select(func.count()).select_from(topics).where(topics.c.scope_id == number)
        return Holdings(
            int(questions),
            int(connection.scalar(select(func.count()).where(retrievals.c.scope_id == number)) or 0),
            int(days),
            int(connection.scalar(of_topics) or 0),
            int(connection.scalar(of_topics.where(topics.c.state != "open")) or 0),
        )


def find_successions(store: Store, *, since_ms: int) -> tuple[Succession, ...]:
    """Return the services that began since a time, within a day of the end of the service `default`."""
    c = rollups.c
    query = (
        select(
            scopes.c.environment,
            scopes.c.service,
            func.min(c.start_ms).label("first"),
            func.max(c.start_ms).label("last"),
        )
        .join(scopes, scopes.c.id == c.scope_id)
        .where(c.dimension == "", c.value == "")
        .group_by(scopes.c.environment, scopes.c.service)
    )  # fmt: skip
    with store.read() as connection:
        rows = connection.execute(query).all()
    ended = {row.environment: row for row in rows if row.service == DEFAULT_SERVICE}
    return tuple(
        Succession(Scope(row.environment, DEFAULT_SERVICE), Scope(row.environment, row.service))
        for row in rows
        if row.environment in ended and _follows(ended[row.environment], row, since_ms)
    )


def _follows(former: Any, new: Any, since_ms: int) -> bool:
    near = abs(from_ms(new.first) - from_ms(former.last)) <= _CLOSE
    return new.service != former.service and near and new.first >= since_ms and new.last > former.last


def rename_scope(connection: Connection, former: Scope, new: Scope) -> None:
    """Give a scope another name; everything that belongs to it follows."""
    number = find_scope_id(connection, former)
    if number is not None:
        connection.execute(update(scopes).where(scopes.c.id == number).values(service=new.service))
    _rename_rest(connection, former, new)


def merge_sums(connection: Connection, former: Scope, new: Scope) -> None:
    """Add the sums of a scope to those of another, and hand over its topics, settings and score maps.

    A store knows a scope once something of it is stored there; with a log elsewhere, that may be nothing.
    """
    old_id, new_id = find_scope_id(connection, former), find_scope_id(connection, new)
    if old_id is None or new_id is None:
        rename_scope(connection, former, new)
        return
    ids = {"former": old_id, "new": new_id}
    for table in _SUMS:
        others = ", ".join(column.name for column in table.c if column.name != "scope_id")
        added = upsert(table, f"SELECT :new, {others} FROM {table.name} WHERE scope_id = :former")
        connection.execute(text(added), ids)
        connection.execute(delete(table).where(table.c.scope_id == old_id))
    for table, unless in ((dimension_values, "ON CONFLICT DO NOTHING"), (score_maps, "ON CONFLICT DO NOTHING")):
        names = [column.name for column in table.c if column.name != "scope_id"]
        connection.execute(
            text(
                f"INSERT INTO {table.name} (scope_id, {', '.join(names)}) SELECT :new, {', '.join(names)} "
                f"FROM {table.name} WHERE scope_id = :former {unless}"
            ),
            ids,
        )
        connection.execute(delete(table).where(table.c.scope_id == old_id))
    connection.execute(update(topics).where(topics.c.scope_id == old_id).values(scope_id=new_id))
    forget_days(connection, [old_id, new_id])
    forget_all_packs(connection, [old_id, new_id])
    _rename_rest(connection, former, new)


def move_rows(store: Store, former: Scope, new: Scope) -> Iterator[int]:
    """Hand over the stored rows of a scope, slice by slice; yield how many each had.

    A row whose id the new scope has already is named by its number from now on: both were counted.
    """
    with store.read() as connection:
        ids = {"former": find_scope_id(connection, former), "new": find_scope_id(connection, new), "most": SLICE_ROWS}
    known = "SELECT 1 FROM retrievals AS o WHERE o.scope_id = :new AND o.retrieval_id = retrievals.retrieval_id"
    statement = text(
        "UPDATE retrievals SET scope_id = :new, "
        f"retrieval_id = CASE WHEN EXISTS ({known}) THEN NULL ELSE retrieval_id END WHERE id IN "
        "(SELECT id FROM retrievals WHERE scope_id = :former ORDER BY ts_ms LIMIT :most)"
    )
    while True:
        with store.begin_in_turn() as connection:
            moved = connection.execute(statement, ids).rowcount
        if not moved:
            return
        yield moved


def _rename_rest(connection: Connection, former: Scope, new: Scope) -> None:
    for table in _BY_NAME:
        same = (table.c.environment == former.environment, table.c.service == former.service)
        connection.execute(update(table).where(*same).values(service=new.service))
    for family in _OF_SCOPE:
        _move_setting(connection, scope_key(family, former), scope_key(family, new))
    _copy_service(connection, former.service, new.service)


def _move_setting(connection: Connection, former: str, new: str) -> None:
    """Rename a setting, unless there is one of the new name already."""
    if connection.scalar(select(settings.c.name).where(settings.c.name == new)) is None:
        connection.execute(update(settings).where(settings.c.name == former).values(name=new))


def _copy_service(connection: Connection, former: str, new: str) -> None:
    """Give the new service the settings of the former one, unless it has its own."""
    names = [f"{Family.SERVICE}{name}" for name in (former, new)]
    if connection.scalar(select(settings.c.name).where(settings.c.name == names[1])) is None:
        value = connection.scalar(select(settings.c.value).where(settings.c.name == names[0]))
        if value is not None:
            connection.execute(settings.insert().values(name=names[1], value=value, version=1))

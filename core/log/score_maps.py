"""Gateway to the learned score maps: their table, the rows that wait for one, and the sums that rows move between.

Maps belong to a scope, a kind of score and a model. They live in the store that holds the log, those of a log in
ClickHouse in the deck's store; `clickhouse_changes.py` maps its rows.
"""

import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

from sqlalchemy import Connection, Table, and_, func, insert, select, text

from core.log.documents import forget_packs
from core.log.score_scales import MOST_ROWS, ScoreMap
from quarterdeck.clock import HOUR_MS
from quarterdeck.registry import registry_of
from quarterdeck.retrieval import COLUMNS, Row
from quarterdeck.rollups import bound, roll_up
from quarterdeck.schema import ROLLUP_LOCK, document_days, retrievals, rollups, scopes, score_maps
from quarterdeck.scope import Scope
from quarterdeck.store import Store

SLICE_ROWS = 2_000
_SCORE, _HITS, _NOTED = (COLUMNS.index(name) for name in ("score", "documents", "attributes"))


class Scale(NamedTuple):
    """Whose numbers share a map; `model` is "" where rows name none."""

    scope: Scope
    kind: str
    model: str


class Waiting(NamedTuple):
    """A scale that has rows without a similarity, and the times between which they lie, in milliseconds."""

    scale: Scale
    spans: tuple[tuple[int, int], ...]


def list_waiting(store: Store) -> list[Waiting]:
    """Return the scales of rows that have a number and no similarity. Reads only the hours that have such rows."""
    c, r = rollups.c, retrievals.c
    unmapped = select(c.scope_id, c.start_ms).where(c.dimension == "", c.value == "", c.unmapped > 0)
    found: defaultdict[Scale, list[tuple[int, int]]] = defaultdict(list)
    with store.read() as connection:
        names = {row.id: Scope(row.environment, row.service) for row in connection.execute(select(scopes))}
        hours = connection.execute(unmapped.order_by(c.scope_id, c.start_ms)).all()
        for scope_id, start_ms, end_ms in _join_hours([(row.scope_id, row.start_ms) for row in hours]):
            model = func.coalesce(r.model, "")
            query = select(r.score_kind, model).where(*_waits(scope_id, start_ms, end_ms)).distinct()
            for kind, name in connection.execute(query):
                found[Scale(names[scope_id], kind or "", name)].append((start_ms, end_ms))
    return [Waiting(scale, tuple(spans)) for scale, spans in found.items()]


def _join_hours(hours: Sequence[tuple[int, int]]) -> list[tuple[int, int, int]]:
    """Return the stretches of hours of each scope: its id, start and end."""
    spans: list[tuple[int, int, int]] = []
    for scope_id, start_ms in hours:
        if spans and spans[-1][0] == scope_id and spans[-1][2] == start_ms:
            spans[-1] = (scope_id, spans[-1][1], start_ms + HOUR_MS)
        else:
            spans.append((scope_id, start_ms, start_ms + HOUR_MS))
    return spans


def _waits(scope_id: Any, start_ms: int, end_ms: int) -> tuple[Any, ...]:
    c = retrievals.c
    return (
        c.scope_id == scope_id, c.ts_ms >= start_ms, c.ts_ms < end_ms, c.score.is_(None), c.raw_score.is_not(None)
    )  # fmt: skip


def list_numbers(store: Store, scale: Scale, *, newest: bool = False, since_ms: int = 0) -> list[float]:
    """Return the numbers of the first (or the newest) rows of a scale since a time, up to 2,000."""
    c = retrievals.c
    order = (c.ts_ms.desc(), c.id.desc()) if newest else (c.ts_ms, c.id)
    query = select(c.raw_score).where(_of(scale), c.ts_ms >= since_ms).order_by(*order).limit(MOST_ROWS)
    with store.read() as connection:
        return [float(score) for score in connection.scalars(query)]


def find_map(store: Store, scale: Scale) -> ScoreMap | None:
    """Return the newest map of a scale, None before one was learned."""
    c = score_maps.c
    query = (
        select(c.quantiles, c.version)
        .join(scopes, scopes.c.id == c.scope_id)
        .where(scopes.c.environment == scale.scope.environment, scopes.c.service == scale.scope.service)
        .where(c.kind == scale.kind, c.model == scale.model)
        .order_by(c.version.desc())
        .limit(1)
    )
    with store.read() as connection:
        row = connection.execute(query).first()
    return ScoreMap.read(row.quantiles, row.version) if row else None


def list_scales(store: Store, scope: Scope) -> list[Scale]:
    """Return the scales of a scope that have a map."""
    c = score_maps.c
    query = (
        select(c.kind, c.model)
        .join(scopes, scopes.c.id == c.scope_id)
        .where(scopes.c.environment == scope.environment, scopes.c.service == scope.service)
        .distinct()
        .order_by(c.kind, c.model)
    )
    with store.read() as connection:
        return [Scale(scope, kind, model) for kind, model in connection.execute(query)]


def save_map(connection: Connection, scope_id: int, scale: Scale, found: ScoreMap, *, rows: int, at_ms: int) -> None:
    """Add a map with its version; it is never changed."""
    connection.execute(
        insert(score_maps).values(
            scope_id=scope_id, kind=scale.kind, model=scale.model[:256], version=found.version,
            quantiles=found.dump(), learned_from=rows, created_ms=at_ms,
        )
    )  # fmt: skip


def list_waiting_rows(store: Store, waiting: Waiting) -> list[int]:
    """Return the ids of the next rows of a scale that have no similarity, oldest first; empty if there are no more."""
    c = retrievals.c
    with store.read() as connection:
        for start_ms, end_ms in waiting.spans:
            inside = (c.ts_ms >= start_ms, c.ts_ms < end_ms, c.score.is_(None))
            query = select(c.id).where(_of(waiting.scale), *inside).order_by(c.ts_ms, c.id).limit(SLICE_ROWS)
            if ids := list(connection.scalars(query)):
                return ids
    return []


def list_slices(store: Store, scale: Scale) -> Iterator[list[int]]:
    """Return the ids of all rows of a scale in slices, in the order in which they came."""
    last = 0
    c = retrievals.c
    while True:
        with store.read() as connection:
            query = select(c.id).where(_of(scale), c.id > last).order_by(c.id).limit(SLICE_ROWS)
            ids = list(connection.scalars(query))
        if not ids:
            return
        last = ids[-1]
        yield ids


def map_rows(store: Store, scale: Scale, ids: Sequence[int], found: ScoreMap) -> int:
    """Give these rows the similarity of the map, and move what they add to the sums, in one transaction."""
    with store.begin_in_turn() as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": ROLLUP_LOCK})
        before = _read_rows(connection, ids, scale.scope)
        after = {number: (*row[:_SCORE], found.apply(raw), *row[_SCORE + 1 :]) for number, (raw, row) in before.items()}
        changes = [{"b_id": number, "b_score": row[_SCORE]} for number, row in after.items()]
        if not changes:
            return 0
        connection.execute(text("UPDATE retrievals SET score = :b_score WHERE id = :b_id"), changes)
        registry = registry_of(store).lend()
        declared = registry.list_declared(connection, [scale.scope.service])
        admit = partial(registry.admit, connection)
        sides = [
            bound(roll_up(rows, declared), admit)
            for rows in ([row for _, row in before.values()], list(after.values()))
        ]
        scope_id = registry.find_ids(connection, [scale.scope])[scale.scope]
        for table, keys in ((rollups, 4), (document_days, 3)):
            _move(connection, table, scope_id, *(getattr(side, table.name) for side in sides), keys=keys)
        forget_packs(connection, ((scope_id, row[0]) for row in after.values()))
        return len(changes)


def _of(scale: Scale) -> Any:
    c = retrievals.c
    of_scope = select(scopes.c.id).where(
        scopes.c.environment == scale.scope.environment, scopes.c.service == scale.scope.service
    )
    return and_(
        c.scope_id == of_scope.scalar_subquery(),
        c.raw_score.is_not(None),
        func.coalesce(c.score_kind, "") == scale.kind,
        func.coalesce(c.model, "") == scale.model,
    )


def _read_rows(connection: Connection, ids: Sequence[int], scope: Scope) -> dict[int, tuple[float, Row]]:
    """Return each row's own number, and the row as writers take it."""
    c = retrievals.c
    query = select(c.id, c.raw_score, *(c[name] for name in COLUMNS)).where(c.id.in_(ids))
    found = {}
    for number, raw, *values in connection.execute(query):
        for place in (_HITS, _NOTED):
            values[place] = json.loads(values[place]) if values[place] else None
        found[number] = (float(raw), (*values, scope))
    return found


def _move(
    connection: Connection, table: Table, scope_id: int, before: list[Any], after: list[Any], *, keys: int
) -> None:
    """Add the difference to the sums that are there; what was never counted for these rows stays uncounted."""
    changed: defaultdict[tuple[Any, ...], list[float]] = defaultdict(list)
    for sign, rows in ((-1, before), (1, after)):
        for row in rows:
            sums = changed[row[1:keys]]
            sums[:] = [a + sign * b for a, b in zip(sums or [0] * len(row[keys:]), row[keys:], strict=True)]
    names = [column.name for column in table.c]
    key_names, sum_names = names[1:keys], names[keys:]
    enough = " AND unmapped + :unmapped >= 0" if "unmapped" in sum_names else ""
    statement = text(
        f"UPDATE {table.name} SET {', '.join(f'{name} = {name} + :{name}' for name in sum_names)} "
        f"WHERE scope_id = :scope_id AND {' AND '.join(f'{name} = :{name}' for name in key_names)}{enough}"
    )
    values = [
        {"scope_id": scope_id, **dict(zip(key_names, key, strict=True)), **dict(zip(sum_names, sums, strict=True))}
        for key, sums in sorted(changed.items())
        if any(sums)
    ]
    if values:
        connection.execute(statement, values)

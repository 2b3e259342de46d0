"""Gateway to stored rows that turn out to be different: replaces them, and what they added to the rollups.

A row that came from part of a trace is amended when the rest of it arrives.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import partial
from typing import Any

from sqlalchemy import Connection, delete, select, update

from core.log.documents import forget_packs
from quarterdeck.log import SqlLog, add_sums, lock_rollups
from quarterdeck.registry import registry_of
from quarterdeck.retrieval import COLUMNS, EMPTY, SCORED, Row, to_columns
from quarterdeck.rollups import Rollups, bound, roll_up
from quarterdeck.schema import (
    document_days,
    metric_bins,
    metric_sums,
    retrievals,
    rollups,
    scopes,
)
from quarterdeck.scope import Scope
from quarterdeck.store import Store

_IDS_A_STATEMENT = 500
_PLACES = {name: place for place, name in enumerate(COLUMNS)}
_ID, _STATE, _HITS, _NOTED = (_PLACES[name] for name in ("retrieval_id", "state", "documents", "attributes"))
_LATER = ("faithfulness", "feedback")  # what may have been set on the row since


@dataclass(frozen=True, slots=True)
class Replaced:
    """What became of rows: those that are new, those that changed, and those that are gone; each by its scope."""

    added: tuple[Scope, ...] = ()
    changed: int = 0
    removed: tuple[Scope, ...] = ()


def replace_rows(
    store: Store, connection: Connection, rows: Sequence[Row], among: Sequence[str], environments: Collection[str]
) -> Replaced:
    """Make the rows with the ids `among` these, and correct the rollups, in one transaction of the store of the log.

    Rows that are stored just so already are left alone; rows that are not stored are added. Only rows of these
    environments are touched: another one may have a row of the same id.
    """
    found = _read_rows(connection, among, environments, {row[_ID]: row[-1] for row in rows})
    numbers, stored = {name: number for name, (number, _) in found.items()}, {n: row for n, (_, row) in found.items()}
    wanted = {row[_ID]: _keep_later(row, stored.get(row[_ID])) for row in rows}
    known = {name: row for name, row in wanted.items() if name in stored}
    ids = registry_of(store).lend().find_ids(connection, {row[-1] for row in (*known.values(), *stored.values())})
    changed = [
        name for name, row in known.items()
        if (stored[name][:-1], ids[stored[name][-1]]) != (_comparable(row), ids[row[-1]])
    ]  # fmt: skip
    gone = [name for name in stored if name not in wanted]
    new = [row for name, row in wanted.items() if name not in stored]
    if new:
        SqlLog(store).append(new, connection)
    if changed or gone:
        former = [stored[name] for name in (*changed, *gone)]
        changes = {numbers[name]: wanted[name] for name in changed}
        _amend(store, connection, former, changes, [numbers[name] for name in gone])
    return Replaced(tuple(row[-1] for row in new), len(changed), tuple(stored[name][-1] for name in gone))


def _amend(
    store: Store, connection: Connection, former: Sequence[Row], changed: Mapping[int, Row], gone: Sequence[int]
) -> None:
    """Take back what the former rows added to the rollups, and add what the changed ones add, which have numbers."""
    registry, rows = registry_of(store).lend(), list(changed.values())
    found = {row[-1] for row in (*former, *rows)}
    ids = registry.find_ids(connection, found)
    lock_rollups(connection)
    declared = registry.list_declared(connection, {scope.service for scope in found})
    for added in (negate(roll_up(former, declared)), roll_up(rows, declared)):
        add_sums(connection, bound(added, partial(registry.admit, connection)), ids)
    forget_packs(connection, ((ids[row[-1]], row[0]) for row in (*former, *rows)))
    _drop_empty(connection, sorted({ids[row[-1]] for row in former}), {row[0] for row in former})
    for number, row in changed.items():
        values = dict(zip((*COLUMNS, "scope_id"), (*to_columns(row)[:-1], ids[row[-1]]), strict=True))
        connection.execute(update(retrievals).where(retrievals.c.id == number).values(values))
    if gone:
        connection.execute(delete(retrievals).where(retrievals.c.id.in_(gone)))


def negate(added: Rollups) -> Rollups:
    """Return the sums that take back what was added."""
    keys = {"rollups": 4, "metric_sums": 5, "metric_bins": 6, "document_days": 3}
    return Rollups(
        **{
            each.name: [
                (*row[: keys[each.name]], *(-number for number in row[keys[each.name] :]))
                for row in getattr(added, each.name)
            ]
            for each in fields(Rollups)
        }
    )


def _drop_empty(connection: Connection, scope_ids: Sequence[int], times_ms: set[int]) -> None:
    """Remove rollup rows of these scopes and hours that count nothing any more."""
    hours = sorted({ms - ms % 3_600_000 for ms in times_ms})
    days = sorted({ms - ms % 86_400_000 for ms in times_ms})
    r, s, b, d = rollups.c, metric_sums.c, metric_bins.c, document_days.c
    connection.execute(
        delete(rollups).where(
            r.scope_id.in_(scope_ids), r.start_ms.in_(hours), r.n + r.unmapped + r.unscored + r.empty + r.failed == 0
        )
    )
    connection.execute(delete(metric_sums).where(s.scope_id.in_(scope_ids), s.start_ms.in_(hours), s.n == 0))
    connection.execute(delete(metric_bins).where(b.scope_id.in_(scope_ids), b.day_ms.in_(days), b.n == 0))
    connection.execute(delete(document_days).where(d.scope_id.in_(scope_ids), d.day_ms.in_(days), d.n == 0))


def _read_rows(
    connection: Connection, names: Sequence[str], environments: Collection[str], wanted: Mapping[str, Scope]
) -> dict[str, tuple[int, Row]]:
    """Return the stored rows with these ids, each with its number, in the form in which writers take them.

    Where several services have a row of one id, it is that of the wanted scope, else the oldest.
    """
    columns = [retrievals.c[name] for name in COLUMNS]
    found: dict[str, tuple[int, Row]] = {}
    for start in range(0, len(names), _IDS_A_STATEMENT):
        some = names[start : start + _IDS_A_STATEMENT]
        query = (
            select(retrievals.c.id, *columns, scopes.c.environment, scopes.c.service)
            .join_from(retrievals, scopes, scopes.c.id == retrievals.c.scope_id)
            .where(retrievals.c.retrieval_id.in_(some), scopes.c.environment.in_(environments))
            .order_by(retrievals.c.id)
        )
        for number, *values, environment, service in connection.execute(query):
            name, scope = values[_ID], Scope(environment, service)
            if name not in found or scope == wanted.get(name):
                found[name] = (number, _to_row(values, scope))
    return found


def _to_row(values: list[Any], scope: Scope) -> Row:
    hits, noted = values[_HITS], values[_NOTED]
    values[_HITS] = None if hits is None else tuple((name, score) for name, score in json.loads(hits))
    values[_NOTED] = None if noted is None else json.loads(noted)
    if values[_STATE] is None:
        values[_STATE] = EMPTY if values[_PLACES["score"]] is None else SCORED
    return (*values, scope)


def _keep_later(row: Row, stored: Row | None) -> Row:
    """Return a row with what was set on the stored one since."""
    if stored is None:
        return row
    kept = list(row)
    for name in _LATER:
        place = _PLACES[name]
        kept[place] = stored[place] if row[place] is None else row[place]
    return tuple(kept)


def _comparable(row: Row) -> Row:
    """Return a row without its scope as it is read back: JSON has no tuples."""
    hits, noted = row[_HITS], row[_NOTED]
    return (
        *row[:_HITS],
        None if hits is None else tuple((name, score) for name, score in hits),
        None if noted is None else json.loads(json.dumps(noted)),
        *row[_NOTED + 1 : -1],
    )

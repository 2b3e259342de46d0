"""Gateway to rows of the log by their ids: when they were logged, whose they are, and what they are counted under.

A row from before ids were stored is named `r` and its number in the store, such as `r1042`.
"""

import json
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, select

from core.errors import InvalidInput
from quarterdeck.clickhouse import ClickHouseLog
from quarterdeck.clock import DAY_MS
from quarterdeck.log import SqlLog, as_log
from quarterdeck.schema import COUNTED_BY_WRITER, DIMENSIONS, retrievals, scopes
from quarterdeck.scope import Scope
from quarterdeck.store import Store

_OLD_NAME = re.compile(r"r([1-9][0-9]{0,17})")
_UUID_7 = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}")
_SLICE = 500


@dataclass(frozen=True, slots=True)
class NamedRow:
    """A row of the log by its name. `number` is its key in the store, None for a log elsewhere."""

    name: str
    number: int | None
    ts_ms: int
    scope: Scope
    weight: int
    has_bins: bool  # of its own numbers: its writer counted them, no trigger
    values: tuple[str, ...]  # of DIMENSIONS, "" for none
    documents: tuple[str, ...]
    attributes: dict[str, Any]
    user: str | None = None  # else the session


def find_rows(store: Store, names: Collection[str]) -> list[NamedRow]:
    """Return the rows with these names that are in the log of a store, the oldest first. Raises SourceUnavailable.

    Scopes do not share ids: several may have a row of one name.
    """
    log = as_log(store)
    if isinstance(log, SqlLog):
        found = _find_in_sql(log.store, names, is_own=log.store is store)
    elif isinstance(log, ClickHouseLog):
        found = _find_in_clickhouse(log, names)
    else:
        raise InvalidInput("log", f"{type(log).__name__} cannot be read in core/log/named_rows.py")
    return sorted(found, key=lambda row: (row.ts_ms, row.number or 0))


def name_of(retrieval_id: str | None, number: int) -> str:
    """Return a row's name: the id that it was stored with, or one made of its number.

    >>> name_of(None, 1042)
    'r1042'
    """
    return retrieval_id if retrieval_id is not None else f"r{number}"


def _find_in_sql(store: Store, names: Collection[str], *, is_own: bool) -> list[NamedRow]:
    c = retrievals.c
    columns = (
        c.retrieval_id, c.id, c.ts_ms, scopes.c.environment, scopes.c.service, c.weight, c.rolled_up,
        *(c[name] for name in DIMENSIONS), c.documents, c.attributes, func.coalesce(c.user_id, c.session_id),
    )  # fmt: skip
    query = select(*columns).join(scopes, scopes.c.id == c.scope_id)
    found: list[NamedRow] = []
    with store.read() as connection:
        for part in _slices(names):
            rows = connection.execute(query.where(c.retrieval_id.in_(part)))
            found += (_read_row(row, is_own=is_own) for row in rows)
        for part in _slices([int(old[1]) for name in names if (old := _OLD_NAME.fullmatch(name))]):
            rows = connection.execute(query.where(c.id.in_(part), c.retrieval_id.is_(None)))
            found += (_read_row(row, is_own=is_own) for row in rows)
    return found


def _find_in_clickhouse(log: ClickHouseLog, names: Collection[str]) -> list[NamedRow]:
    """The rows are ordered by time: ids that contain theirs are looked for there, others in the whole log."""
    timed = sorted(name for name in names if _UUID_7.fullmatch(name))
    others = sorted({*names}.difference(timed))
    found: list[NamedRow] = []
    for part in (*_slices(timed), *_slices(others)):
        inside, times = "", {}
        if _UUID_7.fullmatch(part[0]):
            inside, times = " AND ts_ms >= {first:Int64} AND ts_ms <= {last:Int64}", _times_of(part)
        rows = log.query(
            f"SELECT retrieval_id, 0, ts_ms, environment, service, weight, 0, {', '.join(DIMENSIONS)}, documents, "
            f"attributes, ifNull(user_id, session_id) FROM {log.database}.retrievals "
            f"WHERE retrieval_id IN {{names:Array(String)}}{inside} "
            "ORDER BY ts_ms LIMIT 1 BY environment, service, retrieval_id",
            names=part, **times,
        )  # fmt: skip
        found += (_read_row(row, is_own=False) for row in rows)
    return found


def _times_of(names: Iterable[str]) -> dict[str, int]:
    """Return the bounds of the times in ids. An id may be made somewhat before its row's time, or after it."""
    times = [int(name[:8] + name[9:13], 16) for name in names]
    return {"first": min(times) - DAY_MS, "last": max(times) + DAY_MS}


def _read_row(row: Any, *, is_own: bool) -> NamedRow:
    retrieval_id, number, ts_ms, environment, service, weight, rolled_up, *values = row
    *labels, documents, attributes, user = values
    return NamedRow(
        name_of(retrieval_id, number), number if is_own else None, ts_ms, Scope(environment, service), weight or 1,
        rolled_up == COUNTED_BY_WRITER,
        tuple(str(label) if label else "" for label in labels), _read_documents(documents), _read_object(attributes),
        user,
    )  # fmt: skip


def _read_documents(stored: str | None) -> tuple[str, ...]:
    try:
        return tuple(str(name) for name, *_ in json.loads(stored or "[]"))
    except (ValueError, TypeError):  # edited by hand
        return ()


def _read_object(stored: str | None) -> dict[str, Any]:
    try:
        found = json.loads(stored or "{}")
    except ValueError:  # edited by hand
        return {}
    return found if isinstance(found, dict) else {}


def _slices(values: Collection[Any]) -> list[list[Any]]:
    listed = list(values)
    return [listed[start : start + _SLICE] for start in range(0, len(listed), _SLICE)]

"""Gateway that fills the search index of a log in SQLite or PostgreSQL: packs the terms of full slices of its rows.

Writers do nothing for it. A slice is noted first and packed at least ten seconds later, when no transaction is left
that took a row number in it and has not ended. A slice with a changed or deleted row is forgotten by a trigger, and is
packed again.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Connection, delete, func, select

from core.log.ends import find_ends
from core.log.filters import LABELS
from core.log.search_packs import pack_rows
from quarterdeck.clock import to_ms
from quarterdeck.log import SqlLog, as_log
from quarterdeck.schema import SEARCH_SLICE, retrievals, search_packs, search_slices
from quarterdeck.store import Store, fetch_many

MOST_SLICES = 20  # that one call packs, a second each; the next one goes on
SETTLED_MS = 10_000
_READ = ("id", "scope_id", "query", "score", "state", "session_id", "user_id", *LABELS, "documents", "attributes")


PackSlices = Callable[[Store, Sequence[int], int], int]


class IndexedShare(NamedTuple):
    """How many rows the search index covers, of how many: by their numbers, so both are upper bounds."""

    covered: int
    rows: int


def pack_slices(store: Store, numbers: Sequence[int], now_ms: int) -> int:
    """Pack slices one by one; return how many were packed, none of whose rows changed meanwhile."""
    return sum(_pack(store, number, now_ms) for number in numbers)


def fill_search_index(store: Store, *, now: datetime, most: int = MOST_SLICES, pack: PackSlices = pack_slices) -> int:
    """Pack slices that are full and not packed as they are now, newest first; return how many.

    `pack` packs them: the server lets another process do it.

    Does nothing for a log in ClickHouse, which is searched by its own means. Raises SourceUnavailable.
    """
    log = as_log(store)
    if not isinstance(log, SqlLog):
        return 0
    now_ms = to_ms(now)
    with log.store.read() as connection:
        known = {number: (noted, packed) for number, noted, packed in connection.execute(_NOTED)}
        full = _list_full(connection)
    waiting = [
        number for number in full
        if number in known and known[number][1] is None and known[number][0] <= now_ms - SETTLED_MS
    ][:most]  # fmt: skip
    done = pack(log.store, waiting, now_ms) if waiting else 0
    _tidy(log.store, [number for number in full if number not in known], set(known) - set(full), now_ms)
    return done


def pack_slices_of(url: str, numbers: Sequence[int], now_ms: int) -> int:
    """The same for the store at an address: for a process that has it not open."""
    with closing(Store(url)) as store:
        return pack_slices(store, numbers, now_ms)


def find_indexed_share(store: Store) -> IndexedShare | None:
    """Return how much of a log is in its search index; None for a log that needs none. Raises SourceUnavailable."""
    log = as_log(store)
    if not isinstance(log, SqlLog):
        return None
    with log.store.read() as connection:
        packed = func.count().filter(search_slices.c.packed_ms.is_not(None))
        covered = connection.scalar(select(packed).select_from(search_slices)) or 0
        ends = find_ends(connection, retrievals.c.id)
    return IndexedShare(covered * SEARCH_SLICE, ends[1] - ends[0] + 1 if ends else 0)


_NOTED = select(search_slices.c.slice, search_slices.c.noted_ms, search_slices.c.packed_ms)


def _list_full(connection: Connection) -> list[int]:
    """Return the slices with rows that no new row falls into, newest first."""
    ends = find_ends(connection, retrievals.c.id)
    return list(range(ends[1] // SEARCH_SLICE - 1, ends[0] // SEARCH_SLICE - 1, -1)) if ends else []


def _tidy(store: Store, new: Iterable[int], gone: Iterable[int], now_ms: int) -> None:
    """Note slices, and remove what is left of those that are gone or were forgotten."""
    s, p = search_slices.c, search_packs.c
    noted = [{"slice": number, "noted_ms": now_ms, "first_ms": 0, "last_ms": 0} for number in new]
    orphaned = select(p.slice).where(p.slice.not_in(select(s.slice))).distinct()
    with store.read() as connection:
        orphans = list(connection.scalars(orphaned))
    gone = list(gone)
    if not noted and not gone and not orphans:
        return
    with store.begin() as connection:
        if noted:
            known = set(connection.scalars(select(s.slice)))
            if left := [row for row in noted if row["slice"] not in known]:
                connection.execute(search_slices.insert(), left)
        for number in gone:
            connection.execute(delete(search_slices).where(s.slice == number))
        for number in {*gone, *orphans}:
            connection.execute(delete(search_packs).where(p.slice == number, p.slice.not_in(select(s.slice))))


def _pack(store: Store, number: int, now_ms: int) -> bool:
    """Pack one slice, unless a row of it changes meanwhile."""
    c, s = retrievals.c, search_slices.c
    inside = (c.id >= number * SEARCH_SLICE, c.id < (number + 1) * SEARCH_SLICE)
    with store.read() as connection:
        rows = _read_rows(connection, inside)
        packs = pack_rows(rows)
        first_ms, last_ms = connection.execute(select(func.min(c.ts_ms), func.max(c.ts_ms)).where(*inside)).one()
    values = {"packed_ms": now_ms, "first_ms": first_ms or 0, "last_ms": last_ms or 0}
    with store.begin() as connection:
        same = (s.slice == number, s.packed_ms.is_(None))
        if connection.execute(search_slices.update().where(*same).values(values)).rowcount == 0:
            return False
        connection.execute(delete(search_packs).where(search_packs.c.slice == number))
        parts = [{"part": part, "slice": number, "packed": packed} for part, packed in packs.items()]
        if parts:
            connection.execute(search_packs.insert(), parts)
    return True


def _read_rows(connection: Connection, inside: Any) -> Iterator[Mapping[str, Any]]:
    query = select(*(retrievals.c[name] for name in _READ)).where(*inside)
    for row in fetch_many(connection, query):
        yield dict(zip(_READ, row, strict=True))

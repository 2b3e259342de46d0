"""Gateway to the search index of a log in SQLite or PostgreSQL: finds the first rows that meet a filter, by its terms.

Slices of the log are searched by the time of their newest row, until no other one can hold a newer match; or from the
oldest on. Rows that the
index does not cover yet are compared one by one. Every row found is compared with the whole filter.
"""

from collections.abc import Iterable, Iterator, Sequence
from functools import reduce
from heapq import nlargest, nsmallest
from itertools import groupby
from typing import NamedTuple

from sqlalchemy import ColumnElement, Connection, Select, literal_column, select

from core.log.ends import find_ends
from core.log.search_packs import (
    EVERYWHERE,
    FoundPlaces,
    find_beginning,
    find_key,
    intersect,
    part_of_key,
    part_of_word,
    unite,
)
from core.log.search_terms import SearchTerms
from quarterdeck.schema import SEARCH_SLICE, retrievals, search_packs, search_slices
from quarterdeck.store import fetch_many

MOST_UNPACKED = 10 * SEARCH_SLICE  # rows that are compared one by one; where more are left, the index is of no use
_FIRST_BATCH, _LARGEST_BATCH = 8, 128  # slices whose packs are read at once
_IDS_A_STATEMENT = 500
Place = tuple[int, int]  # a row's time and number


class Wanted(NamedTuple):
    """The rows of one scope that are wanted: those that meet all conditions; they have these terms."""

    scope_id: int
    terms: SearchTerms
    conditions: Sequence[ColumnElement[bool]]
    is_newest: bool = True  # the newest are wanted first, else the oldest

    def of_numbers(self, numbered: ColumnElement[bool]) -> Select[int, int]:
        """Return the query for the rows among some numbers. The sign keeps databases from the index by time."""
        c = retrievals.c
        return select(c.ts_ms, c.id).where(numbered, literal_column("+scope_id") == self.scope_id, *self.conditions)

    def first(self, inside: Sequence[ColumnElement[bool]], limit: int) -> Select[int, int]:
        """Return the query for the first of some rows, in the order of time."""
        c = retrievals.c
        query = select(c.ts_ms, c.id).where(c.scope_id == self.scope_id, *inside, *self.conditions)
        order = (c.ts_ms.desc(), c.id.desc()) if self.is_newest else (c.ts_ms, c.id)
        return query.order_by(*order).limit(limit)

    def pick(self, limit: int, places: Iterable[Place]) -> list[Place]:
        """Return the first of some places."""
        return nlargest(limit, places) if self.is_newest else nsmallest(limit, places)

    def comes_before(self, place: Place, of: "_Slice") -> bool:
        """Whether a place comes before all that a slice may hold."""
        return place[0] > of.last_ms if self.is_newest else place[0] < of.first_ms


class _Slice(NamedTuple):
    number: int
    first_ms: int
    last_ms: int

    @property
    def rows(self) -> ColumnElement[bool]:
        return retrievals.c.id.between(self.number * SEARCH_SLICE, (self.number + 1) * SEARCH_SLICE - 1)


def find_places(
    connection: Connection, wanted: Wanted, *, limit: int, start_ms: int | None, end_ms: int | None
) -> list[Place] | None:
    """Return the first rows that meet all conditions, at most `limit`; None where the index covers too little.

    No row outside the window meets the conditions.
    """
    packed = _list_packed(connection)
    unpacked = _list_unpacked(connection, {each.number for each in packed})
    if sum(last - first for first, last in unpacked) > MOST_UNPACKED:
        return None
    found = [place for first, last in unpacked for place in _compare(connection, first, last, wanted)]
    found = wanted.pick(limit, found)
    left = [
        each for each in packed
        if (end_ms is None or each.first_ms < end_ms) and (start_ms is None or each.last_ms >= start_ms)
    ]  # fmt: skip
    left.sort(key=lambda each: -each.last_ms if wanted.is_newest else each.first_ms)
    for batch in _list_batches(left):
        if len(found) == limit and wanted.comes_before(found[-1], batch[0]):
            break
        for each, places in _look_up(connection, wanted.terms, batch):
            if len(found) < limit or not wanted.comes_before(found[-1], each):
                found = wanted.pick(limit, [*found, *_check(connection, each, places, wanted, limit)])
    return found


def _list_packed(connection: Connection) -> list[_Slice]:
    """Return the slices that the index covers."""
    s = search_slices.c
    query = select(s.slice, s.first_ms, s.last_ms).where(s.packed_ms.is_not(None))
    return [_Slice(*row) for row in connection.execute(query)]


def _list_unpacked(connection: Connection, packed: set[int]) -> list[tuple[int, int]]:
    """Return the ranges of row numbers that the index does not cover, each from its first one to before its last."""
    ends = find_ends(connection, retrievals.c.id)
    if ends is None:
        return []
    first, last = ends
    left = [number for number in range(first // SEARCH_SLICE, last // SEARCH_SLICE + 1) if number not in packed]
    runs = [[number for _, number in run] for _, run in groupby(enumerate(left), lambda pair: pair[1] - pair[0])]
    return [(max(first, run[0] * SEARCH_SLICE), min(last + 1, (run[-1] + 1) * SEARCH_SLICE)) for run in runs]


def _compare(connection: Connection, first: int, end: int, wanted: Wanted) -> list[Place]:
    """Return the rows in a range of numbers that are wanted."""
    c = retrievals.c
    return _read(connection, wanted.of_numbers((c.id >= first) & (c.id < end)))


def _read(connection: Connection, query: Select[int, int]) -> list[Place]:
    return [(ts_ms, number) for ts_ms, number in fetch_many(connection, query)]


def _list_batches(slices: Sequence[_Slice]) -> Iterator[Sequence[_Slice]]:
    start, size = 0, _FIRST_BATCH
    while start < len(slices):
        yield slices[start : start + size]
        start, size = start + size, min(2 * size, _LARGEST_BATCH)


def _look_up(
    connection: Connection, terms: SearchTerms, batch: Sequence[_Slice]
) -> Iterator[tuple[_Slice, FoundPlaces]]:
    """Yield the slices that may hold rows with all terms, with the places of these, in their order."""
    left = {each.number: EVERYWHERE for each in batch}
    for keys in terms.keys:
        found = [_find_key(connection, key, left) for key in keys]
        left = _narrow(left, reduce(_merge, found))
    for word in terms.beginnings:
        packs = _read_packs(connection, part_of_word(word), left)
        left = _narrow(left, {number: find_beginning(packed, word) for number, packed in packs})
    for each in batch:
        if each.number in left:
            yield each, left[each.number]


def _find_key(connection: Connection, key: int, within: Iterable[int]) -> dict[int, FoundPlaces]:
    return {number: find_key(packed, key) for number, packed in _read_packs(connection, part_of_key(key), within)}


def _merge(some: dict[int, FoundPlaces], others: dict[int, FoundPlaces]) -> dict[int, FoundPlaces]:
    return {
        number: unite(each[number] for each in (some, others) if number in each)
        for number in {*some, *others}
    }  # fmt: skip


def _narrow(left: dict[int, FoundPlaces], found: dict[int, FoundPlaces]) -> dict[int, FoundPlaces]:
    both = {number: intersect((left[number], places)) for number, places in found.items() if number in left}
    return {number: places for number, places in both.items() if places.is_common or len(places.places)}


def _read_packs(connection: Connection, part: int, numbers: Iterable[int]) -> Iterator[tuple[int, bytes]]:
    p = search_packs.c
    for number, packed in connection.execute(select(p.slice, p.packed).where(p.part == part, p.slice.in_(numbers))):
        yield number, bytes(packed)


def _check(connection: Connection, of: _Slice, found: FoundPlaces, wanted: Wanted, limit: int) -> list[Place]:
    """Return the first rows at these places of a slice that are wanted."""
    c = retrievals.c
    if found.is_common:  # so many that the newest ones are soon found in the order of time
        query = wanted.first((of.rows, c.ts_ms >= of.first_ms, c.ts_ms <= of.last_ms), limit)
        return _read(connection, query)
    numbers = (of.number * SEARCH_SLICE + found.places.astype(int)).tolist()
    places: list[Place] = []
    for start in range(0, len(numbers), _IDS_A_STATEMENT):
        query = wanted.of_numbers(c.id.in_(numbers[start : start + _IDS_A_STATEMENT]))
        places += _read(connection, query)
    return places

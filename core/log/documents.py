"""Gateway to the documents rollup: how often each document was found, how high, how well and with what judgment.

Whole days are packed, and packs of two days, four and so on up to 64, so that any window is the sum of a few of them.
A pack counts as long as the hours of its days are those that it was made of; other days are read row by row. A log in
ClickHouse has no packs, and what came later than its rows is in the store.
"""

import io
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, and_, delete, or_, select

from core.log.calendars import UTC_DAYS
from core.log.days import GRACE, DayContent
from core.log.document_rows import sum_documents
from core.log.readers import open_reader
from core.log.scope_ids import find_scope_id
from core.log.sql import SqlLogReader
from quarterdeck.clock import DAY_MS, to_ms
from quarterdeck.log import SqlLog, as_log, lock_rollups
from quarterdeck.schema import DOCUMENT_SUMS, TENTHS, document_days, document_packs, scopes
from quarterdeck.scope import Scope
from quarterdeck.store import Store

SPANS = (1, 2, 4, 8, 16, 32, 64)  # days of a pack; each begins on a multiple of them since 1970
_FIRST_DAY = date(1970, 1, 1)
_Sums = tuple[Sequence[str], NDArray[np.int64], NDArray[np.float64]]  # names, their last days, their sums
_SCORE_TOTAL, _FIRST_TENTH = DOCUMENT_SUMS.index("score_total"), DOCUMENT_SUMS.index(TENTHS[0])


@dataclass(frozen=True, slots=True, eq=False)
class DocumentSums:
    """Documents of a window, and for each the sums of `schema.document_days`: shape (documents, 16).

    `last_days` are the last days on which they were found, as numbers of days since 1970-01-01.
    """

    names: tuple[str, ...]
    sums: NDArray[np.float64]
    last_days: NDArray[np.int64]

    @property
    def last_found(self) -> list[date]:
        """The last UTC day on which each was found."""
        return [_FIRST_DAY + timedelta(days=int(day)) for day in self.last_days]

    @property
    def retrieved(self) -> NDArray[np.float64]:
        """How many questions each was found for."""
        return self.sums[:, 0]

    @property
    def firsts(self) -> NDArray[np.float64]:
        """How often each was the first hit."""
        return self.sums[:, 1]

    @property
    def mean_rank(self) -> NDArray[np.float64]:
        """Mean place among the hits, 1 for the first."""
        return self.sums[:, 2] / self.retrieved

    @property
    def mean_score(self) -> NDArray[np.float64]:
        """Mean of the document's own cosines; NaN where it never had one."""
        with np.errstate(invalid="ignore"):
            return self.sums[:, 4] / self.sums[:, 3]

    @property
    def bad(self) -> NDArray[np.float64]:
        """How many of its questions have negative feedback."""
        return self.sums[:, 5]

    def low_share(self, below: float) -> NDArray[np.float64]:
        """Return which share of its questions with a similarity scored under a threshold, to the next lower tenth."""
        tenths = self.sums[:, _FIRST_TENTH:]
        with np.errstate(invalid="ignore"):
            share: NDArray[np.float64] = tenths[:, : int(below * 10 + 1e-9)].sum(axis=1) / tenths.sum(axis=1)
        return share


def list_documents(store: Store, scope: Scope, *, first: date, last: date) -> DocumentSums:
    """Return the documents found from `first` to `last`, whole UTC days, both included. Raises SourceUnavailable."""
    begin, end = _number(first), _number(last) + 1
    log, total = as_log(store), _Total()
    if isinstance(log, SqlLog):
        _add_days(total, log.store, scope, begin, end)
    else:
        total.add(*_split(open_reader(log).list_document_sums(scope, begin * DAY_MS, end * DAY_MS)))
    if log.name != store.name:  # the feedback that came later
        total.add(*_split(SqlLogReader(store).list_document_sums(scope, begin * DAY_MS, end * DAY_MS)))
    return total.to_sums()


def pack_documents(store: Store, *, now: datetime) -> int:
    """Pack the days that are over and are not packed as they are now; return how many. Raises SourceUnavailable.

    Does nothing for a log in ClickHouse.
    """
    log = as_log(store)
    if not isinstance(log, SqlLog):
        return 0
    return sum(_pack_scope(log.store, scope, now=now) for scope in open_reader(log).list_scopes())


def forget_packs(connection: Connection, changed: Iterable[tuple[int, int]]) -> None:
    """Delete the packs of these days, each given by the id of a scope and a time: something about them changed."""
    p = document_packs.c
    for scope_id, day in {(scope_id, ms // DAY_MS) for scope_id, ms in changed}:
        covers = or_(*(and_(p.days == span, p.start_ms == (day - day % span) * DAY_MS) for span in SPANS))
        connection.execute(delete(document_packs).where(p.scope_id == scope_id, covers))


def forget_all_packs(connection: Connection, scope_ids: Sequence[int]) -> None:
    """Delete the packs of whole scopes."""
    connection.execute(delete(document_packs).where(document_packs.c.scope_id.in_(scope_ids)))


def _add_days(total: "_Total", store: Store, scope: Scope, begin: int, end: int) -> None:
    """Add the days of a store that holds its log: packs as large as possible, and the rows of days without one."""
    valid = _find_valid(store, scope, begin, end)
    at, single = begin, list[int]()
    with store.read() as connection:
        scope_id = find_scope_id(connection, scope)
        if scope_id is None:
            return
        while at < end:
            span = max((each for each in SPANS if (each, at) in valid and at + each <= end), default=1)
            packed = _read_pack(connection, scope_id, span, at) if (span, at) in valid else None
            if packed is None:
                single.append(at)
                span = 1
            else:
                total.add(*_unpack(packed))
            at += span
        for run in _runs(single):
            total.add(*_sum_rows(connection, scope_id, *run))


class _Total:
    """Sums of documents, which grow."""

    def __init__(self) -> None:
        self._places: dict[str, int] = {}
        self._sums = np.zeros((0, len(DOCUMENT_SUMS)))
        self._last = np.zeros(0, dtype=np.int64)
        self._former: tuple[Sequence[str], NDArray[np.int64]] = ((), np.zeros(0, dtype=np.int64))

    def add(self, names: Sequence[str], last_days: NDArray[np.int64], sums: NDArray[np.float64]) -> None:
        """Add the sums of documents with different names, each with the last day on which it was found."""
        known, places = self._former
        if names != known:
            get = self._places
            places = np.array([get.setdefault(name, len(get)) for name in names], dtype=np.int64)
            self._former = names, places
        if len(self._places) > len(self._sums):
            more = len(self._places) - len(self._sums)
            self._sums = np.vstack([self._sums, np.zeros((more, len(DOCUMENT_SUMS)))])
            self._last = np.concatenate([self._last, np.zeros(more, dtype=np.int64)])
        self._sums[places] += sums
        self._last[places] = np.maximum(self._last[places], last_days)

    def to_sums(self) -> DocumentSums:
        """Return what was added; documents whose rows were all taken back are left out."""
        kept = self._sums[:, 0] > 0
        names = tuple(name for name, is_kept in zip(self._places, kept, strict=True) if is_kept)
        return DocumentSums(names, self._sums[kept], self._last[kept])


def _pack_scope(store: Store, scope: Scope, *, now: datetime) -> int:
    end = _number((now - GRACE).astimezone(UTC).date())
    contents = _list_contents(store, scope, 0, end)
    valid = _find_valid(store, scope, 0, end, contents)
    changed = [day for day in sorted(contents) if (1, day) not in valid]
    for span in SPANS:
        for start in sorted({day - day % span for day in contents if day - day % span + span <= end}):
            if (span, start) not in valid or any(start <= day < start + span for day in changed):
                _save(store, scope, span, start, _add(contents, start, span))
    return len(changed)


def _save(store: Store, scope: Scope, span: int, start: int, content: DayContent) -> None:
    """Pack a day from its rows, or several days from two packs of half of them."""
    p = document_packs.c
    with store.begin_in_turn() as connection:
        lock_rollups(connection)
        scope_id = find_scope_id(connection, scope)
        if scope_id is None:  # it was merged into another one
            return
        total = _Total()
        if span == 1:
            total.add(*_sum_rows(connection, scope_id, start, start + 1))
        for at in (start, start + span // 2) if span > 1 else ():
            if (packed := _read_pack(connection, scope_id, span // 2, at)) is not None:
                total.add(*_unpack(packed))
        same = (p.scope_id == scope_id, p.days == span, p.start_ms == start * DAY_MS)
        connection.execute(delete(document_packs).where(*same))
        values = {"scope_id": scope_id, "days": span, "start_ms": start * DAY_MS, **asdict(content)}
        connection.execute(document_packs.insert().values(values | {"packed": _pack(total.to_sums())}))


def _find_valid(
    store: Store, scope: Scope, begin: int, end: int, contents: dict[int, DayContent] | None = None
) -> set[tuple[int, int]]:
    """Return the packs, by days and start, within these days whose hours have not changed since."""
    p = document_packs.c
    query = (
        select(p.days, p.start_ms, p.counted, p.summed)
        .join(scopes, scopes.c.id == p.scope_id)
        .where(scopes.c.environment == scope.environment, scopes.c.service == scope.service)
        .where(p.start_ms >= begin * DAY_MS, p.start_ms < end * DAY_MS)
    )
    with store.read() as connection:
        packs = connection.execute(query).all()
    if not packs:
        return set()
    known = _list_contents(store, scope, begin, end) if contents is None else contents
    return {
        (span, start_ms // DAY_MS)
        for span, start_ms, counted, summed in packs
        if DayContent(counted, summed).is_same_as(_add(known, start_ms // DAY_MS, span))
    }


def _list_contents(store: Store, scope: Scope, begin: int, end: int) -> dict[int, DayContent]:
    counts = open_reader(store).list_day_counts(scope, begin * DAY_MS, end * DAY_MS, UTC_DAYS)
    return {_number(day): DayContent(counted, summed) for day, counted, summed in counts}


def _add(contents: dict[int, DayContent], start: int, span: int) -> DayContent:
    within = [contents[day] for day in range(start, start + span) if day in contents]
    return DayContent(sum(each.counted for each in within), sum(each.summed for each in within))


def _read_pack(connection: Connection, scope_id: int, span: int, start: int) -> bytes | None:
    p = document_packs.c
    same = (p.scope_id == scope_id, p.days == span, p.start_ms == start * DAY_MS)
    packed: bytes | None = connection.scalar(select(p.packed).where(*same))
    return packed


def _sum_rows(connection: Connection, scope_id: int, begin: int, end: int) -> _Sums:
    of_scope = document_days.c.scope_id == scope_id
    return _split(sum_documents(connection, of_scope, begin * DAY_MS, end * DAY_MS, is_one=True))


def _split(rows: Sequence[Sequence[Any]]) -> _Sums:
    """Return the names, the last days and the sums of documents apart."""
    columns = list(zip(*rows, strict=True))
    if not columns:
        return (), np.zeros(0, dtype=np.int64), np.zeros((0, len(DOCUMENT_SUMS)))
    return columns[0], np.array(columns[1], dtype=np.int64) // DAY_MS, np.array(columns[2:], dtype=np.float64).T


def _pack(found: DocumentSums) -> bytes:
    """Return names and sums as one compressed value. A document's name has no line break."""
    buffer = io.BytesIO()
    counts = np.delete(found.sums, _SCORE_TOTAL, axis=1).astype(np.int64)
    small = counts.astype(np.int32) if np.abs(counts).max(initial=0) < 2**31 else counts
    text = np.frombuffer("\n".join(found.names).encode(), dtype=np.uint8)
    last = found.last_days.astype(np.int32)
    np.savez_compressed(buffer, names=text, counts=small.T, totals=found.sums[:, _SCORE_TOTAL], last=last)
    return buffer.getvalue()


def _unpack(packed: bytes) -> _Sums:
    with np.load(io.BytesIO(packed), allow_pickle=False) as parts:
        text = parts["names"].tobytes().decode()
        names = tuple(text.split("\n")) if text else ()
        sums = np.insert(parts["counts"].T.astype(np.float64), _SCORE_TOTAL, parts["totals"], axis=1)
        return names, parts["last"].astype(np.int64), sums


def _runs(days: Sequence[int]) -> list[tuple[int, int]]:
    """Return the begin and end of each stretch of days that follow each other."""
    runs: list[tuple[int, int]] = []
    for day in days:
        if runs and runs[-1][1] == day:
            runs[-1] = (runs[-1][0], day + 1)
        else:
            runs.append((day, day + 1))
    return runs


def _number(day: date) -> int:
    """Return how many days a day is after 1970-01-01."""
    return to_ms(datetime(day.year, day.month, day.day, tzinfo=UTC)) // DAY_MS

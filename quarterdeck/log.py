"""Gateway to the retrieval log, writing only: rows and their rollups are stored together, or not at all.

`open_log` chooses by URL: SQLite and PostgreSQL here, ClickHouse in `clickhouse.py`. The deck does the reading.
"""

import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache, partial
from itertools import chain
from operator import itemgetter
from threading import Lock
from typing import Any, Protocol
from weakref import WeakKeyDictionary, finalize

from sqlalchemy import ColumnElement, Connection, Table, delete, select, text

from quarterdeck.clickhouse import ClickHouseLog, is_clickhouse
from quarterdeck.errors import QuarterdeckError
from quarterdeck.registry import Registry, registry_of
from quarterdeck.retrieval import COLUMNS, FORGETTABLE, Row, to_columns
from quarterdeck.rollups import Rollups, bound, roll_up
from quarterdeck.schema import (
    COUNTED_BY_WRITER,
    ROLLUP_LOCK,
    document_days,
    metric_bins,
    metric_sums,
    retrievals,
    rollups,
    upsert,
)
from quarterdeck.scope import Scope
from quarterdeck.store import Store

_ROWS_A_STATEMENT = 100  # SQLite runs a statement without Python's lock: fewer, larger steps
_PURGE_SLICE = 10_000
_IDS_A_STATEMENT = 500
_KEEPS = "quarterdeck_keeps_registry"  # an option of a transaction whose end is seen
_ID = COLUMNS.index("retrieval_id")
_NAMES = ", ".join((*COLUMNS, "scope_id", "rolled_up"))


class RetrievalLog(Protocol):
    """Where retrievals are stored, in any database."""

    @property
    def name(self) -> str:
        """The log's URL without its password."""

    def append(self, rows: Sequence[Row], within: Connection | None = None) -> int:
        """Store checked rows and what they add to the rollups, all or none. Raises SourceUnavailable.

        Return how many rows were left out because a row with their id is stored already.
        `within` is a writing transaction that is already open. If it is of the store that holds this log, the rows
        are committed or rolled back with it. A log that lies elsewhere stores the rows before this returns.
        """

    def count_before(self, before_ms: int) -> int:
        """Return how many rows are older than `before_ms`, milliseconds since the epoch."""

    def purge(self, before_ms: int) -> int:
        """Delete rows older than `before_ms`, in slices; return how many. The rollups stay: they hold no text."""

    def forget(self, part: str, before_ms: int) -> int:
        """Remove one part (of FORGETTABLE) of all rows older than `before_ms`; return of how many. Rollups stay."""

    def close(self) -> None:
        """Close every connection."""

    def forget_connections(self) -> None:
        """Drop the connections that a forked child inherited, without closing the parent's."""


def open_log(url: str, *, create: bool = False) -> RetrievalLog:
    """Return the log behind a URL; its first use connects. Raises InvalidInput for a URL that is not supported."""
    return ClickHouseLog(url, create=create) if is_clickhouse(url) else SqlLog(Store(url, create=create))


def as_log(log: "Store | RetrievalLog") -> RetrievalLog:
    """Return a log as it is; for a store, the log in it or the one that its `log_url` names."""
    if not isinstance(log, Store):
        return log
    if log.log_url is None:
        return SqlLog(log)
    with _opening:
        if log not in _logs_of_stores:
            _logs_of_stores[log] = opened = open_log(log.log_url, create=log.create)
            finalize(log, opened.close)
        return _logs_of_stores[log]


_opening = Lock()
_logs_of_stores: "WeakKeyDictionary[Store, RetrievalLog]" = WeakKeyDictionary()


@contextmanager
def begin_appending(store: Store) -> Iterator[Connection]:
    """Open a writing transaction of a store, in turn with its other writers, for rows and what belongs to them.

    Appending within it does not look for rows that are stored already (`find_known` does), and remembers ids and values
    for the next time; within `begin` it cannot, because the log does not see whether that is committed.
    """
    try:
        with store.begin_in_turn() as connection:
            yield connection.execution_options(**{_KEEPS: True})
    except BaseException:
        registry_of(store).forget()  # it may know what was rolled back
        raise


def find_known(
    connection: Connection, wanted: Iterable[tuple[Scope, str]], ids: Mapping[Scope, int]
) -> set[tuple[Scope, str]]:
    """Return which of these scopes and retrieval ids have a row in a store's tables; `ids` are those of the scopes."""
    pairs, c = list(wanted), retrievals.c
    known: set[tuple[int, str]] = set()
    for start in range(0, len(pairs), _IDS_A_STATEMENT):
        names = [name for _, name in pairs[start : start + _IDS_A_STATEMENT]]
        found = connection.execute(select(c.scope_id, c.retrieval_id).where(c.retrieval_id.in_(names)))
        known.update((scope_id, name) for scope_id, name in found)
    return {(scope, name) for scope, name in pairs if (ids[scope], name) in known}


class SqlLog:
    """The log in the tables of a store: SQLite or PostgreSQL."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._registry = registry_of(store)

    @property
    def name(self) -> str:
        """The log's URL without its password."""
        return self.store.name

    def append(self, rows: Sequence[Row], within: Connection | None = None) -> int:
        """Store checked rows and what they add to the rollups, in one transaction; see `RetrievalLog.append`."""
        if within is not None and self.store.owns(within):
            if within.get_execution_options().get(_KEEPS):
                _append(within, rows, registry_of(self.store))
                return 0
            registry = registry_of(self.store).lend()
            new = _find_new(within, rows, registry)
            _append(within, new, registry)
            return len(rows) - len(new)
        try:
            return self._append_alone(rows)
        except _KnownId:
            return self._append_alone(rows, find_new=True)

    def _append_alone(self, rows: Sequence[Row], *, find_new: bool = False) -> int:
        registry, added = registry_of(self.store), None
        if not find_new and (declared := registry.find_declared({row[-1].service for row in rows})) is not None:
            added = roll_up(rows, declared)  # before the transaction, for which other writers wait
        try:
            with self.store.begin_in_turn() as connection:
                new = _find_new(connection, rows, registry) if find_new else rows
                _append(connection, new, registry, added)
        except BaseException:
            registry.forget()  # it may know what was rolled back
            raise
        return len(rows) - len(new)

    def count_before(self, before_ms: int) -> int:
        """Return how many rows are older than `before_ms`."""
        counted = text("SELECT COUNT(*) FROM retrievals WHERE ts_ms < :before")
        with self.store.read() as connection:
            return int(connection.scalar(counted, {"before": before_ms}) or 0)

    def purge(self, before_ms: int, *, slice_rows: int = _PURGE_SLICE) -> int:
        """Delete rows older than `before_ms`; return how many. Other writers get their turn between the slices."""
        deleted, slice_ = 0, (
            "DELETE FROM retrievals WHERE id IN "
            "(SELECT id FROM retrievals WHERE ts_ms < :before ORDER BY ts_ms LIMIT :most)"
        )  # fmt: skip
        while True:
            with self.store.begin() as connection:
                found = connection.execute(text(slice_), {"before": before_ms, "most": slice_rows}).rowcount
            deleted += found
            if found < slice_rows:
                return deleted
            time.sleep(0.002)

    def forget(self, part: str, before_ms: int, *, slice_rows: int = _PURGE_SLICE) -> int:
        """Remove one part of all rows older than `before_ms`; return of how many. Others get their turn in between."""
        column, nothing = FORGETTABLE[part]
        full = f"ts_ms < :before AND {column} IS NOT NULL AND {column} <> ''"
        slice_ = text(f"SELECT id FROM retrievals WHERE id > :after AND {full} ORDER BY id LIMIT :most")
        empty = text(f"UPDATE retrievals SET {column} = {nothing} WHERE id BETWEEN :first AND :last AND {full}")
        forgotten, after = 0, 0
        while True:
            with self.store.begin() as connection:
                found = {"before": before_ms, "after": after, "most": slice_rows}
                ids = list(connection.scalars(slice_, found))
                if ids:
                    where = {"before": before_ms, "first": ids[0], "last": ids[-1]}
                    forgotten += connection.execute(empty, where).rowcount
            if len(ids) < slice_rows:
                return forgotten
            after = ids[-1]
            time.sleep(0.002)

    def delete(self, where: ColumnElement[bool], within: Connection) -> None:
        """Delete the rows that meet a condition, in a transaction of this store or in one of its own. Rollups stay."""
        if self.store.owns(within):
            within.execute(delete(retrievals).where(where))
            return
        with self.store.begin() as connection:
            connection.execute(delete(retrievals).where(where))

    def close(self) -> None:
        """Close every connection."""
        self.store.close()

    def forget_connections(self) -> None:
        """Drop the connections that a forked child inherited, without closing the parent's."""
        self.store.forget_connections()


def lock_rollups(connection: Connection) -> None:
    """Wait until no other transaction changes the rollups; SQLite has one writer anyway."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": ROLLUP_LOCK})


def add_sums(connection: Connection, added: Rollups, ids: Mapping[Scope, int]) -> None:
    """Add to the rollups, within a transaction that has their lock; `ids` are those of the scopes."""
    is_sqlite = connection.dialect.name == "sqlite"
    driver: Any = connection.connection.driver_connection
    add_all = driver.executemany if is_sqlite else connection.exec_driver_sql
    for table in (rollups, metric_sums, metric_bins, document_days):
        if sums := getattr(added, table.name):
            add_all(_upsert(table, "?" if is_sqlite else "%s"), [(ids[scope], *rest) for scope, *rest in sums])


class _KnownId(QuarterdeckError):
    """A row with the id of one of these is stored already: they were sent before, and the answer was lost."""


def _find_new(connection: Connection, rows: Sequence[Row], registry: Registry) -> list[Row]:
    """Return the rows whose id is not stored in their scope yet, each id once."""
    ids = registry.find_ids(connection, {row[-1] for row in rows})
    by_id: dict[tuple[int, str], Row] = {}
    for row in rows:
        by_id.setdefault((ids[row[-1]], row[_ID]), row)
    known = find_known(connection, ((row[-1], row[_ID]) for row in by_id.values()), ids)
    return [row for row in by_id.values() if (row[-1], row[_ID]) not in known]


def _append(connection: Connection, rows: Sequence[Row], registry: Registry, added: Rollups | None = None) -> None:
    if not rows:
        return
    scopes = {row[-1] for row in rows}
    names = registry.name_scopes(connection, scopes)
    if any(scope != name for scope, name in names.items()):  # beyond the bounds: many senders are one scope
        rows, added = [(*row[:-1], names[row[-1]]) for row in rows], None
        scopes = set(names.values())
    ids = registry.find_ids(connection, scopes)
    if added is None:
        added = roll_up(rows, registry.list_declared(connection, {scope.service for scope in scopes}))
    stored, driver = [(*to_columns(row)[:-1], ids[row[-1]]) for row in rows], connection.connection.driver_connection
    if connection.dialect.name == "sqlite":
        _insert_into_sqlite(driver, stored)
    else:
        _copy_into_postgresql(driver, stored)
    lock_rollups(connection)
    add_sums(connection, bound(added, partial(registry.admit, connection)), ids)


def _insert_into_sqlite(driver: Any, rows: Sequence[tuple[Any, ...]]) -> None:
    """Insert the columns that are used in a batch: each further one costs, even if it is null."""
    used = tuple(place for place, column in enumerate(zip(*rows, strict=True)) if column.count(None) < len(rows))
    one, many = _insert_statements(used)
    kept = list(map(itemgetter(*used), rows))
    whole = len(rows) - len(rows) % _ROWS_A_STATEMENT
    try:
        for start in range(0, whole, _ROWS_A_STATEMENT):
            driver.execute(many, tuple(chain.from_iterable(kept[start : start + _ROWS_A_STATEMENT])))
        driver.executemany(one, kept[whole:])
    except sqlite3.IntegrityError as error:
        raise _KnownId from error


@cache
def _insert_statements(used: tuple[int, ...]) -> tuple[str, str]:
    """Return the statements that insert one row, and many, of the columns at these places."""
    names = ", ".join((*((*COLUMNS, "scope_id")[place] for place in used), "rolled_up"))
    holes = f"({', '.join('?' * len(used))}, {COUNTED_BY_WRITER})"
    one = f"INSERT INTO retrievals ({names}) VALUES {holes}"
    return one, f"{one}{f', {holes}' * (_ROWS_A_STATEMENT - 1)}"


def _copy_into_postgresql(driver: Any, rows: Sequence[tuple[Any, ...]]) -> None:
    from psycopg.errors import UniqueViolation

    try:
        with driver.cursor() as cursor, cursor.copy(f"COPY retrievals ({_NAMES}) FROM STDIN") as copy:
            for row in rows:
                copy.write_row((*row, COUNTED_BY_WRITER))
    except UniqueViolation as error:
        raise _KnownId from error


@cache
def _upsert(table: Table, mark: str) -> str:
    return upsert(table, _holes(mark, len(table.columns)))


def _holes(mark: str, count: int) -> str:
    return f"VALUES ({', '.join([mark] * count)})"

"""Gateway to the retrieval log, writing only: rows and their rollups are stored together, or not at all.

`open_log` chooses by URL: SQLite and PostgreSQL here, ClickHouse in `clickhouse.py`. The deck does the reading.
"""

import time
from collections.abc import Sequence
from itertools import chain
from threading import Lock
from typing import Any, Protocol
from weakref import WeakKeyDictionary, finalize

from sqlalchemy import Connection, text

from quarterdeck.clickhouse import ClickHouseLog, is_clickhouse
from quarterdeck.retrieval import COLUMNS, Row
from quarterdeck.rollups import Rollups, roll_up
from quarterdeck.schema import ROLLUP_LOCK, ROLLUPS, daily, upsert_daily, upsert_rollup
from quarterdeck.store import Store

_ROWS_A_STATEMENT = 100  # SQLite runs a statement without Python's lock: fewer, larger steps
_PURGE_SLICE = 10_000
_NAMES = ", ".join(COLUMNS)
_HOLES = f"({', '.join('?' * len(COLUMNS))}, 1)"
_INSERT_ONE = f"INSERT INTO retrievals ({_NAMES}, rolled_up) VALUES {_HOLES}"
_INSERT_MANY = f"{_INSERT_ONE}{f', {_HOLES}' * (_ROWS_A_STATEMENT - 1)}"


class RetrievalLog(Protocol):
    """Where retrievals are stored, in any database."""

    @property
    def name(self) -> str:
        """The log's URL without its password."""

    def append(self, rows: Sequence[Row], within: Connection | None = None) -> None:
        """Store checked rows and what they add to the rollups, all or none. Raises SourceUnavailable.

        `within` is a writing transaction that is already open. If it is of the store that holds this log, the rows
        are committed or rolled back with it. A log that lies elsewhere stores the rows before this returns.
        """

    def count_before(self, before_ms: int) -> int:
        """Return how many rows are older than `before_ms`, milliseconds since the epoch."""

    def purge(self, before_ms: int) -> int:
        """Delete rows older than `before_ms`, in slices; return how many. The rollups stay: they hold no text."""

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


class SqlLog:
    """The log in the tables of a store: SQLite or PostgreSQL."""

    def __init__(self, store: Store) -> None:
        self.store = store

    @property
    def name(self) -> str:
        """The log's URL without its password."""
        return self.store.name

    def append(self, rows: Sequence[Row], within: Connection | None = None) -> None:
        """Store checked rows and what they add to the rollups, in one transaction. Raises SourceUnavailable."""
        added = roll_up(rows)
        if within is not None and self.store.owns(within):
            _append(within, rows, added)
            return
        with self.store.begin_in_turn() as connection:
            _append(connection, rows, added)

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

    def close(self) -> None:
        """Close every connection."""
        self.store.close()

    def forget_connections(self) -> None:
        """Drop the connections that a forked child inherited, without closing the parent's."""
        self.store.forget_connections()


def _append(connection: Connection, rows: Sequence[Row], added: Rollups) -> None:
    driver = connection.connection.driver_connection
    if connection.dialect.name == "sqlite":
        _insert_into_sqlite(driver, rows, added)
        return
    _copy_into_postgresql(driver, rows)
    connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": ROLLUP_LOCK})
    for statement, values in _list_upserts(added, "%s"):
        connection.exec_driver_sql(statement, values)


def _insert_into_sqlite(driver: Any, rows: Sequence[Row], added: Rollups) -> None:
    whole = len(rows) - len(rows) % _ROWS_A_STATEMENT
    for start in range(0, whole, _ROWS_A_STATEMENT):
        driver.execute(_INSERT_MANY, tuple(chain.from_iterable(rows[start : start + _ROWS_A_STATEMENT])))
    driver.executemany(_INSERT_ONE, rows[whole:])
    for statement, values in _list_upserts(added, "?"):
        driver.executemany(statement, values)


def _copy_into_postgresql(driver: Any, rows: Sequence[Row]) -> None:
    with driver.cursor() as cursor, cursor.copy(f"COPY retrievals ({_NAMES}, rolled_up) FROM STDIN") as copy:
        for row in rows:
            copy.write_row((*row, 1))


def _list_upserts(added: Rollups, mark: str) -> list[tuple[str, list[tuple[object, ...]]]]:
    return [
        *(
            (upsert_rollup(ROLLUPS[period_ms].name, _holes(mark, 8)), rows)
            for period_ms, rows in added.by_period.items()
        ),
        (upsert_daily(_holes(mark, len(daily.columns))), added.daily),
    ]


def _holes(mark: str, count: int) -> str:
    return f"VALUES ({', '.join([mark] * count)})"

"""Gateway to the shared store in SQLite or PostgreSQL: engines, transactions and the schema's revision.

What rows mean is not its concern: `recorder.py` appends retrievals, `snapshot.py` reads flags, the deck does the rest.
"""

import json
import os
import sqlite3
import time
import weakref
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

try:
    import fcntl
except ModuleNotFoundError:  # Windows: writers do not queue
    fcntl = None  # type: ignore[assignment]

from sqlalchemy import (
    URL,
    ColumnElement,
    Connection,
    Engine,
    Float,
    Select,
    case,
    create_engine,
    event,
    func,
    inspect,
    make_url,
    select,
    text,
)
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, SQLAlchemyError
from sqlalchemy.pool import QueuePool

from quarterdeck.errors import InvalidInput, QuarterdeckError, SourceUnavailable, first_line
from quarterdeck.schema import REVISION, alembic_version
from quarterdeck.triggers import create_schema

_CHECKPOINT_PAGES = 8_000  # 32 MB. Checkpoints wait for the disk: the default of 1,000 slows a busy writer
_UNPACKED_AT_ONCE = 1_000
_SCHEMA_LOCK = 0x71756172  # "quar": PostgreSQL's advisory lock while the schema is created

_REMEDIES = {  # by SQLite's message
    "file is not a database": "Restore a backup with `quarterdeck restore`, or name another file",
    "disk image is malformed": "Restore a backup with `quarterdeck restore`",
    "database is locked": "Another program is writing to it; try again when that is done",
    "readonly database": "Let the user of this process write the file and its folder",
    "unable to open database file": "Check that this user may read and write the file and its folder",
    "disk is full": "Free space on the disk; nothing that was stored is lost",
}


class Store:
    """The shared store behind one database URL. Opening is lazy: the first transaction connects.

    `begin()` opens a writing transaction, `read()` a reading one; both turn database errors into SourceUnavailable.
    With `create=True` a store that does not exist is created; otherwise a missing one is an error.
    A store of another release is refused. Only a `tolerant` caller, such as a client, accepts a newer store that says
    it still serves clients of this release: upgrading the deck stops no service.
    `wait_s` is how long to wait for a lock or a server, in seconds. `log_url` names the retrieval log if it is not in
    this store; see `log.as_log`.
    """

    log_url: str | None = None

    def __init__(
        self,
        url: str,
        *,
        create: bool = False,
        tolerant: bool = False,
        wait_s: float = 5.0,
        log_url: str | None = None,
    ) -> None:
        self.url = _parse_url(url)
        self.log_url = log_url if log_url != url else None
        self.name = self.url.render_as_string(hide_password=True)
        self.create = create
        self._tolerant = tolerant
        self._ready: tuple[int, int] | None = None  # the file whose schema was checked; (0, 0) for a server
        self._writer = _make_engine(self.url, create=create, read_only=False, wait_s=wait_s)
        self._reader = _make_engine(self.url, create=False, read_only=True, wait_s=min(wait_s, 2.0))
        weakref.finalize(self, _give_back, self._writer, self._reader, os.getpid()).atexit = False

    @property
    def _driver_error(self) -> type[Exception]:
        """The driver's own error class, for calls that bypass SQLAlchemy."""
        return self._writer.dialect.loaded_dbapi.Error

    @property
    def dialect(self) -> str:
        """The database in use: `sqlite` or `postgresql`."""
        return self._writer.dialect.name

    @contextmanager
    def begin(self) -> Iterator[Connection]:
        """Open a writing transaction: all of it is committed, or nothing. Raises SourceUnavailable.

        SQLite transactions start IMMEDIATE, so that a reader that turns writer cannot fail halfway.
        """
        with self._translated_errors():
            self._ensure_schema()
            with self._writer.begin() as connection:
                yield connection

    @contextmanager
    def begin_in_turn(self) -> Iterator[Connection]:
        """Open a writing transaction as `begin` does, after queueing for a file lock with other such writers.

        A SQLite writer that finds the store locked polls, and may starve for seconds beside three busy processes. The
        operating system hands a lock on a file beside the store to the next writer at once.
        """
        path = database_path(self.url)
        if path is None or fcntl is None or not path.parent.exists():
            with self.begin() as connection:
                yield connection
            return
        with self._translated_errors(), path.with_name(f"{path.name}-turn").open("ab") as turn:
            fcntl.flock(turn, fcntl.LOCK_EX)
            try:
                with self.begin() as connection:
                    yield connection
            finally:
                fcntl.flock(
                    turn, fcntl.LOCK_UN
                )  # closing is not enough: a process forked meanwhile keeps the file open

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Open a reading transaction: it sees the store as of one moment. Raises SourceUnavailable."""
        with self._translated_errors():
            self._ensure_schema()
            with self._reader.begin() as connection:
                yield connection

    def owns(self, connection: Connection) -> bool:
        """Return whether a connection comes from `begin` or `begin_in_turn` of this very store."""
        return connection.engine is self._writer

    def listen(self, channel: str) -> Any:
        """Return a connection of PostgreSQL's driver that listens on `channel`; None for SQLite.

        The caller owns it and closes it.
        """
        if self.dialect != "postgresql":
            return None
        with self._translated_errors():
            pooled = self._reader.raw_connection()
            connection: Any = pooled.driver_connection
            pooled.detach()
            try:
                connection.rollback()
                connection.autocommit = True
                connection.execute(f"LISTEN {channel}")
            except BaseException:
                connection.close()
                raise
            return connection

    def find_revision(self) -> str | None:
        """Return the schema's revision, of any release; None if there is no store yet."""
        path = database_path(self.url)
        if path is not None and not path.exists():
            return None
        with self._translated_errors(), self._reader.begin() as connection:
            return _read_revision(connection)

    @contextmanager
    def begin_schema(self) -> Iterator[tuple[Connection, str | None]]:
        """Open a transaction that changes the schema, one at a time, with the revision found in it."""
        with self._translated_errors(), self._writer.begin() as connection:
            self._lock_schema(connection)
            yield connection, _read_revision(connection)

    def describe_foreign(self, revision: str) -> str:
        """Return one line that says what to do with a store of another revision."""
        remedy = "Run: quarterdeck migrate" if revision < REVISION else "Upgrade Quarterdeck"
        return f"{self.name} has schema revision {revision}, this release knows {REVISION}. {remedy}."

    def close(self) -> None:
        """Close every connection. A later transaction opens new ones."""
        self._writer.dispose()
        self._reader.dispose()

    def forget_connections(self) -> None:
        """Drop the connections that a forked child inherited, without closing the parent's."""
        self._writer.dispose(close=False)
        self._reader.dispose(close=False)

    def _ensure_schema(self) -> None:
        path = database_path(self.url)
        if self._ready is not None:
            if self._ready == _identify(path):
                return
            self.close()  # the file was replaced: open connections belong to the former one
            self._ready = None
        if path is not None and not self.create and not path.exists():
            raise SourceUnavailable(
                f"No store at {path}. Run `quarterdeck demo` to build one, or set QUARTERDECK_DATABASE_URL."
            )
        if path is not None and self.create:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch(mode=0o600)  # what users asked is in it; SQLite gives the files beside it the same rights
        with (self._writer if self.create else self._reader).begin() as connection:
            if self.create:
                self._lock_schema(connection)
            revision = _read_revision(connection)
            if revision is None and not self.create:
                raise SourceUnavailable(
                    f"{self.name} holds no Quarterdeck tables. Run `quarterdeck demo` to make them."
                )
            if revision is None:
                create_schema(connection)
            elif revision != REVISION and not (self._tolerant and _serves_us(revision)):
                raise SourceUnavailable(self.describe_foreign(revision))
        self._ready = _identify(path)

    def _lock_schema(self, connection: Connection) -> None:
        """Let only one process create or change tables; SQLite allows one writer anyway."""
        if self.dialect == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _SCHEMA_LOCK})

    @contextmanager
    def _translated_errors(self) -> Iterator[None]:
        try:
            yield
        except QuarterdeckError:
            raise
        except DBAPIError as error:
            raise SourceUnavailable(self._describe_failure(error.orig)) from error
        except (SQLAlchemyError, OSError, self._driver_error) as error:
            raise SourceUnavailable(self._describe_failure(error)) from error

    def _describe_failure(self, error: BaseException | None) -> str:
        """Return what went wrong in one line, and what to do if that is known."""
        line = first_line(error)
        remedy = next((f" {remedy}." for sign, remedy in _REMEDIES.items() if sign in line), "")
        return f"The store {self.name} failed: {line}.{remedy}"


def fetch_many(
    connection: Connection, query: Select[*tuple[Any, ...]], *, exact: bool = False
) -> Iterable[Sequence[Any]]:
    """Return the rows of a query with thousands of rows, in its order; numbers have 15 digits unless they are `exact`.

    sqlite3 releases Python's lock for every row, and beside a busy thread gets it back milliseconds later: 86,000 rows
    took 286 s instead of 0.8. So SQLite packs all rows into one text, a line each. They are unpacked a thousand at a
    time, because the lock is held while one text is parsed.
    """
    if connection.dialect.name != "sqlite":
        return connection.execute(query)
    columns = [_spell(column) if exact else column for column in query.subquery().c]
    packed = connection.scalar(select(func.group_concat(func.json_array(*columns), "\n")))
    lines = packed.split("\n") if packed else []  # a line break within a text is escaped
    rows: list[list[Any]] = []
    for first in range(0, len(lines), _UNPACKED_AT_ONCE):
        rows += json.loads(f"[{','.join(lines[first : first + _UNPACKED_AT_ONCE])}]")
    return rows


def _spell(column: ColumnElement[Any]) -> ColumnElement[Any]:
    """Return a number with all its digits, as JSON; columns of other types as they are."""
    if not isinstance(column.type, Float):
        return column
    return func.json(case((column.is_(None), "null"), else_=func.printf("%!.17g", column)))


def _give_back(writer: Engine, reader: Engine, pid: int) -> None:
    """Close the connections of a store that was garbage-collected. Only the process that opened them may."""
    if os.getpid() == pid:
        writer.dispose()
        reader.dispose()


def _read_revision(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    return str(connection.scalar(select(alembic_version.c.version_num)))


def _serves_us(revision: str) -> bool:
    """Return whether a newer revision names ours as one that it still serves."""
    return "" < revision.partition("_serves_")[2] <= REVISION


def _identify(path: Path | None) -> tuple[int, int] | None:
    """Return what distinguishes a file from another one at the same path; None if there is none."""
    if path is None:
        return (0, 0)
    try:
        found = path.stat()
    except OSError:
        return None
    return (found.st_dev, found.st_ino)


def database_path(url: URL) -> Path | None:
    """Return the file behind a SQLite URL, or None for a server's."""
    return Path(url.database) if url.get_backend_name() == "sqlite" and url.database else None


def _parse_url(url: str) -> URL:
    try:
        parsed = make_url(url)
        backend = parsed.get_backend_name()
    except (ArgumentError, NoSuchModuleError, ValueError) as error:
        raise InvalidInput(
            "database URL", "not a database URL; give one like sqlite:///data/var/quarterdeck.db"
        ) from error
    if backend == "postgresql":
        return parsed.set(drivername="postgresql+psycopg")
    if backend != "sqlite":
        raise InvalidInput("database URL", f"{backend} is not supported; use sqlite:/// or postgresql://")
    if not parsed.database or parsed.database == ":memory:":
        raise InvalidInput("database URL", "a shared store needs a file, for example sqlite:///data/var/quarterdeck.db")
    _read_durability(parsed)
    return parsed


def _read_durability(url: URL) -> str:
    """Return how a SQLite file is written: NORMAL, or FULL, which waits for the disk at every transaction."""
    wanted = str(url.query.get("synchronous", "NORMAL")).upper()
    if wanted not in ("NORMAL", "FULL"):
        raise InvalidInput("database URL", f"synchronous must be NORMAL or FULL, not {wanted[:20]!r}")
    return wanted


def _make_engine(url: URL, *, create: bool, read_only: bool, wait_s: float) -> Engine:
    if url.get_backend_name() == "sqlite":
        return _make_sqlite_engine(url, create=create, read_only=read_only, wait_s=wait_s)
    try:
        options = "-c default_transaction_read_only=on" if read_only else ""
        return create_engine(
            url, pool_pre_ping=True, pool_size=5, connect_args={"connect_timeout": int(wait_s), "options": options}
        )
    except ModuleNotFoundError as error:
        raise SourceUnavailable("PostgreSQL needs its driver: pip install 'quarterdeck[postgresql]'.") from error


def _make_sqlite_engine(url: URL, *, create: bool, read_only: bool, wait_s: float) -> Engine:
    path, mode = Path(str(url.database)), "rwc" if create else "rw"

    def connect() -> sqlite3.Connection:
        uri = f"{path.absolute().as_uri()}?mode={mode}"
        return sqlite3.connect(uri, uri=True, timeout=wait_s, isolation_level=None, check_same_thread=False)

    engine = create_engine("sqlite://", creator=connect, poolclass=QueuePool)

    @event.listens_for(engine, "connect")
    def prepare(connection: Any, _record: Any) -> None:
        connection.execute(f"PRAGMA busy_timeout = {int(wait_s * 1000)}")
        if read_only:
            connection.execute("PRAGMA query_only = ON")
        else:
            _write_ahead(connection, wait_s)
            connection.execute(f"PRAGMA synchronous = {_read_durability(url)}")
            connection.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")

    @event.listens_for(engine, "begin")
    def start(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN" if read_only else "BEGIN IMMEDIATE")

    return engine


def _write_ahead(connection: Any, wait_s: float) -> None:
    """Switch to write-ahead logging. If several open a new file at once, SQLite refuses all but one without waiting."""
    end = time.monotonic() + wait_s
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() >= end:
                raise
            time.sleep(0.01)

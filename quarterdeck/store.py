"""Gateway to the shared store: engines, transactions and the schema's revision. Knows SQLite and PostgreSQL.

What the rows mean is for others: `recorder.py` appends retrievals, `client.py` reads flags, the deck does the rest.
"""

import json
import logging
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
except ModuleNotFoundError:  # Windows: writers go without waiting in line
    fcntl = None  # type: ignore[assignment]

from sqlalchemy import URL, Connection, Engine, Select, create_engine, event, func, inspect, make_url, select, text
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, SQLAlchemyError
from sqlalchemy.pool import QueuePool

from quarterdeck.errors import InvalidInput, QuarterdeckError, SourceUnavailable
from quarterdeck.schema import REVISION, alembic_version, create_schema

DEFAULT_ENVIRONMENT = "production"
logger = logging.getLogger("quarterdeck")

_CHECKPOINT_PAGES = 8_000  # 32 MB: a checkpoint waits for the disk, so the default of 1,000 slows a busy writer
_UNPACKED_AT_ONCE = 1_000
_SCHEMA_LOCK = 0x71756172  # "quar": PostgreSQL's advisory lock while the schema is made

_REMEDIES = {  # by SQLite's words
    "file is not a database": "Bring a copy back with `quarterdeck restore`, or name another file",
    "disk image is malformed": "Bring a copy back with `quarterdeck restore`",
    "database is locked": "Another program holds it; try again when that is done",
    "readonly database": "Let the user of this process write the file and its folder",
    "unable to open database file": "Look whether this user may read and write the file and its folder",
    "disk is full": "Make room on the disk; nothing was lost that had been stored",
}


class Store:
    """The shared store behind one database URL. Opening is lazy: the first transaction connects.

    `begin()` gives a writing transaction, `read()` a reading one; both turn database errors into SourceUnavailable.
    With `create=True` a store that is not there yet is made; otherwise a missing one is reported, never created.
    A store of another release is refused, unless it is newer, says that it still serves clients of this one, and the
    caller is `tolerant`, as clients are: an upgrade of the deck stops no service.
    `log_url` says where the retrieval log is, if not in this very store; see `log.as_log`.
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
        self._ready: tuple[int, int] | None = None  # the file whose tables were seen; (0, 0) stands for a server's
        self._writer = _make_engine(self.url, create=create, read_only=False, wait_s=wait_s)
        self._reader = _make_engine(self.url, create=False, read_only=True, wait_s=min(wait_s, 2.0))
        weakref.finalize(self, _give_back, self._writer, self._reader, os.getpid()).atexit = False

    @property
    def _driver_error(self) -> type[Exception]:
        """What the driver raises where SQLAlchemy is not between."""
        return self._writer.dialect.loaded_dbapi.Error

    @property
    def dialect(self) -> str:
        """The database in use: `sqlite` or `postgresql`."""
        return self._writer.dialect.name

    @contextmanager
    def begin(self) -> Iterator[Connection]:
        """Open a writing transaction: all of it lands, or none.

        SQLite transactions start IMMEDIATE, so that a reader turned writer cannot fail half-way.
        """
        with self._translated_errors():
            self._ensure_schema()
            with self._writer.begin() as connection:
                yield connection

    @contextmanager
    def begin_in_turn(self) -> Iterator[Connection]:
        """Open a writing transaction as `begin` does, after waiting in line with the others that do.

        SQLite lets a writer that finds the file locked look again now and then: beside three busy processes it may find
        no gap for seconds. A lock on a file beside the store is handed on by the system as soon as it is free.
        """
        path = database_path(self.url)
        if path is None or fcntl is None or not path.parent.exists():
            with self.begin() as connection:
                yield connection
            return
        with self._translated_errors(), path.with_name(f"{path.name}-turn").open("ab") as turn:
            fcntl.flock(turn, fcntl.LOCK_EX)
            with self.begin() as connection:
                yield connection

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Open a reading transaction: everything in it is seen as of one moment."""
        with self._translated_errors():
            self._ensure_schema()
            with self._reader.begin() as connection:
                yield connection

    def listen(self, channel: str) -> Any:
        """Return a connection of PostgreSQL's driver that hears what is announced on `channel`; None for SQLite's.

        It belongs to the caller alone, who closes it.
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
        """Return the schema's revision, whatever it is; None where there is no store yet."""
        path = database_path(self.url)
        if path is not None and not path.exists():
            return None
        with self._translated_errors(), self._reader.begin() as connection:
            return _read_revision(connection)

    @contextmanager
    def begin_schema(self) -> Iterator[tuple[Connection, str | None]]:
        """Open the transaction of a change of the schema, one at a time; the revision is the one found in it."""
        with self._translated_errors(), self._writer.begin() as connection:
            self._lock_schema(connection)
            yield connection, _read_revision(connection)

    def describe_foreign(self, revision: str) -> str:
        """Return in one line what to do with a store of another revision."""
        remedy = "Run: quarterdeck migrate" if revision < REVISION else "Upgrade Quarterdeck"
        return f"{self.name} has schema revision {revision}, this release knows {REVISION}. {remedy}."

    def close(self) -> None:
        """Give back every connection. A later transaction opens new ones."""
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
            self.close()  # the file was replaced under us: what is open belongs to the former one
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
        """Let one at a time make or change tables; SQLite's writing transactions are alone anyway."""
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
        """What went wrong in one line, and what to do where that is known."""
        line = _first_line(error)
        remedy = next((f" {remedy}." for sign, remedy in _REMEDIES.items() if sign in line), "")
        return f"The store {self.name} failed: {line}.{remedy}"


def fetch_many(connection: Connection, query: Select[Any]) -> Iterable[Sequence[Any]]:
    """Return the rows of a query that has thousands, in its order.

    Python lets go of its lock for each row that it steps to in SQLite, and where another thread is busy gets it back
    milliseconds later: 86,000 rows took 286 s that way instead of 0.8. So SQLite packs them into one, a line each, and
    they are unpacked a thousand at a time, for the lock is held as long as one text is read.
    """
    if connection.dialect.name != "sqlite":
        return connection.execute(query)
    packed = connection.scalar(select(func.group_concat(func.json_array(*query.subquery().c), "\n")))
    lines = packed.split("\n") if packed else []  # a break within a text is escaped
    rows: list[list[Any]] = []
    for first in range(0, len(lines), _UNPACKED_AT_ONCE):
        rows += json.loads(f"[{','.join(lines[first : first + _UNPACKED_AT_ONCE])}]")
    return rows


def _give_back(writer: Engine, reader: Engine, pid: int) -> None:
    """Close what a store that nobody holds any more has open. A forked child's copies are the parent's to close."""
    if os.getpid() == pid:
        writer.dispose()
        reader.dispose()


def _read_revision(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    return str(connection.scalar(select(alembic_version.c.version_num)))


def _serves_us(revision: str) -> bool:
    """Whether a newer schema says in its name that it still serves clients of ours."""
    return "" < revision.partition("_serves_")[2] <= REVISION


def _identify(path: Path | None) -> tuple[int, int] | None:
    """Return what tells a file from another one at the same path; None when there is none."""
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
    return parsed


def _make_engine(url: URL, *, create: bool, read_only: bool, wait_s: float) -> Engine:
    if url.get_backend_name() == "sqlite":
        return _make_sqlite_engine(Path(str(url.database)), create=create, read_only=read_only, wait_s=wait_s)
    try:
        options = "-c default_transaction_read_only=on" if read_only else ""
        return create_engine(
            url, pool_pre_ping=True, pool_size=5, connect_args={"connect_timeout": int(wait_s), "options": options}
        )
    except ModuleNotFoundError as error:
        raise SourceUnavailable("PostgreSQL needs its driver: pip install 'quarterdeck[postgresql]'.") from error


def _make_sqlite_engine(path: Path, *, create: bool, read_only: bool, wait_s: float) -> Engine:
    mode = "rwc" if create else "rw"

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
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")

    @event.listens_for(engine, "begin")
    def start(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN" if read_only else "BEGIN IMMEDIATE")

    return engine


def _write_ahead(connection: Any, wait_s: float) -> None:
    """Turn to write-ahead logging. Where several open a new file at once SQLite refuses all but one without waiting."""
    end = time.monotonic() + wait_s
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() >= end:
                raise
            time.sleep(0.01)


def _first_line(error: BaseException | None) -> str:
    return str(error).strip().splitlines()[0].rstrip(".") if error and str(error).strip() else type(error).__name__

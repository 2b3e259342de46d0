"""Gateway to backups of the shared store: one file with everything in it as of one moment, verified before it counts.

SQLite is copied by its own online backup, PostgreSQL by COPY in one transaction; neither blocks writers. A retrieval
log elsewhere, MLflow and the corpus need backups of their own.
"""

import hashlib
import json
import os
import shutil
import sqlite3
import tempfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Table, func, select, text

from core.audit.trail import list_broken_audit_entries
from core.errors import Conflict, InvalidInput, NotFound, SourceUnavailable
from core.store.transfers import list_tables, transfer_rows
from quarterdeck.schema import REVISION, metadata, scopes
from quarterdeck.store import Store, database_path
from quarterdeck.triggers import TRIGGERS, make_triggers

_MANIFEST, _DATABASE = "manifest.json", "store.db"
_FORMAT = 1
_CHUNK = 1 << 20
_WAIT_S = 30.0


@dataclass(frozen=True, slots=True)
class Backup:
    """The content of a backup: its database, schema revision, and the number of rows of each table."""

    created: str
    dialect: str
    revision: str
    rows: dict[str, int]
    digests: dict[str, str]


def write_backup(store: Store, path: Path, *, now: datetime) -> Backup:
    """Back up the store to a new file, check it, and return its content. A failed backup leaves nothing behind.

    Raises Conflict when the file exists, SourceUnavailable when the store or the file fails.
    """
    if path.exists():
        raise Conflict(f"{path} already exists; choose another name")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}-") as folder:
            made = Path(folder) / "made"
            made.mkdir()
            rows = _copy_sqlite(store, made) if store.dialect == "sqlite" else _copy_postgresql(store, made)
            digests = {each.name: _digest(each) for each in sorted(made.iterdir())}
            backup = Backup(now.isoformat(), store.dialect, REVISION, rows, digests)
            whole = Path(folder) / "whole.zip"
            _pack(whole, made, backup)
            verify_backup(whole)
            whole.rename(path)
    except (OSError, sqlite3.Error, zipfile.BadZipFile) as error:
        raise SourceUnavailable(f"the backup {path} was not made: {error}") from error
    return backup


def verify_backup(path: Path) -> Backup:
    """Return the content of a backup after checking that it is complete and its audit trail is intact.

    Raises NotFound if there is no such file, SourceUnavailable if it is damaged, InvalidInput if it is not a backup.
    """
    with _unpacked(path) as (folder, backup):
        if backup.dialect == "sqlite":
            _check_sqlite(path, folder / _DATABASE, backup)
    return backup


def restore_backup(path: Path, url: str, *, replace: bool = False, now: datetime) -> tuple[Backup, Path | None]:
    """Restore a backup to a store, all or nothing; return its content, and where the former store is kept.

    A backup of the other kind of database goes into a new store only, and needs this release's revision. Raises
    Conflict when the store has data and `replace` is not set, InvalidInput for another revision. Stop everything that
    has the store open first, because its writes would go to the former store.
    """
    store = Store(url, create=True)
    with _unpacked(path) as (folder, backup):
        try:
            if backup.dialect == "sqlite":
                _check_sqlite(path, folder / _DATABASE, backup)
            if backup.dialect != store.dialect:
                _check_revision(backup)
                transfer_rows(folder, backup.dialect, store)
                return backup, None
            if backup.dialect == "sqlite":
                return backup, _restore_sqlite(store, folder / _DATABASE, replace=replace, now=now)
            _restore_postgresql(store, folder, backup, replace=replace)
        except OSError as error:
            raise SourceUnavailable(f"the store was not restored: {error}") from error
        finally:
            store.close()
    return backup, None


def _copy_sqlite(store: Store, folder: Path) -> dict[str, int]:
    path = Path(str(database_path(store.url))).absolute()
    with store.read():  # raises if the store is missing or of another release
        pass
    with (
        closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=_WAIT_S)) as source,
        closing(sqlite3.connect(folder / _DATABASE)) as target,
    ):
        source.backup(target)
        target.execute("PRAGMA journal_mode = DELETE")
        return _count_sqlite(target, [table.name for table in metadata.sorted_tables])


def _count_sqlite(connection: sqlite3.Connection, tables: Iterable[str]) -> dict[str, int]:
    known = {str(row[0]) for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    return {
        name: int(connection.execute(f"SELECT COUNT(*) FROM {name}").fetchone()[0]) for name in tables if name in known
    }


def _check_sqlite(path: Path, database: Path, backup: Backup) -> None:
    try:
        with closing(sqlite3.connect(database)) as connection:
            found = connection.execute("PRAGMA integrity_check").fetchone()[0]
            if found != "ok":
                raise SourceUnavailable(f"{path} is damaged: {found}")
            if foreign := _list_foreign(connection):
                raise SourceUnavailable(f"{path} is no backup of a store: it would run {', '.join(foreign)}")
            if _count_sqlite(connection, backup.rows) != backup.rows:
                raise SourceUnavailable(f"{path} is damaged: its rows differ from its own list")
    except sqlite3.Error as error:
        raise SourceUnavailable(f"{path} is damaged: {error}") from error
    copy = Store(f"sqlite:///{database}")
    broken = list_broken_audit_entries(copy)
    copy.close()
    if broken:
        raise SourceUnavailable(f"{path}: the audit trail is broken at entry {broken[0]}")


def _list_foreign(connection: sqlite3.Connection) -> list[str]:
    """Return the triggers and views that no release makes: their statements would run in the restored store."""
    found = connection.execute("SELECT type, name FROM sqlite_master WHERE type IN ('trigger', 'view') ORDER BY name")
    return [f"the {kind} {name}" for kind, name in found if name not in TRIGGERS]


def _replace_trigger(database: Path) -> None:
    """Replace the trigger of a store of this release: its name may hide other statements. A migration does the same."""
    copy = Store(f"sqlite:///{database}")
    if copy.find_revision() == REVISION:
        with copy.begin() as connection:
            make_triggers(connection)
    copy.close()


def _restore_sqlite(store: Store, database: Path, *, replace: bool, now: datetime) -> Path | None:
    path = database_path(store.url)
    assert path is not None
    path.parent.mkdir(parents=True, exist_ok=True)
    former = None
    if path.exists():
        if not replace:
            raise Conflict(f"{path} already exists; use --replace to keep it aside and restore")
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        former = path.with_name(f"{path.name}.before-restore-{now:%Y%m%dT%H%M%S}")
    arriving = path.with_name(f".{path.name}.arriving")
    shutil.copyfile(database, arriving)
    _replace_trigger(arriving)
    with arriving.open("rb") as file:
        os.fsync(file.fileno())
    if former is not None:
        path.rename(former)
        for suffix in ("-wal", "-shm"):  # empty after the checkpoint; next to the new file they would corrupt it
            path.with_name(path.name + suffix).unlink(missing_ok=True)
    arriving.rename(path)
    return former


def _copy_postgresql(store: Store, folder: Path) -> dict[str, int]:
    rows = {}
    with store.read() as connection:
        connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        for table in list_tables():
            rows[table.name] = int(connection.scalar(select(func.count()).select_from(table)) or 0)
            with (folder / table.name).open("wb") as file, _copy(connection, table, "TO STDOUT") as copy:
                for part in copy:
                    file.write(part)
    return rows


def _check_revision(backup: Backup) -> None:
    if backup.revision != REVISION:
        raise InvalidInput("backup", f"is of revision {backup.revision}; restore it with the release that wrote it")


def _restore_postgresql(store: Store, folder: Path, backup: Backup, *, replace: bool) -> None:
    _check_revision(backup)
    with store.begin() as connection:
        filled = [t.name for t in list_tables() if connection.scalar(select(func.count()).select_from(t))]
        filled = [name for name in filled if name != scopes.name]  # a new store has its first scope
        if filled and not replace:
            raise Conflict(f"{store.name} already has {', '.join(filled)}; use --replace to empty it and restore")
        connection.execute(text(f"TRUNCATE {', '.join(table.name for table in list_tables())}"))
        connection.execute(text("ALTER TABLE retrievals DISABLE TRIGGER USER"))  # the backup contains its rollups
        for table in list_tables():
            with (folder / table.name).open("rb") as file, _copy(connection, table, "FROM STDIN") as copy:
                while part := file.read(_CHUNK):
                    copy.write(part)
            for column in table.primary_key if table.autoincrement_column is not None else ():
                newest = f"(SELECT COALESCE(MAX({column.name}), 0) + 1 FROM {table.name})"
                sequence = f"pg_get_serial_sequence('{table.name}', '{column.name}')"
                connection.execute(text(f"SELECT setval({sequence}, {newest}, false)"))
        connection.execute(text("ALTER TABLE retrievals ENABLE TRIGGER USER"))
        found = {t.name: int(connection.scalar(select(func.count()).select_from(t)) or 0) for t in list_tables()}
        if found != backup.rows:
            raise SourceUnavailable("the store was not restored: its rows would differ from the backup's list")


def _copy(connection: Connection, table: Table, direction: str) -> Any:
    driver: Any = connection.connection.driver_connection
    columns = ", ".join(f'"{column.name}"' for column in table.columns)
    return driver.cursor().copy(f"COPY {table.name} ({columns}) {direction}")


def _pack(whole: Path, folder: Path, backup: Backup) -> None:
    with zipfile.ZipFile(whole, "x", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr(_MANIFEST, json.dumps({"format": _FORMAT, **asdict(backup)}, indent=2))
        for each in sorted(folder.iterdir()):
            archive.write(each, each.name)
    whole.chmod(0o600)  # it contains users' questions and the secrets of webhooks
    with whole.open("rb") as file:
        os.fsync(file.fileno())


@contextmanager
def _unpacked(path: Path) -> Iterator[tuple[Path, Backup]]:
    """Unpack a backup next to it and check every part by its digest."""
    if not path.is_file():
        raise NotFound(f"backup: there is no file {path}")
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}-") as name:
        folder = Path(name)
        try:
            with zipfile.ZipFile(path) as archive:
                given = json.loads(archive.read(_MANIFEST))
                if given.pop("format") != _FORMAT:
                    raise InvalidInput("backup", f"{path} has a format that this release does not know")
                backup = Backup(**given)
                for part, digest in backup.digests.items():
                    if not part.replace("_", "").replace(".", "").isalnum():
                        raise InvalidInput("backup", f"{path} names a part {part!r}")
                    with archive.open(part) as source, (folder / part).open("wb") as target:
                        shutil.copyfileobj(source, target, _CHUNK)
                    if _digest(folder / part) != digest:
                        raise SourceUnavailable(f"{path} is damaged: {part} differs from what was written")
        except (zipfile.BadZipFile, zipfile.LargeZipFile, zlib.error, EOFError, OSError) as error:
            raise SourceUnavailable(f"{path} is damaged or not a backup: {error}") from error
        except (KeyError, TypeError, ValueError, AttributeError, NotImplementedError, RuntimeError) as error:
            if isinstance(error, InvalidInput):
                raise
            raise InvalidInput("backup", f"{path} is damaged or not a backup: {error}") from error
        yield folder, backup


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

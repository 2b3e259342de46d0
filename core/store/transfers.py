"""Gateway to the rows of a backup, for a store of the other kind of database: from SQLite to PostgreSQL and back.

Counts and digests of what was read and of what the new store holds have to agree, or nothing is kept.
"""

import hashlib
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Double, Integer, LargeBinary, Table, delete, func, insert, select, text

from core.errors import Conflict, SourceUnavailable
from quarterdeck.schema import alembic_version, metadata, scopes
from quarterdeck.store import Store
from quarterdeck.triggers import ROLL_UP, make_triggers

_AT_ONCE = 1_000
_ESCAPES = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}
_Row = tuple[Any, ...]


def list_tables() -> list[Table]:
    """Return the tables that a backup holds."""
    return [table for table in metadata.sorted_tables if table is not alembic_version]


def transfer_rows(folder: Path, dialect: str, store: Store) -> None:
    """Write the rows of an unpacked backup of a dialect into a new store of another one, in one transaction.

    Raises Conflict when the store has data, SourceUnavailable when its rows would differ from the backup's.
    """
    with store.begin() as connection:
        for table in list_tables():
            if table is not scopes and connection.scalar(select(func.count()).select_from(table)):
                raise Conflict(f"{store.name} already has {table.name}; give the address of a new store")
        connection.execute(delete(scopes))
        _drop_trigger(connection)  # the backup contains its rollups
        for table in list_tables():
            found = _read_sqlite(folder / "store.db", table) if dialect == "sqlite" else _read_copy(folder, table)
            if _insert(connection, table, found) != _digest(tuple(row) for row in _select(connection, table)):
                raise SourceUnavailable(f"the store was not restored: {table.name} would differ from the backup")
            _go_on_counting(connection, table)
        make_triggers(connection)


def _read_sqlite(path: Path, table: Table) -> Iterator[_Row]:
    columns = ", ".join(f'"{column.name}"' for column in table.columns)
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as source:
        yield from source.execute(f"SELECT {columns} FROM {table.name}")


def _read_copy(folder: Path, table: Table) -> Iterator[_Row]:
    """Yield the rows of a file in the text format of PostgreSQL's COPY."""
    columns = list(table.columns)
    with (folder / table.name).open(encoding="utf-8", newline="\n") as file:
        for line in file:
            cells = line.removesuffix("\n").split("\t")
            yield tuple(_read_cell(cell, column.type) for cell, column in zip(cells, columns, strict=True))


def _read_cell(cell: str, kind: Any) -> Any:
    if cell == r"\N":
        return None
    if isinstance(kind, Integer):
        return int(cell)
    if isinstance(kind, Double):
        return float(cell)
    parts = cell.split("\\\\")  # an escaped backslash; what is left of them begins an escape
    plain = "\\".join(_unescape(part) for part in parts)
    return bytes.fromhex(plain[2:]) if isinstance(kind, LargeBinary) else plain


def _unescape(part: str) -> str:
    first, *rest = part.split("\\")
    return first + "".join(_ESCAPES.get(each[:1], each[:1]) + each[1:] for each in rest)


def _insert(connection: Connection, table: Table, rows: Iterator[_Row]) -> tuple[int, int]:
    names = [column.name for column in table.columns]
    waiting: list[_Row] = []

    def write() -> None:
        if waiting:
            connection.execute(insert(table), [dict(zip(names, row, strict=True)) for row in waiting])
            waiting.clear()

    def pass_on() -> Iterator[_Row]:
        for row in rows:
            waiting.append(row)
            if len(waiting) == _AT_ONCE:
                write()
            yield row

    found = _digest(pass_on())
    write()
    return found


def _select(connection: Connection, table: Table) -> Iterator[Sequence[Any]]:
    yield from connection.execute(select(*table.columns).execution_options(yield_per=_AT_ONCE))


def _digest(rows: Iterator[_Row]) -> tuple[int, int]:
    """Return how many rows there are, and a sum of their hashes that does not depend on their order."""
    count = total = 0
    for row in rows:
        plain = repr(tuple(bytes(cell) if isinstance(cell, memoryview) else cell for cell in row))
        count += 1
        total += int.from_bytes(hashlib.sha256(plain.encode("utf-8", "surrogatepass")).digest())
    return count, total % 2**256


def _drop_trigger(connection: Connection) -> None:
    is_sqlite = connection.dialect.name == "sqlite"
    connection.execute(text(f"DROP TRIGGER IF EXISTS {ROLL_UP}{'' if is_sqlite else ' ON retrievals'}"))


def _go_on_counting(connection: Connection, table: Table) -> None:
    """Let the ids of new rows begin after the last one, which PostgreSQL counts by itself."""
    if connection.dialect.name == "sqlite" or table.autoincrement_column is None:
        return
    for column in table.primary_key:
        newest = f"(SELECT COALESCE(MAX({column.name}), 0) + 1 FROM {table.name})"
        sequence = f"pg_get_serial_sequence('{table.name}', '{column.name}')"
        connection.execute(text(f"SELECT setval({sequence}, {newest}, false)"))

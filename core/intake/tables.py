"""Gateway to files of rows: CSV, Parquet and JSON Lines, read as a stream, with columns named like the fields.

`rows.py` decides what a row means; here a row is found, or the reason why it cannot be read.
"""

import csv
import hashlib
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from operator import itemgetter
from pathlib import Path
from typing import Any, BinaryIO

from core.errors import InvalidInput
from core.intake.rows import FIELDS

KINDS = {".csv": "csv", ".parquet": "parquet", ".pq": "parquet", ".jsonl": "jsonl", ".ndjson": "jsonl"}
REQUIRED = ("ts", "query", "score")

_MAX_LINE_BYTES = 1_000_000
_MAX_UNUSED = 50
_BATCH_ROWS = 10_000
_SAMPLE_BYTES = 65_536

Found = Mapping[str, Any] | InvalidInput


class TableFile:
    """The rows of one file. `mapping` gives a field the column that it is read from, where the names differ.

    `share` is how much of the file has been read (0 to 1), `unused` holds the columns that are no field's. Rows of
    text cells (`is_text`) want `core.intake.rows.parse_cells`, others `parse_record`. Raises InvalidInput for a file
    that cannot be read, or that lacks a column.
    """

    def __init__(self, path: Path, *, kind: str | None = None, mapping: Mapping[str, str] | None = None) -> None:
        self.path = path
        self.kind = kind or KINDS.get(path.suffix.lower(), "")
        if not self.kind:
            raise InvalidInput("file", f"{path.name} is not named .csv, .parquet or .jsonl; say which with --format")
        self._mapping = dict(mapping or {})
        if unknown := self._mapping.keys() - set(FIELDS):
            raise InvalidInput("map", f"{min(unknown)} is no field of a retrieval; there are: {', '.join(FIELDS)}")
        self.share = 0.0
        self.unused: set[str] = set()

    @property
    def is_text(self) -> bool:
        """Tell whether values are text cells rather than typed."""
        return self.kind == "csv"

    def rows(self, *, skip: int = 0) -> Iterator[Found]:
        """Yield each row after the first `skip` ones, by field; or, in its place, why it cannot be read."""
        read = {"csv": self._csv, "parquet": self._parquet, "jsonl": self._jsonl}[self.kind]
        with _translated_errors(self.path):
            yield from read(skip)
        self.share = 1.0

    def digest(self) -> str:
        """Return what tells this file from another: its place, its size, how it starts and how it ends."""
        with _translated_errors(self.path), self.path.open("rb") as file:
            size = self.path.stat().st_size
            head = file.read(_SAMPLE_BYTES)
            file.seek(max(0, size - _SAMPLE_BYTES))
            parts = (str(self.path.resolve()).encode(), str(size).encode(), head, file.read())
        return hashlib.sha256(b"\0".join(parts)).hexdigest()[:32]

    def _csv(self, skip: int) -> Iterator[Found]:
        with self.path.open("rb") as raw:
            size = max(1, self.path.stat().st_size)
            lines = _decoded(raw)
            rows = _csv_rows(lines)
            header = next(rows, None)
            if header is None or isinstance(header, InvalidInput):
                raise header or InvalidInput("file", f"{self.path.name} is empty")
            sources = self._choose(header)
            places = itemgetter(*(header.index(column) for column in sources.values()))
            for cells in islice(rows, skip, None):
                self.share = raw.tell() / size
                if isinstance(cells, InvalidInput):
                    yield cells
                elif len(cells) != len(header):
                    yield InvalidInput("row", f"has {len(cells)} cells, the header {len(header)}")
                else:
                    yield dict(zip(sources, places(cells), strict=True))

    def _jsonl(self, skip: int) -> Iterator[Found]:
        with self.path.open("rb") as file:
            size = max(1, self.path.stat().st_size)
            for line in islice(_json_lines(file), skip, None):
                self.share = file.tell() / size
                yield line if isinstance(line, InvalidInput) else self._read_json(line)

    def _read_json(self, line: bytes) -> Found:
        import orjson

        try:
            row = orjson.loads(line)
        except orjson.JSONDecodeError as error:
            return InvalidInput("row", f"is not JSON: {error.msg}")
        if not isinstance(row, dict):
            return InvalidInput("row", "must be an object")
        sources = {field: self._mapping.get(field, field) for field in FIELDS}
        if len(self.unused) < _MAX_UNUSED:
            self.unused.update(row.keys() - sources.values())
        return {field: row[column] for field, column in sources.items() if column in row}

    def _parquet(self, skip: int) -> Iterator[Found]:
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            with pq.ParquetFile(self.path) as file:
                sources = self._choose(file.schema_arrow.names)
                total, seen = max(1, file.metadata.num_rows), 0
                for batch in file.iter_batches(batch_size=_BATCH_ROWS, columns=list(sources.values())):
                    start = min(batch.num_rows, max(0, skip - seen))
                    seen += batch.num_rows
                    self.share = seen / total
                    columns = [batch.column(column).slice(start).to_pylist() for column in sources.values()]
                    for values in zip(*columns, strict=True):
                        yield dict(zip(sources, values, strict=True))
        except pa.ArrowException as error:
            raise InvalidInput("file", f"{self.path.name} cannot be read as Parquet: {_first_line(error)}") from error

    def _choose(self, columns: list[str]) -> dict[str, str]:
        """Return the column of each field that the file has. Raises InvalidInput when one is missing or twice there."""
        if len(set(columns)) < len(columns):
            raise InvalidInput("file", f"has two columns of one name: {', '.join(columns)}")
        for field, column in self._mapping.items():
            if column not in columns:
                raise InvalidInput("map", f"{field}={column}: there is no such column, but {', '.join(columns)}")
        sources = {field: self._mapping.get(field, field) for field in FIELDS}
        chosen = {field: column for field, column in sources.items() if column in columns}
        for field in REQUIRED:
            if field not in chosen:
                raise InvalidInput(
                    "file", f"has no column {field}; name it with --map {field}=COLUMN, of: {', '.join(columns)}"
                )
        self.unused = set(columns) - set(chosen.values())
        return chosen


def _decoded(raw: BinaryIO) -> Iterator[str]:
    """Yield the lines as text; bytes that are not UTF-8 become lone surrogates, which `core.intake.rows` refuses."""
    for number, line in enumerate(raw):
        yield line.decode("utf-8-sig" if number == 0 else "utf-8", errors="surrogateescape")


def _csv_rows(lines: Iterator[str]) -> Generator[list[str] | InvalidInput, None, None]:
    reader = csv.reader(lines, strict=True)
    while True:
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield InvalidInput("row", f"is not CSV: {error} (line {reader.line_num})")
        else:
            if cells:
                yield cells


def _json_lines(file: BinaryIO) -> Iterator[bytes | InvalidInput]:
    """Yield the lines that are not blank; of one that is too long, only that it is."""
    while line := file.readline(_MAX_LINE_BYTES):
        if len(line) == _MAX_LINE_BYTES and not line.endswith(b"\n"):
            while (rest := file.readline(_MAX_LINE_BYTES)) and not rest.endswith(b"\n"):
                pass
            yield InvalidInput("row", f"is longer than {_MAX_LINE_BYTES:,} bytes")
        elif line.strip():
            yield line


@contextmanager
def _translated_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InvalidInput("file", f"{path} cannot be read: {error.strerror or error}") from error


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__

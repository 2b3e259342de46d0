"""Gateway to files of rows: CSV, Parquet, JSON Lines and JSON, read as a stream, with columns named like the fields.

`records.py` decides what a row means; here a row is found, or the reason why it cannot be read.
"""

import csv
import json
import re
from collections import deque
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from operator import itemgetter
from pathlib import Path
from typing import Any, TextIO

from core.errors import InvalidInput
from core.intake.encodings import SEPARATORS, FileContent, find_separator, open_text, scan
from core.intake.parquet import read_parquet
from core.intake.records import FILE_FIELDS, FILE_NUMBERS

KINDS = {
    ".csv": "csv", ".tsv": "csv", ".parquet": "parquet", ".pq": "parquet", ".jsonl": "jsonl", ".ndjson": "jsonl",
    ".json": "jsonl",
}  # fmt: skip
REQUIRED = ("ts", "query")
OUTCOMES = ("score", "similarity", "documents", "state", "error")  # a table needs one of these columns

_MAX_LINE = 1_000_000  # characters
_MAX_UNUSED = 50
_SAMPLE = 65_536  # characters
_MARKED_SEPARATOR = re.compile(rf"sep=([{''.join(SEPARATORS)}])\r?\n")  # as Excel marks it in the first line
_DECIMAL_COMMA = re.compile(r"[+-]?\d{1,40},\d{1,40}")

Found = Mapping[str, Any] | InvalidInput


@dataclass(frozen=True, slots=True)
class Layout:
    """What the rows of a file are: their fields, those with numbers, and those without which a file is refused.

    Of `outcomes`, one is needed.
    """

    what: str
    fields: tuple[str, ...]
    numbers: frozenset[str]
    required: tuple[str, ...]
    outcomes: tuple[str, ...] = ()


RETRIEVALS = Layout("retrieval", FILE_FIELDS, frozenset(FILE_NUMBERS), REQUIRED, OUTCOMES)


class TableFile:
    """The rows of one file. `mapping` maps a field to its column, if the names differ.

    `share` is how much of the file has been read (0 to 1); `notes` are what was found about it. `is_text` says whether
    values are cells of text rather than typed. Raises InvalidInput for an unreadable file or a missing column.
    """

    def __init__(
        self,
        path: Path,
        *,
        kind: str | None = None,
        mapping: Mapping[str, str] | None = None,
        layout: Layout = RETRIEVALS,
    ) -> None:
        self.path = path
        self._layout = layout
        self.kind = kind or KINDS.get(path.suffix.lower(), "")
        if not self.kind:
            raise InvalidInput("file", f"{path.name} has no extension .csv, .parquet or .jsonl; use --format")
        self._mapping = dict(mapping or {})
        if unknown := self._mapping.keys() - set(layout.fields):
            known = ", ".join(layout.fields)
            raise InvalidInput("map", f"{min(unknown)} is not a field of a {layout.what}; there are: {known}")
        self.share = 0.0
        self._unused: set[str] = set()
        self._separator, self._decimal_commas = ",", 0

    @property
    def is_text(self) -> bool:
        """Whether values are text cells rather than typed."""
        return self.kind == "csv"

    @property
    def digest(self) -> str:
        """The digest of the file's bytes: a copy under another name has the same."""
        return self._content.digest

    def notes(self) -> tuple[str, ...]:
        """Return how the file was read, where that is not the usual way, and which columns are not used."""
        found = list(self._content.notes())
        if self._separator != ",":
            found.append(f"file: columns separated by {SEPARATORS[self._separator]}")
        if self._decimal_commas:
            found.append(f"file: {self._decimal_commas:,} numbers with a decimal comma")
        if self._unused:
            found.append(f"columns not used: {', '.join(sorted(self._unused))}")
        return tuple(found)

    def rows(self, *, skip: int = 0) -> Iterator[Found]:
        """Yield each row after the first `skip` ones, by field; for an unreadable row, the reason."""
        read = {"csv": self._csv, "parquet": self._parquet, "jsonl": self._json}[self.kind]
        with _translated_errors(self.path):
            yield from read(skip)
        self.share = 1.0

    @cached_property
    def _content(self) -> FileContent:
        with _translated_errors(self.path):
            return scan(self.path, is_text=self.kind != "parquet")

    def _csv(self, skip: int) -> Iterator[Found]:
        with open_text(self.path, self._content.encoding) as (file, _):
            sample = file.read(_SAMPLE)
        marked = _MARKED_SEPARATOR.match(sample)
        names = {*self._layout.fields, *self._mapping.values()}
        self._separator = marked[1] if marked else find_separator(sample, names)
        with open_text(self.path, self._content.encoding) as (file, tell):
            size = max(1, self.path.stat().st_size)
            rows = _csv_rows(islice(file, 1 if marked else 0, None), self._separator)
            header = next(rows, None)
            if header is None or isinstance(header, InvalidInput):
                raise header or InvalidInput("file", f"{self.path.name} is empty")
            sources = self._choose(header)
            places = itemgetter(*(header.index(column) for column in sources.values()))
            for cells in islice(rows, skip, None):
                self.share = tell() / size
                if isinstance(cells, InvalidInput):
                    yield cells
                elif len(cells) != len(header):
                    yield InvalidInput("row", f"has {len(cells)} cells, the header {len(header)}")
                else:
                    yield self._read_commas(dict(zip(sources, places(cells), strict=True)))

    def _read_commas(self, cells: dict[str, str]) -> dict[str, str]:
        """Return the cells with decimal points: where columns are not separated by commas, numbers may have one."""
        if self._separator != ",":
            for field in self._layout.numbers & cells.keys():
                if "," in cells[field] and _DECIMAL_COMMA.fullmatch(cells[field].strip()):
                    cells[field] = cells[field].replace(",", ".")
                    self._decimal_commas += 1
        return cells

    def _json(self, skip: int) -> Iterator[Found]:
        with open_text(self.path, self._content.encoding) as (file, _):
            is_array = file.read(_SAMPLE).lstrip()[:1] == "["
        with open_text(self.path, self._content.encoding) as (file, tell):
            size = max(1, self.path.stat().st_size)
            found = _json_array(file) if is_array else _json_lines(file)
            for row in islice(found, skip, None):
                self.share = tell() / size
                yield row if isinstance(row, InvalidInput) else self._read_json(row)

    def _read_json(self, row: Any) -> Found:
        if isinstance(row, str):
            row = _parse_line(row)
        if isinstance(row, InvalidInput):
            return row
        if not isinstance(row, dict):
            return InvalidInput("row", "must be an object")
        sources = {field: self._mapping.get(field, field) for field in self._layout.fields}
        if len(self._unused) < _MAX_UNUSED:
            self._unused.update(row.keys() - sources.values())
        return {field: row[column] for field, column in sources.items() if column in row}

    def _parquet(self, skip: int) -> Iterator[Found]:
        def follow(share: float) -> None:
            self.share = share

        yield from read_parquet(self.path, self._choose, skip=skip, on_share=follow)

    def _choose(self, columns: list[str]) -> dict[str, str]:
        """Return the column of each field in the file. Raises InvalidInput for a missing or duplicate column."""
        if len(set(columns)) < len(columns):
            raise InvalidInput("file", f"has two columns of the same name: {', '.join(columns)}")
        for field, column in self._mapping.items():
            if column not in columns:
                raise InvalidInput("map", f"{field}={column}: there is no such column; there are: {', '.join(columns)}")
        sources = {field: self._mapping.get(field, field) for field in self._layout.fields}
        chosen = {field: column for field, column in sources.items() if column in columns}
        missing = [field for field in self._layout.required if field not in chosen]
        if self._layout.outcomes and not chosen.keys() & set(self._layout.outcomes):
            missing.append(self._layout.outcomes[0])
        for field in missing:
            raise InvalidInput(
                "file", f"has no column {field}; use --map {field}=COLUMN with one of: {', '.join(columns)}"
            )
        self._unused = set(columns) - set(chosen.values())
        return chosen


def _csv_rows(lines: Iterator[str], separator: str) -> Generator[list[str] | InvalidInput, None, None]:
    """Yield the cells of each row. Of a row that is not CSV, only the first line is refused.

    A quote that is not closed takes the lines below it along: they are read again, as rows of their own.
    """
    taken, again, done = list[str](), deque[str](), 0

    def feed() -> Iterator[str]:
        while (line := again.popleft() if again else next(lines, None)) is not None:
            taken.append(line)
            yield line

    reader = csv.reader(feed(), delimiter=separator, strict=True)
    while True:
        taken.clear()
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            done += 1
            yield InvalidInput("row", f"is not CSV: {error} (line {done})")
            again.extendleft(reversed(taken[1:]))
            reader = csv.reader(feed(), delimiter=separator, strict=True)
        else:
            done += len(taken)
            if cells:
                yield cells


def _json_lines(file: TextIO) -> Iterator[str | InvalidInput]:
    """Yield the lines that are not blank; for a line that is too long, an InvalidInput."""
    while line := file.readline(_MAX_LINE):
        if len(line) == _MAX_LINE and not line.endswith("\n"):
            while (rest := file.readline(_MAX_LINE)) and not rest.endswith("\n"):
                pass
            yield InvalidInput("row", f"is longer than {_MAX_LINE:,} characters")
        elif line.strip():
            yield line


def _parse_line(line: str) -> Any:
    import orjson

    try:
        return orjson.loads(line)
    except orjson.JSONDecodeError as error:
        return InvalidInput("row", f"is not JSON: {error.msg}")


def _json_array(file: TextIO) -> Iterator[Any]:
    """Yield the elements of a JSON array one by one; an InvalidInput where nothing after it can be read."""
    parse, text = json.JSONDecoder().raw_decode, file.read(_SAMPLE).lstrip()[1:]
    while True:
        text = text.lstrip(", \t\r\n")
        if text.startswith("]"):
            return
        try:
            row, end = parse(text)
        except (ValueError, RecursionError) as error:
            more = file.read(_SAMPLE) if len(text) <= _MAX_LINE else ""
            if not more:
                yield InvalidInput("row", f"is not JSON, and nothing after it can be read: {str(error)[:80]}")
                return
            text += more
        else:
            yield row
            text = text[end:]


@contextmanager
def _translated_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InvalidInput("file", f"{path} cannot be read: {error.strerror or error}") from error

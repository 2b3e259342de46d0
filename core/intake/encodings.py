"""Gateway to files of text as they are: which encoding they have, how their columns are separated, their lines.

A file is read once for its digest and its encoding; the rows are read as a stream afterwards.
"""

import codecs
import csv
import hashlib
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import TextIOWrapper
from pathlib import Path
from typing import TextIO

UTF_8 = "utf-8-sig"
WINDOWS = "cp1252"
SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "vertical bars"}
_NAMES = {WINDOWS: "Windows-1252", "utf-16": "UTF-16", "utf-16-le": "UTF-16", "utf-16-be": "UTF-16"}
_SAMPLE, _HEAD = 65_536, 16


@dataclass(frozen=True, slots=True)
class FileContent:
    """A file's digest, which is of all its bytes and of nothing else, and the encoding of its text."""

    digest: str
    encoding: str

    def notes(self) -> tuple[str, ...]:
        """Return the encoding if it is not UTF-8."""
        return (f"file: read as {_NAMES[self.encoding]}",) if self.encoding in _NAMES else ()


def scan(path: Path, *, is_text: bool) -> FileContent:
    """Return what reading all of a file tells. Raises OSError.

    Text without a mark at its start is UTF-16 if every other of its first bytes, such as a header's, is zero. It is
    Windows-1252 if more of its lines are not UTF-8 than are UTF-8 beyond ASCII; otherwise a line that is not UTF-8 is
    one wrong row.
    """
    digest, right, wrong, start = hashlib.sha256(), 0, 0, b""
    with path.open("rb") as file:
        rest = b""
        while block := file.read(1 << 20):
            digest.update(block)
            start = start or block[:_SAMPLE]
            if not is_text or (block.isascii() and not rest):
                continue
            whole, rest = _cut(rest + block)
            more = _count_lines(whole)
            right, wrong = right + more[0], wrong + more[1]
        more = _count_lines(rest)
    right, wrong = right + more[0], wrong + more[1]
    return FileContent(digest.hexdigest()[:32], _find_encoding(start, is_utf_8=right >= wrong))


@contextmanager
def open_text(path: Path, encoding: str) -> Iterator[tuple[TextIO, Callable[[], int]]]:
    """Open a file as text whose line ends stay, with a function that returns how many bytes were read.

    Bytes that are no text become lone surrogates, which no row may hold.
    """
    errors = "replace" if encoding.startswith("utf-16") else "surrogateescape"
    with path.open("rb") as raw, TextIOWrapper(raw, encoding=encoding, errors=errors, newline="") as file:
        yield file, raw.tell


def find_separator(sample: str, names: Collection[str]) -> str:
    """Return what separates the columns of a CSV: what splits the header into most of the known names, or most columns.

    >>> find_separator("ts;query;score", {"ts", "query", "score"})
    ';'
    """

    def rate(separator: str) -> tuple[int, int]:
        header = next(csv.reader(sample.splitlines()[:1], delimiter=separator), [])
        return len({name.strip() for name in header} & set(names)), len(header)

    return max(SEPARATORS, key=rate)  # the first of equals: a comma


def _cut(block: bytes) -> tuple[bytes, bytes]:
    """Return the whole lines of a block and the rest; of a file that is one long line, up to some ASCII character."""
    for end in (b"\n", b'"'):
        whole, found, rest = block.rpartition(end)
        if found:
            return whole, rest
    return b"", block


def _count_lines(block: bytes) -> tuple[int, int]:
    """Return how many lines are UTF-8 beyond ASCII, and how many are not UTF-8."""
    if block.isascii():
        return 0, 0
    try:
        block.decode()
    except UnicodeDecodeError:
        lines = [line for line in block.split(b"\n") if not line.isascii()]
        right = sum(1 for line in lines if _is_utf_8(line))
        return right, len(lines) - right
    return 1, 0  # however many: there is at least one


def _is_utf_8(line: bytes) -> bool:
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return True


def _find_encoding(start: bytes, *, is_utf_8: bool) -> str:
    if start.startswith(codecs.BOM_UTF8):
        return UTF_8
    if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    head = start[:_HEAD]
    for encoding, zeros, others in (("utf-16-le", head[1::2], head[::2]), ("utf-16-be", head[::2], head[1::2])):
        if len(zeros) > 1 and zeros.count(0) > len(zeros) * 0.7 and others.count(0) < len(others) * 0.1:
            return encoding
    return UTF_8 if is_utf_8 else WINDOWS

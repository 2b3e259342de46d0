"""Shell: reports how documents do in the questions that find them, sorted by how much work they need."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from typing import NamedTuple

import numpy as np

from core.log.documents import DocumentSums


class DocumentRow(NamedTuple):
    """A document and its questions in a window.

    `retrieved` questions found it, `first` as the first hit; `mean_rank` begins with 1. `low_share` is the share of its
    questions that scored low, 0 to 1, `bad` those with bad feedback. `last` is the last day on which it was found,
    `changed_in` the corpus version that changed it last. `is_indexed` is None where the live corpus is not known.
    `work` is what the rows are sorted by: low questions and bad feedback.
    """

    document: str
    retrieved: int
    first: int
    mean_rank: float | None
    mean_score: float | None
    low_share: float | None
    bad: int
    last: date | None
    changed_in: str
    is_indexed: bool | None
    work: float


@dataclass(frozen=True, slots=True)
class DocumentReport:
    """The documents of a window, those that need the most work first; `never` are indexed and were never found.

    `knows_corpus` is False where no document that was found is a file of the live corpus version: their names differ.
    """

    rows: tuple[DocumentRow, ...]
    never: tuple[DocumentRow, ...]
    knows_corpus: bool

    @property
    def retrieved(self) -> int:
        """How often a document was found, added over all of them."""
        return sum(row.retrieved for row in self.rows)


def match_files(names: Iterable[str], paths: Iterable[str]) -> dict[str, str]:
    """Return the file that each document is: the one with its path, or the only one whose path ends so.

    >>> match_files(["a.md", "b.md", "x.md"], ["new/a.md", "new/b.md", "old/b.md"])
    {'a.md': 'new/a.md'}
    """
    known, ends = set(paths), dict[str, str]()
    for path in known:
        parts = path.split("/")
        for start in range(1, len(parts)):
            end = "/".join(parts[start:])
            ends[end] = "" if end in ends else path
    found = ((name, name if name in known else ends.get(name, "")) for name in names)
    return {name: path for name, path in found if path}


def report_documents(
    found: DocumentSums, *, below: float, indexed: Iterable[str] = (), changed_in: Mapping[str, str] | None = None
) -> DocumentReport:
    """Return the documents by the work that they need.

    Work is the number of low questions (under `below`, to the next lower tenth) and of those with bad feedback.
    `indexed` are the files of the live corpus version, `changed_in` the version that changed a file last.
    """
    live, changed = frozenset(indexed), changed_in or {}
    files = match_files(found.names, live)
    knows = bool(files)
    low = np.nan_to_num(found.low_share(below))
    work = low * found.sums[:, 6:].sum(axis=1) + found.bad
    order = np.lexsort((-found.retrieved, -work)).tolist()
    columns = [
        column.tolist()
        for column in (found.retrieved, found.firsts, found.mean_rank, found.mean_score, found.low_share(below),
                       found.bad, work)
    ]  # fmt: skip
    retrieved, firsts, ranks, scores, shares, bad, works = columns
    last = found.last_found
    rows = tuple(
        DocumentRow(
            name := found.names[at], int(retrieved[at]), int(firsts[at]), ranks[at], _known(scores[at]),
            _known(shares[at]), int(bad[at]), last[at], changed.get(files.get(name, name), ""),
            name in files if knows else None, works[at],
        )
        for at in order
    )  # fmt: skip
    never = sorted(live.difference(files.values())) if knows else ()
    nothing = (DocumentRow(name, 0, 0, None, None, None, 0, None, changed.get(name, ""), True, 0.0) for name in never)
    return DocumentReport(rows, tuple(nothing), knows)


def _known(number: float) -> float | None:
    return None if number != number else number

"""Rule: compares two texts word by word: what stayed, what went and what came."""

from collections.abc import Iterator
from dataclasses import dataclass
from difflib import SequenceMatcher
from enum import StrEnum
from itertools import groupby
from re import findall

_MOST_WORDS = 4_000


class SegmentKind(StrEnum):
    """What happened to a stretch of text."""

    SAME = "same"
    REMOVED = "removed"
    ADDED = "added"


@dataclass(frozen=True, slots=True)
class TextSegment:
    """A stretch of text with one fate. The same and removed ones join to the old text, same and added to the new."""

    kind: SegmentKind
    text: str


def compare_words(old: str, new: str) -> tuple[TextSegment, ...]:
    """Return the segments that lead from `old` to `new`, in reading order.

    Lines are matched first, then words inside the lines that differ. A rewritten stretch of more than 4,000 words
    is shown as removed and added whole: matching it would take seconds and tell the reader nothing.

    >>> [(s.kind.value, s.text) for s in compare_words("a fast path", "a slow path")]
    [('same', 'a '), ('removed', 'fast'), ('added', 'slow'), ('same', ' path')]
    """
    before, after = old.splitlines(keepends=True), new.splitlines(keepends=True)
    pieces: list[TextSegment] = []
    for tag, i1, i2, j1, j2 in SequenceMatcher(None, before, after, autojunk=False).get_opcodes():
        removed, added = "".join(before[i1:i2]), "".join(after[j1:j2])
        pieces += [TextSegment(SegmentKind.SAME, removed)] if tag == "equal" else _by_word(removed, added)
    return tuple(_merged(pieces))


def _by_word(removed: str, added: str) -> Iterator[TextSegment]:
    before, after = findall(r"\w+|\s+|[^\w\s]", removed), findall(r"\w+|\s+|[^\w\s]", added)
    if len(before) + len(after) > _MOST_WORDS:
        before, after = [removed], [added]
    for tag, i1, i2, j1, j2 in SequenceMatcher(None, before, after, autojunk=False).get_opcodes():
        if tag == "equal":
            yield TextSegment(SegmentKind.SAME, "".join(before[i1:i2]))
            continue
        yield TextSegment(SegmentKind.REMOVED, "".join(before[i1:i2]))
        yield TextSegment(SegmentKind.ADDED, "".join(after[j1:j2]))


def _merged(pieces: list[TextSegment]) -> Iterator[TextSegment]:
    """Join neighbors of one kind and leave out empty ones."""
    filled = (piece for piece in pieces if piece.text)
    for kind, run in groupby(filled, key=lambda piece: piece.kind):
        yield TextSegment(kind, "".join(piece.text for piece in run))

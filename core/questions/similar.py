"""Rule: which questions are like this one, among many whose vectors are known.

Vectors are kept with one byte a number: half a million of 384 numbers take 200 MB. The best of them are compared once
more by their true vectors.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

MOST_TEXTS = 500_000
SHORTLIST = 200
_AT_ONCE = 16_384
_SCALE = 127.0


class SimilarQuestion(NamedTuple):
    """A question that was asked, and its similarity to the one looked for, a cosine."""

    text: str
    similarity: float


@dataclass(frozen=True, slots=True, eq=False)
class KnownQuestions:
    """Distinct texts with their vectors; `asked` distinct texts were looked at, those without a vector are left out.

    `codes` has the shape (texts, dimension), int8: unit vectors divided by their largest number, which `scales` holds,
    times 127.
    """

    texts: tuple[str, ...]
    codes: NDArray[np.int8]
    scales: NDArray[np.float32]
    asked: int


def encode(texts: Sequence[str], known: Mapping[str, NDArray[np.float32]]) -> KnownQuestions:
    """Return the texts whose vectors are known."""
    having = tuple(text for text in texts if text in known)
    if not having:
        return KnownQuestions((), np.empty((0, 0), np.int8), np.empty(0, np.float32), len(texts))
    codes = np.empty((len(having), len(known[having[0]])), np.int8)
    scales = np.empty(len(having), np.float32)
    for start in range(0, len(having), _AT_ONCE):
        rows = np.stack([known[text] for text in having[start : start + _AT_ONCE]])
        largest = np.maximum(np.abs(rows).max(axis=1), 1e-9)
        codes[start : start + len(rows)] = np.rint(rows / largest[:, None] * _SCALE)
        scales[start : start + len(rows)] = largest / _SCALE
    return KnownQuestions(having, codes, scales, len(texts))


def shortlist(known: KnownQuestions, vector: NDArray[np.float32], *, most: int = SHORTLIST) -> tuple[str, ...]:
    """Return the texts that are most similar to a unit vector, roughly in order."""
    if not known.texts:
        return ()
    rough = np.empty(len(known.texts), np.float32)
    for start in range(0, len(rough), _AT_ONCE):
        part = slice(start, start + _AT_ONCE)
        rough[part] = (known.codes[part].astype(np.float32) @ vector) * known.scales[part]
    kept = min(most, len(rough))
    best = np.argpartition(-rough, kept - 1)[:kept]
    return tuple(known.texts[place] for place in best[np.argsort(-rough[best])])


def rank(
    candidates: Sequence[str], vectors: Mapping[str, NDArray[np.float32]], vector: NDArray[np.float32], *, most: int
) -> tuple[SimilarQuestion, ...]:
    """Return the most similar of the candidates by their true vectors, best first."""
    found = [SimilarQuestion(text, float(vectors[text] @ vector)) for text in candidates if text in vectors]
    return tuple(sorted(found, key=lambda each: (-each.similarity, each.text))[:most])

"""Rule: which questions are worth a case: duplicates by meaning, and typical questions of a topic without any.

Vectors have length 1, so that a product of two is their similarity, a cosine.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from core.log.values import normalize_query

SAME_MEANING = 0.90  # two questions are duplicates from this similarity on
TYPICAL = 10
MOST_CANDIDATES = 2_000  # of a topic, those most asked; the choice compares each with each

_Vectors = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Duplicate:
    """A question, the one that says the same, and their similarity."""

    question: str
    of: str
    similarity: float


def find_duplicates(
    questions: Sequence[str],
    known: Sequence[str],
    vectors: Mapping[str, _Vectors],
    *,
    threshold: float = SAME_MEANING,
) -> dict[str, Duplicate]:
    """Return, by question, the known one that it repeats; or else an earlier one of the questions themselves.

    Texts that differ only in case and spacing are the same whatever the vectors say; a text without a vector is
    compared by its letters alone.
    """
    found: dict[str, Duplicate] = {}
    seen = {normalize_query(text): text for text in reversed(known)}
    pool = [text for text in known if text in vectors]
    rows = [vectors[text] for text in pool]
    for question in questions:
        folded = normalize_query(question)
        if folded in seen:
            found[question] = Duplicate(question, seen[folded], 1.0)
            continue
        seen[folded] = question
        if question not in vectors:
            continue
        if rows:
            near = np.stack(rows) @ vectors[question]
            best = int(np.argmax(near))
            if near[best] >= threshold:
                found[question] = Duplicate(question, pool[best], float(near[best]))
                continue
        pool.append(question)
        rows.append(vectors[question])
    return found


def choose_typical(
    texts: Sequence[str],
    counts: Sequence[int],
    vectors: _Vectors,
    *,
    most: int = TYPICAL,
    known: _Vectors | None = None,
    threshold: float = SAME_MEANING,
) -> tuple[int, ...]:
    """Return the places of up to `most` typical questions: the medoid first, then those that speak for the rest.

    Greedy facility location: each next question is the one that adds most to the sum, over all questions weighted by
    how often they were asked, of the similarity to the nearest chosen one. The first is the weighted medoid. A greedy
    choice reaches at least 1 - 1/e of the best sum (Nemhauser, Wolsey, Fisher 1978). Questions as similar as
    `threshold` to a chosen or `known` one are left out, so that no two say the same.
    """
    if not len(texts):
        return ()
    similar = np.clip(vectors @ vectors.T, 0.0, 1.0)
    weights = np.asarray(counts, dtype=np.float64)
    free = np.ones(len(texts), dtype=bool)
    if known is not None and len(known):
        free &= (vectors @ known.T).max(axis=1) < threshold
    nearest = np.zeros(len(texts))
    chosen: list[int] = []
    while free.any() and len(chosen) < most:
        gains = (np.maximum(similar, nearest[:, None]) - nearest[:, None]).T @ weights
        gains[~free] = -1.0
        best = int(np.argmax(gains))
        chosen.append(best)
        nearest = np.maximum(nearest, similar[:, best])
        free &= similar[:, best] < threshold
        free[best] = False
    return tuple(chosen)

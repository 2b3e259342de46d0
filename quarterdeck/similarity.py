"""Rule: kinds of scores, and the fixed maps from a retriever's number to a similarity between 0 and 1.

Kinds without bounds (`dot`, `bm25`, `rrf`, `rerank`) have no fixed map: the deck learns one from a service's first
rows.
"""

import math
from collections.abc import Callable, Mapping

from quarterdeck.errors import InvalidInput

COSINE = "cosine"
DISTANCES = frozenset({"cosine_distance", "l2", "squared_l2"})
LEARNED = frozenset({"dot", "bm25", "rrf", "rerank"})
_ROUNDING = 1e-3  # how far beyond its range a number may be: single precision, and sums of rounded parts

_MAPS: Mapping[str, tuple[float, float, Callable[[float], float]]] = {  # lowest, highest, map
    COSINE: (-1.0, 1.0, lambda cosine: cosine),
    "probability": (0.0, 1.0, lambda share: share),
    "cosine_distance": (0.0, 2.0, lambda distance: 1.0 - distance),
    "l2": (0.0, 2.0, lambda distance: 1.0 - distance * distance / 2),
    "squared_l2": (0.0, 4.0, lambda squared: 1.0 - squared / 2),
}
KINDS = (*_MAPS, *sorted(LEARNED))


def check_kind(kind: str | None) -> str:
    """Return the kind, cosine for None. Raises InvalidInput for a kind that does not exist."""
    if kind is None:
        return COSINE
    if kind not in KINDS:
        raise InvalidInput("score_kind", f"must be one of {', '.join(KINDS)}, not {str(kind)[:40]!r}")
    return kind


def to_similarity(score: float, kind: str) -> float | None:
    """Return the similarity, 0 to 1, of a finite score of this kind; None if only a learned map can tell.

    A cosine below 0 counts as 0. Distances are those of unit vectors: a larger one has no fixed map. Raises
    InvalidInput for a number that is no cosine, probability or cosine distance at all.

    >>> to_similarity(0.78, "cosine"), to_similarity(1.0000001, "cosine"), to_similarity(0.5, "cosine_distance")
    (0.78, 1.0, 0.5)
    >>> to_similarity(12.4, "bm25") is None
    True
    """
    if kind in LEARNED:
        return None
    lowest, highest, mapped = _MAPS[kind]
    if not lowest - _ROUNDING <= score <= highest + _ROUNDING:
        if kind in ("l2", "squared_l2") and score > 0:
            return None  # not of unit vectors
        hint = "; if it is on another scale, name that in score_kind" if kind == COSINE else ""
        raise InvalidInput("score", f"a {kind} is a number between {lowest:g} and {highest:g}, not {score!r}{hint}")
    return min(1.0, max(0.0, mapped(score)))


def best(scores: list[float], kind: str) -> float:
    """Return the best of some scores of one kind: the smallest distance, or the largest of the others."""
    return min(scores) if kind in DISTANCES else max(scores)


def is_number(value: object) -> bool:
    """Return whether this is a finite number: of Python, numpy, decimal or any other type that becomes a float."""
    if isinstance(value, bool | str | bytes) or not hasattr(value, "__float__"):
        return False
    try:
        return math.isfinite(float(value))
    except (TypeError, ValueError, OverflowError):
        return False

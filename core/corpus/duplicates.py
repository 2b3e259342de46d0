"""Rule: which documents say nearly the same, by the vectors of their passages."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

SAME_FROM = 0.95  # the cosine from which on two passages say the same
LEAST_SHARE = 0.5  # of the shorter document's passages
MOST_PAIRS = 200
_MOST_COPIES = 20  # a passage that so many others repeat is boilerplate, and says nothing about its document
_AT_ONCE = 1_000
_Vectors = NDArray[np.float32]


class NearDuplicate(NamedTuple):
    """Two documents; `matched` of the `passages` of the first, which has no more than the other, are in the other too.

    `similarity` is the mean cosine of these passages with their nearest ones.
    """

    document: str
    other: str
    matched: int
    passages: int
    similarity: float

    @property
    def share(self) -> float:
        """The share of the shorter document that the other one repeats, 0 to 1."""
        return self.matched / self.passages


def find_duplicates(documents: Sequence[str], vectors: _Vectors) -> tuple[NearDuplicate, ...]:
    """Return the pairs of documents that say nearly the same, the most alike first; at most 200.

    `documents` names the document of each unit vector. Compares all passages with each other, part by part: n passages
    take time in proportion to n^2, and memory to n.
    """
    names = sorted(set(documents))
    number = {name: place for place, name in enumerate(names)}
    owner = np.array([number[name] for name in documents], dtype=np.int64)
    lengths = np.bincount(owner, minlength=len(names))
    best: defaultdict[tuple[int, int], dict[int, float]] = defaultdict(dict)
    for passage, others, similar in _match(vectors, owner):
        own = int(owner[passage])
        for other, cosine in zip(owner[others].tolist(), similar.tolist(), strict=True):
            matched = best[own, other]
            matched[passage] = max(cosine, matched.get(passage, 0.0))
    found = [
        NearDuplicate(names[own], names[other], len(matched), int(lengths[own]), float(np.mean(list(matched.values()))))
        for (own, other), matched in best.items()
        if (lengths[own], own) < (lengths[other], other) and len(matched) >= LEAST_SHARE * lengths[own]
    ]
    ordered = sorted(found, key=lambda pair: (-pair.share, -pair.similarity, pair.document, pair.other))
    return tuple(ordered[:MOST_PAIRS])


def _match(vectors: _Vectors, owner: NDArray[np.int64]) -> Iterator[tuple[int, NDArray[np.int64], _Vectors]]:
    """Yield each passage with the passages of other documents that say the same."""
    for start in range(0, len(vectors), _AT_ONCE):
        similar = vectors[start : start + _AT_ONCE] @ vectors.T
        for row, each in enumerate(similar):
            others = np.flatnonzero((each >= SAME_FROM) & (owner != owner[start + row]))
            if 0 < len(others) <= _MOST_COPIES:
                yield start + row, others, each[others]

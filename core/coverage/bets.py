"""Rule: what a new topic is tested with: days of questions, the reference they are compared with, and the bets."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from core.coverage.trees import normalize

CALLS_A_YEAR = 1.0  # expected false calls, at most, of one service
SLACK = 1.5  # a region is no news until it is asked more than this many times as often as in the reference
RATIOS = (2.0, 4.0, 8.0, 16.0, 32.0)  # by how much more than that: the bets, in equal parts
LEAST_MEMBERS = 5  # distinct texts by distinct sessions of a called topic
LEAST_REFERENCE = 200  # distinct questions of the days before
MOST_FORMING = 1_200  # questions of a window, the most novel ones
DAYS_A_YEAR = 365

Vectors = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class AskedDay:
    """The distinct questions of a day, one row each: its unit vector, its text, and a session that asked it."""

    day: int  # ordinal
    vectors: Vectors
    texts: tuple[str, ...]
    sessions: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class EmergingCall:
    """A topic that was called at the end of day `called` (an ordinal); `since` is the first day of its group.

    `texts` are the questions that count, the most typical first, of distinct sessions. `expected` is how many the
    reference lets expect in the days since, and `evidence` the logarithm of what a bet of 1 has become.
    """

    called: int
    since: int
    texts: tuple[str, ...]
    count: int
    expected: float
    evidence: float
    center: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class SeenDay:
    """A day beside a reference: each question's similarity to the nearest one of it, and to the nearest of other texts.

    `nearest` is the number of the nearest text.
    """

    asked: AskedDay
    nearness: NDArray[np.float32]
    second: NDArray[np.float32]
    nearest: NDArray[np.int64]


class ReferenceQuestions:
    """The reference: each of its questions is compared with those of other texts, as new questions are with all."""

    def __init__(self, vectors: Vectors, texts: Sequence[str]) -> None:
        self.vectors = vectors
        self.names = np.unique(np.array(texts), return_inverse=True)[1].ravel()  # a number for each text
        self.nearness = _find_own_nearness(vectors, self.names)

    def __len__(self) -> int:
        return len(self.vectors)

    @property
    def is_enough(self) -> bool:
        """Whether there are enough different questions."""
        return len(self) >= LEAST_REFERENCE

    def see(self, asked: AskedDay) -> SeenDay:
        """Return a day with how near its questions are to the reference."""
        if not len(asked.vectors) or not len(self):
            none = np.full(len(asked.texts), -1.0, dtype=np.float32)
            return SeenDay(asked, none, none, np.full(len(none), -1))
        near = asked.vectors @ self.vectors.T
        nearness, nearest = near.max(axis=1), self.names[near.argmax(axis=1)]
        near[self.names[None] == nearest[:, None]] = -1.0
        return SeenDay(asked, nearness, near.max(axis=1), nearest)

    def quantile(self, share: float) -> float:
        """Return the nearness below which this share of the reference's own questions is."""
        return float(np.quantile(self.nearness, share))

    def count_novel(self, vectors: Vectors, reach: float, limit: float) -> NDArray[np.int64]:
        """Return how many of the questions that are novel among their own are near each vector."""
        return np.asarray((vectors @ self.vectors[self.nearness < limit].T >= reach).sum(axis=1))

    def count_inside(self, center: Vectors, reach: float) -> int:
        """Return how many questions lie in the region around a center."""
        toward = self.vectors @ center
        return int(((toward >= reach) & (toward > self.nearness)).sum())


def find_rate(inside: int, count: int) -> float:
    """Return how often a region is asked that has so many of the reference's questions: one more, as it was chosen."""
    return (inside + 2) / (count + 2)


def find_growth(count: int, expected: float) -> NDArray[np.float64]:
    """Return by how much the logarithms of the bets grow with so many questions."""
    ratios = np.array(RATIOS)
    return np.asarray(count * np.log(ratios) - SLACK * expected * (ratios - 1))


def describe_call(
    rows: Sequence[tuple[int, str, Vectors]], called: int, since: int, expected: float, evidence: float
) -> EmergingCall:
    """Return the call of these questions (day, text, vector), the most typical first."""
    vectors = np.stack([vector for _, _, vector in rows])
    center = normalize(vectors.mean(axis=0, keepdims=True))[0]
    texts = tuple(rows[at][1] for at in np.argsort(-(vectors @ center), kind="stable").tolist())
    return EmergingCall(called, since, texts, len(rows), expected, evidence, tuple(center.tolist()))


def _find_own_nearness(vectors: Vectors, names: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return each vector's cosine similarity to the nearest one of another text."""
    if not len(vectors):
        return np.empty(0, dtype=np.float32)
    near = vectors @ vectors.T
    near[names[:, None] == names[None]] = -1.0
    return np.asarray(near.max(axis=1))

"""Rule: shifts of means with their intervals, for all questions, topics and segments; scores on another scale.

`comparison.py` compares hits with them, `answering.py` answers.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.replay.sampling import DrawnQuestion

Floats = NDArray[np.float64]
_LEAST_CLUSTERS = 2


@dataclass(frozen=True, slots=True)
class ReplayShift:
    """The change of a mean or a share from what is live to the candidate, with its 95% interval."""

    value: float
    low: float
    high: float

    @property
    def is_fall(self) -> bool:
        """Whether the whole interval lies below zero."""
        return self.high < 0

    @property
    def is_rise(self) -> bool:
        """Whether the whole interval lies above zero."""
        return self.low > 0


@dataclass(frozen=True, slots=True)
class GroupShift:
    """A topic or a segment: distinct questions, the questions of the log that they stand for, and its score shift."""

    kind: str
    name: str
    label: str
    distinct: int
    asked: float
    live_score: float
    candidate_score: float
    score: ReplayShift

    @property
    def verdict(self) -> str:
        """Whether the group wins or loses by its interval, or neither."""
        return "wins" if self.score.is_rise else "loses" if self.score.is_fall else "no difference shown"


def estimate_shift(weights: Sequence[float] | Floats, changes: Sequence[float] | Floats) -> ReplayShift:
    """Return the weighted mean of paired changes, with a 95% interval for other days' questions.

    Distinct questions are clusters. With weights w_i and changes d_i of G questions, the standard error is
    sqrt(G / (G - 1) sum (w_i (d_i - mean))^2) / sum w_i; the quantile is Student's with (sum w)^2 / sum w^2 - 1 degrees
    of freedom, since a few popular questions carry little evidence. It assumes that distinct questions are independent.
    Fewer than two questions, or weights of nothing, say nothing: the interval is -1 to 1.
    """
    from scipy.stats import t

    w, d = np.asarray(weights, dtype=float), np.asarray(changes, dtype=float)
    kept = w > 0
    w, d = w[kept], d[kept]
    if not len(w):
        return ReplayShift(0.0, -1.0, 1.0)
    mean = float(w @ d / w.sum())
    if len(w) < _LEAST_CLUSTERS:
        return ReplayShift(mean, -1.0, 1.0)
    spread = float((w * (d - mean)) @ (w * (d - mean))) * len(w) / (len(w) - 1)
    freedom = max(1.0, float(w.sum() ** 2 / (w @ w)) - 1)
    half = float(t.ppf(0.975, freedom)) * math.sqrt(spread) / float(w.sum())
    return ReplayShift(mean, max(-1.0, mean - half), min(1.0, mean + half))


def map_scores(scores: Floats, onto: Floats, weights: Floats) -> Floats:
    """Return scores of one model on the scale of another: the value of `onto` with the same weighted rank.

    Both are the scores of the same questions, so the means agree, and only who gains on whom remains.
    """
    ranks = _rank(scores, weights)
    order = np.argsort(onto, kind="stable")
    return np.asarray(np.interp(ranks, _rank(onto, weights)[order], onto[order]))


def carry_scale(scores: Floats, source: Floats, onto: Floats, weights: Floats) -> Floats:
    """Return scores of a search on the scale on which a service logs, learned from questions that have both.

    `source` and `onto` are what the search and the log say of the same questions; the map carries quantiles to
    quantiles and is straight between them. It assumes that both rank questions alike; beyond its ends it is flat.
    """
    mapped = map_scores(source, onto, weights)
    order = np.argsort(source, kind="stable")
    return np.asarray(np.interp(scores, source[order], mapped[order]))


def weigh_topic(drawn: Sequence[DrawnQuestion], topic_id: str) -> dict[int, float]:
    return {at: each.weight for at, each in enumerate(drawn) if each.topic_id == topic_id}


def describe_group(
    kind: str, name: str, label: str, by_place: Mapping[int, float], scores: tuple[Floats, Floats]
) -> GroupShift:
    places, weights = list(by_place), np.array(list(by_place.values()))
    live, candidate = (each[places] for each in scores)
    return GroupShift(
        kind, name, label, len(places), float(weights.sum()), mean_of(live, weights), mean_of(candidate, weights),
        estimate_shift(weights, candidate - live),
    )  # fmt: skip


def sort_groups(groups: Sequence[GroupShift]) -> tuple[GroupShift, ...]:
    """Return the losers first, by how much of the whole they lose; then those that change nothing, then winners."""
    return tuple(sorted(groups, key=lambda each: (each.score.value * each.asked, each.kind, each.name)))


def mean_of(values: Sequence[float] | NDArray[Any], weights: Floats) -> float:
    return float(np.asarray(values, dtype=float) @ weights / weights.sum()) if weights.sum() else 0.0


def _rank(scores: Floats, weights: Floats) -> Floats:
    """Return each score's weighted share of lower ones, ties in the middle, 0 to 1."""
    values, place = np.unique(scores, return_inverse=True)
    sums = np.bincount(place, weights=weights, minlength=len(values))
    middles = np.cumsum(sums) - sums / 2
    return np.asarray((middles / sums.sum())[place])

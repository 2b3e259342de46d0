"""Rule: how far reviewers agree: Krippendorff's alpha with an interval."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

FEWEST_SHARED = 10  # questions that two reviewers labeled
ROUNDS = 2_000
_Numbers = NDArray[np.float64]


class ReliabilityStatus(StrEnum):
    """Whether agreement can be told."""

    OK = "ok"
    TOO_FEW = "too few"
    NO_VARIANCE = "no variance"


@dataclass(frozen=True, slots=True)
class Reliability:
    """The agreement of reviewers: alpha is 1 for perfect agreement, 0 for what chance gives, below 0 for less.

    `shared` questions were labeled by two or more; `same` is the share of their pairs of labels that are equal. With
    NO_VARIANCE all labels are equal: then there is no alpha, because chance would give the same.
    """

    status: ReliabilityStatus
    shared: int
    same: float | None = None
    alpha: float | None = None
    low: float | None = None
    high: float | None = None


def measure_reliability(labels: Sequence[Mapping[str, float]], *, seed: int = 0) -> Reliability:
    """Return the agreement over questions; each maps reviewers to their label.

    Krippendorff's alpha with squared differences: alpha = 1 - D_o / D_e. Over questions u with m_u >= 2 labels, n
    labels in all,

        D_o = 1/n * sum over u of 1/(m_u - 1) * sum over pairs in u of (a - b)^2
        D_e = 1/(n (n - 1)) * sum over all pairs of (a - b)^2

    It allows for missing labels and any number of reviewers. For two values it is the nominal alpha, which is Scott's
    pi with a correction for small samples. The interval takes the 2.5% and 97.5% quantiles of 2,000 seeded resamples of
    the questions (bootstrap). Assumes that reviewers label independently, and questions are exchangeable. Smallest
    sample: 10 shared questions; below 30 the interval is rough and somewhat short.

    Source: Krippendorff, Computing Krippendorff's alpha-reliability, 2011; Hayes and Krippendorff, Communication
    Methods and Measures 1, 2007.
    """
    shared = [list(each.values()) for each in labels if len(each) >= 2]
    if len(shared) < FEWEST_SHARED:
        return Reliability(ReliabilityStatus.TOO_FEW, len(shared), _find_same(shared) if shared else None)
    units = np.array([_sum_up(values) for values in shared])
    alpha = _alpha(units.sum(axis=0))
    if alpha is None:
        return Reliability(ReliabilityStatus.NO_VARIANCE, len(shared), 1.0)
    rng = np.random.default_rng(seed)
    drawn = (units[rng.integers(0, len(units), len(units))].sum(axis=0) for _ in range(ROUNDS))
    found = [each for each in map(_alpha, drawn) if each is not None]
    low, high = np.quantile(found, [0.025, 0.975])
    return Reliability(ReliabilityStatus.OK, len(shared), _find_same(shared), alpha, float(low), float(high))


def _find_same(shared: Sequence[Sequence[float]]) -> float:
    """Return the share of pairs of labels of one question that are equal."""
    pairs = [(a, b) for values in shared for at, a in enumerate(values) for b in values[at + 1 :]]
    return sum(a == b for a, b in pairs) / len(pairs)


def _sum_up(values: Sequence[float]) -> tuple[float, float, float, float]:
    """Return what a question adds: its labels, their sum and squares, and its observed disagreement."""
    count, total, squares = len(values), sum(values), sum(value * value for value in values)
    return count, total, squares, 2 * (count * squares - total * total) / (count - 1)


def _alpha(sums: _Numbers) -> float | None:
    count, total, squares, observed = sums
    expected = 2 * (count * squares - total * total)
    if expected <= 1e-12 * max(1.0, squares):
        return None
    return float(1 - (observed / count) / (expected / (count * (count - 1))))

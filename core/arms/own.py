"""Rule: the moments of any metric in one arm, from its users' numbers: means, shares, ratios and percentiles.

`arms.py` keeps those of the built-in metrics as rows come in. `own_histories.py` reads the numbers of the others.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.arms.sequential import LEAST_USERS, Covariate, Moments
from core.metrics.definition import MetricDefinition, MetricSource, Statistic

_Floats = NDArray[np.float64]

_FEW_NUMBERS = 3.0  # of a user before the start, at which half of the user's deviation is believed
_WIDTH = 2.0  # standard errors between a percentile and the ends of the interval that its error is read from
_LEAST_TAIL = 4.0  # standard errors that fit between a percentile's share and 0 or 1
_LARGEST_SPREAD = 0.1  # of a ratio's mean denominator: its standard error as a share of it


@dataclass(frozen=True, slots=True)
class UserSums:
    """Of each user of an arm: how many numbers, their sum, and what a ratio is divided by (zeros for other metrics)."""

    counts: _Floats
    totals: _Floats
    below: _Floats


def measure_arm(
    metric: MetricDefinition, now: UserSums, before: UserSums | None = None, *, usual: float = 0.0
) -> Moments | None:
    """Return the moments of a metric over the users of an arm; None where no user has a number, or too few for a ratio.

    The value of a user is the mean of the user's numbers, or for the share of an event whether the user had it. For a
    ratio R = sum of N / sum of D over users it is the linearized R + (N - R D) / mean of D: its mean is R, and its
    variance over the users that of the delta method, whatever the denominators. Where the mean of D is not known to
    10%, there is no ratio yet. `before` are the same users' sums before the start, and `usual` is `find_usual` of
    those of all arms; they give the covariate, in which users without any have 0. Source: Deng, Knoblich and Lu,
    "Applying the Delta Method in Metric Analytics", KDD 2018.
    """
    values, known = _values_of(metric, now)
    users = int(known.sum())
    if not users or values is None:
        return None
    own = values[known]
    covariate = _relate(own, _expect(metric, before, usual)[known]) if before is not None and users > 1 else None
    return Moments(users, float(own.mean()), float(own.var(ddof=1)) if users > 1 else 0.0, covariate)


def find_usual(metric: MetricDefinition, before: Sequence[UserSums]) -> float:
    """Return the mean or the ratio before the start, over all arms together: each arm's own would hide differences."""
    below = [each.below if metric.statistic is Statistic.RATIO else each.counts for each in before]
    whole = math.fsum(float(each.sum()) for each in below)
    return math.fsum(float(each.totals.sum()) for each in before) / whole if whole else 0.0


def measure_percentile(numbers: _Floats, users: NDArray[np.int64], percentile: float) -> Moments | None:
    """Return a percentile of an arm's numbers as moments: its value, and its variance as if each user gave one value.

    With F the share of numbers up to the percentile q, a user's a numbers of n up to q, and sums over the m users:

        SE(F) = sqrt(m / (m - 1) sum of (a - F n)^2) / sum of n
        SE(q) = (quantile(p + 2 SE(F)) - quantile(p - 2 SE(F))) / 4,  variance = m SE(q)^2

    The numbers of one user may depend on each other. None with fewer than 30 users, and where p is less than four
    SE(F) away from 0 or 1: the tail is too thin to tell. Assumes a density above 0 at q, by which q is asymptotically
    normal and its intervals are valid at all times like those of a mean. Source: Deng, Knoblich and Lu, KDD 2018
    (outer confidence interval); Howard and Ramdas, "Sequential estimation of quantiles", Bernoulli 28(3), 2022.
    """
    share, found = percentile / 100, len(numbers)
    if not found:
        return None
    ordered = np.sort(numbers)
    value = ordered[_place(share, found)]
    of_user, counted = np.unique(users, return_inverse=True)
    many = len(of_user)
    if many < LEAST_USERS:
        return None
    low = np.bincount(counted, weights=numbers <= value, minlength=many)
    asked = np.bincount(counted, minlength=many)
    reached = float(low.sum()) / found
    error = math.sqrt(many / (many - 1) * float(((low - reached * asked) ** 2).sum())) / found
    if min(share, 1 - share) < _LEAST_TAIL * error:
        return None
    ends = [ordered[_place(share + side * _WIDTH * error, found)] for side in (-1, 1)]
    spread = float(ends[1] - ends[0]) / (2 * _WIDTH)
    return Moments(many, float(value), many * spread**2)


def _place(share: float, found: int) -> int:
    return min(found - 1, max(0, math.ceil(share * found) - 1))


def _values_of(metric: MetricDefinition, sums: UserSums) -> tuple[_Floats | None, NDArray[np.bool_]]:
    """Return the value of each user, and which users have one."""
    if metric.statistic is Statistic.RATIO:
        return _linearize(sums)
    if metric.is_share and metric.source is MetricSource.EVENT:
        return (sums.counts > 0).astype(np.float64), np.ones(len(sums.counts), dtype=np.bool_)
    return _divide(sums.totals, sums.counts), sums.counts > 0


def _linearize(sums: UserSums) -> tuple[_Floats | None, NDArray[np.bool_]]:
    known = (sums.below > 0) | (sums.totals != 0)
    below, users = sums.below[known], int(known.sum())
    mean = float(below.mean()) if users else 0.0
    if not mean or users < 2 or float(below.std(ddof=1)) / math.sqrt(users) > _LARGEST_SPREAD * mean:
        return None, known
    ratio = float(sums.totals.sum()) / float(sums.below.sum())
    return ratio + (sums.totals - ratio * sums.below) / mean, known


def _expect(metric: MetricDefinition, before: UserSums, usual: float) -> _Floats:
    """Return what was known of each user before the start; 0 where nothing was."""
    if metric.is_share and metric.source is MetricSource.EVENT:
        return (before.counts > 0).astype(np.float64)
    if metric.statistic is Statistic.RATIO:
        return before.totals - usual * before.below
    return (before.totals - usual * before.counts) / (before.counts + _FEW_NUMBERS)


def _relate(values: _Floats, known: _Floats) -> Covariate | None:
    if not known.any():
        return None
    variance = float(known.var(ddof=1))
    shared = float(((values - values.mean()) * (known - known.mean())).sum()) / (len(values) - 1)
    return Covariate(float(known.mean()), variance, shared)


def _divide(totals: _Floats, counts: _Floats) -> _Floats:
    found: Any = np.divide(totals, counts, out=np.full_like(totals, np.nan), where=counts > 0)
    return np.asarray(found, dtype=np.float64)

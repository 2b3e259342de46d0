"""Rule: which segment carries a change of a metric: recent days against those before, for each value of a dimension.

It is for metrics whose whole is the mean of its parts, weighted by what is counted: means, shares and ratios.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from core.drift.daily import MIN_QUERIES, student_to_normal
from core.metrics.definition import USERS, MetricDay, MetricDefinition, Statistic

ERROR = 0.05  # chance that any segment is named although all changed alike
CARRIES = 0.5  # least share of the change that a segment must explain to carry it
LEAST_DAYS = 3  # on each side of the change

_Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Carrier:
    """The segment that carries a change, what the change would be without it, and how many values were compared."""

    value: str
    change: float
    without: float
    z: float
    searched: int

    @property
    def explained_share(self) -> float:
        """The share of the change that it explains, 0 to 1."""
        return min(1.0, 1 - self.without / self.change)


def has_parts(metric: MetricDefinition) -> bool:
    """Whether the whole is the weighted mean of the segments: no percentile, and nothing per user, is."""
    return metric.statistic is not Statistic.PERCENTILE and metric.per != USERS


def find_carrier(values: Mapping[str, Sequence[MetricDay]], recent_from: date) -> Carrier | None:
    """Return the segment that carries the change from the days before `recent_from` to those since; None for none.

    A value's part of a day is e = whole - whole without the value, which is 0 where the value is like the rest;
    weekdays and the wobble of days act on both and cancel out. t compares the mean of e over the recent days with
    that before (pooled variance over days). The largest is named if it is significant among all N values (5% / 2 N,
    two-sided: Bonferroni) and explains at least half of the change. Assumes that days are independent after what acts
    on all is gone. Smallest sample: 3 days on each side; 20 counted inside and outside recently, and 20 outside
    before.
    """
    names = list(values)
    days = sorted({each.day for of in values.values() for each in of})
    after = np.array([day >= recent_from for day in days], dtype=bool)
    if len(names) < 2 or min(after.sum(), (~after).sum()) < LEAST_DAYS:
        return None
    n, total = _lay_out(values, days)
    whole = _divide(total.sum(axis=0), n.sum(axis=0))
    outside = _divide(total.sum(axis=0) - total, n.sum(axis=0) - n)
    rest = n.sum(axis=0) - n
    part = np.where((n > 0) & (rest > 0), whole - outside, 0.0)
    enough = np.minimum(n[:, after].sum(axis=1), rest[:, after].sum(axis=1)) >= MIN_QUERIES
    enough &= rest[:, ~after].sum(axis=1) >= MIN_QUERIES
    change = float(whole[after].mean() - whole[~after].mean())
    moved, z = _compare(part, after)
    searched = [at for at in range(len(names)) if enough[at] and names[at]]
    if len(searched) < 2 or not change:
        return None
    best = max(searched, key=lambda at: float(abs(z[at])))
    is_sure = NormalDist().cdf(-abs(float(z[best]))) <= ERROR / 2 / len(searched)
    if not is_sure or float(moved[best]) / change < CARRIES:
        return None
    return Carrier(names[best], change, change - float(moved[best]), float(z[best]), len(searched))


def _lay_out(values: Mapping[str, Sequence[MetricDay]], days: Sequence[date]) -> tuple[_Floats, _Floats]:
    """Return counts and totals, values x days."""
    at = {day: place for place, day in enumerate(days)}
    n, total = np.zeros((2, len(values), len(days)))
    for row, of in enumerate(values.values()):
        for each in of:
            n[row, at[each.day]] = each.count
            total[row, at[each.day]] = each.count * each.value
    return n, total


def _compare(part: _Floats, after: NDArray[np.bool_]) -> tuple[_Floats, _Floats]:
    """Return how much the parts moved, and z of it, for each row."""
    sides = part[:, after], part[:, ~after]
    moved = sides[0].mean(axis=1) - sides[1].mean(axis=1)
    degrees = part.shape[1] - 2
    spread = sum(((side - side.mean(axis=1, keepdims=True)) ** 2).sum(axis=1) for side in sides) / degrees
    error = np.sqrt(np.maximum(spread, 1e-18) * sum(1 / side.shape[1] for side in sides))
    return moved, student_to_normal(moved / error, degrees)


def _divide(a: _Floats, b: _Floats) -> _Floats:
    return np.where(b > 0, a / np.where(b > 0, b, 1.0), 0.0)

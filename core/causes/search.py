"""Rule: finds the segment that carries a drop among all values of all dimensions, corrected for searching.

`evidence.py` measures one segment; `headline.py` words what was found.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from core.causes.evidence import DESIGN_EFFECT, Floats, Segments, contrast_segment
from core.drift.daily import MIN_QUERIES, PRIOR_DEGREES, student_to_normal
from core.drift.verdict import DriftReport
from core.log.values import DailyScores

ERROR = 0.05  # chance that any segment is named although the drop is everywhere alike
CARRIES = 0.5  # least share of the fall that a segment must explain to carry it


@dataclass(frozen=True, slots=True)
class CarryingSegment:
    """The segment that carries a drop: the change inside and outside, and the share (0 to 1) of the fall it explains.

    `z` is negative: how many standard errors its part of the fall is away from none. `searched` values were compared.
    """

    dimension: str
    value: str
    inside: float
    outside: float
    explained_share: float
    z: float
    searched: int


@dataclass(frozen=True, slots=True)
class SegmentSearch:
    """What a search found, None for nothing, and how many values it compared."""

    found: CarryingSegment | None
    searched: int


NOT_SEARCHED = SegmentSearch(None, 0)


def find_segment(report: DriftReport, segments: Segments) -> SegmentSearch:
    """Return the segment that carries the dated drop of `report`; nothing without a dated drop.

    A value's part of a day is e = mean of everything - mean outside of the value, which is 0 where the value is like
    the rest; weekdays and the wobble of days act on both and cancel out. z compares the mean of e since the drop with
    that before: the error is the sampling error (design effect 2 for sessions), scaled by the scatter of the days, with
    the weight of 8 days for no scaling; Student's t. The smallest z is named if it is significant among all N values of
    all dimensions (5% / N, one-sided: Bonferroni) and explains at least half of the fall. So a drop that is everywhere
    alike gets a name in at most 5% of searches. Assumes that days are independent after what acts on all is gone, and
    one segment: of two that fell, the clearer one is named. A value that merely grew, or is new, counts as well.
    Smallest sample: 20 queries inside and outside after the drop, and 20 outside before; a value with less, and a
    dimension with one value, is not searched. Source: Dunn 1961 (Bonferroni's correction for multiple comparisons).
    """
    if report.changed_on is None or report.fall is None or report.baseline_from is None:
        return NOT_SEARCHED
    scores: list[tuple[float, str, str]] = []
    for dimension, values in segments.items():
        table = _Table.of(values, report.baseline_from, report.changed_on)
        if table is not None:
            scores += [(z, dimension, value) for value, z in table.measure() if value]
    if len(scores) < 2:
        return NOT_SEARCHED
    z, dimension, value = min(scores)
    if NormalDist().cdf(z) > ERROR / len(scores):
        return SegmentSearch(None, len(scores))
    since = report.changed_on + timedelta(days=1)
    contrast = contrast_segment(report, segments, dimension, [value], since=since)
    if contrast is None or contrast.explained / report.fall < CARRIES:
        return SegmentSearch(None, len(scores))
    share = min(1.0, contrast.explained / report.fall)
    found = CarryingSegment(dimension, value, contrast.inside, contrast.outside, share, z, len(scores))
    return SegmentSearch(found, len(scores))


@dataclass(frozen=True, slots=True)
class _Table:
    """Counts, totals and squares, values x days, and which days are after the drop."""

    values: tuple[str, ...]
    count: Floats
    total: Floats
    squares: Floats
    after: NDArray[np.bool_]

    @classmethod
    def of(cls, values: Mapping[str, Sequence[DailyScores]], first: date, changed: date) -> "_Table | None":
        """Lay out a dimension without the first low day; None for a single value, or without days on both sides."""
        days = sorted({d.day for held in values.values() for d in held if d.day >= first and d.day != changed})
        after = np.array([day > changed for day in days], dtype=bool)
        if len(values) < 2 or not after.any() or after.all():
            return None
        at = {day: number for number, day in enumerate(days)}
        sums = np.zeros((3, len(values), len(days)))
        for row, held in enumerate(values.values()):
            for d in held:
                if d.day in at:
                    sums[:, row, at[d.day]] = d.count, d.total, d.total_squares
        return cls(tuple(values), sums[0], sums[1], sums[2], after)

    def measure(self) -> list[tuple[str, float]]:
        """Return z of each value that has enough queries."""
        n, all_of = self.count, self.count.sum(axis=0)
        rest = all_of - n
        inside, outside = _divide(self.total, n), _divide(self.total.sum(axis=0) - self.total, rest)
        used = rest > 0
        part = np.where(used & (n > 0), n / all_of * (inside - outside), 0.0)
        pooled = self.squares.sum() / n.sum() - (self.total.sum() / n.sum()) ** 2
        sampling = DESIGN_EFFECT * max(pooled, 1e-6) * _divide(n, all_of * rest)
        enough = (
            (n[:, self.after].sum(axis=1) >= MIN_QUERIES)
            & (rest[:, self.after].sum(axis=1) >= MIN_QUERIES)
            & (rest[:, ~self.after].sum(axis=1) >= MIN_QUERIES)
        )
        weight = np.where(used, all_of, 0.0)
        z = _compare(part, sampling, weight, self.after)
        return [(value, float(each)) for value, each, is_known in zip(self.values, z, enough, strict=True) if is_known]


def _compare(part: Floats, sampling: Floats, weight: Floats, after: NDArray[np.bool_]) -> Floats:
    """Return z of the difference of the weighted means of `part` after and before, for each row."""
    sides = [weight * side for side in (after, ~after)]
    shares = [_divide(side, side.sum(axis=1, keepdims=True)) for side in sides]
    means = [(share * part).sum(axis=1) for share in shares]
    residual = part - np.where(after, means[0][:, None], means[1][:, None])
    seen = (sampling > 0) & (weight > 0)
    degrees = np.maximum(seen.sum(axis=1) - 2, 0)
    scatter = np.where(seen, residual**2 / np.where(seen, sampling, 1.0), 0.0).sum(axis=1)
    scale = np.maximum(1.0, (PRIOR_DEGREES + scatter) / (PRIOR_DEGREES + degrees))
    variance = scale * sum((share**2 * sampling).sum(axis=1) for share in shares)
    t = (means[0] - means[1]) / np.sqrt(np.maximum(variance, 1e-18))
    return np.array([student_to_normal(each, PRIOR_DEGREES + d) for each, d in zip(t, degrees, strict=True)])


def _divide(a: Floats, b: Floats) -> Floats:
    return np.where(b > 0, a / np.where(b > 0, b, 1.0), 0.0)

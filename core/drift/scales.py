"""Rule: maps the scores of one embedding model to the scale of another, by questions that were asked under both."""

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.errors import InvalidInput
from core.log.values import DailyScores
from quarterdeck.schema import HISTOGRAM_BINS

LEAST_PAIRS = 100
_POINTS = 41
_LEAST_SLOPE = 1e-3


@dataclass(frozen=True, slots=True)
class ModelMap:
    """A frozen map of scores of `former` to the scale of `model`: points (before, after), ascending in both.

    `error` is by how much the mapped mean of one half of the questions misses the other half's, on average; `pairs`
    are the questions that were asked under both.
    """

    former: str
    model: str
    points: tuple[tuple[float, float], ...]
    error: float
    pairs: int

    def apply(self, score: float) -> float:
        """Return a score on the other scale, 0 to 1; beyond the points, with the slope of their ends."""
        at = min(max(1, bisect_right(self.points, (score, 2.0))), len(self.points) - 1)
        (x0, y0), (x1, y1) = self.points[at - 1], self.points[at]
        return min(1.0, max(0.0, y0 + (y1 - y0) * (score - x0) / (x1 - x0)))

    def invert(self) -> "ModelMap":
        """Return the map back: from `model` to the scale of `former`."""
        return ModelMap(self.model, self.former, tuple((y, x) for x, y in self.points), self.error, self.pairs)

    def to_audit(self) -> dict[str, Any]:
        """Return the map as JSON knows it."""
        return {
            "former": self.former, "model": self.model, "points": [list(point) for point in self.points],
            "error": self.error, "pairs": self.pairs,
        }  # fmt: skip

    @classmethod
    def read(cls, told: Mapping[str, Any]) -> "ModelMap":
        """Return the map that `to_audit` wrote."""
        points = tuple((float(x), float(y)) for x, y in told["points"])
        return cls(told["former"], told["model"], points, float(told["error"]), int(told["pairs"]))


def learn_model_map(
    former: str, model: str, before: Sequence[float], after: Sequence[float], weights: Sequence[float]
) -> ModelMap:
    """Return the map that carries the quantiles of the scores `before` to those `after`, weighted by times asked.

    Monotone; it assumes that both models put the questions into nearly the same order, which the error shows. The error
    is cross-validated by halves of the questions. Source: equipercentile equating, Kolen & Brennan 2014. Raises
    InvalidInput below `LEAST_PAIRS` questions, and where the scores of one model are all the same.
    """
    if len(before) < LEAST_PAIRS:
        raise InvalidInput(
            "questions", f"a map needs at least {LEAST_PAIRS} asked under both models, not {len(before)}"
        )
    x, y, w = (np.asarray(each, dtype=np.float64) for each in (before, after, weights))
    misses = []
    for part in (np.arange(len(x)) % 2 == 0, np.arange(len(x)) % 2 == 1):
        half = ModelMap(former, model, _learn(x[part], y[part], w[part]), 0.0, 0)
        mapped = np.array([half.apply(score) for score in x[~part]])
        misses.append(abs(float(np.average(mapped - y[~part], weights=w[~part]))))
    return ModelMap(former, model, _learn(x, y, w), float(np.mean(misses)), len(x))


def find_map(maps: Iterable[ModelMap], former: str, model: str) -> ModelMap | None:
    """Return the map from one model to another, also one that was learned the other way."""
    known = {(each.former, each.model): each for each in maps}
    if (former, model) in known:
        return known[former, model]
    return known[model, former].invert() if (model, former) in known else None


def map_days(days: Sequence[DailyScores], by: ModelMap) -> tuple[DailyScores, ...]:
    """Return days whose scores are on the other scale, from their histograms; counts of states stay."""
    edges = np.linspace(0.0, 1.0, HISTOGRAM_BINS + 1)
    return tuple(_map_day(day, by, edges) if day.count else day for day in days)


def add_days(*parts: Sequence[DailyScores]) -> tuple[DailyScores, ...]:
    """Return the days of several parts, which have the same scale, each day once."""
    found: dict[date, DailyScores] = {}
    for day in (day for part in parts for day in part):
        found[day.day] = _add(found[day.day], day) if day.day in found else day
    return tuple(found[at] for at in sorted(found))


def _read_off(
    shares: NDArray[np.float64], values: NDArray[np.float64], weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the quantiles at some shares."""
    cumulated, ordered = _cumulate(values, weights)
    return np.interp(shares, cumulated, ordered)


def _learn(x: NDArray[np.float64], y: NDArray[np.float64], w: NDArray[np.float64]) -> tuple[tuple[float, float], ...]:
    shares = np.linspace(0.01, 0.99, _POINTS)
    quantiles = [_read_off(shares, values, w) for values in (x, y)]
    points: list[tuple[float, float]] = []
    for before, after in zip(*(each.tolist() for each in quantiles), strict=True):
        if not points or (before - points[-1][0] > _LEAST_SLOPE and after - points[-1][1] > 0):
            points.append((before, after))
    if len(points) < 2:
        raise InvalidInput("questions", "no map can be learned: the scores of one model are all the same")
    return tuple(points)


def _cumulate(values: NDArray[np.float64], weights: NDArray[np.float64]) -> tuple[NDArray[np.float64], ...]:
    order = np.argsort(values, kind="stable")
    reached = np.cumsum(weights[order]) - weights[order] / 2
    return reached / weights.sum(), values[order]


def _map_day(day: DailyScores, by: ModelMap, edges: NDArray[np.float64]) -> DailyScores:
    counts = np.array(day.histogram, dtype=np.float64)
    centers = (edges[:-1] + edges[1:]) / 2
    scale = counts.sum() / day.count if day.count else 1.0
    # The bins say where the scores are only to 0.02: their mean is moved to that of the day before it is mapped.
    offset = day.total / day.count - float(counts @ centers) / counts.sum()
    mapped = np.array([by.apply(float(center + offset)) for center in centers])
    total = float(counts @ mapped) / scale
    bins = np.zeros(HISTOGRAM_BINS)
    for at in np.flatnonzero(counts).tolist():
        _spread(bins, counts[at], by.apply(float(edges[at])), by.apply(float(edges[at + 1])))
    capped = day.capped
    if capped is not None:
        plain = day.total / day.count
        slope = (by.apply(min(1.0, plain + 0.01)) - by.apply(max(0.0, plain - 0.01))) / 0.02
        capped = total / day.count + slope * (capped - plain)
    whole = _round(bins, int(counts.sum()))
    squares = float(counts @ mapped**2) / scale
    return replace(day, total=total, total_squares=squares, bins=whole, capped=capped)


def _spread(bins: NDArray[np.float64], count: float, low: float, high: float) -> None:
    """Spread the questions of one bin evenly over the bins that its mapped range covers."""
    first, last = (min(HISTOGRAM_BINS - 1, int(edge * HISTOGRAM_BINS)) for edge in (low, high))
    if first == last:
        bins[first] += count
        return
    edges = np.clip(np.arange(first, last + 2) / HISTOGRAM_BINS, low, high)
    bins[first : last + 1] += count * np.diff(edges) / (high - low)


def _round(bins: NDArray[np.float64], total: int) -> tuple[int, ...]:
    """Return whole counts with the same sum, by their running sums."""
    return tuple(np.diff(np.round(np.cumsum(bins) * total / bins.sum()), prepend=0).astype(int).tolist())


def _add(one: DailyScores, other: DailyScores) -> DailyScores:
    count = one.count + other.count
    capped = None
    if count and (one.capped is not None or other.capped is not None):
        capped = sum(each.mean * each.count for each in (one, other) if each.count) / count
    sums = {
        name: getattr(one, name) + getattr(other, name)
        for name in ("count", "total", "total_squares", "logged", "unmapped", "unscored", "empty", "failed")
    }
    bins = tuple(a + b for a, b in zip(one.histogram, other.histogram, strict=True))
    return replace(one, **sums, bins=bins, capped=capped)

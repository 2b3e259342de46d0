"""Rule: what the log says about a drop: which segments carry it, when it began, and how the scores' shape changed.

It only measures. `causes.py` decides how much each measure speaks for a cause.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
from numpy.typing import NDArray

from core.drift.daily import MIN_QUERIES, EffectTest
from core.drift.detector import Detector
from core.drift.verdict import DriftReport, as_history
from core.log.values import DailyScores
from quarterdeck.schema import HISTOGRAM_BINS

Floats = NDArray[np.float64]
Segments = Mapping[str, Mapping[str, Sequence[DailyScores]]]

EFFECT_SD = 0.20  # sd of a fault's effect on the affected scores
TEMPER = 0.5  # weight of a likelihood: no noise model is exact
DESIGN_EFFECT = 2.0  # variance of a mean / that of independent queries: sessions repeat themselves
GROWTH_DAYS = (0.0, 3.0, 7.0, 14.0)  # 0 is a step, otherwise the effect grows over this time


@dataclass(frozen=True, slots=True)
class SameQuestions:
    """How the questions asked both before and after the drop score now: only a regression lowers these.

    `fall` is their mean change, each question compared with itself; `error` its standard error. `new_share` is the
    share (0 to 1) of recent queries whose question was not asked before.
    """

    count: int
    before: float
    after: float
    error: float
    new_share: float

    @property
    def fall(self) -> float:
        return self.after - self.before


@dataclass(frozen=True, slots=True)
class Contrast:
    """Where the fall is, for one segment: the change inside, outside, and the part of the fall that it explains.

    `explained` is the fall of everything minus that of the traffic outside the segment (negative like the fall). It
    covers a segment that got worse, a new one, and a bad one that merely grew. None if unknown. `share` is that of the
    segment's queries since the change, `former` the one before.
    """

    dimension: str
    value: str
    inside: float
    outside: float
    explained: float
    error: float
    share: float
    former: float = 0.0


@dataclass(frozen=True, slots=True)
class LowGroup:
    """The recent scores as a mixture: `share` of them form a group around `center`, the rest is as before."""

    share: float
    center: float
    fall: float
    log_odds: float  # tempered log likelihood ratio to a common shift of all scores


def contrast_segment(
    report: DriftReport, segments: Segments, dimension: str, values: Iterable[str], *, since: date
) -> Contrast | None:
    """Return where the fall is for one segment, comparing the days from `since` on with the reference.

    Mean over queries of (day's mean - day's mean outside the segment), after minus before, so weekday effects and the
    daily wobble, which act on both sides, cancel out. The error is the sampling error with a design effect of 2 for
    sessions. None with fewer than 20 queries inside or outside after, or 20 outside before.
    """
    wanted = set(values)
    sums = _split(segments.get(dimension, {}), wanted)
    before = [
        s for day, s in sums.items() if report.baseline_from and report.baseline_from <= day < _cut(report, since)
    ]
    after = [s for day, s in sums.items() if day >= since]
    (old_in, old_out), (new_in, new_out) = _add(before), _add(after)
    if min(new_in.count, new_out.count, old_out.count) < MIN_QUERIES:
        return None
    gap_after, error_after = _gap(after)
    gap_before, error_before = _gap(before)
    # A segment without a past, such as a new prompt version, is measured from where the rest was.
    own_past = old_in if old_in.count >= MIN_QUERIES else old_out
    return Contrast(
        dimension,
        " or ".join(sorted(wanted & set(segments[dimension]))),
        new_in.mean - own_past.mean,
        new_out.mean - old_out.mean,
        gap_after - gap_before,
        math.hypot(error_after, error_before),
        new_in.count / (new_in.count + new_out.count),
        old_in.count / (old_in.count + old_out.count),
    )


def list_contrasts(report: DriftReport, segments: Segments) -> tuple[Contrast, ...]:
    """Return the contrast of every segment that has one; empty without a dated drop.

    Starts two days after the change, because on the first day the segments have different hours of the day.
    """
    if report.changed_on is None:
        return ()
    since = report.changed_on + timedelta(days=2)
    named = ((dimension, value) for dimension, values in segments.items() for value in values if value)
    found = (contrast_segment(report, segments, dimension, [value], since=since) for dimension, value in named)
    return tuple(contrast for contrast in found if contrast is not None)


@dataclass(frozen=True, slots=True)
class _Sum:
    count: int = 0
    total: float = 0.0
    squares: float = 0.0

    @classmethod
    def of(cls, day: DailyScores) -> "_Sum":
        return cls(day.count, day.total, day.total_squares)

    def __add__(self, other: "_Sum") -> "_Sum":
        return _Sum(self.count + other.count, self.total + other.total, self.squares + other.squares)

    @property
    def mean(self) -> float:
        return self.total / self.count if self.count else math.nan

    @property
    def error(self) -> float:
        """Squared standard error of the mean, with the design effect of sessions."""
        if not self.count:
            return 0.0
        return DESIGN_EFFECT * (max(0.0, self.squares / self.count - self.mean**2) + 0.0025) / self.count


_Sides = tuple[_Sum, _Sum]


def _split(values: Mapping[str, Sequence[DailyScores]], wanted: set[str]) -> dict[date, _Sides]:
    """Each day's sums inside and outside of the wanted values."""
    sums: dict[date, _Sides] = {}
    for value, days in values.items():
        for day in days:
            inside, outside = sums.get(day.day, (_Sum(), _Sum()))
            one = _Sum.of(day)
            sums[day.day] = (inside + one, outside) if value in wanted else (inside, outside + one)
    return sums


def _add(days: Iterable[_Sides]) -> _Sides:
    inside, outside = _Sum(), _Sum()
    for left, right in days:
        inside, outside = inside + left, outside + right
    return inside, outside


def _gap(days: Sequence[_Sides]) -> tuple[float, float]:
    """Query-weighted mean over days of (mean of all - mean outside), and its standard error."""
    gap = variance = 0.0
    count = 0
    for inside, outside in days:
        if not outside.count:
            continue
        n = inside.count + outside.count
        share = inside.count / n
        count += n
        if inside.count:
            gap += n * share * (inside.mean - outside.mean)
            variance += (n * share) ** 2 * (inside.error + outside.error)
    return (gap / count, math.sqrt(variance) / count) if count else (0.0, 0.0)


def _cut(report: DriftReport, since: date) -> date:
    return min(since, report.changed_on) if report.changed_on else since


@dataclass(frozen=True, slots=True)
class Shapes:
    """Tempered log likelihoods of the recent histogram: the former one with a new low group, or shifted as a whole.

    Fits (1 - share) * reference + share * normal(center, sd) on a grid, and the reference shifted by 0 to 0.8 or
    scaled by 0.5 to 1 in the touched share; multinomial likelihoods, BIC for two parameters more.
    """

    reference: Floats
    current: Floats
    group: float
    share: float
    center: float
    fall: float
    weight: float

    @classmethod
    def of(cls, reference: Sequence[int], current: Sequence[int]) -> "Shapes | None":
        """Fit both; None below 100 scores on either side."""
        old, new = np.array(reference, dtype=float), np.array(current, dtype=float)
        if min(old.sum(), new.sum()) < 100:
            return None
        padded = np.pad(old, 1, mode="edge")
        smooth = 0.25 * padded[:-2] + 0.5 * padded[1:-1] + 0.25 * padded[2:] + 0.2
        p = smooth / smooth.sum()
        weight = TEMPER / DESIGN_EFFECT
        best, share, center = _fit_group(p, new)
        penalty = math.log(new.sum()) * weight  # BIC: two more parameters than a shift
        fall = share * (center - float(p @ _CENTERS))
        return cls(p, new, weight * best - penalty, share, center, fall, weight)

    def low_group(self, touched: float = 1.0) -> LowGroup:
        """The best-fitting low group, compared with a shift of the touched share."""
        return LowGroup(self.share, self.center, self.fall, self.group - self.shifted(touched))

    def shifted(self, touched: float = 1.0) -> float:
        """Log likelihood of a common shift of everything in the touched share."""
        p = self.reference
        edges = np.linspace(0, 1, HISTOGRAM_BINS + 1)
        cumulative = np.concatenate([[0.0], np.cumsum(p)])
        moved = [np.interp(edges + d, edges, cumulative) for d in np.arange(0, 0.81, 0.01)]
        moved += [np.interp(np.minimum(edges / k, 1.0), edges, cumulative) for k in np.arange(0.5, 1.0, 0.02)]
        table = np.array(moved)
        table[:, 0], table[:, -1] = 0.0, 1.0
        q = np.diff(table, axis=1)
        return float(self.weight * (_log((1 - touched) * p + touched * q) @ self.current).max())


_CENTERS = (np.arange(HISTOGRAM_BINS) + 0.5) / HISTOGRAM_BINS


def _fit_group(p: Floats, counts: Floats) -> tuple[float, float, float]:
    """Best log likelihood, share and center of a normal group at least 0.10 below the former mean."""
    shares = np.arange(0.02, 0.72, 0.02)[:, None]
    best = (-math.inf, 0.0, 0.0)
    for center in np.arange(0.06, float(p @ _CENTERS) - 0.10 + 1e-9, 0.02):
        for spread in (0.05, 0.08, 0.12):
            q = np.exp(-0.5 * ((_CENTERS - center) / spread) ** 2)
            fit = _log((1 - shares) * p + shares * q / q.sum()) @ counts
            at = int(fit.argmax())
            best = max(best, (float(fit[at]), float(shares[at, 0]), float(center)))
    return best


def _log(chances: Floats) -> Floats:
    # One score in a hundred may be anywhere, so that no single odd score decides.
    return np.asarray(np.log(0.99 * chances + 0.01 / HISTOGRAM_BINS))


@dataclass(frozen=True, slots=True)
class Timing:
    """Evidence for an effect that begins at each onset (days after the dated day) and grows for some days."""

    test: EffectTest
    days: Floats  # of the history, counted from the dated day

    @classmethod
    def of(cls, days: Sequence[DailyScores], changed_on: date, detector: Detector) -> "Timing":
        history = as_history(days)
        since = history.ordinal.astype(np.float64) - changed_on.toordinal()
        return cls(EffectTest.of(history, detector.replay(history).noise), since)

    def weigh_stages(self, steps: Sequence[tuple[float, float]], lags: Sequence[float], touched: float) -> Floats:
        """The same, for each lag, of an effect that grows in steps: (onset, share of users) each."""
        whole = sum(share for _, share in steps)
        shapes = [sum(_effect(self.days, at + lag, 0.0) * share / whole for at, share in steps) for lag in lags]
        return self._measure(np.column_stack(shapes), touched)

    def weigh(self, onsets: Floats, touched: float) -> Floats:
        """Tempered log evidence, onsets x `GROWTH_DAYS`, of an effect on the touched share of the queries."""
        shapes = np.column_stack([_effect(self.days, t, g) for t in onsets for g in GROWTH_DAYS])
        return self._measure(shapes, touched).reshape(len(onsets), len(GROWTH_DAYS))

    def _measure(self, shapes: Floats, touched: float) -> Floats:
        score, information = self.test.measure(shapes)
        gain = np.where(score < 0, 0.5 * score**2 / (information + (EFFECT_SD * max(touched, 0.01)) ** -2), 0.0)
        return np.asarray(TEMPER * gain)


def _effect(days: Floats, onset: float, growth: float) -> Floats:
    """The mean share of the effect on each day; the day of the onset counts only after the onset."""
    if growth == 0:
        return np.clip(days + 1 - onset, 0.0, 1.0)
    return (np.clip(days + 1 - onset, 0.0, growth) + np.clip(days - onset, 0.0, growth)) / (2 * growth)

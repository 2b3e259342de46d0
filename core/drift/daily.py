"""Rule: the model of daily means: level, weekdays, a wobble from day to day, and the noise of few queries.

What a detector of changes measures with, and what causes and intervals are weighed with. Pure numpy: it knows indices
of observed days, neither dates nor words.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import product
from statistics import NormalDist
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
_N = TypeVar("_N", float, Floats)

MIN_QUERIES = 20  # on either side of a change: the normal approximation of a mean needs about this many
REFERENCE = 180  # observed days of history, reference and suspected change together

# Priors. Typical of retrieval logs of many kinds whose single scores have the sd `SCORE_SD`; all that are in points of
# the score are scaled to the spread that a log has (`Noise.unit`). A few weeks of data outweigh them.
SCORE_SD, SCORE_SD_DAYS = 0.12, 10.0  # sd of single scores, and its weight in queries
SPREAD_WEIGHT = 50.0  # weight, in queries, of the pooled sd in the sd of each day
WEEKEND_SD = 0.03  # prior sd of the weekend effect
PRIOR_DEGREES = 8.0  # weight of the priors, in degrees of freedom
DAY_SD, DAY_SD_FACTOR = 0.011, 0.6  # typical wobble, and the sd of its logarithm
CORRELATION, CORRELATION_SD = 0.3, 0.25
DESIGN_EFFECT, DESIGN_EFFECT_FACTOR = 1.7, 0.45
WEEKDAY_SDS = (0.003, 0.01)  # prior sds of single weekdays around their group
DAY_SDS = (0.002, 0.004, 0.006, 0.008, 0.011, 0.015, 0.022, 0.033)
CORRELATIONS = (0.0, 0.25, 0.5, 0.7)
UNIT_STEP = 1.25  # the priors are scaled by powers of this, so that a log needs few sets of models
DESIGN_EFFECTS = (1.0, 1.6, 2.6, 4.2, 7.0)


@dataclass(frozen=True, slots=True)
class Noise:
    """Why a daily mean differs from the level: a day-to-day wobble with autocorrelation, and sampling noise."""

    day_sd: float  # sd of the wobble, which more queries do not average away
    correlation: float  # of the wobble from one day to the next
    design_effect: float  # variance of a daily mean / that of independent queries: sessions repeat themselves
    weekday_sd: float
    unit: float = 1.0  # spread of single scores / `SCORE_SD`: the scale of the priors

    @property
    def precision(self) -> Floats:
        """Prior precision of the level (none), the weekend and the weekdays."""
        return np.array([FLAT, (self.unit * WEEKEND_SD) ** -2, *[self.weekday_sd**-2] * 7])

    def with_steps(self, count: int) -> Floats:
        """Prior precision with so many changes of level behind the weekdays, of any size."""
        return np.append(self.precision, np.full(count, FLAT))


WEEK: Floats = np.column_stack([np.ones(7), np.arange(7) >= 5, np.eye(7)])  # level, weekend, Monday to Sunday
FLAT = 1e-6  # precision of what may be anything
PRIOR_NOISE = Noise(day_sd=0.011, correlation=0.3, design_effect=1.7, weekday_sd=0.01)


@dataclass(frozen=True, slots=True)
class Shift:
    """A change of level at observed day `start`: its size, standard error, corrected z, and log evidence that the
    level changed in this direction on that day or any other."""

    start: int
    size: float
    error: float
    z: float
    evidence: float = 0.0


@dataclass(frozen=True, slots=True)
class DailyHistory:
    """Observed days (at least one query each), ascending: ordinal of the day, queries, mean, variance of that mean
    if queries were independent, and the sd of single scores up to that day."""

    ordinal: Ints
    count: Ints
    mean: Floats
    variance: Floats
    spread: Floats

    @classmethod
    def of(cls, ordinal: Ints, count: Ints, total: Floats, total_squares: Floats) -> "DailyHistory":
        """Summarize daily sums. A day's variance is shrunk toward that of all days up to it."""
        mean = total / count
        squares = np.maximum(total_squares - total * mean, 0.0)
        degrees = (count - 1).astype(float)
        pooled = (np.cumsum(squares) + SCORE_SD_DAYS * SCORE_SD**2) / (np.cumsum(degrees) + SCORE_SD_DAYS)
        spread = (squares + SPREAD_WEIGHT * pooled) / (degrees + SPREAD_WEIGHT)
        return cls(ordinal, count, mean, spread / count, np.sqrt(pooled))

    def __len__(self) -> int:
        return len(self.ordinal)

    def take(self, index: Ints) -> "DailyHistory":
        return DailyHistory(
            self.ordinal[index], self.count[index], self.mean[index], self.variance[index], self.spread[index]
        )

    def unit_at(self, day: int) -> float:
        """Spread of single scores before a day, in units of `SCORE_SD` and rounded: the scale of the priors."""
        spread = float(self.spread[max(0, day - 1)]) if len(self) else SCORE_SD
        return float(UNIT_STEP ** round(math.log(max(spread, 1e-9) / SCORE_SD) / math.log(UNIT_STEP)))

    def steps(self, starts: Sequence[int]) -> Floats:
        """A column for each change of level: 1 from its first day on."""
        days = np.arange(len(self))
        return (days[:, None] >= np.array(starts, dtype=np.int64)[None]).astype(float)

    @property
    def gaps(self) -> Floats:
        """Days since the observed day before (1 when there is no gap)."""
        return np.diff(self.ordinal, prepend=self.ordinal[:1] - 1).astype(float)

    @property
    def design(self) -> Floats:
        """Columns: level, weekend, Monday to Sunday."""
        return WEEK[(self.ordinal - 1) % 7]  # ordinal 1 was a Monday

    def design_of(self, days: Ints) -> Floats:
        """The same of some days."""
        return WEEK[(self.ordinal[days] - 1) % 7]


def whiten(history: DailyHistory, noise: Noise, columns: Floats) -> Floats:
    """Kalman filter of an AR(1) wobble under sampling noise: independent unit-variance innovations of `columns`."""
    if not len(history):
        return np.zeros_like(columns)
    carried = noise.correlation**history.gaps
    fresh = noise.day_sd**2 * (1 - carried**2)
    sampling = noise.design_effect * history.variance
    # Numbers of Python, because numpy's are slow one by one.
    kept, variance = _filter((carried**2).tolist(), fresh.tolist(), sampling.tolist(), noise.day_sd**2)
    return _innovate(carried, np.array(kept), np.array(variance), columns)


def whiten_by_each(history: DailyHistory, models: Floats, columns: Floats) -> tuple[Floats, Floats]:
    """The same for many models, a row (day_sd, correlation, design_effect) each.

    Returns days x models x columns, and the log variance of each innovation (days x models).
    """
    wobble, correlation, effect = models[:, 0] ** 2, models[:, 1], models[:, 2]
    carried = correlation ** history.gaps[:, None]
    fresh, sampling = wobble * (1 - carried**2), effect * history.variance[:, None]
    kept, variance = map(np.array, _filter(carried**2, fresh, sampling, wobble))
    carried[0] = 0  # one model after the other is one system: nothing is carried from one to the next
    flat = (carried.T.ravel(), kept.T.ravel(), variance.T.ravel())
    white = _innovate(*flat, np.tile(columns, (len(models), 1)))
    return white.reshape(len(models), *columns.shape).swapaxes(0, 1), np.log(variance)


def _filter(
    carried: Iterable[_N], fresh: Iterable[_N], sampling: Iterable[_N], wobble: _N
) -> tuple[list[_N], list[_N]]:
    """For each day: the share of what was expected that its innovation leaves (1 - gain), and its variance."""
    kept, variance = [], []
    for carry, new, noise in zip(carried, fresh, sampling, strict=True):
        spread = carry * wobble + new
        total = spread + noise
        kept.append(noise / total)
        variance.append(total)
        wobble = spread * kept[-1]
    return kept, variance


def _innovate(carried: Floats, kept: Floats, variance: Floats, columns: Floats) -> Floats:
    """Each day's difference from what is expected of it, in standard deviations.

    expected[t] = carried[t] * (kept[t-1] * expected[t-1] + (1 - kept[t-1]) * column[t-1]), a banded system.
    """
    from scipy.linalg import solve_banded

    band = np.ones((2, len(kept)))
    band[1, :-1] = -carried[1:] * kept[:-1]
    gained = np.zeros_like(columns)
    gained[1:] = (carried[1:] * (1 - kept[:-1]))[:, None] * columns[:-1]
    expected = solve_banded((1, 0), band, gained, overwrite_ab=True, overwrite_b=True, check_finite=False)
    return np.asarray((columns - expected) / np.sqrt(variance)[:, None])


@dataclass(frozen=True, slots=True)
class Reference:
    """Level and weekday effects of some days, with their covariance; other days are measured against it."""

    effects: Floats
    covariance: Floats
    noise: Noise
    days: int

    @classmethod
    def of(cls, history: DailyHistory, days: Sequence[int], noise: Noise, *, steps: Sequence[int] = ()) -> "Reference":
        """Fit the last `REFERENCE` of the days (without days: the priors), the level being that of the last one.

        `steps` are the days on which the level changed before.
        """
        index = np.array(days[-REFERENCE:], dtype=np.int64)
        seen = history.take(index)
        # Each former level has a column of its own, so that the first column is the last level.
        former = 1.0 - history.steps([at for at in steps if len(index) and index[0] < at <= index[-1]])[index]
        columns = np.column_stack([seen.mean, seen.design, former])
        white = whiten(seen, noise, columns)
        inverse = np.linalg.inv(white[:, 1:].T @ white[:, 1:] + np.diag(noise.with_steps(former.shape[1])))
        effects = inverse @ (white[:, 1:].T @ white[:, 0])
        return cls(np.asarray(effects[:9]), np.asarray(inverse[:9, :9]), noise, len(index))

    def shift(self, history: DailyHistory, index: Ints) -> Shift:
        """The difference of these days' level from the reference, with its standard error."""
        size, error = self.shifts(history, index[None])
        z = student_to_normal(size / error, PRIOR_DEGREES + self.days)
        return Shift(int(index[0]), float(size[0]), float(error[0]), float(z[0]))

    def shifts(self, history: DailyHistory, windows: Ints) -> tuple[Floats, Floats]:
        """The same for many windows of equal length: sizes and standard errors (generalized least squares)."""
        design = history.design[windows]
        residual = history.mean[windows] - design @ self.effects
        covariance = scatter(history, windows, self.noise) + design @ self.covariance @ design.transpose(0, 2, 1)
        weight = np.linalg.solve(covariance, np.ones((*windows.shape, 1)))[..., 0]
        information = weight.sum(axis=1)
        return (weight * residual).sum(axis=1) / information, 1 / np.sqrt(information)


def scatter(history: DailyHistory, windows: Ints, noise: Noise) -> Floats:
    """Covariance of the daily means of each window around their level: autocorrelated wobble and sampling noise."""
    ordinal = history.ordinal[windows]
    apart = np.abs(ordinal[:, :, None] - ordinal[:, None, :]).astype(float)
    sampling = noise.design_effect * history.variance[windows]
    return np.asarray(noise.day_sd**2 * noise.correlation**apart + sampling[:, :, None] * np.eye(windows.shape[1]))


class NoiseLikelihood:
    """Restricted likelihood of each noise model on the grid, over any range of days."""

    def __init__(self, history: DailyHistory, *, unit: float = 1.0, steps: Sequence[int] = ()) -> None:
        columns = np.column_stack([history.mean - history.mean[0], history.design, history.steps(steps)])
        self.unit, self.steps = unit, len(steps)
        self.grid = np.array(list(product(unit * np.array(DAY_SDS), CORRELATIONS, DESIGN_EFFECTS)))
        self.white, self.log_variance = whiten_by_each(history, self.grid, columns)
        day_sd, correlation, effect = self.grid.T
        self.prior = -0.5 * (
            (np.log(day_sd / (unit * DAY_SD)) / DAY_SD_FACTOR) ** 2
            + ((correlation - CORRELATION) / CORRELATION_SD) ** 2
            + (np.log(effect / DESIGN_EFFECT) / DESIGN_EFFECT_FACTOR) ** 2
        )

    def estimate(self, low: int, high: int) -> Noise:
        """Posterior mean of the noise from days low..high-1; the prior if there are none."""
        if high <= low:
            return scale_noise(PRIOR_NOISE, self.unit)
        white = self.white[low:high].transpose(1, 2, 0)
        moments = white @ white.transpose(0, 2, 1)
        fit = self.prior - 0.5 * self.log_variance[low:high].sum(axis=0)
        sds = self.unit * np.array(WEEKDAY_SDS)
        posterior = np.stack([fit + _profile(moments, sd, self.unit) for sd in sds])
        weights = np.exp(posterior - posterior.max())
        weights /= weights.sum()
        day_sd, correlation, effect = weights.sum(axis=0) @ (self.grid ** np.array([2, 1, 1]))
        weekday = float(np.sqrt(weights.sum(axis=1) @ np.square(sds)))
        return Noise(float(np.sqrt(day_sd)), float(correlation), float(effect), weekday, self.unit)


def scale_noise(noise: Noise, unit: float) -> Noise:
    """Return the noise of scores whose spread is `unit` times as large."""
    return replace(noise, day_sd=noise.day_sd * unit, weekday_sd=noise.weekday_sd * unit, unit=noise.unit * unit)


def _profile(moments: Floats, weekday_sd: float, unit: float) -> Floats:
    """Log likelihood per model with level and weekday effects integrated out, from cross products of (y, design)."""
    prior = Noise(0.0, 0.0, 0.0, weekday_sd, unit).with_steps(moments.shape[1] - 10)
    precision = moments[:, 1:, 1:] + np.diag(prior)
    fitted = (moments[:, 1:, 0] * np.linalg.solve(precision, moments[:, 1:, :1])[..., 0]).sum(axis=1)
    return np.asarray(-0.5 * (np.linalg.slogdet(precision)[1] - np.log(prior).sum() + moments[:, 0, 0] - fitted))


def estimate_noise(history: DailyHistory) -> Noise:
    """Return the noise of a history, estimated from its last `REFERENCE` observed days.

    Days after a change belong to another level and look like noise: leave them out.
    """
    unit = history.unit_at(len(history))
    return NoiseLikelihood(history, unit=unit).estimate(max(0, len(history) - REFERENCE), len(history))


@dataclass(frozen=True, slots=True)
class EffectTest:
    """A history with its level and weekdays fitted, so that effects of any shape can be tested on it."""

    history: DailyHistory
    noise: Noise
    white: Floats
    covariance: Floats

    @classmethod
    def of(cls, history: DailyHistory, noise: Noise) -> "EffectTest":
        """Fit level and weekdays to the whole history."""
        columns = np.column_stack([history.mean - history.mean[0], history.design])
        white = whiten(history, noise, columns)
        covariance = np.linalg.inv(white[:, 1:].T @ white[:, 1:] + np.diag(noise.precision))
        return cls(history, noise, white, np.asarray(covariance, dtype=np.float64))

    def measure(self, shapes: Floats) -> tuple[Floats, Floats]:
        """Return score and information of each effect: `shapes` has a column per effect, its part on each day.

        An effect's size is estimated by score / information, with the standard error 1 / sqrt(information).
        """
        step = whiten(self.history, self.noise, shapes)
        y, fixed = self.white[:, 0], self.white[:, 1:]
        solved = self.covariance @ (fixed.T @ step)
        score = step.T @ y - solved.T @ (fixed.T @ y)
        return score, (step**2).sum(axis=0) - ((fixed.T @ step) * solved).sum(axis=0)


def half_interval(history: DailyHistory, noise: Noise, before: Ints, after: Ints, *, error: float) -> float:
    """Return half the confidence interval of the difference of the query-weighted means of two sets of days.

    `error` is the chance that the interval misses: 0.05 for one of 95%. Each day is a cluster; their variance
    is widened by the correlation from day to day and drawn to the noise model with the weight of `PRIOR_DEGREES` days.
    """
    index = np.concatenate([before, after])
    weights = np.concatenate([_share(history, before), -_share(history, after)])
    mix = weights @ history.design[index]  # what the windows differ in weekdays
    effects = Reference.of(history, range(int(before[0]), int(before[-1]) + 1), noise)
    model = scatter(history, index[None], noise)[0]
    expected = float(weights @ model @ weights)
    clustered, degrees = 0.0, 0
    for part, share in ((before, weights[: len(before)]), (after, weights[len(before) :])):
        residual = history.mean[part] - history.design[part] @ effects.effects
        residual = residual - np.average(residual, weights=np.abs(share))
        degrees += len(part) - 1
        clustered += float(((share * residual) ** 2).sum()) * len(part) / max(1, len(part) - 1)
    lonely = sum(float(s @ m @ s) for s, m in _single_days(weights, model, len(before)))
    clustered = (clustered + lonely) * expected / float(weights**2 @ np.diag(model))
    variance = (PRIOR_DEGREES * expected + degrees * clustered) / (PRIOR_DEGREES + degrees)
    variance += float(mix @ effects.covariance @ mix)
    deviate = normal_to_student(NormalDist().inv_cdf(1 - error / 2), PRIOR_DEGREES + degrees)
    return deviate * float(np.sqrt(variance))


def _single_days(weights: Floats, model: Floats, split: int) -> list[tuple[Floats, Floats]]:
    """Windows of one day have no scatter of their own: their part of the model variance stands in."""
    parts = (slice(0, split), slice(split, None))
    return [(weights[p], model[p, p]) for p in parts if len(weights[p]) == 1]


def _share(history: DailyHistory, index: Ints) -> Floats:
    count = history.count[index].astype(float)
    return np.asarray(count / count.sum())


def normal_to_student(z: float, degrees: float) -> float:
    """Return the number of standard errors that corresponds to the normal deviate z."""
    scaled = z * (8 * degrees + 3) / (8 * degrees + 1)
    return float(np.sqrt(degrees * np.expm1(scaled**2 / degrees)))


def student_to_normal(t: Floats, degrees: float) -> Floats:
    """Return the normal deviate with about the same tail as Student's t, for estimated noise (Wallace 1959)."""
    scaled = np.sqrt(degrees * np.log1p(t**2 / degrees))
    return np.asarray(np.sign(t) * scaled * (8 * degrees + 1) / (8 * degrees + 3))

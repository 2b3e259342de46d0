"""Rule: how likely the level changed on each day of a history, as of each later day.

`changepoint.py` decides what follows from it. Statistics come block by block: `REVIEW` days share a noise estimate.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from core.drift.daily import (
    MIN_QUERIES,
    PRIOR_DEGREES,
    REFERENCE,
    DailyHistory,
    Floats,
    Ints,
    Noise,
    NoiseLikelihood,
    Reference,
    Shift,
    student_to_normal,
    whiten,
)

DROP_ERRORS = 4.0  # size of the drops to detect: sd of a normal prior, in standard errors of a usual daily mean
LONE_DAY = 0.8  # weight of z for a change seen on one day only: odd days are likelier than under a normal distribution
ODD = 3.5  # standard errors that a daily mean counts at most: an odd day needs a second one
COLLAPSE = 3.0  # sds of single scores: a day that is farther off counts in full
SCATTER_DEGREES = 4.0  # weight of the noise in the scatter since a change, in degrees of freedom
LONGEST = 60  # observed days a suspected change may lie back
LEAST_SHARE = 0.05  # least share of the wobble in the noise, because sampling noise is not known exactly either
REVIEW, SETTLED = 7, 91  # observed days between noise estimates; four times as many once there are 91 days
LAG = 10  # newest observed days left out of that estimate, so that a fresh drop cannot inflate it
LEAST = -1e300  # log evidence where there is none
CREDIBLE = 0.9  # chance that a change lies in the range of days that is named


@dataclass(frozen=True, slots=True)
class Block:
    """Starts, and for each day of a block and start the shift, its standard error and z (0 if unknown)."""

    first: int
    starts: Ints
    size: Floats
    error: Floats
    z: Floats
    drop_sd: float
    _evidence: dict[tuple[int, int], Floats] = field(default_factory=dict)

    def belief(self, sign: int, *, since: int = 0) -> Floats:
        """Log likelihood ratio of a shift of this sign at each start from `since` on, the size integrated out."""
        known = self.drop_sd**2 / (self.drop_sd**2 + self.error**2)
        is_meant = (self.z * sign > 0) & (self.starts >= since)
        return np.where(is_meant, (known * self.z**2 + np.log1p(-known)) / 2, -np.inf)

    def evidence(self, day: int, sign: int, *, since: int = 0) -> float:
        """Log of the likelihood ratios summed over all starts, at the end of a day."""
        if (sign, since) not in self._evidence:
            belief = self.belief(sign, since=since)
            top = belief.max(axis=1, initial=LEAST)
            self._evidence[sign, since] = top + np.log(np.exp(belief - top[:, None]).sum(axis=1) + 1e-300)
        return float(self._evidence[sign, since][day - self.first])

    def strongest(self, day: int, sign: int, *, since: int = 0) -> Shift | None:
        """The likeliest shift of this sign at the end of a day."""
        belief = self.belief(sign, since=since)[day - self.first]
        if not np.isfinite(belief).any():
            return None
        i, row = int(belief.argmax()), day - self.first
        size, error, z = (float(figure[row, i]) for figure in (self.size, self.error, self.z))
        return Shift(int(self.starts[i]), size, error, z, self.evidence(day, sign, since=since))

    def range_of(self, day: int, sign: int, *, since: int, until: int) -> tuple[int, int, int] | None:
        """The likeliest start up to `until`, and the first and last of the likely ones; None without any."""
        belief = self.belief(sign, since=since)[day - self.first]
        belief = np.where(self.starts <= until, belief, -np.inf)
        if not np.isfinite(belief).any():
            return None
        chance = np.exp(belief - belief.max())
        order = np.argsort(-chance, kind="stable")
        count = int(np.searchsorted(np.cumsum(chance[order]), CREDIBLE * chance.sum())) + 1
        likely = self.starts[order[:count]]
        return int(self.starts[belief.argmax()]), int(likely.min()), int(likely.max())


@dataclass(slots=True)
class Scan:
    """Likelihood-ratio statistics of a history whose level has changed on the days `steps`, by blocks of days."""

    history: DailyHistory
    steps: tuple[int, ...] = ()
    _noises: dict[int, Noise] = field(default_factory=dict)
    _likelihoods: dict[float, NoiseLikelihood] = field(default_factory=dict)
    _blocks: dict[int, Block] = field(default_factory=dict)

    def noise_at(self, day: int) -> Noise:
        """The noise as it was known at the start of the day's block."""
        block = block_start(day)
        if block not in self._noises:
            unit = self.history.unit_at(block)
            if unit not in self._likelihoods:
                self._likelihoods[unit] = NoiseLikelihood(self.history, unit=unit, steps=self.steps)
            self._noises[block] = self._likelihoods[unit].estimate(max(0, block - REFERENCE), max(0, block - LAG))
        return self._noises[block]

    def block(self, day: int) -> Block:
        """The statistics of every start at the end of each day of this day's block."""
        first = block_start(day)
        if first not in self._blocks:
            self._blocks[first] = self._compute(first)
        return self._blocks[first]

    def with_steps(self, steps: Sequence[int]) -> "Scan":
        """The same history with other known changes of level."""
        return Scan(self.history, tuple(steps))

    def level_before(self, day: int, called: int, *, noise: Noise | None = None) -> Reference:
        """The level of the days before this one, with the noise as it was known on the day of a call."""
        steps = [step for step in self.steps if step < day]
        return Reference.of(self.history, range(day), noise or self.noise_at(called), steps=steps)

    def _compute(self, first: int) -> Block:
        last = min(first + _block_length(first), len(self.history))
        low = max(0, first - REFERENCE)
        days = np.arange(low, last)
        starts = np.arange(max(low + 1, first - LONGEST + 1), last)
        noise = self.noise_at(first)
        seen = self.history.take(days)
        known = [step - low for step in self.steps if low < step < last]
        design = np.column_stack([seen.design, seen.steps(known)])
        precision = noise.with_steps(len(known))
        mean, expected = limit_odd_days(seen, design, first - low, noise, precision)
        columns = [mean, design, days[:, None] >= starts, mean - expected]
        white, residual = np.split(whiten(seen, noise, np.column_stack(columns)), [-1], axis=1)
        width = 1 + design.shape[1]
        fixed, step = white[:, :width], white[:, width:]
        tail = slice(first - low, None)
        moments = np.cumsum(fixed[:, :, None] * fixed[:, None, :], axis=0)[tail]
        cross = np.cumsum(fixed[:, :, None] * step[:, None, :], axis=0)[tail]
        power = np.cumsum(step**2, axis=0)[tail]
        solved = np.linalg.solve(moments[:, 1:, 1:] + np.diag(precision), cross[:, 1:])
        score = cross[:, 0] - np.einsum("di,dis->ds", moments[:, 0, 1:], solved)
        information = power - np.einsum("dis,dis->ds", cross[:, 1:], solved)
        is_known = self._enough(days, starts)[tail] & (information > 1e-3 * power)
        information = np.where(is_known, information, 1.0)
        error = np.sqrt(_scatter_since(residual, step, starts - low)[tail] / information)
        sampling = usual_sampling(self.history, first, noise)
        degrees = degrees_of(max(0, first - LAG - low), noise, sampling)
        z = student_to_normal(score / information / error, degrees)
        z = np.where(days[tail, None] == starts, z * LONE_DAY, z)
        z = np.where(is_known, z, 0.0)
        drop_sd = usual_drop(noise, sampling)
        return Block(first, starts, score / information, error, z, drop_sd)

    def _enough(self, days: Ints, starts: Ints) -> NDArray[np.bool_]:
        """Whether both sides of each start have enough queries at the end of each day, within reach."""
        seen = np.append(0, np.cumsum(self.history.count[days]))
        before = seen[starts - days[0]]
        after = seen[1:, None] - before
        return np.asarray((before >= MIN_QUERIES) & (after >= MIN_QUERIES) & (days[:, None] - starts < LONGEST))


def _scatter_since(residual: Floats, step: Floats, starts: Ints) -> Floats:
    """By how much the days since each start scatter more than the noise explains, at the end of each day; at least 1.

    Days of a drop lie as close to their new level as days before did to theirs; those of a noisy spell do not.
    """
    squares = np.append(0.0, np.cumsum(residual**2))
    explained = np.cumsum(residual * step, axis=0) ** 2 / np.maximum(np.cumsum(step**2, axis=0), 1e-12)
    around = np.maximum(squares[1:, None] - squares[starts] - explained, 0.0)
    degrees = np.maximum(np.arange(len(step))[:, None] - starts, 0)
    return np.asarray(np.maximum(1.0, (SCATTER_DEGREES + around) / (SCATTER_DEGREES + degrees)))


def limit_odd_days(
    history: DailyHistory, design: Floats, learned: int, noise: Noise, precision: Floats
) -> tuple[Floats, Floats]:
    """Daily means, centered, and what the first `learned` days let expect of them.

    The means are at most `ODD` standard errors off that. The error includes that of the expectation, so that nothing is
    limited where little is known. Nor is a day whose mean is off by more than `COLLAPSE` times the spread of scores.
    """
    mean = history.mean - history.mean[0]
    sd = np.sqrt(noise.day_sd**2 + noise.design_effect * history.variance)
    limited = expected = mean
    for _ in range(2):
        columns = np.column_stack([limited[:learned], design[:learned]])
        white = whiten(history.take(np.arange(learned)), noise, columns)
        if not learned:
            return mean, mean
        covariance = np.linalg.inv(white[:, 1:].T @ white[:, 1:] + np.diag(precision))
        expected = design @ (covariance @ (white[:, 1:].T @ white[:, 0]))
        reach = ODD * np.sqrt(sd**2 + np.einsum("di,ij,dj->d", design, covariance, design))
        limited = np.clip(mean, expected - reach, expected + reach)
        limited = np.where(np.abs(mean - expected) > COLLAPSE * history.spread, mean, limited)
    return limited, expected


def block_start(day: int) -> int:
    """The first day of a day's block."""
    base = 0 if day < SETTLED else SETTLED
    return base + (day - base) // _block_length(day) * _block_length(day)


def _block_length(day: int) -> int:
    return REVIEW if day < SETTLED else 4 * REVIEW


def usual_sampling(history: DailyHistory, day: int, noise: Noise) -> float:
    """Sampling variance of a daily mean, at the traffic of the two weeks up to this day."""
    return noise.design_effect * float(np.median(history.variance[max(0, day - 13) : day + 1]))


def usual_drop(noise: Noise, sampling: float) -> float:
    """Prior sd of a drop: `DROP_ERRORS` standard errors of a daily mean."""
    return DROP_ERRORS * math.sqrt(noise.day_sd**2 + sampling)


def degrees_of(days: int, noise: Noise, sampling: float) -> float:
    """Degrees of freedom of a daily mean's variance, whose wobble part is estimated from this many days."""
    share = noise.day_sd**2 / (noise.day_sd**2 + sampling)
    return (PRIOR_DEGREES + days) / max(share, LEAST_SHARE) ** 2

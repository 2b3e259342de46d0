"""Rule: detects change points sequentially, daily means in, dated drops and recoveries out.

One implementation of `core.drift.detector.Detector`: a module is one as long as it has `replay` and `smallest_drop`.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import NormalDist

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
    normal_to_student,
    scatter,
    student_to_normal,
    whiten,
)
from core.drift.detector import CALL, Episode, Replay

DROP_ERRORS = 4.0  # size of the drops to detect: sd of a normal prior, in standard errors of a usual daily mean
LONE_DAY = 0.8  # weight of z for a change seen on one day only: odd days are likelier than under a normal distribution
LONGEST = 60  # observed days a suspected change may lie back
LEAST_SHARE = 0.05  # least share of the wobble in the noise, because sampling noise is not known exactly either
REVIEW, SETTLED = 7, 91  # observed days between noise estimates; four times as many once there are 91 days
LAG = 10  # newest observed days left out of that estimate, so that a fresh drop cannot inflate it
DATING = 7  # observed days after the call in which the date of the change is still refined
RECOVERY = 14  # observed days that must be back near the reference to end an episode
RECOVERY_ERRORS = 3.0  # standard errors by which more than half of the drop must be regained


def replay(history: DailyHistory, threshold: float = CALL) -> Replay:
    """Run the detector over the whole history, one verdict at the end of each day.

    Model: daily mean = level + weekday + wobble + sampling noise. The wobble is AR(1) (`Noise.day_sd`, `correlation`
    to the power of the days between); the sampling variance is the within-day variance / count * design effect.
    Level and weekday effects are fitted by generalized least squares (a prior shrinks weekday effects to zero) on the
    last `REFERENCE` observed days; the noise is the posterior mean on a grid, from days that are at least `LAG` old.
    Each day, every start in the last `LONGEST` days is tried: z = estimated shift / its standard error e. Because the
    noise is estimated, z is read as Student's t and converted to the normal z of the same tail (Wallace 1959); its
    degrees of freedom grow with the part of the noise that is sampling, which is known (Satterthwaite 1946). With a
    normal prior for the size of the drop (sd s = `DROP_ERRORS` daily errors, v = s^2 / (s^2 + e^2)) the data are
    sqrt(1 - v) * exp(v z^2 / 2) times likelier with a drop from that start than without; rises count as nothing.
    A drop is called when the log of the sum over all starts (Shiryaev-Roberts) reaches `threshold`; the likeliest start
    is its date. The sum detects slow slides, which no single start fits, sooner than the largest z would.
    From then on the days before the change are the frozen reference.
    It recovers when the last `RECOVERY` observed days are nearer to that reference than to the level after the fall, by
    at least `RECOVERY_ERRORS` standard errors; the days in between never become reference.

    Assumes that sessions do not span many days and that wobble and noise are roughly normal. Each day's verdict uses
    no later day, so replaying a prefix gives the verdicts of that time. Cost is linear in days.
    Source: Roberts 1966; Tartakovsky, Nikiforov & Basseville 2014, ch. 7-8 (weighted Shiryaev-Roberts).
    """
    kept = np.arange(len(history))
    episodes: list[Episode] = []
    position = 0
    while True:
        scan = _Scan(history.take(kept), threshold)
        found = next(scan.alarms(position), None)
        if found is None:
            return Replay(tuple(episodes), *scan.strongest(), scan.noise_at(len(kept) - 1))
        called, start = found
        changed = scan.dated(start, called)
        end, fall = scan.recovery(changed, called)
        episode = Episode(int(kept[changed]), int(kept[start]), int(kept[called]))
        if end is None:
            return Replay((*episodes, episode), fall, None, scan.noise_at(len(kept) - 1))
        episodes.append(Episode(episode.changed, episode.dated_at_call, episode.called, int(kept[end])))
        healthy = RECOVERY // 2  # a window that regained over half of the drop was healthy in its second half
        kept = np.delete(kept, np.s_[changed : end - healthy + 1])
        position = changed + healthy


def smallest_drop(
    history: DailyHistory, seen: Replay, *, since: int, power: float, threshold: float = CALL
) -> float | None:
    """Return the drop that would be called with the chance `power` once it has lasted from the day `since` on.

    The errors by which one start alone must lie off the reference, plus the normal quantile of `power`. None with fewer
    than 20 queries in those days.
    """
    start = seen.open_episode.changed if seen.open_episode else int(np.searchsorted(history.ordinal, since))
    recent = np.flatnonzero(history.ordinal >= since)
    if not len(recent) or history.count[recent].sum() < MIN_QUERIES:
        return None
    reference = Reference.of(history, range(start), seen.noise)
    if start:
        error = reference.shift(history, recent).error
    else:  # no past yet: as if it were to hold as much as the window does
        error = float(np.sqrt(2 / np.linalg.inv(scatter(history, recent[None], seen.noise)[0]).sum()))
    sampling = _usual_sampling(history, len(history) - 1, seen.noise)
    degrees, drop_sd = degrees_of(start, seen.noise, sampling), _usual_drop(seen.noise, sampling)
    drop = (_smallest_call(error, degrees, threshold, drop_sd) + NormalDist().inv_cdf(power)) * error
    return min(drop, 1.0)


@dataclass(frozen=True, slots=True)
class _Block:
    """Starts, and for each day of a block and start the shift, its standard error and z (0 if unknown)."""

    starts: Ints
    size: Floats
    error: Floats
    z: Floats
    drop_sd: float

    def belief(self, sign: int) -> Floats:
        """Log likelihood ratio of a shift of this sign at each start, the size integrated out."""
        known = self.drop_sd**2 / (self.drop_sd**2 + self.error**2)
        return np.where(self.z * sign > 0, (known * self.z**2 + np.log1p(-known)) / 2, -np.inf)

    def strongest(self, sign: int) -> Shift | None:
        """The likeliest shift of this sign at the end of the last day."""
        belief = self.belief(sign)[-1]
        if not np.isfinite(belief).any():
            return None
        i = int(belief.argmax())
        return Shift(
            int(self.starts[i]),
            float(self.size[-1, i]),
            float(self.error[-1, i]),
            float(self.z[-1, i]),
            _log_sum(belief),
        )


class _Scan:
    """Likelihood-ratio statistics of one history, computed block by block (`REVIEW` days share a noise estimate)."""

    def __init__(self, history: DailyHistory, threshold: float) -> None:
        self.history, self.threshold = history, threshold
        self.columns = np.column_stack([history.mean - history.mean[0], history.design])
        self._likelihood = NoiseLikelihood(history)
        self._noises: dict[int, Noise] = {}

    def noise_at(self, day: int) -> Noise:
        block = _block_start(day)
        if block not in self._noises:
            self._noises[block] = self._likelihood.estimate(max(0, block - REFERENCE), max(0, block - LAG))
        return self._noises[block]

    def alarms(self, position: int) -> Iterator[tuple[int, int]]:
        """(day, start of the drop) for each day from `position` on whose strongest drop reaches the threshold."""
        first = _block_start(position)
        while first < len(self.history):
            block = self._block(first)
            belief = block.belief(-1)
            for row in range(max(0, position - first), len(belief)):
                if _log_sum(belief[row]) >= self.threshold:
                    yield first + row, int(block.starts[belief[row].argmax()])
            first += len(belief)

    def strongest(self) -> tuple[Shift | None, Shift | None]:
        """The strongest fall and the strongest rise at the end of the last day."""
        block = self._block(_block_start(len(self.history) - 1))
        return block.strongest(-1), block.strongest(1)

    def dated(self, start: int, called: int) -> int:
        """The likeliest start, using up to `DATING` days after the call."""
        last = min(called + DATING, len(self.history) - 1)
        block = self._block(_block_start(last))
        row = np.where(block.starts <= called, block.belief(-1)[last - _block_start(last)], -np.inf)
        return int(block.starts[row.argmax()]) if _log_sum(row) >= self.threshold else start

    def recovery(self, changed: int, called: int) -> tuple[int | None, Shift]:
        """The day on which the level had recovered (None if it has not), and the fall against the frozen reference."""
        last = len(self.history) - 1
        reference = Reference.of(self.history, range(changed), self.noise_at(changed))
        depth = reference.shift(self.history, np.arange(changed, called + 1)[-LONGEST:]).size
        ends = np.arange(max(called, changed + RECOVERY - 1), last + 1)
        if len(ends):
            size, error = reference.shifts(self.history, ends[:, None] + np.arange(1 - RECOVERY, 1))
            back = ends[size - RECOVERY_ERRORS * error > depth / 2]
            if len(back):
                return int(back[0]), reference.shift(self.history, np.arange(changed, last + 1)[-RECOVERY:])
        return None, reference.shift(self.history, np.arange(changed, last + 1)[-LONGEST:])

    def _block(self, first: int) -> "_Block":
        """Statistics of every start at the end of each day of the block that begins with `first`."""
        last = min(first + _block_length(first), len(self.history))
        low = max(0, first - REFERENCE)
        days = np.arange(low, last)
        starts = np.arange(max(low + 1, first - LONGEST + 1), last)
        noise = self.noise_at(first)
        steps = (days[:, None] >= starts).astype(float)
        white = whiten(self.history.take(days), noise.row, np.column_stack([self.columns[low:last], steps]))[0][:, 0]
        fixed, step = white[:, :10], white[:, 10:]
        tail = slice(first - low, None)
        moments = np.cumsum(fixed[:, :, None] * fixed[:, None, :], axis=0)[tail]
        cross = np.cumsum(fixed[:, :, None] * step[:, None, :], axis=0)[tail]
        power = np.cumsum(step**2, axis=0)[tail]
        solved = np.linalg.solve(moments[:, 1:, 1:] + np.diag(noise.precision), cross[:, 1:])
        score = cross[:, 0] - np.einsum("di,dis->ds", moments[:, 0, 1:], solved)
        information = power - np.einsum("dis,dis->ds", cross[:, 1:], solved)
        known = self._enough(days, starts)[tail] & (information > 1e-3 * power)
        information = np.where(known, information, 1.0)
        sampling = _usual_sampling(self.history, first, noise)
        degrees = degrees_of(max(0, first - LAG - low), noise, sampling)
        z = student_to_normal(score / np.sqrt(information), degrees)
        z = np.where(days[tail, None] == starts, z * LONE_DAY, z)
        z = np.where(known, z, 0.0)
        return _Block(starts, score / information, 1 / np.sqrt(information), z, _usual_drop(noise, sampling))

    def _enough(self, days: Ints, starts: Ints) -> NDArray[np.bool_]:
        """Whether both sides of each start have enough queries at the end of each day, within reach."""
        seen = np.append(0, np.cumsum(self.history.count[days]))
        before = seen[starts - days[0]]
        after = seen[1:, None] - before
        return np.asarray((before >= MIN_QUERIES) & (after >= MIN_QUERIES) & (days[:, None] - starts < LONGEST))


def _block_length(day: int) -> int:
    return REVIEW if day < SETTLED else 4 * REVIEW


def _block_start(day: int) -> int:
    base = 0 if day < SETTLED else SETTLED
    return base + (day - base) // _block_length(day) * _block_length(day)


def _log_sum(belief: Floats) -> float:
    """Log of the summed likelihood ratios; minus infinity when no start has any."""
    top = belief.max(initial=-np.inf)
    return float(top + np.log(np.exp(belief - top).sum())) if np.isfinite(top) else -math.inf


def _usual_sampling(history: DailyHistory, day: int, noise: Noise) -> float:
    """Sampling variance of a daily mean, at the traffic of the two weeks up to this day."""
    return noise.design_effect * float(np.median(history.variance[max(0, day - 13) : day + 1]))


def _usual_drop(noise: Noise, sampling: float) -> float:
    """Prior sd of a drop: `DROP_ERRORS` standard errors of a daily mean."""
    return DROP_ERRORS * math.sqrt(noise.day_sd**2 + sampling)


def degrees_of(days: int, noise: Noise, sampling: float) -> float:
    """Degrees of freedom of a daily mean's variance, whose wobble part is estimated from this many days."""
    share = noise.day_sd**2 / (noise.day_sd**2 + sampling)
    return (PRIOR_DEGREES + days) / max(share, LEAST_SHARE) ** 2


def _smallest_call(error: float, degrees: float, threshold: float, drop_sd: float) -> float:
    """The number of standard errors at which a single start is called."""
    known = drop_sd**2 / (drop_sd**2 + error**2)
    return normal_to_student(math.sqrt((2 * threshold - math.log1p(-known)) / known), degrees)

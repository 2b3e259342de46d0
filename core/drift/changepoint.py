"""Rule: detects change points sequentially. Daily means in, dated drops and recoveries out.

Pure numpy. It knows indices, not dates or words; `verdict.py` turns what it finds into a report.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

CALL = math.log(100)  # evidence at which a drop is called: the days are 100 times likelier with a drop than without
DROP_ERRORS = 4.0  # size of the drops that are looked for: sd of a normal prior, in errors of a usual daily mean
LONE_DAY = 0.8  # weight of the z of a change seen on one day only: an odd day is likelier than a normal error has it
MIN_QUERIES = 20  # on either side of a change: the normal approximation of a mean needs about that many
LONGEST = 60  # observed days a suspected change may reach back
REFERENCE = 180  # observed days of history that reference and suspected change share
REVIEW, SETTLED = 7, 91  # observed days between two estimates of the noise; four times as many once it has settled
LAG = 10  # newest observed days kept out of that estimate, so that a fresh drop cannot inflate it
DATING = 7  # observed days after the call during which the date of the change is still refined
RECOVERY = 14  # observed days that must be back near the reference to end an episode
RECOVERY_ERRORS = 3.0  # and the standard errors by which at least half of the drop must be regained

# Priors. What one sees in retrieval logs of many kinds; a few weeks of data outweigh them.
SCORE_SD, SCORE_SD_DAYS = 0.12, 10.0  # spread of single scores, worth so many queries
SPREAD_WEIGHT = 50.0  # queries of the pooled spread that are mixed into the spread of each day
WEEKEND_SD = 0.03  # how far weekends may lie off the working days
PRIOR_DEGREES = 8.0  # degrees of freedom that the priors stand for
LEAST_SHARE = 0.05  # of the wobble in the noise: the sampling noise is not known perfectly either
DAY_SD, DAY_SD_FACTOR = 0.011, 0.6  # typical wobble, and the sd of its logarithm
CORRELATION, CORRELATION_SD = 0.3, 0.25
DESIGN_EFFECT, DESIGN_EFFECT_FACTOR = 1.7, 0.45
WEEKDAY_SDS = (0.003, 0.01)  # how far single weekdays may lie off their group
DAY_SDS = (0.002, 0.004, 0.006, 0.008, 0.011, 0.015, 0.022)
CORRELATIONS = (0.0, 0.25, 0.5, 0.7)
DESIGN_EFFECTS = (1.0, 1.6, 2.6, 4.2, 7.0)


@dataclass(frozen=True, slots=True)
class Noise:
    """Why a daily mean differs from the level: a day-to-day wobble, correlated from day to day, and few queries."""

    day_sd: float  # sd of the wobble that no number of queries averages away
    correlation: float  # of the wobble from one day to the next
    design_effect: float  # variance of a daily mean over that of independent queries: sessions repeat themselves
    weekday_sd: float


PRIOR_NOISE = Noise(day_sd=0.011, correlation=0.3, design_effect=1.7, weekday_sd=0.01)


@dataclass(frozen=True, slots=True)
class Shift:
    """A change of level at observed day `start`: its size, standard error and corrected z, and the log evidence that
    the level changed in this direction on that day or any other."""

    start: int
    size: float
    error: float
    z: float
    evidence: float = 0.0


@dataclass(frozen=True, slots=True)
class Episode:
    """A drop, as indices of observed days. `dated_at_call` is the date as first told, `changed` the refined one."""

    changed: int
    dated_at_call: int
    called: int
    ended: int | None = None


@dataclass(frozen=True, slots=True)
class Replay:
    """What the detector knows at the end of the last day."""

    episodes: tuple[Episode, ...]
    fall: Shift | None  # the strongest suspected drop, or the called one measured against its frozen reference
    rise: Shift | None
    noise: Noise

    @property
    def open_episode(self) -> Episode | None:
        """The drop that nobody has accepted and that has not recovered."""
        return self.episodes[-1] if self.episodes and self.episodes[-1].ended is None else None


@dataclass(frozen=True, slots=True)
class DailyHistory:
    """Observed days (at least one query each), ascending: ordinal of the day, queries, mean, variance of that mean
    if queries were independent."""

    ordinal: Ints
    count: Ints
    mean: Floats
    variance: Floats

    @classmethod
    def of(cls, ordinal: Ints, count: Ints, total: Floats, total_squares: Floats) -> "DailyHistory":
        """Summarize daily sums. The spread of a day is drawn to the spread of all days up to it."""
        mean = total / count
        squares = np.maximum(total_squares - total * mean, 0.0)
        degrees = (count - 1).astype(float)
        pooled = (np.cumsum(squares) + SCORE_SD_DAYS * SCORE_SD**2) / (np.cumsum(degrees) + SCORE_SD_DAYS)
        spread = (squares + SPREAD_WEIGHT * pooled) / (degrees + SPREAD_WEIGHT)
        return cls(ordinal, count, mean, spread / count)

    def __len__(self) -> int:
        return len(self.ordinal)

    def take(self, index: Ints) -> "DailyHistory":
        return DailyHistory(self.ordinal[index], self.count[index], self.mean[index], self.variance[index])

    @property
    def gaps(self) -> Floats:
        """Days since the observed day before (1 when there is no gap)."""
        return np.diff(self.ordinal, prepend=self.ordinal[:1] - 1).astype(float)

    @property
    def design(self) -> Floats:
        """Columns: level, weekend, Monday to Sunday."""
        weekday = (self.ordinal - 1) % 7  # ordinal 1 was a Monday
        return np.column_stack([np.ones(len(self)), weekday >= 5, weekday[:, None] == np.arange(7)]).astype(float)


def replay(history: DailyHistory, threshold: float = CALL) -> Replay:
    """Run the detector over the whole history, one verdict at the end of each day.

    Model: daily mean = level + weekday + wobble + sampling noise. The wobble is AR(1) (`Noise.day_sd`, `correlation`
    to the power of the days between); the sampling variance is the within-day variance / count * design effect.
    Level and weekday effects are fitted by generalised least squares (weekday effects drawn to zero by a prior) on the
    last `REFERENCE` observed days; the noise is the posterior mean on a grid, from days that are at least `LAG` old.
    On each day every start in the last `LONGEST` days is tried: z = estimated shift / its standard error e. As the
    noise is estimated, z is read as Student's t and turned into the normal z of the same tail (Wallace 1959); its
    degrees of freedom grow with the part of the noise that is sampling, which is known (Satterthwaite 1946). With a
    normal prior for the size of the drop (sd s = `DROP_ERRORS` daily errors, v = s^2 / (s^2 + e^2)) the days are
    sqrt(1 - v) * exp(v z^2 / 2) times likelier with a drop from that start than without; rises count as nothing.
    A drop is called when the log of the sum over all starts (Shiryaev-Roberts) reaches `threshold`; the likeliest start
    is its date. Summing lets slow slides, which no single start fits, be seen earlier than the largest z would.
    From then on the days before the change are the frozen reference.
    It recovers when the last `RECOVERY` observed days lie, with `RECOVERY_ERRORS` standard errors to spare, nearer to
    that reference than to the level after the fall; the days in between never become reference.

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
        healthy = RECOVERY // 2  # a window that has regained over half of the drop was well again for its second half
        kept = np.delete(kept, np.s_[changed : end - healthy + 1])
        position = changed + healthy


def whiten(history: DailyHistory, noise: Floats, columns: Floats) -> tuple[Floats, Floats]:
    """Kalman filter of an AR(1) wobble seen through sampling noise: independent unit-variance innovations of `columns`.

    `noise` has a row (day_sd, correlation, design_effect) per model. Returns days x models x columns, and the log
    variance of each innovation (days x models).
    """
    wobble, correlation, effect = noise[:, 0] ** 2, noise[:, 1], noise[:, 2]
    carried = correlation ** history.gaps[:, None]
    fresh = wobble * (1 - carried**2)
    sampling = effect * history.variance[:, None]
    white = np.empty((len(history), len(noise), columns.shape[1]))
    variance = np.empty((len(history), len(noise)))
    state, spread = np.zeros(white.shape[1:]), wobble
    for day in range(len(history)):
        state = carried[day, :, None] * state
        spread = carried[day] ** 2 * spread + fresh[day]
        variance[day] = spread + sampling[day]
        gain = spread / variance[day]
        white[day] = columns[day] - state
        state = state + gain[:, None] * white[day]
        spread = spread * (1 - gain)
    return white / np.sqrt(variance)[:, :, None], np.log(variance)


@dataclass(frozen=True, slots=True)
class Reference:
    """Level and weekday effects of some days, with their covariance: what other days are measured against."""

    effects: Floats
    covariance: Floats
    noise: Noise
    days: int

    @classmethod
    def of(cls, history: DailyHistory, days: range, noise: Noise) -> "Reference":
        """Fit the last `REFERENCE` of the days (with no days at all: the priors)."""
        index = np.array(days[-REFERENCE:], dtype=np.int64)
        seen = history.take(index)
        columns = np.column_stack([seen.mean, seen.design])
        white = whiten(seen, _row(noise), columns)[0][:, 0] if len(index) else np.zeros((0, 10))
        covariance = np.linalg.inv(white[:, 1:].T @ white[:, 1:] + np.diag(_precision(noise.weekday_sd)))
        effects = covariance @ (white[:, 1:].T @ white[:, 0])
        return cls(np.asarray(effects), np.asarray(covariance), noise, len(index))

    def shift(self, history: DailyHistory, index: Ints) -> Shift:
        """How far the level of these days lies from the reference, with its standard error."""
        size, error = self.shifts(history, index[None])
        z = _student_to_normal(size / error, PRIOR_DEGREES + self.days)
        return Shift(int(index[0]), float(size[0]), float(error[0]), float(z[0]))

    def shifts(self, history: DailyHistory, windows: Ints) -> tuple[Floats, Floats]:
        """The same for many windows of equal length: sizes and standard errors (generalised least squares)."""
        design = history.design[windows]
        residual = history.mean[windows] - design @ self.effects
        covariance = scatter(history, windows, self.noise) + design @ self.covariance @ design.transpose(0, 2, 1)
        weight = np.linalg.solve(covariance, np.ones((*windows.shape, 1)))[..., 0]
        information = weight.sum(axis=1)
        return (weight * residual).sum(axis=1) / information, 1 / np.sqrt(information)


def scatter(history: DailyHistory, windows: Ints, noise: Noise) -> Floats:
    """Covariance of the daily means of each window round their level: correlated wobble and sampling noise."""
    ordinal = history.ordinal[windows]
    apart = np.abs(ordinal[:, :, None] - ordinal[:, None, :]).astype(float)
    sampling = noise.design_effect * history.variance[windows]
    return np.asarray(noise.day_sd**2 * noise.correlation**apart + sampling[:, :, None] * np.eye(windows.shape[1]))


@dataclass(frozen=True, slots=True)
class _Block:
    """Starts, and per day of a block and start the shift, its standard error and z (0 where it cannot be told)."""

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
        self._likelihood = _NoiseLikelihood(history, self.columns)
        self._noises: dict[int, Noise] = {}

    def noise_at(self, day: int) -> Noise:
        block = _block_start(day)
        if block not in self._noises:
            self._noises[block] = self._likelihood.estimate(max(0, block - REFERENCE), max(0, block - LAG))
        return self._noises[block]

    def alarms(self, position: int) -> Iterator[tuple[int, int]]:
        """(day, start of the drop) for each day from `position` on whose strongest drop passes the threshold."""
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
        """The likeliest start, with up to `DATING` days after the call."""
        last = min(called + DATING, len(self.history) - 1)
        block = self._block(_block_start(last))
        row = np.where(block.starts <= called, block.belief(-1)[last - _block_start(last)], -np.inf)
        return int(block.starts[row.argmax()]) if _log_sum(row) >= self.threshold else start

    def recovery(self, changed: int, called: int) -> tuple[int | None, Shift]:
        """The day on which the level had recovered (None: it has not), and the fall against the frozen reference."""
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
        """What every start looks like at the end of each day of the block that begins with `first`."""
        last = min(first + _block_length(first), len(self.history))
        low = max(0, first - REFERENCE)
        days = np.arange(low, last)
        starts = np.arange(max(low + 1, first - LONGEST + 1), last)
        noise = self.noise_at(first)
        steps = (days[:, None] >= starts).astype(float)
        white = whiten(self.history.take(days), _row(noise), np.column_stack([self.columns[low:last], steps]))[0][:, 0]
        fixed, step = white[:, :10], white[:, 10:]
        tail = slice(first - low, None)
        moments = np.cumsum(fixed[:, :, None] * fixed[:, None, :], axis=0)[tail]
        cross = np.cumsum(fixed[:, :, None] * step[:, None, :], axis=0)[tail]
        power = np.cumsum(step**2, axis=0)[tail]
        solved = np.linalg.solve(moments[:, 1:, 1:] + np.diag(_precision(noise.weekday_sd)), cross[:, 1:])
        score = cross[:, 0] - np.einsum("di,dis->ds", moments[:, 0, 1:], solved)
        information = power - np.einsum("dis,dis->ds", cross[:, 1:], solved)
        known = self._enough(days, starts)[tail] & (information > 1e-3 * power)
        information = np.where(known, information, 1.0)
        sampling = usual_sampling(self.history, first, noise)
        degrees = degrees_of(max(0, first - LAG - low), noise, sampling)
        z = _student_to_normal(score / np.sqrt(information), degrees)
        z = np.where(days[tail, None] == starts, z * LONE_DAY, z)
        z = np.where(known, z, 0.0)
        return _Block(starts, score / information, 1 / np.sqrt(information), z, usual_drop(noise, sampling))

    def _enough(self, days: Ints, starts: Ints) -> NDArray[np.bool_]:
        """Whether both sides of each start hold enough queries at the end of each day, within reach."""
        seen = np.append(0, np.cumsum(self.history.count[days]))
        before = seen[starts - days[0]]
        after = seen[1:, None] - before
        return np.asarray((before >= MIN_QUERIES) & (after >= MIN_QUERIES) & (days[:, None] - starts < LONGEST))


class _NoiseLikelihood:
    """Restricted likelihood of each noise model on the grid, over any stretch of days."""

    def __init__(self, history: DailyHistory, columns: Floats) -> None:
        self.grid = np.array(list(product(DAY_SDS, CORRELATIONS, DESIGN_EFFECTS)))
        self.white, self.log_variance = whiten(history, self.grid, columns)
        day_sd, correlation, effect = self.grid.T
        self.prior = -0.5 * (
            (np.log(day_sd / DAY_SD) / DAY_SD_FACTOR) ** 2
            + ((correlation - CORRELATION) / CORRELATION_SD) ** 2
            + (np.log(effect / DESIGN_EFFECT) / DESIGN_EFFECT_FACTOR) ** 2
        )

    def estimate(self, low: int, high: int) -> Noise:
        """Posterior mean of the noise from days low..high-1; the prior when there are none."""
        if high <= low:
            return PRIOR_NOISE
        white = self.white[low:high].transpose(1, 2, 0)
        moments = white @ white.transpose(0, 2, 1)
        fit = self.prior - 0.5 * self.log_variance[low:high].sum(axis=0)
        posterior = np.stack([fit + _profile(moments, sd) for sd in WEEKDAY_SDS])
        weights = np.exp(posterior - posterior.max())
        weights /= weights.sum()
        day_sd, correlation, effect = weights.sum(axis=0) @ (self.grid ** np.array([2, 1, 1]))
        weekday = weights.sum(axis=1) @ np.square(WEEKDAY_SDS)
        return Noise(float(np.sqrt(day_sd)), float(correlation), float(effect), float(np.sqrt(weekday)))


def _profile(moments: Floats, weekday_sd: float) -> Floats:
    """Log likelihood per model with level and weekday effects integrated out, from cross products of (y, design)."""
    prior = _precision(weekday_sd)
    precision = moments[:, 1:, 1:] + np.diag(prior)
    fitted = (moments[:, 1:, 0] * np.linalg.solve(precision, moments[:, 1:, :1])[..., 0]).sum(axis=1)
    return np.asarray(-0.5 * (np.linalg.slogdet(precision)[1] - np.log(prior).sum() + moments[:, 0, 0] - fitted))


def _precision(weekday_sd: float) -> Floats:
    """Prior precision of level (none), weekend and weekdays."""
    return np.array([1e-6, WEEKEND_SD**-2, *[weekday_sd**-2] * 7])


def _block_length(day: int) -> int:
    return REVIEW if day < SETTLED else 4 * REVIEW


def _block_start(day: int) -> int:
    base = 0 if day < SETTLED else SETTLED
    return base + (day - base) // _block_length(day) * _block_length(day)


def _row(noise: Noise) -> Floats:
    return np.array([[noise.day_sd, noise.correlation, noise.design_effect]])


def _log_sum(belief: Floats) -> float:
    """Log of the summed likelihood ratios; minus infinity when no start has any."""
    top = belief.max(initial=-np.inf)
    return float(top + np.log(np.exp(belief - top).sum())) if np.isfinite(top) else -math.inf


def usual_sampling(history: DailyHistory, day: int, noise: Noise) -> float:
    """Variance of a daily mean for its few queries alone, with the traffic of the two weeks up to this day."""
    return noise.design_effect * float(np.median(history.variance[max(0, day - 13) : day + 1]))


def usual_drop(noise: Noise, sampling: float) -> float:
    """Prior sd of a drop: so many errors of a daily mean."""
    return DROP_ERRORS * math.sqrt(noise.day_sd**2 + sampling)


def degrees_of(days: int, noise: Noise, sampling: float) -> float:
    """Degrees of freedom of a daily mean's variance, of which the wobble's share is learned from so many days."""
    share = noise.day_sd**2 / (noise.day_sd**2 + sampling)
    return (PRIOR_DEGREES + days) / max(share, LEAST_SHARE) ** 2


def smallest_call(error: float, degrees: float, threshold: float, drop_sd: float) -> float:
    """The standard errors by which one start alone must lie off the reference to be called."""
    known = drop_sd**2 / (drop_sd**2 + error**2)
    return normal_to_student(math.sqrt((2 * threshold - math.log1p(-known)) / known), degrees)


def normal_to_student(z: float, degrees: float) -> float:
    """The inverse of the correction: how many standard errors stand for the normal deviate z."""
    scaled = z * (8 * degrees + 3) / (8 * degrees + 1)
    return float(np.sqrt(degrees * np.expm1(scaled**2 / degrees)))


def _student_to_normal(t: Floats, degrees: float) -> Floats:
    """The normal deviate with about the tail of Student's t, when the noise was learned."""
    scaled = np.sqrt(degrees * np.log1p(t**2 / degrees))
    return np.asarray(np.sign(t) * scaled * (8 * degrees + 1) / (8 * degrees + 3))

"""Rule: detects changes of level sequentially, daily means in, dated drops and their ends out.

One implementation of `core.drift.detector.Detector`: a module is one as long as it has `replay` and `smallest_drop`.
`core.drift.scan` has the statistics, this module the decisions.
"""

import math
from dataclasses import dataclass, field, replace
from statistics import NormalDist

import numpy as np

from core.drift.daily import (
    MIN_QUERIES,
    DailyHistory,
    Floats,
    Ints,
    Noise,
    Reference,
    Shift,
    normal_to_student,
    scatter,
)
from core.drift.detector import CALL, Episode, Replay
from core.drift.scan import LONGEST, Scan, degrees_of, usual_drop, usual_sampling

RISE = math.log(100_000)  # evidence from which on a rise is the level that a further drop is measured from
DATING = 7  # observed days after the call in which the date of the change is still refined
BACK = 7.0  # log likelihood ratio, of the level before the drop to the one since, at which a drop is over
BACK_DAYS = 2  # observed days that this takes at least
SETTLING = 7  # newest observed days of an open drop that do not count for its depth
RISE_DAYS = 7  # observed days that a rise takes to become the level that a further drop is measured from
NOTHING = 2.5  # standard errors below the level before, at which a drop is no longer seen
NOTHING_DAYS = 7  # observed days that this takes at least


def replay(history: DailyHistory, threshold: float = CALL) -> Replay:
    """Run the detector over the whole history, one verdict at the end of each day.

    Model: daily mean = level + weekday + wobble + sampling noise. The wobble is AR(1) (`Noise.day_sd`, `correlation`
    to the power of the days between); the sampling variance is the within-day variance / count * design effect.
    Level and weekday effects are fitted by generalized least squares (a prior shrinks weekday effects to zero) on the
    last `REFERENCE` observed days; the noise is the posterior mean on a grid, from days that are at least `LAG` old.
    Priors are in units of the spread of single scores, so that scores of any scale are judged alike. A daily mean
    counts as at most `ODD` standard errors off what was to be expected, so that one odd day is not enough, unless it is
    off by more than `COLLAPSE` times the spread of single scores.
    Each day, every start in the last `LONGEST` days is tried: z = estimated shift / its standard error e. Because the
    noise is estimated, z is read as Student's t and converted to the normal z of the same tail (Wallace 1959); its
    degrees of freedom grow with the part of the noise that is sampling, which is known (Satterthwaite 1946). With a
    normal prior for the size of the drop (sd s = `DROP_ERRORS` daily errors, v = s^2 / (s^2 + e^2)) the data are
    sqrt(1 - v) * exp(v z^2 / 2) times likelier with a drop from that start than without.
    A drop is called when the log of the sum over all starts (Shiryaev-Roberts) reaches `threshold`; the likeliest start
    is its date. The sum detects slow slides, which no single start fits, sooner than the largest z would.
    From then on the days before the change are its frozen reference, and the level since has a parameter of its own:
    a further drop is one from that level, on a day after the call. So is a drop from a risen level, once the rise has
    the evidence `RISE` and has lasted `RISE_DAYS` days.
    A drop is over when a cumulative sum of the log likelihood ratio, of its reference to the level since, reaches
    `BACK` (Page 1954), over at least `BACK_DAYS` days; the days in between never become reference. It is dismissed when
    all its days (the last `LONGEST`) lie less than `NOTHING` standard errors below the reference: these days count on.
    Days that scatter more than the noise explains count for less (`core.drift.scan`), as noisy spells are no drops.

    Assumes that sessions do not span many days and that wobble and noise are roughly normal. Each day's verdict uses
    no later day, so replaying a prefix gives the verdicts of that time. Cost is linear in days.
    Source: Roberts 1966; Tartakovsky, Nikiforov & Basseville 2014, ch. 7-8 (weighted Shiryaev-Roberts).
    """
    state = _State(history, np.arange(len(history)), Scan(history), threshold)
    while state.day < len(state.kept):
        state.judge()
    return state.answer()


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
    steps = [at for at in seen.levels if at < start]
    reference = Reference.of(history, range(start), seen.noise, steps=steps)
    if start:
        error = reference.shift(history, recent).error
    else:  # no past yet: as if it were to hold as much as the window does
        error = float(np.sqrt(2 / np.linalg.inv(scatter(history, recent[None], seen.noise)[0]).sum()))
    sampling = usual_sampling(history, len(history) - 1, seen.noise)
    degrees, drop_sd = degrees_of(start, seen.noise, sampling), usual_drop(seen.noise, sampling)
    drop = (_smallest_call(error, degrees, threshold, drop_sd) + NormalDist().inv_cdf(power)) * error
    return min(drop, max(1.0, float(np.abs(history.mean).max())))


def _smallest_call(error: float, degrees: float, threshold: float, drop_sd: float) -> float:
    """The number of standard errors at which a single start is called."""
    known = drop_sd**2 / (drop_sd**2 + error**2)
    return normal_to_student(math.sqrt((2 * threshold - math.log1p(-known)) / known), degrees)


@dataclass(frozen=True, slots=True)
class _Step:
    """A change of level that counts as known: an open drop, or a rise. Days are positions among those that are kept.

    `scan` and `floor` are those in which it was found: its date is refined with them. `reference` is the level before.
    """

    sign: int
    changed: int
    dated_at_call: int
    called: int
    earliest: int
    latest: int
    scan: Scan
    floor: int
    reference: Reference

    def dated(self, day: int) -> "_Step":
        """The step as it is dated at the end of a day, up to `DATING` days after its call."""
        found = self.scan.block(day).range_of(day, self.sign, since=self.floor, until=self.called)
        if found is None:
            return self
        changed, earliest, latest = found
        level = self.reference if changed == self.changed else self.scan.level_before(changed, self.called)
        return replace(self, changed=changed, earliest=earliest, latest=latest, reference=level)


@dataclass(slots=True)
class _State:
    """What is known at the end of the days before `day`; `judge` takes the next one."""

    history: DailyHistory
    kept: Ints  # the days that are no part of a drop that is over
    scan: Scan
    threshold: float
    day: int = 0
    floor: int = 0  # the first day on which a further change may begin
    steps: list[_Step] = field(default_factory=list)
    over: list[Episode] = field(default_factory=list)

    def judge(self) -> None:
        """Take the verdict at the end of the next day: drops that are over, dates that are refined, a new change."""
        day = self.day
        self.day += 1
        for at, step in enumerate(self.steps):
            if step.sign < 0 and day >= step.called + BACK_DAYS:
                if back := self._is_back(at, day):
                    return self._close(at, back, day)
                if self._is_nothing(at, day):
                    return self._dismiss(at, day)
        self._refine(day)
        self._call(day)
        return None

    def answer(self) -> Replay:
        """The state at the end of the last day, in days of the history."""
        last = len(self.kept) - 1
        block, noise = self.scan.block(last), self.scan.noise_at(last)
        drops = [at for at, step in enumerate(self.steps) if step.sign < 0]
        shifts = [self._shift(at, len(self.kept), noise) for at in range(len(self.steps))]
        largest = min((shifts[at] for at in drops[::-1]), key=lambda shift: shift.size, default=None)
        fall = largest or block.strongest(last, -1, since=self.floor)
        rise = block.strongest(last, 1, since=self.floor)
        if self.steps and self.steps[-1].sign > 0 and last - self.steps[-1].changed < LONGEST:
            rise = replace(shifts[-1], evidence=max(self.threshold, shifts[-1].z ** 2 / 2))
        fall, rise = (each and replace(each, start=int(self.kept[each.start])) for each in (fall, rise))
        episodes = [*self.over, *(self._episode(at, fall=shifts[at].size) for at in drops)]
        episodes.sort(key=lambda each: (each.called, each.changed))
        return Replay(tuple(episodes), fall, rise, noise, tuple(int(self.kept[step.changed]) for step in self.steps))

    def _refine(self, day: int) -> None:
        """Date the newest step anew."""
        if self.steps and day <= self.steps[-1].called + DATING:
            former, self.steps[-1] = self.steps[-1], self.steps[-1].dated(day)
            if former.changed != self.steps[-1].changed:
                self.scan = self.scan.with_steps([step.changed for step in self.steps])

    def _call(self, day: int) -> None:
        """Take a drop or a rise as known once its evidence is there."""
        block = self.scan.block(day)
        for sign, threshold, last in ((-1, self.threshold, day), (1, RISE, day - RISE_DAYS + 1)):
            if block.evidence(day, sign, since=self.floor) >= threshold:
                found = block.range_of(day, sign, since=self.floor, until=day)
                assert found is not None
                start, earliest, latest = found
                if start > last:
                    continue
                level = self.scan.level_before(start, day)
                self.steps.append(_Step(sign, start, start, day, earliest, latest, self.scan, self.floor, level))
                self.scan = self.scan.with_steps([step.changed for step in self.steps])
                self.floor = day + 1 if sign < 0 else start + 1
                return

    def _is_back(self, at: int, day: int) -> int | None:
        """The first day of the level before a drop, if it is back at the end of a day."""
        step = self.steps[at]
        off, error = self._residuals(at, day)
        days = np.arange(day + 1 - len(off), day + 1)
        is_settled = days <= max(step.called, day - SETTLING)
        if at + 1 < len(self.steps):
            is_settled &= days < max(self.steps[at + 1].changed, step.called + 1)
        weight = is_settled / error**2
        depth = min(float(off @ weight / weight.sum()), -float(error.min())) if weight.any() else -float(error.min())
        off = np.clip(off, depth - error, error)
        ratio = ((off - depth) ** 2 - off**2) / (2 * error**2)
        sums = np.cumsum(ratio[days > step.called - DATING][::-1])[BACK_DAYS - 1 :]  # from each start up to this day
        if sums.max() < BACK:
            return None
        return int(max(day + 1 - BACK_DAYS - int(sums.argmax()), step.changed + 1))

    def _is_nothing(self, at: int, day: int) -> bool:
        """Whether the last days, all since the drop or as many as are examined, are no longer clearly below it."""
        off, _ = self._residuals(at, day)
        if len(off) < NOTHING_DAYS:
            return False
        step = self.steps[at]
        noise, count = step.reference.noise, len(off)
        variance = self._long_run(noise) + noise.design_effect * self.scan.history.variance[day + 1 - count : day + 1]
        error = math.sqrt(1 / (1 / variance).sum() + step.reference.covariance[0, 0])
        return float(np.average(off, weights=1 / variance)) > -NOTHING * error

    def _residuals(self, at: int, day: int) -> tuple[Floats, Floats]:
        """How far the days since a drop (the last `LONGEST`) lie off the level before, and the error of each."""
        step, history = self.steps[at], self.scan.history
        days = np.arange(max(step.changed, day + 1 - LONGEST), day + 1)
        design, reference = history.design_of(days), step.reference
        variance = self._long_run(reference.noise) + reference.noise.design_effect * history.variance[days]
        variance = variance + np.einsum("di,ij,dj->d", design, reference.covariance, design)
        return history.mean[days] - design @ reference.effects, np.sqrt(variance)

    @staticmethod
    def _long_run(noise: Noise) -> float:
        """Variance of the wobble as it counts in sums over days."""
        return noise.day_sd**2 * (1 + noise.correlation) / (1 - noise.correlation)

    def _shift(self, at: int, end: int, noise: Noise | None = None) -> Shift:
        """The size of a step, from its day to the next step or an end."""
        changed = self.steps[at].changed
        if at + 1 < len(self.steps):
            end = min(end, self.steps[at + 1].changed)
        days = np.arange(changed, max(end, changed + 1))[-LONGEST:]
        reference = self.scan.level_before(changed, self.steps[at].called, noise=noise)
        return reference.shift(self.scan.history, days)

    def _episode(self, at: int, *, fall: float, back: int | None = None, day: int | None = None) -> Episode:
        step, kept = self.steps[at], self.kept
        return Episode(
            int(kept[step.changed]),
            int(kept[step.dated_at_call]),
            int(kept[step.called]),
            None if day is None else int(kept[day]),
            None if back is None else int(kept[max(back, step.changed + 1)]),
            int(kept[step.earliest]),
            int(kept[step.latest]),
            fall,
        )

    def _end(self, at: int, back: int, day: int) -> None:
        """End a drop and all that came after it."""
        drops = [each for each in range(at, len(self.steps)) if self.steps[each].sign < 0]
        self.over += [self._episode(each, fall=self._shift(each, back).size, back=back, day=day) for each in drops]
        self.steps = self.steps[:at]

    def _close(self, at: int, back: int, day: int) -> None:
        """End a drop whose level is back; the days until then are no reference."""
        changed = self.steps[at].changed
        self._end(at, back, day)
        self.kept = np.delete(self.kept, np.s_[changed:back])
        self.day = day + 1 - (back - changed)
        self.floor = changed
        kept = self.history.take(self.kept)
        self.steps = [replace(step, scan=Scan(kept, step.scan.steps)) for step in self.steps]
        self.scan = Scan(kept, tuple(step.changed for step in self.steps))

    def _dismiss(self, at: int, day: int) -> None:
        """End a drop of which nothing is left to see; its days are like all others."""
        self._end(at, day, day)
        self.floor = day + 1 - SETTLING
        self.scan = self.scan.with_steps([step.changed for step in self.steps])

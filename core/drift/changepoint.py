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
    the evidence `RISE`.
    A drop is over when a cumulative sum of the log likelihood ratio, of its reference to the level since, reaches
    `BACK` (Page 1954), over at least `BACK_DAYS` days; the days in between never become reference.

    Assumes that sessions do not span many days and that wobble and noise are roughly normal. Each day's verdict uses
    no later day, so replaying a prefix gives the verdicts of that time. Cost is linear in days.
    Source: Roberts 1966; Tartakovsky, Nikiforov & Basseville 2014, ch. 7-8 (weighted Shiryaev-Roberts).
    """
    state = _State(history, np.arange(len(history)), Scan(history), threshold)
    while (day := state.next_event()) is not None:
        state.apply(day)
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

    `scan` and `floor` are those in which it was found: its date is refined with them.
    """

    sign: int
    changed: int
    dated_at_call: int
    called: int
    scan: Scan
    floor: int
    earliest: int
    latest: int
    noise: Noise

    def dated(self, day: int) -> "_Step":
        """The step as it is dated at the end of a day."""
        last = min(day, self.called + DATING)
        found = self.scan.block(last).range_of(last, self.sign, since=self.floor, until=self.called)
        if found is None:
            return self
        changed, earliest, latest = found
        return replace(self, changed=changed, earliest=earliest, latest=latest)


@dataclass(slots=True)
class _State:
    """What is known at the end of a day; `apply` moves on to a day on which something happens."""

    history: DailyHistory
    kept: Ints  # the days that are no part of a drop that is over
    scan: Scan
    threshold: float
    position: int = 0  # the first day that is not judged yet
    floor: int = 0  # the first day on which a further change may begin
    steps: list[_Step] = field(default_factory=list)
    over: list[Episode] = field(default_factory=list)

    @property
    def last(self) -> int:
        return len(self.kept) - 1

    def next_event(self) -> int | None:
        """The next day on which a drop or a rise is called, a drop is over, or a date is refined; None if none is."""
        while self.position <= self.last:
            block = self.scan.block(self.position)
            end = min(block.first + len(block.z), self.last + 1)
            days = np.arange(self.position, end)
            rows = slice(self.position - block.first, None)
            is_event = block.evidence(-1, since=self.floor)[rows] >= self.threshold
            is_event |= block.evidence(1, since=self.floor)[rows] >= RISE
            is_event |= self._refined(days)
            for step in range(len(self.steps)):
                if self.steps[step].sign < 0:
                    is_event |= np.array([self._is_back(step, int(day)) is not None for day in days])
            if is_event.any():
                return int(days[is_event.argmax()])
            self.position = end
        return None

    def apply(self, day: int) -> None:
        """Take the verdict of a day on which something happens."""
        self.position = day + 1
        for at, step in enumerate(self.steps):
            if step.sign < 0 and (back := self._is_back(at, day)) is not None:
                self._close(at, back, day)
                return
        if self._refined(np.array([day]))[0]:
            self.steps[-1] = self.steps[-1].dated(day)
            self.scan = self.scan.with_steps([step.changed for step in self.steps], keep_noise=True)
        block = self.scan.block(day)
        for sign, threshold in ((-1, self.threshold), (1, RISE)):
            if block.evidence(sign, since=self.floor)[day - block.first] >= threshold:
                found = block.range_of(day, sign, since=self.floor, until=day)
                assert found is not None
                start, earliest, latest = found
                noise = self.scan.noise_at(day)
                self.steps.append(_Step(sign, start, start, day, self.scan, self.floor, earliest, latest, noise))
                self.scan = self.scan.with_steps([step.changed for step in self.steps])
                self.floor = day + 1
                return

    def answer(self) -> Replay:
        """The state at the end of the last day, in days of the history."""
        kept, block = self.kept, self.scan.block(self.last)
        noise = self.scan.noise_at(self.last)
        drops = [at for at, step in enumerate(self.steps) if step.sign < 0]
        shifts = {at: self._shift(at, noise) for at in range(len(self.steps))}
        episodes = [*self.over, *(self._episode(at, fall=shifts[at].size) for at in drops)]
        fall = shifts[drops[-1]] if drops else block.strongest(self.last, -1, since=self.floor)
        rise = block.strongest(self.last, 1, since=self.floor)
        if self.steps and self.steps[-1].sign > 0 and self.last - self.steps[-1].changed < LONGEST:
            risen = shifts[len(self.steps) - 1]
            rise = replace(risen, evidence=max(self.threshold, risen.z**2 / 2))
        levels = tuple(int(kept[step.changed]) for step in self.steps)
        moved = [replace(each, start=int(kept[each.start])) if each else None for each in (fall, rise)]
        ordered = tuple(sorted(episodes, key=lambda each: (each.called, each.changed)))
        return Replay(ordered, moved[0], moved[1], noise, levels)

    def _refined(self, days: Ints) -> np.ndarray:
        """On which of these days the newest step is dated otherwise than now."""
        changed = np.zeros(len(days), dtype=bool)
        if self.steps:
            step = self.steps[-1]
            near = (days > step.called) & (days <= step.called + DATING)
            changed[near] = [step.dated(int(day)).changed != step.changed for day in days[near]]
        return changed

    def _reference(self, at: int) -> Reference:
        """The level before a step, as it was known at its call."""
        step = self.steps[at]
        before = [each.changed for each in self.steps[:at]]
        return Reference.of(self.scan.history, range(step.changed), step.noise, steps=before)

    def _is_back(self, at: int, day: int) -> int | None:
        """The first day of the level before a drop, if it is back at the end of a day."""
        step = self.steps[at]
        if day < step.called + BACK_DAYS:
            return None
        days = np.arange(step.changed, day + 1)
        off, error = self._residuals(at, days)
        weight = 1 / error**2
        settled = days <= max(step.called, day - SETTLING)
        later = [each.changed for each in self.steps[at + 1 :]]
        if later:
            settled &= days < max(later[0], step.called + 1)
        settled[:-LONGEST] &= days[:-LONGEST] > day - 2 * LONGEST
        if not settled.any():
            return None
        depth = float((off * weight)[settled].sum() / weight[settled].sum())
        if depth >= 0:
            depth = -float(error.min())
        off = np.clip(off, depth - error, error)
        ratio = ((off - depth) ** 2 - off**2) / (2 * error**2)
        since = max(0, step.called + 1 - step.changed - DATING, len(days) - LONGEST)
        sums = np.cumsum(ratio[since:][::-1])  # from each start up to this day
        if len(sums) < BACK_DAYS or sums[BACK_DAYS - 1 :].max() < BACK:
            return None
        length = BACK_DAYS + int(sums[BACK_DAYS - 1 :].argmax())
        return int(max(days[-length], step.changed + 1))

    def _residuals(self, at: int, days: Ints) -> tuple[Floats, Floats]:
        """How far days lie off the level before a step, and the standard error of each."""
        step, history = self.steps[at], self.scan.history
        reference = self._reference(at)
        noise, design = step.noise, history.design[days]
        wobble = noise.day_sd**2 * (1 + noise.correlation) / (1 - noise.correlation)
        variance = wobble + noise.design_effect * history.variance[days]
        variance = variance + np.einsum("di,ij,dj->d", design, reference.covariance, design)
        return history.mean[days] - design @ reference.effects, np.sqrt(variance)

    def _shift(self, at: int, noise: Noise) -> Shift:
        """The size of a step, from its day to the next step or the last day."""
        end = self.steps[at + 1].changed if at + 1 < len(self.steps) else self.last + 1
        days = np.arange(self.steps[at].changed, max(end, self.steps[at].changed + 1))[-LONGEST:]
        before = [each.changed for each in self.steps[:at]]
        reference = Reference.of(self.scan.history, range(self.steps[at].changed), noise, steps=before)
        return reference.shift(self.scan.history, days)

    def _episode(self, at: int, *, fall: float, back: int | None = None, day: int | None = None) -> Episode:
        step, kept = self.steps[at], self.kept
        return Episode(
            int(kept[step.changed]),
            int(kept[step.dated_at_call]),
            int(kept[step.called]),
            None if day is None else int(kept[day]),
            None if back is None else int(kept[back]),
            int(kept[step.earliest]),
            int(kept[step.latest]),
            fall,
        )

    def _close(self, at: int, back: int, day: int) -> None:
        """End a drop and all that came after it; the days until it was over are no reference."""
        closed = [each for each in range(at, len(self.steps)) if self.steps[each].sign < 0]
        for each in closed:
            fall = self._fall_until(each, back)
            self.over.append(self._episode(each, fall=fall, back=max(back, self.steps[each].changed + 1), day=day))
        changed = self.steps[at].changed
        self.kept = np.delete(self.kept, np.s_[changed:back])
        self.steps = self.steps[:at]
        self.position = day + 1 - (back - changed)
        self.floor = changed
        self.scan = Scan(self.history.take(self.kept), tuple(step.changed for step in self.steps))

    def _fall_until(self, at: int, back: int) -> float:
        step = self.steps[at]
        later = [each.changed for each in self.steps[at + 1 :]]
        end = max(min([back, *later]), step.changed + 1)
        days = np.arange(step.changed, end)[-LONGEST:]
        return self._reference(at).shift(self.scan.history, days).size

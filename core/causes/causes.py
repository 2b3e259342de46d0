"""Rule: ranks the causes of a dated drop by the changes around it and by what the log shows, with probabilities.

"Users ask about something new" and "unknown" are always among the causes. `changes.py` gathers the changes,
`timeline.py` words them, and `core.drift.verdict` dates the drop.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime, time, timedelta
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from core.causes.evidence import (
    Contrast,
    LowGroup,
    SameQuestions,
    Segments,
    Shapes,
    Timing,
    contrast_segment,
    list_contrasts,
)
from core.causes.search import NOT_SEARCHED, SegmentSearch, find_segment
from core.causes.timeline import ChangeKind, TimelineChange
from core.drift.daily import MIN_QUERIES
from core.drift.detector import Detector
from core.drift.detectors import DETECTOR
from core.drift.verdict import DriftReport
from core.log.values import DailyScores


class CauseKind(StrEnum):
    """A recorded change, a shift of what users ask, or neither."""

    CHANGE = "change"
    NEW_QUESTIONS = "new_questions"
    UNKNOWN = "unknown"


LOOK_BACK, LOOK_AHEAD = 21, 3  # days around the dated day in which changes are candidates
HISTORY = 60  # days before the dated day from which the former level is estimated

# Priors: the chance that a change of this kind visibly lowers the score, and how often per day the other two happen.
# They are judgments from running retrieval products, not measurements; a factor of two in any moves few rankings.
FAULT: Mapping[ChangeKind, float] = {
    ChangeKind.INDEX: 0.10,
    ChangeKind.PROMPT: 0.06,
    ChangeKind.CANARY: 0.05,
    ChangeKind.EXPERIMENT: 0.05,
    ChangeKind.DEPLOYMENT: 0.05,
    ChangeKind.FLAG: 0.05,
    ChangeKind.RELEASE: 0.05,
    ChangeKind.FEED: 0.15,
    ChangeKind.OUTSIDE: 0.05,
    ChangeKind.PUSH: 0.005,  # as a corpus version: users see it only through a deployment
    ChangeKind.CORPUS: 0.003,  # users see it only through an index, and its swap is a separate change
}
NEW_QUESTIONS_A_DAY, UNKNOWN_A_DAY = 1 / 100, 1 / 100
HARMLESS_WEIGHT = 4.0  # weight of `FAULT`, in changes: where many are recorded, most of them do no harm
LAGS = (  # days until a change takes effect, and their chances
    (0.0, 0.62), (0.5, 0.04), (1.0, 0.04), (2.0, 0.04), (3.0, 0.04), (4.0, 0.04), (5.0, 0.05), (6.0, 0.04), (7.0, 0.03),
    (8.0, 0.03), (9.0, 0.03),
)  # fmt: skip
_CHANCES = np.array([chance for _, chance in LAGS])
GROWTH: Mapping[CauseKind, tuple[float, ...]] = {  # how likely an effect grows in each of `GROWTH_DAYS`
    CauseKind.CHANGE: (0.85, 0.05, 0.05, 0.05),
    CauseKind.NEW_QUESTIONS: (0.30, 0.20, 0.25, 0.25),
    CauseKind.UNKNOWN: (0.70, 0.10, 0.10, 0.10),
}
# The chance that a part of the scores falls far, instead of all of them together: an index can lack documents.
LOW_GROUP_OF_CHANGE: Mapping[ChangeKind, float] = dict.fromkeys(ChangeKind, 0.05) | {
    ChangeKind.INDEX: 0.30,
    ChangeKind.CORPUS: 0.30,
    ChangeKind.FEED: 0.50,
}
LOW_GROUP_OF_NEW_QUESTIONS, LOW_GROUP_OF_UNKNOWN = 0.95, 0.40
TOLERANCE = 0.15  # how far a measured share of the fall may miss a cause's prediction
STRAY = 0.01  # chance that a measured share is unrelated to any cause
HIDDEN_SEGMENT = 0.3  # chance that a cause whose segment is not known is in one of the recorded segments
PART = 0.15  # chance that it is in a part of the traffic that no segment shows
_PARTS = (0.10, 0.13, 0.16, 0.20, 0.24, 0.28, 0.32, 0.36, 0.40, 0.45, 0.50)  # dense: a histogram tells them apart
NEW_IN_ONE_SEGMENT = 0.2  # chance that new questions come from one segment alone
_STEP = 0.25  # days between the onsets tried for a cause without a date


@dataclass(frozen=True, slots=True)
class Cause:
    """A candidate. `confidence` (0 to 1) sums to 1 over all; `explained_share` of the fall is None if unknown."""

    kind: CauseKind
    change: TimelineChange | None
    title: str
    confidence: float
    evidence: str
    explained_share: float | None = None


@dataclass(frozen=True, slots=True)
class Causes:
    """All candidates, the likeliest first; empty without a dated drop."""

    ranked: tuple[Cause, ...]
    low_group: LowGroup | None = None
    search: SegmentSearch = NOT_SEARCHED

    @property
    def first(self) -> Cause | None:
        return self.ranked[0] if self.ranked else None


def rank_causes(
    report: DriftReport,
    changes: Iterable[TimelineChange],
    *,
    days: Sequence[DailyScores],
    segments: Segments | None = None,
    same_questions: SameQuestions | None = None,
    detector: Detector = DETECTOR,
) -> Causes:
    """Return what may have caused the dated drop of `report`, each candidate with its confidence and evidence.

    The times of the changes have to be in the zone whose days these are.

    Bayesian comparison of causes, normalized to 1:  P(cause | log) ~ prior * time * place * shape * same questions.

    - prior: `FAULT` for a change; `NEW_QUESTIONS_A_DAY` and `UNKNOWN_A_DAY` for each day on which the others may start.
    - time: exp(s^2 / (i + 1 / (reach * EFFECT_SD)^2) / 2) of an effect with exactly this onset, s and i being the score
      and information of the weekday- and wobble-adjusted daily means (the model of `core.drift.daily`); an
      onset within a day affects that part of it. Averaged over `LAGS` and `GROWTH`; causes without a date are summed
      over all onsets. A change after the fall gets next to nothing, and one that reaches few users can explain only a
      small fall.
    - place: e = fall of everything - fall outside of the touched segment, on days after the change, against N(fall, .)
      if the segment is the cause and N(0, .) if not. 1 if touched segments are unknown or have no other side.
    - shape: the recent histogram as the former one shifted (additively or by a factor, in the touched share), or as the
      former one with a new low group. `LOW_GROUP_OF_…` say which cause looks like which.
    - same questions: as place, with the fall of questions compared with themselves: 0 for new questions.

    Time and shape are weighted with `TEMPER`; place and questions have a tolerance and a chance to stray, so none of
    them decides alone. Confidences are as good as the priors: read them as a ranking with distances. Trust them less
    for drops that are dated badly (fall below 0.03, or less than 3 days ago), when two changes fall into the same hours
    (time cannot separate them), and when a change and new questions coincide: one cause is assumed.
    Smallest sample: 20 queries on each side of a contrast; with fewer it is skipped.
    Source: Kass & Raftery 1995 (Bayes factors); Oaxaca 1973 (decomposition of a difference of means).
    """
    if report.changed_on is None or report.fall is None:
        return Causes(())
    drop = _Drop.of(report, days, segments or {}, same_questions, detector)
    if drop is None:
        return Causes(())
    recorded = [change for change in changes if change.kind is not ChangeKind.LEVEL]
    near = [change for change in recorded if drop.is_near(change)]
    found = [drop.weigh_change(change, near) for change in near]
    found += [drop.weigh_new_questions(), drop.weigh_unknown(len(recorded))]
    top = max(weight for weight, _ in found)
    total = sum(math.exp(weight - top) for weight, _ in found)
    ranked = [replace(cause, confidence=math.exp(weight - top) / total) for weight, cause in found]
    return Causes(tuple(sorted(ranked, key=lambda cause: _order(cause, drop.changed_on))), drop.low_group, drop.search)


def name_unknown(recorded: int) -> str:
    """Return the title of an unknown cause, with the number of changes that were examined.

    >>> name_unknown(264)
    'unknown: none of the 264 recorded changes fits'
    """
    if recorded < 2:
        return "unknown: the recorded change does not fit" if recorded else "unknown: no change is recorded"
    return f"unknown: none of the {recorded:,} recorded changes fits"


@dataclass(frozen=True, slots=True)
class _Drop:
    """The drop, with the data that candidates are weighed by."""

    report: DriftReport
    changed_on: date
    fall: float
    timing: "Timing"
    shapes: Shapes | None
    segments: Segments
    same_questions: SameQuestions | None
    contrasts: tuple[Contrast, ...]
    search: SegmentSearch
    known: dict[tuple[float, float], float] = field(default_factory=dict)  # what many changes have in common

    @classmethod
    def of(
        cls,
        report: DriftReport,
        days: Sequence[DailyScores],
        segments: Segments,
        same: SameQuestions | None,
        detector: Detector,
    ) -> "_Drop | None":
        changed, fall = report.changed_on, report.fall
        assert changed is not None and fall is not None
        near = [d for d in days if d.count and changed - timedelta(days=HISTORY) <= d.day]
        near = near if len(near) > 1 else [d for d in days if d.count]
        before, after = ([d for d in near if (d.day < changed) == side] for side in (True, False))
        if not before or not after:
            return None
        shapes = Shapes.of(_histogram(before), _histogram(after))
        timing, contrasts = Timing.of(near, changed, detector), list_contrasts(report, segments)
        search = find_segment(report, segments)
        return cls(report, changed, min(fall, -1e-3), timing, shapes, segments, same, contrasts, search)

    @property
    def low_group(self) -> LowGroup | None:
        return self.shapes.low_group() if self.shapes else None

    def is_near(self, change: TimelineChange) -> bool:
        """Whether the change is close enough in time to be a candidate."""
        away = _days_after(change.ts, self.changed_on)
        return -LOOK_BACK <= away <= LOOK_AHEAD + 1 and change.reach > 0 and change.kind is not ChangeKind.LEVEL

    def weigh_change(self, change: TimelineChange, near: Sequence[TimelineChange]) -> tuple[float, Cause]:
        contrast = self._contrast(change)
        stages = _list_stages(change, near)
        reach = min(1.0, sum(stage.reach for stage in stages))
        touched = contrast.share if contrast else reach
        time = self._time_of(stages, touched)
        fault = FAULT[change.kind] * HARMLESS_WEIGHT / (HARMLESS_WEIGHT + len(near) - len(stages))
        weight = math.log(fault) + time + self._same(regression=True)
        low = LOW_GROUP_OF_CHANGE[change.kind]
        if contrast:
            weight += _log_odds(contrast.explained, contrast.error, self.fall) + self._shape_of(contrast, low)
        else:
            weight += self._anywhere(low, touched)
        explained = min(1.0, max(0.0, contrast.explained / self.fall)) if contrast else None
        evidence = _tell_change(change, self.changed_on, contrast, self.fall, reach=reach, stages=len(stages))
        return weight, Cause(CauseKind.CHANGE, change, change.summary, 0.0, evidence, explained)

    def weigh_new_questions(self) -> tuple[float, Cause]:
        time = _time_of_any(self.timing, CauseKind.NEW_QUESTIONS)
        weight = math.log(NEW_QUESTIONS_A_DAY) + time + self._shape(LOW_GROUP_OF_NEW_QUESTIONS, 1.0)
        weight += self._same(regression=False) + (math.log(NEW_IN_ONE_SEGMENT) if self.search.found else 0.0)
        explained = min(1.0, max(0.0, self.shapes.fall / self.fall)) if self.shapes else None
        title = "users ask about something new"
        return weight, Cause(CauseKind.NEW_QUESTIONS, None, title, 0.0, self._tell_new_questions(), explained)

    def weigh_unknown(self, recorded: int) -> tuple[float, Cause]:
        time = _time_of_any(self.timing, CauseKind.UNKNOWN)
        weight = math.log(UNKNOWN_A_DAY) + time + self._same(regression=True)
        weight += self._anywhere(LOW_GROUP_OF_UNKNOWN, 1.0)
        return weight, Cause(CauseKind.UNKNOWN, None, name_unknown(recorded), 0.0, self._tell_unknown())

    def _time_of(self, stages: Sequence[TimelineChange], touched: float) -> float:
        """Log evidence of an effect that begins with a change and grows with its later stages."""
        onset = _days_after(stages[0].ts, self.changed_on)
        alone = _time_of_change(self.timing, onset, touched)
        if len(stages) == 1:
            return alone
        steps = [(_days_after(stage.ts, self.changed_on), stage.reach) for stage in stages]
        together = self.timing.weigh_stages(steps, [lag for lag, _ in LAGS], touched)
        return _log_sum(np.array([alone, _log_sum(together, _CHANCES)]), np.array([0.5, 0.5]))

    def _contrast(self, change: TimelineChange) -> Contrast | None:
        since = max(self.changed_on, change.ts.date() + timedelta(days=1))
        for dimension in dict.fromkeys(dimension for dimension, _ in change.touches):
            values = [value for name, value in change.touches if name == dimension]
            if found := contrast_segment(self.report, self.segments, dimension, values, since=since):
                return found
        return None

    def _anywhere(self, low_group: float, touched: float) -> float:
        """Shape and place of a cause whose segment is not known: everywhere, in a recorded segment, or in some part."""
        if (low_group, touched) not in self.known:
            hidden = HIDDEN_SEGMENT if self.contrasts else 0.0
            found = [(self._shape(low_group, touched), 1 - PART - hidden)]
            found += [(self._shape(0.0, touched * part), PART / len(_PARTS)) for part in _PARTS]
            for each in self.contrasts:
                place = _log_odds(each.explained, each.error, self.fall)
                found.append((place + self._shape(0.0, each.share), hidden / len(self.contrasts)))
            logs, chances = np.array(found).T
            self.known[low_group, touched] = _log_sum(logs, chances)
        return self.known[low_group, touched]

    def _shape_of(self, contrast: Contrast, low_group: float) -> float:
        """The shape of a change to a segment. One that did not fall itself was bad before and merely grew."""
        has_grown = contrast.inside > contrast.explained / contrast.share / 2
        return self._shape(low_group, contrast.share - contrast.former * has_grown)

    def _shape(self, low_group: float, touched: float) -> float:
        if self.shapes is None:
            return 0.0
        group, shifted = self.shapes.group, self.shapes.shifted(max(touched, 0.01))
        return _log_sum(np.array([group, shifted]), np.array([low_group, 1 - low_group]))

    def _same(self, *, regression: bool) -> float:
        same = self.same_questions
        if same is None or same.count < MIN_QUERIES:
            return 0.0
        odds = _log_odds(same.fall, same.error, self.fall)
        return odds if regression else 0.0

    def _tell_new_questions(self) -> str:
        told = []
        if self.shapes:
            told.append(
                f"{self.shapes.share:.0%} of the scores since then form a new low group around {self.shapes.center:.2f}"
            )
        same = self.same_questions
        if same and same.count >= MIN_QUERIES:
            verb = "held their score" if same.fall > self.fall / 2 else "fell too"
            told.append(f"questions asked before {verb}: {same.before:.2f} then, {same.after:.2f} now")
        return _sentence("; ".join(told) or "Too few scores to separate new questions from a regression")

    def _tell_unknown(self) -> str:
        if found := self.search.found:
            place = f"{found.dimension.replace('_', ' ')} {found.value}"
            return _sentence(f"the drop is in {place}: {found.inside:+.2f} there, {found.outside:+.2f} elsewhere")
        return "Something that is not on the timeline, such as a service, a model or its data."


def _list_stages(change: TimelineChange, near: Sequence[TimelineChange]) -> list[TimelineChange]:
    """The change and what later ones added to it: a rollout in stages, each of which reaches a part of the users."""
    later = sorted((c for c in near if c.target == change.target and c.ts > change.ts), key=lambda c: c.ts)
    stages, reach = [change], change.reach
    for each in later:
        if each.kind is change.kind and reach + each.reach <= 1.01:
            stages.append(each)
            reach += each.reach
    return stages


def _time_of_change(timing: Timing, onset: float, touched: float) -> float:
    """Log evidence of an effect that begins with a change, or after a lag."""
    onsets = np.array([onset + lag for lag, _ in LAGS])
    return _log_sum(timing.weigh(onsets, touched), np.outer(_CHANCES, GROWTH[CauseKind.CHANGE]))


def _time_of_any(timing: Timing, kind: CauseKind) -> float:
    """Log evidence summed over all onsets, one per day."""
    onsets = np.arange(-LOOK_BACK, LOOK_AHEAD + _STEP, _STEP)
    return _log_sum(timing.weigh(onsets, 1.0), np.tile(GROWTH[kind], (len(onsets), 1)) * _STEP)


def _log_sum(logs: NDArray[np.float64], chances: NDArray[np.float64]) -> float:
    possible = logs[chances > 0] + np.log(chances[chances > 0])
    top = float(possible.max())
    return top + math.log(float(np.exp(possible - top).sum()))


def _log_odds(measured: float, error: float, fall: float) -> float:
    """log p(measured | all of the fall is here) / p(measured | nothing special here)."""
    variance = error**2 + (TOLERANCE * fall) ** 2
    stray = STRAY / (3 * abs(fall) + 3 * math.sqrt(variance))
    here, nowhere = (
        (1 - STRAY) * math.exp(-0.5 * (measured - at) ** 2 / variance) / math.sqrt(2 * math.pi * variance) + stray
        for at in (fall, 0.0)
    )
    return math.log(here / nowhere)


def _histogram(days: Iterable[DailyScores]) -> list[int]:
    return [int(count) for count in np.sum([d.histogram for d in days], axis=0)]


def _days_after(ts: datetime, day: date) -> float:
    """Days from the midnight at which a day begins, in the zone of the time."""
    return (ts - datetime.combine(day, time(), ts.tzinfo)) / timedelta(days=1)


def _order(cause: Cause, changed_on: date) -> tuple[float, float]:
    """Likeliest first; of equals, the nearest to the dated day."""
    return (-round(cause.confidence, 9), abs(_days_after(cause.change.ts, changed_on)) if cause.change else 0.0)


def _tell_change(
    change: TimelineChange, changed_on: date, contrast: Contrast | None, fall: float, *, reach: float, stages: int
) -> str:
    """Return the evidence for or against a change, in one sentence."""
    when = _tell_time(_days_after(change.ts, changed_on))
    if contrast is None:
        reached = f"reaches at most {reach:.0%} of users{f' in {stages} stages' * (stages > 1)} and "
        return _sentence(f"it {reached * (reach < 1 or stages > 1)}came {when}")
    place = f"{contrast.dimension.replace('_', ' ')} {contrast.value}"
    there = f"{contrast.inside:+.2f} there, {contrast.outside:+.2f} elsewhere"
    if contrast.explained / fall > 0.7:
        return _sentence(f"the drop is in {place}: {there}; it came {when}")
    if contrast.explained / fall > 0.3:
        return _sentence(f"part of the drop is in {place}: {there}; it came {when}")
    return _sentence(f"the drop is not in {place}, which it changed: {there}; it came {when}")


def _tell_time(days: float) -> str:
    if days >= 1:
        return f"{_span(days)} after the drop began, and an effect cannot precede its cause"
    if days >= 0:
        return "on the first low day"
    return f"{_span(-days)} before the first low day"


def _span(days: float) -> str:
    hours = round(days * 24)
    if hours < 1:
        return "less than an hour"
    if hours < 48:
        return f"{hours} h"
    return f"{round(days)} days"


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + "."

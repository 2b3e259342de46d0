"""Rule: measures the changes of a timeline from the days of a scope, and says which cannot be told apart.

`effects.py` holds the statistics; `report.py` reads the days.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime, timedelta

import numpy as np
from numpy.typing import NDArray

from core.causes.timeline import ChangeKind, TimelineChange
from core.drift.daily import DailyHistory
from core.drift.verdict import as_history
from core.ledger.claims import name_thing
from core.ledger.effects import (
    AFTER_DAYS,
    BEFORE_DAYS,
    DatedStep,
    DaySums,
    MeasuredEffect,
    group_inseparable,
    measure_arm,
    measure_effects,
)
from core.ledger.entries import EMPTY_SHARE, LOW_SHARE, SCORE
from core.log.histograms import count_below
from core.log.values import DailyScores

SHARE_DAYS = 7  # before a change, by which the share that it already had is measured
_LEAST_SHARE = 0.02  # of those who were not reached, in proportion to those who were
Segments = Mapping[str, Mapping[str, Sequence[DailyScores]]]


class Measuring:
    """Measures changes of one timeline, and says which cannot be told apart.

    A change that reached some of the users is measured against the others on the same days; every other change against
    the days before it. The times of changes are in the zone whose days these are. `scaled` are the days on one model's
    scale, where the others have two: scores are read there.
    """

    def __init__(
        self,
        changes: Sequence[TimelineChange],
        days: Sequence[DailyScores],
        segments: Segments,
        threshold: float,
        today: date,
        *,
        scaled: Sequence[DailyScores] | None = None,
    ) -> None:
        self._today, self._threshold, self._segments = today, threshold, segments
        self._days = {day.day: day for day in days}
        self._histories = {
            name: make(days if scaled is None or name == EMPTY_SHARE else scaled, threshold)
            for name, make in _HISTORIES.items()
        }
        ordered = sorted(changes, key=lambda each: each.ts)
        self._ends = _find_ends(ordered, today)
        self._by_arm = {id(each) for each in ordered if self._find_arm(each, SCORE) is not None}
        rest = [each for each in ordered if id(each) not in self._by_arm]
        self._groups = [[rest[at] for at in group] for group in group_inseparable([_step(each) for each in rest])]

    def companions(self, change: TimelineChange) -> tuple[TimelineChange, ...]:
        """Return the other changes that a change cannot be told apart from."""
        return tuple(other for other in self._group_of(change) if other is not change)

    def is_over(self, change: TimelineChange) -> bool:
        """Whether all days by which a change is measured are over."""
        last = max(each.ts for each in self._group_of(change)).date() + timedelta(days=AFTER_DAYS)
        return last < self._today

    def measure(self, change: TimelineChange, metric: str) -> MeasuredEffect | None:
        """Return the effect of a change and its companions, with the other changes of these weeks taken out."""
        if id(change) in self._by_arm:
            return self._find_arm(change, metric)
        own = self._group_of(change)
        first, last = _step(own[0]).at - BEFORE_DAYS, _step(own[-1]).at + AFTER_DAYS
        history = self._histories[metric]
        near = history.take(np.flatnonzero((history.ordinal >= first) & (history.ordinal <= last)))
        if not len(near):
            return None
        others = [group for group in self._groups if group is not own and first < _step(group[-1]).at < last]
        groups = [own, *others]
        return measure_effects(near, [[_step(each) for each in group] for group in groups])[0]

    def _group_of(self, change: TimelineChange) -> list[TimelineChange]:
        return next((group for group in self._groups if any(each is change for each in group)), [change])

    def _find_arm(self, change: TimelineChange, metric: str) -> MeasuredEffect | None:
        """Return the effect of a change measured against the users whom it did not reach; None where all were."""
        if change.kind is ChangeKind.INDEX:
            return None
        touched: dict[date, list[DailyScores]] = {}
        for name, value in change.touches:
            for day in self._segments.get(name, {}).get(value, ()):
                touched.setdefault(day.day, []).append(day)
        start, end = change.ts.date(), self._ends[id(change)]
        after, rest = [], []
        for at in sorted(day for day in touched if start < day <= end and day in self._days):
            own, whole = (_sums(at, days, metric, self._threshold) for days in (touched[at], [self._days[at]]))
            after.append(own)
            rest.append(DaySums(own.ordinal, whole.asked - own.asked, whole.total - own.total))
        if not after or sum(each.asked for each in rest) < _LEAST_SHARE * sum(each.asked for each in after):
            return None
        earlier = [day for day in self._days if timedelta(0) < start - day <= timedelta(days=SHARE_DAYS)]
        asked = sum(self._days[day].questions for day in earlier)
        reached = sum(each.questions for day in earlier for each in touched.get(day, ()))
        return measure_arm(after, rest, before=reached / asked if asked else 0.0)


def _find_ends(ordered: Sequence[TimelineChange], today: date) -> dict[int, date]:
    """Return the last whole day by which each change is measured: before the next change of the same thing."""
    ends: dict[int, date] = {}
    following: dict[str, date] = {}
    for change in reversed(ordered):
        day = change.ts.date()
        limits = [day + timedelta(days=AFTER_DAYS), today - timedelta(days=1)]
        if (later := following.get(name_thing(change))) is not None:
            limits.append(later - timedelta(days=1))
        ends[id(change)] = min(limits)
        following[name_thing(change)] = day
    return ends


def _sums(day: date, parts: Sequence[DailyScores], metric: str, threshold: float) -> DaySums:
    """Return the number of questions of a day that a metric is of, and its sum."""
    if metric == EMPTY_SHARE:
        return DaySums(day.toordinal(), sum(each.questions for each in parts), float(sum(each.empty for each in parts)))
    count = sum(each.count for each in parts)
    if metric == LOW_SHARE:
        return DaySums(day.toordinal(), count, sum(count_below(each.histogram, threshold) for each in parts))
    return DaySums(day.toordinal(), count, sum(each.total for each in parts))


def _step(change: TimelineChange) -> DatedStep:
    at = change.ts
    midnight = datetime(at.year, at.month, at.day, tzinfo=at.tzinfo)
    return DatedStep(at.toordinal() + (at - midnight) / timedelta(days=1), change.reach)


def _score_history(days: Sequence[DailyScores], _: float) -> DailyHistory:
    return as_history([day for day in days if day.count])


def _low_history(days: Sequence[DailyScores], threshold: float) -> DailyHistory:
    known = [day for day in days if day.count]
    low = np.array([min(count_below(day.histogram, threshold), day.count) for day in known], dtype=np.float64)
    return _share_history(known, low, np.array([day.count for day in known]))


def _empty_history(days: Sequence[DailyScores], _: float) -> DailyHistory:
    known = [day for day in days if day.questions]
    empty = np.array([day.empty for day in known], dtype=np.float64)
    return _share_history(known, empty, np.array([day.questions for day in known]))


def _share_history(days: Sequence[DailyScores], part: NDArray[np.float64], whole: NDArray[np.int64]) -> DailyHistory:
    """Return the days of a share: each question is 1 or 0, so the sum of squares is the sum."""
    return DailyHistory.of(np.array([day.day.toordinal() for day in days]), whole, part, part)


_HISTORIES: dict[str, Callable[[Sequence[DailyScores], float], DailyHistory]] = {
    SCORE: _score_history,
    LOW_SHARE: _low_history,
    EMPTY_SHARE: _empty_history,
}

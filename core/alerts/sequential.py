"""Rule: the sequential verdict of any daily metric: its values on one scale, and the detector of drops over them.

docs/statistics.md#alerts has the formulas; docs/figures.md#alerts says how often it alarms falsely.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np
from numpy.typing import NDArray

from core.alerts.metrics import AlertMetric, Unit
from core.alerts.readings import DayValue, Reading
from core.alerts.rules import AlertRule, Level
from core.drift.daily import MIN_QUERIES, DailyHistory
from core.drift.detector import CALL, Replay
from core.drift.detectors import DETECTOR
from core.drift.verdict import WATCH

ODDS = 1_000  # how much likelier the days have to be with a change; scores need 100, but their noise is known better
THRESHOLD = math.log(ODDS)
LEARNED = 28  # days with a value before the first verdict: they give the scale and the weekdays
WEEKS = 8  # of a weekday, from which its effect is taken
SCALED = 180  # differences of a week from which the scatter is taken
TAILS = 0.5  # of the standard deviation, as the least scatter: the median alone does not see rare days
SPREAD = 7.7  # scatters: what the detector takes for the spread of single scores, so that its priors fit any metric
SAMPLING = 0.3  # of the squared scatter: the part that more questions average away
LEAST = 0.01  # of the usual value: less scatter than this is taken for this much
COMPARED = 28  # days before a change that say what was usual

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class MetricShift:
    """A metric got worse: since when, when that was called, when its end was noticed, and medians before and since."""

    changed_on: date
    called_on: date
    ended_on: date | None
    before: float
    since: float


def judge_sequential(rule: AlertRule, days: Sequence[DayValue], *, today: date, falls: bool, is_share: bool) -> Reading:
    """Return what the sequential verdict of a metric says of the whole days before `today`.

    `falls` says that lower is worse. Below 28 days with a value nothing is said.
    """
    known = _list_known(days, today)
    if len(known) < LEARNED:
        said = f"{rule.watched.title} has a value on {len(known)} days; its verdict needs {LEARNED}."
        return Reading(None, reason=said, is_missing=_is_missing(rule, known, today))
    if _is_missing(rule, known, today):
        return Reading(None, reason=f"{rule.watched.title} has no value since {known[-1].day}.", is_missing=True)
    seen = _replay(known, rule.watched, falls=falls, is_share=is_share)
    changes = _list_changes(known, seen)
    value, still = known[-1].value, [each for each in changes if each.ended_on is None]
    if still:
        last = still[-1]
        evidence = {"event": "change", "changed_on": last.changed_on.isoformat()}
        reason = f"{_say_change(rule, last, falls=falls)}; such days are over {ODDS:,} times likelier with a change."
        return Reading(Level.ALERT, value, reason, last.called_on.isoformat(), evidence=evidence)
    if rule.from_level is Level.WARNING and seen.fall and seen.fall.evidence >= WATCH + THRESHOLD - CALL:
        change = _measure(known, seen.fall.start, None, called=len(known) - 1)
        reason = f"{_say_change(rule, change, falls=falls)}; it may be chance still."
        return Reading(Level.WARNING, value, reason)
    return Reading(Level.OK, value, f"{rule.watched.title} shows no change for the worse.")


def list_changes(
    days: Sequence[DayValue], metric: AlertMetric, *, today: date, falls: bool, is_share: bool
) -> tuple[MetricShift, ...]:
    """Return every change for the worse up to yesterday, as the verdicts of its days called them."""
    known = _list_known(days, today)
    if len(known) < LEARNED:
        return ()
    return _list_changes(known, _replay(known, metric, falls=falls, is_share=is_share))


def make_history(days: Sequence[DayValue], *, unit: Unit, falls: bool, is_share: bool) -> DailyHistory:
    """Return days with a value, at least 28, in the detector's format; worse is lower there.

    Each day uses no later one, but for the first 28, which are learned from. Shares are 2 arcsin(sqrt(share)), whose
    standard error is 1/sqrt(questions) at least; other metrics that are never negative are logarithms, so that a change
    is one by a factor. The scatter is that of differences from the same day of the week before. A weekday's effect is
    the median of its last 8 differences from the week up to it; only what is beyond chance is taken off.
    """
    ordinal = np.array([day.day.toordinal() for day in days])
    count = np.maximum(np.array([day.count for day in days]), 1)
    value, floor = _to_scale(np.array([day.value for day in days], dtype=np.float64), count, unit, is_share=is_share)
    scatter = np.maximum(_find_scatter(ordinal, value), floor)
    usual = np.array([np.median(count[max(0, at - LEARNED + 1) : at + 1]) for at in range(len(count))])
    variance = np.maximum(SAMPLING * scatter**2 * np.clip(usual / count, 0.25, 4.0), floor**2)
    adjusted = value - _find_weekdays(ordinal, value, scatter)
    weighed = np.full_like(count, MIN_QUERIES) if unit is Unit.COUNT else count
    return DailyHistory(ordinal, weighed, adjusted if falls else -adjusted, variance, SPREAD * scatter)


def _list_known(days: Sequence[DayValue], today: date) -> list[DayValue]:
    return [day for day in days if day.value is not None and day.day < today]


def _is_missing(rule: AlertRule, known: Sequence[DayValue], today: date) -> bool:
    return not known or (today - known[-1].day).days - 1 >= rule.no_data_days


def _replay(known: Sequence[DayValue], metric: AlertMetric, *, falls: bool, is_share: bool) -> Replay:
    return DETECTOR.replay(make_history(known, unit=metric.unit, falls=falls, is_share=is_share), THRESHOLD)


def _list_changes(known: Sequence[DayValue], seen: Replay) -> tuple[MetricShift, ...]:
    found = [each for each in seen.episodes if each.called >= LEARNED]
    return tuple(_measure(known, each.changed, each.ended, called=each.called) for each in found)


def _measure(known: Sequence[DayValue], changed: int, ended: int | None, *, called: int) -> MetricShift:
    values = np.array([day.value for day in known], dtype=np.float64)
    before = values[max(0, changed - COMPARED) : changed] if changed else values[:1]
    return MetricShift(
        known[changed].day, known[called].day, None if ended is None else known[ended].day,
        float(np.median(before)), float(np.median(values[changed : ended or len(known)])),
    )  # fmt: skip


def _say_change(rule: AlertRule, change: MetricShift, *, falls: bool) -> str:
    verb, say = "fell" if falls else "rose", rule.watched.say
    return f"{rule.watched.title} {verb} from {say(change.before)} to {say(change.since)} around {change.changed_on}"


def _to_scale(value: Floats, count: NDArray[np.int64], unit: Unit, *, is_share: bool) -> tuple[Floats, Floats]:
    """Return the values as they are compared, and the least standard error of each."""
    if is_share:
        hits = np.clip(value, 0.0, 1.0) * count
        return 2 * np.arcsin(np.sqrt((hits + 0.375) / (count + 0.75))), 1 / np.sqrt(count)
    learned = value[:LEARNED]
    usual = float(np.median(learned[learned > 0])) if (learned > 0).any() else 0.0
    if usual > 0 and learned.min() >= 0:
        least = 1.0 if unit is Unit.COUNT else LEAST * usual
        shown = np.maximum(value, 0.0) + least  # so that nothing is far off, and not endlessly
        sampling = np.sqrt(np.maximum(value, 1.0)) / shown if unit is Unit.COUNT else np.zeros_like(value)
        return np.log(shown), np.maximum(sampling, LEAST)
    return value, np.full_like(value, max(LEAST * float(np.median(np.abs(learned))), 1e-9))


def _find_scatter(ordinal: NDArray[np.int64], value: Floats) -> Floats:
    """Return how far days lie from those a week before, as known before each day."""
    at = {int(day): index for index, day in enumerate(ordinal)}
    pairs = [(index, at[int(day) - 7]) for index, day in enumerate(ordinal) if int(day) - 7 in at]
    if sum(index < LEARNED for index, _ in pairs) < 8:
        pairs = [(index, index - 1) for index in range(1, len(value))]
    last = np.array([index for index, _ in pairs])
    apart = np.array([value[index] - value[former] for index, former in pairs]) / np.sqrt(2)
    found = np.empty_like(value)
    for day in range(len(value)):
        some = np.abs(apart[: int(np.searchsorted(last, max(day, LEARNED)))])[-SCALED:]
        found[day] = max(1.4826 * float(np.median(some)), TAILS * float(np.sqrt(np.mean(some**2))))
    return found


def _find_weekdays(ordinal: NDArray[np.int64], value: Floats, scatter: Floats) -> Floats:
    """Return the effect of each day's weekday, as known before it."""
    first = np.searchsorted(ordinal, ordinal - 6)  # of the week up to each day
    sums = np.append(0.0, np.cumsum(value))
    index = np.arange(len(value))
    off = value - (sums[index + 1] - sums[first]) / (index + 1 - first)
    found = np.zeros_like(value)
    for day in range(len(value)):
        same = np.flatnonzero((ordinal[: max(day, LEARNED)] - ordinal[day]) % 7 == 0)[-WEEKS:]
        if len(same) > 2:
            effect = float(np.median(off[same]))
            chance = 2.5 * scatter[day] / np.sqrt(len(same))
            found[day] = np.sign(effect) * max(abs(effect) - chance, 0.0)
    return found

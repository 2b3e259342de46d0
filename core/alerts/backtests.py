"""Rule: what a rule would have done: its alarms over past days, and how many false ones a year are to be expected."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta

import numpy as np
from numpy.typing import NDArray

from core.alerts.metrics import MEAN_SCORE
from core.alerts.readings import DayValue, judge_days
from core.alerts.rules import (
    CANARY_ALARMS_A_STEP,
    CHANGE_ALARMS_A_YEAR,
    DRIFT_ALARMS_A_YEAR,
    AlertKind,
    AlertRule,
    Level,
    LimitSide,
    WithoutData,
)
from core.alerts.sequential import MetricShift
from core.causes.timeline import ChangeKind, TimelineChange
from core.drift.episodes import DatedEpisode

CAUSE_DAYS = 3  # a change this many days before an alarm, or on its first day, may be its cause
FEWEST_QUIET = 28
BLOCK_DAYS, YEARS, YEAR_DAYS = 7, 400, 365
SEED = 20_260_101


@dataclass(frozen=True, slots=True)
class PastAlarm:
    """An alarm that a rule would have raised: the first bad day, when it alerted, and its last day (None: it lasts)."""

    began_on: date
    alerted_on: date
    ended_on: date | None
    level: Level
    causes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class FalseAlarms:
    """How many false alarms a year are to be expected; nine years of ten have `low` to `high`. `basis` says whence.

    None without enough days.
    """

    a_year: float | None
    low: float | None
    high: float | None
    basis: str


@dataclass(frozen=True, slots=True)
class Backtest:
    """What a rule would have done from `first` to `last`."""

    first: date
    last: date
    with_data: int
    alarms: tuple[PastAlarm, ...]
    false_alarms: FalseAlarms
    notes: tuple[str, ...] = ()

    @property
    def days(self) -> int:
        """How many days were looked at."""
        return (self.last - self.first).days + 1


def replay_days(rule: AlertRule, days: Sequence[DayValue], *, first: date, last: date) -> tuple[PastAlarm, ...]:
    """Return the alarms of a threshold over whole days, by the rule that is used every day (`judge_days`)."""
    by_day = {day.day: at for at, day in enumerate(days)}
    alarms: list[PastAlarm] = []
    level, known = Level.OK, 0
    reach = 3 * rule.for_days + rule.no_data_days + 7  # days that may decide, those without a value among them
    for ago in range((last - first).days + 1):
        day = first + timedelta(days=ago)
        known = by_day.get(day, known - 1) + 1
        reading = judge_days(rule, days[max(0, known - reach) : known], today=day + timedelta(days=1))
        found = reading.level
        if reading.is_missing and rule.no_data is not WithoutData.KEEP:
            found = Level.WARNING if rule.no_data is WithoutData.ALERT else Level.OK
        if found is None:
            continue
        if found is not Level.OK and level is Level.OK:
            alarms.append(PastAlarm(_first_bad(rule, days[:known], day), day, None, found))
        elif found is not Level.OK:
            alarms[-1] = replace(alarms[-1], level=max(found, alarms[-1].level, key=list(Level).index))
        elif level is not Level.OK:
            alarms[-1] = replace(alarms[-1], ended_on=day - timedelta(days=1))
        level = found
    return tuple(alarms)


def replay_episodes(
    episodes: Sequence[DatedEpisode | MetricShift], *, first: date, last: date
) -> tuple[PastAlarm, ...]:
    """Return the alarms by a verdict: drops and outages of the score, or changes of another metric, by their call."""
    return tuple(
        PastAlarm(each.changed_on, each.called_on, each.ended_on, Level.ALERT)
        for each in episodes
        if first <= each.called_on <= last
    )


def name_causes(alarms: Sequence[PastAlarm], changes: Sequence[TimelineChange]) -> tuple[PastAlarm, ...]:
    """Return the alarms with the changes that users noticed on their first bad day or the three days before."""
    noticed = [change for change in changes if change.kind is not ChangeKind.LEVEL and change.reach > 0]
    found = []
    for alarm in alarms:
        since = alarm.began_on - timedelta(days=CAUSE_DAYS)
        near = [each.summary for each in noticed if since <= each.ts.date() <= alarm.began_on]
        found.append(replace(alarm, causes=tuple(dict.fromkeys(near))))
    return tuple(found)


def find_quiet(
    days: Sequence[DayValue], alarms: Sequence[PastAlarm], episodes: Sequence[DatedEpisode], *, last: date
) -> tuple[DayValue, ...]:
    """Return the days with a value on which nothing was wrong: outside drops, outages and alarms that have a cause."""
    spans = [(each.changed_on, each.ended_on or last) for each in episodes]
    spans += [(each.began_on, each.ended_on or last) for each in alarms if each.causes]
    return tuple(
        day for day in days if day.value is not None and not any(low <= day.day <= high for low, high in spans)
    )


def expect_false_alarms(rule: AlertRule, quiet: Sequence[DayValue], *, seed: int = SEED) -> FalseAlarms:
    """Return the expected false alarms a year of a rule about one service.

    Of a verdict it is the stated rate of the method (docs/statistics.md). Of a threshold it is the mean over 400
    years drawn from the quiet days by the circular block bootstrap with blocks of a week, which keep weekdays and what
    one day takes from the day before (Politis and Romano 1992). It assumes that a year is like these days: season and
    growth are not in it, and a value beyond the most extreme quiet day cannot be drawn. Below 28 quiet days it is None.
    """
    if rule.kind is AlertKind.VERDICT and rule.metric == "canary":
        basis = f"at most {CANARY_ALARMS_A_STEP:.0%} of a canary's steps are rolled back although nothing is wrong"
        return FalseAlarms(None, None, None, basis)
    if rule.kind is AlertKind.VERDICT and rule.from_level is Level.WARNING:
        return FalseAlarms(None, None, None, "the state watch has no stated rate; called changes have")
    if rule.kind is AlertKind.VERDICT:
        if rule.metric == MEAN_SCORE:
            basis = "the rate of the sequential verdict, measured on 28 stores"
            return FalseAlarms(DRIFT_ALARMS_A_YEAR, None, None, basis)
        basis = "at most, as measured on 14 kinds of simulated metrics"
        return FalseAlarms(CHANGE_ALARMS_A_YEAR, None, None, basis)
    if len(quiet) < FEWEST_QUIET:
        return FalseAlarms(None, None, None, f"{len(quiet)} quiet days are too few to say, {FEWEST_QUIET} are needed")
    values = np.array([day.value for day in quiet], dtype=np.float64)
    counts = _count_alarms(rule, _draw_years(values, seed))
    low, high = np.quantile(counts, [0.05, 0.95])
    basis = f"{YEARS} years drawn from {len(quiet)} quiet days, in blocks of a week"
    if not counts.any():
        most = 3 / len(quiet) * YEAR_DAYS
        basis += f"; none of them alarmed, so the true rate is at most about {most:.0f} a year (95%)"
    return FalseAlarms(float(counts.mean()), float(low), float(high), basis)


def describe_backtest(found: Backtest) -> str:
    """Return a backtest in two sentences."""
    alarms = found.alarms
    if not alarms:
        said = f"It would not have alerted in {found.days} days."
    else:
        times = "once" if len(alarms) == 1 else f"{len(alarms)} times"
        caused = sum(bool(alarm.causes) for alarm in alarms)
        having = f"{caused} {'has' if caused == 1 else 'have'} a cause" if caused else "none has a cause"
        said = (
            f"It would have alerted {times} in {found.days} days, on {_join([_say(a.alerted_on) for a in alarms])}; "
            f"{having}."
        )
    return f"{said} {describe_false_alarms(found.false_alarms)}"


def describe_false_alarms(found: FalseAlarms) -> str:
    """Return the expected false alarms in a sentence."""
    if found.a_year is None:
        return f"Expected false alarms: {found.basis}."
    span = "" if found.low is None or found.high is None else f" ({found.low:.0f} to {found.high:.0f} in most years)"
    return f"Expected false alarms: {found.a_year:.1f} a year{span}; {found.basis}."


def _draw_years(values: NDArray[np.float64], seed: int) -> NDArray[np.float64]:
    """Return years of days, one a row, made of blocks of a week that begin anywhere and wrap around."""
    rng = np.random.default_rng(seed)
    blocks = -(-YEAR_DAYS // BLOCK_DAYS)
    starts = rng.integers(0, len(values), (YEARS, blocks, 1))
    index = (starts + np.arange(BLOCK_DAYS)) % len(values)
    return np.asarray(values[index.reshape(YEARS, -1)[:, :YEAR_DAYS]])


def _count_alarms(rule: AlertRule, years: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return how many alarms begin in each row: the first of `for_days` bad days in a row counts once."""
    limits = [limit for limit in (rule.warning, rule.alert) if limit is not None]
    limit = min(limits) if rule.side is LimitSide.ABOVE else max(limits)
    bad = years > limit if rule.side is LimitSide.ABOVE else years < limit
    alarmed = bad[:, rule.for_days - 1 :].copy()
    for ago in range(1, rule.for_days):
        alarmed &= bad[:, rule.for_days - 1 - ago : bad.shape[1] - ago]
    begins = alarmed[:, 1:] & ~alarmed[:, :-1]
    return np.asarray(begins.sum(axis=1) + alarmed[:, 0], dtype=np.int64)


def _first_bad(rule: AlertRule, days: Sequence[DayValue], day: date) -> date:
    """Return the first of the bad days that led to an alarm; the day itself where data are missing."""
    bad = [each.day for each in days if each.value is not None][-rule.for_days :]
    return bad[0] if bad and bad[-1] == day else day


def _say(day: date) -> str:
    return f"{day.day} {day:%b}"


def _join(names: Collection[str]) -> str:
    named = list(names)
    return named[0] if len(named) == 1 else f"{', '.join(named[:-1])} and {named[-1]}"

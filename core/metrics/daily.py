"""Gateway to the daily figures of any metric of a scope, built-in or own: the two functions that alerts and others use.

`list_metrics` names the metrics of a scope, `read_metric_days` reads one of them by day, `read_metric_segments` also
by the values of a dimension.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from typing import TypeVar

from core.errors import InvalidInput
from core.log.calendars import Calendar
from core.log.metrics import MetricSums, list_metric_days, list_metric_segment_days
from core.log.retrievals import ScopeDays, Window, calendar_of, list_days, list_dimensions
from core.log.values import DailyScores, States
from core.metrics.builtin import BUILT_IN, find_metric
from core.metrics.definition import ERROR, USERS, MetricDay, MetricDefinition, MetricSource, Statistic
from core.metrics.records import list_own_metrics
from core.metrics.values import (
    RowsRead,
    UserNumber,
    ValueSum,
    list_numbers,
    list_questions_asked,
    list_value_sums,
    split_metric,
)
from quarterdeck.scope import Scope
from quarterdeck.store import Store

_Sum = TypeVar("_Sum", ValueSum, UserNumber)
_ROLLED_UP = {MetricSource.LATENCY: "latency_ms", MetricSource.COST: "cost_usd", MetricSource.TOKENS: "tokens"}


def list_metrics(store: Store, scope: Scope) -> tuple[MetricDefinition, ...]:
    """Return every metric of a scope: the built-in ones, then those that were defined in its environment."""
    return (*BUILT_IN, *list_own_metrics(store, scope.environment))


def get_metric(store: Store, scope: Scope, name: str) -> MetricDefinition:
    """Return the metric of this name, in any case. Raises InvalidInput, listing the known ones."""
    return find_metric(name, list_metrics(store, scope))


def read_metric_days(
    store: Store, scope: Scope, metric: MetricDefinition, window: Window, *, segment: tuple[str, str] = ("", "")
) -> tuple[MetricDay, ...]:
    """Return the days of a window on which a metric has a value, oldest first, for a scope or one of its segments.

    Days are those of the service's time zone. Each is about its questions and not about users: the mean is over all
    numbers of the day, and only events are counted by user. Means, states and percentiles of the latency come from the
    rollups, all else from the rows. `segment` is a dimension and its value; events have none. Raises InvalidInput and
    SourceUnavailable.
    """
    if _is_of_days(metric):
        return _of_days(metric, list_days(store, window=window, segment=segment if segment[0] else None, scope=scope))
    if name := _find_rollup(metric):
        sums = list_metric_days(store, scope, (name,), window, segment=segment).get(name, {})
        if found := _of_sums(metric, sums):
            return found
    values = (segment[1],) if segment[0] else ()
    return _read_rows(store, scope, metric, window, segment[0], values).get(segment[1] if segment[0] else "", ())


def read_metric_segments(
    store: Store, scope: Scope, metric: MetricDefinition, window: Window, dimension: str
) -> dict[str, tuple[MetricDay, ...]]:
    """Return a metric's days for each value of a dimension, as `read_metric_days` does for one.

    "" has the questions without a value. Events belong to no segment. Raises InvalidInput and SourceUnavailable.
    """
    if dimension not in (known := list_dimensions(store, scope)):
        raise InvalidInput("dimension", f"must be one of {', '.join(known)}, not {dimension[:40]!r}")
    found: dict[str, tuple[MetricDay, ...]] = {}
    if _is_of_days(metric):
        days: dict[str, list[DailyScores]] = defaultdict(list)
        for value, day in ScopeDays(store, scope).read(dimension, None, window):
            days[value].append(day)
        found = {value: _of_days(metric, of) for value, of in days.items()}
    elif name := _find_rollup(metric):
        sums = list_metric_segment_days(store, scope, name, window, dimension)
        found = {value: _of_sums(metric, of) for value, of in sums.items()}
    if not any(found.values()):
        found = _read_rows(store, scope, metric, window, dimension, ())
    return {value: of for value, of in sorted(found.items()) if of}


def _is_of_days(metric: MetricDefinition) -> bool:
    """Whether the daily summaries of the similarity hold it."""
    is_mean = metric.source is MetricSource.SIMILARITY and metric.statistic is Statistic.MEAN
    return is_mean or metric.source is MetricSource.STATE


def _of_days(metric: MetricDefinition, days: Iterable[DailyScores]) -> tuple[MetricDay, ...]:
    if metric.source is MetricSource.SIMILARITY:
        return tuple(MetricDay(day.day, day.count, day.mean) for day in days if day.count)
    return tuple(
        MetricDay(day.day, day.questions, _count_state(metric.of, States.of_days([day])) / day.questions)
        for day in days
        if day.questions
    )


def _count_state(name: str, states: States) -> int:
    return states.questions - states.scored if name == ERROR else int(getattr(states, name))


def _find_rollup(metric: MetricDefinition) -> str:
    """Return the name of the rollup that holds a metric; "" where none does."""
    is_quantile = metric.statistic is Statistic.PERCENTILE and metric.source is MetricSource.LATENCY
    if not is_quantile and metric.statistic is not Statistic.MEAN:
        return ""
    return _ROLLED_UP.get(metric.source, metric.of if metric.source is MetricSource.SCORE else "")


def _of_sums(metric: MetricDefinition, days: Mapping[date, MetricSums]) -> tuple[MetricDay, ...]:
    is_quantile = metric.statistic is Statistic.PERCENTILE
    values = {
        day: sums.quantile(metric.percentile / 100) if is_quantile else sums.mean for day, sums in days.items()
    }  # fmt: skip
    return tuple(MetricDay(day, days[day].count, value) for day, value in values.items() if value is not None)


def _read_rows(
    store: Store, scope: Scope, metric: MetricDefinition, window: Window, dimension: str, values: tuple[str, ...]
) -> dict[str, tuple[MetricDay, ...]]:
    """Return the days from the rows and events, by the value of the dimension; "" has all of them without one."""
    calendar, (part, divisor) = calendar_of(store, scope), split_metric(metric)
    if dimension and MetricSource.EVENT in (part.source, divisor.source if divisor else ""):
        raise InvalidInput("segment", f"{metric.name} counts events, which belong to no segment")
    asked = RowsRead(scope, calendar.start_of(window.first), calendar.end_of(window.last), dimension, values)
    if metric.statistic is Statistic.PERCENTILE:
        numbers = _by_value(list_numbers(store, part, asked))
        return {value: _quantiles(_by_day(calendar, of), metric.percentile) for value, of in numbers.items()}
    own = _by_value(list_value_sums(store, part, asked))
    is_of_users = metric.is_share and metric.source is MetricSource.EVENT
    counts_users = is_of_users or metric.per == USERS
    if counts_users or divisor is not None:
        below = list_questions_asked(store, asked) if divisor is None else list_value_sums(store, divisor, asked)
        under = _by_value(below)
    else:
        under = own
    found = {}
    for value, of in under.items():
        mine, whole = _by_day(calendar, own.get(value, ())), _by_day(calendar, of)
        counts = _count_users(whole) if counts_users else _count(whole)
        above = _count_users(mine) if is_of_users else {day: sum(one.total for one in at) for day, at in mine.items()}
        found[value] = tuple(
            MetricDay(day, count, above.get(day, 0.0) / count) for day, count in sorted(counts.items()) if count
        )
    return found


def _by_value(found: Iterable[_Sum]) -> dict[str, list[_Sum]]:
    values: dict[str, list[_Sum]] = defaultdict(list)
    for each in found:
        values[each.value].append(each)
    return values


def _by_day(calendar: Calendar, found: Iterable[_Sum]) -> dict[date, list[_Sum]]:
    days: dict[date, list[_Sum]] = defaultdict(list)
    for each in found:
        days[calendar.day_of(each.start_ms)].append(each)
    return days


def _count(days: Mapping[date, Sequence[ValueSum]]) -> dict[date, float]:
    return {day: float(sum(each.n for each in of)) for day, of in days.items()}


def _count_users(days: Mapping[date, Sequence[ValueSum]]) -> dict[date, float]:
    return {day: float(len({each.user for each in of if each.user is not None})) for day, of in days.items()}


def _quantiles(days: Mapping[date, Sequence[UserNumber]], percentile: float) -> tuple[MetricDay, ...]:
    import numpy as np

    listed = {day: np.array([each.number for each in of]) for day, of in sorted(days.items())}
    return tuple(
        MetricDay(day, len(of), float(np.quantile(of, percentile / 100, method="inverted_cdf")))
        for day, of in listed.items()
    )

"""Gateway to the daily figures of any metric of a scope, built-in or own: the two functions that alerts and others use.

`list_metrics` names the metrics of a scope, `read_metric_days` reads one of them by day.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import TypeVar

from core.errors import InvalidInput
from core.log.calendars import Calendar
from core.log.metrics import list_metric_days
from core.log.retrievals import Window, calendar_of, list_days
from core.log.values import States
from core.metrics.builtin import BUILT_IN, find_metric
from core.metrics.definition import ERROR, USERS, MetricDefinition, MetricSource, Statistic
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


@dataclass(frozen=True, slots=True)
class MetricDay:
    """A metric on one day: its value in its own unit (shares 0 to 1), and how much is behind it.

    `count` is the number of questions, numbers, or (for a ratio, a share of an event) of what it is divided by.
    """

    day: date
    count: float
    value: float


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
    if metric.source is MetricSource.SIMILARITY and metric.statistic is Statistic.MEAN:
        days = list_days(store, window=window, segment=_or_none(segment), scope=scope)
        return tuple(MetricDay(day.day, day.count, day.mean) for day in days if day.count)
    if metric.source is MetricSource.STATE:
        days = list_days(store, window=window, segment=_or_none(segment), scope=scope)
        return tuple(
            MetricDay(day.day, day.questions, _count_state(metric.of, States.of_days([day])) / day.questions)
            for day in days
            if day.questions
        )
    if found := _read_rollups(store, scope, metric, window, segment):
        return found
    asked = _read_rows(store, scope, metric, window, segment)
    return tuple(MetricDay(day, count, value) for day, (count, value) in sorted(asked.items()))


def _or_none(segment: tuple[str, str]) -> tuple[str, str] | None:
    return segment if segment[0] else None


def _count_state(name: str, states: States) -> int:
    return states.questions - states.scored if name == ERROR else int(getattr(states, name))


def _read_rollups(
    store: Store, scope: Scope, metric: MetricDefinition, window: Window, segment: tuple[str, str]
) -> tuple[MetricDay, ...]:
    """Return what the rollups hold; () where they cannot answer."""
    name = _ROLLED_UP.get(metric.source, metric.of if metric.source is MetricSource.SCORE else "")
    is_quantile = metric.statistic is Statistic.PERCENTILE and metric.source is MetricSource.LATENCY
    if not name or not (is_quantile or metric.statistic is Statistic.MEAN):
        return ()
    days = list_metric_days(store, scope, (name,), window, segment=segment).get(name, {})
    values = {
        day: sums.quantile(metric.percentile / 100) if is_quantile else sums.mean for day, sums in days.items()
    }  # fmt: skip
    return tuple(MetricDay(day, days[day].count, value) for day, value in values.items() if value is not None)


def _read_rows(
    store: Store, scope: Scope, metric: MetricDefinition, window: Window, segment: tuple[str, str]
) -> dict[date, tuple[float, float]]:
    """Return each day's count and value, from the rows and events."""
    calendar, (part, divisor) = calendar_of(store, scope), split_metric(metric)
    if segment[0] and MetricSource.EVENT in (part.source, divisor.source if divisor else ""):
        raise InvalidInput("segment", f"{metric.name} counts events, which belong to no segment")
    bounds = calendar.start_of(window.first), calendar.end_of(window.last)
    asked = RowsRead(scope, *bounds, segment[0], (segment[1],) if segment[0] else ())
    if metric.statistic is Statistic.PERCENTILE:
        numbers = _by_day(calendar, list_numbers(store, part, asked))
        listed = {day: [each.number for each in of] for day, of in numbers.items()}
        return {day: (len(of), _quantile(of, metric.percentile)) for day, of in listed.items()}
    own = _by_day(calendar, list_value_sums(store, part, asked))
    is_of_users = metric.is_share and metric.source is MetricSource.EVENT
    if is_of_users or metric.per == USERS:
        below = _count_users(_by_day(calendar, list_questions_asked(store, asked)))
    else:
        below = _count(_by_day(calendar, list_value_sums(store, divisor, asked)) if divisor else own)
    above = _count_users(own) if is_of_users else {day: sum(each.total for each in of) for day, of in own.items()}
    return {day: (count, above.get(day, 0.0) / count) for day, count in below.items() if count}


def _by_day(calendar: Calendar, found: Iterable[_Sum]) -> dict[date, list[_Sum]]:
    days: dict[date, list[_Sum]] = defaultdict(list)
    for each in found:
        days[calendar.day_of(each.start_ms)].append(each)
    return days


def _count(days: Mapping[date, Sequence[ValueSum]]) -> dict[date, float]:
    return {day: float(sum(each.n for each in of)) for day, of in days.items()}


def _count_users(days: Mapping[date, Sequence[ValueSum]]) -> dict[date, float]:
    return {day: float(len({each.user for each in of if each.user is not None})) for day, of in days.items()}


def _quantile(numbers: Sequence[float], percentile: float) -> float:
    import numpy as np

    return float(np.quantile(np.array(numbers), percentile / 100, method="inverted_cdf"))

"""Gateway to the numbers of the log other than the similarity: by day and by segment, from the rollups.

Where the log is in ClickHouse, its rows' own numbers are added up there, and later scores are in the store's rollups.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from datetime import date
from typing import Any

from sqlalchemy import ColumnElement, case, func, literal, select

from core.log.calendars import Calendar
from core.log.retrievals import Window, calendar_of
from quarterdeck.clickhouse import ClickHouseLog
from quarterdeck.clock import DAY_MS, from_ms
from quarterdeck.log import SqlLog, as_log
from quarterdeck.rollups import middle_of
from quarterdeck.schema import DIMENSIONS, METRICS, metric_bins, metric_sums, scopes
from quarterdeck.scope import Scope
from quarterdeck.store import Store

_LEAST_SHOWN = 1  # sums below it are what rows that were taken back have left


@dataclass(slots=True)
class MetricSums:
    """A number over some questions: how many have it, its sum, and how often each bin of its histogram occurs."""

    count: int = 0
    total: float = 0.0
    bins: Counter[int] = field(default_factory=Counter)

    @property
    def mean(self) -> float | None:
        """The mean; None where no question has the number."""
        return self.total / self.count if self.count >= _LEAST_SHOWN else None

    def quantile(self, share: float) -> float | None:
        """Return the value that this share of the questions stays at or below, within 5%; None without a histogram."""
        known = sorted((number, n) for number, n in self.bins.items() if n > 0)
        wanted, reached = share * sum(n for _, n in known), 0
        for number, n in known:
            reached += n
            if reached >= wanted:
                return middle_of(number)
        return None

    def add(self, other: "MetricSums") -> None:
        """Add what other questions have."""
        self.count, self.total = self.count + other.count, self.total + other.total
        self.bins.update(other.bins)


Daily = dict[str, dict[date, MetricSums]]  # by name and day
Segments = dict[str, dict[str, MetricSums]]  # by the value of a dimension and name


def list_metric_days(
    store: Store, scope: Scope, names: Collection[str], window: Window, *, segment: tuple[str, str] = ("", "")
) -> Daily:
    """Return each number by day, for all of a scope or one value of a dimension. Raises SourceUnavailable.

    Sums are those of the days of the service's time zone, histograms those of UTC days of the same date.
    """
    calendar, found = calendar_of(store, scope), defaultdict[str, dict[date, MetricSums]](dict)
    for _, name, day, sums in _read(store, scope, names, window, calendar, segment[0], segment[1]):
        found[name].setdefault(day, MetricSums()).add(sums)
    return {name: dict(sorted(days.items())) for name, days in found.items()}


def list_metric_segments(
    store: Store, scope: Scope, names: Collection[str], window: Window, dimension: str
) -> Segments:
    """Return each number over a window for each value of a dimension; "" has the questions without a value."""
    calendar, found = calendar_of(store, scope), defaultdict[str, dict[str, MetricSums]](dict)
    for value, name, _, sums in _read(store, scope, names, window, calendar, dimension, None):
        found[value].setdefault(name, MetricSums()).add(sums)
    return dict(found)


_Part = tuple[str, str, date, MetricSums]  # the value of the dimension, the number's name, the day


def _read(
    store: Store, scope: Scope, names: Collection[str], window: Window, calendar: Calendar, dimension: str,
    value: str | None,
) -> Iterable[_Part]:  # fmt: skip
    log = as_log(store)
    holders = [store] if not isinstance(log, SqlLog) or log.store is store else [store, log.store]
    for holder in holders:
        yield from _read_sums(holder, scope, names, window, calendar, dimension, value)
        yield from _read_bins(holder, scope, names, window, dimension, value)
    if isinstance(log, ClickHouseLog):
        yield from _read_clickhouse(log, scope, names, window, calendar, dimension, value)


def _read_sums(
    store: Store, scope: Scope, names: Collection[str], window: Window, calendar: Calendar, dimension: str,
    value: str | None,
) -> Iterable[_Part]:  # fmt: skip
    c = metric_sums.c
    start_ms, end_ms = calendar.start_of(window.first), calendar.end_of(window.last)
    day = _day(c.start_ms, calendar, start_ms, end_ms)
    query = (
        select(c.value, c.metric, day, func.sum(c.n), func.sum(c.total))
        .where(*_within(c, scope, names, dimension, value), c.start_ms >= start_ms, c.start_ms < end_ms)
        .group_by(c.value, c.metric, day)
    )
    with store.read() as connection:
        for each, name, at, n, total in connection.execute(query):
            yield each, name, from_ms(at).date(), MetricSums(int(n), float(total))


def _read_bins(
    store: Store, scope: Scope, names: Collection[str], window: Window, dimension: str, value: str | None
) -> Iterable[_Part]:
    c = metric_bins.c
    query = select(c.value, c.metric, c.day_ms, c.bin, c.n).where(
        *_within(c, scope, names, dimension, value), c.day_ms >= window.start_ms, c.day_ms < window.end_ms
    )
    with store.read() as connection:
        for each, name, at, number, n in connection.execute(query):
            yield each, name, from_ms(at).date(), MetricSums(bins=Counter({number: int(n)}))


def _read_clickhouse(
    log: ClickHouseLog, scope: Scope, names: Collection[str], window: Window, calendar: Calendar, dimension: str,
    value: str | None,
) -> Iterable[_Part]:  # fmt: skip
    """Yield the rows' own numbers: a declared attribute has no sums there, so only built-in dimensions are read."""
    if dimension and dimension not in DIMENSIONS:
        return
    start_ms, end_ms = calendar.start_of(window.first), calendar.end_of(window.last)
    steps = calendar.steps_within(start_ms, end_ms)
    before = "".join(f"ts_ms >= {at}, {ms}, " for at, ms in steps[:-1])
    offset = f"multiIf({before}{steps[-1][1]})" if before else str(steps[-1][1])
    of = f"ifNull(toString({dimension}), '')" if dimension else "''"
    kept = "" if value is None or not dimension else f" AND {of} = {{value:String}}"
    for name in [each for each in METRICS if each in names]:
        weight = "toInt64(ifNull(weight, 1))"
        rows = log.query(
            f"SELECT {of} AS each, intDiv(ts_ms + {offset}, {DAY_MS}) * {DAY_MS} AS day, {_BIN.format(name=name)} "
            f"AS number, sum({weight}), sum({weight} * {name}) "
            f"FROM {log.database}.retrievals WHERE environment = {{environment:String}} "
            "AND service = {service:String} AND ts_ms >= {start:Int64} AND ts_ms < {end:Int64} "
            f"AND {name} IS NOT NULL{kept} GROUP BY each, day, number",
            start=start_ms, end=end_ms, value=value or "", **scope._asdict(),
        )  # fmt: skip
        for each, at, number, n, total in rows:
            sums = MetricSums(int(n), float(total), Counter({int(number): int(n)}))
            yield str(each), name, from_ms(at).date(), sums


# As `quarterdeck.rollups.bin_of` counts.
_BIN = (
    "if({name} = 0, 0, toInt32(if({name} < 0, -1, 1) * "
    "least(1000, greatest(1, floor(log2(abs(assumeNotNull({name}))) * 8) + 400))))"
)


def _within(
    c: Any, scope: Scope, names: Collection[str], dimension: str, value: str | None
) -> list[ColumnElement[bool]]:
    s = scopes.c
    own = select(s.id).where(s.environment == scope.environment, s.service == scope.service).scalar_subquery()
    found: list[ColumnElement[bool]] = [c.scope_id == own, c.dimension == dimension, c.metric.in_(sorted(names))]
    return found if value is None else [*found, c.value == value]


def _day(start: ColumnElement[int], calendar: Calendar, start_ms: int, end_ms: int) -> ColumnElement[int]:
    """Return the start of an hour's day, as if its zone were UTC."""
    steps = calendar.steps_within(start_ms, end_ms)
    last = literal(steps[-1][1])
    offset = last if len(steps) == 1 else case(*((start >= at, ms) for at, ms in steps), else_=last)
    local: ColumnElement[int] = start + offset
    return local - local % DAY_MS

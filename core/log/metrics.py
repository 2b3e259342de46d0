"""Gateway to the numbers of the log other than the similarity: by day and by segment, from the rollups.

Where the log is in ClickHouse, its rows' own numbers are added up there, and later scores are in the store's rollups.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Sequence
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

    Sums are those of the days of the service's time zone, histograms those of UTC days of the same date. Only the
    latency has a histogram: it is what percentiles are asked of.
    """
    calendar, found = calendar_of(store, scope), defaultdict[str, dict[date, MetricSums]](dict)
    asked = _Asked(scope, tuple(names), window, calendar, segment[0], segment[1])
    for _, name, day, sums in _read(store, asked):
        found[name].setdefault(day, MetricSums()).add(sums)
    return {name: dict(sorted(days.items())) for name, days in found.items()}


def list_metric_segment_days(
    store: Store, scope: Scope, name: str, window: Window, dimension: str
) -> dict[str, dict[date, MetricSums]]:
    """Return a number by day for each value of a dimension; "" has the questions without a value."""
    calendar, found = calendar_of(store, scope), defaultdict[str, dict[date, MetricSums]](dict)
    for value, _, day, sums in _read(store, _Asked(scope, (name,), window, calendar, dimension, None)):
        found[value].setdefault(day, MetricSums()).add(sums)
    return {value: dict(sorted(days.items())) for value, days in found.items()}


def list_metric_segments(
    store: Store, scope: Scope, names: Collection[str], window: Window, dimension: str
) -> Segments:
    """Return each number over a window for each value of a dimension; "" has the questions without a value."""
    calendar, found = calendar_of(store, scope), defaultdict[str, dict[str, MetricSums]](dict)
    asked = _Asked(scope, tuple(names), window, calendar, dimension, None, by_day=False)
    for value, name, _, sums in _read(store, asked):
        found[value].setdefault(name, MetricSums()).add(sums)
    return dict(found)


_Part = tuple[str, str, date, MetricSums]  # the value of the dimension, the number's name, the day


@dataclass(frozen=True, slots=True)
class _Asked:
    """What is read; without `by_day` everything counts for the first day of the window."""

    scope: Scope
    names: tuple[str, ...]
    window: Window
    calendar: Calendar
    dimension: str
    value: str | None
    by_day: bool = True

    @property
    def start_ms(self) -> int:
        return self.calendar.start_of(self.window.first)

    @property
    def end_ms(self) -> int:
        return self.calendar.end_of(self.window.last)


def _read(store: Store, asked: _Asked) -> Iterable[_Part]:
    log = as_log(store)
    holders = [store] if not isinstance(log, SqlLog) or log.store is store else [store, log.store]
    for holder in holders:
        yield from _read_sums(holder, asked)
        yield from _read_bins(holder, asked)
    if isinstance(log, ClickHouseLog):
        yield from _read_clickhouse(log, asked)


def _read_sums(store: Store, asked: _Asked) -> Iterable[_Part]:
    c = metric_sums.c
    day = [_day(c.start_ms, asked.calendar, asked.start_ms, asked.end_ms)] if asked.by_day else []
    query = (
        select(c.value, c.metric, func.sum(c.n), func.sum(c.total), *day)
        .where(*_within(c, asked, asked.names), c.start_ms >= asked.start_ms, c.start_ms < asked.end_ms)
        .group_by(c.value, c.metric, *day)
    )
    with store.read() as connection:
        for each, name, n, total, *at in connection.execute(query):
            yield each, name, _date_of(at, asked), MetricSums(int(n), float(total))


def _read_bins(store: Store, asked: _Asked) -> Iterable[_Part]:
    c, window = metric_bins.c, asked.window
    day = [c.day_ms] if asked.by_day else []
    query = (
        select(c.value, c.metric, c.bin, func.sum(c.n), *day)
        .where(*_within(c, asked, [name for name in asked.names if name in _WITH_HISTOGRAM]))
        .where(c.day_ms >= window.start_ms, c.day_ms < window.end_ms)
        .group_by(c.value, c.metric, c.bin, *day)
    )
    with store.read() as connection:
        for each, name, number, n, *at in connection.execute(query):
            yield each, name, _date_of(at, asked), MetricSums(bins=Counter({number: int(n)}))


def _read_clickhouse(log: ClickHouseLog, asked: _Asked) -> Iterable[_Part]:
    """Yield the rows' own numbers: a declared attribute has no sums there, so only built-in dimensions are read."""
    dimension = asked.dimension
    if dimension and dimension not in DIMENSIONS:
        return
    steps = asked.calendar.steps_within(asked.start_ms, asked.end_ms)
    before = "".join(f"ts_ms >= {at}, {ms}, " for at, ms in steps[:-1])
    offset = f"multiIf({before}{steps[-1][1]})" if before else str(steps[-1][1])
    day = f", intDiv(ts_ms + {offset}, {DAY_MS}) * {DAY_MS} AS day" if asked.by_day else ""
    of = f"ifNull(toString({dimension}), '')" if dimension else "''"
    kept = "" if asked.value is None or not dimension else f" AND {of} = {{value:String}}"
    weight = "toInt64(ifNull(weight, 1))"
    for name in [each for each in METRICS if each in asked.names]:
        number = _BIN.format(name=name) if name in _WITH_HISTOGRAM else "0"
        rows = log.query(
            f"SELECT {of} AS each, {number} AS number, sum({weight}), sum({weight} * {name}){day} "
            f"FROM {log.database}.retrievals WHERE environment = {{environment:String}} "
            "AND service = {service:String} AND ts_ms >= {start:Int64} AND ts_ms < {end:Int64} "
            f"AND {name} IS NOT NULL{kept} GROUP BY each, number{', day' if day else ''}",
            start=asked.start_ms, end=asked.end_ms, value=asked.value or "", **asked.scope._asdict(),
        )  # fmt: skip
        for each, found, n, total, *at in rows:
            bins = Counter({int(found): int(n)}) if name in _WITH_HISTOGRAM else Counter[int]()
            yield str(each), name, _date_of(at, asked), MetricSums(int(n), float(total), bins)


def _date_of(at: Sequence[int], asked: _Asked) -> date:
    return from_ms(at[0]).date() if at else asked.window.first


_WITH_HISTOGRAM = frozenset({"latency_ms"})
# As `quarterdeck.rollups.bin_of` counts.
_BIN = (
    "if({name} = 0, 0, toInt32(if({name} < 0, -1, 1) * "
    "least(1000, greatest(1, floor(log2(abs(assumeNotNull({name}))) * 8) + 400))))"
)


def _within(c: Any, asked: _Asked, names: Collection[str]) -> list[ColumnElement[bool]]:
    s, scope = scopes.c, asked.scope
    own = select(s.id).where(s.environment == scope.environment, s.service == scope.service).scalar_subquery()
    found: list[ColumnElement[bool]] = [c.scope_id == own, c.dimension == asked.dimension, c.metric.in_(sorted(names))]
    return found if asked.value is None else [*found, c.value == asked.value]


def _day(start: ColumnElement[int], calendar: Calendar, start_ms: int, end_ms: int) -> ColumnElement[int]:
    """Return the start of an hour's day, as if its zone were UTC."""
    steps = calendar.steps_within(start_ms, end_ms)
    last = literal(steps[-1][1])
    offset = last if len(steps) == 1 else case(*((start >= at, ms) for at, ms in steps), else_=last)
    local: ColumnElement[int] = start + offset
    return local - local % DAY_MS

"""Gateway to the retrieval log: days, segments and questions of a time window, whatever the database.

Pages read the rollups, whose size grows with the window and not with the log; only questions are read from raw rows.
`readers.py` finds the reader of a database, which holds its statements. A store stands for the log in it.
"""

import json
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from typing import Any, NamedTuple

from core.errors import InvalidInput
from core.log.calendars import UTC_DAYS, Calendar, make_calendar
from core.log.days import DayContent, find_closed, list_closed_days
from core.log.readers import open_reader
from core.log.services import get_service
from core.log.values import (
    AskedBy,
    AskedQuery,
    AskedRow,
    DailyScores,
    LiveFigures,
    ScoreScale,
    States,
    UserRow,
    normalize_query,
)
from quarterdeck.clock import DAY_MS, from_ms, to_ms
from quarterdeck.log import RetrievalLog
from quarterdeck.schema import DIMENSIONS
from quarterdeck.scope import EVERYTHING, Scope, fold_environment
from quarterdeck.store import Store

SEGMENTS = DIMENSIONS  # those of every service
_MAX_DISTINCT = 5_000
_MOST_SPELLINGS = 20_000
_NEWEST_ROWS = 20_000
Log = Store | RetrievalLog


@dataclass(frozen=True, slots=True)
class Window:
    """Whole days from `first` to `last`, both included: those of the zone of whoever is read, UTC for several."""

    first: date
    last: date

    @property
    def start_ms(self) -> int:
        """The first millisecond of the window in UTC."""
        return to_ms(datetime(self.first.year, self.first.month, self.first.day, tzinfo=UTC))

    @property
    def end_ms(self) -> int:
        """The first millisecond after the window in UTC."""
        return to_ms(datetime(self.last.year, self.last.month, self.last.day, tzinfo=UTC)) + DAY_MS


def last_days(count: int, *, until: date) -> Window:
    """Return the window of `count` days that ends with `until`."""
    return Window(until - timedelta(days=count - 1), until)


def list_scopes(log: Log) -> tuple[Scope, ...]:
    """Return the environments and services that reported anything, in alphabetical order."""
    return tuple(open_reader(log).list_scopes())


def list_scopes_of(log: Log, environment: str) -> tuple[Scope, ...]:
    """Return the scopes of an environment that reported anything; the service `default` if none did."""
    named = fold_environment(environment)
    return tuple(scope for scope in list_scopes(log) if scope.environment == named) or (Scope(named),)


def list_days(
    log: Log, *, window: Window | None = None, segment: tuple[str, str] | None = None, scope: Scope = EVERYTHING
) -> tuple[DailyScores, ...]:
    """Return one summary per day with questions, oldest first. `segment` is a dimension and its value."""
    dimension, value = segment or ("", None)
    return tuple(day for _, day in ScopeDays(log, scope).read(dimension, value, window))


def list_daily_scores(
    log: Log, *, window: Window | None = None, segment: tuple[str, str] | None = None, scope: Scope = EVERYTHING
) -> tuple[DailyScores, ...]:
    """Return the same without the days on which no question has a score."""
    return tuple(day for day in list_days(log, window=window, segment=segment, scope=scope) if day.count)


def count_states(log: Log, window: Window, scope: Scope = EVERYTHING) -> States:
    """Return how many questions of a window are in each state; an empty hit list can be an outage."""
    return States.of_days(list_days(log, window=window, scope=scope))


def list_segment_scores(
    log: Log,
    dimension: str,
    *,
    window: Window | None = None,
    scope: Scope = EVERYTHING,
    days: "ScopeDays | None" = None,
) -> dict[str, tuple[DailyScores, ...]]:
    """Return the daily summaries of each value of a dimension; "" has the rows without a value.

    `days` are those of the scope, where they were opened already.
    """
    found: dict[str, list[DailyScores]] = {}
    if dimension not in (known := list_dimensions(log, scope)):
        raise InvalidInput("segment", f"must be one of {', '.join(known)}, not {dimension!r}")
    for value, day in (days or ScopeDays(log, scope)).read(dimension, None, window):
        if day.count:
            found.setdefault(value, []).append(day)
    return {value: tuple(days) for value, days in sorted(found.items())}


def list_live_figures(
    log: Log, dimension: str, window: Window, *, most: int, scope: Scope = EVERYTHING
) -> tuple[LiveFigures, ...]:
    """Return score, faithfulness, cost, latency and feedback for each value of `dimension`, one of SEGMENTS.

    Means are over the newest `most` queries of the window, because raw rows are read.
    """
    rows = open_reader(log).list_live(scope, _check_dimension(dimension), *find_bounds(log, scope, window), most)
    return tuple(sorted(rows, key=lambda row: row.value))


def find_newest(log: Log, window: Window, *, most: int, scope: Scope = EVERYTHING) -> tuple[int, int]:
    """Return the bounds in ms of the newest `most` questions of a window; those of the window if it has fewer."""
    start_ms, end_ms = find_bounds(log, scope, window)
    return open_reader(log).find_newest(scope, start_ms, end_ms, most), end_ms


def get_span(log: Log, scope: Scope = EVERYTHING) -> tuple[datetime, datetime] | None:
    """Return the times of the first and the last retrieval, or None for an empty log."""
    found = open_reader(log).span(scope)
    return (from_ms(found[0]), from_ms(found[1])) if found else None


def list_questions(
    log: Log,
    window: Window,
    *,
    below: float | None = None,
    limit: int = _MAX_DISTINCT,
    scope: Scope = EVERYTHING,
    scale: ScoreScale | None = None,
) -> tuple[AskedQuery, ...]:
    """Return the distinct questions of the window with a score (under `below`, if given), the most asked first.

    Queries that differ only in case or spacing are merged. Their weekly counts cover five weeks up to the window's end,
    oldest first. Of more than 20,000 spellings the least asked are left out. With a `scale`, `below` is a bound on it,
    and the scores of other embedding models are carried to it.
    """
    start_ms, end_ms = find_bounds(log, scope, window)
    bounds = scale.list_bounds(below) if scale else {}
    rows = open_reader(log).list_asked(scope, start_ms, end_ms, below, max(_MOST_SPELLINGS, 2 * limit), bounds or None)
    if scale and bounds:
        rows = [_carry(row, scale) for row in rows]
    asked = sorted((row for row in _merge_spellings(rows) if row.count), key=lambda row: (-row.count, row.query))
    return tuple(AskedQuery(row.query, row.count, row.total / row.count, row.weeks) for row in asked[:limit])


def list_user_sums(
    log: Log,
    dimension: str,
    values: Sequence[str],
    *,
    start_ms: int,
    end_ms: int,
    hourly: bool = False,
    scope: Scope = EVERYTHING,
) -> Sequence[UserRow]:
    """Return the sums of each user's rows (by user id, else session id) for each value of a dimension.

    They are per hour or in total. The dimension "" selects all rows, whatever the values. Reads the period's rows by
    the index on time.
    """
    by = _check_dimension(dimension) if dimension else ""
    return open_reader(log).list_user_sums(scope, by, values, start_ms, end_ms, hourly=hourly)


def list_asked_by(log: Log, *, start_ms: int, end_ms: int, scope: Scope = EVERYTHING) -> Sequence[AskedBy]:
    """Return how often each user (else session) asked each text that has a score, by hour, the earliest first."""
    found = open_reader(log).list_asked_by(scope, start_ms, end_ms, hourly=True)
    return sorted(found, key=lambda row: row.start_ms)


def count_rows(
    log: Log, dimension: str, values: Sequence[str], *, start_ms: int, end_ms: int, scope: Scope = EVERYTHING
) -> int:
    """Return how many questions with these values there are in whole hours, from the rollup; "" is all of them."""
    by = _check_dimension(dimension) if dimension else ""
    return open_reader(log).count_rows(scope, by, values, start_ms, end_ms)


def list_recent_users(
    log: Log, *, since_ms: int, limit: int = _NEWEST_ROWS, scope: Scope = EVERYTHING
) -> tuple[str, ...]:
    """Return the distinct users of the newest `limit` rows since a time, in alphabetical order."""
    return tuple(sorted(open_reader(log).list_recent_users(scope, since_ms, limit)))


def list_recent_attributes(
    log: Log, names: Collection[str], *, since_ms: int, limit: int = _NEWEST_ROWS, scope: Scope = EVERYTHING
) -> dict[str, dict[str, Any]]:
    """Return what the newest `limit` rows since a time say about these attributes of each user, the newest value."""
    found: dict[str, dict[str, Any]] = {}
    for user, noted in open_reader(log).list_recent_attributes(scope, since_ms, limit):
        if any(name in noted for name in names):  # most rows need not be parsed
            known = _read_attributes(noted, names)
            found[user] = known | found.get(user, {})
    return {user: known for user, known in found.items() if known}


def _read_attributes(noted: str, names: Collection[str]) -> dict[str, Any]:
    try:
        said = json.loads(noted)
    except ValueError:  # edited by hand
        return {}
    return {name: said[name] for name in names if said.get(name) is not None} if isinstance(said, dict) else {}


def calendar_of(log: Log, scope: Scope) -> Calendar:
    """Return when the days of a scope begin: in the zone of its service, in UTC for several services."""
    if not isinstance(log, Store) or not scope.service:
        return UTC_DAYS
    return make_calendar(get_service(log, scope.service).zone)


def today_in(log: Log, scope: Scope, *, now: datetime) -> date:
    """Return the date that it is for a scope."""
    return calendar_of(log, scope).day_of(to_ms(now))


def list_dimensions(log: Log, scope: Scope) -> tuple[str, ...]:
    """Return the dimensions of a scope: the built-in ones, and the attributes that its service declares."""
    if not isinstance(log, Store) or not scope.service:
        return SEGMENTS
    return (*SEGMENTS, *get_service(log, scope.service).dimensions)


class _Days(NamedTuple):
    """The days that are closed as they are, and those that are not; of these, `grown` were closed with fewer rows."""

    closed: set[date]
    open: set[date]
    grown: set[date]


class ScopeDays:
    """The days of one scope. Keep it for one report: it looks up once which closed days still count.

    A closed day to which rows came late keeps its capped mean until it is closed again.
    """

    def __init__(self, log: Log, scope: Scope) -> None:
        self._log, self._scope = log, scope
        self._reader, self._calendar = open_reader(log), calendar_of(log, scope)
        self._closed = find_closed(log, scope) if isinstance(log, Store) and all(scope) else {}
        self._found: dict[Window | None, _Days] = {}

    def read(self, dimension: str, value: str | None, window: Window | None = None) -> list[tuple[str, DailyScores]]:
        """Return days with their values: the closed ones, and those of the hours where rows came since."""
        start_ms, end_ms = self._bounds(window)
        if not self._closed or not isinstance(self._log, Store):
            hours = self._reader.list_days(self._scope, dimension, value, start_ms, end_ms, self._calendar)
            return [*hours]
        days = self._compare(window)
        found = list_closed_days(self._log, self._scope, dimension, value, days.closed)
        for first, last in _join(sorted(days.open)):
            part = (max(start_ms, self._calendar.start_of(first)), min(end_ms, self._calendar.end_of(last)))
            hours = self._reader.list_days(self._scope, dimension, value, *part, self._calendar)
            found += [(name, day) for name, day in hours if day.day not in days.closed]
        if not dimension:
            former = list_closed_days(self._log, self._scope, "", "", days.grown)
            capped = {day.day: day.capped for _, day in former}
            found = [(name, replace(day, capped=capped.get(day.day, day.capped))) for name, day in found]
        return sorted(found, key=lambda pair: (pair[1].day, pair[0]))

    def list_pending(self) -> frozenset[date]:
        """Return the days that are still to be closed although a later one is: their means are not capped yet."""
        if not self._closed:
            return frozenset()
        days = self._compare(None)
        newest = max(days.closed | days.grown, default=date.min)
        return frozenset(day for day in days.open - days.grown if day < newest)

    def _compare(self, window: Window | None) -> _Days:
        """Return which days are closed as their hours are, and which are not."""
        if window not in self._found:
            counts = self._reader.list_day_counts(self._scope, *self._bounds(window), self._calendar)
            hours = {day: DayContent(counted, summed) for day, counted, summed in counts}
            known = self._closed
            valid = {day for day, content in hours.items() if day in known and known[day].is_same_as(content)}
            rest = hours.keys() - valid
            grown = {day for day in rest if day in known and hours[day].has_few_more_than(known[day])}
            self._found[window] = _Days(valid, rest, grown)
        return self._found[window]

    def _bounds(self, window: Window | None) -> tuple[int, int]:
        if window is None:
            return 0, to_ms(datetime(2100, 1, 1, tzinfo=UTC)) + DAY_MS
        return self._calendar.start_of(window.first), self._calendar.end_of(window.last)


def _join(days: Sequence[date]) -> list[tuple[date, date]]:
    """Return the first and last of each stretch of days; stretches less than a week apart are one."""
    stretches: list[tuple[date, date]] = []
    for day in days:
        if stretches and day - stretches[-1][1] <= timedelta(days=7):
            stretches[-1] = (stretches[-1][0], day)
        else:
            stretches.append((day, day))
    return stretches


def find_bounds(log: Log, scope: Scope, window: Window | None) -> tuple[int, int]:
    """Return the first millisecond of a window in the scope's time zone, and the first after it."""
    if window is None:
        return 0, to_ms(datetime(2100, 1, 1, tzinfo=UTC)) + DAY_MS
    calendar = calendar_of(log, scope)
    return calendar.start_of(window.first), calendar.end_of(window.last)


def _check_dimension(name: str) -> str:
    if name not in SEGMENTS:
        raise InvalidInput("segment", f"must be one of {', '.join(SEGMENTS)}, not {name!r}")
    return name


def _carry(row: AskedRow, scale: ScoreScale) -> AskedRow:
    return replace(row, total=row.count * scale.carry(row.model, row.total / row.count)) if row.count else row


def _merge_spellings(rows: Iterable[AskedRow]) -> list[AskedRow]:
    """Add up the rows of queries that differ only in case or spacing; the most asked spelling names them."""
    merged: dict[str, AskedRow] = {}
    for row in rows:
        key = normalize_query(row.query)
        known = merged.get(key)
        merged[key] = row if known is None else known.with_counts_of(row)
    return list(merged.values())

"""Shell: closes days: sums their hours once they are over, with the capped mean, and again when rows came late."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import date, datetime
from itertools import groupby

from core.log.calendars import Calendar
from core.log.capping import cap_mean
from core.log.days import GRACE, DayContent, find_closed, save_days
from core.log.readers import open_reader
from core.log.retrievals import calendar_of, list_dimensions, list_scopes
from core.log.values import DailyScores, LogReader
from quarterdeck.clock import to_ms
from quarterdeck.registry import registry_of
from quarterdeck.scope import Scope
from quarterdeck.store import Store

MOST_QUESTIONS = 1_000_000  # whose rows are read at one call, and of a day that gets a capped mean
_MOST_DAYS = 31  # in one transaction
_LEAST_KEPT = 0.99  # share of a day's rows that must still be there for a capped mean


def close_days(store: Store, *, now: datetime, scope: Scope | None = None, most: int | None = MOST_QUESTIONS) -> int:
    """Close the days that are over and are not closed as they are now; return how many.

    The newest come first. Of each scope (or of one), days with up to `most` questions in all are closed at one call;
    the next call goes on. With None, all are. Raises SourceUnavailable.
    """
    scopes = list_scopes(store) if scope is None else (scope,)
    return sum(_close_scope(store, each, now=now, most=most) for each in scopes)


def _close_scope(store: Store, scope: Scope, *, now: datetime, most: int | None) -> int:
    reader, calendar = open_reader(store), calendar_of(store, scope)
    open_days = _list_open(store, reader, scope, calendar, now=now)
    chosen, read = dict[date, DayContent](), 0
    for day in sorted(open_days, reverse=True):
        read += open_days[day].counted
        if chosen and most is not None and read > most:
            break
        chosen[day] = open_days[day]
    for first, last in _split(sorted(chosen)):
        _close(store, reader, scope, calendar, {day: chosen[day] for day in chosen if first <= day <= last})
    return len(chosen)


def _list_open(
    store: Store, reader: LogReader, scope: Scope, calendar: Calendar, *, now: datetime
) -> dict[date, DayContent]:
    """Return the days that are over and not closed as they are, with what is in their hours."""
    until = calendar.start_of(calendar.day_of(to_ms(now - GRACE)))
    closed = find_closed(store, scope)
    found = {}
    for day, counted, summed in reader.list_day_counts(scope, 0, until, calendar):
        content = DayContent(counted, summed)
        if day not in closed or not closed[day].is_same_as(content):
            found[day] = content
    return found


def _close(store: Store, reader: LogReader, scope: Scope, calendar: Calendar, contents: dict[date, DayContent]) -> None:
    start_ms, end_ms = calendar.start_of(min(contents)), calendar.end_of(max(contents))
    found: dict[str, list[tuple[str, DailyScores]]] = {
        dimension: list(reader.list_days(scope, dimension, None, start_ms, end_ms, calendar))
        for dimension in ("", *list_dimensions(store, scope))
    }
    found[""] = [
        (value, replace(day, capped=_cap(reader, scope, calendar, day)) if day.day in contents else day)
        for value, day in found[""]
    ]
    with store.begin() as connection:
        scope_id = registry_of(store).lend().find_ids(connection, [scope])[scope]
        save_days(connection, scope_id, found, contents)


def _cap(reader: LogReader, scope: Scope, calendar: Calendar, day: DailyScores) -> float | None:
    """Return the capped mean of a day; None where its rows were deleted or are too many."""
    if not 0 < day.count <= MOST_QUESTIONS:
        return None
    asked = list(reader.list_asked_by(scope, calendar.start_of(day.day), calendar.end_of(day.day)))
    if sum(row.asked for row in asked) < _LEAST_KEPT * day.count:
        return None
    return cap_mean(asked)


def _split(days: list[date]) -> Iterator[tuple[date, date]]:
    """Return the first and last of the days that are closed together."""
    for _, group in groupby(days, key=lambda day: day.toordinal() // _MOST_DAYS):
        listed = list(group)
        yield listed[0], listed[-1]

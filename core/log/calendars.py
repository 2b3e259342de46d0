"""Rule: the days of a time zone, in whole hours of UTC, because rollups are kept by the hour.

In zones whose offset is not a whole number of hours (India, Nepal) a day begins up to 45 minutes late.
"""

from bisect import bisect_right
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cache
from zoneinfo import ZoneInfo

from quarterdeck.clock import DAY_MS, HOUR_MS, from_ms, to_ms

_FIRST_YEAR, _LAST_YEAR = 2000, 2040  # the offsets of the years before and after are those of these


@dataclass(frozen=True, slots=True)
class Calendar:
    """When days begin. `steps` has, oldest first, the times since which an offset holds, both in milliseconds."""

    zone: str
    steps: tuple[tuple[int, int], ...]

    def offset_at(self, ms: int) -> int:
        """Return how far local time is ahead of UTC at a time, in milliseconds: whole hours."""
        return self.steps[max(0, bisect_right(self.steps, (ms, 10**15)) - 1)][1]

    def day_of(self, ms: int) -> date:
        """Return the day on which a time is."""
        return from_ms(ms + self.offset_at(ms)).date()

    def start_of(self, day: date) -> int:
        """Return the first millisecond of a day."""
        local = to_ms(datetime(day.year, day.month, day.day, tzinfo=UTC))
        start = local - self.offset_at(local - self.offset_at(local))
        while self.day_of(start) < day:  # midnight was skipped
            start += HOUR_MS
        while self.day_of(start - HOUR_MS) >= day:  # midnight came twice
            start -= HOUR_MS
        return start

    def end_of(self, day: date) -> int:
        """Return the first millisecond after a day."""
        return self.start_of(day + timedelta(days=1))

    def steps_within(self, start_ms: int, end_ms: int) -> tuple[tuple[int, int], ...]:
        """Return the steps that matter between two times, newest first; the last one holds for all before it."""
        first = max(0, bisect_right(self.steps, (start_ms, 10**15)) - 1)
        return tuple(reversed([step for step in self.steps[first:] if step[0] < end_ms] or [self.steps[-1]]))


_UTC_STEPS = ((0, 0),)
UTC_DAYS = Calendar("UTC", _UTC_STEPS)


@cache
def make_calendar(zone: str) -> Calendar:
    """Return the days of a time zone by its IANA name, which must exist.

    >>> make_calendar("Europe/Berlin").day_of(to_ms(datetime(2026, 7, 1, 22, 30, tzinfo=UTC)))
    datetime.date(2026, 7, 2)
    """
    info = ZoneInfo(zone)
    steps = [(0, _offset(info, to_ms(datetime(_FIRST_YEAR, 1, 1, tzinfo=UTC))))]
    end = to_ms(datetime(_LAST_YEAR, 1, 1, tzinfo=UTC))
    for day in range(to_ms(datetime(_FIRST_YEAR, 1, 1, tzinfo=UTC)), end, DAY_MS):
        if _offset(info, day + DAY_MS) != steps[-1][1]:
            hour = next(at for at in range(day, day + DAY_MS + 1, HOUR_MS) if _offset(info, at) != steps[-1][1])
            steps.append((hour, _offset(info, hour)))
    return Calendar(zone, tuple(steps))


def _offset(info: ZoneInfo, ms: int) -> int:
    ahead = info.utcoffset(from_ms(ms).astimezone(info)) or timedelta(0)
    return int(ahead / timedelta(hours=1) // 1) * HOUR_MS

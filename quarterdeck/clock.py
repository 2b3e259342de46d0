"""Time as the store keeps it: whole milliseconds since the epoch, UTC."""

import time
from datetime import UTC, date, datetime

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
WEEK_MS = 7 * DAY_MS


def to_ms(moment: datetime) -> int:
    """Return an aware time as integer milliseconds since the epoch."""
    return round(moment.timestamp() * 1000)


def from_ms(ms: int) -> datetime:
    """Return milliseconds since the epoch as an aware UTC time."""
    return datetime.fromtimestamp(ms / 1000, UTC)


def now_ms() -> int:
    """Return the present in milliseconds since the epoch."""
    return time.time_ns() // 1_000_000


def start_of(day: date) -> datetime:
    """Return the first moment of a day, UTC."""
    return datetime(day.year, day.month, day.day, tzinfo=UTC)

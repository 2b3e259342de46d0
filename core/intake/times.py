"""Rule: reads the times of files: ISO text, numbers since 1970 in any unit, and typed times.

What had to be assumed is counted, so that an import can say it.
"""

import re
from collections import Counter
from datetime import UTC, date, datetime, tzinfo
from decimal import Decimal
from itertools import pairwise

from core.errors import InvalidInput
from quarterdeck.clock import DAY_MS, from_ms
from quarterdeck.retrieval import LATEST

# Each unit with its first number (seconds from 1973 on), and how many of it are a millisecond.
_UNITS = (
    ("seconds", 10**8, 0),
    ("milliseconds", 10**11, 1),
    ("microseconds", 10**14, 10**3),
    ("nanoseconds", 10**17, 10**6),
)
_TOO_LARGE = 10**20
_EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)
_UTC_NAME = re.compile(r"\s{0,8}(?:UTC|GMT|Z)$", re.IGNORECASE)
_SPACED_OFFSET = re.compile(r"(?<=\d)\s+(?=[+-]\d{2}(?::?\d{2})?$)")
_NUMBER = re.compile(r"\d+(\.\d*)?")
GAP_DAYS = 30  # rows before a longer gap are stray


class FileTimes:
    """Reads the times of a file, and counts what it had to assume.

    Times without a zone are read in `zone`, or in UTC if that is None. Numbers are seconds, milliseconds, microseconds
    or nanoseconds since 1970, by their size.
    """

    def __init__(self, zone: tzinfo | None = None) -> None:
        self._zone = zone
        self._assumed: Counter[str] = Counter()

    def __call__(self, value: object) -> datetime:
        if isinstance(value, str):
            text = value.strip()
            value = Decimal(text) if text.isascii() and _NUMBER.fullmatch(text) else from_iso(text)
        if isinstance(value, date) and not isinstance(value, datetime):
            value = datetime(value.year, value.month, value.day)  # noqa: DTZ001 - the zone is chosen below
        if isinstance(value, datetime):
            return in_range(value if value.tzinfo else self._with_zone(value), value)
        if value is None or isinstance(value, bool) or not isinstance(value, int | float | Decimal):
            raise InvalidInput("ts", "is missing" if value is None else f"must be a time, not {value!r}")
        return in_range(self._from_epoch(value), value)

    def notes(self) -> tuple[str, ...]:
        """Return the assumptions made about times, one line per kind."""
        return tuple(f"ts: {count:,} {kind}" for kind, count in sorted(self._assumed.items()))

    def _from_epoch(self, value: float | Decimal) -> datetime:
        if not _UNITS[0][1] <= value < _TOO_LARGE:
            shown = str(value) if isinstance(value, Decimal) else repr(value)
            raise InvalidInput("ts", f"must be an ISO time or a number since 1970, in seconds or less, not {shown}")
        unit, _, per_ms = next(each for each in reversed(_UNITS) if value >= each[1])
        self._assumed[f"numbers read as {unit} since 1970"] += 1
        ms = round(value * 1_000) if unit == "seconds" else int(value // per_ms)
        return from_ms(ms) if ms < _LATEST_MS else LATEST

    def _with_zone(self, value: datetime) -> datetime:
        if self._zone is None:
            self._assumed["times without a zone read as UTC; use --timezone for another"] += 1
        return value.replace(tzinfo=self._zone or UTC)


_LATEST_MS = int(LATEST.timestamp() * 1_000)


def from_iso(text: str) -> datetime:
    """Return the time of ISO text, also as warehouses write it: with the name UTC, or a space before the offset.

    Raises InvalidInput.

    >>> from_iso("2026-11-25 09:30:00 UTC")
    datetime.datetime(2026, 11, 25, 9, 30, tzinfo=datetime.timezone.utc)
    """
    try:
        return datetime.fromisoformat(_SPACED_OFFSET.sub("", _UTC_NAME.sub("+00:00", text)))
    except ValueError as error:
        raise InvalidInput("ts", f"must be an ISO time, not {shorten(text)}" if text else "is empty") from error


def in_range(ts: datetime, given: object) -> datetime:
    """Return a time if it lies between 1970 and 2100. Raises InvalidInput."""
    if ts.tzinfo and not _EARLIEST <= ts < LATEST:
        raise InvalidInput("ts", f"must be between 1970 and 2100, not {shorten(given)}")
    return ts


class FarTimes:
    """Counts the rows of a file by day, to tell which lie far from the present and from the rest."""

    def __init__(self, now_ms: int) -> None:
        self._until_ms = now_ms + DAY_MS
        self._ahead = 0
        self._days: Counter[int] = Counter()

    def add(self, ts_ms: int) -> None:
        """Count a row."""
        if ts_ms > self._until_ms:
            self._ahead += 1
        else:
            self._days[ts_ms // DAY_MS] += 1

    def notes(self) -> tuple[str, ...]:
        """Return how many rows lie over a day ahead of now, and how many before a gap of more than GAP_DAYS days."""
        days = sorted(self._days)
        ends = [former for former, day in pairwise(days) if day - former > GAP_DAYS]
        stray = sum(self._days[day] for day in days if ends and day <= ends[-1])
        gap = f"before a gap of more than {GAP_DAYS} days"
        told = ((self._ahead, "more than a day ahead of now"), (stray, gap))
        return tuple(
            f"ts: {rows:,} stored {_rows(rows)} {where}; verdicts leave them out" for rows, where in told if rows
        )


def _rows(count: int) -> str:
    return "row lies" if count == 1 else "rows lie"


def shorten(value: object) -> str:
    """Return what was given, at most 60 characters of it."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."

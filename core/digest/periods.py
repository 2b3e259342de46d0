"""Rule: the days that a digest covers: whole days that are over, compared with as many days before them."""

from dataclasses import dataclass
from datetime import date, timedelta
from enum import StrEnum

from core.drift.quarantine import say_day
from core.errors import InvalidInput

LONGEST_DAYS = 366


class Cadence(StrEnum):
    """How often a digest is sent, and the days that it covers: the last day, week (from Monday on) or month."""

    DAY = "day"
    WEEK = "week"
    MONTH = "month"


@dataclass(frozen=True, slots=True)
class DigestPeriod:
    """The days from `first` to `last`, both included."""

    first: date
    last: date

    @property
    def days(self) -> int:
        """How many days it has."""
        return (self.last - self.first).days + 1

    @property
    def before(self) -> "DigestPeriod":
        """The period of the same length that ends the day before."""
        return DigestPeriod(self.first - timedelta(days=self.days), self.first - timedelta(days=1))

    def holds(self, day: date) -> bool:
        """Return whether a day is in the period."""
        return self.first <= day <= self.last

    def __str__(self) -> str:
        return say_day(self.first) if self.days == 1 else f"{say_day(self.first)} to {say_day(self.last)}"


def read_since(text: str, *, today: date) -> DigestPeriod:
    """Return the days from a date, or for so many days (`7d`), up to yesterday. Raises InvalidInput.

    >>> str(read_since("7d", today=date(2026, 11, 30)))
    '23 Nov 2026 to 29 Nov 2026'
    """
    last, count = today - timedelta(days=1), text.removesuffix("d")
    if text.endswith("d") and count.isascii() and count.isdigit() and len(count) <= 4 and int(count):
        first = today - timedelta(days=int(count))
    else:
        try:
            first = date.fromisoformat(text)
        except ValueError as error:
            raise InvalidInput("since", f"must be days like 7d or a date like {last}, not {text[:40]!r}") from error
    found = DigestPeriod(first, last)
    if not 1 <= found.days <= LONGEST_DAYS:
        raise InvalidInput("since", f"must begin between yesterday and {LONGEST_DAYS} days ago, not on {first}")
    return found


def find_last_period(cadence: Cadence, *, today: date) -> DigestPeriod:
    """Return the last day, week (Monday to Sunday) or calendar month that is over.

    >>> find_last_period(Cadence.MONTH, today=date(2026, 3, 1)).days
    28
    """
    if cadence is Cadence.DAY:
        return DigestPeriod(today - timedelta(days=1), today - timedelta(days=1))
    if cadence is Cadence.WEEK:
        monday = today - timedelta(days=today.weekday())
        return DigestPeriod(monday - timedelta(days=7), monday - timedelta(days=1))
    last = today.replace(day=1) - timedelta(days=1)
    return DigestPeriod(last.replace(day=1), last)


def name_period(period: DigestPeriod) -> str:
    """Return what a digest of these days is called: daily, weekly, monthly, or by its days."""
    if period.days == 1:
        return "Daily digest"
    if period.days == 7:
        return "Weekly digest"
    is_month = period.first.day == 1 and (period.last + timedelta(days=1)).day == 1 and period.days <= 31
    return "Monthly digest" if is_month else f"Digest of {period.days} days"

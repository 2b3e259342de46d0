"""Rule: which days are set aside: those that have not come yet, and those that lie far before all others.

A device whose clock stands at 1970, and a trial of two years ago, are no reference for today.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta

from core.log.values import DailyScores


@dataclass(frozen=True, slots=True)
class Quarantine:
    """The days that count, and those that do not: `early` before a long gap, `ahead` after tomorrow."""

    kept: tuple[DailyScores, ...]
    early: tuple[DailyScores, ...] = ()
    ahead: tuple[DailyScores, ...] = ()
    longest_gap: int = 0

    @property
    def notes(self) -> tuple[str, ...]:
        """Return what is set aside, and why, in sentences."""
        said = []
        if self.early:
            said.append(
                f"{_count(self.early)} set aside: more than {self.longest_gap} days lie between them and the rest."
            )
        if self.ahead:
            said.append(f"{_count(self.ahead)} set aside: they are dated in the future.")
        return tuple(said)


def set_aside(days: Sequence[DailyScores], *, today: date, longest_gap: int) -> Quarantine:
    """Return which of these days (ascending) count at a day `today`.

    Days later than tomorrow do not: zones differ by a day, clocks by little. From the newest day back, the days before
    the first stretch of more than `longest_gap` days without questions do not either.
    """
    ahead = [day for day in days if day.day > today + timedelta(days=1)]
    rest = list(days[: len(days) - len(ahead)])
    first = len(rest) - 1
    while first > 0 and (rest[first].day - rest[first - 1].day).days - 1 <= longest_gap:
        first -= 1
    first = max(0, first)
    return Quarantine(tuple(rest[first:]), tuple(rest[:first]), tuple(ahead), longest_gap)


def describe_pending(days: Sequence[DailyScores]) -> str:
    """Return the sentence on days that are still to be closed; "" without any."""
    return f"{_count(days)} in no verdict yet: the capped means of their days are being made." if days else ""


def _count(days: Sequence[DailyScores]) -> str:
    count, first, last = sum(day.questions for day in days), days[0].day, days[-1].day
    when = f"on {say_day(first)}" if first == last else f"from {say_day(first)} to {say_day(last)}"
    return f"1 question {when} is" if count == 1 else f"{count:,} questions {when} are"


def say_day(day: date) -> str:
    """Return a date in words, like 3 Mar 2026."""
    return f"{day.day} {day:%b %Y}"

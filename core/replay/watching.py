"""Rule: what a predicted shift would do to the verdicts that are watched, by asking the detector about days to come."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta

from core.drift.verdict import DriftStatus, decide_drift
from core.log.values import DailyScores
from core.replay.shifts import ReplayShift

DAYS_AHEAD = 14
_WEEK = 7


@dataclass(frozen=True, slots=True)
class WatchedVerdict:
    """A verdict, its status today, and the one that the detector would give with the shift, its low and its high end.

    `after_days` is the first day after the change on which that status is given with the shift itself, None without.
    """

    name: str
    today: str
    predicted: str
    at_low: str
    at_high: str
    after_days: int | None = None

    @property
    def changes(self) -> bool:
        """Whether the verdict would be another one."""
        return self.predicted != self.today


def foresee_drift(
    days: Sequence[DailyScores], shift: ReplayShift, *, today: date, accepted_on: date | None = None
) -> WatchedVerdict | None:
    """Return the drift verdict as it would be within 14 days if the shift began today; None without a week of days.

    The last seven whole days are repeated with their means moved by the shift, and the detector is asked as on any day.
    Assumes that traffic and everything else stay as in that week.
    """
    known = [day for day in days if day.count and day.day < today]
    week = {day.day.weekday(): day for day in known[-_WEEK:] if (today - day.day).days <= _WEEK}
    if not week:
        return None
    yesterday = today - timedelta(days=1)
    now = decide_drift(known, today=yesterday, accepted_on=accepted_on).status
    found = [_foresee(known, week, change, today, accepted_on, now) for change in (shift.value, shift.low, shift.high)]
    (predicted, after), (at_low, _), (at_high, _) = found
    return WatchedVerdict("mean score", str(now), str(predicted), str(at_low), str(at_high), after)


def _foresee(
    known: Sequence[DailyScores],
    week: dict[int, DailyScores],
    shift: float,
    today: date,
    accepted_on: date | None,
    now: DriftStatus,
) -> tuple[DriftStatus, int | None]:
    """Return the status after 14 days, and the first of them that has it where it is a new one."""
    ahead = [today + timedelta(days=at) for at in range(DAYS_AHEAD)]
    to_come = [_move(week[day.weekday()], day, shift) for day in ahead if day.weekday() in week]
    last = decide_drift([*known, *to_come], today=ahead[-1], accepted_on=accepted_on).status
    if last == now:
        return last, None
    for count, day in enumerate(ahead, 1):
        so_far = [each for each in to_come if each.day <= day]
        if decide_drift([*known, *so_far], today=day, accepted_on=accepted_on).status == last:
            return last, count
    return last, None


def _move(like: DailyScores, day: date, shift: float) -> DailyScores:
    """Return a day like another one whose mean is moved within 0 to 1."""
    mean = min(1.0, max(0.0, like.mean + shift))
    moved = mean - like.mean
    squares = like.total_squares + 2 * moved * like.total + like.count * moved**2
    capped = None if like.capped is None else mean
    return replace(like, day=day, total=like.total + like.count * moved, total_squares=squares, capped=capped)

"""Rule: the values of a drift verdict: its states and the report."""

from dataclasses import dataclass
from datetime import date
from enum import StrEnum

from core.drift.outage import OutageKind


class DriftStatus(StrEnum):
    """The verdicts, ordered from too little data to a called drop and to searches that find nothing."""

    INSUFFICIENT_DATA = "insufficient_data"
    STABLE = "stable"
    WATCH = "watch"
    DRIFTING = "drifting"
    OUTAGE = "outage"


@dataclass(frozen=True, slots=True)
class OpenDrop:
    """One of the drops that are open: its size (negative), the first day of the level before, the last of its own."""

    changed_on: date
    called_on: date
    fall: float
    level_from: date
    until: date


@dataclass(frozen=True, slots=True)
class DriftReport:
    """A verdict as of the end of a day. Means are weighted by queries; scores and drops range from 0 to 1.

    Recent is the time since the change where one is called or suspected, else the last days. Days of a drop that is
    over are in neither window.
    """

    status: DriftStatus
    reason: str
    action: str
    recent_avg_score: float | None = None
    baseline_avg_score: float | None = None
    delta: float | None = None  # recent - baseline
    delta_low: float | None = None
    delta_high: float | None = None
    changed_on: date | None = None
    recent_count: int = 0
    baseline_count: int = 0
    ks: float | None = None  # these three describe the shapes; as alarms they would fire constantly
    psi: float | None = None
    wasserstein: float | None = None
    smallest_drop: float | None = None  # the drop that is called within one window with probability `POWER`
    called_on: date | None = None
    baseline_from: date | None = None
    baseline_until: date | None = None
    recent_from: date | None = None
    recent_until: date | None = None
    left_out: tuple[date, ...] = ()  # days between those that are in neither window: of a drop that is over
    changed_from: date | None = None  # the change lies between these two days with 90%
    changed_until: date | None = None
    fall: float | None = None  # weekday-adjusted change of level since `changed_on`, negative for a drop
    fall_error: float | None = None
    outage_since: date | None = None
    outage_kind: OutageKind | None = None
    open_drops: tuple[OpenDrop, ...] = ()  # this one and those inside or around it, in the order of their calls
    notes: tuple[str, ...] = ()  # what else is to be known of the days: sentences

    def is_recent(self, day: date) -> bool:
        """Return whether the recent mean is of this day, among others."""
        return self._is_within(day, self.recent_from, self.recent_until)

    def is_reference(self, day: date) -> bool:
        """Return whether the mean of the reference is of this day, among others."""
        return self._is_within(day, self.baseline_from, self.baseline_until)

    def _is_within(self, day: date, first: date | None, last: date | None) -> bool:
        return first is not None and last is not None and first <= day <= last and day not in self.left_out

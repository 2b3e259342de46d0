"""Rule: the values of a drift verdict: its states and the report."""

from dataclasses import dataclass
from datetime import date
from enum import StrEnum


class DriftStatus(StrEnum):
    """The verdicts, ordered from too little data to a called drop and to searches that find nothing."""

    INSUFFICIENT_DATA = "insufficient_data"
    STABLE = "stable"
    WATCH = "watch"
    DRIFTING = "drifting"
    OUTAGE = "outage"


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
    changed_from: date | None = None  # the change lies between these two days with 90%
    changed_until: date | None = None
    fall: float | None = None  # weekday-adjusted change of level since `changed_on`, negative for a drop
    fall_error: float | None = None
    outage_since: date | None = None
    notes: tuple[str, ...] = ()  # what else is to be known of the days: sentences

"""The marks of states, in one table: the icons that all pages show a state with. An icon never stands without a word.

They are Material icons, which Streamlit brings: signs of other fonts look different on each machine. Cells of tables
take no icons; they have the word alone.
"""

from dataclasses import dataclass
from enum import StrEnum


class Mark(StrEnum):
    """An icon by what it means."""

    FINE = "check_circle"
    WATCH = "visibility"
    DECIDE = "pending_actions"
    ACT = "priority_high"
    WORSE = "trending_down"
    OUTAGE = "cloud_off"
    FIRING = "notifications_active"
    WARNING = "warning"
    FAILED = "cancel"
    UNKNOWN = "hourglass_empty"  # too little data, too early, nothing yet
    UNCONNECTED = "cable"
    RUNNING = "clock_loader_40"
    PAUSED = "pause_circle"
    WAITING = "schedule"
    ENDED = "stop_circle"
    DECIDED = "task_alt"
    SNOOZED = "snooze"
    WINNER = "trophy"
    PROMOTE = "upgrade"
    REVERTED = "undo"
    EQUAL = "equal"
    UNEQUAL = "rule"
    LIVE = "radio_button_checked"
    TODO = "radio_button_unchecked"
    NEW = "new_releases"
    STALE = "history_toggle_off"
    LIST = "list"
    REVIEW = "rate_review"
    FIGURES = "bar_chart"

    @property
    def icon(self) -> str:
        """The icon in Markdown, and as the `icon` of an element."""
        return f":material/{self.value}:"


@dataclass(frozen=True, slots=True)
class StatusLook:
    """How a status is shown: a word, a color, a mark. Color never stands alone."""

    word: str
    color: str
    mark: Mark

    @property
    def label(self) -> str:
        """The mark and the word, in Markdown."""
        return f"{self.mark.icon} {self.word}"

    @property
    def badge(self) -> str:
        """The label on its color, in Markdown."""
        return f":{self.color}-badge[{self.label}]"

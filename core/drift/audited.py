"""Rule: how the accepted level is stored, in a setting of its environment and in the audit trail."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any


@dataclass(frozen=True, slots=True)
class AcceptedLevel:
    """The day from which on the level of scores counts as normal."""

    accepted_on: date

    def to_audit(self) -> dict[str, Any]:
        """Return the level as JSON knows it."""
        return {"accepted_on": self.accepted_on.isoformat()}

    @classmethod
    def read(cls, told: Mapping[str, Any] | None) -> "AcceptedLevel | None":
        """Return the level that `to_audit` wrote; None where none was accepted."""
        return cls(date.fromisoformat(told["accepted_on"])) if told else None

"""Rule: how the accepted level is stored, in a setting of its scope and in the audit trail."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

from quarterdeck.scope import DEFAULT_SERVICE

_LEVEL = "retrieval score"


def name_level(service: str) -> str:
    """Return what the audit trail calls the level of a service."""
    return _LEVEL if service == DEFAULT_SERVICE else f"{_LEVEL} of {service}"


def service_of_level(name: str) -> str:
    """Return the service of a level by its name in the audit trail."""
    return name.removeprefix(_LEVEL).removeprefix(" of ") or DEFAULT_SERVICE


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

"""Rule: what the audit trail keeps of a deployment, written by `deployments`, and read back from entries."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class LiveState:
    """Which color has the traffic, and its release ("" for an unknown one)."""

    color: str
    release: str = ""

    def __str__(self) -> str:
        """Return the color with its release."""
        return f"{self.color} ({self.release})" if self.release else self.color

    def to_audit(self) -> dict[str, Any]:
        """Return the state as JSON knows it."""
        return {"color": self.color, "release": self.release}

    @classmethod
    def read(cls, told: Mapping[str, Any] | None) -> "LiveState | None":
        """Return the state that `to_audit` wrote, with the `colour` of earlier releases too; None for no color."""
        if not told:
            return None
        return cls(str(told.get("color") or told.get("colour") or ""), str(told.get("release") or ""))


@dataclass(frozen=True, slots=True)
class IdleState:
    """Which release runs in the color without traffic."""

    color: str
    release: str

    def to_audit(self) -> dict[str, Any]:
        """Return the state as JSON knows it."""
        return {"in": self.color, "release": self.release}

    @classmethod
    def read(cls, told: Mapping[str, Any] | None) -> "IdleState | None":
        """Return the state that `to_audit` wrote; None where nothing ran there."""
        return cls(str(told.get("in") or ""), str(told.get("release") or "")) if told else None


def read_release(before: Mapping[str, Any] | None, after: Mapping[str, Any] | None) -> str:
    """Return the release that an entry is about, whichever of the two states it keeps; "" for none."""
    found = IdleState.read(after) or IdleState.read(before)
    return found.release if found else ""

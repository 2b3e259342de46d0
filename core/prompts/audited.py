"""Rule: what the audit trail keeps of a prompt in production, written by `promotion`, and read back from entries."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

NO_VERSION = "none"


@dataclass(frozen=True, slots=True)
class ServingFlag:
    """The flag that brings a version to users; `definition` is None where the flag is not made yet."""

    key: str
    definition: dict[str, Any] | None = None

    def to_audit(self) -> dict[str, Any]:
        """Return the flag as JSON knows it."""
        return {"key": self.key, "definition": self.definition}

    @classmethod
    def read(cls, told: Mapping[str, Any] | None) -> "ServingFlag | None":
        """Return the flag that `to_audit` wrote; None for none."""
        return cls(str(told["key"]), told.get("definition")) if told else None


@dataclass(frozen=True, slots=True)
class ProductionState:
    """What is in production of a prompt: its version, its entry in the model registry, and the flag that serves it.

    `version` is None where nothing is in production; `run_id` is the run that was promoted. `partly` is the label of a
    version that the flag gives to a part of the users, while `version` stays in production; "" for none.
    """

    version: int | None = None
    label: str | None = None
    release: int | None = None
    flag: ServingFlag | None = None
    run_id: str | None = None
    partly: str = ""

    @property
    def name(self) -> str:
        """The version as a person says it."""
        return self.label or (f"v{self.version}" if self.version is not None else NO_VERSION)

    def to_audit(self) -> dict[str, Any]:
        """Return the state as JSON knows it."""
        flag = self.flag.to_audit() if self.flag else None
        told = {"version": self.version, "label": self.label, "release": self.release, "flag": flag}
        kept = (("run_id", self.run_id), ("partly", self.partly))
        return told | {name: value for name, value in kept if value}

    @classmethod
    def read(cls, told: Mapping[str, Any] | None) -> "ProductionState":
        """Return the state that `to_audit` wrote; what an entry of an earlier release lacks is None."""
        known = told or {}
        return cls(
            known.get("version"), known.get("label"), known.get("release"), ServingFlag.read(known.get("flag")),
            known.get("run_id"), known.get("partly") or "",
        )  # fmt: skip

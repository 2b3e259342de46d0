"""Rule: what the audit trail keeps of an index, written by `operations` and read back from entries."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class SwapState:
    """The index behind an alias. `probe` says what was checked before it went live, "" for nothing."""

    index: str
    probe: str = ""
    is_rollback: bool = False

    def to_audit(self) -> dict[str, Any]:
        """Return the state as JSON knows it."""
        probe = {"probe": self.probe} if self.probe else {}
        return {"index": self.index} | probe | ({"rollback": True} if self.is_rollback else {})

    @classmethod
    def read(cls, told: Mapping[str, Any] | None) -> "SwapState | None":
        """Return the state that `to_audit` wrote; None where the alias stood for nothing."""
        if not told or not told.get("index"):
            return None
        return cls(str(told["index"]), str(told.get("probe") or ""), is_rollback=bool(told.get("rollback")))


@dataclass(frozen=True, slots=True)
class BuildState:
    """What an index was registered with; fields that an entry of an earlier release lacks are empty."""

    location: str = ""
    corpus_version: str = ""
    model: str = ""
    chunks: int = 0
    built_ms: int = 0
    built_by: str = ""
    chunking: str = ""

    def to_audit(self) -> dict[str, Any]:
        """Return the state as JSON knows it."""
        return asdict(self)

    @classmethod
    def read(cls, told: Mapping[str, Any] | None) -> "BuildState":
        """Return the state that `to_audit` wrote."""
        known = told or {}
        return cls(**{name: known[name] for name in cls.__dataclass_fields__ if name in known})

"""Rule of what the audit trail keeps of an experiment, and of what any entry did to a flag."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from core.audit.actions import Subject, subject_of
from core.rollouts.experiment_design import Design, read_design, write_design


@dataclass(frozen=True, slots=True)
class ExperimentAudit:
    """One side of an experiment's entry: its flag as it was then (None where it is gone), and how it stood.

    The entry of the start keeps the whole design, those of the end the name, the state, and the winner if there is one.
    """

    flag: dict[str, Any] | None = None
    name: str = ""
    state: str = ""
    winner: str = ""
    design: Design | None = None

    def to_audit(self) -> dict[str, Any]:
        """Return the side as JSON knows it."""
        told: dict[str, Any] = {"flag": self.flag} if self.flag is not None else {}
        if self.design:
            told["experiment"] = write_design(self.design)
        elif self.name:
            told["experiment"] = self.name
        return told | {key: value for key, value in (("state", self.state), ("winner", self.winner)) if value}

    @classmethod
    def read(cls, told: Mapping[str, Any] | None) -> "ExperimentAudit":
        """Return the side that `to_audit` wrote, without a design that this release cannot read."""
        known = told or {}
        experiment = known.get("experiment") or ""
        design, name = None, experiment
        if isinstance(experiment, Mapping):
            name = experiment.get("name") or ""
            with suppress(KeyError, TypeError, ValueError):
                design = read_design(experiment)
        return cls(known.get("flag"), str(name), str(known.get("state") or ""), str(known.get("winner") or ""), design)


class RecordedEntry(Protocol):
    """What is read of an audit entry."""

    @property
    def ts(self) -> datetime: ...
    @property
    def actor(self) -> str: ...
    @property
    def action(self) -> str: ...
    @property
    def before(self) -> dict[str, Any] | None: ...
    @property
    def after(self) -> dict[str, Any] | None: ...


@dataclass(frozen=True, slots=True)
class FlagChange:
    """What an entry did to a flag: its definition before and after; None where there was or is no flag."""

    ts: datetime
    actor: str
    before: dict[str, Any] | None
    after: dict[str, Any] | None


def read_flag_change(entry: RecordedEntry) -> FlagChange:
    """Return what an entry of a flag, a canary or an experiment did to the flag."""
    if subject_of(entry.action) is not Subject.EXPERIMENT:
        return FlagChange(entry.ts, entry.actor, entry.before, entry.after)
    before, after = ExperimentAudit.read(entry.before).flag, ExperimentAudit.read(entry.after).flag
    return FlagChange(entry.ts, entry.actor, before, after)

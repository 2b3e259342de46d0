"""Rule: what the audit trail keeps of an experiment."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

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

"""Gateway to the experiments in the shared store: each is a setting of its environment, with a version of its own.

Reads return our own types. `save_experiment` takes the open transaction of `core.audit.acts.changing`.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection

from core.audit.settings import Family, get_setting, list_settings, save_setting, setting_key
from core.errors import NotFound
from core.rollouts.experiment_design import Design, read_design, write_design
from quarterdeck.clock import from_ms, to_ms
from quarterdeck.store import Store


class ExperimentState(StrEnum):
    """`stopped` ended without a winner; `decided` ended with an arm that everybody gets."""

    RUNNING = "running"
    STOPPED = "stopped"
    DECIDED = "decided"


@dataclass(frozen=True, slots=True)
class Experiment:
    """A started experiment, with its version for optimistic locking.

    `definition` is the flag at the start; users have been assigned as they are now since `drawn_since`. `ended_by` and
    `conclusion` say who ended it and why.
    """

    environment: str
    design: Design
    definition: dict[str, Any]
    started: datetime
    started_by: str
    drawn_since: datetime
    noted_before: Any = None
    state: ExperimentState = ExperimentState.RUNNING
    ended: datetime | None = None
    ended_by: str = ""
    conclusion: str = ""
    winner: str = ""
    version: int = 0

    @property
    def is_running(self) -> bool:
        """Whether it has not ended."""
        return self.state is ExperimentState.RUNNING


def list_experiments(store: Store, environment: str, *, flag: str | None = None) -> tuple[Experiment, ...]:
    """Return the environment's experiments, running ones first, then the newest first."""
    found = [_read(environment, *kept) for kept in list_settings(store, Family.EXPERIMENT, environment)]
    wanted = [each for each in found if flag is None or each.design.flag == flag]
    return tuple(sorted(wanted, key=lambda each: (each.is_running, each.started), reverse=True))


def get_experiment(store: Store, environment: str, name: str) -> Experiment:
    """Return one experiment. Raises NotFound, listing the existing ones."""
    kept, version = get_setting(store, setting_key(Family.EXPERIMENT, environment, name))
    if kept is not None:
        return _read(environment, kept, version)
    names = ", ".join(each.design.name for each in list_experiments(store, environment)) or "none"
    raise NotFound(f"experiment: no experiment {name!r} in {environment}; there are: {names}")


def find_running(store: Store, environment: str, flag: str) -> Experiment | None:
    """Return the experiment that runs on a flag, or None."""
    return next((each for each in list_experiments(store, environment, flag=flag) if each.is_running), None)


def save_experiment(connection: Connection, experiment: Experiment) -> None:
    """Save with optimistic locking. Raises Conflict if somebody changed the experiment since it was read."""
    kept = {
        "design": write_design(experiment.design), "definition": experiment.definition,
        "started_ms": to_ms(experiment.started), "started_by": experiment.started_by,
        "drawn_since_ms": to_ms(experiment.drawn_since), "noted_before": experiment.noted_before,
        "state": str(experiment.state), "ended_ms": to_ms(experiment.ended) if experiment.ended else None,
        "ended_by": experiment.ended_by, "conclusion": experiment.conclusion, "winner": experiment.winner,
    }  # fmt: skip
    name = setting_key(Family.EXPERIMENT, experiment.environment, experiment.design.name)
    save_setting(connection, name, kept, expected_version=experiment.version)


def _read(environment: str, kept: Any, version: int) -> Experiment:
    return Experiment(
        environment, read_design(kept["design"]), kept["definition"], from_ms(kept["started_ms"]), kept["started_by"],
        from_ms(kept["drawn_since_ms"]), kept["noted_before"], ExperimentState(kept["state"]),
        from_ms(kept["ended_ms"]) if kept["ended_ms"] is not None else None,
        kept["ended_by"], kept["conclusion"], kept["winner"], version,
    )  # fmt: skip

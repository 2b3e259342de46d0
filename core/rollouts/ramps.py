"""Rule: the experiment in which a rollout in steps ends: what is kept of it in the schedule, and its design then."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from core.flags.definition import FlagDefinition
from core.metrics.definition import MetricDefinition
from core.rollouts.experiment_design import USUAL_RUN, Design, parse_guardrail, parse_metric, plan_experiment


@dataclass(frozen=True, slots=True)
class PlannedExperiment:
    """An experiment that begins with the last step, as a person writes it: `latency=0.15` for a guardrail."""

    name: str
    metric: str
    effect: float
    control: str = ""
    guardrails: tuple[str, ...] = ()
    min_run: timedelta = USUAL_RUN
    services: tuple[str, ...] = ()
    reported: bool = False

    def design(self, key: str, definition: FlagDefinition, known: Sequence[MetricDefinition]) -> Design:
        """Return the design on the flag as the last step leaves it, with the known metrics. Raises InvalidInput."""
        return plan_experiment(
            key, definition, name=self.name, metric=parse_metric(self.metric, known), effect=self.effect,
            control=self.control, guardrails=[parse_guardrail(each, known) for each in self.guardrails],
            min_run=self.min_run, services=self.services,
        )  # fmt: skip

    def to_json(self) -> dict[str, Any]:
        """Return it as the schedule keeps it."""
        return {
            "name": self.name, "metric": self.metric, "effect": self.effect, "control": self.control,
            "guardrails": list(self.guardrails), "min_run_s": self.min_run.total_seconds(),
            "services": list(self.services), "reported": self.reported,
        }  # fmt: skip


def read_planned(kept: Mapping[str, Any] | None) -> PlannedExperiment | None:
    """Return the experiment that a schedule keeps, None for none."""
    if not kept:
        return None
    return PlannedExperiment(
        name=kept["name"], metric=kept["metric"], effect=kept["effect"], control=kept["control"],
        guardrails=tuple(kept["guardrails"]), min_run=timedelta(seconds=kept["min_run_s"]),
        services=tuple(kept["services"]), reported=kept["reported"],
    )  # fmt: skip

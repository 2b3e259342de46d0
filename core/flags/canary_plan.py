"""Rule: reads a canary's plan from a flag's metadata: steps, margins and limits, checked field by field.

`core.rollouts.canary` decides what follows from the plan and the arms.
"""

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Any

from core.arms.arms import Metric
from core.arms.comparisons import Margin
from core.arms.sequential import LEAST_USERS
from core.errors import InvalidInput
from core.metrics.definition import MetricDefinition, check_margin
from quarterdeck.scope import make_scope

STABLE, CANARY = "blue", "green"
SERVICES_FIELD = "canary_services"
GUARDRAILS_FIELD, SIGNALS_FIELD = "canary_guardrails", "canary_signals"
_MOST_STEPS = _MOST_SERVICES = _MOST_MARGINS = 20
_SECONDS = {"m": 60.0, "h": 3_600.0, "d": 86_400.0}
_LONGEST_HOLD = timedelta(days=365)
_STEP = re.compile(r"(\d+(?:\.\d+)?)\s*%(?:\s+for\s+(\d+(?:\.\d+)?)\s*([mhd]))?")


class Automation(StrEnum):
    """What happens automatically: promotions and rollbacks, rollbacks only, or nothing."""

    FULL = "full"
    ROLLBACK = "rollback"
    OFF = "off"


@dataclass(frozen=True, slots=True)
class PlanStep:
    """A share of users on green, and its minimum duration."""

    share_pct: float
    hold: timedelta


@dataclass(frozen=True, slots=True)
class NamedMargin:
    """A metric by its name, and how much worse green may be; None for the margin that the metric has itself."""

    name: str
    amount: float | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """How a canary grows and what stops it. `min_users` counts users on green since the step began.

    `services` are those whose rows it is judged by; none means all that report its arms. A metric of `margins` and of
    `guardrails` rolls it back, one of `signals` only pauses it.
    """

    steps: tuple[PlanStep, ...]
    margins: tuple[Margin, ...]
    error_ceiling: float
    min_users: int
    automation: Automation
    services: tuple[str, ...] = ()
    guardrails: tuple[NamedMargin, ...] = ()
    signals: tuple[NamedMargin, ...] = ()

    def step_at(self, share_pct: float) -> PlanStep | None:
        """Return the step with this share; None for a share chosen by hand."""
        return next((step for step in self.steps if step.share_pct == share_pct), None)

    def share_after(self, share_pct: float) -> float | None:
        """Return the share of the next step; None if everybody is on green."""
        return next((step.share_pct for step in self.steps if step.share_pct > share_pct), None)


def read_plan(metadata: Mapping[str, Any], *, is_canary: bool) -> Plan | None:
    """Return the plan in a flag's metadata, or None where it has none. Raises InvalidInput, naming the field.

    Fields, flat as flagd requires: `canary_steps` ("5% for 24h, 25% for 1d, 100%"), `canary_automation` (full,
    rollback, off), `canary_min_users`, `canary_error_ceiling`, and a margin per metric, how much worse green may be:
    `canary_score_margin`, `canary_error_margin`, `canary_faithfulness_margin`, `canary_feedback_margin` in the metric's
    unit, `canary_latency_margin` and `canary_cost_margin` as a share of blue's mean. `canary_services`
    ("answers, search") names the services whose rows judge it, all by default. `canary_guardrails` and `canary_signals`
    ("resolved, stars=0.2") name further metrics, each with its margin unless it has one: guardrails roll the canary
    back, signals only pause it.
    """
    given = {name: value for name, value in metadata.items() if name.startswith("canary_")}
    if not given:
        return None
    _check_fields(given, is_canary=is_canary)
    return Plan(
        _read_steps(given["canary_steps"]),
        tuple(Margin(metric, _read_share(given, name, default)) for name, (metric, default) in _MARGINS.items()),
        _read_share(given, "canary_error_ceiling", _ERROR_CEILING),
        _read_users(given.get("canary_min_users", _MIN_USERS)),
        _read_automation(given.get("canary_automation", Automation.ROLLBACK.value)),
        _read_services(given.get(SERVICES_FIELD, "")),
        _read_margins(given, GUARDRAILS_FIELD),
        _read_margins(given, SIGNALS_FIELD),
    )


def check_margins(plan: Plan, known: Iterable[MetricDefinition]) -> None:
    """Raise InvalidInput, naming the field, for a guardrail or signal whose margin nothing can exceed.

    A name that is not known yet is left: the canary waits until the metric is defined.
    """
    metrics = {each.name.casefold(): each for each in known}
    for field, named in ((GUARDRAILS_FIELD, plan.guardrails), (SIGNALS_FIELD, plan.signals)):
        for each in named:
            name = each.name.casefold()
            metric = metrics.get(name) or metrics.get(_ALIASES.get(name, name.replace("-", " ")))
            if metric is not None and each.amount is not None:
                try:
                    check_margin(metric, each.amount)
                except InvalidInput as error:
                    raise InvalidInput(f"metadata.{field}", error.problem) from None


def write_services(names: Iterable[str]) -> str | None:
    """Return names of services as the metadata holds them; None for all services. Raises InvalidInput."""
    return ", ".join(check_services(names)) or None


def check_services(names: Iterable[str]) -> tuple[str, ...]:
    """Return names of services in one form, in alphabetical order. Raises InvalidInput."""
    found = tuple(sorted({make_scope(None, name).service for name in names}))
    if len(found) > _MOST_SERVICES or any("," in name for name in found):
        raise InvalidInput("service", f"must be at most {_MOST_SERVICES} names without commas")
    return found


_MIN_USERS, _ERROR_CEILING = 100, 0.1
_ALIASES = {"errors": "error rate"}
_MARGINS: dict[str, tuple[Metric, float]] = {
    "canary_score_margin": (Metric.SCORE, 0.03),
    "canary_error_margin": (Metric.ERRORS, 0.02),
    "canary_latency_margin": (Metric.LATENCY, 0.15),
    "canary_cost_margin": (Metric.COST, 0.15),
    "canary_faithfulness_margin": (Metric.FAITHFULNESS, 0.05),
    "canary_feedback_margin": (Metric.FEEDBACK, 0.1),
}
_FIELDS = {
    "canary_steps", SERVICES_FIELD, GUARDRAILS_FIELD, SIGNALS_FIELD, "canary_automation", "canary_min_users",
    "canary_error_ceiling", *_MARGINS,
}  # fmt: skip
DEFAULT_PLAN = Plan(
    (
        PlanStep(5.0, timedelta(days=1)),
        PlanStep(25.0, timedelta(days=1)),
        PlanStep(50.0, timedelta(days=1)),
        PlanStep(100.0, timedelta(0)),
    ),
    tuple(Margin(metric, default) for metric, default in _MARGINS.values()),
    _ERROR_CEILING,
    _MIN_USERS,
    Automation.OFF,
)


def _check_fields(given: Mapping[str, Any], *, is_canary: bool) -> None:
    if unknown := sorted(given.keys() - _FIELDS):
        raise InvalidInput(
            f"metadata.{unknown[0]}", f"a canary has no such field; there are: {', '.join(sorted(_FIELDS))}"
        )
    if not is_canary:
        raise InvalidInput("metadata.canary_steps", "only a plain rollout with the variants blue and green is a canary")
    if "canary_steps" not in given:
        raise InvalidInput("metadata.canary_steps", 'is missing; give steps like "5% for 24h, 25% for 24h, 100%"')


def _read_steps(text: Any) -> tuple[PlanStep, ...]:
    field = "metadata.canary_steps"
    if not isinstance(text, str) or not text.strip():
        raise InvalidInput(field, 'write steps like "5% for 24h, 25% for 24h, 100%"')
    parts = [part.strip() for part in text.split(",")]
    if len(parts) > _MOST_STEPS:
        raise InvalidInput(field, f"has {len(parts)} steps; at most {_MOST_STEPS} are allowed")
    steps = []
    for part in parts:
        found = _STEP.fullmatch(part)
        if not found:
            raise InvalidInput(field, f'cannot read {part[:40]!r}; write a step like "5% for 24h" (m, h or d)')
        share = float(found[1])
        if not 0 < share <= 100 or round(share, 3) != share:
            raise InvalidInput(field, f"{found[1]}% is not a valid share; use 0.001% to 100% in steps of 0.001")
        if found[2] is None and share < 100:
            raise InvalidInput(field, f'{part!r} has no duration; write "{part} for 24h"')
        steps.append(PlanStep(share, _read_hold(found[2], found[3]) if found[2] else timedelta(0)))
    shares = [step.share_pct for step in steps]
    if sorted(set(shares)) != shares:
        raise InvalidInput(field, "each step must be larger than the one before")
    if shares[-1] != 100:
        raise InvalidInput(field, "the last step must be 100%")
    return tuple(steps)


def _read_hold(number: str, unit: str) -> timedelta:
    if not float(number) * _SECONDS[unit] <= _LONGEST_HOLD.total_seconds():
        raise InvalidInput("metadata.canary_steps", f"a step may last a year at most, not {number[:20]}{unit}")
    return timedelta(seconds=float(number) * _SECONDS[unit])


def _read_users(users: Any) -> int:
    if type(users) is not int or users < LEAST_USERS:
        raise InvalidInput("metadata.canary_min_users", f"must be a whole number from {LEAST_USERS} up, not {users!r}")
    return users


def _read_automation(automation: Any) -> Automation:
    if automation not in set(Automation):
        raise InvalidInput("metadata.canary_automation", f"must be {', '.join(Automation)}, not {automation!r}")
    return Automation(automation)


def _read_services(text: Any) -> tuple[str, ...]:
    if not isinstance(text, str):
        raise InvalidInput(f"metadata.{SERVICES_FIELD}", 'write names like "answers, search"')
    try:
        return check_services(part for part in text.split(",") if part.strip())
    except InvalidInput as error:
        raise InvalidInput(f"metadata.{SERVICES_FIELD}", error.problem) from error


def _read_margins(given: Mapping[str, Any], field: str) -> tuple[NamedMargin, ...]:
    text = given.get(field, "")
    if not isinstance(text, str):
        raise InvalidInput(f"metadata.{field}", 'write names like "resolved, stars=0.2"')
    found = []
    for part in (part.strip() for part in text.split(",")):
        name, sign, amount = (each.strip() for each in part.partition("="))
        try:
            margin = float(amount) if sign else None
        except ValueError:
            margin = -1.0
        if part and (not name or (margin is not None and not 0 < margin < math.inf)):
            raise InvalidInput(f"metadata.{field}", f'write "resolved" or "stars=0.2", not {part[:40]!r}')
        found += [NamedMargin(name, margin)] if part else []
    if len({each.name.casefold() for each in found}) < len(found) or len(found) > _MOST_MARGINS:
        raise InvalidInput(f"metadata.{field}", f"must name at most {_MOST_MARGINS} different metrics")
    return tuple(found)


def _read_share(given: Mapping[str, Any], name: str, default: float) -> float:
    value = given.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 1:
        raise InvalidInput(f"metadata.{name}", f"must be a number above 0 and at most 1, not {value!r}")
    return float(value)

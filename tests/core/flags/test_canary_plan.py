"""A canary's plan is read from flat metadata; what is wrong in it is refused with the field's name."""

from datetime import timedelta
from typing import Any

import pytest

from core.arms.arms import Metric
from core.errors import InvalidInput
from core.flags.canary_plan import Automation, Plan, PlanStep
from core.flags.definition import FlagDefinition
from quarterdeck.definitions import boolean_flag, canary_flag, switch_flag
from quarterdeck.validation import validate_definition

STEPS = "5% for 24h, 25% for 1.5 d, 50% for 90m, 100%"


def canary(**metadata: Any) -> dict[str, Any]:
    return canary_flag(5, metadata={f"canary_{name}": value for name, value in metadata.items()})


def read_plan(definition: dict[str, Any]) -> Plan | None:
    return FlagDefinition(definition).plan


def test_a_plan_has_its_steps_margins_and_limits() -> None:
    definition = canary(steps=STEPS, automation="full", min_users=200, score_margin=0.05, error_ceiling=0.2)
    validate_definition("answers", definition)
    plan = read_plan(definition)
    assert plan is not None
    assert plan.steps == (
        PlanStep(5, timedelta(hours=24)), PlanStep(25, timedelta(hours=36)), PlanStep(50, timedelta(minutes=90)),
        PlanStep(100, timedelta(0)),
    )  # fmt: skip
    assert (plan.automation, plan.min_users, plan.error_ceiling) == (Automation.FULL, 200, 0.2)
    margins = {margin.metric: margin.amount for margin in plan.margins}
    assert (margins[Metric.SCORE], margins[Metric.ERRORS]) == (0.05, 0.02)
    assert set(margins) == set(Metric)


def test_only_rollbacks_happen_by_themselves_unless_the_plan_says_more() -> None:
    plan = read_plan(canary(steps=STEPS))
    assert plan is not None
    assert plan.automation is Automation.ROLLBACK


def test_the_next_step_is_the_first_larger_one_whoever_chose_the_share() -> None:
    plan = read_plan(canary(steps=STEPS))
    assert plan is not None
    assert [plan.share_after(share) for share in (0, 5, 7, 25, 50, 100)] == [5, 25, 25, 50, 100, None]
    assert plan.step_at(7) is None


def test_a_flag_without_a_plan_has_none() -> None:
    assert read_plan(canary_flag(5)) is None
    assert read_plan(boolean_flag(on=True)) is None


@pytest.mark.parametrize(
    ("metadata", "complaint"),
    [
        ({"steps": ""}, "metadata.canary_steps: write steps like"),
        ({"steps": 5}, "metadata.canary_steps: write steps like"),
        ({"steps": "5%, 100%"}, "metadata.canary_steps: '5%' has no duration"),
        ({"steps": "5% for ever, 100%"}, "metadata.canary_steps: cannot read '5% for ever'"),
        ({"steps": "5% for 24h"}, "metadata.canary_steps: the last step must be 100%"),
        ({"steps": "25% for 1h, 5% for 1h, 100%"}, "metadata.canary_steps: each step must be larger"),
        ({"steps": "5% for 1h, 5% for 1h, 100%"}, "metadata.canary_steps: each step must be larger"),
        ({"steps": "0% for 1h, 100%"}, "metadata.canary_steps: 0% is not a valid share"),
        ({"steps": "0.00001% for 1h, 100%"}, "metadata.canary_steps: 0.00001% is not a valid share"),
        ({"steps": "5% for 1h, 120%"}, "metadata.canary_steps: 120% is not a valid share"),
        ({"steps": f"5% for {'9' * 400}d, 100%"}, "metadata.canary_steps: a step may last a year at most"),
        ({"steps": ", ".join(["1% for 1h"] * 30)}, "metadata.canary_steps: has 30 steps"),
        ({"steps": STEPS, "services": 7}, 'metadata.canary_services: write names like "answers, search"'),
        ({"steps": STEPS, "services": "x" * 200}, "metadata.canary_services: "),
        ({"steps": STEPS, "automation": "yes"}, "metadata.canary_automation: must be full, rollback, off, not 'yes'"),
        ({"steps": STEPS, "min_users": 5}, "metadata.canary_min_users: must be a whole number from 30 up, not 5"),
        ({"steps": STEPS, "min_users": True}, "metadata.canary_min_users: must be a whole number"),
        ({"steps": STEPS, "score_margin": 0}, "metadata.canary_score_margin: must be a number above 0"),
        ({"steps": STEPS, "cost_margin": "a lot"}, "metadata.canary_cost_margin: must be a number above 0"),
        ({"steps": STEPS, "error_ceiling": float("nan")}, "metadata.canary_error_ceiling: must be a number above 0"),
        ({"steps": STEPS, "scor_margin": 0.1}, "metadata.canary_scor_margin: a canary has no such field; there are:"),
        ({"score_margin": 0.1}, "metadata.canary_steps: is missing"),
    ],
)
def test_a_wrong_plan_is_refused_with_the_fields_name(metadata: dict[str, Any], complaint: str) -> None:
    with pytest.raises(InvalidInput) as raised:
        read_plan(canary(**metadata))
    assert str(raised.value).startswith(complaint)


def test_only_a_flag_of_blue_and_green_is_a_canary() -> None:
    assert FlagDefinition(canary_flag(5)).is_canary
    assert not FlagDefinition(boolean_flag(on=True, rollout_pct=5)).is_canary
    with pytest.raises(InvalidInput, match="only a plain rollout with the variants blue and green"):
        read_plan(boolean_flag(on=True, rollout_pct=5, metadata={"canary_steps": STEPS}))


def test_a_canary_that_is_switched_off_has_nobody_on_green() -> None:
    assert FlagDefinition(canary_flag(5)).green_pct == 5
    assert FlagDefinition(switch_flag(canary_flag(5), on=False)).green_pct == 0

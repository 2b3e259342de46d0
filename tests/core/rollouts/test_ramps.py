"""A rollout in steps that ends in an experiment: it begins with the last step, or the schedule waits for a person."""

from datetime import UTC, datetime, timedelta

import pytest

from core.audit.acts import Act
from core.audit.trail import list_audit
from core.errors import Conflict, InvalidInput
from core.flags.operations import create_flag, update_flag
from core.flags.schedule import ScheduleState, plan_steps, say_steps
from core.flags.store import get_flag
from core.flags.timetable import list_schedules
from core.rollouts.experiment_records import get_experiment, list_experiments
from core.rollouts.experiments import start_experiment, stop_experiment
from core.rollouts.ramps import PlannedExperiment, read_planned
from core.rollouts.schedules import create_schedule, run_schedules
from quarterdeck.definitions import boolean_flag, set_rules
from quarterdeck.rules import RuleOperator, TargetingRule
from quarterdeck.store import Store

ME = Act("ada", "ramp, then measure")
NOW = datetime.now(UTC).replace(microsecond=0)  # a store keeps milliseconds
THEN = PlannedExperiment("prompt v3", "score", 0.02, "off", ("latency=0.15",), timedelta(days=7), ("answers",), True)
HOUR = timedelta(hours=1)


def plan(store: Store, shares: tuple[float, ...] = (10, 50), then: PlannedExperiment = THEN) -> None:
    create_flag(store, "v3", boolean_flag(on=True, rollout_pct=0), ME)
    flag = get_flag(store, "production", "v3")
    steps = plan_steps(shares, hold_s=3600, switch_on=False)
    create_schedule(store, flag, steps, ME, starts=NOW, now=NOW, then=then)


def test_the_experiment_begins_with_the_last_step_in_one_change(store: Store) -> None:
    plan(store)
    (schedule,) = list_schedules(store)
    assert read_planned(schedule.experiment) == THEN
    assert say_steps(schedule) == "10% → 50% and the experiment prompt v3"
    run_schedules(store, now=NOW)
    assert list_experiments(store, "production") == ()
    (line,) = run_schedules(store, now=NOW + HOUR)
    assert line == "v3: 50%, the last step, and the experiment prompt v3 begins"
    found = get_experiment(store, "production", "prompt v3")
    assert (found.design.arms, found.design.services, found.drawn_since) == (("off", "on"), ("answers",), found.started)
    flag = get_flag(store, "production", "v3")
    assert (flag.view.rollout_pct, flag.view.experiment) == (50, "prompt v3")
    assert flag.definition["metadata"]["exposure"] == "reported"
    assert [str(each.action) for each in list_audit(store, limit=2)] == ["experiment.start", "flag.update"]
    assert list_audit(store, limit=1)[0].actor == "scheduler for ada"
    assert list_schedules(store)[0].state is ScheduleState.DONE


def test_a_last_step_that_leaves_one_variant_cannot_end_in_an_experiment(store: Store) -> None:
    with pytest.raises(InvalidInput, match="every user gets the same variant"):
        plan(store, (10, 100))


def test_a_wrong_metric_and_a_taken_name_are_refused_at_once(store: Store) -> None:
    with pytest.raises(InvalidInput, match=r"^metric: there is no metric 'nicer'"):
        plan(store, then=PlannedExperiment("x", "nicer", 0.02))
    create_flag(store, "other", boolean_flag(on=True, rollout_pct=50), ME)
    flag = get_flag(store, "production", "other")
    start_experiment(store, flag, THEN.design("other", flag.view, ()), ME)
    stop_experiment(store, get_experiment(store, "production", "prompt v3"), ME)
    update_flag(store, get_flag(store, "production", "v3"), boolean_flag(on=True, rollout_pct=0), ME)
    steps = plan_steps((10, 50), hold_s=3600, switch_on=False)
    with pytest.raises(Conflict, match="an experiment named 'prompt v3' already exists"):
        create_schedule(store, get_flag(store, "production", "v3"), steps, ME, starts=NOW, now=NOW, then=THEN)


def test_a_ramp_whose_experiment_cannot_begin_pauses_before_the_last_step(store: Store) -> None:
    plan(store)
    run_schedules(store, now=NOW)
    flag = get_flag(store, "production", "v3")
    rule = TargetingRule("plan", RuleOperator.EQUALS, "beta", "on")
    update_flag(store, flag, set_rules(flag.definition, [rule]), ME)
    (line,) = run_schedules(store, now=NOW + HOUR)
    assert line.startswith("v3: paused, the step is not possible: flag: rules of v3 serve some users a fixed variant")
    assert get_flag(store, "production", "v3").view.rollout_pct == 10
    assert list_experiments(store, "production") == ()


def test_a_name_that_was_taken_meanwhile_pauses_the_ramp(store: Store) -> None:
    plan(store)
    run_schedules(store, now=NOW)
    create_flag(store, "other", boolean_flag(on=True, rollout_pct=50), ME)
    flag = get_flag(store, "production", "other")
    start_experiment(store, flag, THEN.design("other", flag.view, ()), ME)
    (line,) = run_schedules(store, now=NOW + HOUR)
    assert "already exists; choose another name" in line
    assert get_flag(store, "production", "v3").view.rollout_pct == 10

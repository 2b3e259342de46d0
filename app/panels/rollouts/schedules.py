"""The schedule of one flag: its steps and the time of the next, how to stop it, and the form that makes one."""

from datetime import UTC, datetime, timedelta

import streamlit as st

from app import ui
from app.resources import get_store
from app.text import plain
from app.visitor import lock, make_act
from core.arms.arms import Metric
from core.audit.actions import Action, verb_of
from core.flags.schedule import (
    Schedule,
    ScheduleState,
    ScheduleStep,
    parse_duration,
    parse_shares,
    plan_steps,
    say_next,
    say_steps,
)
from core.flags.store import Flag
from core.jobs.leases import get_holder
from core.jobs.scheduler import LEASE
from core.rollouts.ramps import PlannedExperiment
from core.rollouts.schedules import cancel_schedule, create_schedule, pause_schedule, resume_schedule

AWAY_AFTER = timedelta(minutes=1)
WAITING = ui.StatusLook("Waiting", "blue", ui.Mark.WAITING)
PAUSED = ui.StatusLook("Paused", "orange", ui.Mark.PAUSED)
IN_STEPS, SWITCH_ON, SWITCH_OFF = "Roll out in steps", "Switch on", "Switch off"


def render_schedule(flag: Flag, schedule: Schedule | None) -> None:
    """Draw the open schedule of the flag, or the form that makes one."""
    if schedule is None:
        with st.expander("Change it later, or roll it out in steps"):
            render_plan(flag)
        ui.render_said(_place_of(flag.environment, flag.key))
        return
    st.markdown("##### Planned")
    look = PAUSED if schedule.state is ScheduleState.PAUSED else WAITING
    st.markdown(f"{look.badge} {plain(say_steps(schedule))}. Next: {plain(say_next(schedule, now=datetime.now(UTC)))}.")
    st.caption(f"Planned by {plain(schedule.actor)}: {plain(schedule.reason)}")
    render_absence()
    render_controls(schedule)
    ui.render_said(_place_of(flag.environment, flag.key))


def _place_of(environment: str, key: str) -> str:
    return f"schedule-{environment}-{key}"


def render_absence() -> None:
    """Warn when no server is running that makes the steps."""
    holder = get_holder(get_store(), LEASE)
    if holder is None or datetime.now(UTC) - holder.renewed > AWAY_AFTER:
        st.warning("No server is running that makes the steps. `quarterdeck serve` makes them; the pages alone do not.")


def render_controls(schedule: Schedule) -> None:
    """The forms that pause, resume and cancel, each with a reason."""
    is_paused = schedule.state is ScheduleState.PAUSED
    move = Action.SCHEDULE_RESUME if is_paused else Action.SCHEDULE_PAUSE
    seen = f"{schedule.schedule_id}-{schedule.version}"
    with st.form(f"schedule-{seen}"):
        st.text_input("Reason", key=f"schedule-reason-{seen}", max_chars=500)
        left, right = st.columns(2)
        for column, action in ((left, move), (right, Action.SCHEDULE_CANCEL)):
            with column:
                locked = lock(action, schedule.environment)
                st.form_submit_button(
                    f"{verb_of(action).capitalize()} the plan", on_click=change_plan, args=(schedule, action), **locked
                )


def change_plan(schedule: Schedule, action: Action) -> None:
    """Pause, resume or cancel the schedule as the visitor saw it."""

    def change() -> int:
        reason = st.session_state[f"schedule-reason-{schedule.schedule_id}-{schedule.version}"]
        act, now = make_act(reason, schedule.environment), datetime.now(UTC)
        if action is Action.SCHEDULE_CANCEL:
            return cancel_schedule(get_store(), schedule, act)
        move = pause_schedule if action is Action.SCHEDULE_PAUSE else resume_schedule
        return move(get_store(), schedule, act, now=now)

    ui.record_change(change, place=_place_of(schedule.environment, schedule.flag))


def render_plan(flag: Flag) -> None:
    """The form that makes a schedule."""
    kinds = (IN_STEPS, SWITCH_ON, SWITCH_OFF) if flag.view.rollout_pct is not None else (SWITCH_ON, SWITCH_OFF)
    with st.form(f"plan-{flag.key}-{flag.version}", border=False):
        left, middle, right = st.columns(3)
        left.selectbox("What", kinds, key=f"plan-kind-{flag.key}")
        if IN_STEPS in kinds:
            middle.text_input("Steps, % of users", "5, 25, 50, 100", key=f"plan-steps-{flag.key}", max_chars=500)
            right.text_input("Hold each for", "24h", key=f"plan-hold-{flag.key}", help="Like 30m, 24h or 2d")
        left.datetime_input("Begin (UTC)", None, key=f"plan-starts-{flag.key}", help="Now, if left empty")
        middle.text_input("Reason", key=f"plan-reason-{flag.key}", max_chars=500)
        right.text_input(
            "Name of the flag", key=f"plan-name-{flag.key}", max_chars=300,
            help="Required if more than half of production's users would end up with another answer",
        )  # fmt: skip
        if IN_STEPS in kinds:
            left.text_input(
                "Then start an experiment named",
                key=f"plan-experiment-{flag.key}",
                max_chars=100,
                help="With the last step, which has to leave users on two variants. None if left empty",
            )
            middle.selectbox(
                "Metric that decides it", [str(metric) for metric in Metric], key=f"plan-metric-{flag.key}"
            )
            right.number_input("Smallest effect worth having", 0.0001, None, 0.02, 0.01, format="%.4f",
                               key=f"plan-effect-{flag.key}")  # fmt: skip
        st.caption("A server makes the steps. The schedule pauses when a person changes the flag.")
        locked = lock(Action.SCHEDULE_CREATE, flag.environment)
        st.form_submit_button("Plan it", on_click=plan, args=(flag,), **locked)


def plan(flag: Flag) -> None:
    """Make the schedule that the form describes."""
    state, now = st.session_state, datetime.now(UTC)

    def create() -> int:
        kind, starts = state[f"plan-kind-{flag.key}"], state[f"plan-starts-{flag.key}"]
        steps: tuple[ScheduleStep, ...] = (ScheduleStep(on=kind == SWITCH_ON),)
        if kind == IN_STEPS:
            hold_s = parse_duration(state[f"plan-hold-{flag.key}"])
            steps = plan_steps(
                parse_shares(state[f"plan-steps-{flag.key}"]), hold_s=hold_s, switch_on=not flag.view.is_on
            )
        then = None
        if kind == IN_STEPS and (name := state[f"plan-experiment-{flag.key}"].strip()):
            then = PlannedExperiment(name, state[f"plan-metric-{flag.key}"], state[f"plan-effect-{flag.key}"])
        return create_schedule(
            get_store(), flag, steps, make_act(state[f"plan-reason-{flag.key}"], flag.environment),
            starts=starts.replace(tzinfo=UTC) if starts else now, now=now,
            typed_name=state[f"plan-name-{flag.key}"], then=then,
        )  # fmt: skip

    ui.record_change(
        create, effect="The first step is made when it is due.", place=_place_of(flag.environment, flag.key)
    )

"""Shell: creates, pauses, resumes and cancels scheduled changes of flags, and makes the steps that are due."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from core.approvals.people import find_lost_role
from core.audit.actions import Action
from core.audit.acts import MAX_TEXT, Act, Change, changing
from core.audit.gate import Origin
from core.audit.trail import AuditFilter, list_audit
from core.errors import Conflict, InvalidInput, QuarterdeckError
from core.flags.definition import FlagDefinition
from core.flags.layer_store import get_holdout
from core.flags.layers import hold_out
from core.flags.operations import check_typed_name, replace_definition
from core.flags.schedule import (
    Schedule,
    ScheduleState,
    ScheduleStep,
    advance,
    apply_step,
    cancel,
    check_one_plan,
    is_due,
    pause,
    plan_schedule,
    resume,
    say_step,
    was_changed_by_hand,
)
from core.flags.store import Flag, get_flag, list_flags
from core.flags.timetable import add_schedule, list_schedules, save_schedule
from core.metrics.daily import list_metrics
from core.rollouts.experiment_records import find_running
from core.rollouts.experiments import begin_experiment, check_free_name, prepare_start
from core.rollouts.ramps import PlannedExperiment, read_planned
from quarterdeck.scope import Scope
from quarterdeck.store import Store

SCHEDULER = "scheduler"
_AT_ONCE = timedelta(minutes=1)
logger = logging.getLogger("quarterdeck")


def create_schedule(
    store: Store, flag: Flag, steps: Sequence[ScheduleStep], by: Act, *, starts: datetime, now: datetime,
    typed_name: str | None = None, then: PlannedExperiment | None = None,
) -> int:  # fmt: skip
    """Schedule changes of a flag. Returns the audit entry's id. `typed_name=None` skips the check of the typed name.

    With `then`, an experiment begins with the last step, in one change.

    Raises InvalidInput for steps that the flag cannot take, and Conflict when an open schedule, an experiment or a
    canary plan already moves its users, or the name of the experiment is taken.
    """
    if running := find_running(store, flag.environment, flag.key):
        raise Conflict(f"the experiment {running.design.name!r} runs on {flag.key}; a schedule would move its users")
    check_one_plan(flag.key, flag.view, steps)
    planned = plan_schedule(
        flag.environment, flag.key, flag.definition, steps, experiment=then.to_json() if then else None,
        starts=starts, now=now, actor=by.actor.strip(), reason=by.reason.strip(),
    )  # fmt: skip
    wanted: Mapping[str, Any] = flag.definition
    for step in steps:
        wanted = apply_step(wanted, step)
    if then is not None:
        known = list_metrics(store, Scope(flag.environment, ""))
        check_free_name(store, flag.environment, then.design(flag.key, FlagDefinition(wanted), known).name)
    if typed_name is not None:
        check_typed_name(store, flag, wanted, typed_name, now=now)
    with changing(store, by) as change:
        made = add_schedule(change.connection, planned)
        begins = "at once" if starts <= now + _AT_ONCE else starts.isoformat()
        change.record(Action.SCHEDULE_CREATE, flag.key, None, _describe(made) | {"begins": begins})
    return change.entry_id


def pause_schedule(store: Store, schedule: Schedule, by: Act, *, now: datetime, note: str = "") -> int:
    """Stop a schedule until it is resumed, with optimistic locking. Raises Conflict."""
    wanted = pause(schedule, now=now, note=note)
    with _replacing(store, schedule, wanted, by) as change:
        change.record(Action.SCHEDULE_PAUSE, schedule.flag, _describe(schedule), _describe(wanted))
    return change.entry_id


def resume_schedule(store: Store, schedule: Schedule, by: Act, *, now: datetime) -> int:
    """Continue a paused schedule from the flag's current definition. Raises Conflict and NotFound."""
    flag = get_flag(store, schedule.environment, schedule.flag)
    check_one_plan(flag.key, flag.view, schedule.steps[schedule.next_step :])
    wanted = resume(schedule, flag.view, now=now)
    with _replacing(store, schedule, wanted, by) as change:
        change.record(Action.SCHEDULE_RESUME, schedule.flag, _describe(schedule), _describe(wanted))
    return change.entry_id


def cancel_schedule(store: Store, schedule: Schedule, by: Act) -> int:
    """End a schedule and leave the flag as it is. Raises Conflict."""
    wanted = cancel(schedule)
    with _replacing(store, schedule, wanted, by) as change:
        change.record(Action.SCHEDULE_CANCEL, schedule.flag, _describe(schedule), _describe(wanted))
    return change.entry_id


def run_schedules(store: Store, *, now: datetime) -> tuple[str, ...]:
    """Take every step that is due; pause each schedule whose flag somebody changed. Returns one line per schedule.

    A schedule that cannot be read or saved is retried in the next run and does not stop the others.
    """
    lines = []
    for schedule in reversed(list_schedules(store, states=(ScheduleState.WAITING,))):
        try:
            if line := _run(store, schedule, now=now):
                lines.append(line)
        except QuarterdeckError as error:
            logger.warning("schedule %d of %s: %s", schedule.schedule_id, schedule.flag, error)
    return tuple(lines)


def _run(store: Store, schedule: Schedule, *, now: datetime) -> str:
    flag = next((f for f in list_flags(store, schedule.environment) if f.key == schedule.flag), None)
    if flag is None:
        return _stop(store, schedule, "the flag is gone", now=now)
    if was_changed_by_hand(schedule, flag.view):
        return _stop(store, schedule, f"{flag.updated_by} changed the flag", now=now)
    if not is_due(schedule, now):
        return ""
    if lost := _find_lost_role(store, schedule):
        return _stop(store, schedule, lost, now=now)
    step = schedule.steps[schedule.next_step]
    try:
        return _make_step(store, schedule, flag, step, now=now)
    except (InvalidInput, _CannotStart) as error:
        return _stop(store, schedule, f"the step is not possible: {error}", now=now)


def _find_lost_role(store: Store, schedule: Schedule) -> str:
    """Return why whoever made or resumed a schedule may no longer change its flag; "" if they may."""
    begun = [
        entry
        for action in (Action.SCHEDULE_CREATE, Action.SCHEDULE_RESUME)
        for entry in list_audit(store, AuditFilter(schedule.flag, action, environment=schedule.environment), limit=1)
    ]
    if not begun:
        return ""
    last = max(begun, key=lambda entry: entry.entry_id)  # a flag has one open schedule
    needed = (Action.FLAG_UPDATE,)
    return find_lost_role(store, last.actor, needed, schedule.environment, since=last.ts, is_person=False)


def _make_step(store: Store, schedule: Schedule, flag: Flag, step: ScheduleStep, *, now: datetime) -> str:
    number, count = schedule.next_step + 1, len(schedule.steps)
    wanted = hold_out(get_holdout(store, flag.environment), flag.key, apply_step(flag.definition, step))
    reason = f"step {number} of {count} of schedule {schedule.schedule_id}: {schedule.reason}"
    act = Act(
        f"{SCHEDULER} for {schedule.actor}", reason[:MAX_TEXT], schedule.environment, at=now, origin=Origin.SERVER
    )
    then = read_planned(schedule.experiment) if number == count else None
    if then is not None:
        return _end_in_experiment(store, schedule, flag, wanted, then, act, now=now)
    with changing(store, act) as change:
        save_schedule(change.connection, advance(schedule, FlagDefinition(wanted), now=now))
        if wanted != flag.definition:
            replace_definition(change, flag, wanted)
    return f"{flag.key}: {say_step(step)}, step {number} of {count}"


class _CannotStart(Exception):
    """The experiment at the end cannot begin; a person has to look."""


def _end_in_experiment(
    store: Store, schedule: Schedule, flag: Flag, wanted: Mapping[str, Any], then: PlannedExperiment, by: Act, *,
    now: datetime,
) -> str:  # fmt: skip
    """Make the last step and start the experiment in one change: both, or neither."""
    moved = FlagDefinition(wanted)
    try:
        check_free_name(store, flag.environment, then.name)
        definition = prepare_start(store, replace(flag, definition=dict(wanted)), then.name, reported=then.reported)
        design = then.design(flag.key, moved, list_metrics(store, Scope(flag.environment, "")))
    except (Conflict, InvalidInput) as error:
        raise _CannotStart(str(error)) from None
    with changing(store, by) as change:
        save_schedule(change.connection, advance(schedule, moved, now=now))
        begin_experiment(change, flag, definition, design, drawn_since=now)
    return f"{flag.key}: {say_step(schedule.steps[-1])}, the last step, and the experiment {then.name} begins"


def _stop(store: Store, schedule: Schedule, note: str, *, now: datetime) -> str:
    pause_schedule(store, schedule, Act(SCHEDULER, note[:MAX_TEXT], at=now, origin=Origin.SERVER), now=now, note=note)
    return f"{schedule.flag}: paused, {note}"


@contextmanager
def _replacing(store: Store, schedule: Schedule, wanted: Schedule, by: Act) -> Iterator[Change]:
    with changing(store, replace(by, environment=schedule.environment)) as change:
        save_schedule(change.connection, wanted)
        yield change


def _describe(schedule: Schedule) -> dict[str, Any]:
    return {
        "schedule": schedule.schedule_id,
        "steps": [{"set": say_step(step), "hold_s": step.hold_s} for step in schedule.steps],
        "state": str(schedule.state),
        "next_step": schedule.next_step + 1,
        "due": schedule.due.isoformat() if schedule.due else None,
        **({"experiment": schedule.experiment} if schedule.experiment else {}),
    }

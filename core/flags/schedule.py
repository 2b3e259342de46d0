"""Rule: scheduled changes of a flag: one at a time of day, or a rollout in steps.

Times are passed in. The first step is due at a set time, each later one a hold time after the previous step was
*made*. So a clock that jumps, or a server that was away, makes steps late but never two at once.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from core.errors import Conflict, InvalidInput
from core.flags.definition import FlagDefinition
from quarterdeck import definitions

MAX_STEPS = 50
LONGEST_HOLD_S = 90 * 86_400.0
LATEST_START = timedelta(days=366)
_PAST = timedelta(minutes=1)


class ScheduleState(StrEnum):
    """A waiting schedule has a next step; `done` and `cancelled` are final."""

    WAITING = "waiting"
    PAUSED = "paused"
    DONE = "done"
    CANCELLED = "cancelled"


OPEN = (ScheduleState.WAITING, ScheduleState.PAUSED)


@dataclass(frozen=True, slots=True)
class ScheduleStep:
    """What one step sets (None leaves it unchanged), and how long it lasts before the next step.

    Raises InvalidInput, naming the field.
    """

    on: bool | None = None
    rollout_pct: float | None = None
    hold_s: float = 0.0

    def __post_init__(self) -> None:
        if self.on is None and self.rollout_pct is None:
            raise InvalidInput("step", "must be on, off, or a percentage")
        if self.rollout_pct is not None and not 0 <= self.rollout_pct <= 100:
            raise InvalidInput("rollout_pct", f"must be a number from 0 to 100, not {self.rollout_pct!r}")
        if not 0 <= self.hold_s <= LONGEST_HOLD_S:
            raise InvalidInput("hold", f"must be from 0 to 90 days, not {self.hold_s!r} seconds")


@dataclass(frozen=True, slots=True)
class Schedule:
    """Steps of one flag. `next_step` counts from 0; `due` is its time, None while paused or if there is none.

    `left_s` is the remaining wait when it was paused. `is_on` and `rollout_pct` are the flag's state after the last
    step, or at creation: if a person changes it, the schedule pauses. `experiment` is the one that begins with the last
    step, as `core.rollouts.ramps` keeps it.
    """

    schedule_id: int
    environment: str
    flag: str
    steps: tuple[ScheduleStep, ...]
    due: datetime | None
    is_on: bool
    rollout_pct: float | None
    actor: str
    reason: str
    state: ScheduleState = ScheduleState.WAITING
    next_step: int = 0
    left_s: float = 0.0
    note: str = ""
    version: int = 0
    experiment: Mapping[str, Any] | None = None

    @property
    def is_open(self) -> bool:
        """Whether there are steps left that may be taken."""
        return self.state in OPEN


def plan_steps(shares: Sequence[float], *, hold_s: float, switch_on: bool) -> tuple[ScheduleStep, ...]:
    """Return a rollout in steps, each but the last lasting `hold_s` seconds. Raises InvalidInput."""
    if not shares:
        raise InvalidInput("steps", "must have at least one percentage")
    return tuple(
        ScheduleStep(True if switch_on and at == 0 else None, share, 0.0 if at == len(shares) - 1 else hold_s)
        for at, share in enumerate(shares)
    )


def plan_schedule(
    environment: str, flag: str, definition: Mapping[str, Any], steps: Sequence[ScheduleStep], *,
    starts: datetime, now: datetime, actor: str, reason: str, experiment: Mapping[str, Any] | None = None,
) -> Schedule:  # fmt: skip
    """Return a new schedule, after trying every step on the definition. Raises InvalidInput."""
    if not 1 <= len(steps) <= MAX_STEPS:
        raise InvalidInput("steps", f"must be 1 to {MAX_STEPS}, not {len(steps)}")
    if not now - _PAST <= starts <= now + LATEST_START:
        raise InvalidInput("starts", "must be a time from now on, within a year")
    changed: Mapping[str, Any] = definition
    for step in steps:
        changed = apply_step(changed, step)
    said = FlagDefinition(definition)
    return Schedule(
        0, environment, flag, tuple(steps), starts, said.is_on, said.rollout_pct, actor, reason, experiment=experiment
    )


def check_one_plan(flag: str, definition: FlagDefinition, steps: Sequence[ScheduleStep]) -> None:
    """Raise Conflict if both a canary plan and a schedule would change a flag's share."""
    if definition.plan is not None and any(step.rollout_pct is not None for step in steps):
        raise Conflict(
            f"{flag} has a canary plan (canary_steps), which already changes its share, so it cannot have a schedule. "
            "Remove the plan from its metadata, or cancel the schedule"
        )


def apply_step(definition: Mapping[str, Any], step: ScheduleStep) -> dict[str, Any]:
    """Return the flag after a step. Raises InvalidInput if the flag has no rollout that a step could set."""
    changed = dict(definition)
    if step.rollout_pct is not None:
        changed = definitions.set_rollout(changed, step.rollout_pct)
    return changed if step.on is None else definitions.switch_flag(changed, on=step.on)


def is_due(schedule: Schedule, now: datetime) -> bool:
    """Whether the next step is due."""
    return schedule.state is ScheduleState.WAITING and schedule.due is not None and schedule.due <= now


def was_changed_by_hand(schedule: Schedule, definition: FlagDefinition) -> bool:
    """Whether somebody changed what the steps set since the last step or the creation."""
    return (schedule.is_on, schedule.rollout_pct) != (definition.is_on, definition.rollout_pct)


def advance(schedule: Schedule, definition: FlagDefinition, *, now: datetime) -> Schedule:
    """Return the schedule after its due step, which left the flag with this definition."""
    made, following = schedule.steps[schedule.next_step], schedule.next_step + 1
    moved = replace(schedule, next_step=following, is_on=definition.is_on, rollout_pct=definition.rollout_pct, note="")
    if following == len(schedule.steps):
        return replace(moved, state=ScheduleState.DONE, due=None)
    return replace(moved, due=now + timedelta(seconds=made.hold_s))


def pause(schedule: Schedule, *, now: datetime, note: str = "") -> Schedule:
    """Return the paused schedule with its remaining wait. Raises Conflict unless it is waiting."""
    if schedule.state is not ScheduleState.WAITING or schedule.due is None:
        raise Conflict(f"schedule {schedule.schedule_id} is {schedule.state}; only a waiting one can be paused")
    left_s = max(0.0, (schedule.due - now).total_seconds())
    return replace(schedule, state=ScheduleState.PAUSED, due=None, left_s=left_s, note=note)


def resume(schedule: Schedule, definition: FlagDefinition, *, now: datetime) -> Schedule:
    """Return the schedule continuing from the flag as it is now. Raises Conflict unless it is paused."""
    if schedule.state is not ScheduleState.PAUSED:
        raise Conflict(f"schedule {schedule.schedule_id} is {schedule.state}; only a paused one can be resumed")
    due = now + timedelta(seconds=schedule.left_s)
    return replace(
        schedule, state=ScheduleState.WAITING, due=due, left_s=0.0, note="",
        is_on=definition.is_on, rollout_pct=definition.rollout_pct,
    )  # fmt: skip


def cancel(schedule: Schedule) -> Schedule:
    """Return the canceled schedule; the flag stays as it is. Raises Conflict if it has already ended."""
    if not schedule.is_open:
        raise Conflict(f"schedule {schedule.schedule_id} is already {schedule.state}")
    return replace(schedule, state=ScheduleState.CANCELLED, due=None)


def say_step(step: ScheduleStep) -> str:
    """Describe what a step sets."""
    switch = {True: "on", False: "off", None: ""}[step.on]
    return " at ".join(part for part in (switch, "" if step.rollout_pct is None else f"{step.rollout_pct:g}%") if part)


def say_steps(schedule: Schedule) -> str:
    """Return the steps in order, with a tick after those taken: `✓ 5% → 25% → 100%`."""
    ticks = ("✓ " if at < schedule.next_step else "" for at in range(len(schedule.steps)))
    told = " → ".join(f"{tick}{say_step(step)}" for tick, step in zip(ticks, schedule.steps, strict=True))
    return f"{told} and the experiment {schedule.experiment['name']}" if schedule.experiment else told


def say_next(schedule: Schedule, *, now: datetime) -> str:
    """Return what happens next and when, as a sentence."""
    if schedule.state is ScheduleState.CANCELLED:
        return f"canceled after {schedule.next_step} of {len(schedule.steps)} steps"
    if schedule.state is ScheduleState.DONE:
        return "done"
    step = say_step(schedule.steps[schedule.next_step])
    if schedule.due is None:
        return f"paused before {step}{f': {schedule.note}' if schedule.note else ''}"
    wait_s = (schedule.due - now).total_seconds()
    return f"{step} {f'in {say_duration(wait_s)}' if wait_s > 0 else 'now'}"


def say_duration(seconds: float) -> str:
    """Format a duration in its largest unit; below two days as `26 h` rather than `1 d`."""
    for size, unit in ((172_800, "d"), (7_200, "h"), (120, "min")):
        if seconds >= size:
            return f"{seconds / {'d': 86_400, 'h': 3_600, 'min': 60}[unit]:.0f} {unit}"
    return f"{max(0.0, seconds):.0f} s"


def parse_duration(text: str) -> float:
    """Return the seconds of a text such as `30m`, `24h` or `2d`. Raises InvalidInput."""
    number, unit = text.strip()[:-1], text.strip()[-1:].lower()
    sizes = {"s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0}
    if unit not in sizes or not number.isascii() or not number.replace(".", "", 1).isdigit():
        raise InvalidInput("hold", f"must be a time like 30m, 24h or 2d, not {text!r}")
    return float(number) * sizes[unit]


def parse_shares(text: str) -> tuple[float, ...]:
    """Return the percentages of a text such as `5, 25, 50, 100`. Raises InvalidInput."""
    try:
        return tuple(float(part.strip().removesuffix("%")) for part in text.split(",") if part.strip())
    except ValueError:
        raise InvalidInput(
            "steps", f"must be percentages separated by commas, like 5, 25, 50, 100; not {text!r}"
        ) from None

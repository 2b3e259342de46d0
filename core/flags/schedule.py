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
    """A waiting schedule has its next step ahead; done and cancelled ones stay as they are."""

    WAITING = "waiting"
    PAUSED = "paused"
    DONE = "done"
    CANCELLED = "cancelled"


OPEN = (ScheduleState.WAITING, ScheduleState.PAUSED)


@dataclass(frozen=True, slots=True)
class ScheduleStep:
    """What is set in one go, and how long it is held before the next step; None leaves it as it is.

    Raises InvalidInput, naming the field.
    """

    on: bool | None = None
    rollout_pct: float | None = None
    hold_s: float = 0.0

    def __post_init__(self) -> None:
        if self.on is None and self.rollout_pct is None:
            raise InvalidInput("step", "say on, off, or a percentage")
        if self.rollout_pct is not None and not 0 <= self.rollout_pct <= 100:
            raise InvalidInput("rollout_pct", f"give a number from 0 to 100, not {self.rollout_pct!r}")
        if not 0 <= self.hold_s <= LONGEST_HOLD_S:
            raise InvalidInput("hold", f"give a time from 0 to 90 days, not {self.hold_s!r} seconds")


@dataclass(frozen=True, slots=True)
class Schedule:
    """Steps of one flag. `next_step` counts from 0; `due` is its time, None while paused or when there is none.

    `left_s` is what was left to wait when it was paused. `is_on` and `rollout_pct` are what the last step left, or what
    was found when the schedule was made: if a person changed that since, the schedule stops and asks.
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

    @property
    def is_open(self) -> bool:
        """Whether there are steps that may still be made."""
        return self.state in OPEN


def plan_steps(shares: Sequence[float], *, hold_s: float, switch_on: bool) -> tuple[ScheduleStep, ...]:
    """Return a rollout in steps, each but the last held for `hold_s`. Raises InvalidInput."""
    if not shares:
        raise InvalidInput("steps", "give at least one percentage")
    return tuple(
        ScheduleStep(True if switch_on and at == 0 else None, share, 0.0 if at == len(shares) - 1 else hold_s)
        for at, share in enumerate(shares)
    )


def plan_schedule(
    environment: str, flag: str, definition: Mapping[str, Any], steps: Sequence[ScheduleStep], *,
    starts: datetime, now: datetime, actor: str, reason: str,
) -> Schedule:  # fmt: skip
    """Return a new schedule, every step of it tried on the definition. Raises InvalidInput."""
    if not 1 <= len(steps) <= MAX_STEPS:
        raise InvalidInput("steps", f"give 1 to {MAX_STEPS}, not {len(steps)}")
    if not now - _PAST <= starts <= now + LATEST_START:
        raise InvalidInput("starts", "give a time from now on, within a year")
    changed: Mapping[str, Any] = definition
    for step in steps:
        changed = apply_step(changed, step)
    said = FlagDefinition(definition)
    return Schedule(0, environment, flag, tuple(steps), starts, said.is_on, said.rollout_pct, actor, reason)


def check_one_plan(flag: str, definition: FlagDefinition, steps: Sequence[ScheduleStep]) -> None:
    """Raise Conflict where a canary's plan and steps of a schedule would both move the share of a flag's users."""
    if definition.plan is not None and any(step.rollout_pct is not None for step in steps):
        raise Conflict(
            f"{flag} has a canary's plan (canary_steps), which moves its share already; a schedule cannot do so too. "
            "Take the plan out of its metadata, or cancel the schedule"
        )


def apply_step(definition: Mapping[str, Any], step: ScheduleStep) -> dict[str, Any]:
    """The flag after a step. Raises InvalidInput where the flag has no rollout that a step could set."""
    changed = dict(definition)
    if step.rollout_pct is not None:
        changed = definitions.set_rollout(changed, step.rollout_pct)
    return changed if step.on is None else definitions.switch_flag(changed, on=step.on)


def is_due(schedule: Schedule, now: datetime) -> bool:
    """Whether the next step is to be made now."""
    return schedule.state is ScheduleState.WAITING and schedule.due is not None and schedule.due <= now


def was_changed_by_hand(schedule: Schedule, definition: FlagDefinition) -> bool:
    """Whether somebody moved what the steps set, since the schedule was made or its last step was."""
    return (schedule.is_on, schedule.rollout_pct) != (definition.is_on, definition.rollout_pct)


def advance(schedule: Schedule, definition: FlagDefinition, *, now: datetime) -> Schedule:
    """Return the schedule once its due step was made, which left the flag with this definition."""
    made, following = schedule.steps[schedule.next_step], schedule.next_step + 1
    moved = replace(schedule, next_step=following, is_on=definition.is_on, rollout_pct=definition.rollout_pct, note="")
    if following == len(schedule.steps):
        return replace(moved, state=ScheduleState.DONE, due=None)
    return replace(moved, due=now + timedelta(seconds=made.hold_s))


def pause(schedule: Schedule, *, now: datetime, note: str = "") -> Schedule:
    """Return the schedule stopped, keeping what is left of its wait. Raises Conflict when it is not waiting."""
    if schedule.state is not ScheduleState.WAITING or schedule.due is None:
        raise Conflict(f"schedule {schedule.schedule_id} is {schedule.state}; only a waiting one can be paused")
    left_s = max(0.0, (schedule.due - now).total_seconds())
    return replace(schedule, state=ScheduleState.PAUSED, due=None, left_s=left_s, note=note)


def resume(schedule: Schedule, definition: FlagDefinition, *, now: datetime) -> Schedule:
    """Return the schedule going on from the flag as it is now. Raises Conflict when it is not paused."""
    if schedule.state is not ScheduleState.PAUSED:
        raise Conflict(f"schedule {schedule.schedule_id} is {schedule.state}; only a paused one can be resumed")
    due = now + timedelta(seconds=schedule.left_s)
    return replace(
        schedule, state=ScheduleState.WAITING, due=due, left_s=0.0, note="",
        is_on=definition.is_on, rollout_pct=definition.rollout_pct,
    )  # fmt: skip


def cancel(schedule: Schedule) -> Schedule:
    """Return the schedule ended; the flag stays as it is. Raises Conflict when there is nothing left to do."""
    if not schedule.is_open:
        raise Conflict(f"schedule {schedule.schedule_id} is {schedule.state} already")
    return replace(schedule, state=ScheduleState.CANCELLED, due=None)


def say_step(step: ScheduleStep) -> str:
    """Return what a step sets, in two words at most."""
    switch = {True: "on", False: "off", None: ""}[step.on]
    return " at ".join(part for part in (switch, "" if step.rollout_pct is None else f"{step.rollout_pct:g}%") if part)


def say_steps(schedule: Schedule) -> str:
    """Return the steps in a row, those made so far with a tick: `✓ 5% → 25% → 100%`."""
    ticks = ("✓ " if at < schedule.next_step else "" for at in range(len(schedule.steps)))
    return " → ".join(f"{tick}{say_step(step)}" for tick, step in zip(ticks, schedule.steps, strict=True))


def say_next(schedule: Schedule, *, now: datetime) -> str:
    """Return what happens next and when, as a sentence."""
    if schedule.state is ScheduleState.CANCELLED:
        return f"cancelled after {schedule.next_step} of {len(schedule.steps)} steps"
    if schedule.state is ScheduleState.DONE:
        return "done"
    step = say_step(schedule.steps[schedule.next_step])
    if schedule.due is None:
        return f"paused before {step}{f': {schedule.note}' if schedule.note else ''}"
    wait_s = (schedule.due - now).total_seconds()
    return f"{step} {f'in {say_duration(wait_s)}' if wait_s > 0 else 'now'}"


def say_duration(seconds: float) -> str:
    """Return a length of time in its largest unit, `26 h` rather than `1 d` below two days."""
    for size, unit in ((172_800, "d"), (7_200, "h"), (120, "min")):
        if seconds >= size:
            return f"{seconds / {'d': 86_400, 'h': 3_600, 'min': 60}[unit]:.0f} {unit}"
    return f"{max(0.0, seconds):.0f} s"


def parse_duration(text: str) -> float:
    """Return the seconds of a text such as `30m`, `24h` or `2d`. Raises InvalidInput."""
    number, unit = text.strip()[:-1], text.strip()[-1:].lower()
    sizes = {"s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0}
    if unit not in sizes or not number.isascii() or not number.replace(".", "", 1).isdigit():
        raise InvalidInput("hold", f"give a time like 30m, 24h or 2d, not {text!r}")
    return float(number) * sizes[unit]


def parse_shares(text: str) -> tuple[float, ...]:
    """Return the percentages of a text such as `5, 25, 50, 100`. Raises InvalidInput."""
    try:
        return tuple(float(part.strip().removesuffix("%")) for part in text.split(",") if part.strip())
    except ValueError:
        raise InvalidInput(
            "steps", f"give percentages with commas between, like 5, 25, 50, 100; not {text!r}"
        ) from None

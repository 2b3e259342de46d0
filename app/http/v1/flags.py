"""Flags with their definitions, switches and rollouts, and the schedules that change them."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Any

from fastapi import Path
from pydantic import Field

from app.http.backends import get_store
from app.http.v1.callers import Caller, From
from app.http.v1.changes import ChangeAnswer, Make
from app.http.v1.models import (
    Answered,
    Asked,
    Environment,
    Limit,
    Page,
    Position,
    Reason,
    Reasoned,
    Untrusted,
    Version,
    cut_page,
    lead_to,
)
from app.http.v1.routing import make_router
from core.audit.acts import Act
from core.errors import Conflict, InvalidInput, NotFound
from core.flags.board import BoardRow, list_board
from core.flags.operations import create_flag, remove_flag, save_edit, switch_flag
from core.flags.schedule import MAX_STEPS, Schedule, ScheduleState, ScheduleStep
from core.flags.store import Flag, get_flag
from core.flags.timetable import get_schedule, list_schedules
from core.rollouts.ramps import PlannedExperiment
from core.rollouts.schedules import cancel_schedule, create_schedule, pause_schedule, resume_schedule
from quarterdeck import definitions

router = make_router("flags")
LONGEST_KEY = 300


class FlagAnswer(Answered):
    """A flag: its definition as flagd knows it, and the version that the next change has to name."""

    environment: str
    key: str
    version: int
    is_on: bool
    rollout_pct: float | None = Field(description="Users of the rollout, in percent; null without one.")
    updated: datetime
    updated_by: Untrusted[str]
    definition: Untrusted[dict[str, Any]]


class FlagRowAnswer(FlagAnswer):
    """A flag in the list, with its description and its use."""

    description: Untrusted[str]
    owner: Untrusted[str]
    tags: Untrusted[tuple[str, ...]]
    expires: date | None
    evaluations: int | None = Field(description="In the last 24 hours; null if nobody reports them.")
    staleness: tuple[str, ...] = Field(description="Why it may be no longer needed.")


class StepAnswer(Answered):
    """One step of a schedule: what it sets (null leaves it), and how long it lasts."""

    on: bool | None
    rollout_pct: float | None
    hold_s: float


class ScheduleAnswer(Answered):
    """Steps of one flag; the next one counts from 0."""

    schedule_id: int
    environment: str
    flag: str
    steps: tuple[StepAnswer, ...]
    next_step: int
    due: datetime | None
    state: ScheduleState
    actor: str
    reason: str
    note: str
    version: int


class FlagChange(Reasoned):
    """A whole definition. Version 0 creates the flag."""

    version: int = Field(
        ge=0, description="The version that was read: 409 if somebody changed it since; 0 to create it."
    )
    definition: dict[str, Any] = Field(examples=[{"variants": {"on": True, "off": False}, "defaultVariant": "on"}])
    confirm: str = Field("", max_length=LONGEST_KEY, description="The flag's key, if most of production would change.")
    environment: str | None = Field(None, max_length=64)


class FlagMove(Reasoned):
    """Switches a flag on or off, or rolls it out. Off is the kill switch: it needs no `confirm`."""

    version: int = Field(ge=0, description="The version that was read: 409 if somebody changed it since.")
    on: bool | None = None
    rollout_pct: float | None = Field(None, ge=0, le=100)
    confirm: str = Field("", max_length=LONGEST_KEY, description="The flag's key, if most of production would change.")
    environment: str | None = Field(None, max_length=64)


class StepChange(Asked):
    """One step: on, off, or a percentage of users, and how long it lasts before the next one."""

    on: bool | None = None
    rollout_pct: float | None = Field(None, ge=0, le=100)
    hold_s: float = Field(0.0, ge=0, le=90 * 86_400)


class ExperimentAfter(Asked):
    """The experiment that begins with the last step, on the users whom it leaves split."""

    name: str = Field(min_length=1, max_length=100)
    metric: str = Field(min_length=1, max_length=100)
    effect: float = Field(gt=0, description="The smallest difference worth having, in the metric's unit.")
    control: str = Field("", max_length=300)
    guardrails: tuple[str, ...] = Field((), max_length=6, description="How much worse a metric may be: `latency=0.15`.")
    min_run_days: float = Field(7.0, ge=0, le=365)
    services: tuple[str, ...] = Field((), max_length=20)
    reported: bool = False


class SchedulePlan(Reasoned):
    """Plans steps of a flag."""

    flag: str = Field(min_length=1, max_length=LONGEST_KEY)
    steps: tuple[StepChange, ...] = Field(min_length=1, max_length=MAX_STEPS)
    starts: datetime | None = Field(None, description="With a time zone; now, if missing.")
    experiment: ExperimentAfter | None = Field(None, description="Begins with the last step.")
    confirm: str = Field("", max_length=LONGEST_KEY, description="The flag's key, if most of production would change.")
    environment: str | None = Field(None, max_length=64)


class ScheduleMove(Reasoned):
    """Pauses, resumes or cancels a schedule."""

    version: int = Field(ge=0)


Key = Annotated[
    str, Path(min_length=1, max_length=LONGEST_KEY, description="It may contain slashes.", examples=["use_hyde"])
]
ScheduleId = Annotated[int, Path(ge=1, le=2**53)]


@router.get("/v1/flags", name="list_flags", responses=lead_to(get_flag={"parameters": {
    "key": "$response.body#/items/0/key",
}}))  # fmt: skip
def list_all_flags(
    caller: From, environment: Environment = None, limit: Limit = 50, cursor: Position = None
) -> Page[FlagRowAnswer]:
    """Return the flags of an environment by key."""
    named = caller.find_environment(environment)
    board = list_board(get_store(), named, environments=(named,), now=datetime.now(UTC))
    items, following = cut_page(board, cursor, limit)
    return Page[FlagRowAnswer](items=tuple(map(_describe_row, items)), next=following)


@router.get("/v1/flags/{key:path}", name="get_flag", responses=lead_to(move_flag={
    "parameters": {"key": "$response.body#/key"},
    "requestBody": {"version": "$response.body#/version", "on": False, "reason": "it answers too slowly"},
}))  # fmt: skip
def get_one_flag(caller: From, key: Key, environment: Environment = None) -> FlagAnswer:
    """Return one flag."""
    return FlagAnswer(**_tell(get_flag(get_store(), caller.find_environment(environment), key)))


@router.put("/v1/flags/{key:path}", name="save_flag")
def put_flag(key: Key, body: FlagChange, make: Make) -> ChangeAnswer:
    """Create a flag, or replace its definition."""
    environment = make.caller.find_environment(body.environment)

    def save(act: Act) -> int:
        if body.version == 0:
            return create_flag(get_store(), key, body.definition, act)
        flag = _expect(get_flag(get_store(), environment, key), body.version)
        return save_edit(get_store(), flag, body.definition, act, typed_name=body.confirm, now=datetime.now(UTC))

    return make.make(body.reason, environment, save)


@router.patch("/v1/flags/{key:path}")
def move_flag(key: Key, body: FlagMove, make: Make) -> ChangeAnswer:
    """Switch a flag on or off, or roll it out to a percentage of users."""
    environment = make.caller.find_environment(body.environment)
    if body.on is None and body.rollout_pct is None:
        raise InvalidInput("on", "name what changes: `on`, `rollout_pct` or both")

    def save(act: Act) -> int:
        flag = _expect(get_flag(get_store(), environment, key), body.version)
        if body.on is False and body.rollout_pct is None:
            return switch_flag(get_store(), flag, act, on=False)
        wanted = flag.definition
        if body.rollout_pct is not None:
            wanted = definitions.set_rollout(wanted, body.rollout_pct)
        if body.on is not None:
            wanted = definitions.switch_flag(wanted, on=body.on)
        return save_edit(get_store(), flag, wanted, act, typed_name=body.confirm, now=datetime.now(UTC))

    return make.make(body.reason, environment, save)


@router.delete("/v1/flags/{key:path}", name="delete_flag")
def delete_one_flag(
    key: Key, make: Make, reason: Reason, version: Version, environment: Environment = None
) -> ChangeAnswer:
    """Delete a flag."""
    named = make.caller.find_environment(environment)
    return make.make(
        reason,
        named,
        lambda act: remove_flag(get_store(), _expect(get_flag(get_store(), named, key), version), act, typed_name=key),
    )


@router.get("/v1/schedules", name="list_schedules")
def list_all_schedules(
    caller: From, environment: Environment = None, limit: Limit = 50, cursor: Position = None
) -> Page[ScheduleAnswer]:
    """Return the newest 500 schedules of an environment."""
    named = caller.find_environment(environment)
    items, following = cut_page(list_schedules(get_store(), environment=named), cursor, limit)
    return Page[ScheduleAnswer](items=tuple(map(ScheduleAnswer.model_validate, items)), next=following)


@router.post("/v1/schedules", name="create_schedule")
def post_schedule(body: SchedulePlan, make: Make) -> ChangeAnswer:
    """Plan a change of a flag: one at a time of day, or a rollout in steps."""
    environment, now = make.caller.find_environment(body.environment), datetime.now(UTC)
    if body.starts is not None and body.starts.tzinfo is None:
        raise InvalidInput("starts", "must have a time zone, like 2026-11-29T09:00:00Z")
    steps = tuple(ScheduleStep(each.on, each.rollout_pct, each.hold_s) for each in body.steps)
    return make.make(
        body.reason,
        environment,
        lambda act: create_schedule(
            get_store(), get_flag(get_store(), environment, body.flag), steps, act, starts=body.starts or now,
            now=now, typed_name=body.confirm, then=read_experiment(body.experiment),
        ),
    )  # fmt: skip


def read_experiment(asked: ExperimentAfter | None) -> PlannedExperiment | None:
    """Return the experiment that a request asks for, None for none."""
    if asked is None:
        return None
    given = asked.model_dump(exclude={"min_run_days"})
    return PlannedExperiment(**given, min_run=timedelta(days=asked.min_run_days))


@router.post("/v1/schedules/{schedule_id}/pause", name="pause_schedule")
def pause_one_schedule(schedule_id: ScheduleId, body: ScheduleMove, make: Make) -> ChangeAnswer:
    """Pause a schedule."""
    found = _find_schedule(make.caller, schedule_id, body.version)
    return make.make(
        body.reason, found.environment, lambda act: pause_schedule(get_store(), found, act, now=datetime.now(UTC))
    )


@router.post("/v1/schedules/{schedule_id}/resume", name="resume_schedule")
def resume_one_schedule(schedule_id: ScheduleId, body: ScheduleMove, make: Make) -> ChangeAnswer:
    """Resume a paused schedule."""
    found = _find_schedule(make.caller, schedule_id, body.version)
    return make.make(
        body.reason, found.environment, lambda act: resume_schedule(get_store(), found, act, now=datetime.now(UTC))
    )


@router.post("/v1/schedules/{schedule_id}/cancel", name="cancel_schedule")
def cancel_one_schedule(schedule_id: ScheduleId, body: ScheduleMove, make: Make) -> ChangeAnswer:
    """Cancel a schedule for good."""
    found = _find_schedule(make.caller, schedule_id, body.version)
    return make.make(body.reason, found.environment, lambda act: cancel_schedule(get_store(), found, act))


def _expect(flag: Flag, version: int) -> Flag:
    """Return the flag if it is the version that the caller saw. Raises Conflict."""
    if flag.version != version:
        raise Conflict(f"flag {flag.key!r} is at version {flag.version}, not {version}; read it again")
    return flag


def _find_schedule(caller: Caller, schedule_id: int, version: int) -> Schedule:
    """Return a schedule of the caller's environment, at the version that the caller saw."""
    found = get_schedule(get_store(), schedule_id)
    if caller.digest and found.environment != caller.find_environment():
        raise NotFound(f"schedule: there is no schedule {schedule_id}")
    caller.find_environment(found.environment)
    return replace(found, version=version)


def _tell(flag: Flag) -> dict[str, Any]:
    return {
        "environment": flag.environment, "key": flag.key, "version": flag.version, "is_on": flag.view.is_on,
        "rollout_pct": flag.view.rollout_pct, "updated": flag.updated, "updated_by": flag.updated_by,
        "definition": flag.definition,
    }  # fmt: skip


def _describe_row(row: BoardRow) -> FlagRowAnswer:
    details = row.details
    return FlagRowAnswer(
        **_tell(row.flag), description=details.description, owner=details.owner, tags=details.tags,
        expires=details.expires, evaluations=row.evaluations, staleness=row.staleness,
    )  # fmt: skip

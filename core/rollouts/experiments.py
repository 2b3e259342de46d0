"""Shell of the experiments: how each stands by the log and by whom clients noted, its start, its stop, its decision.

The verdict is decided in `experiment.py`. An experiment never changes a flag by itself; a person decides.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from core.arms.arms import ArmsReading
from core.arms.histories import ArmHistories, Watched
from core.audit.actions import Action, Subject, subject_of
from core.audit.acts import Act, Change, changing
from core.audit.trail import AuditFilter, list_audit
from core.errors import Conflict, InvalidInput
from core.flags.operations import check_definition, check_typed_name
from core.flags.schedule import OPEN
from core.flags.store import Flag, list_flags, save_flag
from core.flags.timetable import list_schedules
from core.log.exposures import list_exposures
from core.rollouts.audited import ExperimentAudit, FlagChange, read_flag_change
from core.rollouts.canary import find_start, read_served
from core.rollouts.experiment import ExperimentProgress, ExperimentVerdict, decide_experiment, pick_users
from core.rollouts.experiment_design import Design, note_users
from core.rollouts.experiment_records import (
    Experiment,
    ExperimentState,
    find_running,
    list_experiments,
    save_experiment,
)
from quarterdeck.clock import from_ms
from quarterdeck.definitions import experiment_variants, serve_to_all
from quarterdeck.store import Store

_MOST_ENTRIES = 1_000
_OF_FLAGS = (Subject.FLAG, Subject.CANARY, Subject.EXPERIMENT)


@dataclass(frozen=True, slots=True)
class ExperimentReport:
    """How one experiment stands, or stood when it ended. `noted` counts whom clients saw, by arm."""

    experiment: Experiment
    noted: dict[str, int]
    looks: tuple[ArmsReading, ...]
    verdict: ExperimentVerdict


def report_experiments(
    store: Store, histories: ArmHistories, environment: str, *, now: datetime
) -> tuple[ExperimentReport, ...]:
    """Return how every experiment stands, those that run first. Raises SourceUnavailable."""
    return tuple(report_experiment(store, histories, each, now=now) for each in list_experiments(store, environment))


def report_experiment(
    store: Store, histories: ArmHistories, experiment: Experiment, *, now: datetime
) -> ExperimentReport:
    """Return how one experiment stands by what was noted and logged since its start. Raises SourceUnavailable."""
    design, until = experiment.design, experiment.ended or now
    seen = list_exposures(store, experiment.environment, design.flag)
    users = pick_users(seen, design, drawn_since=experiment.drawn_since, until=until)
    noted = {arm: sum(user.variant == arm for user in users) for arm in design.arms}
    looks: tuple[ArmsReading, ...] = ()
    if users:
        looks = histories.read(Watched("", design.arms, experiment.started), until=until, exposures=users)
    disturbance = _find_disturbance(store, experiment)
    verdict = decide_experiment(design, looks, ExperimentProgress(experiment.started, until, noted, disturbance))
    return ExperimentReport(experiment, noted, looks, verdict)


def start_experiment(store: Store, flag: Flag, design: Design, by: Act) -> int:
    """Start an experiment on a flag, as it was read: from now on clients note whom they serve. Returns the audit entry.

    Raises Conflict when one runs there already, when a schedule would move its users, and when somebody was faster.
    """
    if running := find_running(store, flag.environment, flag.key):
        raise Conflict(f"the experiment {running.design.name!r} runs on {flag.key} already; stop it first")
    if planned := list_schedules(store, environment=flag.environment, flag=flag.key, states=OPEN):
        raise Conflict(f"the open schedule {planned[0].schedule_id} would move users of {flag.key}; cancel it first")
    if any(each.design.name == design.name for each in list_experiments(store, flag.environment)):
        raise Conflict(f"there was an experiment {design.name!r} already; give this one another name")
    definition = note_users(flag.definition, design.name)
    check_definition(flag.key, definition)
    drawn_since = find_start(_list_changes(store, flag.environment, flag.key)) or flag.updated
    noted_before = (flag.definition.get("metadata") or {}).get("experiment")
    with changing(store, by) as change:
        started = from_ms(change.at_ms)
        made = Experiment(flag.environment, design, definition, started, by.actor, drawn_since, noted_before)
        save_experiment(change.connection, made)
        _save_flag(change, flag, definition, by)
        change.record(
            Action.EXPERIMENT_START, flag.key, ExperimentAudit(flag.definition),
            ExperimentAudit(definition, design=design),
        )  # fmt: skip
    return change.entry_id


def stop_experiment(store: Store, experiment: Experiment, by: Act) -> int:
    """End an experiment, as it was read, without a choice: the flag serves as before. Returns the audit entry's id.

    Raises Conflict when it has ended or somebody was faster.
    """
    _check_running(experiment)
    flag = _find_flag(store, experiment)
    with changing(store, by) as change:
        save_experiment(change.connection, _ended(experiment, ExperimentState.STOPPED, change, by))
        definition = note_users(flag.definition, experiment.noted_before) if flag else None
        if flag and definition:
            _save_flag(change, flag, definition, by)
        after = ExperimentAudit(definition, experiment.design.name, str(ExperimentState.STOPPED))
        change.record(Action.EXPERIMENT_STOP, experiment.design.flag, _audit(experiment, flag), after)
    return change.entry_id


def decide_for(
    store: Store, experiment: Experiment, arm: str, by: Act, *, typed_name: str | None, now: datetime
) -> int:
    """End an experiment, as it was read, with an arm that everybody gets from now on. Returns the audit entry's id.

    A wide change in production takes the flag's name, typed; None for `typed_name` is somebody who may do without.
    Raises InvalidInput, and Conflict when it has ended or somebody was faster.
    """
    _check_running(experiment)
    if arm not in experiment.design.arms:
        raise InvalidInput("variant", f"{arm!r} is not compared; there are: {', '.join(experiment.design.arms)}")
    flag = _find_flag(store, experiment)
    if flag is None or flag.definition.get("state") != "ENABLED":
        gone = "gone" if flag is None else "switched off"
        raise InvalidInput("flag", f"{experiment.design.flag} is {gone}, so nobody would get {arm}; stop it instead")
    definition = serve_to_all(note_users(flag.definition, experiment.noted_before), arm)
    check_definition(flag.key, definition)
    if typed_name is not None:
        check_typed_name(store, flag, definition, typed_name, now=now)
    with changing(store, by) as change:
        ended = replace(_ended(experiment, ExperimentState.DECIDED, change, by), winner=arm)
        save_experiment(change.connection, ended)
        _save_flag(change, flag, definition, by)
        after = ExperimentAudit(definition, experiment.design.name, str(ended.state), winner=arm)
        change.record(Action.EXPERIMENT_DECIDE, flag.key, _audit(experiment, flag), after)
    return change.entry_id


def _check_running(experiment: Experiment) -> None:
    if not experiment.is_running:
        raise Conflict(f"the experiment {experiment.design.name!r} is {experiment.state} already")


def _ended(experiment: Experiment, state: ExperimentState, change: Change, by: Act) -> Experiment:
    ended = from_ms(change.at_ms)
    return replace(experiment, state=state, ended=ended, ended_by=by.actor, conclusion=by.reason.strip())


def _find_flag(store: Store, experiment: Experiment) -> Flag | None:
    known = list_flags(store, experiment.environment)
    return next((flag for flag in known if flag.key == experiment.design.flag), None)


def _audit(experiment: Experiment, flag: Flag | None) -> ExperimentAudit:
    return ExperimentAudit(flag.definition if flag else None, experiment.design.name, str(experiment.state))


def _save_flag(change: Change, flag: Flag, definition: dict[str, Any], by: Act) -> None:
    saved = replace(flag, definition=definition, updated_by=by.actor)
    save_flag(change.connection, saved, updated_ms=change.at_ms)


def _list_changes(store: Store, environment: str, key: str) -> Sequence[FlagChange]:
    """What was done to a flag, newest first, by experiments too."""
    own = list_audit(store, AuditFilter(target=key, environment=environment), limit=_MOST_ENTRIES)
    return [read_flag_change(entry) for entry in own if subject_of(entry.action) in _OF_FLAGS]


def _find_disturbance(store: Store, experiment: Experiment) -> str:
    """Why users are not drawn as they were at the start; "" where they are."""
    design, until = experiment.design, experiment.ended
    for change in reversed(_list_changes(store, experiment.environment, design.flag)):
        during = experiment.started < change.ts and (until is None or change.ts < until)
        if during and read_served(change.before) != read_served(change.after):
            return f"{change.actor} changed {design.flag} on {change.ts:%d %b at %H:%M} UTC, while the experiment ran"
    if not experiment.is_running:
        return ""
    flag = _find_flag(store, experiment)
    if flag is None or read_served(flag.definition) != read_served(experiment.definition):
        return f"{design.flag} is not as it was when the experiment started"
    if not set(design.arms) <= experiment_variants(flag.definition):
        return f"clients note no users of {design.flag} any more, for `experiment` is gone from its metadata"
    return ""

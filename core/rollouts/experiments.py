"""Shell: reports, starts, stops and decides A/B experiments, from the log and the recorded exposures.

`experiment.py` decides the verdict. An experiment never changes a flag by itself; a person decides.
"""

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from core.arms.arms import ArmsReading
from core.arms.histories import ArmHistories, Watched, scopes_of_flag
from core.audit.actions import Action
from core.audit.acts import Act, Change, changing
from core.errors import Conflict, InvalidInput
from core.flags.definition import set_metadata
from core.flags.layer_store import get_holdout, get_layer
from core.flags.layers import hold_out, leave_layer, release, take_slice
from core.flags.operations import check_definition, check_typed_name, save_definition
from core.flags.schedule import OPEN
from core.flags.store import Flag, list_flags
from core.flags.timetable import list_schedules
from core.log.exposures import list_exposures
from core.rollouts.audited import ExperimentAudit
from core.rollouts.canary import find_start, serves_alike
from core.rollouts.experiment import ExperimentProgress, ExperimentVerdict, decide_experiment, pick_users
from core.rollouts.experiment_design import Design, note_users
from core.rollouts.experiment_records import (
    Experiment,
    ExperimentState,
    find_running,
    list_experiments,
    save_experiment,
)
from core.rollouts.history import list_flag_entries
from core.rollouts.mismatch import count_crossed, explain_mismatch
from quarterdeck.clock import from_ms
from quarterdeck.definitions import REPORTED, experiment_variants, serve_to_all
from quarterdeck.store import Store


@dataclass(frozen=True, slots=True)
class ExperimentReport:
    """The state of one experiment, now or at its end. `noted` counts exposed users by arm.

    `crossed` users were in two arms and count in none. `reasons` say why the split is probably wrong.
    """

    experiment: Experiment
    noted: dict[str, int]
    looks: tuple[ArmsReading, ...]
    verdict: ExperimentVerdict
    crossed: int = 0
    reasons: tuple[str, ...] = ()


def report_experiments(
    store: Store, histories: ArmHistories, environment: str, *, now: datetime
) -> tuple[ExperimentReport, ...]:
    """Report on every experiment, running ones first. Raises SourceUnavailable."""
    return tuple(report_experiment(store, histories, each, now=now) for each in list_experiments(store, environment))


def report_experiment(
    store: Store, histories: ArmHistories, experiment: Experiment, *, now: datetime
) -> ExperimentReport:
    """Report on one experiment from exposures and log since its start. Raises SourceUnavailable."""
    design, until = experiment.design, experiment.ended or now
    seen = list_exposures(store, experiment.environment, design.flag)
    users = pick_users(seen, design, drawn_since=experiment.drawn_since, until=until)
    noted = {arm: sum(user.variant == arm for user in users) for arm in design.arms}
    looks: tuple[ArmsReading, ...] = ()
    if users:
        scopes = scopes_of_flag(experiment.environment, design.services)
        watched = Watched(
            "", design.arms, experiment.started, scopes,
            expects=True, own=design.own_metrics, drawn_since=experiment.drawn_since,
        )  # fmt: skip
        looks = histories.read(watched, until=until, exposures=users)
    disturbance = _find_disturbance(store, experiment)
    verdict = decide_experiment(design, looks, ExperimentProgress(experiment.started, until, noted, disturbance))
    crossed = count_crossed(seen, design, drawn_since=experiment.drawn_since, until=until)
    logged = {arm: found.users for arm, found in looks[-1].arms.items()} if looks else {}
    reasons = explain_mismatch(design, users, logged, crossed=crossed, p=verdict.mismatch_p)
    return ExperimentReport(experiment, noted, looks, verdict, crossed, reasons)


@dataclass(frozen=True, slots=True)
class LayerPlace:
    """The users that an experiment wants: a share, in percent, of a layer's users whom no other experiment has."""

    layer: str
    share_pct: float


def start_experiment(
    store: Store, flag: Flag, design: Design, by: Act, *, place: LayerPlace | None = None, reported: bool = False,
    typed_name: str | None = None, now: datetime | None = None,
) -> int:  # fmt: skip
    """Start an experiment on a flag: clients record exposures from now on. Returns the audit entry's id.

    With `place`, only users of the layer who are in none of its other experiments take part. Nobody in the holdout
    does. With `reported`, users count as exposed where a service reports it, and not when it asks. A wide change in
    production needs the flag's key as `typed_name`; None skips this check.

    Raises Conflict if the flag has a running experiment or an open schedule, if the name is taken, if the layer has too
    few free users, or if the flag was changed since it was read.
    """
    if running := find_running(store, flag.environment, flag.key):
        raise Conflict(f"the experiment {running.design.name!r} runs on {flag.key} already; stop it first")
    if planned := list_schedules(store, environment=flag.environment, flag=flag.key, states=OPEN):
        raise Conflict(f"the open schedule {planned[0].schedule_id} would move users of {flag.key}; cancel it first")
    check_free_name(store, flag.environment, design.name)
    definition = prepare_start(store, flag, design.name, place, reported=reported)
    check_definition(flag.key, definition)
    if typed_name is not None and now is not None:
        check_typed_name(store, flag, definition, typed_name, now=now)
    drawn_since = find_start(list_flag_entries(store, flag.environment, flag.key)) or flag.updated
    with changing(store, by) as change:
        begin_experiment(change, flag, definition, design, drawn_since=drawn_since)
    return change.entry_id


def begin_experiment(
    change: Change, flag: Flag, definition: dict[str, Any], design: Design, *, drawn_since: datetime
) -> None:
    """Save an experiment and its flag as `prepare_start` made it, in an open change. Raises Conflict.

    `drawn_since` is when the flag began to serve its users as it does; a start that changes this draws them anew.
    """
    started = from_ms(change.at_ms)
    since = drawn_since if serves_alike(flag.definition, definition) else started
    noted_before = flag.view.experiment
    made = Experiment(flag.environment, design, definition, started, change.act.actor, since, noted_before)
    save_experiment(change.connection, made)
    save_definition(change, flag, definition)
    change.record(
        Action.EXPERIMENT_START, flag.key, ExperimentAudit(flag.definition), ExperimentAudit(definition, design=design)
    )


def check_free_name(store: Store, environment: str, name: str) -> None:
    """Raise Conflict if an experiment has this name already."""
    if any(each.design.name == name for each in list_experiments(store, environment)):
        raise Conflict(f"an experiment named {name!r} already exists; choose another name")


def prepare_start(
    store: Store, flag: Flag, name: str, place: LayerPlace | None = None, *, reported: bool = False
) -> dict[str, Any]:
    """Return the flag as it will be while the experiment runs, for a preview too. Raises as `start_experiment`."""
    definition = note_users(flag.definition, name)
    if reported:
        definition = set_metadata(definition, {"exposure": REPORTED})
    if place is not None:
        layer = get_layer(store, flag.environment, place.layer)
        others = (other.view for other in list_flags(store, flag.environment) if other.key != flag.key)
        taken = [each for view in others for each in view.slices]
        definition = take_slice(layer, flag.key, definition, taken, share_pct=place.share_pct)
    return hold_out(get_holdout(store, flag.environment), flag.key, definition)


def stop_experiment(store: Store, experiment: Experiment, by: Act) -> int:
    """End an experiment without a winner; the flag serves as before. Returns the audit entry's id.

    It keeps its users of a layer until it is taken out; users of a holdout that is over come back.

    Raises Conflict if it has ended or was changed since it was read.
    """
    _check_running(experiment)
    flag = _find_flag(store, experiment)
    with changing(store, by) as change:
        save_experiment(change.connection, _ended(experiment, ExperimentState.STOPPED, change, by))
        definition = note_users(flag.definition, experiment.noted_before) if flag else None
        definition = release(get_holdout(store, experiment.environment), definition) if definition else None
        if flag and definition:
            save_definition(change, flag, definition)
        after = ExperimentAudit(definition, experiment.design.name, str(ExperimentState.STOPPED))
        change.record(Action.EXPERIMENT_STOP, experiment.design.flag, _audit(experiment, flag), after)
    return change.entry_id


def decide_for(
    store: Store, experiment: Experiment, arm: str, by: Act, *, typed_name: str | None, now: datetime
) -> int:
    """End an experiment with a winner: everybody gets `arm` from now on. Returns the audit entry's id.

    The layer gets its users back. Those in a holdout that still runs get the winner when it ends.

    A wide change in production needs the flag's key as `typed_name`; None skips this check. Raises InvalidInput, and
    Conflict if the experiment has ended or was changed since it was read.
    """
    _check_running(experiment)
    if arm not in experiment.design.arms:
        raise InvalidInput("variant", f"{arm!r} is not one of the arms: {', '.join(experiment.design.arms)}")
    flag = _find_flag(store, experiment)
    if flag is None or not flag.view.is_on:
        gone = "gone" if flag is None else "switched off"
        raise InvalidInput("flag", f"{experiment.design.flag} is {gone}, so nobody would get {arm}; stop it instead")
    definition = serve_to_all(leave_layer(note_users(flag.definition, experiment.noted_before)), arm)
    definition = release(get_holdout(store, flag.environment), definition)
    check_definition(flag.key, definition)
    if typed_name is not None:
        check_typed_name(store, flag, definition, typed_name, now=now)
    with changing(store, by) as change:
        ended = replace(_ended(experiment, ExperimentState.DECIDED, change, by), winner=arm)
        save_experiment(change.connection, ended)
        save_definition(change, flag, definition)
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


def _find_disturbance(store: Store, experiment: Experiment) -> str:
    """Say why users are not assigned as at the start; "" if they are."""
    design, until = experiment.design, experiment.ended
    for entry in reversed(list_flag_entries(store, experiment.environment, design.flag)):
        during = experiment.started < entry.ts and (until is None or entry.ts < until)
        if during and not serves_alike(entry.before, entry.after):
            return f"{entry.actor} changed {design.flag} on {entry.ts:%d %b at %H:%M} UTC, while the experiment ran"
    if not experiment.is_running:
        return ""
    flag = _find_flag(store, experiment)
    if flag is None or not serves_alike(flag.definition, experiment.definition):
        return f"{design.flag} was changed since the experiment started"
    if not set(design.arms) <= experiment_variants(flag.definition):
        return f"clients no longer record exposures of {design.flag}: `experiment` was removed from its metadata"
    return ""

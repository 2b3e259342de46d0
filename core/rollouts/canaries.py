"""Shell: canaries. Reports each from the log, makes the next step, rolls back, and runs what is automatic.

`canary.py` decides the verdict. Automatic actions are done by the actor `canary`, with the verdict's reason.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from core.arms.arms import ArmsReading
from core.arms.comparisons import Margin
from core.arms.histories import ArmHistories, Watched, scopes_of_flag
from core.audit.actions import Action
from core.audit.acts import Act, changing
from core.audit.environments import list_environments
from core.audit.gate import Origin
from core.audit.trail import AuditEntry
from core.errors import Conflict, InvalidInput, NotFound, QuarterdeckError
from core.flags.canary_plan import CANARY, DEFAULT_PLAN, SERVICES_FIELD, STABLE, Automation, Plan, write_services
from core.flags.definition import set_metadata
from core.flags.layer_store import get_holdout
from core.flags.layers import hold_out
from core.flags.operations import check_definition, save_definition
from core.flags.store import Flag, list_flags
from core.log.exposures import list_exposures
from core.metrics.builtin import BUILT_IN
from core.metrics.definition import MetricDefinition
from core.metrics.records import list_own_metrics
from core.rollouts.canary import CanaryCall, CanaryVerdict, NamedMetrics, decide_canary, find_start
from core.rollouts.experiment_design import parse_metric
from core.rollouts.history import list_flag_entries
from core.rollouts.index_canaries import (
    check_arms,
    explain_pause,
    find_arms,
    have_one_scale,
    is_index_canary,
    is_of_scores,
    let_candidate_live,
    read_index_arms,
    share_rows,
)
from quarterdeck.definitions import set_rollout, switch_flag
from quarterdeck.index_canaries import read_arms
from quarterdeck.store import Store

ACTOR = "canary"
logger = logging.getLogger("quarterdeck")


@dataclass(frozen=True, slots=True)
class DrivenStep:
    """The step of a canary that another tool drives: the percentage of users on green, and since when.

    What it leaves out, the flag says. Raises InvalidInput, naming the field.
    """

    share_pct: float | None = None
    since: datetime | None = None

    def __post_init__(self) -> None:
        if self.share_pct is not None and not 0 <= self.share_pct <= 100:
            raise InvalidInput("share", f"must be a percentage from 0 to 100, not {self.share_pct:g}")


@dataclass(frozen=True, slots=True)
class CanaryReport:
    """The state of one canary. If the flag has no plan, `plan` is `DEFAULT_PLAN`, with automation off.

    `looks` are hourly readings of both arms since the step began; empty unless both arms get users. `rollback` is the
    audit entry of the rollback, if a rollback led to the current state, `named` the metrics of the plan.
    """

    flag: Flag
    plan: Plan
    is_planned: bool
    share_pct: float
    since: datetime
    looks: tuple[ArmsReading, ...]
    verdict: CanaryVerdict
    rollback: AuditEntry | None = None
    named: NamedMetrics = field(default_factory=lambda: NamedMetrics(()))

    @property
    def is_running(self) -> bool:
        """Whether some users, but not all, are on green."""
        return 0 < self.share_pct < 100


def list_canaries(store: Store, environment: str) -> tuple[Flag, ...]:
    """Return the flags that are canaries, ordered by key."""
    return tuple(flag for flag in list_flags(store, environment) if flag.view.is_canary)


def get_canary(store: Store, environment: str, key: str) -> Flag:
    """Return one canary. Raises NotFound, listing the existing ones."""
    for flag in (known := list_canaries(store, environment)):
        if flag.key == key:
            return flag
    names = ", ".join(flag.key for flag in known) or "none"
    raise NotFound(f"canary: no canary {key!r} in {environment}; there are: {names}")


def report_canaries(
    store: Store, histories: ArmHistories, environment: str, *, now: datetime
) -> tuple[CanaryReport, ...]:
    """Report on every canary; one whose definition cannot be read is held, and says why. Raises SourceUnavailable."""
    running = _list_running(store, environment)
    return tuple(_try_report(store, histories, flag, running, now) for flag in list_canaries(store, environment))


def report_canary(
    store: Store, histories: ArmHistories, flag: Flag, *, now: datetime, driven: DrivenStep | None = None
) -> CanaryReport:
    """Report on one canary from what was logged since its step began. Raises SourceUnavailable.

    `driven` is the step where another tool, and not the flag, sends users to green.
    """
    return _report(store, histories, flag, _list_running(store, flag.environment), now, driven or DrivenStep())


def promote_canary(store: Store, flag: Flag, by: Act, *, services: Sequence[str] | None = None) -> int:
    """Take the plan's next step (from 0%, the first), whatever the verdict. Returns the audit entry's id.

    `services` are those whose rows judge it from now on, () for all; None leaves them as they are.
    The last step of an index canary lets the candidate go live. Raises InvalidInput without a plan or a further step,
    and Conflict if the flag was changed since it was read, or its alias moved since the canary began.
    """
    plan = flag.view.plan
    if plan is None:
        raise InvalidInput("metadata.canary_steps", f"{flag.key} has no steps; add a plan to its metadata first")
    following = plan.share_after(flag.view.green_pct)
    if following is None:
        raise InvalidInput("canary", f"all users of {flag.key} are on green already")
    if (arms := find_arms(flag)) and (problem := explain_pause(store, flag)):
        raise Conflict(f"{flag.key}: {problem}")
    if arms and following == 100:
        return let_candidate_live(store, flag, arms, by)
    wanted = switch_flag(set_rollout(flag.definition, following), on=True)
    wanted = hold_out(get_holdout(store, flag.environment), flag.key, wanted)
    if services is not None:
        wanted = set_metadata(wanted, {SERVICES_FIELD: write_services(services)})
    check_definition(flag.key, wanted)
    with changing(store, by) as change:
        if arms:
            check_arms(change, arms)
        save_definition(change, flag, wanted)
        change.record(Action.CANARY_PROMOTE, flag.key, flag.definition, wanted)
    return change.entry_id


def roll_back_canary(store: Store, flag: Flag, by: Act) -> int:
    """Put everybody back on blue. Returns the audit entry's id.

    Raises InvalidInput if nobody is on green, and Conflict if the flag was changed since it was read.
    """
    if flag.view.green_pct == 0:
        raise InvalidInput("canary", f"no users of {flag.key} are on green")
    wanted = set_rollout(flag.definition, 0)
    check_definition(flag.key, wanted)
    with changing(store, replace(by, stops=True)) as change:
        save_definition(change, flag, wanted)
        change.record(Action.CANARY_ROLLBACK, flag.key, flag.definition, wanted)
    return change.entry_id


def run_canaries(store: Store, histories: ArmHistories, environment: str, *, now: datetime) -> tuple[str, ...]:
    """Act on every canary's verdict as far as its plan allows; return one line per canary that was moved.

    Runs periodically: a breach is rolled back at the first run after its rows are in the log. A canary that cannot be
    judged, or that somebody changes at the same moment, is skipped until the next run.
    """
    lines = []
    running = _list_running(store, environment)
    for flag in list_canaries(store, environment):
        try:
            plan = flag.view.plan
            if plan and plan.automation is not Automation.OFF and flag.view.is_partly_on:
                lines += _act_on(store, _report(store, histories, flag, running, now))
        except QuarterdeckError as error:
            logger.warning("canary %s was skipped: %s", flag.key, error)
    return tuple(lines)


def run_all_canaries(store: Store, histories: ArmHistories, own: str, *, now: datetime) -> tuple[str, ...]:
    """Call `run_canaries` for every environment in the store, and for the server's `own`."""
    known = list_environments(store, own)
    return tuple(line for name in known for line in run_canaries(store, histories, name, now=now))


def _act_on(store: Store, report: CanaryReport) -> list[str]:
    flag, verdict = report.flag, report.verdict
    by = Act(ACTOR, verdict.reason, flag.environment, origin=Origin.SERVER)
    if verdict.call is CanaryCall.ROLL_BACK:
        entry = roll_back_canary(store, flag, by)
    elif verdict.call is CanaryCall.PROMOTE and report.plan.automation is Automation.FULL and not _is_for_all(report):
        entry = promote_canary(store, flag, by)
    else:
        return []
    line = f"{flag.key}: {verdict.call} (audit entry {entry}). {verdict.reason}"
    logger.warning("canary %s", line)
    return [line]


def _is_for_all(report: CanaryReport) -> bool:
    """Whether the next step lets an index go live in every environment: a person decides that."""
    return is_index_canary(report.flag) and report.plan.share_after(report.share_pct) == 100


def _try_report(
    store: Store, histories: ArmHistories, flag: Flag, running: tuple[Flag, ...], now: datetime
) -> CanaryReport:
    """Report on a canary, or say why it cannot be read, so that it does not hide the others."""
    try:
        return _report(store, histories, flag, running, now)
    except InvalidInput as error:
        verdict = CanaryVerdict(CanaryCall.HOLD, f"It cannot be read: {error}.", is_healthy=False)
        return CanaryReport(flag, DEFAULT_PLAN, False, flag.view.green_pct, flag.updated, (), verdict)


def _report(
    store: Store,
    histories: ArmHistories,
    flag: Flag,
    running: tuple[Flag, ...],
    now: datetime,
    driven: DrivenStep = DrivenStep(),
) -> CanaryReport:
    planned = flag.view.plan
    plan, share = planned or DEFAULT_PLAN, flag.view.green_pct if driven.share_pct is None else driven.share_pct
    named = _name_metrics(store, flag.environment, plan)
    if (indexes := read_arms(flag.key, flag.definition)) and not have_one_scale(store, indexes):
        plan, named = _without_scores(plan, named)
    entries = list_flag_entries(store, flag.environment, flag.key)
    since = driven.since or find_start(entries) or flag.updated
    looks: tuple[ArmsReading, ...] = ()
    if share and (paused := explain_pause(store, flag)):
        verdict = CanaryVerdict(CanaryCall.HOLD, paused, is_healthy=False)
        return CanaryReport(flag, plan, planned is not None, share, since, (), verdict)
    if 0 < share < 100:
        others = [each for each in running if each.key != flag.key and share_rows(flag, each)]
        if others and not flag.view.experiment:
            return CanaryReport(flag, plan, planned is not None, share, since, (), _cannot_tell(others[0]))
        looks = _read(store, histories, flag, since, now, named)
    random = not flag.view.rules
    is_drawn = flag.view.experiment or driven.share_pct is not None  # then only users who were drawn are counted
    reached = 1.0 if is_drawn else flag.view.reached
    verdict = decide_canary(
        plan, looks, share_pct=share, since=since, now=now, is_random=random, reached=reached, named=named
    )
    if not share and not flag.view.is_on and (kept := flag.view.rollout_pct):
        verdict = replace(verdict, reason=f"Nobody gets green: the flag is off. Its share is set to {kept:g}%.")
    begun = next((entry for entry in entries if entry.ts == since), None)
    rollback = begun if begun and begun.action == Action.CANARY_ROLLBACK else None
    if rollback:
        verdict = replace(verdict, reason=f"Rolled back by {rollback.actor}. {rollback.reason}")
    return CanaryReport(flag, plan, planned is not None, share, since, looks, verdict, rollback, named)


def _name_metrics(store: Store, environment: str, plan: Plan) -> NamedMetrics:
    """Find the metrics that a plan names. A signal is no guardrail, and a named margin replaces the usual one."""
    if not plan.guardrails and not plan.signals:
        return NamedMetrics(plan.margins)
    known = (*BUILT_IN, *list_own_metrics(store, environment))
    found: dict[str, list[Margin]] = {"guardrails": [], "signals": []}
    undefined = []
    for kind, margins in (("guardrails", plan.guardrails), ("signals", plan.signals)):
        for each in margins:
            try:
                metric = parse_metric(each.name, known)
            except InvalidInput:
                undefined.append(each.name)
                continue
            usual = next((margin.amount for margin in plan.margins if margin.metric == metric), None)
            amount = metric.margin if isinstance(metric, MetricDefinition) else usual
            found[kind].append(Margin(metric, each.amount or amount or 0.0))
    named = {each.metric for each in (*found["guardrails"], *found["signals"])}
    usual_ones = [margin for margin in plan.margins if margin.metric not in named]
    return NamedMetrics((*usual_ones, *found["guardrails"]), tuple(found["signals"]), tuple(undefined))


def _without_scores(plan: Plan, named: NamedMetrics) -> tuple[Plan, NamedMetrics]:
    """Return a plan and its metrics without all that is made of scores, also where the plan names it."""
    kept = tuple(tuple(each for each in margins if not is_of_scores(each))
                 for margins in (plan.margins, named.margins, named.signals))  # fmt: skip
    return replace(plan, margins=kept[0]), replace(named, margins=kept[1], signals=kept[2])


def _read(
    store: Store, histories: ArmHistories, flag: Flag, since: datetime, now: datetime, named: NamedMetrics
) -> tuple[ArmsReading, ...]:
    plan = flag.view.plan or DEFAULT_PLAN
    arms, scopes = (STABLE, CANARY), scopes_of_flag(flag.environment, plan.services)
    metrics = (each.metric for each in (*named.margins, *named.signals))
    own = tuple(dict.fromkeys(each for each in metrics if isinstance(each, MetricDefinition)))
    if flag.view.experiment:  # clients record who is on which arm, whatever the log says
        exposures = list_exposures(store, flag.environment, flag.key, since=since)
        return histories.read(Watched("", arms, since, scopes, own=own), until=now, exposures=exposures)
    watched = Watched("arm", arms, since, scopes, own=own)
    if indexes := find_arms(flag):
        return read_index_arms(histories, indexes, watched, until=now)
    return histories.read(watched, until=now)


def _list_running(store: Store, environment: str) -> tuple[Flag, ...]:
    """Every canary of the environment that serves both arms: they share its rows."""
    return tuple(flag for flag in list_canaries(store, environment) if flag.view.is_partly_on)


def _cannot_tell(other: Flag) -> CanaryVerdict:
    reason = f"The canary {other.key} runs too and the log's arm does not name its canary, so no figure can be trusted."
    remedy = "one canary at a time, or `experiment: true` in the metadata of each so that clients record exposures"
    return CanaryVerdict(CanaryCall.HOLD, reason, (remedy,), is_healthy=False)

"""Shell of the canaries: how each stands by the log, the next step, the way back, and what happens without a person.

The verdict is `canary.py`'s. What is done without a person is done by the actor `canary`, for the verdict's reason.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from core.arms.arms import ArmsReading
from core.arms.histories import ArmHistories, Watched
from core.audit.actions import Action, Subject, subject_of
from core.audit.acts import Act, changing
from core.audit.environments import list_environments
from core.audit.trail import AuditEntry, AuditFilter, list_audit
from core.errors import InvalidInput, NotFound, QuarterdeckError
from core.flags.canary_plan import CANARY, DEFAULT_PLAN, STABLE, Automation, Plan, is_canary, read_plan, share_of
from core.flags.operations import check_definition
from core.flags.store import Flag, list_flags, save_flag
from core.log.exposures import list_exposures
from core.rollouts.canary import CanaryCall, CanaryVerdict, decide_canary, find_start
from quarterdeck.definitions import read_rules, set_rollout, switch_flag
from quarterdeck.store import Store

ACTOR = "canary"
_MOST_ENTRIES = 1_000
logger = logging.getLogger("quarterdeck")


@dataclass(frozen=True, slots=True)
class CanaryReport:
    """How one canary stands. `plan` is the usual one, of which nothing is automatic, where the flag has none.

    `looks` are what the log says of both arms since the step began, hour by hour; none while there is one arm only.
    `rollback` is the audit entry that put everybody back on blue, if that is how it came to stand where it does.
    """

    flag: Flag
    plan: Plan
    is_planned: bool
    share_pct: float
    since: datetime
    looks: tuple[ArmsReading, ...]
    verdict: CanaryVerdict
    rollback: AuditEntry | None = None

    @property
    def is_running(self) -> bool:
        """Whether some users are on green, and not all."""
        return 0 < self.share_pct < 100


def list_canaries(store: Store, environment: str) -> tuple[Flag, ...]:
    """Return the flags that are canaries, by key."""
    return tuple(flag for flag in list_flags(store, environment) if is_canary(flag.definition))


def get_canary(store: Store, environment: str, key: str) -> Flag:
    """Return one canary. Raises NotFound, naming those that there are."""
    for flag in (known := list_canaries(store, environment)):
        if flag.key == key:
            return flag
    names = ", ".join(flag.key for flag in known) or "none"
    raise NotFound(f"canary: no canary {key!r} in {environment}; there are: {names}")


def report_canaries(
    store: Store, histories: ArmHistories, environment: str, *, now: datetime
) -> tuple[CanaryReport, ...]:
    """Return how every canary stands. Raises SourceUnavailable."""
    running = _list_running(store, environment)
    return tuple(_report(store, histories, flag, running, now) for flag in list_canaries(store, environment))


def report_canary(store: Store, histories: ArmHistories, flag: Flag, *, now: datetime) -> CanaryReport:
    """Return how one canary stands by what the log says since its step began. Raises SourceUnavailable."""
    return _report(store, histories, flag, _list_running(store, flag.environment), now)


def promote_canary(store: Store, flag: Flag, by: Act) -> int:
    """Take the next step of the plan, whatever the verdict: from nobody, the first. Returns the audit entry's id.

    Raises InvalidInput without a plan or a further step, and Conflict when somebody was faster.
    """
    plan = read_plan(flag.definition)
    if plan is None:
        raise InvalidInput("metadata.canary_steps", f"{flag.key} has no steps; add a plan to its metadata first")
    following = plan.share_after(share_of(flag.definition))
    if following is None:
        raise InvalidInput("canary", f"everybody is on green of {flag.key} already")
    changed = _changed(flag, switch_flag(set_rollout(flag.definition, following), on=True), by)
    with changing(store, by) as change:
        save_flag(change.connection, changed, updated_ms=change.at_ms)
        change.record(Action.CANARY_PROMOTE, flag.key, flag.definition, changed.definition)
    return change.entry_id


def roll_back_canary(store: Store, flag: Flag, by: Act) -> int:
    """Put everybody back on blue. Returns the audit entry's id.

    Raises InvalidInput when everybody is there already, and Conflict when somebody was faster.
    """
    if share_of(flag.definition) == 0:
        raise InvalidInput("canary", f"nobody is on green of {flag.key}")
    changed = _changed(flag, set_rollout(flag.definition, 0), by)
    with changing(store, by) as change:
        save_flag(change.connection, changed, updated_ms=change.at_ms)
        change.record(Action.CANARY_ROLLBACK, flag.key, flag.definition, changed.definition)
    return change.entry_id


def run_canaries(store: Store, histories: ArmHistories, environment: str, *, now: datetime) -> tuple[str, ...]:
    """Do for every canary what its verdict calls for and its plan allows; return one line for each that was moved.

    The scheduler's job: a breach is rolled back at the first run after its rows are in the log. One that cannot be
    judged, or that somebody changed at the same moment, is left as it is and looked at again next time.
    """
    lines = []
    running = _list_running(store, environment)
    for flag in list_canaries(store, environment):
        try:
            if _automation(flag.definition) is not Automation.OFF and 0 < share_of(flag.definition) < 100:
                lines += _act_on(store, _report(store, histories, flag, running, now))
        except QuarterdeckError as error:
            logger.warning("canary %s was not looked at: %s", flag.key, error)
    return tuple(lines)


def run_all_canaries(store: Store, histories: ArmHistories, own: str, *, now: datetime) -> tuple[str, ...]:
    """Do `run_canaries` for every environment that the store knows of, and for the server's `own`."""
    known = list_environments(store, own)
    return tuple(line for name in known for line in run_canaries(store, histories, name, now=now))


def _act_on(store: Store, report: CanaryReport) -> list[str]:
    flag, verdict = report.flag, report.verdict
    by = Act(ACTOR, verdict.reason, flag.environment)
    if verdict.call is CanaryCall.ROLL_BACK:
        entry = roll_back_canary(store, flag, by)
    elif verdict.call is CanaryCall.PROMOTE and report.plan.automation is Automation.FULL:
        entry = promote_canary(store, flag, by)
    else:
        return []
    line = f"{flag.key}: {verdict.call} (audit entry {entry}). {verdict.reason}"
    logger.warning("canary %s", line)
    return [line]


def _report(
    store: Store, histories: ArmHistories, flag: Flag, running: tuple[Flag, ...], now: datetime
) -> CanaryReport:
    planned = read_plan(flag.definition)
    plan, share = planned or DEFAULT_PLAN, share_of(flag.definition)
    entries = _list_entries(store, flag)
    since = find_start(entries) or flag.updated
    looks: tuple[ArmsReading, ...] = ()
    if 0 < share < 100:
        same = flag.environment, flag.key
        others = [each for each in running if (each.environment, each.key) != same]
        if others and not _is_noted(flag.definition):
            return CanaryReport(flag, plan, planned is not None, share, since, (), _cannot_tell(flag, others[0]))
        looks = _read(store, histories, flag, since, now)
    random = not read_rules(flag.definition)
    verdict = decide_canary(plan, looks, share_pct=share, since=since, now=now, is_random=random)
    begun = next((entry for entry in entries if entry.ts == since), None)
    rollback = begun if begun and begun.action == Action.CANARY_ROLLBACK else None
    if rollback:
        verdict = replace(verdict, reason=f"Rolled back by {rollback.actor}. {rollback.reason}")
    return CanaryReport(flag, plan, planned is not None, share, since, looks, verdict, rollback)


def _read(store: Store, histories: ArmHistories, flag: Flag, since: datetime, now: datetime) -> tuple[ArmsReading, ...]:
    arms = (STABLE, CANARY)
    if _is_noted(flag.definition):
        exposures = list_exposures(store, flag.environment, flag.key, since=since)
        return histories.read(Watched("", arms, since), until=now, exposures=exposures)
    return histories.read(Watched("arm", arms, since), until=now)


def _is_noted(definition: Mapping[str, Any]) -> bool:
    """Whether clients note who is on which arm, so that the arm is known without the log saying it."""
    return bool((definition.get("metadata") or {}).get("experiment"))


def _list_running(store: Store, own: str) -> tuple[Flag, ...]:
    """Every canary with both arms, of all environments: one log holds the retrievals of all of them."""
    flags = (flag for name in list_environments(store, own) for flag in list_canaries(store, name))
    return tuple(flag for flag in flags if 0 < share_of(flag.definition) < 100)


def _cannot_tell(flag: Flag, other: Flag) -> CanaryVerdict:
    name = other.key if other.environment == flag.environment else f"{other.key} of {other.environment}"
    reason = f"The log's arm cannot say whose it is while the canary {name} runs too, so no figure can be trusted."
    remedy = "one canary at a time, or `experiment: true` in the metadata of each, so that clients note their users"
    return CanaryVerdict(CanaryCall.HOLD, reason, (remedy,), is_healthy=False)


def _list_entries(store: Store, flag: Flag) -> list[AuditEntry]:
    own = list_audit(store, AuditFilter(target=flag.key, environment=flag.environment), limit=_MOST_ENTRIES)
    return [entry for entry in own if subject_of(entry.action) in (Subject.FLAG, Subject.CANARY)]


def _automation(definition: Mapping[str, Any]) -> Automation:
    plan = read_plan(definition)
    return plan.automation if plan else Automation.OFF


def _changed(flag: Flag, definition: dict[str, Any], by: Act) -> Flag:
    check_definition(flag.key, definition)
    return replace(flag, definition=definition, updated_by=by.actor)

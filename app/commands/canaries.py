"""The commands `canary …`: status, next step, and rollback."""

from datetime import UTC, datetime
from typing import Any

import click

from app.commands.common import common, open_judged_store, open_store, rollback_options, show, show_rehearsal
from core.audit.actions import Action
from core.audit.acts import Act
from core.config import Config
from core.flags.store import Flag
from core.rollouts.canary import CanaryCall
from quarterdeck.index_canaries import read_arms

_reason_option = click.option("--reason", required=True, help="Why: it goes into the audit trail.")


@click.group()
def canary() -> None:
    """Show canaries, take the next step, roll back. The server automates what each plan allows."""


@canary.command("list")
@common
def canary_list(config: Config, *, as_json: bool) -> None:
    """List the canaries with their share and verdict.

    Example: quarterdeck canary list
    """
    from core.arms.histories import ArmHistories
    from core.rollouts.canaries import report_canaries

    store = open_judged_store(config)
    reports = report_canaries(store, ArmHistories(store), config.environment, now=datetime.now(UTC))
    lines = [f"{r.flag.key:<28} {r.share_pct:>7g}%  {r.verdict.call:<10} {r.verdict.reason}" for r in reports]
    show(as_json, [_to_json(report) for report in reports], lines or ["no canaries: no flag has blue and green"])


@canary.command("status")
@click.argument("key")
@common
def canary_status(config: Config, *, key: str, as_json: bool) -> None:
    """Show a canary: the verdict, what is missing for the next step, and every metric of both arms.

    Example: quarterdeck canary status answer-service
    """
    from core.arms.comparisons import describe_comparison
    from core.arms.histories import ArmHistories
    from core.rollouts.canaries import get_canary, report_canary

    store = open_judged_store(config)
    flag = get_canary(store, config.environment, key)
    report = report_canary(store, ArmHistories(store), flag, now=datetime.now(UTC))
    lines = [
        f"{key}: {report.share_pct:g}% on green since {report.since:%d %b %Y %H:%M} UTC, {report.verdict.call}",
        *_say_indexes(flag),
        report.verdict.reason,
        f"  judged by: {', '.join(report.plan.services) or 'all services that report its arms'}",
        *(f"  missing: {line}" for line in report.verdict.missing),
        *(f"  warning: {line}" for line in report.verdict.warnings),
        *(f"  {describe_comparison(each)}" for each in report.verdict.comparisons),
        *(f"  signal {describe_comparison(each)}" for each in report.verdict.signals),
    ]
    show(as_json, _to_json(report), lines)


@canary.command("promote")
@click.argument("key")
@click.option("--anyway", is_flag=True, help="Take the step even if the verdict does not say promote.")
@click.option(
    "--service", "services", multiple=True, metavar="NAME",
    help="From now on, judge it only by the rows of this service.",
)  # fmt: skip
@click.option("--all-services", is_flag=True, help="From now on, judge it by all services that report its arms.")
@_reason_option
@common
def canary_promote(
    config: Config, *, key: str, anyway: bool, services: tuple[str, ...], all_services: bool, reason: str, as_json: bool
) -> None:
    """Take a canary to the next step of its plan; from 0%, to the first. The last step lets an index go live.

    Example: quarterdeck canary promote answer-service --service answers --reason "a quiet day"
    """
    from core.arms.histories import ArmHistories
    from core.audit.trail import get_audit_entry
    from core.errors import InvalidInput
    from core.rollouts.canaries import get_canary, promote_canary, report_canary

    if services and all_services:
        raise InvalidInput("--all-services", "cannot be given together with --service")
    store = open_store(config)
    flag = get_canary(store, config.environment, key)
    verdict = report_canary(store, ArmHistories(store), flag, now=datetime.now(UTC)).verdict
    if flag.view.green_pct and verdict.call is not CanaryCall.PROMOTE and not anyway:
        raise InvalidInput("canary promote", f"the verdict is {verdict.call}: {verdict.reason} --anyway overrides it")
    judges = services if services or all_services else None
    entry = promote_canary(store, flag, Act(config.operator, reason, config.environment), services=judges)
    share = get_canary(store, config.environment, key).view.green_pct
    arms, is_live = read_arms(key, flag.definition), get_audit_entry(store, entry).action == Action.INDEX_SWAP
    said = f"{key} is at {share:g}% (audit entry {entry})"
    if arms and is_live:
        said = f"{arms.alias} points to {arms.candidate}, was {arms.live} (audit entry {entry})"
    show(as_json, {"entry": entry, "share_pct": 100 if is_live else share}, [said])


@canary.command("rollback")
@click.argument("key")
@rollback_options
@common
def canary_rollback(config: Config, *, key: str, preview: bool, reason: str, as_json: bool) -> None:
    """Put everybody back on blue at once.

    Example: quarterdeck canary rollback answer-service --reason "complaints about empty answers"
    """
    from core.rehearsals.report import rehearse_canary
    from core.rollouts.canaries import get_canary, roll_back_canary

    store = open_store(config)
    flag = get_canary(store, config.environment, key)
    if preview:
        show_rehearsal(as_json, rehearse_canary(store, flag, now=datetime.now(UTC)), "")
        return
    entry = roll_back_canary(store, flag, Act(config.operator, reason, config.environment))
    show(as_json, {"entry": entry, "share_pct": 0}, [f"{key}: everybody is on blue (audit entry {entry})"])


def _say_indexes(flag: Flag) -> list[str]:
    """What blue and green are, where they are indexes."""
    arms = read_arms(flag.key, flag.definition)
    return [f"  green is {arms.candidate}, blue is {arms.live}, by the index_version of each row"] if arms else []


def _to_json(report: Any) -> dict[str, Any]:
    verdict = report.verdict
    return {
        "key": report.flag.key, "share_pct": report.share_pct, "since": report.since, "call": verdict.call,
        "reason": verdict.reason, "missing": verdict.missing, "warnings": verdict.warnings,
        "healthy": verdict.is_healthy,
        "services": report.plan.services,
        "metrics": [
            {
                "metric": str(each.metric), "role": "signal" if each in verdict.signals else "guardrail",
                "blue": each.stable, "green": each.other, "margin": each.margin, "harm": each.harm,
                "harm_at_least": each.least_harm if each.difference else None,
                "harm_at_most": each.most_harm if each.difference else None,
            }
            for each in (*verdict.comparisons, *verdict.signals)
        ],
    }  # fmt: skip

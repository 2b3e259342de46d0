"""The commands `experiments …`: A/B tests of a flag's variants: start, status, stop, decide."""

from datetime import UTC, datetime, timedelta
from typing import Any

import click

from app.commands.common import common, open_judged_store, open_store, show
from core.audit.acts import Act
from core.config import Config
from core.rollouts.experiment import ExperimentCall, Lift

_reason_option = click.option("--reason", required=True, help="Why: it goes into the audit trail.")


@click.group()
def experiments() -> None:
    """A/B tests: compare the variants of a flag by the retrievals of their users."""


@experiments.command("list")
@common
def experiments_list(config: Config, *, as_json: bool) -> None:
    """List the experiments with their verdict, running ones first.

    Example: quarterdeck experiments list
    """
    from core.arms.histories import ArmHistories
    from core.rollouts.experiments import report_experiments

    store = open_judged_store(config)
    reports = report_experiments(store, ArmHistories(store), config.environment, now=datetime.now(UTC))
    lines = [
        f"{r.experiment.design.name:<24} {r.experiment.design.flag:<24} {r.experiment.state:<8} {r.verdict.call:<10} "
        f"{r.verdict.reason}"
        for r in reports
    ]
    show(as_json, [_to_json(report) for report in reports], lines or ["no experiments: start one on a flag"])


@experiments.command("status")
@click.argument("name")
@common
def experiments_status(config: Config, *, name: str, as_json: bool) -> None:
    """Show an experiment: the verdict, what is missing, and every metric of every arm.

    Example: quarterdeck experiments status "longer answers"
    """
    from core.arms.histories import ArmHistories
    from core.rollouts.experiment_records import get_experiment
    from core.rollouts.experiments import report_experiment

    store = open_judged_store(config)
    found = get_experiment(store, config.environment, name)
    report = report_experiment(store, ArmHistories(store), found, now=datetime.now(UTC))
    noted = ", ".join(f"{count:,} users on {arm}" for arm, count in report.noted.items())
    since = f"{found.state} since {(found.ended or found.started):%d %b %Y %H:%M} UTC"
    lines = [
        f"{name} on {found.design.flag}: {since}, {noted}",
        report.verdict.reason,
        f"  compared: the rows of {', '.join(found.design.services) or 'all services'}",
        f"  in two arms, so in neither: {report.crossed:,} users",
        *(f"  likely reason: {line}" for line in report.reasons),
        *(f"  missing: {line}" for line in report.verdict.missing),
        *(f"  {_describe(lift)}" for lift in report.verdict.lifts),
    ]
    show(as_json, _to_json(report), lines)


@experiments.command("start")
@click.argument("name")
@click.option("--flag", "key", required=True, help="The flag whose variants are compared.")
@click.option(
    "--metric", required=True, help="The metric that decides: one of `quarterdeck metrics list`, such as score."
)
@click.option(
    "--effect", required=True, type=float, help="Smallest effect worth having; for latency and cost, a share."
)
@click.option("--direction", type=click.Choice(["up", "down"]), help="Which way is better (default: the metric's).")
@click.option("--control", default="", help="The variant that the others are compared with.")
@click.option("--guardrail", "guardrails", multiple=True, help="How much worse a metric may be, like latency=0.15.")
@click.option("--also", "further", multiple=True, metavar="METRIC", help="A further metric to show; decides nothing.")
@click.option(
    "--min-days", default=7.0, show_default=True, type=click.FloatRange(0, 365), help="The minimum run, in days."
)
@click.option(
    "--service", "services", multiple=True, metavar="NAME",
    help="Compare only the rows of this service (default: all services).",
)  # fmt: skip
@click.option("--reported", is_flag=True, help="Count users once a service reports what they saw, not when it asks.")
@click.option("--layer", default="", help="Take only users of this layer whom no other experiment of it has.")
@click.option(
    "--layer-share", default=10.0, show_default=True, type=float, help="Of the layer's users, this percentage."
)
@_reason_option
@common
def experiments_start(
    config: Config, *, name: str, key: str, metric: str, effect: float, direction: str | None, control: str,
    guardrails: tuple[str, ...], further: tuple[str, ...], min_days: float, services: tuple[str, ...], layer: str,
    layer_share: float, reported: bool, reason: str, as_json: bool,
) -> None:  # fmt: skip
    """Start an experiment on a flag. From now on, clients record who gets which variant.

    Example: quarterdeck experiments start "longer answers" --flag answer_style --metric score --effect 0.02
    --guardrail latency=0.15 --reason "users ask for detail"
    """
    from core.flags.store import get_flag
    from core.metrics.daily import list_metrics
    from core.rollouts.experiment_design import Direction, parse_guardrail, parse_metric, plan_experiment
    from core.rollouts.experiments import LayerPlace, start_experiment
    from quarterdeck.scope import Scope

    store = open_store(config)
    flag = get_flag(store, config.environment, key)
    known = list_metrics(store, Scope(config.environment, ""))
    design = plan_experiment(
        key, flag.view, name=name, metric=parse_metric(metric, known), effect=effect, control=control,
        direction=Direction(direction) if direction else None,
        guardrails=[parse_guardrail(each, known) for each in guardrails], min_run=timedelta(days=min_days),
        services=services, further=[parse_metric(each, known) for each in further],
    )  # fmt: skip
    act, place = Act(config.operator, reason, config.environment), LayerPlace(layer, layer_share) if layer else None
    entry = start_experiment(store, flag, design, act, place=place, reported=reported)
    arms = ", ".join(f"{arm} {share:.0%}" for arm, share in zip(design.arms, design.shares, strict=True))
    show(as_json, {"entry": entry, "arms": design.arms}, [f"{name} runs on {key}: {arms} (audit entry {entry})"])


@experiments.command("stop")
@click.argument("name")
@_reason_option
@common
def experiments_stop(config: Config, *, name: str, reason: str, as_json: bool) -> None:
    """End an experiment without a winner; the flag stays as it is.

    Example: quarterdeck experiments stop "longer answers" --reason "the wrong question"
    """
    from core.rollouts.experiment_records import get_experiment
    from core.rollouts.experiments import stop_experiment

    store = open_store(config)
    found = get_experiment(store, config.environment, name)
    entry = stop_experiment(store, found, Act(config.operator, reason, config.environment))
    show(as_json, {"entry": entry}, [f"{name} is stopped (audit entry {entry})"])


@experiments.command("decide")
@click.argument("name")
@click.option("--variant", required=True, help="The variant that everybody gets from now on.")
@click.option("--anyway", is_flag=True, help="Override a verdict that names another variant, or none.")
@_reason_option
@common
def experiments_decide(config: Config, *, name: str, variant: str, anyway: bool, reason: str, as_json: bool) -> None:
    """End an experiment and give everybody one variant.

    Example: quarterdeck experiments decide "longer answers" --variant long --reason "users score it higher"
    """
    from core.arms.histories import ArmHistories
    from core.errors import InvalidInput
    from core.rollouts.experiment_records import get_experiment
    from core.rollouts.experiments import decide_for, report_experiment

    store = open_judged_store(config)
    found, now = get_experiment(store, config.environment, name), datetime.now(UTC)
    if found.is_running and not anyway:
        verdict = report_experiment(store, ArmHistories(store), found, now=now).verdict
        if verdict.call not in (ExperimentCall.WINNER, ExperimentCall.NO_EFFECT) or verdict.winner != variant:
            raise InvalidInput("experiments decide", f"{verdict.call}: {verdict.reason} --anyway overrides it")
    act = Act(config.operator, reason, config.environment)
    entry = decide_for(store, found, variant, act, typed_name=None, now=now)
    said = f"everybody gets {variant} of {found.design.flag} (audit entry {entry})"
    show(as_json, {"entry": entry, "variant": variant}, [said])


def _describe(lift: Lift) -> str:
    from core.arms.comparisons import say_amount, say_value

    compared = lift.compared
    told = f"{lift.metric}: {lift.arm} {say_value(lift.metric, compared.other.mean)}, control "
    told += say_value(lift.metric, compared.stable.mean)
    if lift.gain is None:
        return f"{told}, too few users to compare"
    ends = [f"{say_amount(lift.metric, end)} {'better' if end > 0 else 'worse'}" for end in (lift.least, lift.most)]
    return f"{told}, between {' and '.join(ends)}"


def _to_json(report: Any) -> dict[str, Any]:
    from core.rollouts.experiment_design import write_design

    found, verdict = report.experiment, report.verdict
    return {
        "services": found.design.services, **write_design(found.design), "state": found.state,
        "started": found.started, "ended": found.ended,
        "conclusion": found.conclusion, "noted": report.noted, "call": verdict.call, "reason": verdict.reason,
        "winner": verdict.winner, "missing": verdict.missing, "mismatch_p": verdict.mismatch_p,
        "crossed": report.crossed, "reasons": report.reasons,
        "wait_days": verdict.wait.total_seconds() / 86_400 if verdict.wait else None,
        "metrics": [
            {
                "arm": each.arm, "metric": str(each.metric), "control": each.compared.stable,
                "treatment": each.compared.other,
                "gain": each.gain, "gain_at_least": None if each.gain is None else each.least,
                "gain_at_most": None if each.gain is None else each.most, "users_needed": each.users_needed,
            }
            for each in verdict.lifts
        ],
    }  # fmt: skip

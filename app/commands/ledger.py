"""The commands `ledger` and `predict-effect`: what changes were predicted to do, and what they did."""

from datetime import timedelta

import click

from app.commands.common import common, find_scope, open_corpus, open_store, service_option, settle_days, show, to_json
from core.audit.acts import Act
from core.config import Config


@click.command()
@click.option(
    "--days", default=120, show_default=True, type=click.IntRange(1, 3650), help="How far back changes are listed."
)
@service_option
@common
def ledger(config: Config, *, days: int, service: str | None, as_json: bool) -> None:
    """List each change with its predicted and its measured effect, and how good the predictions were.

    Effects are changes of a daily mean with a 95% interval, measured from up to eight weeks before a change to two
    weeks after it.

    Example: quarterdeck ledger --days 90 --json
    """
    from core.causes.changes import gather_changes
    from core.coverage.report import find_threshold
    from core.ledger.entries import describe_calibration, describe_entry
    from core.ledger.report import report_ledger
    from core.tracking.gateway import Tracking
    from quarterdeck.clock import start_of

    store = open_store(config)
    scope = find_scope(config, store, service)
    today = settle_days(store, scope)
    changes, problems = gather_changes(
        store,
        lambda: open_corpus(config),
        lambda: Tracking(config.tracking_uri),
        scope=scope,
        since=start_of(today - timedelta(days=days)),
    )
    threshold = find_threshold(store, scope=scope, today=today, low_score=config.low_score)
    found = report_ledger(store, changes, scope=scope, today=today, threshold=threshold)
    told = {
        "environment": scope.environment, "service": scope.service, "entries": to_json(found.entries),
        "calibration": to_json(found.calibration), "problems": list(problems),
    }  # fmt: skip
    lines = [f"{entry.at:%Y-%m-%d} {entry.summary}: {describe_entry(entry)}" for entry in found.entries]
    show(as_json, told, [*lines, describe_calibration(found.calibration), *(f"not read: {each}" for each in problems)])


@click.command("predict-effect")
@click.argument("change")
@click.option("--effect", required=True, type=float, help="The predicted change of the metric, -1 to 1.")
@click.option("--low", required=True, type=float, help="The lower end of the interval that you promise.")
@click.option("--high", required=True, type=float, help="The upper end of it.")
@click.option("--metric", default="score", show_default=True, help="score, low_share or empty_share.")
@click.option(
    "--of", "change_id", default="", metavar="ID", help="A change that has happened, by its id in the ledger."
)
@service_option
@click.option("--reason", required=True, help="Why: it goes into the audit trail.")
@common
def predict_effect_command(
    config: Config, *, change: str, effect: float, low: float, high: float, metric: str, change_id: str,
    service: str | None, reason: str, as_json: bool,
) -> None:  # fmt: skip
    """Predict what the next change of a thing will do to a metric; CHANGE is KIND:NAME.

    Kinds are those of the timeline: flag, canary, experiment, index, prompt, deployment, release and others. A later
    prediction supersedes an earlier one; none can be edited. With --of, the prediction counts as made afterwards.

    Example: quarterdeck predict-effect flag:new_prompt_v3 --effect 0.02 --low 0.01 --high 0.03 --reason "evaluation"
    """
    from core.ledger.entries import EffectPrediction
    from core.ledger.operations import predict_effect

    store = open_store(config)
    scope = find_scope(config, store, service)
    predicted = EffectPrediction(effect, low, high)
    act = Act(config.operator, reason, scope.environment)
    entry = predict_effect(store, change, predicted, act, metric=metric, service=scope.service, change_id=change_id)
    show(as_json, {"entry": entry}, [f"{change} is predicted to change {metric} by {effect:+g} (audit entry {entry})"])

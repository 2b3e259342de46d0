"""The commands `metrics …`: what experiments, canaries and alerts can be about, besides the built-in metrics."""

from datetime import UTC, datetime, timedelta
from typing import Any

import click

from app.commands.common import common, find_scope, open_store, service_option, show
from core.audit.acts import Act
from core.config import Config


@click.group()
def metrics() -> None:
    """Define metrics for experiments, canaries and alerts."""


@metrics.command("list")
@common
def metrics_list(config: Config, *, as_json: bool) -> None:
    """List the metrics of the environment: the built-in ones, then own ones.

    Example: quarterdeck metrics list
    """
    from core.metrics.daily import list_metrics
    from core.metrics.definition import write_metric
    from quarterdeck.scope import Scope

    known = list_metrics(open_store(config), Scope(config.environment, ""))
    lines = [
        f"{each.name:<24} {'up' if each.is_higher_better else 'down':<5} {each.shown_unit:<20} {each.definition}"
        for each in known
    ]
    show(as_json, [write_metric(each) for each in known], lines)


@metrics.command("segments")
@click.argument("name")
@click.option("--dimension", default="prompt_version", show_default=True, help="Built in, or declared by the service.")
@click.option("--days", type=click.IntRange(2, 90), default=30, show_default=True, help="Days, today included.")
@service_option
@common
def metrics_segments(
    config: Config, *, name: str, dimension: str, days: int, service: str | None, as_json: bool
) -> None:
    """Show a metric by segment: the last week against before, and which segment carries the change.

    Example: quarterdeck metrics segments resolved --dimension tenant --days 28
    """
    from core.log.retrievals import Window, today_in
    from core.metrics.daily import get_metric
    from core.metrics.definition import say_metric_value
    from core.metrics.segments import report_metric_segments

    store = open_store(config)
    scope = find_scope(config, store, service)
    today = today_in(store, scope, now=datetime.now(UTC))
    window = Window(today - timedelta(days=days - 1), today)
    found = report_metric_segments(store, scope, get_metric(store, scope, name), window, dimension)

    def say(value: float | None) -> str:
        return "—" if value is None else say_metric_value(found.metric, value)

    lines = [found.sentence] + [
        f"  {each.value or '(none)':<24} {say(each.before):>14} before  {say(each.recent):>14} since  {each.count:,.0f}"
        for each in found.segments
    ]
    lines += [f"  {found.left_out} values with fewer are left out"] if found.left_out else []
    show(as_json, found, lines)


@metrics.command("add")
@click.argument("name")
@click.option(
    "--source", required=True,
    type=click.Choice(["similarity", "score", "event", "latency", "cost", "tokens", "state"]),
    help="Where the numbers come from.",
)  # fmt: skip
@click.option("--of", default="", metavar="NAME", help="The name of the score, event or state.")
@click.option(
    "--statistic", required=True, type=click.Choice(["mean", "ratio", "share", "percentile"]),
    help="What is made of the numbers.",
)  # fmt: skip
@click.option(
    "--per", default="", metavar="WHAT", help="Of a ratio: questions, values, users, or the name of an event."
)
@click.option("--at-least", type=float, help="Of a share: the number from which on a value counts.")
@click.option("--percentile", type=click.FloatRange(1, 99), default=95.0, show_default=True, help="Which percentile.")
@click.option("--better", type=click.Choice(["up", "down"]), help="Which way is better (default: as usual).")
@click.option("--margin", type=float, help="How much worse an arm may be (default: as usual for the statistic).")
@click.option(
    "--relative/--absolute", default=None,
    help="Whether the margin is a share of the stable figure (default: for latency, cost and tokens).",
)  # fmt: skip
@click.option("--unit", default="", help="The unit of a score or event, such as EUR.")
@click.option("--reason", required=True, help="Why: it goes into the audit trail.")
@common
def metrics_add(config: Config, *, name: str, reason: str, as_json: bool, **given: Any) -> None:
    """Define a metric under a name.

    Example: quarterdeck metrics add resolved --source event --of resolved --statistic share --margin 0.03
    --reason "support counts solved cases"
    """
    from core.metrics.definition import define_metric
    from core.metrics.operations import add_metric

    metric = define_metric(name, **given | {"better": given["better"] or ""})
    entry = add_metric(open_store(config), metric, Act(config.operator, reason, config.environment))
    show(as_json, {"entry": entry}, [f"{metric.name} is the {metric.definition} (audit entry {entry})"])


@metrics.command("remove")
@click.argument("name")
@click.option("--reason", required=True, help="Why: it goes into the audit trail.")
@common
def metrics_remove(config: Config, *, name: str, reason: str, as_json: bool) -> None:
    """Remove a metric. Running experiments keep it; canaries that name it wait.

    Example: quarterdeck metrics remove resolved --reason "nobody looks at it"
    """
    from core.metrics.operations import remove_metric

    entry = remove_metric(open_store(config), name, Act(config.operator, reason, config.environment))
    show(as_json, {"entry": entry}, [f"{name} is removed (audit entry {entry})"])

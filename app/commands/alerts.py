"""The commands `alerts …`: which webhooks are called when retrieval drifts."""

from datetime import UTC, datetime

import click

from app.commands.common import common, open_store, show
from core.audit.acts import Act
from core.config import Config


@click.group()
def alerts() -> None:
    """Manage the webhooks that are alerted when retrieval drifts."""


@alerts.command("list")
@common
def alerts_list(config: Config, *, as_json: bool) -> None:
    """List the alert rules, without their secrets.

    Example: quarterdeck alerts list
    """
    from core.alerts.delivery import list_alert_rules

    rules = list_alert_rules(open_store(config), config.environment)
    shown = [
        {"name": rule.name, "url": rule.url, "from_status": rule.from_status, "service": rule.service} for rule in rules
    ]
    show(
        as_json,
        shown,
        [f"{r['name']:<20} from {r['from_status']:<9} {r['service']:<12} {r['url']}" for r in shown]
        or ["no rules yet"],
    )


@alerts.command("add")
@click.argument("name")
@click.argument("url")
@click.option(
    "--secret", envvar="QUARTERDECK_ALERT_SECRET", required=True, help="Signs the body; at least 16 characters."
)
@click.option(
    "--from-status",
    type=click.Choice(["watch", "drifting"]),
    default="drifting",
    show_default=True,
    help="Alert from this state (watch includes drifting).",
)
@click.option("--service", default="", metavar="NAME", help="Only about this service (default: about every one).")
@click.option("--reason", required=True, help="Why: it goes into the audit trail.")
@common
def alerts_add(
    config: Config, *, name: str, url: str, secret: str, from_status: str, service: str, reason: str, as_json: bool
) -> None:
    """Call a webhook when retrieval drifts; the secret is best given as QUARTERDECK_ALERT_SECRET.

    Example: quarterdeck alerts add on-call https://example.org/hook --reason "weekly rota"
    """
    from core.alerts.alerts import AlertRule
    from core.alerts.operations import save_alert_rule
    from core.drift.verdict import DriftStatus

    rule = AlertRule(name, url, secret, DriftStatus(from_status), service.casefold())
    entry = save_alert_rule(open_store(config), rule, Act(config.operator, reason, config.environment))
    show(as_json, {"entry": entry}, [f"{name} is called from state {from_status} on (audit entry {entry})"])


@alerts.command("remove")
@click.argument("name")
@click.option("--reason", required=True, help="Why: it goes into the audit trail.")
@common
def alerts_remove(config: Config, *, name: str, reason: str, as_json: bool) -> None:
    """Remove an alert rule.

    Example: quarterdeck alerts remove on-call --reason "team was dissolved"
    """
    from core.alerts.operations import delete_alert_rule

    entry = delete_alert_rule(open_store(config), name, Act(config.operator, reason, config.environment))
    show(as_json, {"entry": entry}, [f"{name} is removed (audit entry {entry})"])


@alerts.command("check")
@common
def alerts_check(config: Config, *, as_json: bool) -> None:
    """Send due alerts now; the server does this automatically every minute.

    Example: quarterdeck alerts check
    """
    from core.alerts.delivery import check_alerts

    lines = check_alerts(open_store(config), config.environment, now=datetime.now(UTC))
    show(as_json, lines, lines or ["no alert is due"])

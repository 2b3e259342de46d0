"""The commands `alerts …`: rules over metrics, the channels that they tell, and how their messages fare."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import click

from app.commands.common import common, open_store, show
from core.audit.acts import Act
from core.config import Config

reason_option = click.option("--reason", required=True, help="Why: it goes into the audit trail.")


@click.group()
def alerts() -> None:
    """Be told when a metric goes wrong: rules, channels, and what became of their messages."""


def rule_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options that make a rule; `make_rule` reads them."""
    for option in (
        click.option("--metric", default="mean_score", show_default=True, help="What is watched."),
        click.option("--above", type=float, metavar="VALUE", help="Alert on values above this; without a limit, by the "
                     "sequential verdict."),
        click.option("--below", type=float, metavar="VALUE", help="Alert on values below this."),
        click.option("--warn-above", type=float, metavar="VALUE", help="Warn on values above this."),
        click.option("--warn-below", type=float, metavar="VALUE", help="Warn on values below this."),
        click.option("--for-days", type=int, default=1, show_default=True, help="How many days in a row it takes."),
        click.option("--no-data", type=click.Choice(["keep", "alert", "ok"]), default="keep", show_default=True,
                     help="What days without a value do."),
        click.option("--no-data-days", type=int, default=1, show_default=True, help="How many such days it takes."),
        click.option("--today", is_flag=True, help="Count the present day too, once it has 50 questions."),
        click.option("--from-status", type=click.Choice(["watch", "drifting"]), default="drifting", show_default=True,
                     help="By the verdict: alert from this state (watch includes drifting)."),
        click.option("--service", default="", metavar="NAME", help="Only about this service (default: every one)."),
    ):  # fmt: skip
        command = option(command)
    return command


def make_rule(name: str, given: dict[str, Any], channels: tuple[str, ...] = ()) -> Any:
    """Return the rule that the options describe. Raises InvalidInput."""
    from core.alerts.rules import AlertKind, AlertRule, Level, LimitSide, WithoutData
    from core.errors import InvalidInput

    above, below = (given["above"], given["warn_above"]), (given["below"], given["warn_below"])
    if any(limit is not None for limit in above) and any(limit is not None for limit in below):
        raise InvalidInput("below", "a rule looks at one side; give limits above or below, not both")
    side = LimitSide.ABOVE if any(limit is not None for limit in above) else LimitSide.BELOW
    alert, warning = above if side is LimitSide.ABOVE else below
    kind = AlertKind.VERDICT if alert is None and warning is None else AlertKind.THRESHOLD
    return AlertRule(
        name, given["metric"], kind, given["service"].casefold(), side, warning, alert,
        Level.WARNING if given["from_status"] == "watch" else Level.ALERT, given["for_days"],
        WithoutData(given["no_data"]), given["no_data_days"], given["today"], channels,
    )  # fmt: skip


@alerts.command("list")
@common
def alerts_list(config: Config, *, as_json: bool) -> None:
    """List the alert rules, and the state of each about each service.

    Example: quarterdeck alerts list
    """
    from core.alerts.report import report_alerts
    from core.alerts.rules import say_condition

    found = report_alerts(open_store(config), config.environment, now=datetime.now(UTC))
    channels = {channel.name: channel.shown for channel in found.book.channels}
    shown = [
        rule.to_json()
        | {
            "url": next((channels[name] for name in rule.channels if name in channels), ""),
            "from_status": "watch" if rule.from_level == "warning" else "drifting",
            "states": {line.service: str(line.shown) for line in found.lines if line.rule == rule},
        }
        for rule in found.book.rules
    ]
    lines = [
        f"{line.shown:<9} {line.rule.name:<20} {line.service:<16} {say_condition(line.rule)}" for line in found.lines
    ]
    watching = {line.rule.name for line in found.lines}
    lines += [f"{'—':<9} {rule.name}: no service yet" for rule in found.book.rules if rule.name not in watching]
    show(as_json, shown, [*lines, *found.book.problems] or ["no rules yet"])


@alerts.command("add")
@click.argument("name")
@click.argument("url", default="")
@click.option("--secret", envvar="QUARTERDECK_ALERT_SECRET", help="Signs the body of URL; at least 16 characters.")
@click.option("--channel", "channels", multiple=True, metavar="NAME", help="Tell this channel; can be given often.")
@rule_options
@reason_option
@common
def alerts_add(
    config: Config, *, name: str, url: str, secret: str | None, channels: tuple[str, ...], reason: str, as_json: bool,
    **given: Any,
) -> None:  # fmt: skip
    """Add an alert rule, or replace the one of that name.

    With URL it calls a webhook of its own; the secret is best given as QUARTERDECK_ALERT_SECRET.

    Example: quarterdeck alerts add on-call http://127.0.0.1:1/hook --reason "weekly rota"
    """
    from core.alerts.operations import save_alert_rule, save_webhook_rule
    from core.alerts.rules import say_condition

    rule, by, store = (
        make_rule(name, given, channels),
        Act(config.operator, reason, config.environment),
        open_store(config),
    )
    if url:
        entry = save_webhook_rule(store, rule, url=url, secret=secret or "", by=by)
    else:
        entry = save_alert_rule(store, rule, by)
    show(as_json, {"entry": entry}, [f"{name}: {say_condition(rule)} (audit entry {entry})"])


@alerts.command("remove")
@click.argument("name")
@reason_option
@common
def alerts_remove(config: Config, *, name: str, reason: str, as_json: bool) -> None:
    """Remove an alert rule; its channels learn that its alarms are over.

    Example: quarterdeck alerts remove on-call --reason "team was dissolved"
    """
    from core.alerts.operations import delete_alert_rule

    entry = delete_alert_rule(open_store(config), name, Act(config.operator, reason, config.environment))
    show(as_json, {"entry": entry}, [f"{name} is removed (audit entry {entry})"])


@alerts.command("backtest")
@rule_options
@common
def alerts_backtest(config: Config, *, as_json: bool, **given: Any) -> None:
    """Say how often a rule would have alerted in 90 days, and how many false alarms a year to expect.

    Example: quarterdeck alerts backtest --metric failed_share --above 0.05 --service docs-chat
    """
    from app.alerting import open_sources
    from core.alerts.backtests import describe_backtest
    from core.alerts.report import backtest_rule, choose_backtest_scope

    rule, store = make_rule("backtest", given), open_store(config)
    scope = choose_backtest_scope(store, rule, config.environment)
    found = backtest_rule(store, rule, open_sources(config, store), scope=scope, now=datetime.now(UTC))
    lines = [describe_backtest(found), *found.notes]
    lines += [f"{alarm.alerted_on}: {'; '.join(alarm.causes) or 'no change shortly before'}" for alarm in found.alarms]
    show(as_json, found, lines)


@alerts.command("check")
@common
def alerts_check(config: Config, *, as_json: bool) -> None:
    """Check every rule and send due messages now; the server does this automatically every minute.

    Example: quarterdeck alerts check
    """
    from app.alerting import open_sources
    from core.alerts.checking import check_alerts
    from core.alerts.delivery import deliver_alerts

    store, now = open_store(config), datetime.now(UTC)
    lines = check_alerts(store, config.environment, now=now, sources=open_sources(config, store))
    lines += deliver_alerts(store, config.environment, now=now, base=config.access.public_url)
    show(as_json, lines, lines or ["no alert is due"])


@alerts.command("snooze")
@click.argument("name")
@click.option("--service", default="default", show_default=True, metavar="NAME", help="About which service.")
@click.option("--hours", type=float, default=24.0, show_default=True, help="For how long; 0 brings it back.")
@reason_option
@common
def alerts_snooze(config: Config, *, name: str, service: str, hours: float, reason: str, as_json: bool) -> None:
    """Send no message about an alert for some hours, other than that it is over.

    Example: quarterdeck alerts snooze on-call --hours 8 --reason "known, being repaired"
    """
    from core.alerts.operations import LONGEST_SNOOZE_DAYS, snooze_alert
    from core.errors import InvalidInput

    if not 0 <= hours <= 24 * LONGEST_SNOOZE_DAYS:
        raise InvalidInput("hours", f"must be 0 to {24 * LONGEST_SNOOZE_DAYS:,}, not {hours:g}")
    now, by = datetime.now(UTC), Act(config.operator, reason, config.environment)
    entry = snooze_alert(open_store(config), name, service, by, until=now + timedelta(hours=hours), now=now)
    said = f"is snoozed for {hours:g} h" if hours else "is back"
    show(as_json, {"entry": entry}, [f"{name} {said} (audit entry {entry})"])


@alerts.command("resolve")
@click.argument("name")
@click.option("--service", default="default", show_default=True, metavar="NAME", help="About which service.")
@reason_option
@common
def alerts_resolve(config: Config, *, name: str, service: str, reason: str, as_json: bool) -> None:
    """Call an alarm resolved; it comes back if it gets worse, or after it was over.

    Example: quarterdeck alerts resolve on-call --reason "index was rebuilt"
    """
    from core.alerts.operations import resolve_alert

    by = Act(config.operator, reason, config.environment)
    entry = resolve_alert(open_store(config), name, service, by, now=datetime.now(UTC))
    show(as_json, {"entry": entry}, [f"{name} is resolved (audit entry {entry})"])


@alerts.command("channels")
@common
def alerts_channels(config: Config, *, as_json: bool) -> None:
    """List the channels, without their addresses and secrets.

    Example: quarterdeck alerts channels
    """
    from core.alerts.book import read_book

    shown = [channel.to_audit() for channel in read_book(open_store(config), config.environment).channels]
    show(as_json, shown, [f"{c['name']:<20} {c['kind']:<13} {c['address']}" for c in shown] or ["no channels yet"])


@alerts.command("channel-add")
@click.argument("name")
@click.option("--kind", type=click.Choice(["webhook", "alertmanager", "apprise"]), default="webhook", show_default=True,
              help="A signed webhook, Alertmanager's format, or a service that apprise knows.")  # fmt: skip
@click.option("--address", envvar="QUARTERDECK_ALERT_ADDRESS", required=True,
              help="An http(s) address; for apprise one like mailtos:// or slack://.")  # fmt: skip
@click.option("--secret", envvar="QUARTERDECK_ALERT_SECRET", default="", help="Signs the body; 16 characters or more.")
@reason_option
@common
def alerts_channel_add(
    config: Config, *, name: str, kind: str, address: str, secret: str, reason: str, as_json: bool
) -> None:
    """Add a channel, or replace the one of that name; address and secret are best given by the environment.

    Example: quarterdeck alerts channel-add ops --kind alertmanager --address http://127.0.0.1:1/ --reason "our pager"
    """
    from core.alerts.channels import Channel, ChannelKind
    from core.alerts.operations import save_channel

    channel = Channel(name, ChannelKind(kind), address, secret if kind != "apprise" else "")
    entry = save_channel(open_store(config), channel, Act(config.operator, reason, config.environment))
    show(as_json, {"entry": entry}, [f"{name} is a channel to {channel.shown} (audit entry {entry})"])


@alerts.command("channel-remove")
@click.argument("name")
@reason_option
@common
def alerts_channel_remove(config: Config, *, name: str, reason: str, as_json: bool) -> None:
    """Remove a channel that no rule uses, with its messages.

    Example: quarterdeck alerts channel-remove ops --reason "the pager is gone"
    """
    from core.alerts.operations import delete_channel

    entry = delete_channel(open_store(config), name, Act(config.operator, reason, config.environment))
    show(as_json, {"entry": entry}, [f"{name} is removed (audit entry {entry})"])


@alerts.command("test")
@click.argument("channel")
@reason_option
@common
def alerts_test(config: Config, *, channel: str, reason: str, as_json: bool) -> None:
    """Send a message to a channel that says that it is a test.

    Example: quarterdeck alerts test ops --reason "is the address right?"
    """
    from core.alerts.operations import try_channel

    by = Act(config.operator, reason, config.environment)
    entry = try_channel(
        open_store(config), channel, by, now=datetime.now(UTC), base=config.access.public_url
    )  # fmt: skip
    show(as_json, {"entry": entry}, [f"{channel} took the message (audit entry {entry})"])


@alerts.command("log")
@common
def alerts_log(config: Config, *, as_json: bool) -> None:
    """List the messages of all channels, newest first: which arrived, wait or were given up, and why.

    Example: quarterdeck alerts log
    """
    from core.alerts.report import list_deliveries
    from quarterdeck.clock import from_ms

    found, problems = list_deliveries(open_store(config), config.environment)
    shown = [
        {
            "channel": each.channel, "number": each.delivery.number, "title": each.delivery.title,
            "made": from_ms(each.delivery.made_ms).isoformat(timespec="seconds"), "outcome": str(each.delivery.outcome),
            "attempts": each.delivery.attempts, "problem": each.delivery.problem,
        }
        for each in found
    ]  # fmt: skip
    lines = [
        f"{s['made']} {s['outcome']:<8} {s['channel']:<16} {s['number']:>4} {s['title']} {s['problem']}" for s in shown
    ]
    show(as_json, shown, [*lines, *problems] or ["no messages yet"])


@alerts.command("resend")
@click.argument("channel")
@click.argument("number", type=int)
@reason_option
@common
def alerts_resend(config: Config, *, channel: str, number: int, reason: str, as_json: bool) -> None:
    """Make a message due now that waits or was given up; the log has its number.

    Example: quarterdeck alerts resend ops 12 --reason "the receiver is back"
    """
    from core.alerts.operations import resend_message

    by = Act(config.operator, reason, config.environment)
    entry = resend_message(open_store(config), channel, number, by, now=datetime.now(UTC))
    show(as_json, {"entry": entry}, [f"message {number} is due (audit entry {entry})"])

"""Alerts: rules over metrics and their states, the channels that they tell, deliveries, and backtests."""

from datetime import UTC, date, datetime, timedelta
from typing import Annotated

from fastapi import Path, Query
from pydantic import ConfigDict, Field

from app.alerting import open_sources
from app.http.backends import get_config, get_store
from app.http.v1.callers import From
from app.http.v1.changes import ChangeAnswer, Make
from app.http.v1.models import (
    Answered,
    Asked,
    Environment,
    Limit,
    Page,
    Position,
    Reason,
    Reasoned,
    Service,
    Untrusted,
    cut_page,
)
from app.http.v1.routing import make_router
from core.alerts.backtests import describe_backtest
from core.alerts.channels import MOST_URL, Channel, ChannelKind
from core.alerts.operations import (
    LONGEST_SNOOZE_DAYS,
    delete_alert_rule,
    delete_channel,
    resend_message,
    resolve_alert,
    save_alert_rule,
    save_channel,
    save_webhook_rule,
    snooze_alert,
    try_channel,
)
from core.alerts.queue import SendOutcome
from core.alerts.report import AlertLine, ChannelDelivery, backtest_rule, list_deliveries, report_alerts
from core.alerts.rules import (
    LONGEST_NAME,
    MOST_DAYS,
    AlertKind,
    AlertRule,
    Level,
    LimitSide,
    WithoutData,
    say_condition,
)
from core.alerts.states import AlertStatus
from core.drift.verdict import DriftStatus
from core.errors import InvalidInput
from quarterdeck.clock import from_ms

router = make_router("alerts")

RuleName = Annotated[str, Path(min_length=1, max_length=LONGEST_NAME, examples=["on-call"])]
Days = Annotated[int, Field(ge=1, le=MOST_DAYS)]


class AlertAnswer(Answered):
    """An alert rule. Of its first channel's address only the server is shown: a path is often a secret too."""

    name: str
    url: str = Field(description="The server of the first channel; empty without one.")
    from_status: DriftStatus
    service: str = Field(description="Empty for every service of the environment.")
    metric: str
    kind: AlertKind
    side: LimitSide
    warning: float | None
    alert: float | None
    for_days: int
    no_data: WithoutData
    no_data_days: int
    counts_today: bool
    channels: tuple[str, ...]
    condition: str = Field(description="What the rule watches for, in words.")


class AlertFields(Asked):
    """What a rule watches. Without limits it judges by the sequential verdict of its metric."""

    metric: str = Field("mean_score", max_length=LONGEST_NAME)
    side: LimitSide = LimitSide.BELOW
    warning: float | None = Field(None, description="The limit of a warning.")
    alert: float | None = Field(None, description="The limit of an alert.")
    from_status: DriftStatus = Field(DriftStatus.DRIFTING, description="By the verdict: watch or drifting.")
    for_days: Days = 1
    no_data: WithoutData = WithoutData.KEEP
    no_data_days: Days = 1
    counts_today: bool = Field(False, description="Count the present day too, once it has 50 questions.")
    service: str = Field("", max_length=128)


class AlertChange(Reasoned, AlertFields):
    """A rule under its name. With `url` and `secret` it calls a signed webhook of its own; else name `channels`."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"metric": "failed_share", "side": "above", "alert": 0.05, "for_days": 2, "reason": "users notice"},
                {"metric": "latency_p95", "reason": "no limit fits: by the sequential verdict"},
            ]
        }
    )

    url: str = Field("", max_length=MOST_URL)
    secret: str = Field("", max_length=200)
    channels: tuple[Annotated[str, Field(max_length=LONGEST_NAME)], ...] = Field((), max_length=20)
    environment: str | None = Field(None, max_length=64)


class AlertStateAnswer(Answered):
    """The state of a rule about a service, as of its last check, and its latest changes of state."""

    rule: str
    service: str
    state: AlertStatus
    since: datetime | None
    value: float | None
    reason: str
    condition: str
    snoozed_until: datetime | None
    history: tuple["TransitionAnswer", ...]


class TransitionAnswer(Answered):
    """A change of an alert's state; `by` is empty where the rule itself changed it."""

    at: datetime
    state: AlertStatus
    value: float | None
    reason: str
    by: str


class AlertAct(Reasoned):
    """Which alert of a rule is meant."""

    service: str = Field("default", min_length=1, max_length=128)
    environment: str | None = Field(None, max_length=64)


class SnoozeChange(AlertAct):
    """For how long no message is sent; 0 brings the alert back."""

    hours: float = Field(24, ge=0, le=24 * LONGEST_SNOOZE_DAYS)


class ChannelAnswer(Answered):
    """A channel. Its address and its secret are never shown."""

    name: str
    kind: ChannelKind
    address: str = Field(description="The server or the service alone.")


class ChannelChange(Reasoned):
    """A channel under its name: a webhook, Alertmanager's format, or a service that apprise knows."""

    kind: ChannelKind = ChannelKind.WEBHOOK
    address: str = Field(min_length=1, max_length=MOST_URL)
    secret: str = Field("", max_length=200)
    environment: str | None = Field(None, max_length=64)


class ChannelAct(Reasoned):
    """Something that is done with a channel."""

    environment: str | None = Field(None, max_length=64)


class ResendChange(ChannelAct):
    """Which message is due now."""

    number: int = Field(ge=1, le=10**9)


class DeliveryAnswer(Answered):
    """A message on its way through a channel, or at its end."""

    channel: str
    number: int
    key: str = Field(description="The deduplication key of its alert.")
    title: str
    made: datetime
    outcome: SendOutcome
    attempts: int
    next_attempt: datetime | None
    problem: Untrusted[str] = Field(description="Why the last attempt failed; a receiver can have written it.")


class PastAlarmAnswer(Answered):
    """An alarm that a rule would have raised; `ended_on` is null while it lasts."""

    began_on: date
    alerted_on: date
    ended_on: date | None
    level: Level
    causes: Untrusted[tuple[str, ...]]


class BacktestAnswer(Answered):
    """What a rule would have done, and the false alarms a year to expect, with the span of nine years of ten."""

    service: str
    sentence: str
    days: int
    with_data: int
    alarms: tuple[PastAlarmAnswer, ...]
    false_alarms_a_year: float | None
    low: float | None
    high: float | None
    basis: str
    notes: tuple[str, ...]


@router.get("/v1/alerts", name="list_alert_rules")
def list_rules(
    caller: From, environment: Environment = None, limit: Limit = 50, cursor: Position = None
) -> Page[AlertAnswer]:
    """Return the alert rules of an environment."""
    named = caller.find_environment(environment)
    book = report_alerts(get_store(), named, now=datetime.now(UTC)).book
    shown = {channel.name: channel.shown for channel in book.channels}
    items, following = cut_page([_describe_rule(rule, shown) for rule in book.rules], cursor, limit)
    return Page[AlertAnswer](items=tuple(items), next=following)


@router.put("/v1/alerts/{name}", name="save_alert_rule")
def put_rule(name: RuleName, body: AlertChange, make: Make) -> ChangeAnswer:
    """Save an alert rule, replacing one of that name. The token needs the scope `admin`."""
    environment = make.caller.find_environment(body.environment)
    rule = _make_rule(name, body, body.channels)
    if body.url:
        return make.make(
            body.reason, environment,
            lambda act: save_webhook_rule(get_store(), rule, url=body.url, secret=body.secret, by=act),
        )  # fmt: skip
    return make.make(body.reason, environment, lambda act: save_alert_rule(get_store(), rule, act))


@router.delete("/v1/alerts/{name}", name="delete_alert_rule")
def delete_rule(name: RuleName, make: Make, reason: Reason, environment: Environment = None) -> ChangeAnswer:
    """Delete an alert rule; its channels learn that its alarms are over. The token needs the scope `admin`."""
    named = make.caller.find_environment(environment)
    return make.make(reason, named, lambda act: delete_alert_rule(get_store(), name, act))


@router.post("/v1/alerts/{name}/snooze", name="snooze_alert")
def snooze_rule(name: RuleName, body: SnoozeChange, make: Make) -> ChangeAnswer:
    """Send no message about an alert for some hours, other than that it is over."""
    now, environment = datetime.now(UTC), make.caller.find_environment(body.environment)
    until = now + timedelta(hours=body.hours)
    return make.make(
        body.reason, environment, lambda act: snooze_alert(get_store(), name, body.service, act, until=until, now=now)
    )


@router.post("/v1/alerts/{name}/resolve", name="resolve_alert")
def resolve_rule(name: RuleName, body: AlertAct, make: Make) -> ChangeAnswer:
    """Call an alarm resolved; it comes back if it gets worse, or after it was over."""
    environment = make.caller.find_environment(body.environment)
    return make.make(
        body.reason, environment,
        lambda act: resolve_alert(get_store(), name, body.service, act, now=datetime.now(UTC)),
    )  # fmt: skip


@router.get("/v1/alert-states", name="list_alert_states")
def list_states(
    caller: From, environment: Environment = None, limit: Limit = 50, cursor: Position = None
) -> Page[AlertStateAnswer]:
    """Return the state of every alert of an environment, worst first."""
    found = report_alerts(get_store(), caller.find_environment(environment), now=datetime.now(UTC))
    items, following = cut_page(found.lines, cursor, limit)
    return Page[AlertStateAnswer](items=tuple(map(_describe_line, items)), next=following)


@router.get("/v1/alert-channels", name="list_alert_channels")
def list_channels(
    caller: From, environment: Environment = None, limit: Limit = 50, cursor: Position = None
) -> Page[ChannelAnswer]:
    """Return the channels of an environment."""
    book = report_alerts(get_store(), caller.find_environment(environment), now=datetime.now(UTC)).book
    items, following = cut_page(book.channels, cursor, limit)
    return Page[ChannelAnswer](items=tuple(ChannelAnswer(**each.to_audit()) for each in items), next=following)


@router.put("/v1/alert-channels/{name}", name="save_alert_channel")
def put_channel(name: RuleName, body: ChannelChange, make: Make) -> ChangeAnswer:
    """Save a channel, replacing one of that name. The token needs the scope `admin`."""
    environment = make.caller.find_environment(body.environment)
    channel = Channel(name, body.kind, body.address, body.secret)
    return make.make(body.reason, environment, lambda act: save_channel(get_store(), channel, act))


@router.delete("/v1/alert-channels/{name}", name="delete_alert_channel")
def remove_channel(name: RuleName, make: Make, reason: Reason, environment: Environment = None) -> ChangeAnswer:
    """Delete a channel that no rule uses, with its messages. The token needs the scope `admin`."""
    named = make.caller.find_environment(environment)
    return make.make(reason, named, lambda act: delete_channel(get_store(), name, act))


@router.post("/v1/alert-channels/{name}/test", name="test_alert_channel")
def test_channel(name: RuleName, body: ChannelAct, make: Make) -> ChangeAnswer:
    """Send a message that says that it is a test. The token needs the scope `admin`."""
    environment, base = make.caller.find_environment(body.environment), get_config().access.public_url
    return make.make(
        body.reason, environment,
        lambda act: try_channel(get_store(), name, act, now=datetime.now(UTC), base=base),
    )  # fmt: skip


@router.post("/v1/alert-channels/{name}/resend", name="resend_alert_message")
def resend(name: RuleName, body: ResendChange, make: Make) -> ChangeAnswer:
    """Make a message due now that waits or was given up. The token needs the scope `admin`."""
    environment = make.caller.find_environment(body.environment)
    return make.make(
        body.reason, environment,
        lambda act: resend_message(get_store(), name, body.number, act, now=datetime.now(UTC)),
    )  # fmt: skip


@router.get("/v1/alert-deliveries", name="list_alert_deliveries")
def list_sent(
    caller: From, environment: Environment = None, limit: Limit = 50, cursor: Position = None
) -> Page[DeliveryAnswer]:
    """Return the messages of all channels, newest first: which arrived, wait or were given up."""
    found, _ = list_deliveries(get_store(), caller.find_environment(environment))
    items, following = cut_page(found, cursor, limit)
    return Page[DeliveryAnswer](items=tuple(map(_describe_delivery, items)), next=following)


Number = Annotated[float | None, Query(description="A limit of the rule.")]
SomeDays = Annotated[int, Query(ge=1, le=MOST_DAYS)]


@router.get("/v1/alert-backtest", name="backtest_alert")
def backtest(
    caller: From, metric: Annotated[str, Query(max_length=LONGEST_NAME)] = "mean_score",
    side: LimitSide = LimitSide.BELOW, warning: Number = None,
    alert: Number = None, for_days: SomeDays = 1, no_data: WithoutData = WithoutData.KEEP,
    no_data_days: SomeDays = 1, environment: Environment = None, service: Service = None,
) -> BacktestAnswer:  # fmt: skip
    """Return how often a rule would have alerted in 90 days, and how many false alarms a year to expect.

    Without a limit it judges by the sequential verdict of its metric.
    """
    scope = caller.find_scope(environment, service)
    fields = AlertFields(  # type: ignore[call-arg]  # the others are as they are without
        metric=metric, side=side, warning=warning, alert=alert, for_days=for_days, no_data=no_data,
        no_data_days=no_data_days,
    )  # fmt: skip
    rule, store, config = _make_rule("backtest", fields, ()), get_store(), get_config()
    found = backtest_rule(store, rule, open_sources(config, store), scope=scope, now=datetime.now(UTC))
    expected = found.false_alarms
    return BacktestAnswer(
        service=scope.service, sentence=describe_backtest(found), days=found.days, with_data=found.with_data,
        alarms=tuple(map(PastAlarmAnswer.model_validate, found.alarms)), false_alarms_a_year=expected.a_year,
        low=expected.low, high=expected.high, basis=expected.basis, notes=found.notes,
    )  # fmt: skip


def _make_rule(name: str, given: AlertFields, channels: tuple[str, ...]) -> AlertRule:
    if given.from_status not in (DriftStatus.WATCH, DriftStatus.DRIFTING):
        raise InvalidInput("from_status", "must be watch or drifting")
    is_plain = given.alert is not None or given.warning is not None
    return AlertRule(
        name, given.metric, AlertKind.THRESHOLD if is_plain else AlertKind.VERDICT, given.service, given.side,
        given.warning, given.alert, Level.WARNING if given.from_status is DriftStatus.WATCH else Level.ALERT,
        given.for_days, given.no_data, given.no_data_days, given.counts_today, channels,
    )  # fmt: skip


def _describe_rule(rule: AlertRule, shown: dict[str, str]) -> AlertAnswer:
    url = next((shown[name] for name in rule.channels if name in shown), "")
    status = DriftStatus.WATCH if rule.from_level is Level.WARNING else DriftStatus.DRIFTING
    told = {name: value for name, value in rule.to_json().items() if name != "from_level"}
    return AlertAnswer(url=url, from_status=status, condition=say_condition(rule), **told)


def _describe_line(line: AlertLine) -> AlertStateAnswer:
    state = line.state
    history = tuple(
        TransitionAnswer(at=from_ms(e.at_ms), state=e.status, value=e.value, reason=e.reason, by=e.by)
        for e in reversed(state.history)
    )
    return AlertStateAnswer(
        rule=line.rule.name, service=line.service, state=line.shown, value=state.value, reason=state.reason,
        since=from_ms(state.since_ms) if state.since_ms else None, condition=say_condition(line.rule),
        snoozed_until=from_ms(state.snoozed_until_ms) if line.shown is AlertStatus.SNOOZED else None, history=history,
    )  # fmt: skip


def _describe_delivery(found: ChannelDelivery) -> DeliveryAnswer:
    each = found.delivery
    waits = each.outcome is SendOutcome.WAITING
    return DeliveryAnswer(
        channel=found.channel, number=each.number, key=each.key, title=each.title, made=from_ms(each.made_ms),
        outcome=each.outcome, attempts=each.attempts, problem=each.problem,
        next_attempt=from_ms(max(each.next_ms, each.made_ms)) if waits else None,
    )  # fmt: skip

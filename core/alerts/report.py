"""Shell: reports how alerts stand: the state of each rule about each service, deliveries, and a rule's backtest."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from core.alerts.backtests import (
    Backtest,
    PastAlarm,
    expect_false_alarms,
    find_quiet,
    name_causes,
    replay_days,
    replay_episodes,
)
from core.alerts.book import AlertBook, find_former_state, get_queue, read_book, read_states
from core.alerts.metrics import MEAN_SCORE, ValueSource
from core.alerts.queue import QueuedMessage, SendOutcome
from core.alerts.readings import DayValue
from core.alerts.rules import AlertKind, AlertRule, Level
from core.alerts.states import AlertState, AlertStatus
from core.alerts.values import AlertSources, ScopeValues
from core.drift.report import report_episodes
from core.errors import InvalidInput
from core.log.retrievals import list_scopes_of
from quarterdeck.clock import start_of, to_ms
from quarterdeck.scope import DEFAULT_SERVICE, Scope, fold_environment
from quarterdeck.store import Store

BACKTEST_DAYS = 90
QUIET_WITHIN = 365  # days before the present among which quiet ones are looked for


@dataclass(frozen=True, slots=True)
class AlertLine:
    """One rule about one service: its state, and what people see of it now."""

    rule: AlertRule
    service: str
    state: AlertState
    shown: AlertStatus


@dataclass(frozen=True, slots=True)
class ChannelDelivery:
    """A message of a channel's queue."""

    channel: str
    delivery: QueuedMessage


@dataclass(frozen=True, slots=True)
class AlertOverview:
    """The alerts of an environment, worst first, and what its rules and channels are."""

    book: AlertBook
    lines: tuple[AlertLine, ...]

    @property
    def alarmed(self) -> tuple[AlertLine, ...]:
        """The alerts that are on now, without those that are snoozed."""
        return tuple(line for line in self.lines if line.shown.is_alarmed)


_ORDER = (
    AlertStatus.FIRING, AlertStatus.WARNING, AlertStatus.NO_DATA, AlertStatus.SNOOZED, AlertStatus.RESOLVED,
    AlertStatus.OK,
)  # fmt: skip


def report_alerts(store: Store, environment: str, *, now: datetime) -> AlertOverview:
    """Return how the alerts of an environment stood when they were last checked."""
    book = read_book(store, environment)
    scopes = list_scopes_of(store, environment) if book.rules else ()
    lines: list[AlertLine] = []
    for rule in book.rules:
        states, _ = read_states(store, environment, rule.name)
        shared = rule.watched.is_shared
        services = [DEFAULT_SERVICE] if shared else [s.service for s in scopes if rule.service in ("", s.service)]
        for service in services:
            state = states.get(service) or find_former_state(store, Scope(fold_environment(environment), service), rule)
            lines.append(AlertLine(rule, service, state, state.shown(to_ms(now))))
    lines.sort(key=lambda line: (_ORDER.index(line.shown), line.rule.name, line.service))
    return AlertOverview(book, tuple(lines))


def list_deliveries(store: Store, environment: str) -> tuple[tuple[ChannelDelivery, ...], tuple[str, ...]]:
    """Return the messages of all channels, newest first, and one line for each queue that cannot be read."""
    found: list[ChannelDelivery] = []
    problems: list[str] = []
    for channel in read_book(store, environment).channels:
        try:
            queue, _ = get_queue(store, environment, channel.name)
        except InvalidInput as error:
            problems.append(f"{channel.name}: {error}")
            continue
        found += [ChannelDelivery(channel.name, each) for each in queue]
    found.sort(key=lambda each: (each.delivery.made_ms, each.delivery.number), reverse=True)
    return tuple(found), tuple(problems)


def count_undelivered(deliveries: Sequence[ChannelDelivery]) -> tuple[int, int]:
    """Return how many messages failed and are tried again, and how many were given up."""
    outcomes = [each.delivery.outcome for each in deliveries if each.delivery.attempts]
    return outcomes.count(SendOutcome.WAITING), outcomes.count(SendOutcome.GIVEN_UP)


def backtest_rule(
    store: Store, rule: AlertRule, sources: AlertSources, *, scope: Scope, now: datetime, days: int = BACKTEST_DAYS
) -> Backtest:
    """Return what a rule would have done about a scope over the last whole days, and the false alarms to expect.

    Raises InvalidInput for a metric without a history, and SourceUnavailable.
    """
    if rule.watched.source is ValueSource.NOW:
        raise InvalidInput("metric", f"{rule.metric} has a value now and no history, so there is nothing to replay")
    values = ScopeValues(store, scope, sources, now=now, days=QUIET_WITHIN)
    last = values.today - timedelta(days=1)
    first = last - timedelta(days=days - 1)
    every = tuple(day for day in values.list_days(rule.watched) if day.day <= last)
    episodes = report_episodes(store, scope=scope, today=values.today)
    changes = sources.changes(scope, start_of(values.today - timedelta(days=QUIET_WITHIN))) if sources.changes else ()
    if rule.kind is AlertKind.VERDICT:
        called = episodes if rule.metric == MEAN_SCORE else values.list_changes(rule.watched)
        alarms: tuple[PastAlarm, ...] = replay_episodes(called, first=first, last=last)
        quiet: tuple[DayValue, ...] = ()
    else:
        since = every[0].day if every else first
        alarms = replay_days(rule, every, first=min(first, since), last=last)
        quiet = find_quiet(every, name_causes(alarms, changes), episodes, last=last)
    shown = name_causes([alarm for alarm in alarms if alarm.alerted_on >= first], changes)
    notes = []
    if rule.kind is AlertKind.VERDICT and rule.from_level is Level.WARNING:
        notes.append("Only called changes are counted here; the state watch comes more often.")
    if rule.counts_today:
        notes.append("Days are whole here; a rule that counts the present day may alert earlier, and more often.")
    with_data = sum(day.value is not None and day.day >= first for day in every)
    return Backtest(first, last, with_data, shown, expect_false_alarms(rule, quiet), tuple(notes))


def choose_backtest_scope(store: Store, rule: AlertRule, environment: str) -> Scope:
    """Return the scope to replay: the rule's service, else the only one. Raises InvalidInput, listing several."""
    if rule.service:
        return Scope(fold_environment(environment), rule.service)
    scopes = list_scopes_of(store, environment)
    if len(scopes) > 1:
        named = ", ".join(scope.service for scope in scopes)
        raise InvalidInput("service", f"name one for the backtest: {named}")
    return scopes[0]

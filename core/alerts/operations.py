"""Shell: changes alert rules and channels, snoozes and resolves alerts, tests channels; each with its audit entry."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from core.alerts.book import (
    AlertBook,
    get_queue,
    get_queue_version,
    read_book,
    read_states,
    save_book,
    save_queue,
    save_states,
)
from core.alerts.channels import Channel, ChannelKind, check_url
from core.alerts.checking import end_alarms, put_in_queues
from core.alerts.delivery import Send, send_message
from core.alerts.messages import compose_message, compose_test, make_title
from core.alerts.metrics import OWN
from core.alerts.queue import add_message, claim, note_sent, send_again
from core.alerts.rules import AlertRule
from core.alerts.services import check_service
from core.alerts.states import AlertState, find_due, resolve, snooze
from core.audit.actions import Action
from core.audit.acts import Act, Change, changing, require
from core.errors import Conflict, InvalidInput, NotFound
from core.metrics.records import get_own_metric, list_own_metrics
from quarterdeck.clock import from_ms, to_ms
from quarterdeck.scope import Scope, fold_environment
from quarterdeck.store import Store

LONGEST_SNOOZE_DAYS = 365
MOST_ENTRIES = 200
_TRIES = 5

Entries = list[dict[str, Any]]


def save_alert_rule(store: Store, rule: AlertRule, by: Act) -> int:
    """Add an alert rule or replace the one with its name. Raises InvalidInput for a channel that is not there.

    Where the rule fires, channels that it tells no longer learn that it is over for them, and new ones that it fires.
    """
    _check_metric(store, rule, by.environment)

    def save() -> int:
        book = read_book(store, by.environment)
        for name in rule.channels:
            if book.find_channel(name) is None:
                known = ", ".join(channel.name for channel in book.channels) or "none"
                raise InvalidInput("channels", f"there is no channel {name!r} in {by.environment}; there are: {known}")
        with changing(store, by) as change:
            _save_rule(store, change, book, rule)
        return change.entry_id

    return _retry(save)


def save_webhook_rule(store: Store, rule: AlertRule, *, url: str, secret: str, by: Act) -> int:
    """Save a rule that calls one webhook of its own: a channel with the name of the rule is saved with it."""
    channel, rule = Channel(rule.name, ChannelKind.WEBHOOK, url, secret), replace(rule, channels=(rule.name,))
    _check_address(channel)
    _check_metric(store, rule, by.environment)

    def save() -> int:
        book = read_book(store, by.environment)
        former, channels = _replace(book.stored["channels"], channel.name, channel.to_json())
        known = tuple(each for each in book.channels if each.name != channel.name)
        stored = {**book.stored, "channels": channels}
        with changing(store, by) as change:
            change.record(Action.ALERT_CHANNEL, channel.name, _without_secrets(former), channel)
            _save_rule(store, change, replace(book, channels=(*known, channel), stored=stored), rule)
        return change.entry_id

    return _retry(save)


def delete_alert_rule(store: Store, name: str, by: Act) -> int:
    """Remove an alert rule. What its channels were told is told to be over. Raises NotFound."""
    book = read_book(store, by.environment)
    before, rules = _replace(book.stored["rules"], name, None)
    if before is None:
        raise NotFound(f"alert rule: there is no rule {name!r} in {by.environment}")
    rule = book.find_rule(name)
    with changing(store, by) as change:
        _save(change, book, rules=rules)
        if rule:
            _end_rule(store, change, book, rule)
        change.record(Action.ALERT_DELETE, name, _without_secrets(before), None)
    return change.entry_id


def save_channel(store: Store, channel: Channel, by: Act) -> int:
    """Add a channel or replace the one with its name. Its address and secret are stored, but never shown or audited.

    Raises InvalidInput for an address that cannot be called.
    """
    _check_address(channel)
    book = read_book(store, by.environment)
    former, channels = _replace(book.stored["channels"], channel.name, channel.to_json())
    with changing(store, by) as change:
        _save(change, book, channels=channels)
        change.record(Action.ALERT_CHANNEL, channel.name, _without_secrets(former), channel)
    return change.entry_id


def delete_channel(store: Store, name: str, by: Act) -> int:
    """Remove a channel with its messages. Raises NotFound, and InvalidInput while a rule tells it."""
    book = read_book(store, by.environment)
    former, channels = _replace(book.stored["channels"], name, None)
    if former is None:
        raise NotFound(f"channel: there is no channel {name!r} in {by.environment}")
    if using := [rule.name for rule in book.rules if name in rule.channels]:
        raise InvalidInput("channel", f"the rules {', '.join(using)} use {name}; change or remove them first")
    version = get_queue_version(store, by.environment, name)
    with changing(store, by) as change:
        _save(change, book, channels=channels)
        if version:
            save_queue(change.connection, by.environment, name, (), expected_version=version)
        change.record(Action.ALERT_CHANNEL_DELETE, name, _without_secrets(former), None)
    return change.entry_id


def try_channel(store: Store, name: str, by: Act, *, now: datetime, base: str = "", send: Send = send_message) -> int:
    """Send a message to a channel that says that it is a test, and note it in the log of deliveries.

    Raises NotFound, and SourceUnavailable when it did not arrive; then nothing is noted, and it is not tried again.
    """
    channel = read_book(store, by.environment).find_channel(name)
    if channel is None:
        raise NotFound(f"channel: there is no channel {name!r} in {by.environment}")
    require(by, Action.ALERT_TEST)
    message = compose_test(name, environment=by.environment, now=now)
    send(channel, message, base)
    return _retry(lambda: _note_test(store, name, message, by, now_ms=to_ms(now)))


def resend_message(store: Store, channel: str, number: int, by: Act, *, now: datetime) -> int:
    """Make a message due now that was given up or waits. Raises InvalidInput if there is none of that number."""

    def change_queue() -> int:
        queue, version = get_queue(store, by.environment, channel)
        changed = send_again(queue, number, now_ms=to_ms(now))
        with changing(store, by) as change:
            save_queue(change.connection, by.environment, channel, changed, expected_version=version)
            change.record(Action.ALERT_RESEND, channel, None, {"number": number})
        return change.entry_id

    return _retry(change_queue)


def snooze_alert(store: Store, rule: str, service: str, by: Act, *, until: datetime, now: datetime) -> int:
    """Put an alert off until a time, at most a year; one that is not in the future brings it back.

    Raises InvalidInput, and NotFound for a rule or a service without a state.
    """
    until_ms = to_ms(until)
    if until_ms - to_ms(now) > LONGEST_SNOOZE_DAYS * 86_400_000:
        raise InvalidInput("until", f"must be at most {LONGEST_SNOOZE_DAYS} days away")
    told = {"service": service, "until": from_ms(until_ms).isoformat() if until_ms > to_ms(now) else None}

    def put_off(state: AlertState) -> AlertState:
        return snooze(state, until_ms=until_ms, by=by.actor, now_ms=to_ms(now))

    return _retry(lambda: _change_state(store, rule, service, put_off, by, told, now=now))


def resolve_alert(store: Store, rule: str, service: str, by: Act, *, now: datetime) -> int:
    """Call an alarm resolved: its channels learn that it is over. It comes back if it gets worse, or after it was over.

    Raises InvalidInput for an alert that is not alarmed, and NotFound.
    """

    def end(state: AlertState) -> AlertState:
        if not state.status.is_alarmed:
            raise InvalidInput("alert", f"{rule} is {state.status}, there is nothing to resolve")
        return resolve(state, by=by.actor, now_ms=to_ms(now))

    told = {"service": service}
    return _retry(lambda: _change_state(store, rule, service, end, by, told, now=now))


def _change_state(
    store: Store, name: str, service: str, change_it: Callable[[AlertState], AlertState], by: Act,
    told: Mapping[str, Any], *, now: datetime,
) -> int:  # fmt: skip
    book = read_book(store, by.environment)
    rule = book.find_rule(name)
    if rule is None:
        raise NotFound(f"alert rule: there is no rule {name!r} in {by.environment}")
    states, version = read_states(store, by.environment, name)
    if service not in states:
        raise NotFound(f"alert: {name} has no state about {service!r} yet")
    after = change_it(states[service])
    due = find_due(after, now_ms=to_ms(now))
    with changing(store, by) as change:
        if due:
            message = compose_message(rule, after, due, scope=Scope(fold_environment(by.environment), service), now=now)
            put_in_queues(store, change.connection, book, rule, [message], environment=by.environment, now=now)
            after = replace(after, told=due)
        kept = {**states, service: after}
        save_states(change.connection, by.environment, name, kept, expected_version=version)
        ends = "until" not in told
        change.record(
            Action.ALERT_RESOLVE if ends else Action.ALERT_SNOOZE,
            name,
            {"service": service, "state": str(states[service].status)},
            told,
        )
    return change.entry_id


def _save_rule(store: Store, change: Change, book: AlertBook, rule: AlertRule) -> None:
    """Save a rule, and tell what the edit changes for the channels of one that fires."""
    before, rules = _replace(book.stored["rules"], rule.name, rule.to_json())
    _save(change, book, rules=rules)
    if former := book.find_rule(rule.name):
        _tell_edit(store, change, book, former, rule)
    change.record(Action.ALERT_SAVE, rule.name, _without_secrets(before), rule.to_json())


def _tell_edit(store: Store, change: Change, book: AlertBook, former: AlertRule, rule: AlertRule) -> None:
    environment, now = change.act.environment, from_ms(change.at_ms)
    states, version = read_states(store, environment, rule.name)
    alarmed = {service: state for service, state in states.items() if state.told.status.is_alarmed}
    is_another = (former.metric, former.kind) != (rule.metric, rule.kind)
    if not version or not (alarmed or is_another):
        return
    left = former.channels if is_another else tuple(name for name in former.channels if name not in rule.channels)
    reason = "The rule watches something else now." if is_another else "The rule does not tell this channel any more."
    gone = replace(former, channels=left)
    end_alarms(store, change.connection, book, gone, alarmed, reason=reason, environment=environment, now=now)
    if is_another:
        save_states(change.connection, environment, rule.name, {}, expected_version=version)
        return
    added = replace(rule, channels=tuple(name for name in rule.channels if name not in former.channels))
    for service, state in alarmed.items():
        if not state.is_snoozed(change.at_ms):
            scope = Scope(fold_environment(environment), service)
            message = compose_message(rule, state, state.told, scope=scope, now=now)
            put_in_queues(store, change.connection, book, added, [message], environment=environment, now=now)
    # Written anew, so that a check that ends an alarm meanwhile is a conflict.
    save_states(change.connection, environment, rule.name, states, expected_version=version)


def _end_rule(store: Store, change: Change, book: AlertBook, rule: AlertRule) -> None:
    """Tell the channels of a rule that is removed that its alarms are over, and forget its states."""
    environment, now = change.act.environment, from_ms(change.at_ms)
    states, version = read_states(store, environment, rule.name)
    if version:
        reason = "The rule was removed."
        end_alarms(store, change.connection, book, rule, states, reason=reason, environment=environment, now=now)
        save_states(change.connection, environment, rule.name, {}, expected_version=version)


def _note_test(store: Store, name: str, message: Mapping[str, Any], by: Act, *, now_ms: int) -> int:
    queue, version = get_queue(store, by.environment, name)
    added = add_message(queue, message, make_title(message), now_ms=now_ms)
    number = added[-1].number
    noted = note_sent(claim(added, number, now_ms=now_ms), number, now_ms=now_ms)
    with changing(store, by) as change:
        save_queue(change.connection, by.environment, name, noted, expected_version=version)
        change.record(Action.ALERT_TEST, name, None, {"sent": make_title(message)})
    return change.entry_id


def _save(change: Change, book: AlertBook, *, rules: Entries | None = None, channels: Entries | None = None) -> None:
    stored = {
        "rules": book.stored["rules"] if rules is None else rules,
        "channels": book.stored["channels"] if channels is None else channels,
    }
    for name, entries in stored.items():
        if len(entries) > MOST_ENTRIES:
            raise InvalidInput(name, f"an environment has at most {MOST_ENTRIES}")
    save_book(change.connection, change.act.environment, stored, expected_version=book.version)


def _replace(entries: Entries, name: str, entry: dict[str, Any] | None) -> tuple[dict[str, Any] | None, Entries]:
    """Return the former entry of a name, and the entries with another one in its place; one that is None is removed."""
    named = [each for each in entries if isinstance(each, dict) and each.get("name") == name]
    former, kept = next(iter(named), None), [each for each in entries if each not in named]
    return former, [*kept, entry] if entry else kept


def _without_secrets(entry: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Return a channel, or a rule of release 0.1 with its webhook, as the audit trail may know it."""
    if entry is None:
        return None
    return {name: value for name, value in entry.items() if name not in ("secret", "address", "url")}


def _check_metric(store: Store, rule: AlertRule, environment: str) -> None:
    name = rule.metric.removeprefix(OWN)
    if rule.metric.startswith(OWN) and get_own_metric(store, environment, name)[0] is None:
        own = ", ".join(each.name for each in list_own_metrics(store, environment)) or "none"
        raise InvalidInput("metric", f"there is no own metric {name!r} in {environment}; there are: {own}")


def _check_address(channel: Channel) -> None:
    if channel.kind is ChannelKind.APPRISE:
        check_service(channel.address)
    else:
        check_url(channel.address)


def _retry(change: Callable[[], int]) -> int:
    """Make a change of what the server changes too, at most five times. Raises the last Conflict."""
    for _ in range(_TRIES - 1):
        try:
            return change()
        except Conflict:
            continue
    return change()

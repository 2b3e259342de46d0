"""Gateway to what alerts keep in the store: rules and channels of an environment, states, and queues of messages.

A rule, a channel, a state or a queue that cannot be read harms no other. What release 0.1 wrote is read as it is, and
written anew with the first change.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection

from core.alerts.channels import Channel, read_channel
from core.alerts.queue import Queue, read_queue
from core.alerts.rules import AlertRule, convert_rule, read_rule
from core.alerts.states import AlertState, convert_told, read_state, write_state
from core.audit.settings import Family, SettingKey, get_setting, save_setting, scope_key, setting_key
from core.errors import InvalidInput
from quarterdeck.scope import DEFAULT_SERVICE, Scope
from quarterdeck.store import Store


@dataclass(frozen=True, slots=True)
class AlertBook:
    """The rules and channels of an environment, by name; `problems` says which of them cannot be read.

    `stored` is what the store holds, so that a change of one entry keeps the others as they are.
    """

    rules: tuple[AlertRule, ...]
    channels: tuple[Channel, ...]
    problems: tuple[str, ...]
    stored: Mapping[str, list[dict[str, Any]]]
    version: int

    def find_channel(self, name: str) -> Channel | None:
        """Return the channel of that name."""
        return next((channel for channel in self.channels if channel.name == name), None)

    def find_rule(self, name: str) -> AlertRule | None:
        """Return the rule of that name."""
        return next((rule for rule in self.rules if rule.name == name), None)


def read_book(store: Store, environment: str) -> AlertBook:
    """Return the rules and channels of an environment."""
    stored, version = get_setting(store, _book_key(environment))
    if not stored:
        stored = _convert(get_setting(store, setting_key(Family.ALERT_RULES, environment)).value)
    rules: dict[str, AlertRule] = {}
    channels: dict[str, Channel] = {}
    problems: list[str] = []
    for told in stored["rules"]:
        try:
            rule = read_rule(told)
            rules[rule.name] = rule
        except InvalidInput as error:
            problems.append(f"rule {_name(told)}: {error}")
    for told in stored["channels"]:
        try:
            channel = read_channel(told)
            channels[channel.name] = channel
        except InvalidInput as error:
            problems.append(f"channel {_name(told)}: {error}")
    in_order = tuple(rules[name] for name in sorted(rules)), tuple(channels[name] for name in sorted(channels))
    return AlertBook(*in_order, tuple(problems), stored, version)


def save_book(
    connection: Connection, environment: str, stored: Mapping[str, list[dict[str, Any]]], *, expected_version: int
) -> None:
    """Save the rules and channels. Raises Conflict if somebody else was faster."""
    save_setting(connection, _book_key(environment), dict(stored), expected_version=expected_version)


def read_states(store: Store, environment: str, rule: str) -> tuple[dict[str, AlertState], int]:
    """Return the states of a rule by service, and the version that the next writer expects."""
    stored, version = get_setting(store, _key(Family.ALERT_STATE, environment, rule))
    return {service: read_state(told) for service, told in (stored or {}).items()}, version


def find_former_state(store: Store, scope: Scope, rule: AlertRule) -> AlertState:
    """Return the state that follows from what release 0.1 told the webhook of this rule; a new one if nothing."""
    stored, _ = get_setting(store, scope_key(Family.ALERT_TOLD, scope, rule.name))
    return convert_told(stored) if stored else AlertState()


def save_states(
    connection: Connection, environment: str, rule: str, states: Mapping[str, AlertState], *, expected_version: int
) -> None:
    """Save the states of a rule. Raises Conflict if somebody else was faster."""
    told = {service: write_state(state) for service, state in states.items()}
    save_setting(connection, _key(Family.ALERT_STATE, environment, rule), told, expected_version=expected_version)


def get_queue(store: Store, environment: str, channel: str) -> tuple[Queue, int]:
    """Return the messages of a channel, and the version that the next writer expects. Raises InvalidInput."""
    stored, version = get_setting(store, _key(Family.ALERT_QUEUE, environment, channel))
    return read_queue(stored), version


def get_queue_version(store: Store, environment: str, channel: str) -> int:
    """Return the version of a queue that the next writer expects, also of one that cannot be read."""
    return get_setting(store, _key(Family.ALERT_QUEUE, environment, channel)).version


def save_queue(connection: Connection, environment: str, channel: str, queue: Queue, *, expected_version: int) -> None:
    """Save the messages of a channel. Raises Conflict if somebody else was faster."""
    told = [each.to_json() for each in queue]
    save_setting(connection, _key(Family.ALERT_QUEUE, environment, channel), told, expected_version=expected_version)


def _convert(former: list[dict[str, Any]] | None) -> dict[str, list[dict[str, Any]]]:
    """Return the rules of release 0.1 as rules and channels; one that cannot be converted is named, not used."""
    rules, channels = [], []
    for told in former or ():
        try:
            rule, channel = convert_rule(told)
        except (InvalidInput, KeyError, TypeError):
            rules.append(told)
        else:
            rules.append(rule)
            channels.append(channel)
    return {"rules": rules, "channels": channels}


def _book_key(environment: str) -> SettingKey:
    return setting_key(Family.ALERTS, environment)


def _key(family: Family, environment: str, name: str) -> SettingKey:
    return scope_key(family, Scope(environment, DEFAULT_SERVICE), name)


def _name(told: Mapping[str, Any]) -> str:
    return repr(str(told.get("name", ""))[:100]) if isinstance(told, Mapping) else "without a name"

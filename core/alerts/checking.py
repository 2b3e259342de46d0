"""Shell: checks every alert rule: reads its metric, moves its state, and puts the messages that are due in the queues.

A state and its messages are stored in one transaction: no alarm is told twice or lost when a server dies between them.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from sqlalchemy import Connection

from core.alerts.book import AlertBook, find_former_state, get_queue, read_book, read_states, save_queue, save_states
from core.alerts.messages import Message, compose_message, make_title
from core.alerts.queue import add_message
from core.alerts.rules import AlertRule
from core.alerts.states import AlertState, apply_reading, find_due
from core.alerts.values import AlertSources, ScopeValues
from core.audit.environments import list_environments
from core.errors import Conflict, QuarterdeckError
from core.log.retrievals import list_scopes_of
from quarterdeck.clock import to_ms
from quarterdeck.scope import DEFAULT_SERVICE, Scope
from quarterdeck.store import Store

logger = logging.getLogger("quarterdeck")

NO_SOURCES = AlertSources()


def check_alerts(
    store: Store, environment: str, *, now: datetime, sources: AlertSources = NO_SOURCES
) -> tuple[str, ...]:
    """Check the rules of an environment; return one line for each message that is now in a queue, and each problem.

    A rule that cannot be read or checked is named, and the others are checked all the same. If another server was
    faster, nothing is stored here: the next check sees what it did.
    """
    book = read_book(store, environment)
    scopes = list_scopes_of(store, environment) if book.rules else ()
    values: dict[Scope, ScopeValues] = {}
    lines = [*book.problems]
    for rule in book.rules:
        try:
            lines += _check_rule(store, book, rule, _choose_scopes(rule, scopes, environment), values, sources, now)
        except Conflict:
            continue
        except Exception as error:  # no rule may stop the others
            kind = "" if isinstance(error, QuarterdeckError) else f"{type(error).__name__}: "
            logger.debug("alert %s", rule.name, exc_info=error)
            lines.append(f"{rule.name}: {kind}{' '.join(str(error).split())[:300]}")
            logger.warning("alert %s", lines[-1])
    return tuple(lines)


def check_all_alerts(store: Store, own: str, sources: AlertSources, *, now: datetime) -> tuple[str, ...]:
    """Call `check_alerts` for every environment in the store, and for the server's `own`."""
    found: list[str] = []
    for name in list_environments(store, own):
        found += check_alerts(store, name, now=now, sources=sources)
    return tuple(found)


def put_in_queues(
    store: Store, connection: Connection, book: AlertBook, rule: AlertRule, messages: Sequence[Message], *,
    environment: str, now: datetime,
) -> None:  # fmt: skip
    """Put messages into the queue of every channel of a rule; channels that are gone are left out. Raises Conflict."""
    for name in dict.fromkeys(rule.channels):
        if book.find_channel(name) is None:
            continue
        queue, version = get_queue(store, environment, name)
        for message in messages:
            queue = add_message(queue, message, make_title(message), now_ms=to_ms(now))
        save_queue(connection, environment, name, queue, expected_version=version)


def _choose_scopes(rule: AlertRule, scopes: tuple[Scope, ...], environment: str) -> tuple[Scope, ...]:
    if rule.watched.is_shared:
        return (Scope(environment, DEFAULT_SERVICE),)
    return tuple(scope for scope in scopes if rule.service in ("", scope.service))


def _check_rule(
    store: Store, book: AlertBook, rule: AlertRule, scopes: tuple[Scope, ...], values: dict[Scope, ScopeValues],
    sources: AlertSources, now: datetime,
) -> Iterator[str]:  # fmt: skip
    for scope in scopes:
        if scope not in values:
            values[scope] = ScopeValues(store, scope, sources, now=now)
        reading = values[scope].read(rule)
        states, version = read_states(store, scope.environment, rule.name)
        before = states.get(scope.service) or find_former_state(store, scope, rule)
        after = apply_reading(before, reading, rule, now_ms=to_ms(now))
        due = find_due(after, now_ms=to_ms(now))
        told = replace(after, told=due) if due else after
        if told == states.get(scope.service):
            continue
        with store.begin() as connection:
            if due:
                message = compose_message(rule, after, due, scope=scope, now=now)
                put_in_queues(store, connection, book, rule, [message], environment=scope.environment, now=now)
            kept: Mapping[str, AlertState] = {**states, scope.service: told}
            save_states(connection, scope.environment, rule.name, kept, expected_version=version)
        if due:
            where = "" if scope.service == DEFAULT_SERVICE else f" of {scope.service}"
            yield f"{rule.name}: {rule.watched.title.lower()}{where} is {due.status}"

"""Shell: checks every alert rule: reads its metric, moves its state, and puts the messages that are due in the queues.

A state and its messages are stored in one transaction: no alarm is told twice or lost when a server dies between them.
"""

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial

from sqlalchemy import Connection

from core.alerts.book import AlertBook, find_former_state, get_queue, read_book, read_states, save_queue, save_states
from core.alerts.messages import Message, compose_message, make_title
from core.alerts.queue import add_message
from core.alerts.rules import AlertRule
from core.alerts.states import AlertState, AlertStatus, Told, apply_reading, find_due
from core.alerts.values import AlertSources, ScopeValues
from core.audit.environments import list_environments
from core.errors import Conflict, InvalidInput, QuarterdeckError
from core.log.retrievals import list_scopes_of
from quarterdeck.clock import to_ms
from quarterdeck.scope import DEFAULT_SERVICE, Scope, fold_environment
from quarterdeck.store import Store

logger = logging.getLogger("quarterdeck")

NO_SOURCES = AlertSources()
SPARE_DAYS = 7  # read beside those that decide: days without a value are skipped


def check_alerts(
    store: Store, environment: str, *, now: datetime, sources: AlertSources = NO_SOURCES
) -> tuple[str, ...]:
    """Check the rules of an environment; return one line for each message that is now in a queue, and each problem.

    A rule that cannot be read or checked is named, and the others are checked all the same. If another server was
    faster, nothing is stored here: the next check sees what it did.
    """
    book = read_book(store, environment)
    scopes = list_scopes_of(store, environment) if book.rules else ()
    days = max((rule.for_days + rule.no_data_days for rule in book.rules), default=0) + SPARE_DAYS
    values = {scope: ScopeValues(store, scope, sources, now=now, days=days) for scope in scopes}
    lines = [*book.problems]
    for rule in book.rules:
        if rule.watched.is_shared:
            shared = Scope(fold_environment(environment), DEFAULT_SERVICE)
            chosen = [values.get(shared) or ScopeValues(store, shared, sources, now=now, days=days)]
        else:
            chosen = [values[scope] for scope in scopes if rule.service in ("", scope.service)]
        for each in chosen:
            lines += _try(rule, partial(_check_rule, store, book, rule, each, environment=environment, now=now))
        watched = {each.scope.service for each in chosen}
        lines += _try(rule, partial(_forget_unwatched, store, book, rule, watched, environment=environment, now=now))
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
    """Put messages into the queue of every channel of a rule. Raises Conflict.

    Channels that are gone are left out, and those whose queue cannot be read: the others are told all the same.
    """
    for name in dict.fromkeys(rule.channels):
        if book.find_channel(name) is None:
            continue
        try:
            queue, version = get_queue(store, environment, name)
        except InvalidInput as error:
            logger.warning("channel %s: %s", name, error)
            continue
        for message in messages:
            queue = add_message(queue, message, make_title(message), now_ms=to_ms(now))
        save_queue(connection, environment, name, queue, expected_version=version)


def end_alarms(
    store: Store, connection: Connection, book: AlertBook, rule: AlertRule, states: Mapping[str, AlertState], *,
    reason: str, environment: str, now: datetime,
) -> None:  # fmt: skip
    """Tell the channels of a rule that the alarms among these states, by service, are over. Raises Conflict."""
    over = Told(AlertStatus.RESOLVED)
    messages = [
        compose_message(
            rule, replace(state, reason=reason), over, scope=Scope(fold_environment(environment), service), now=now
        )
        for service, state in states.items()
        if state.told.status.is_alarmed
    ]
    if messages:
        put_in_queues(store, connection, book, rule, messages, environment=environment, now=now)


def _try(rule: AlertRule, check: Callable[[], Sequence[str]]) -> Sequence[str]:
    """Return the lines of a check, or the one that says why it failed: no rule and no service may stop the others."""
    try:
        return check()
    except Conflict:
        return ()
    except Exception as error:
        kind = "" if isinstance(error, QuarterdeckError) else f"{type(error).__name__}: "
        line = f"{rule.name}: {kind}{' '.join(str(error).split())[:300]}"
        logger.debug("alert %s", rule.name, exc_info=error)
        logger.warning("alert %s", line)
        return (line,)


def _check_rule(
    store: Store, book: AlertBook, rule: AlertRule, values: ScopeValues, *, environment: str, now: datetime
) -> Sequence[str]:
    scope, now_ms = values.scope, to_ms(now)
    reading = values.read(rule)
    states, version = read_states(store, environment, rule.name)
    before = states.get(scope.service) or find_former_state(store, scope, rule)
    after = apply_reading(before, reading, rule, now_ms=now_ms)
    due = find_due(after, now_ms=now_ms)
    told = replace(after, told=due) if due else after
    if told == states.get(scope.service):
        return ()
    with store.begin() as connection:
        if due:
            message = compose_message(rule, after, due, scope=scope, now=now)
            put_in_queues(store, connection, book, rule, [message], environment=environment, now=now)
        kept: Mapping[str, AlertState] = {**states, scope.service: told}
        save_states(connection, environment, rule.name, kept, expected_version=version)
    where = "" if scope.service == DEFAULT_SERVICE else f" of {scope.service}"
    return (f"{rule.name}: {rule.watched.title.lower()}{where} is {due.status}",) if due else ()


def _forget_unwatched(
    store: Store, book: AlertBook, rule: AlertRule, watched: Collection[str], *, environment: str, now: datetime
) -> Sequence[str]:
    """Forget the states of services that a rule is no longer about; their alarms are over."""
    states, version = read_states(store, environment, rule.name)
    gone = {service: state for service, state in states.items() if service not in watched}
    if gone:
        kept = {service: state for service, state in states.items() if service in watched}
        with store.begin() as connection:
            reason = "The rule is not about this service any more."
            end_alarms(store, connection, book, rule, gone, reason=reason, environment=environment, now=now)
            save_states(connection, environment, rule.name, kept, expected_version=version)
    return ()

"""Shell: checks the verdict regularly and sends alerts. The server and the command line run it."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

from core.alerts.alerts import AlertRule, Told, compose_message, decide_alert
from core.alerts.webhooks import post_signed
from core.audit.environments import list_environments
from core.audit.settings import Family, SettingKey, get_setting, save_setting, scope_key, setting_key
from core.drift.report import report_drift
from core.drift.verdict import DriftStatus
from core.errors import Conflict, SourceUnavailable
from core.log.retrievals import list_scopes_of, today_in
from quarterdeck.clock import to_ms
from quarterdeck.scope import DEFAULT_SERVICE, Scope
from quarterdeck.store import Store

logger = logging.getLogger("quarterdeck")

_CLAIMED = "claimed_ms"  # when a server began to send the next message
_SENT_WITHIN_MS = 120_000  # every try of `post_signed` has ended by then

Send = Callable[[str, Mapping[str, Any], str], int]


def list_alert_rules(store: Store, environment: str) -> tuple[AlertRule, ...]:
    """Return the environment's alert rules, by name."""
    stored, _ = get_setting(store, setting_key(Family.ALERT_RULES, environment))
    rules = [
        AlertRule(r["name"], r["url"], r["secret"], DriftStatus(r["from_status"]), r.get("service", ""))
        for r in stored or ()
    ]
    return tuple(sorted(rules, key=lambda rule: rule.name))


def check_alerts(store: Store, environment: str, *, now: datetime, send: Send = post_signed) -> tuple[str, ...]:
    """Send every webhook its due message about each service; return one line for each delivery or failure.

    A message is claimed in the store before it is sent, so only one of several servers sends it. An unreachable webhook
    is retried at the next check. So is a message whose sender died before it wrote down that it was sent: a webhook may
    get it twice, never not at all.
    """
    rules = list_alert_rules(store, environment)
    scopes = list_scopes_of(store, environment) if rules else ()
    return tuple(line for scope in scopes for line in _check_scope(store, scope, rules, now=now, send=send))


def check_all_alerts(store: Store, own: str, *, now: datetime) -> tuple[str, ...]:
    """Call `check_alerts` for every environment in the store, and for the server's `own`."""
    return tuple(line for name in list_environments(store, own) for line in check_alerts(store, name, now=now))


def _check_scope(store: Store, scope: Scope, rules: Sequence[AlertRule], *, now: datetime, send: Send) -> Iterator[str]:
    wanted = [rule for rule in rules if rule.service in ("", scope.service)]
    if not wanted:
        return
    report = report_drift(store, scope=scope, today=today_in(store, scope, now=now)).report
    where = "" if scope.service == DEFAULT_SERVICE else f" of {scope.service}"
    for rule in wanted:
        name = scope_key(Family.ALERT_TOLD, scope, rule.name)
        stored, version = get_setting(store, name)
        if stored and _is_being_sent(stored, now):
            continue
        told = Told(stored["alarmed"], stored["changed_on"]) if stored else Told()
        due = decide_alert(rule, told, report)
        if due is None or not _save(store, name, {**asdict(told), _CLAIMED: to_ms(now)}, version):
            continue
        try:
            send(rule.url, compose_message(rule, report, scope=scope, now=now), rule.secret)
        except SourceUnavailable as error:
            _save(store, name, asdict(told), version + 1)
            yield f"{rule.name}: {error}"
            logger.warning("alert %s: %s", rule.name, error)
        except BaseException:
            _save(store, name, asdict(told), version + 1)  # nobody was notified
            raise
        else:
            _save(store, name, asdict(due), version + 1)
            yield f"{rule.name}: sent that retrieval{where} is {report.status}"


def _is_being_sent(stored: Mapping[str, Any], now: datetime) -> bool:
    """Return whether another server claimed the message lately; a clock may have jumped in either direction."""
    return _CLAIMED in stored and abs(to_ms(now) - stored[_CLAIMED]) < _SENT_WITHIN_MS


def _save(store: Store, name: SettingKey, state: Mapping[str, Any], version: int) -> bool:
    try:
        with store.begin() as connection:
            save_setting(connection, name, dict(state), expected_version=version)
    except Conflict:
        return False
    return True

"""Shell: checks the verdict regularly and sends alerts. The server and the command line run it."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import asdict
from datetime import datetime
from typing import Any

from core.alerts.alerts import AlertRule, Told, compose_message, decide_alert
from core.alerts.webhooks import post_signed
from core.audit.settings import Family, SettingKey, get_setting, save_setting, setting_key
from core.drift.report import report_drift
from core.drift.verdict import DriftStatus
from core.errors import Conflict, SourceUnavailable
from quarterdeck.store import Store

logger = logging.getLogger("quarterdeck")

Send = Callable[[str, Mapping[str, Any], str], int]


def list_alert_rules(store: Store, environment: str) -> tuple[AlertRule, ...]:
    """Return the environment's alert rules, by name."""
    stored, _ = get_setting(store, setting_key(Family.ALERT_RULES, environment))
    rules = [AlertRule(r["name"], r["url"], r["secret"], DriftStatus(r["from_status"])) for r in stored or ()]
    return tuple(sorted(rules, key=lambda rule: rule.name))


def check_alerts(store: Store, environment: str, *, now: datetime, send: Send = post_signed) -> tuple[str, ...]:
    """Send every webhook its due message; return one line for each delivery or failure.

    A message is claimed in the store before it is sent, so only one of several servers sends it. An unreachable webhook
    is retried at the next check.
    """
    lines = []
    rules = list_alert_rules(store, environment)
    if not rules:
        return ()
    report = report_drift(store, environment=environment, today=now.date()).report
    for rule in rules:
        name = setting_key(Family.ALERT_TOLD, environment, rule.name)
        stored, version = get_setting(store, name)
        told = Told(**stored) if stored else Told()
        due = decide_alert(rule, told, report)
        if due is None or not _claim(store, name, due, version):
            continue
        try:
            send(rule.url, compose_message(rule, report, environment=environment, now=now), rule.secret)
            lines.append(f"{rule.name}: sent that retrieval is {report.status}")
        except SourceUnavailable as error:
            _claim(store, name, told, version + 1)
            lines.append(f"{rule.name}: {error}")
            logger.warning("alert %s: %s", rule.name, error)
        except BaseException:
            _claim(store, name, told, version + 1)  # nobody was notified
            raise
    return tuple(lines)


def _claim(store: Store, name: SettingKey, told: Told, version: int) -> bool:
    try:
        with store.begin() as connection:
            save_setting(connection, name, asdict(told), expected_version=version)
    except Conflict:
        return False
    return True

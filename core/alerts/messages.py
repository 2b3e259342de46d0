"""Rule: the messages of alerts, in the three forms in which channels send them, and how a body is signed."""

import hashlib
import hmac
import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

from core.alerts.rules import AlertRule, say_condition
from core.alerts.states import AlertState, AlertStatus, Told
from quarterdeck.clock import from_ms
from quarterdeck.scope import Scope

Message = Mapping[str, Any]
NEVER = "0001-01-01T00:00:00Z"  # how Alertmanager writes that an alert has not ended
_SEVERITIES = {AlertStatus.FIRING: "critical", AlertStatus.WARNING: "warning", AlertStatus.NO_DATA: "warning"}
_FIELDS = {
    "event": "alert", "action": "", "changed_on": None, "recent_avg_score": None, "baseline_avg_score": None,
    "delta": None,
}  # fmt: skip


def make_key(scope: Scope, rule: str) -> str:
    """Return the deduplication key of a rule's alert about a service: the same for as long as both have their names."""
    return hashlib.sha256("\n".join((*scope, rule)).encode()).hexdigest()[:16]


def compose_message(rule: AlertRule, state: AlertState, due: Told, *, scope: Scope, now: datetime) -> dict[str, Any]:
    """Return what is to be told: state, metric, value and reason, without queries or secrets.

    `state` is firing, warning, no data or resolved; `level` that of the alarm, also once it is over.
    """
    is_over = not due.status.is_alarmed
    alarm = state.told.status if is_over else due.status
    fields = dict(_FIELDS) | {"status": str(due.status), "questions": _link(scope)} | dict(state.evidence)
    return fields | {
        "key": make_key(scope, rule.name),
        "rule": rule.name,
        "environment": scope.environment,
        "service": scope.service,
        "state": str(due.status),
        "level": _SEVERITIES.get(alarm, "critical"),
        "metric": rule.metric,
        "value": state.value,
        "condition": say_condition(rule),
        "reason": state.reason,
        "since": from_ms(state.alarmed_ms).isoformat() if state.alarmed_ms else now.isoformat(),
        "ended": now.isoformat() if is_over else None,
    }


def compose_test(channel: str, *, environment: str, now: datetime) -> dict[str, Any]:
    """Return a message that says of itself that it is a test."""
    scope = Scope(environment, "")
    reason = f"This is a test of the channel {channel}. Nothing is wrong."
    return dict(_FIELDS) | {
        "event": "test", "status": "test", "questions": _link(scope), "key": make_key(scope, f"test of {channel}"),
        "rule": "test", "environment": environment, "service": "", "state": "test", "level": "warning",
        "metric": "", "value": None, "condition": "a test", "reason": reason, "since": now.isoformat(),
        "ended": now.isoformat(),
    }  # fmt: skip


def make_title(message: Message) -> str:
    """Return a message in a line."""
    state, place = str(message["state"]).upper(), message["environment"]
    of = f"{message['service']} in {place}" if message["service"] else place
    return f"[{state}] {of}: {message['rule']}"


def write_webhook(message: Message, *, sent: datetime) -> bytes:
    """Return the JSON body of a signed webhook."""
    return json.dumps({**message, "sent": sent.isoformat()}, ensure_ascii=False, sort_keys=True).encode()


def write_alertmanager(message: Message, *, receiver: str, base: str) -> bytes:
    """Return the body of Alertmanager's webhook, version 4: a group of one alert.

    The fingerprint is our deduplication key: it stays when the severity changes. Source: the Alertmanager's
    documentation of `webhook_config`.
    """
    labels = {
        "alertname": message["rule"], "environment": message["environment"], "service": message["service"],
        "metric": message["metric"], "severity": message["level"],
    }  # fmt: skip
    annotations = {"summary": make_title(message), "description": message["reason"]}
    status = "firing" if message["ended"] is None else "resolved"
    grouped = {name: labels[name] for name in ("alertname", "environment", "service")}
    named = ", ".join(f"{name}={json.dumps(value, ensure_ascii=False)}" for name, value in grouped.items())
    alert = {
        "status": status, "labels": labels, "annotations": annotations, "startsAt": message["since"],
        "endsAt": message["ended"] or NEVER, "generatorURL": f"{base}{message['questions']}" if base else "",
        "fingerprint": message["key"],
    }  # fmt: skip
    body = {
        "version": "4", "groupKey": f"{{}}:{{{named}}}", "truncatedAlerts": 0, "status": status, "receiver": receiver,
        "groupLabels": grouped, "commonLabels": labels, "commonAnnotations": annotations, "externalURL": base,
        "alerts": [alert],
    }  # fmt: skip
    return json.dumps(body, ensure_ascii=False, sort_keys=True).encode()


def write_text(message: Message, *, base: str) -> str:
    """Return the body of a message for people: why, what the rule watches, since when, and a link to the questions."""
    lines = [str(message["reason"])]
    if message["action"]:
        lines.append(str(message["action"]))
    lines += ["", f"Rule: {message['rule']} ({message['condition']})", f"Since: {message['since']}"]
    if base:
        lines.append(f"{base}{message['questions']}")
    return "\n".join(lines)


def sign(secret: str, timestamp: int, body: bytes) -> str:
    """Return the signature for the header `X-Quarterdeck-Signature`: HMAC-SHA256 over "timestamp.body".

    The receiver computes the same from `X-Quarterdeck-Timestamp` (seconds) and the raw body, compares in constant
    time, and rejects timestamps older than a few minutes, to prevent replays.
    """
    return "sha256=" + hmac.new(secret.encode(), f"{timestamp}.".encode() + body, hashlib.sha256).hexdigest()


def _link(scope: Scope) -> str:
    return f"/alerts?{urlencode({'environment': scope.environment, 'service': scope.service})}"

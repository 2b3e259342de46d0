"""Rule that says which alerts are due: rules, what was last told and today's verdict in, messages out."""

import hashlib
import hmac
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

from core.drift.verdict import DriftReport, DriftStatus
from core.errors import InvalidInput

SHORTEST_SECRET = 16
_RANK = {DriftStatus.INSUFFICIENT_DATA: 0, DriftStatus.STABLE: 0, DriftStatus.WATCH: 1, DriftStatus.DRIFTING: 2}


@dataclass(frozen=True, slots=True)
class AlertRule:
    """Whom to tell about drift: a webhook that is called when the verdict reaches `from_status`, and when it is over.

    `secret` signs the body (see `sign`). Raises InvalidInput, naming the field.
    """

    name: str
    url: str
    secret: str
    from_status: DriftStatus = DriftStatus.DRIFTING

    def __post_init__(self) -> None:
        if not self.name.strip() or len(self.name) > 100 or not self.name.isprintable():
            raise InvalidInput("name", "must be 1 to 100 printable characters")
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username:
            raise InvalidInput("url", "must be an http or https address without a password in it")
        if len(self.secret) < SHORTEST_SECRET:
            raise InvalidInput("secret", f"must have at least {SHORTEST_SECRET} characters, to sign with")
        if self.from_status not in (DriftStatus.WATCH, DriftStatus.DRIFTING):
            raise InvalidInput("from_status", "must be watch or drifting")


@dataclass(frozen=True, slots=True)
class Told:
    """What a rule's webhook was last told: whether it is alarmed, and about which dated change."""

    alarmed: bool = False
    changed_on: str = ""


def decide_alert(rule: AlertRule, told: Told, report: DriftReport) -> Told | None:
    """Return what the webhook should be told now, or None when it knows already.

    It is told once when the verdict reaches the rule's status, again when a drop of another date is found, and once
    when it is over. Too little data tells nothing, so that a quiet night does not end an alarm.
    """
    if report.status is DriftStatus.INSUFFICIENT_DATA:
        return None
    alarmed = _RANK[report.status] >= _RANK[rule.from_status]
    changed_on = report.changed_on.isoformat() if alarmed and report.changed_on else ""
    now = Told(alarmed, changed_on)
    if now == told or (not alarmed and not told.alarmed):
        return None
    return now


def compose_message(rule: AlertRule, report: DriftReport, *, environment: str, now: datetime) -> dict[str, Any]:
    """Return the JSON body of an alert: the verdict with its numbers, no query and no secret."""
    return {
        "event": "drift",
        "rule": rule.name,
        "environment": environment,
        "status": str(report.status),
        "reason": report.reason,
        "action": report.action,
        "changed_on": report.changed_on.isoformat() if report.changed_on else None,
        "recent_avg_score": report.recent_avg_score,
        "baseline_avg_score": report.baseline_avg_score,
        "delta": report.delta,
        "sent": now.isoformat(),
    }


def sign(secret: str, timestamp: int, body: bytes) -> str:
    """Return the signature that the header `X-Quarterdeck-Signature` carries: HMAC-SHA256 over "timestamp.body".

    The receiver computes the same from `X-Quarterdeck-Timestamp` (seconds) and the raw body, compares in constant
    time, and refuses timestamps older than some minutes, so that a copied request cannot be sent again.
    """
    return "sha256=" + hmac.new(secret.encode(), f"{timestamp}.".encode() + body, hashlib.sha256).hexdigest()

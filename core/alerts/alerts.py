"""Rule: which alerts are due. Takes the alert rules, what was sent last and today's verdict; returns messages."""

import hashlib
import hmac
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any
from urllib.parse import urlencode, urlsplit

from core.drift.verdict import DriftReport, DriftStatus
from core.errors import InvalidInput
from quarterdeck.retrieval import STATES
from quarterdeck.scope import Scope

SHORTEST_SECRET = 16
MOST_URL = 2_000
_RANK = {
    DriftStatus.INSUFFICIENT_DATA: 0,
    DriftStatus.STABLE: 0,
    DriftStatus.WATCH: 1,
    DriftStatus.DRIFTING: 2,
    DriftStatus.OUTAGE: 3,
}


@dataclass(frozen=True, slots=True)
class AlertRule:
    """A webhook that is called when the drift verdict of a service reaches `from_status`, and when the alert is over.

    It is called for `service`, or for every service of its environment if that is "". `secret` signs the body (see
    `sign`). Raises InvalidInput, naming the field.
    """

    name: str
    url: str
    secret: str
    from_status: DriftStatus = DriftStatus.DRIFTING
    service: str = ""

    def __post_init__(self) -> None:
        if not self.name.strip() or len(self.name) > 100 or not self.name.isprintable():
            raise InvalidInput("name", "must be 1 to 100 printable characters")
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username:
            raise InvalidInput("url", "must be an http or https address without a password in it")
        if len(self.secret) < SHORTEST_SECRET:
            raise InvalidInput("secret", f"must have at least {SHORTEST_SECRET} characters, because it signs messages")
        if self.from_status not in (DriftStatus.WATCH, DriftStatus.DRIFTING):
            raise InvalidInput("from_status", "must be watch or drifting")


def check_url(url: str) -> None:
    """Raise InvalidInput for an address that cannot be called: it has spaces, line breaks or an invalid port."""
    try:
        port = urlsplit(url).port
    except ValueError as error:
        raise InvalidInput("url", f"{error}") from error
    if port == 0 or len(url) > MOST_URL or not all("!" <= letter <= "~" for letter in url):
        raise InvalidInput("url", f"must be at most {MOST_URL:,} printable ASCII characters without spaces")


@dataclass(frozen=True, slots=True)
class Told:
    """The last message to a rule's webhook: whether it is alarmed, and about which dated change."""

    alarmed: bool = False
    changed_on: str = ""


def decide_alert(rule: AlertRule, told: Told, report: DriftReport) -> Told | None:
    """Return the next message for the webhook, or None if it is up to date.

    It gets one message when the verdict reaches the rule's status, another when a drop with a new date is found or an
    outage begins, and one when it is over. Every rule tells of outages. Too little data sends nothing, so a quiet night
    does not end an alert.
    """
    if report.status is DriftStatus.INSUFFICIENT_DATA:
        return None
    alarmed = _RANK[report.status] >= _RANK[rule.from_status]
    changed_on = _tell_change(report) if alarmed else ""
    now = Told(alarmed, changed_on)
    if now == told or (not alarmed and not told.alarmed):
        return None
    return now


def compose_message(rule: AlertRule, report: DriftReport, *, scope: Scope, now: datetime) -> dict[str, Any]:
    """Return the JSON body of an alert: the verdict with its numbers, without queries or secrets."""
    return {
        "event": "outage" if report.status is DriftStatus.OUTAGE else "drift",
        "rule": rule.name,
        "environment": scope.environment,
        "service": scope.service,
        "status": str(report.status),
        "reason": report.reason,
        "action": report.action,
        "changed_on": changed_on.isoformat() if (changed_on := _changed_on(report)) else None,
        "recent_avg_score": report.recent_avg_score,
        "baseline_avg_score": report.baseline_avg_score,
        "delta": report.delta,
        "questions": _link_to_questions(report, scope),
        "sent": now.isoformat(),
    }


def _link_to_questions(report: DriftReport, scope: Scope) -> str:
    """Return the path, under the deck's address, of the questions behind an alert."""
    changed_on = _changed_on(report)
    is_outage = report.status is DriftStatus.OUTAGE
    wanted = [("state", state) for state in STATES[1:]] if is_outage else [("low", "1")]
    since = [("since", changed_on.isoformat())] if changed_on else []
    return f"/questions?{urlencode([*wanted, *since, ('environment', scope.environment), ('service', scope.service)])}"


def _changed_on(report: DriftReport) -> date | None:
    return report.outage_since if report.status is DriftStatus.OUTAGE else report.changed_on


def _tell_change(report: DriftReport) -> str:
    """Return the date of the change as it is remembered; that of an outage is no drop's."""
    changed_on = _changed_on(report)
    kind = "outage " if report.status is DriftStatus.OUTAGE else ""
    return f"{kind}{changed_on.isoformat()}" if changed_on else kind.strip()


def sign(secret: str, timestamp: int, body: bytes) -> str:
    """Return the signature for the header `X-Quarterdeck-Signature`: HMAC-SHA256 over "timestamp.body".

    The receiver computes the same from `X-Quarterdeck-Timestamp` (seconds) and the raw body, compares in constant
    time, and rejects timestamps older than a few minutes, to prevent replays.
    """
    return "sha256=" + hmac.new(secret.encode(), f"{timestamp}.".encode() + body, hashlib.sha256).hexdigest()

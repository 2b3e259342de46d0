"""Rule: reads GitHub's webhooks: whether one is signed, and what change its event reports.

Source: https://docs.github.com/en/webhooks/webhook-events-and-payloads
"""

import hashlib
import hmac
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from core.causes.outside import (
    GITHUB,
    MAX_ACTOR,
    MAX_ID,
    MAX_TITLE,
    MAX_URL,
    OutsideChange,
    OutsideKind,
    check_change,
)
from core.errors import InvalidInput
from quarterdeck.scope import make_scope

_FAILED = ("failure", "error")


def is_signed(body: bytes, signature: str, secret: str) -> bool:
    """Return whether `X-Hub-Signature-256` is the HMAC-SHA256 of the body under the secret."""
    expected = f"sha256={hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()}"
    return hmac.compare_digest(expected.encode(), signature.encode("utf-8", "replace"))


def read_event(event: str, payload: object, *, environment: str, now: datetime) -> OutsideChange | None:
    """Return the change that an event reports, or None if it reports none.

    A deployment belongs to the environment that it names, everything else to `environment`; both are of all services.
    The name of a change is made of the signed body alone, so that a delivery that is sent again is the same change.
    Raises InvalidInput for a wrong payload.
    """
    read = _EVENTS.get(event)
    if read is None:
        return None
    if not isinstance(payload, Mapping):
        raise InvalidInput("body", "must be a JSON object")
    told = read(payload)
    if told is None:
        return None
    place = make_scope(told.pop("environment", None) or environment).environment
    ts = min(_read_time(told.pop("ts"), now), now + timedelta(days=1))
    repository, title, url = _text(payload, "repository", "full_name"), told.pop("title"), told.pop("url")
    return check_change(
        OutsideChange(
            ts,
            environment=place,
            title=_shorten(f"{repository}: {title}" if repository else title, MAX_TITLE),
            url=_shorten(url, MAX_URL) if url.startswith("https://") else "",
            actor=_shorten(_text(payload, "sender", "login"), MAX_ACTOR),
            external_id=f"{repository}:{told.pop('id')}"[-MAX_ID:],
            source=GITHUB,
            **told,
        )
    )


def _read_deployment(payload: Mapping[str, Any]) -> dict[str, Any] | None:
    if payload.get("action", "created") != "created":
        return None
    return _deployment(payload, "requested") | {"reach": 0.0}


def _read_status(payload: Mapping[str, Any]) -> dict[str, Any] | None:
    status = _part(payload, "deployment_status")
    state = status.get("state")
    if state != "success" and state not in _FAILED:
        return None
    done = "done" if state == "success" else "failed"
    told = _deployment(payload, done) | {"reach": 1.0 if state == "success" else 0.0}
    named = _text(status, "environment")
    return told | {
        "ts": status.get("created_at"),
        "id": f"deployment_status-{_number(status, 'id')}",
        "url": _text(status, "target_url") or _text(status, "url"),
        "environment": named or told["environment"],
    }


def _deployment(payload: Mapping[str, Any], done: str) -> dict[str, Any]:
    found = _part(payload, "deployment")
    place = _text(found, "environment")
    return {
        "kind": OutsideKind.DEPLOY,
        "title": f"deployment of {_text(found, 'ref')[:100]} to {place[:64]} {done}",
        "ts": found.get("created_at"),
        "id": f"deployment-{_number(found, 'id')}",
        "url": _text(found, "url"),
        "environment": place,
    }


def _read_release(payload: Mapping[str, Any]) -> dict[str, Any] | None:
    release = _part(payload, "release")
    if payload.get("action") not in ("published", "released"):  # GitHub sends both for one release
        return None
    return {
        "kind": OutsideKind.RELEASE,
        "title": f"release {_text(release, 'name') or _text(release, 'tag_name')}",
        "ts": release.get("published_at"),
        "id": f"release-{_number(release, 'id')}",
        "url": _text(release, "html_url"),
    }


def _read_push(payload: Mapping[str, Any]) -> dict[str, Any] | None:
    branch = _text(payload, "repository", "default_branch")
    if not branch or payload.get("ref") != f"refs/heads/{branch}" or payload.get("deleted"):
        return None
    message = _text(payload, "head_commit", "message").partition("\n")[0]
    return {
        "kind": OutsideKind.PUSH,
        "title": f"push to {branch}: {message}",
        "ts": _part(payload, "repository").get("pushed_at"),
        "id": f"push-{_text(payload, 'after')[:64]}",
        "url": _text(payload, "compare"),
    }


_EVENTS = {
    "deployment": _read_deployment,
    "deployment_status": _read_status,
    "release": _read_release,
    "push": _read_push,
}


def _part(payload: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = payload.get(name)
    if not isinstance(found, Mapping):
        raise InvalidInput(name, "is missing")
    return found


def _text(payload: Mapping[str, Any], *path: str) -> str:
    """Return the text at a path; "" if there is none."""
    found: Any = payload
    for name in path:
        found = found.get(name) if isinstance(found, Mapping) else None
    return found if isinstance(found, str) else ""


def _number(payload: Mapping[str, Any], name: str) -> int:
    found = payload.get(name)
    if isinstance(found, bool) or not isinstance(found, int):
        raise InvalidInput(name, "must be a whole number")
    return found


def _read_time(given: object, now: datetime) -> datetime:
    """Return GitHub's time: ISO text, or seconds since 1970; now for none."""
    try:
        if isinstance(given, int) and not isinstance(given, bool):
            return datetime.fromtimestamp(given, UTC)
        found = datetime.fromisoformat(given) if isinstance(given, str) else now
    except (ValueError, OverflowError, OSError) as error:
        raise InvalidInput("ts", f"is no time: {str(given)[:40]!r}") from error
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _shorten(text: str, most: int) -> str:
    """Return the printable letters of a text, cut to `most`."""
    plain = "".join(letter if letter.isprintable() else " " for letter in text)
    return plain if len(plain) <= most else f"{plain[: most - 1]}…"

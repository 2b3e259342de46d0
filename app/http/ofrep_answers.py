"""Evaluations in the words of OFREP, as JSON. What a flag answers for a variant is written once per snapshot.

https://openfeature.dev/docs/reference/other-technologies/ofrep/
"""

import json
from collections.abc import Callable, Mapping
from functools import cached_property, partial
from typing import Any

from starlette.types import Receive, Scope, Send

from quarterdeck.flags import Evaluation
from quarterdeck.snapshot import Snapshot

_FAILURES = ("FLAG_NOT_FOUND", "PARSE_ERROR", "TARGETING_KEY_MISSING", "INVALID_CONTEXT")
# OFREP's document has no DEFAULT among its reasons; STATIC would invite clients to keep the value for everybody.
_REASONS = {"DEFAULT": "UNKNOWN"}
_LARGE_FLAG = 20_000  # characters of a definition: how much there is to evaluate, about a millisecond
_MANY_FLAGS = 100
_JSON = (b"content-type", b"application/json")
# JSON loads nothing and is framed by nobody. The pages' policy is long, and every header is searched for bad bytes.
_POLICY = (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'")


class Answers:
    """Writes evaluations of one snapshot. Without a value, the client uses the default in its code."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        self._known: dict[tuple[str, str | None, str], bytes] = {}
        self._sizes: dict[str, int] = {}

    def is_large(self, key: str) -> bool:
        """Whether evaluating a flag may take long enough for others to notice."""
        size = self._sizes.get(key)
        if size is None and key in self.snapshot.definitions:
            size = self._sizes[key] = len(repr(self.snapshot.definitions[key]))
        return (size or 0) > _LARGE_FLAG

    @cached_property
    def are_large(self) -> bool:
        """Whether evaluating all flags may take that long."""
        definitions = self.snapshot.definitions
        return len(definitions) > _MANY_FLAGS or len(repr(definitions)) > _LARGE_FLAG * 2

    def write(self, key: str, found: Evaluation) -> bytes:
        """Return one evaluation as JSON."""
        if found.error_code is not None:
            return to_json(_describe_failure(key, found))
        known = self._known.get((key, found.variant, found.reason))
        return known if known is not None else self._remember(key, found)

    def write_all(self, context: Mapping[str, Any]) -> bytes:
        """Return the evaluations of all flags for a context, as the items of a JSON list."""
        user, flags, parts = context.get("targetingKey"), self.snapshot.flags, []
        for key, decide in self._deciders:
            part = decide(user) if decide is not None else None
            parts.append(self.write(key, flags.resolve(key, context)) if part is None else part)
        return b",".join(parts)

    @cached_property
    def _deciders(self) -> list[tuple[str, Callable[[Any], bytes | None] | None]]:
        """By key, what finds a user's answer where nothing else in the context matters."""
        flags = self.snapshot.flags
        return [(key, flags.decider(key, partial(self.write, key))) for key in flags.keys()]  # noqa: SIM118

    def _remember(self, key: str, found: Evaluation) -> bytes:
        # The stock Python provider needs a variant even where there is none.
        answer: dict[str, Any] = {
            "key": key,
            "reason": _REASONS.get(found.reason, found.reason),
            "variant": found.variant or "",
        }
        if found.variant is not None:
            variants = self.snapshot.definitions.get(key, {}).get("variants", {})
            answer["value"] = _typed(found.value, variants)
        if found.flag_metadata:
            answer["metadata"] = found.flag_metadata
        return self._known.setdefault((key, found.variant, found.reason), to_json(answer))


class JsonAnswer:
    """A finished answer in JSON: what Starlette's Response sends, with less work."""

    __slots__ = ("_body", "_headers", "_status")

    def __init__(self, body: bytes, status: int = 200, headers: Mapping[str, str] | None = None) -> None:
        self._body = body
        self._status = status
        self._headers = [(name.lower().encode(), value.encode()) for name, value in (headers or {}).items()]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - as ASGI wants it
        """Send it."""
        length = (b"content-length", b"%d" % len(self._body))
        headers = [length, _JSON, _POLICY, *self._headers]
        await send({"type": "http.response.start", "status": self._status, "headers": headers})
        await send({"type": "http.response.body", "body": self._body})


def status_of_evaluation(found: Evaluation) -> int:
    """Return the status code of one flag's answer."""
    if found.error_code is None:
        return 200
    return 404 if found.error_code == "FLAG_NOT_FOUND" else 400


def to_json(value: Any) -> bytes:
    """Return JSON in ASCII, because text from a request may hold half a character."""
    return json.dumps(value, separators=(",", ":")).encode()


def _describe_failure(key: str, found: Evaluation) -> dict[str, Any]:
    code = found.error_code if found.error_code in _FAILURES else "GENERAL"
    return {"key": key, "errorCode": code, "errorDetails": found.error_message or code}


def _typed(value: Any, variants: Mapping[str, Any]) -> Any:
    """The value for JSON: if some variant of the flag is a fraction, every number has a decimal point."""
    if type(value) is int and any(type(each) is float for each in variants.values()):
        return float(value)
    return value

"""Flags over HTTP: OFREP for OpenFeature's remote providers, and the flag document for flagd fleets that poll it.

Answers come from the clients' snapshots in memory. https://openfeature.dev/docs/reference/other-technologies/ofrep/
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, TypeVar

from anyio import to_thread
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from app.http.backends import admit, admit_service, get_deck
from app.http.bodies import read_body
from app.http.refusals import challenge, refuse, status_of
from core.access.scopes import TokenScope
from core.errors import InvalidInput, QuarterdeckError
from core.flags.fleet import DEFAULT_BUCKETING, make_fleet_document, read_bucketing
from core.safety.letters import parse_json
from quarterdeck.client import Quarterdeck
from quarterdeck.flags import Evaluation
from quarterdeck.snapshot import Snapshot

_BODY_CODES = {"body": "PARSE_ERROR", "context.targetingKey": "TARGETING_KEY_MISSING"}
_FAILURES = ("FLAG_NOT_FOUND", "PARSE_ERROR", "TARGETING_KEY_MISSING", "INVALID_CONTEXT")
# OFREP's document has no DEFAULT among its reasons; STATIC would invite clients to keep the value for everybody.
_REASONS = {"DEFAULT": "UNKNOWN"}

MAX_CONTEXT_BYTES = 64_000
_LARGE_BYTES = 4_000  # a larger context is evaluated outside the event loop

_Found = TypeVar("_Found")
_exports: dict[tuple[str, str], tuple[Snapshot, bytes, str]] = {}


async def evaluate_flag(request: Request) -> Response:
    """Resolve one flag for the context in the body; counted as an evaluation, as in the client."""
    key = request.path_params["key"]
    try:
        deck = await get_deck(*await admit_service(request, TokenScope.EVALUATE))
        body = await read_body(request, MAX_CONTEXT_BYTES)
        context = _read_context(body)
    except QuarterdeckError as error:
        return _refuse(error, key=key)
    found = await _beside(body, lambda: deck.evaluate(key, None, context))
    answer = _describe(key, found, deck.snapshot)
    code = answer.get("errorCode")
    return _respond(answer, 200 if code is None else 404 if code == "FLAG_NOT_FOUND" else 400)


async def evaluate_flags(request: Request) -> Response:
    """Resolve every flag for the context in the body; 304 without a body if the client has the same answer.

    Nothing is counted: a client that keeps all answers says nothing about which flags it reads.
    """
    try:
        deck = await get_deck(await admit(request, TokenScope.EVALUATE))
        _check_query(request.query_params)
        asked = await read_body(request, MAX_CONTEXT_BYTES)
        context = _read_context(asked)
    except QuarterdeckError as error:
        return _refuse(error)
    body, tag = await _beside(asked, lambda: _resolve_all(deck.snapshot, context))
    return _respond_unless_known(request, body, tag)


async def flagd_flags(request: Request) -> Response:
    """Return an environment's flags as a flagd document; 304 without a body if the fleet has them.

    `?bucketing=string` or `cbor` (the default) names the hash of the fleet's SDKs. Flags of the other hash are left
    out, each with its reason in `leftOut`.
    """
    try:
        wanted = await admit(request, TokenScope.EVALUATE, environment=request.query_params.get("environment"))
        hash_version = read_bucketing(request.query_params.get("bucketing", DEFAULT_BUCKETING))
        body, tag = _export(await get_deck(wanted), wanted, hash_version)
    except QuarterdeckError as error:
        return refuse(error)
    return _respond_unless_known(request, body, tag)


ROUTES = [
    Route("/ofrep/v1/evaluate/flags", evaluate_flags, methods=["POST"]),
    Route("/ofrep/v1/evaluate/flags/{key:path}", evaluate_flag, methods=["POST"]),
    Route("/flagd/flags.json", flagd_flags),
]


async def _beside(body: bytes, work: Callable[[], _Found]) -> _Found:
    """Do the work for a body: at once, or in a thread when the body is large."""
    return work() if len(body) <= _LARGE_BYTES else await to_thread.run_sync(work)


def _resolve_all(snapshot: Snapshot, context: Mapping[str, Any]) -> tuple[bytes, str]:
    """Every flag for a context, as it is answered, and its tag."""
    flags = [_describe(key, snapshot.flags.resolve(key, context), snapshot) for key in snapshot.flags.keys()]  # noqa: SIM118
    body = _to_json({"flags": flags})
    return body, _tag(body, _to_json(context))


def _read_context(body: bytes) -> dict[str, Any]:
    """The evaluation context of a request. Raises InvalidInput, naming what is missing."""
    asked = parse_json(body)
    if not isinstance(asked, dict) or not isinstance(asked.get("context"), dict):
        raise InvalidInput("context", "the body must be an object with the object `context`")
    context: dict[str, Any] = asked["context"]
    if not isinstance(context.get("targetingKey"), str):
        raise InvalidInput("context.targetingKey", "name the user, as text")
    return context


def _check_query(query: Mapping[str, str]) -> None:
    """The event-stream part of a request: validated only, because we send no events."""
    modified = query.get("flagConfigLastModified", "0")
    try:
        if not (modified.isascii() and modified.isdigit()):
            datetime.fromisoformat(modified)
    except ValueError:
        raise InvalidInput("flagConfigLastModified", "give seconds since 1970 or an ISO 8601 time") from None


def _describe(key: str, found: Evaluation, snapshot: Snapshot) -> dict[str, Any]:
    """An evaluation in OFREP's terms. Without a value, the client uses the default in its code."""
    if found.error_code is not None:
        code = found.error_code if found.error_code in _FAILURES else "GENERAL"
        return {"key": key, "errorCode": code, "errorDetails": found.error_message or code}
    # The stock Python provider needs a variant even where there is none.
    answer: dict[str, Any] = {
        "key": key,
        "reason": _REASONS.get(found.reason, found.reason),
        "variant": found.variant or "",
    }
    if found.variant is not None:
        answer["value"] = _typed(found.value, snapshot.definitions.get(key, {}).get("variants", {}))
    if found.flag_metadata:
        answer["metadata"] = found.flag_metadata
    return answer


def _typed(value: Any, variants: Mapping[str, Any]) -> Any:
    """The value for JSON: if some variant of the flag is a fraction, every number has a decimal point."""
    if type(value) is int and any(type(each) is float for each in variants.values()):
        return float(value)
    return value


def _export(deck: Quarterdeck, environment: str, hash_version: str) -> tuple[bytes, str]:
    """The flagd document and its ETag, built once per snapshot."""
    snapshot, place = deck.snapshot, (environment, hash_version)
    known = _exports.get(place)
    if known is None or known[0] is not snapshot:
        body = _to_json(make_fleet_document(snapshot.definitions, hash_version).to_json())
        known = _exports[place] = (snapshot, body, _tag(body))
    return known[1:]


def _respond_unless_known(request: Request, body: bytes, tag: str) -> Response:
    # A body that is the same but comes from elsewhere is marked weak (W/) by proxies; it is the same to us.
    known = {each.strip().removeprefix("W/") for each in request.headers.get("if-none-match", "").split(",")}
    headers = {"ETag": tag, "Cache-Control": "no-cache"}
    if known & {tag, tag.strip('"'), "*"}:
        return Response(status_code=304, headers=headers)
    return Response(body, headers=headers, media_type="application/json")


def _refuse(error: QuarterdeckError, **names: str) -> Response:
    answer: dict[str, Any] = {"errorDetails": str(error)}
    status = status_of(error)
    if isinstance(error, InvalidInput):
        answer = {**names, "errorCode": _BODY_CODES.get(error.field, "INVALID_CONTEXT"), **answer}
    elif status in (404, 503):  # OFREP knows neither for a whole request: the flags cannot be had
        status = 500
    return _respond(answer, status, challenge(error))


def _respond(answer: Mapping[str, Any], status: int, headers: Mapping[str, str] | None = None) -> Response:
    return Response(_to_json(answer), status, headers, "application/json")


def _to_json(value: Any) -> bytes:
    """ASCII, because text from a request may hold half a character."""
    return json.dumps(value, separators=(",", ":")).encode()


def _tag(*parts: bytes) -> str:
    return '"' + hashlib.sha256(b"\n".join(parts)).hexdigest()[:32] + '"'

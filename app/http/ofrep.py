"""Flags over HTTP: OFREP for OpenFeature's remote providers, and the flag document for flagd fleets that poll it.

Answers come from the clients' snapshots in memory. https://openfeature.dev/docs/reference/other-technologies/ofrep/
"""

import asyncio
import hashlib
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from anyio import to_thread
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from app.http.backends import admit, admit_service, get_config, get_deck, identify
from app.http.bodies import read_body
from app.http.events import is_newer, list_streams
from app.http.ofrep_answers import Answers, JsonAnswer, status_of_evaluation, to_json
from app.http.refusals import challenge, refuse, status_of
from core.access.scopes import TokenScope
from core.errors import InvalidInput, QuarterdeckError
from core.flags.fleet import DEFAULT_BUCKETING, make_fleet_document, read_bucketing
from core.safety.letters import parse_json
from quarterdeck.client import Quarterdeck
from quarterdeck.snapshot import Snapshot

_BODY_CODES = {"body": "PARSE_ERROR", "context.targetingKey": "TARGETING_KEY_MISSING"}

MAX_CONTEXT_BYTES = 64_000
_LARGE_BYTES = 4_000  # a larger context is evaluated outside the event loop, and so is what `is_large` says

_Found = TypeVar("_Found")
_exports: dict[tuple[str, str], tuple[Snapshot, bytes, str]] = {}
_answers: WeakKeyDictionary[Quarterdeck, Answers] = WeakKeyDictionary()
_catching_up: WeakKeyDictionary[Quarterdeck, asyncio.Future[bool]] = WeakKeyDictionary()


async def evaluate_flag(request: Request) -> ASGIApp:
    """Resolve one flag for the context in the body; counted as an evaluation, as in the client."""
    key = request.path_params["key"]
    try:
        deck = await get_deck(*await admit_service(request, TokenScope.EVALUATE))
        body = await read_body(request, MAX_CONTEXT_BYTES)
        context = _read_context(body)
    except QuarterdeckError as error:
        return _refuse(error, key=key)
    answers = _answers_of(deck)
    found = await _beside(len(body) > _LARGE_BYTES or answers.is_large(key), lambda: deck.evaluate(key, None, context))
    if deck.snapshot is not answers.snapshot:  # it changed meanwhile
        answers = Answers(deck.snapshot)
    return JsonAnswer(answers.write(key, found), status_of_evaluation(found))


async def evaluate_flags(request: Request) -> ASGIApp:
    """Resolve every flag for the context in the body; 304 without a body if the client has the same answer.

    Nothing is counted: a client that keeps all answers says nothing about which flags it reads. `eventStreams` says
    where it hears of changes; `flagConfigEtag`, what it heard, so that it is not answered from an older state.
    """
    try:
        token = await identify(request, TokenScope.EVALUATE)
        deck = await get_deck(token.environment if token else get_config().environment)
        heard = _read_query(request.query_params)
        asked = await read_body(request, MAX_CONTEXT_BYTES)
        context = _read_context(asked)
    except QuarterdeckError as error:
        return _refuse(error)
    await _catch_up(deck, heard)
    answers = _answers_of(deck)
    is_large = len(asked) > _LARGE_BYTES or answers.are_large
    flags = await _beside(is_large, lambda: answers.write_all(context))
    body = b'{"flags":[%b],"eventStreams":%b}' % (flags, to_json(list_streams(token)))
    return _respond_unless_known(request, body, _tag(body, to_json(context)))


async def flagd_flags(request: Request) -> ASGIApp:
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


async def _beside(is_large: bool, work: Callable[[], _Found]) -> _Found:
    """Do the work: at once, or in a thread if there is much to do, so that other requests do not wait for it."""
    return await to_thread.run_sync(work) if is_large else work()


def _answers_of(deck: Quarterdeck) -> Answers:
    """What writes the answers of the flags as they are now."""
    known = _answers.get(deck)
    if known is None or known.snapshot is not deck.snapshot:
        known = _answers[deck] = Answers(deck.snapshot)
    return known


async def _catch_up(deck: Quarterdeck, heard: str) -> None:
    """Read newer flags if the client heard of a state that this server has not read yet: once for all who wait."""
    if not heard or not is_newer(heard, deck.snapshot):
        return
    reading = _catching_up.get(deck)
    if reading is None or reading.done():
        reading = _catching_up[deck] = asyncio.ensure_future(to_thread.run_sync(deck.refresh))
    await asyncio.shield(reading)


def _read_context(body: bytes) -> dict[str, Any]:
    """The evaluation context of a request. Raises InvalidInput, naming what is missing."""
    asked = parse_json(body)
    if not isinstance(asked, dict) or not isinstance(asked.get("context"), dict):
        raise InvalidInput("context", "the body must be an object with the object `context`")
    context: dict[str, Any] = asked["context"]
    if not isinstance(context.get("targetingKey"), str):
        raise InvalidInput("context.targetingKey", "name the user, as text")
    return context


def _read_query(query: Mapping[str, str]) -> str:
    """The tag of the event that made a client ask, "" without one. Raises InvalidInput."""
    modified = query.get("flagConfigLastModified", "0")
    try:
        if not (modified.isascii() and modified.isdigit()):
            datetime.fromisoformat(modified)
    except ValueError:
        raise InvalidInput("flagConfigLastModified", "give seconds since 1970 or an ISO 8601 time") from None
    return query.get("flagConfigEtag", "")


def _export(deck: Quarterdeck, environment: str, hash_version: str) -> tuple[bytes, str]:
    """The flagd document and its ETag, built once per snapshot."""
    snapshot, place = deck.snapshot, (environment, hash_version)
    known = _exports.get(place)
    if known is None or known[0] is not snapshot:
        body = to_json(make_fleet_document(snapshot.definitions, hash_version).to_json())
        known = _exports[place] = (snapshot, body, _tag(body))
    return known[1:]


def _respond_unless_known(request: Request, body: bytes, tag: str) -> ASGIApp:
    # A body that is the same but comes from elsewhere is marked weak (W/) by proxies; it is the same to us.
    known = {each.strip().removeprefix("W/") for each in request.headers.get("if-none-match", "").split(",")}
    headers = {"ETag": tag, "Cache-Control": "no-cache"}
    if known & {tag, tag.strip('"'), "*"}:
        return Response(status_code=304, headers=headers)
    return JsonAnswer(body, headers=headers)


def _refuse(error: QuarterdeckError, **names: str) -> ASGIApp:
    answer: dict[str, Any] = {"errorDetails": str(error)}
    status = status_of(error)
    if isinstance(error, InvalidInput):
        answer = {**names, "errorCode": _BODY_CODES.get(error.field, "INVALID_CONTEXT"), **answer}
    elif status in (404, 503):  # OFREP knows neither for a whole request: the flags cannot be had
        status = 500
    return JsonAnswer(to_json(answer), status, challenge(error))


def _tag(*parts: bytes) -> str:
    return '"' + hashlib.sha256(b"\n".join(parts)).hexdigest()[:32] + '"'

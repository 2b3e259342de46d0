"""The routes of change requests: list them, and decide about one or amend it as the person behind the token."""

from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import orjson
from anyio import to_thread
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from app.http.backends import get_store, identify
from app.http.bodies import read_body
from app.http.refusals import RequestRefused, refuse
from core.access.scopes import Token, TokenScope
from core.approvals.operations import approve_request, reject_request, withdraw_request
from core.approvals.people import act_for
from core.approvals.requests import OPEN, ChangeRequest, get_request, list_requests
from core.approved import apply_request, can_apply, edit_request, preview_request
from core.audit.gate import RequestState
from core.errors import Conflict, InvalidInput, NotFound, QuarterdeckError
from core.safety.letters import parse_json

MOST_BYTES = 64_000


async def requests(request: Request) -> Response:
    """Return the open change requests of the token's environment, with the states before and after; `all=1` all."""
    try:
        token = _check_owner(await identify(request, TokenScope.ADMIN))
        states = tuple(RequestState) if request.query_params.get("all") == "1" else OPEN
        found = await to_thread.run_sync(_list, token.environment, states)
    except QuarterdeckError as error:
        return refuse(error)
    return Response(orjson.dumps({"requests": [_describe(each) for each in found]}), media_type="application/json")


async def decision(request: Request) -> Response:
    """Approve, reject, withdraw or amend a request. The body holds a `reason` and the `version` that was read."""
    try:
        token = _check_owner(await identify(request, TokenScope.ADMIN))
        body = parse_json(await read_body(request, MOST_BYTES))
        if not isinstance(body, dict):
            raise InvalidInput("body", "must be an object with a reason and a version")
        answer = await to_thread.run_sync(
            _decide, token, _read_number(request.path_params["number"]), request.path_params["verb"], body
        )
    except QuarterdeckError as error:
        return refuse(error)
    return Response(orjson.dumps(answer), media_type="application/json")


ROUTES = [
    Route("/v1/requests", requests, methods=["GET"]),
    Route("/v1/requests/{number}/{verb}", decision, methods=["POST"]),
]


def _check_owner(token: Token | None) -> Token:
    if token is None:
        raise RequestRefused(401, "change requests need a token of a person, made on a page after signing in")
    if token.services:
        raise RequestRefused(403, "token: it is for some services alone; requests are of the whole environment")
    return token


def _read_number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise NotFound(f"request: {text[:40]!r} is no number of one")
    return int(text)


def _list(environment: str, states: tuple[RequestState, ...]) -> tuple[ChangeRequest, ...]:
    return list_requests(get_store(), environment, states=states)


def _decide(token: Token, number: int, verb: str, body: dict[str, Any]) -> dict[str, Any]:
    store, now = get_store(), datetime.now(UTC)
    by = act_for(store, token, str(body.get("reason") or ""), token.environment)
    found = get_request(store, number)
    if found.environment != token.environment:
        raise NotFound(f"request: there is no request {number} in {token.environment}")
    if body.get("version") != found.version:
        raise Conflict(f"request {number} has version {found.version}; read it again and send the version you read")
    if verb == "approve":
        entry = approve_request(store, found, by, effect=preview_request(store, found, now=now))
        if can_apply(found):
            entry = apply_request(store, get_request(store, number), now=now)
    elif verb == "reject":
        entry = reject_request(store, found, by)
    elif verb == "withdraw":
        entry = withdraw_request(store, found, by)
    elif verb == "amend":
        flag, definition = body.get("flag"), body.get("definition")
        if not isinstance(flag, str) or not isinstance(definition, dict):
            raise InvalidInput("definition", "send the key `flag` as text and its new `definition` as an object")
        entry = edit_request(store, found, flag, definition, by)
    else:
        raise NotFound(f"request: there is no {verb[:40]!r}; there are approve, reject, withdraw and amend")
    return {"entry": entry, "state": str(get_request(store, number).state)}


def _describe(request: ChangeRequest) -> dict[str, Any]:
    return asdict(request) | {"expires": request.expires.isoformat(), "created": request.created.isoformat()}

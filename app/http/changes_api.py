"""The routes that take changes of other systems: JSON from anybody with a token, and GitHub's signed webhooks."""

import hashlib
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from typing import Any

import orjson
from anyio import to_thread
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from app.http.backends import get_config, get_store, identify
from app.http.bodies import read_body
from app.http.records import (
    LINE_TYPES,
    count_request,
    make_redactor,
    parse_body,
    read_content_type,
    read_key,
)
from app.http.refusals import RequestRefused, refuse
from core.access.scopes import Token, TokenScope, bind_scope, home_of
from core.audit.environments import list_environments
from core.causes.github import is_signed, read_event
from core.causes.outside import parse_changes
from core.causes.outside_changes import SOURCE, store_changes
from core.errors import NotFound, QuarterdeckError
from core.intake.deliveries import MOST_NAMED, count_refused
from core.intake.intake import Ticket
from core.intake.rows import RefusedRow, read_api_time
from core.safety.letters import parse_json
from quarterdeck.clock import to_ms

MOST_CHANGES = 1_000  # of a request


async def changes(request: Request) -> Response:
    """Store the good changes of a list, an object or JSON lines, as `retrievals` does with rows.

    A change whose `id` its environment has already is counted in `duplicates`.
    """
    token: Token | None = None
    try:
        token = await identify(request, TokenScope.INGEST)
        key, is_lines = read_key(request), read_content_type(request) in LINE_TYPES
        body = await read_body(request)
        rows = parse_body(body, SOURCE, is_lines=is_lines)
        if len(rows) > MOST_CHANGES:
            raise RequestRefused(413, f"body: holds more than {MOST_CHANGES:,} changes; send it in parts")
        answer = await to_thread.run_sync(_store, rows, token, _make_ticket(token, key, body))
    except QuarterdeckError as error:
        count_request(error, SOURCE, token)
        return refuse(error)
    is_good = answer["stored"] or answer.get("duplicates")
    status = 201 if "errors" not in answer else 207 if is_good else 400
    return Response(orjson.dumps(answer), status, media_type="application/json")


async def github(request: Request) -> Response:
    """Store the change that a webhook of GitHub's reports: a deployment, a release, a push to the default branch.

    The signature is checked before anything else of the body is read. Other events are answered with 200 and ignored.
    """
    try:
        payload = await _read_signed(request)
        event = request.headers.get("x-github-event", "")
        if event == "ping":
            return JSONResponse({"pong": True})
        answer = await to_thread.run_sync(_store_event, event, payload)
        return JSONResponse(answer, 201 if "ignored" not in answer else 200)
    except QuarterdeckError as error:
        count_request(error, "github", None)
        return refuse(error)


ROUTES = [
    Route("/v1/changes", changes, methods=["POST"]),
    Route("/v1/webhooks/github", github, methods=["POST"]),
]


async def _read_signed(request: Request) -> Any:
    """Return the JSON of a signed request. Raises NotFound without a secret, RequestRefused for a wrong signature."""
    secret = get_config().github_secret
    if not secret:
        raise NotFound("webhook: GitHub's webhooks are off here; set QUARTERDECK_GITHUB_SECRET")
    body = await read_body(request)
    if not is_signed(body, request.headers.get("x-hub-signature-256", ""), secret):
        raise RequestRefused(403, "X-Hub-Signature-256: does not sign this body with the secret of this deck")
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise RequestRefused(415, "Content-Type: set the webhook's content type to application/json")
    return parse_json(body)


def _make_ticket(token: Token | None, key: str | None, body: bytes) -> Ticket | None:
    if key is None:
        return None
    family = f"{SOURCE}:{token.digest[:16]}" if token else SOURCE  # each token has keys of its own
    return Ticket(family, key, hashlib.sha256(body).hexdigest())


def _store(rows: list[Any], token: Token | None, ticket: Ticket | None) -> dict[str, Any]:
    now = datetime.now(UTC)
    parsed = parse_changes(
        rows,
        read_time=partial(read_api_time, now=now),
        redact=make_redactor(),
        bind=partial(bind_scope, token),
        now=now,
        of_all=token is None or not token.services,
    )
    counts = count_refused(SOURCE, parsed.refused, lambda _: home_of(token), lambda at: rows[at])
    refused = _describe(parsed.refused)
    return store_changes(get_store(), parsed.changes, now_ms=to_ms(now), counts=counts, ticket=ticket, refused=refused)


def _store_event(event: str, payload: Any) -> dict[str, Any]:
    own, now = get_config().environment, datetime.now(UTC)
    change = read_event(event, payload, environment=own, now=now)
    if change is None:
        return {"stored": 0, "ignored": "this event reports no change"}
    if change.environment not in list_environments(get_store(), own):
        return {"stored": 0, "ignored": f"there is no environment {change.environment!r} here"}
    return store_changes(get_store(), [change], now_ms=to_ms(now))


def _describe(refused: tuple[RefusedRow, ...]) -> Mapping[str, Any]:
    """Return what an answer says of refused changes: nothing if there are none."""
    if not refused:
        return {}
    first = refused[0]
    error = f"row {first.row}: {first.field}: {first.problem}"
    return {"error": error, "errors": [asdict(each) for each in refused[:MOST_NAMED]], "refused": len(refused)}

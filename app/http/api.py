"""The HTTP API: JSON and OTLP in and out, our errors as status codes. Runs in the same process as the pages.

Flag endpoints (OFREP and flagd) are in `ofrep.py`; what all handlers share is in `backends.py`.
"""

import hashlib
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

from anyio import to_thread
from starlette import types
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Match, Route, Router

from app.http import ofrep, operations_api, records
from app.http.backends import admit, get_config, get_store
from app.http.bodies import read_body
from app.http.refusals import RequestRefused, challenge, status_of
from core.access.scopes import Scope
from core.errors import QuarterdeckError
from core.intake import otlp
from core.intake.intake import Ticket, store_once, store_retrievals
from core.intake.rows import Parsed
from quarterdeck.clock import to_ms
from quarterdeck.redaction import Redactor, compose, redact

Handler = Callable[[Request], Awaitable[Response]]


async def healthz(_request: Request) -> Response:
    """Answer 200 while the process lives."""
    return JSONResponse({"status": "ok"})


async def traces(request: Request) -> Response:
    """Store the retriever spans of an OTLP trace request; a repeated request stores nothing twice."""
    content_type = otlp.PROTOBUF
    try:
        content_type = _content_type(request, otlp.PROTOBUF, otlp.JSON)
        await admit(request, Scope.INGEST)
        body = await read_body(request)
        answer = await to_thread.run_sync(_store_spans, body, content_type)
        return Response(answer, media_type=content_type)
    except QuarterdeckError as error:
        message = otlp.render_failure(str(error), content_type)
        return Response(message, status_of(error), challenge(error), content_type)


ROUTES = [
    Route("/healthz", healthz),
    *records.ROUTES,
    Route("/v1/traces", traces, methods=["POST"]),
    *ofrep.ROUTES,
    *operations_api.ROUTES,
]


class ApiAhead:
    """Routes the API's paths before the pages', because Streamlit handles paths and methods differently."""

    def __init__(self, app: types.ASGIApp) -> None:
        self._pages = app
        self._api = Router(ROUTES)
        self._plain = {route.path: route for route in ROUTES if "{" not in route.path}

    async def __call__(self, scope: types.Scope, receive: types.Receive, send: types.Send) -> None:
        """Route a request by its path alone: a wrong method is for the API to refuse."""
        if scope["type"] == "http" and (route := self._plain.get(scope["path"])) is not None:
            await route.handle({name: value for name, value in scope.items() if name != "app"}, receive, send)
        elif scope["type"] == "http" and any(route.matches(scope)[0] is not Match.NONE for route in ROUTES):
            own = {name: value for name, value in scope.items() if name != "app"}
            await self._api(own, receive, send)
        else:
            await self._pages(scope, receive, send)


def _store_spans(body: bytes, content_type: str) -> bytes:
    ticket = Ticket("otlp", hashlib.sha256(body).hexdigest(), "")
    parsed = otlp.parse_request(body, content_type, redact=_redactor())
    _keep(parsed, ticket, {"stored": len(parsed.retrievals)}, datetime.now(UTC))
    return otlp.render_response(parsed.refused, content_type)


def _keep(parsed: Parsed, ticket: Ticket | None, answer: dict[str, Any], now: datetime) -> dict[str, Any]:
    """Store the good rows once per ticket, and return the answer. A request that stored nothing may be sent again."""
    if not parsed.retrievals:
        return answer
    if ticket is None:
        store_retrievals(get_store(), parsed.retrievals)
        return answer
    given: dict[str, Any] = store_once(get_store(), parsed.retrievals, ticket, answer, now_ms=to_ms(now))
    return given


def _redactor() -> Redactor:
    return redact if get_config().redact else compose()


def _content_type(request: Request, *accepted: str) -> str:
    given = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if given not in accepted:
        names = ", ".join(filter(None, accepted))
        raise RequestRefused(415, f"Content-Type: {given or 'none'} is not understood here; send {names}")
    return given

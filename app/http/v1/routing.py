"""How a route under /v1 is called: who asks is known first, bodies are bounded, and reads have an ETag.

Handlers run in threads, at most `AT_ONCE` of them, so that what takes long delays neither pages nor the intake.
"""

import hashlib
from collections.abc import Callable, Coroutine
from typing import Any
from urllib.parse import unquote

from anyio import Semaphore
from fastapi import APIRouter, Request, Response
from fastapi.routing import APIRoute
from starlette.types import Message

from app.http.bodies import read_body
from app.http.refusals import RequestRefused
from app.http.v1.callers import identify_caller
from core.access.scopes import TokenScope
from core.errors import InvalidInput
from core.safety.letters import parse_json

AT_ONCE = 8
MOST_BODY_BYTES = 1_000_000
_SAFE = frozenset({"GET", "HEAD"})
SLOTS = Semaphore(AT_ONCE)


class CheckedRoute(APIRoute):
    """A route whose caller has the scope `read`, or `change` for other methods than GET."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the handler with the checks around it."""
        answer = super().get_route_handler()

        async def handle(request: Request) -> Response:
            reads = request.method in _SAFE
            request.state.caller = await identify_caller(
                request.headers, TokenScope.READ if reads else TokenScope.CHANGE
            )
            _check_address(request)
            request.state.body = b"" if reads else await _read_json(request)
            known = Request(request.scope, _make_receive(request.state.body))
            async with SLOTS:
                response = await answer(known)
            return add_etag(request, response) if reads else response

        return handle


def make_router(tag: str) -> APIRouter:
    """Return a router for one subject. Operations are called as their routes are named."""
    return APIRouter(route_class=CheckedRoute, tags=[tag], generate_unique_id_function=lambda route: route.name)


def add_etag(request: Request, response: Response) -> Response:
    """Return the response with its ETag, or 304 if the client has it already."""
    if response.status_code != 200:
        return response
    tag = f'"{hashlib.sha256(response.body).hexdigest()[:32]}"'
    known = {each.strip().removeprefix("W/") for each in request.headers.get("if-none-match", "").split(",")}
    if tag in known or "*" in known:
        return Response(status_code=304, headers={"ETag": tag})
    response.headers["ETag"] = tag
    return response


def _check_address(request: Request) -> None:
    given = unquote(request.url.path) + unquote(request.url.query, errors="replace")
    if "\x00" in given:
        raise InvalidInput("address", "holds a null character")


async def _read_json(request: Request) -> bytes:
    """Return the body, unzipped, once it is known to be JSON in whole characters."""
    body = await read_body(request, MOST_BODY_BYTES)
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if body:
        if kind != "application/json":
            raise RequestRefused(
                415, f"Content-Type: {kind[:80] or 'none'} is not understood here; send application/json"
            )
        if b"\\u0000" in body:
            raise InvalidInput("body", "holds a null character")
        parse_json(body)
    return body


def _make_receive(body: bytes) -> Callable[[], Coroutine[Any, Any, Message]]:
    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    return receive

"""Request observability: an id, a log line and metrics for every request.

Query strings are never logged, because they hold what people typed.
"""

import logging
import re
import time
from collections.abc import Sequence
from contextvars import ContextVar
from functools import cache
from random import getrandbits

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.contextvars import STRUCTLOG_KEY_PREFIX

HEADER = "X-Request-ID"
PAGES = "pages"
_HEADER = HEADER.lower().encode()
_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
logger = logging.getLogger("quarterdeck.requests")
_request_id: ContextVar[str] = ContextVar(f"{STRUCTLOG_KEY_PREFIX}request_id")  # structlog adds it to every line

REGISTRY = CollectorRegistry()
ProcessCollector(registry=REGISTRY)
REQUESTS = Counter(
    "quarterdeck_requests", "Requests answered, by route, method and status.", ("route", "method", "status"),
    registry=REGISTRY,
)  # fmt: skip
SECONDS = Histogram(
    "quarterdeck_request_seconds", "How long requests took, by route.", ("route",), buckets=_SECONDS, registry=REGISTRY
)
UNDER_WAY = Gauge("quarterdeck_requests_under_way", "Requests that are being answered now.", registry=REGISTRY)
_under_way: set[object] = set()  # counted when the metrics are read: a gauge's lock costs more than the set
UNDER_WAY.set_function(lambda: len(_under_way))
STORE_UP = Gauge("quarterdeck_store_up", "1 if the store could be read when it was last asked.", registry=REGISTRY)


class Observing:
    """Gives each request an id (or keeps the one it has), times it, counts it and logs a line.

    Requests are counted by their route in `routes`, else as `pages`.
    """

    def __init__(self, app: ASGIApp, routes: Sequence[Route]) -> None:
        self._app = app
        self._plain = {route.path for route in routes if "{" not in route.path}
        self._patterns = [route for route in routes if "{" in route.path]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on and observe its answer."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = _read_id(scope) or f"{getrandbits(128):032x}"
        status, began = 500, time.perf_counter()

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), (_HEADER, request_id.encode())]
            await send(message)

        bound = _request_id.set(request_id)
        _under_way.add(request := object())
        try:
            await self._app(scope, receive, answer)
        finally:
            path = scope["path"]
            route = path if path in self._plain else find_route(path, self._patterns)
            _note(route, scope, status, time.perf_counter() - began)
            _under_way.discard(request)
            _request_id.reset(bound)


def _note(route: str, scope: Scope, status: int, seconds: float) -> None:
    method = scope["method"]
    _count_of(route, method if method in _METHODS else "other", status).inc()
    _seconds_of(route).observe(seconds)
    level = logging.ERROR if status >= 500 else logging.DEBUG if route == PAGES else logging.INFO
    if logger.isEnabledFor(level):
        told = {"method": method, "path": scope["path"], "status": status, "duration_ms": round(1_000 * seconds, 1)}
        logger.log(level, "request", extra=told)


@cache
def _count_of(route: str, method: str, status: int) -> Counter:
    return REQUESTS.labels(route, method, status)


@cache
def _seconds_of(route: str) -> Histogram:
    return SECONDS.labels(route)


_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


def find_route(path: str, routes: Sequence[Route]) -> str:
    """Return the route pattern that a path matches, else `pages`: labels must stay few."""
    return next((route.path for route in routes if route.path_regex.match(path)), PAGES)


def _read_id(scope: Scope) -> str | None:
    """The request's own id, if it is a valid one: it is untrusted and appears in the log."""
    for name, value in scope["headers"]:
        if name == _HEADER:
            text = value.decode("latin-1")
            return text if _ID.fullmatch(text) else None
    return None

"""Limits of requests by address: how many a minute, how many at once, and how long a sender may take for a request.

A token has a limit of its own, in `backends.py`. Bodies are limited in `bodies.py`.
"""

import asyncio
import math
import time
from typing import Any

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.auto import AutoHTTPProtocol

from core.access.identity import TrustedProxy
from core.safety.meters import Meter

EVENTS = "/ofrep/v1/events"
HEAD_WITHIN_S = 10.0
MOST_HEAD_BYTES = 65_536


class Limits:
    """Refuses requests and WebSockets of an address that sends too many: 429, or 1013 for a WebSocket.

    Event streams, which stay open, get at most four fifths of an address's connections: requests need some too.
    Behind the trusted proxy, the address is the last one that the proxy wrote into X-Forwarded-For.
    """

    def __init__(self, app: ASGIApp, per_minute: int, at_once: int, proxy: TrustedProxy | None) -> None:
        self._app = app
        self._meter = Meter(per_minute)
        self._at_once = at_once
        self._streams_at_once = max(1, at_once * 4 // 5)
        self._proxy = proxy
        self._open: dict[str, int] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        address = self._find_address(scope)
        wait_s = self._meter.take(address, now_s=time.monotonic())
        most = self._streams_at_once if scope["path"] == EVENTS else self._at_once
        under_way = self._open.get(address, 0)
        if wait_s or under_way >= most:
            await _refuse(scope, receive, send, wait_s or 1.0)
            return
        self._open[address] = under_way + 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._open[address] -= 1
            if not self._open[address]:
                del self._open[address]

    def _find_address(self, scope: Scope) -> str:
        peer = str(scope["client"][0]) if scope.get("client") else ""
        if self._proxy is None or not self._proxy.is_from(peer):
            return peer
        told = [value for name, value in scope["headers"] if name == b"x-forwarded-for"]
        return told[-1].decode("latin-1").rpartition(",")[2].strip()[:64] if told else peer


async def _refuse(scope: Scope, receive: Receive, send: Send, wait_s: float) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1013, "reason": "too many connections"})
        return
    headers = {"Retry-After": str(math.ceil(wait_s)), "Connection": "close"}
    await JSONResponse({"error": "rate: too many requests from this address"}, 429, headers)(scope, receive, send)


class ImpatientProtocol(AutoHTTPProtocol):  # type: ignore[misc,valid-type]
    """uvicorn's protocol, which by itself waits for the end of a request's headers for ever, however long they get."""

    _timer: asyncio.TimerHandle | None = None
    _head_bytes = 0

    def connection_made(self, transport: Any) -> None:
        """Give the first request a deadline."""
        super().connection_made(transport)
        self._expect_head()

    def data_received(self, data: bytes) -> None:
        """Give each further request a deadline from its first byte on."""
        former = self.cycle
        super().data_received(data)
        if self.cycle is not former or not self._is_waiting():
            self._forget_head()
            return
        self._head_bytes += len(data)
        if self._head_bytes > MOST_HEAD_BYTES:
            self.transport.abort()
        elif self._timer is None:
            self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the deadline."""
        self._forget_head()
        super().connection_lost(exc)

    def _is_waiting(self) -> bool:
        is_own = self.transport.get_protocol() is self  # it is not once a WebSocket took over
        return is_own and (self.cycle is None or self.cycle.response_complete)

    def _expect_head(self) -> None:
        self._timer = self.loop.call_later(HEAD_WITHIN_S, self._give_up)

    def _forget_head(self) -> None:
        self._head_bytes = 0
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _give_up(self) -> None:
        self._timer = None
        if self._is_waiting():
            self.transport.abort()

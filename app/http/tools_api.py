"""The tools for language models over streamable HTTP at /mcp, for holders of a token that may read.

A token with the scope `propose` is answered by a server of its own: no other one has the tools that propose changes.
Each request stands alone: there are no sessions, so any server of a store answers any of them.
"""

import importlib.util
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from app.http.refusals import RequestRefused
from app.http.tools import make_server
from app.http.v1.app import answer_problem
from app.http.v1.callers import Caller, identify_caller
from app.http.v1.routing import SLOTS
from core.access.scopes import TokenScope
from core.errors import NotFound, QuarterdeckError

PATH = "/mcp"
MOST_BODY_BYTES = 1_000_000


class ToolsEndpoint:
    """Answers /mcp while `running`, to callers with the scope `read`."""

    def __init__(self) -> None:
        self._apps: dict[bool, ASGIApp] = {}  # by whether it has the tools that propose

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Answer requests as long as the context is open. Without the SDK, they are refused."""
        if importlib.util.find_spec("mcp") is None:
            yield
            return
        from mcp.server.transport_security import TransportSecuritySettings

        async with AsyncExitStack() as opened:
            for proposes in (False, True):
                server = make_server(_find_caller, proposes=proposes)
                self._apps[proposes] = server.streamable_http_app(
                    streamable_http_path=PATH, json_response=True, stateless_http=True,
                    max_request_body_size=MOST_BODY_BYTES,
                    # the guard checks hosts and origins of every request before
                    transport_security=TransportSecuritySettings(enable_dns_rebinding_protection=False),
                )  # fmt: skip
                await opened.enter_async_context(server.session_manager.run())
            try:
                yield
            finally:
                self._apps = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it as a problem."""
        try:
            caller = await identify_caller(Headers(scope=scope), TokenScope.READ)
            app = self._apps.get(caller.proposing is not None)
            if app is None:
                raise NotFound("mcp: the SDK is not installed here; pip install 'quarterdeck-deck[mcp]'")
            if scope["method"] != "POST":
                raise RequestRefused(405, "mcp: send POST; there are no sessions and no streams here")
        except QuarterdeckError as error:
            await answer_problem(error)(scope, receive, send)
            return
        own = {name: value for name, value in scope.items() if name != "app"}
        async with SLOTS:
            await app({**own, "state": {"caller": caller}}, receive, send)


def _find_caller(context: Any) -> Caller:
    caller = context.request_context.request.state.caller
    assert isinstance(caller, Caller)
    return caller


endpoint = ToolsEndpoint()

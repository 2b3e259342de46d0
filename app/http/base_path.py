"""Middleware for a deck that is not at the root of its address: Streamlit's `server.baseUrlPath`.

Streamlit answers below that path alone; everything else of the server knows paths from the root. So the path is taken
off a request when it comes in, and is put back before Streamlit sees it.
"""

import os
from dataclasses import dataclass

from starlette.responses import JSONResponse, RedirectResponse
from starlette.types import ASGIApp, Receive, Scope, Send

_OPTION = "server.baseUrlPath"
PROBE = "/healthz"  # containers and their keepers ask for it without knowing the path


def read_base_path() -> str:
    """Return Streamlit's `server.baseUrlPath` as a path: "" at the root, else for example "/deck".

    The variable counts, then Streamlit's own file. Its settings are read anew: Streamlit keeps what it has read, and
    the server sets some of them after the first look.
    """
    from streamlit import config

    given = os.environ.get("STREAMLIT_SERVER_BASE_URL_PATH")
    if given is None:
        given = str(config.get_config_options(force_reparse=True)[_OPTION].value or "")
    return "".join(f"/{part}" for part in given.split("/") if part)


def tell_streamlit(base: str) -> None:
    """Have Streamlit answer below the path; a variable reaches it by its own command line alone.

    Call it once the app is made: then Streamlit's settings are also read from the folder of its script.
    """
    from streamlit import config

    config.get_config_options(force_reparse=True)
    config.set_option(_OPTION, base)


@dataclass(frozen=True)
class BelowPath:
    """Takes the base path off every request. Without its last slash it leads on; outside of it nothing is found."""

    app: ASGIApp
    base: str

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on as if the deck were at the root."""
        path = scope.get("path", "")
        if scope["type"] not in ("http", "websocket") or path == PROBE or not self.base:
            await self.app(scope, receive, send)
        elif path.startswith(f"{self.base}/"):
            await self.app(_move(scope, path.removeprefix(self.base)), receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008, "reason": "there is nothing here"})
        elif path == self.base:
            await RedirectResponse(f"{self.base}/", 307)(scope, receive, send)
        else:
            problem = {"error": f"there is nothing here; the deck is at {self.base}/"}
            await JSONResponse(problem, 404)(scope, receive, send)


@dataclass(frozen=True)
class WholePath:
    """Puts the base path back for Streamlit."""

    app: ASGIApp
    base: str

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on with its whole path."""
        known = self.base and scope["type"] in ("http", "websocket")
        await self.app(_move(scope, self.base + scope["path"]) if known else scope, receive, send)


def _move(scope: Scope, path: str) -> Scope:
    return {**scope, "path": path, "raw_path": path.encode("utf-8", "surrogateescape")}

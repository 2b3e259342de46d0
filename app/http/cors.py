"""Cross-origin requests: which other sites' pages may ask for flags and report exposures from a browser, no more."""

from collections.abc import Collection

from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

OPEN_TO_PAGES = ("/ofrep/v1/", "/v1/exposures")
_KNOWN_FOR_S = 600  # how long a browser may remember the answer to its preflight


class CrossOrigin:
    """Lets pages of the listed origins ask for flags: it answers preflights, and adds the headers to every answer.

    It stands in front of what may refuse a request, so that a page can read why. Cookies are not let in.
    """

    def __init__(self, app: ASGIApp, origins: Collection[str]) -> None:
        self._app = app
        self._open = CORSMiddleware(
            app, allow_origins=tuple(origins), allow_methods=("GET", "POST"), max_age=_KNOWN_FOR_S,
            allow_headers=("Authorization", "Content-Type", "If-None-Match", "Last-Event-ID", "X-API-Key"),
            expose_headers=("ETag", "Retry-After", "X-Request-ID"),
        ) if origins else app  # fmt: skip

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, as one that a page of another origin may make or not."""
        is_open = scope["type"] == "http" and scope["path"].startswith(OPEN_TO_PAGES)
        await (self._open if is_open else self._app)(scope, receive, send)

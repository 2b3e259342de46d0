"""Middleware in front of pages and API: allowed hosts and origins, trusted proxy headers, security headers.

It knows nothing about flags or people; `app/visitor.py` reads the headers that pass.
"""

import secrets
from collections.abc import Collection, Iterable
from functools import cache
from urllib.parse import urlsplit

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.http.cors import OPEN_TO_PAGES
from app.http.sign_out import LOGOUT
from core.access.identity import SignIn, is_loopback

SEAL_HEADER = "x-quarterdeck-seal"
_SAFE = ("GET", "HEAD", "OPTIONS")
# What the pages use of Streamlit's own addresses. No page takes a file, and the deck's counts are at /metrics.
_INNER = "/_stcore/"
_USED = ("health", "host-config", "stream")
_USED_BELOW = ("bidi-components/",)

# Streamlit puts styles into the page and one line of script, Plotly's WebGL charts compile their drawing code, and
# components live in frames of blobs. Nothing is loaded from, sent to, or framed by anybody else.
_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' 'wasm-unsafe-eval' blob:; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; font-src 'self' data:; "
    "media-src 'self' data: blob:; worker-src 'self' blob:; connect-src 'self' data: blob:; "
    "frame-src 'self' blob:; object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors 'none'"
)
_HEADERS = {
    "content-security-policy": _POLICY,
    "x-frame-options": "DENY",
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",  # unless an answer says otherwise, as files of Streamlit and documents of flags do
    "permissions-policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
}
_HTTPS_ONLY = {"strict-transport-security": "max-age=31536000"}

Headers = list[tuple[bytes, bytes]]


@cache
def get_seal() -> str:
    """Return the secret that marks a request as checked by the guard of this process; nobody outside can know it."""
    return secrets.token_hex(32)


class Guard:
    """Checks every request to the server.

    Of Streamlit's own addresses it allows those that the pages use.

    It refuses cross-site requests and, where everybody is the local operator, unknown host names (DNS rebinding). It
    drops the proxy's headers when they come from another address or twice, and marks requests that passed. Responses
    carry the security headers, and cookies are `Secure` under HTTPS. Pages of `origins` may ask for flags.
    """

    def __init__(self, app: ASGIApp, access: SignIn, host: str, origins: Collection[str] = ()) -> None:
        self._app = app
        self._access = access
        self._origins = frozenset(origins)
        self._hosts = (
            {"localhost", "127.0.0.1", "[::1]", host.lower()} if access.is_local and is_loopback(host) else None
        )
        self._is_https = access.public_url.startswith("https://")
        self._added = [
            (name.encode(), value.encode())
            for name, value in (_HEADERS | (_HTTPS_ONLY if self._is_https else {})).items()
        ]
        self._names = {name for name, _ in self._added}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it in one line."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        hidden = _is_hidden(scope["path"])
        refusal = "there is nothing here" if hidden else self._refuse(scope)
        answering = self._with_headers(send)
        if refusal and scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008, "reason": refusal})
        elif refusal:
            await JSONResponse({"error": refusal}, 404 if hidden else 403)(scope, receive, answering)
        else:
            await self._app({**scope, "headers": self._seal(scope)}, receive, answering)

    def _refuse(self, scope: Scope) -> str:
        first = dict(reversed(scope["headers"]))  # of several, the first counts; ASGI gives names in lower case
        host, origin, site = (_decode(first.get(name)) for name in (b"host", b"origin", b"sec-fetch-site"))
        if self._hosts is not None and _strip_port(host) not in self._hosts:
            return "host: this server answers to this machine only; use http://127.0.0.1 or a login"
        changes = scope["type"] == "websocket" or scope["method"] not in _SAFE
        is_other = changes and origin is not None and not self._is_own(origin, host or "")
        if is_other and not (origin in self._origins and scope["path"].startswith(OPEN_TO_PAGES)):
            return "origin: a page of another site may not do this"
        if site == "cross-site" and scope["path"].endswith(LOGOUT):
            return "origin: a page of another site may not sign you out"
        return ""

    def _is_own(self, origin: str, host: str) -> bool:
        given = urlsplit(origin.lower())
        default = {"http": ":80", "https": ":443"}.get(given.scheme, "")
        own = given.netloc in (host.lower(), host.lower().removesuffix(default))
        return bool(given.netloc) and (own or origin.lower() == self._access.public_url)

    def _seal(self, scope: Scope) -> Headers:
        dropped = {SEAL_HEADER.encode()}
        proxy = self._access.proxy
        if proxy:
            peer = scope["client"][0] if scope.get("client") else ""
            for name in filter(None, (proxy.user_header, proxy.groups_header)):
                own = name.lower().encode()
                if not proxy.is_from(peer) or sum(given == own for given, _ in scope["headers"]) > 1:
                    dropped.add(own)
        kept = [header for header in scope["headers"] if header[0] not in dropped]
        return [*kept, (SEAL_HEADER.encode(), get_seal().encode())]

    def _with_headers(self, send: Send) -> Send:
        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": self._complete(message.get("headers", []))}
            await send(message)

        return answer

    def _complete(self, headers: Iterable[tuple[bytes, bytes]]) -> Headers:
        given = list(headers)
        known = {name.lower() for name, _ in given}
        if b"set-cookie" in known:
            given = [(name, self._secure(value) if name.lower() == b"set-cookie" else value) for name, value in given]
        if known.isdisjoint(self._names):
            return [*given, *self._added]
        return [*given, *((name, value) for name, value in self._added if name not in known)]

    def _secure(self, cookie: bytes) -> bytes:
        has = any(part.strip().lower() == b"secure" for part in cookie.split(b";"))
        return cookie if has or not self._is_https else cookie + b"; Secure"


def _is_hidden(path: str) -> bool:
    """Return whether a path is one of Streamlit's own that no page uses."""
    _, inner, rest = path.partition(_INNER)
    return bool(inner) and rest not in _USED and not rest.startswith(_USED_BELOW)


def _decode(value: bytes | None) -> str | None:
    return None if value is None else value.decode("latin-1")


def _strip_port(host: str | None) -> str:
    name, separator, port = (host or "").lower().rpartition(":")
    return name if separator and port.isdigit() else (host or "").lower()

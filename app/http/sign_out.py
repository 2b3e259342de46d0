"""Middleware of the sign-in: ends a session in the store when a browser asks Streamlit to sign out, by any way.

Streamlit itself only removes the cookie, and a copy of it would stay valid.
"""

import json
import logging
from collections.abc import Mapping
from datetime import UTC, datetime

from anyio import to_thread
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from app.http.backends import get_store
from core.access.identity import OidcLogin, read_claims
from core.access.sessions import end_session
from core.errors import QuarterdeckError

LOGOUT, CALLBACK = "/auth/logout", "/oauth2callback"
logger = logging.getLogger("quarterdeck")
security = logging.getLogger("quarterdeck.security")


class SigningOut:
    """Ends the session of the cookie that comes with a sign-out, and logs sign-ins that failed."""

    def __init__(self, app: ASGIApp, login: OidcLogin | None) -> None:
        self._app = app
        self._login = login

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, after the session is ended where it asks for that."""
        if self._login and scope["type"] == "http" and scope["path"].endswith(LOGOUT):
            await to_thread.run_sync(_end, Request(scope).cookies, self._login)
        elif self._login and scope["type"] == "http" and scope["path"].endswith(CALLBACK):
            _tell_failure(Request(scope))
        await self._app(scope, receive, send)


def _end(cookies: Mapping[str, str], login: OidcLogin) -> None:
    try:
        now = datetime.now(UTC)
        if (claims := _read_cookie(cookies, login.cookie_secret)) is not None:
            end_session(get_store(), read_claims(login, claims, now=now).session, now=now, lasts=login.session)
    except QuarterdeckError as error:
        logger.warning("a sign-out was not recorded: %s", error)


def _tell_failure(request: Request) -> None:
    """Log that the provider refused a sign-in; what it says comes from the browser."""
    if error := request.query_params.get("error"):
        security.warning("the provider refused a sign-in: %r", error[:80])


def _read_cookie(cookies: Mapping[str, str], secret: str) -> Mapping[str, object] | None:
    """Return the claims in Streamlit's cookie; None where there is none that this deck signed."""
    from streamlit.auth_util import get_cookie_with_chunks
    from streamlit.web.server.starlette.starlette_app_utils import decode_signed_value
    from streamlit.web.server.starlette.starlette_server_config import USER_COOKIE_NAME

    def read(name: str) -> bytes | None:
        return decode_signed_value(secret, name, cookies[name]) if name in cookies else None

    found = get_cookie_with_chunks(read, USER_COOKIE_NAME)
    claims = json.loads(found) if found else None
    return claims if isinstance(claims, dict) else None

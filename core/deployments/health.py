"""Gateway to health checks over HTTP: whether an address answers, and with what. Follows no redirect and no proxy."""

import http.client
import urllib.error
import urllib.request
from typing import Any

from core.errors import SourceUnavailable

_MOST_BYTES = 10_000


def ask(url: str, *, timeout_s: float = 2.0) -> str:
    """Return the first 10 kB of the address's response with status 200. Raises SourceUnavailable, with the reason."""
    try:
        with _OPENER.open(url, timeout=timeout_s) as answer:
            if answer.status != 200:
                raise SourceUnavailable(f"{url} answers {answer.status}")
            return str(answer.read(_MOST_BYTES).decode("utf-8", "replace"))
    except urllib.error.HTTPError as error:
        error.close()
        raise SourceUnavailable(f"{url} answers {error.code}") from error
    except (OSError, ValueError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        raise SourceUnavailable(f"{url} does not answer: {reason or type(error).__name__}") from error


class StayHere(urllib.request.HTTPRedirectHandler):
    """Follows no redirect: what answers elsewhere was not asked."""

    def redirect_request(self, *_arguments: Any, **_named: Any) -> None:
        return None


_OPENER = urllib.request.build_opener(StayHere, urllib.request.ProxyHandler({}))

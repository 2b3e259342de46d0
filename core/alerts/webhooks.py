"""Gateway to webhooks: one signed POST, tried again when the other side is busy or gone. Follows no redirect.

A try has a total time, however slowly the other side answers.
"""

import http.client
import json
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

from core.alerts.messages import sign
from core.deployments.health import StayHere
from core.errors import SourceUnavailable

TRIES = 3
_TIMEOUT_S = 5.0
_TOTAL_S = 10.0


def post_signed(
    url: str,
    message: Mapping[str, Any],
    secret: str,
    *,
    clock: Callable[[], float] = time.time,
    sleep: Callable[[float], None] = time.sleep,
) -> int:
    """Send the message as JSON and return the number of attempts. Waits 1 s, then 2 s between attempts.

    Every attempt has the same body and a fresh timestamp, and without a secret ("") no signature. Raises
    SourceUnavailable, without the address's query part, when no attempt gets a 2xx answer; a 4xx other than 408 and 429
    is not retried.
    """
    body = json.dumps(message, ensure_ascii=False, sort_keys=True).encode()
    problem = ""
    for number in range(1, TRIES + 1):
        problem, final = _post(url, body, secret, int(clock()))
        if not problem:
            return number
        if final:
            break
        if number < TRIES:
            sleep(2.0 ** (number - 1))
    raise SourceUnavailable(f"webhook {url.split('?')[0]} was not reached: {problem}")


def post_once(url: str, body: bytes, secret: str) -> None:
    """Send a body in one attempt, within ten seconds. Raises SourceUnavailable, naming the server alone."""
    problem, _ = _post(url, body, secret, int(time.time()))
    if problem:
        raise SourceUnavailable(f"webhook at {urlsplit(url).netloc} was not reached: {problem}")


def _post(url: str, body: bytes, secret: str, timestamp: int) -> tuple[str, bool]:
    """Return the problem ("" when delivered) and whether a retry is useless."""
    headers = {
        "Content-Type": "application/json",
        "User-Agent": "quarterdeck",
        "X-Quarterdeck-Timestamp": str(timestamp),
    }
    if secret:
        headers["X-Quarterdeck-Signature"] = sign(secret, timestamp, body)
    request = urllib.request.Request(url, data=body, headers=headers, method="POST")  # noqa: S310 - checked by Channel
    try:
        with _OPENER.open(request, timeout=_TIMEOUT_S):
            return "", True
    except urllib.error.HTTPError as error:
        error.close()
        return f"it answered {error.code}", 300 <= error.code < 500 and error.code not in (408, 429)
    except (OSError, ValueError, http.client.HTTPException) as error:
        said = " ".join(str(getattr(error, "reason", error)).split())[:200]
        return said or f"it did not speak HTTP ({type(error).__name__})", False


class _WithinTime(http.client.HTTPConnection):
    """A connection that is cut when its time is up: a time limit of a socket is one of each read."""

    def connect(self) -> None:
        super().connect()
        timer = threading.Timer(_TOTAL_S, _cut, [self])
        timer.daemon = True
        timer.start()


class _SecureWithinTime(http.client.HTTPSConnection, _WithinTime):
    """The same over TLS. The time begins before the handshake."""


class _Http(urllib.request.HTTPHandler):
    def http_open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_WithinTime, request)


class _Https(urllib.request.HTTPSHandler):
    def https_open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_SecureWithinTime, request)


def _cut(connection: http.client.HTTPConnection) -> None:
    with suppress(OSError, AttributeError):  # it has ended
        connection.sock.shutdown(socket.SHUT_RDWR)


_OPENER = urllib.request.build_opener(StayHere, _Http, _Https)

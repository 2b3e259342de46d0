"""Reads the bodies of HTTP requests, unzipped and up to a limit. Handlers interpret them."""

import zlib

from starlette.requests import Request

from app.http.refusals import RequestRefused
from core.errors import InvalidInput

MAX_BODY_BYTES = 10_000_000


async def read_body(request: Request, most_bytes: int = MAX_BODY_BYTES) -> bytes:
    """Return a request's body, unzipped, of at most `most_bytes` bytes. Raises RequestRefused and InvalidInput."""
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("identity", "gzip"):
        raise RequestRefused(415, f"Content-Encoding: {encoding} is not understood here; send gzip or none")
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > most_bytes:
            raise _too_large(most_bytes)
    return _unzip(bytes(body), most_bytes) if encoding == "gzip" else bytes(body)


def _unzip(body: bytes, most_bytes: int) -> bytes:
    unzipper = zlib.decompressobj(wbits=31)
    try:
        plain = unzipper.decompress(body, most_bytes + 1)
    except zlib.error as error:
        raise InvalidInput("body", f"is not gzip: {error}") from error
    if len(plain) > most_bytes:
        raise _too_large(most_bytes)
    if not unzipper.eof:
        raise InvalidInput("body", "is not gzip: it ends too early")
    return plain


def _too_large(most_bytes: int) -> RequestRefused:
    return RequestRefused(413, f"body: is larger than {most_bytes:,} bytes; send it in parts")

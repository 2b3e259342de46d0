"""Reads the bodies of HTTP requests, unzipped and up to a limit. Handlers interpret them."""

import asyncio
import zlib

from starlette.requests import ClientDisconnect, Request

from app.http.refusals import RequestRefused
from core.errors import InvalidInput

MAX_BODY_BYTES = 10_000_000
BODY_WITHIN_S = 60.0
_WINDOWS = {"gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS}


async def read_body(request: Request, most_bytes: int = MAX_BODY_BYTES) -> bytes:
    """Return a request's body, unzipped, of at most `most_bytes` bytes. Raises RequestRefused and InvalidInput."""
    headers = request.headers
    encoding = headers["content-encoding"].strip().lower() if "content-encoding" in headers else "identity"
    if encoding not in ("identity", *_WINDOWS):
        raise RequestRefused(415, f"Content-Encoding: {encoding} is not understood here; send gzip, deflate or none")
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_WITHIN_S):
            while True:  # as `request.stream` does, with less work
                message = await request.receive()
                if message["type"] == "http.disconnect":
                    raise ClientDisconnect
                body += message.get("body", b"")
                if len(body) > most_bytes:
                    raise _too_large(most_bytes)
                if not message.get("more_body"):
                    break
    except TimeoutError:
        raise RequestRefused(408, f"body: took longer than {BODY_WITHIN_S:.0f} seconds") from None
    return bytes(body) if encoding == "identity" else _unzip(bytes(body), encoding, most_bytes)


def _unzip(body: bytes, encoding: str, most_bytes: int) -> bytes:
    window = _WINDOWS[encoding]
    if encoding == "deflate" and not _has_zlib_header(body):
        window = -zlib.MAX_WBITS  # some clients send it without the header that the standard demands
    unzipper = zlib.decompressobj(wbits=window)
    try:
        plain = unzipper.decompress(body, most_bytes + 1)
    except zlib.error as error:
        raise InvalidInput("body", f"is not {encoding}: {error}") from error
    if len(plain) > most_bytes:
        raise _too_large(most_bytes)
    if not unzipper.eof:
        raise InvalidInput("body", f"is not {encoding}: it ends too early")
    return plain


def _has_zlib_header(body: bytes) -> bool:
    return len(body) > 1 and body[0] & 0x0F == 8 and int.from_bytes(body[:2], "big") % 31 == 0


def _too_large(most_bytes: int) -> RequestRefused:
    return RequestRefused(413, f"body: is larger than {most_bytes:,} bytes; send it in parts")

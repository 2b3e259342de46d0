"""A thousand requests of garbage to every route of the HTTP API, drawn from a seed; schemathesis is in `test_ofrep.py`.

They are sent over ASGI, because no HTTP client would send most of them.
"""

import asyncio
import gzip
import json
import random
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message

from app.http import api, backends
from app.http.guard import Guard
from app.http.observing import Observing
from core.audit.acts import Act
from core.audit.trail import list_audit, list_broken_audit_entries
from core.config import load_config
from core.flags.operations import create_flag
from quarterdeck.definitions import boolean_flag
from quarterdeck.store import Store

pytestmark = [pytest.mark.slow, pytest.mark.deep]

REQUESTS = 1_000
ROW = {"query": "what is an mbuf", "score": 0.7, "arm": "blue", "ts": "2026-03-01T12:00:00Z", "cost_usd": 0.01}
CONTEXT = {"context": {"targetingKey": "u1", "country": "DE"}}
METHODS = ("GET", "POST", "POST", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "HEAD", "BREW", "get", "é")
TYPES = (
    b"application/json",
    b"application/x-ndjson",
    b"application/x-protobuf",
    b"text/html",
    b"\xff",
    b"a/b; charset=q",
)
TEXTS = (
    "", "\x00", "‮evil", "𝕏" * 50, "<script>alert(1)</script>", "' OR 1=1 --", "{{7*7}}", "../../etc/passwd", "\ud800",
    "x" * 5_000, "%00", "null", "\r\nSet-Cookie: a=b", "１２", "-0", "1e999",
)  # fmt: skip
VALUES: tuple[Any, ...] = (
    None, True, -1, 0, 2**63, 2**70, -(2**64), 1e308, float("nan"), float("inf"), [], {}, [[]], {"": {}}, *TEXTS,
)  # fmt: skip
HEADERS = (
    b"content-type", b"content-encoding", b"authorization", b"x-api-key", b"idempotency-key", b"if-none-match", b"host",
    b"origin", b"x-request-id", b"content-length", b"accept", b"cookie", b"sec-fetch-site", b"x-forwarded-for",
    b"\xff\xfe",
)  # fmt: skip


@pytest.fixture
def server(url: str, store: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[ASGIApp]:
    """The server as `quarterdeck serve` builds it, with a stub in place of the pages."""
    monkeypatch.setenv("QUARTERDECK_DATABASE_URL", url)
    monkeypatch.setenv("QUARTERDECK_HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    create_flag(store, "new_prompt_v3", boolean_flag(on=True, rollout_pct=20), Act("ada", "a test"))
    backends.close()
    access = load_config({"QUARTERDECK_HOME": str(tmp_path)}).access
    yield Observing(Guard(api.ApiAhead(PlainTextResponse("pages")), access, "127.0.0.1"), api.ROUTES)
    backends.close()


def garble(value: Any, rng: random.Random) -> Any:
    """A value like the one given, wrong in some place or in many."""
    if rng.random() < 0.25:
        return rng.choice(VALUES)
    if isinstance(value, dict):
        changed = {rng.choice((key, rng.choice(TEXTS))) if rng.random() < 0.1 else key: garble(each, rng)
                   for key, each in value.items() if rng.random() < 0.95}  # fmt: skip
        return changed | ({rng.choice(TEXTS): rng.choice(VALUES)} if rng.random() < 0.2 else {})
    if isinstance(value, list):
        return [garble(each, rng) for each in value] * rng.choice((0, 1, 1, 50))
    return value


def draw_body(rng: random.Random) -> bytes:
    kind = rng.randrange(8)
    if kind == 0:
        return rng.randbytes(rng.choice((0, 1, 17, 3_000)))
    if kind == 1:
        return b"[" * rng.choice((10, 5_000)) + b"]" * rng.choice((0, 10))
    base = rng.choice((ROW, [ROW, ROW], {"retrievals": [ROW]}, CONTEXT, {"resourceSpans": [{"scopeSpans": [{}]}]}))
    body = json.dumps(garble(base, rng)).encode()
    if kind == 2:
        return gzip.compress(body)[: rng.choice((5, 10_000))]
    if kind == 3:
        cut = bytearray(body)
        for _ in range(rng.randrange(1, 6)):
            cut[rng.randrange(len(cut)) : rng.randrange(len(cut)) + 1] = rng.randbytes(rng.randrange(3))
            cut = cut or bytearray(b"{")
        return bytes(cut)
    return body


def draw_request(path: str, rng: random.Random) -> tuple[dict[str, Any], bytes]:
    """A request to a route: its path is right, so that it gets there, and hardly anything else."""
    own = next(iter(next(route.methods or ["GET"] for route in api.ROUTES if route.path == path)))
    method = own if rng.random() < 0.7 else rng.choice(METHODS)
    there = path.replace("{key:path}", rng.choice(("new_prompt_v3", *(each for each in TEXTS if each), "a/b/../c")))
    headers = [
        (name, rng.choice((*TYPES, rng.randbytes(12), rng.choice(TEXTS).encode("utf-8", "replace")[:4_000])))
        for name in HEADERS if rng.random() < 0.15
    ]  # fmt: skip
    if rng.random() < 0.9:
        headers = [pair for pair in headers if pair[0] not in (b"host", b"origin", b"sec-fetch-site")]
        headers += [(b"host", b"127.0.0.1"), (b"content-type", rng.choice(TYPES[:3]))]
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method,
        "scheme": "http", "path": there, "raw_path": there.encode("utf-8", "replace"), "root_path": "",
        "query_string": rng.choice((b"", b"environment=x", rng.randbytes(20), b"&&=%zz&a[]=1")),
        "headers": headers, "client": ("127.0.0.1", 5), "server": ("127.0.0.1", 80), "state": {},
    }  # fmt: skip
    return scope, draw_body(rng)


async def send(server: ASGIApp, scope: dict[str, Any], body: bytes) -> tuple[int, bytes]:
    """Send a request in two parts; return status and body of the one answer."""
    parts = [body[: len(body) // 2], body[len(body) // 2 :]]
    answers: list[Message] = []

    async def receive() -> Message:
        if not parts:
            return {"type": "http.disconnect"}
        part = parts.pop(0)
        return {"type": "http.request", "body": part, "more_body": bool(parts)}

    async def take(message: Message) -> None:
        answers.append(message)

    await server(scope, receive, take)
    starts = [message for message in answers if message["type"] == "http.response.start"]
    assert len(starts) == 1, scope
    return starts[0]["status"], b"".join(message.get("body", b"") for message in answers)


@pytest.mark.parametrize("path", sorted({route.path for route in api.ROUTES}))
def test_garbage_is_refused_in_one_line_and_leaves_no_trace(path: str, server: ASGIApp, store: Store) -> None:
    rng, statuses = random.Random(path), Counter[int]()

    async def send_all() -> None:
        for _ in range(REQUESTS):
            scope, body = draw_request(path, rng)
            status, answer = await send(server, scope, body)
            assert 200 <= status < 500, (scope, body, answer)
            assert b"Traceback" not in answer, (scope, body)
            statuses[status] += 1

    with ThreadPoolExecutor(1) as beside:  # a browser test of the same process leaves a loop running in this thread
        beside.submit(lambda: asyncio.run(send_all())).result()
    print(f"{path}: {dict(sorted(statuses.items()))}")
    assert sum(statuses.values()) == REQUESTS
    assert [entry.action for entry in list_audit(store)] == ["flag.create"]
    assert list_broken_audit_entries(store) == ()
    with closing(Store(str(store.url.render_as_string(hide_password=False)))) as other, other.read() as connection:
        rows = connection.scalar(text("SELECT COUNT(*) FROM retrievals"))
        good = "score IS NULL OR (score >= 0 AND score <= 1)"
        assert connection.scalar(text(f"SELECT COUNT(*) FROM retrievals WHERE {good}")) == rows
        counted = "SELECT SUM(n + unmapped + unscored + empty + failed) FROM rollups WHERE dimension = ''"
        assert (connection.scalar(text(counted)) or 0) == rows

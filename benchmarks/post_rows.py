"""How many single rows per second does `POST /v1/retrievals` store, each answered when it is durable?

Run: `python -m benchmarks.post_rows [--seconds 8] [--connections 16] [--database URL]`. Two peers are served by the
same uvicorn in the same run, in turns with ours: a route that stores each request in a transaction of its own (checks,
rows and rollups are the same), and a bare Starlette route that reads the same JSON and answers as much. Ours stands
behind everything that `quarterdeck serve` puts before it, but for the pages. The client is one process that speaks HTTP
by hand, over connections that stay open.
"""

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp

from quarterdeck.store import Store

PROJECT = Path(__file__).resolve().parents[1]
PATH = "/v1/retrievals"
OURS, ALONE, BARE = "group commit", "commit per request", "bare route"
ROW = {
    "query": "how do I resize a ring of the receive queue", "score": 0.71, "session_id": "s-17", "arm": "green",
    "prompt_version": "v2", "index_version": "docs-42", "latency_ms": 41.5,
}  # fmt: skip
BODY = json.dumps(ROW).encode()
_TURNS = 4


@dataclass(frozen=True, slots=True)
class Measured:
    """Requests per second, and the median and 99th percentile of their latency."""

    per_s: float
    p50_ms: float
    p99_ms: float


def measure(url: str, *, seconds: float, connections: int) -> dict[str, Measured]:
    """Return what each way answered, by name; all stored rows are counted and compared."""
    found: dict[str, list[float]] = {name: [] for name in (OURS, ALONE, BARE)}
    with ExitStack() as stack:
        ports = {name: stack.enter_context(_serving(name, url)) for name in found}
        for port in ports.values():
            asyncio.run(_load(port, 0.3, connections))  # warm
        before = _count_rows(url)
        for _ in range(_TURNS):
            for name, port in ports.items():
                found[name] += asyncio.run(_load(port, seconds / _TURNS, connections))
    stored = _count_rows(url) - before
    assert stored == len(found[OURS]) + len(found[ALONE]), (stored, {name: len(each) for name, each in found.items()})
    return {name: _sum_up(times, seconds) for name, times in found.items()}


def _sum_up(times: Sequence[float], seconds: float) -> Measured:
    ordered = sorted(times)
    return Measured(
        len(times) / seconds, 1_000 * ordered[len(times) // 2], 1_000 * ordered[int(len(times) * 0.99)]
    )  # fmt: skip


async def _load(port: int, seconds: float, connections: int) -> list[float]:
    """Send rows over this many connections, without a pause; return every latency in seconds."""
    end = time.perf_counter() + seconds
    times: list[float] = []

    async def send_again_and_again() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while (began := time.perf_counter()) < end:
            writer.write(_REQUEST)
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 201"), head
            await reader.readexactly(int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0]))
            times.append(time.perf_counter() - began)
        writer.close()

    await asyncio.gather(*(send_again_and_again() for _ in range(connections)))
    return times


_REQUEST = (
    f"POST {PATH} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: {len(BODY)}\r\n\r\n"
).encode() + BODY


def _count_rows(url: str) -> int:
    with closing(Store(url)) as store, store.read() as connection:
        return int(connection.exec_driver_sql("SELECT COUNT(*) FROM retrievals").scalar() or 0)


@contextmanager
def _serving(what: str, url: str) -> Iterator[int]:
    """A server in a process of its own; yields its port."""
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.post_rows", "serve", what, url],
        cwd=PROJECT, env={**os.environ, "QUARTERDECK_REQUIRE_TOKENS": "off"}, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert process.stdout
        yield int(process.stdout.readline())
    finally:
        process.terminate()
        process.wait(30)


def _serve(what: str, url: str) -> None:
    import socket

    import uvicorn

    opened = socket.socket()
    opened.bind(("127.0.0.1", 0))
    opened.listen(64)
    app = {OURS: _ours, ALONE: _alone, BARE: _bare}[what](url)
    print(opened.getsockname()[1], flush=True)
    uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False, lifespan="off")).run([opened])


def _ours(url: str) -> ASGIApp:
    from starlette.responses import PlainTextResponse

    from app.http.api import ROUTES, ApiAhead
    from app.http.guard import Guard
    from app.http.observing import Observing
    from app.http.server import SWITCH_EVERY_S
    from core.config import load_config

    sys.setswitchinterval(SWITCH_EVERY_S)
    os.environ["QUARTERDECK_DATABASE_URL"] = url
    guarded = Guard(ApiAhead(PlainTextResponse("pages")), load_config(os.environ).access, "127.0.0.1")
    return Observing(guarded, ROUTES)


def _alone(url: str) -> ASGIApp:
    """The plain way: each request parses its row and stores it in a thread, in a transaction of its own."""
    from datetime import UTC, datetime
    from functools import partial

    from anyio import to_thread
    from starlette.applications import Starlette
    from starlette.routing import Route

    from core.intake.rows import parse_record, read_api_time
    from quarterdeck.recorder import append_retrievals
    from quarterdeck.redaction import redact

    store = Store(url)

    def keep(body: bytes) -> str:
        now = datetime.now(UTC)
        row = parse_record(json.loads(body), read_time=partial(read_api_time, now=now), redact=redact)
        append_retrievals(store, [row])
        return row.name

    async def answer(request: Request) -> Response:
        name = await to_thread.run_sync(keep, await request.body())
        return JSONResponse({"stored": 1, "retrieval_ids": [name]}, 201)

    return Starlette(routes=[Route(PATH, answer, methods=["POST"])])


def _bare(_url: str) -> ASGIApp:
    from starlette.applications import Starlette
    from starlette.routing import Route

    async def answer(request: Request) -> Response:
        await request.json()
        return JSONResponse({"stored": 1, "retrieval_ids": ["x" * 36]}, 201)

    return Starlette(routes=[Route(PATH, answer, methods=["POST"])])


def main() -> None:
    if sys.argv[1:2] == ["serve"]:
        _serve(*sys.argv[2:])
        return
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--database", help="an empty store; without it, a SQLite file that is removed afterwards")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="post-rows-") as folder:
        url = options.database or f"sqlite:///{folder}/deck.db"
        with closing(Store(url, create=True)) as store, store.begin():
            pass
        found = measure(url, seconds=options.seconds, connections=options.connections)
    for name, measured in found.items():
        print(
            f"{name}: {measured.per_s:,.0f} rows/s, p50 {measured.p50_ms:.1f} ms, p99 {measured.p99_ms:.1f} ms; "
            f"ours is {found[OURS].per_s / measured.per_s:.2f} of it"
        )


if __name__ == "__main__":
    main()

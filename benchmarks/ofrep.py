"""How many flag evaluations per second does the HTTP API answer over OFREP, with which 99th percentile of latency?

Run: `python -m benchmarks.ofrep [--seconds 10] [--connections 8]`. The peer is a bare Starlette route that reads a JSON
body and answers one of the same size, served by the same uvicorn, in turns with ours in the same run. Ours stands
behind everything that `quarterdeck serve` puts before it, but for the pages. One flag, and all of `FLAGS`, as POST with
keep-alive; the client is one process that speaks HTTP by hand. The ratio of the servers' processor time does not hang
on what else the machine does.
"""

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from starlette.types import ASGIApp

from core.audit.acts import Act
from core.flags.operations import create_flag
from quarterdeck.definitions import boolean_flag
from quarterdeck.store import Store

PROJECT = Path(__file__).resolve().parents[1]
FLAGS = 20
SINGLE, BULK = "/ofrep/v1/evaluate/flags/flag-7", "/ofrep/v1/evaluate/flags"
BODY = json.dumps({"context": {"targetingKey": "user-42", "country": "DE"}}).encode()
_TURNS = 12  # turns of ours and of the peer: short ones, so that a busy machine slows both


@dataclass(frozen=True, slots=True)
class Measured:
    """Requests per second, the 99th percentile of latency, and the server's processor time for a request."""

    per_s: float
    p99_ms: float
    cpu_us: float


def measure(url: str, *, seconds: float, connections: int) -> dict[str, Measured]:
    """Return what ours and the bare route answered, by name."""
    with serving("ours", url) as ours:
        sizes = {path: len(asyncio.run(_ask_once(ours[0], path))) for path in (SINGLE, BULK)}
        with serving("bare", json.dumps(list(sizes.values()))) as bare:
            asked = {
                "single": (ours, SINGLE),
                "single, bare": (bare, "/0"),
                "bulk": (ours, BULK),
                "bulk, bare": (bare, "/1"),
            }
            found: dict[str, list[float]] = {name: [] for name in asked}
            cpu_s = dict.fromkeys(asked, 0.0)
            for _ in range(_TURNS):
                for name, ((port, pid), path) in asked.items():
                    before = read_cpu_s(pid)
                    found[name] += asyncio.run(_load(port, path, seconds / _TURNS, connections))
                    cpu_s[name] += read_cpu_s(pid) - before
    return {
        name: Measured(len(times) / seconds, _p99(times), 1e6 * cpu_s[name] / len(times))
        for name, times in found.items()
    }


def read_cpu_s(pid: int) -> float:
    """Processor time of a process so far, user and system (Linux)."""
    after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(after_name[11]) + int(after_name[12])) / os.sysconf("SC_CLK_TCK")


async def _load(port: int, path: str, seconds: float, connections: int) -> list[float]:
    """Send requests over this many connections, without a pause; return every latency in seconds."""
    end = time.perf_counter() + seconds
    times: list[float] = []

    async def ask_again_and_again() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while (began := time.perf_counter()) < end:
            await _ask(reader, writer, path)
            times.append(time.perf_counter() - began)
        writer.close()

    await asyncio.gather(*(ask_again_and_again() for _ in range(connections)))
    return times


async def _ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, path: str) -> bytes:
    writer.write(
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(BODY)}\r\n\r\n".encode()
        + BODY
    )
    head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200"), head
    length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
    return await reader.readexactly(length)


async def _ask_once(port: int, path: str) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    answer = await _ask(reader, writer, path)
    writer.close()
    return answer


def _p99(times: list[float]) -> float:
    return 1_000 * sorted(times)[int(len(times) * 0.99)]


@contextmanager
def serving(what: str, argument: str) -> Iterator[tuple[int, int]]:
    """A server in a process of its own; yields its port and its process id."""
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.ofrep", "serve", what, argument],
        cwd=PROJECT, env={**os.environ, "QUARTERDECK_REQUIRE_TOKENS": "off"}, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert process.stdout
        yield int(process.stdout.readline()), process.pid
    finally:
        process.terminate()
        process.wait(30)


def _serve(what: str, argument: str) -> None:
    import socket

    import uvicorn

    opened = socket.socket()
    opened.bind(("127.0.0.1", 0))
    opened.listen(64)
    app = _ours(argument) if what == "ours" else _bare(json.loads(argument))
    print(opened.getsockname()[1], flush=True)
    uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False, lifespan="off")).run([opened])


def _ours(url: str) -> ASGIApp:
    from starlette.responses import PlainTextResponse

    from app.http.api import ROUTES, ApiAhead
    from app.http.cors import CrossOrigin
    from app.http.guard import Guard
    from app.http.limits import Limits
    from app.http.observing import Observing
    from app.http.sign_out import SigningOut
    from core.config import load_config

    os.environ["QUARTERDECK_DATABASE_URL"] = url
    access = load_config(os.environ).access
    guarded = Guard(SigningOut(ApiAhead(PlainTextResponse("pages")), access.login), access, "127.0.0.1")
    limited = Limits(guarded, per_minute=100_000_000, at_once=10_000, proxy=access.proxy)
    return Observing(CrossOrigin(limited, ()), ROUTES)


def _bare(sizes: list[int]) -> ASGIApp:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import JSONResponse, Response
    from starlette.routing import Route

    def answer_with(size: int) -> Callable[[Request], Awaitable[Response]]:
        text = "x" * (size - len('{"a":""}'))

        async def answer(request: Request) -> Response:
            await request.json()
            return JSONResponse({"a": text})

        return answer

    return Starlette(
        routes=[Route(f"/{at}", answer_with(size), methods=["POST"]) for at, size in enumerate(sizes)]
    )  # fmt: skip


def main() -> None:
    if sys.argv[1:2] == ["serve"]:
        _serve(*sys.argv[2:])
        return
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--connections", type=int, default=8)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ofrep-") as folder:
        url = f"sqlite:///{folder}/deck.db"
        with closing(Store(url, create=True)) as store:
            for at in range(FLAGS):
                create_flag(store, f"flag-{at}", boolean_flag(on=True, rollout_pct=20), Act("harness", "to ask for"))
        found = measure(url, seconds=options.seconds, connections=options.connections)
    for name in ("single", "bulk"):
        ours, bare = found[name], found[f"{name}, bare"]
        print(
            f"{name}{f' of {FLAGS}' * (name == 'bulk')}: {ours.per_s:,.0f} requests/s, p99 {ours.p99_ms:.1f} ms; "
            f"bare route {bare.per_s:,.0f} requests/s, p99 {bare.p99_ms:.1f} ms; ratio {ours.per_s / bare.per_s:.2f}; "
            f"{ours.cpu_us:.0f} and {bare.cpu_us:.0f} us of the processor, ratio {bare.cpu_us / ours.cpu_us:.2f}"
        )


if __name__ == "__main__":
    main()

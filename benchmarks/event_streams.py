"""What do open event streams cost, and how soon does a change of a flag reach all of them?

Run: `python -m benchmarks.event_streams [--streams 2000] [--flips 5] [--refetch]`. A real `quarterdeck serve` over an
empty SQLite store; the clients are sockets of this process, and so is whoever flips the flag. Memory is the server's
resident set before the streams and with all of them open. With `--refetch` each client asks for all flags at each
event, over one of 50 further connections, and the time is until the last one has its answer.
"""

import argparse
import asyncio
import json
import os
import resource
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from core.audit.acts import Act
from core.flags.operations import create_flag, switch_flag
from core.flags.store import get_flag
from quarterdeck.definitions import boolean_flag
from quarterdeck.store import Store

PROJECT = Path(__file__).resolve().parents[1]
PATH = "/ofrep/v1/events"
BULK = "/ofrep/v1/evaluate/flags"
BODY = json.dumps({"context": {"targetingKey": "user-42"}}).encode()
MOST_FILES = 10_000
CONNECTIONS = 50
ME = Act("harness", "to be told")


async def measure(port: int, pid: int, store: Store, *, streams: int, flips: int, refetch: bool) -> None:
    """Open the streams, flip the flag, print what it took."""
    await _ask_all(port, 10)  # the server's first answers load what it needs
    before = _resident_mb(pid)
    opened = await _open_all(port, streams)
    await asyncio.sleep(3)
    cost = _resident_mb(pid) - before
    print(f"{streams:,} streams: {cost:.0f} MB ({1_000 * cost / streams:.0f} kB each), {before:.0f} MB without")
    slowest = []
    for number in range(flips):
        await asyncio.sleep(1.3)
        heard = [asyncio.ensure_future(_hear(reader)) for reader, _ in opened]
        await asyncio.sleep(0.5 + 0.07 * number)  # at other moments of the server's polling
        flag = await asyncio.to_thread(get_flag, store, "production", "flipped")
        await asyncio.to_thread(switch_flag, store, flag, ME, on=not flag.view.is_on)
        at = time.perf_counter()
        times = sorted(each - at for each in await asyncio.gather(*heard))
        if refetch:
            await _ask_all(port, streams)
            times.append(time.perf_counter() - at)
        slowest.append(times[-1])
        print(f"flip {number + 1}: first {times[0]:.2f} s, half {times[len(times) // 2]:.2f} s, all {times[-1]:.2f} s")
    print(f"all within {max(slowest):.2f} s, median {statistics.median(slowest):.2f} s")
    for _, writer in opened:
        writer.close()


async def _open_all(port: int, streams: int) -> list[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    opened = []
    for begin in range(0, streams, 50):
        opened += await asyncio.gather(*(_open(port) for _ in range(min(50, streams - begin))))
    return opened


async def _open(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=4_096)
    writer.write(f"GET {PATH} HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: text/event-stream\r\n\r\n".encode())
    head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200"), head
    return reader, writer


async def _hear(reader: asyncio.StreamReader) -> float:
    """When the next event arrives."""
    while b"refetchEvaluation" not in await reader.readline():
        pass
    return time.perf_counter()


async def _ask_all(port: int, times: int) -> None:
    async def ask(own: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for _ in range(own):
            writer.write(
                f"POST {BULK} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
                f"Content-Length: {len(BODY)}\r\n\r\n".encode()
                + BODY
            )
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200"), head
            await reader.readexactly(int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0]))
        writer.close()

    share = [times // CONNECTIONS + (at < times % CONNECTIONS) for at in range(CONNECTIONS)]
    await asyncio.gather(*(ask(own) for own in share if own))


def _resident_mb(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


@contextmanager
def _serving(home: Path) -> Iterator[tuple[int, int]]:
    """A server in a process of its own; yields its port and process id."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    settings = {
        "QUARTERDECK_HOME": str(home), "QUARTERDECK_DATABASE_URL": f"sqlite:///{home}/deck.db",
        "QUARTERDECK_ADDRESS_CONNECTIONS": "8000", "QUARTERDECK_OTLP_GRPC_PORT": "off",
    }  # fmt: skip
    program = Path(sys.executable).with_name("quarterdeck")
    process = subprocess.Popen([program, "serve", "--port", str(port)], cwd=PROJECT, env={**os.environ, **settings})
    try:
        for _ in range(600):
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz"):
                    break
            except OSError:
                time.sleep(0.1)
        yield port, process.pid
    finally:
        began = time.perf_counter()
        process.terminate()
        process.wait(30)
        print(f"the server stopped in {time.perf_counter() - began:.1f} s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--streams", type=int, default=2_000)
    parser.add_argument("--flips", type=int, default=5)
    parser.add_argument("--refetch", action="store_true")
    options = parser.parse_args()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(MOST_FILES, most), most))
    with tempfile.TemporaryDirectory(prefix="streams-") as folder:
        home = Path(folder)
        with closing(Store(f"sqlite:///{home}/deck.db", create=True)) as store:
            create_flag(store, "flipped", boolean_flag(on=True), ME)
            with _serving(home) as (port, pid):
                asyncio.run(
                    measure(port, pid, store, streams=options.streams, flips=options.flips, refetch=options.refetch)
                )


if __name__ == "__main__":
    main()

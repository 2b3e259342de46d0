"""Fifty visitors while four services log and two people flip flags: are the pages fast, and is anything lost?

    python -m benchmarks.load [--home FOLDER] [--minutes 30] [--sessions 50] [--rows-per-s 20000] [--documents]
        [--plot FILE.svg]

Works on a copy of the home (default: the demo's), served by one process, of which each page was opened once. Each
visitor is a session that speaks the protocol of Streamlit's own browser code over a WebSocket: it opens a page, mostly
with filters, which runs all of it, waits until it is complete, and looks at it for 5 to 35 seconds. Four processes log
retrievals of 100,000 users at an even pace through `Quarterdeck.log_retrieval`, with --documents five documents and
three declared dimensions each. Two flip a flag each, every second.
Printed: the median, 95th and 99th percentile of an interaction by page and by time, rows logged and found again, flips
and their audit entries, the store's growth on disk, and the server's memory (Linux: VmRSS). Exits with 1 when 95% take
1.5 s or more, a row or flip is lost, or memory grows.
"""

import argparse
import asyncio
import json
import multiprocessing
import os
import random
import shutil
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

from sqlalchemy import text
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from websockets.asyncio.client import ClientConnection, connect
from websockets.typing import Subprotocol

from app.navigation import TITLES, path_of
from benchmarks.app_memory import find_server, read_mb
from benchmarks.first_paint import find_port, served
from benchmarks.recorder import declare, details
from core.audit.acts import Act
from core.audit.trail import AuditFilter, list_audit
from core.config import load_config
from core.flags.operations import create_flag, switch_flag
from core.flags.store import get_flag
from quarterdeck import Quarterdeck
from quarterdeck.definitions import boolean_flag
from quarterdeck.store import Store

# What visitors do: open a page, or change one of its filters, which are in the address.
VISITS = (
    *map(path_of, TITLES),
    "drift?days=7d", "drift?days=30d", "coverage?days=30d", "prompts?tab=Runs", "prompts?tab=Live",
    "corpus?tab=Files&version=v1", "corpus?tab=Diff", "corpus?tab=Indexes", "rollouts?flag=new_prompt_v3",
    "rollouts?search=prompt", "rollouts?tab=Canaries", "audit?entry=3",
)  # fmt: skip
LOOKS_S, LOGGERS, FLIPPERS, USERS = (5.0, 35.0), 4, 2, 100_000
MOST_P95_S, MOST_GROWTH = 1.5, 0.05
_BURST_S, _SAMPLE_S, _SHOWN_S, _PATIENCE_S = 0.05, 5.0, 120.0, 120.0


@dataclass
class Outcome:
    """What was observed: each interaction's page, start and duration, errors, memory; times in seconds of the run."""

    interactions: list[tuple[str, float, float]] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    memory: list[tuple[float, float]] = field(default_factory=list)


class Visitor:
    """One browser session, which reads every message until the page's run ends."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._pages: dict[str, str] = {}

    async def open(self, visit: str) -> str | None:
        """Open a page by its address; return the first error that it shows, if any."""
        page, _, query = visit.partition("?")
        message = BackMsg()
        message.rerun_script.query_string = query
        message.rerun_script.page_script_hash = self._pages.get(page, "")
        message.rerun_script.page_name = "" if self._pages else page
        message.rerun_script.context_info.timezone = "UTC"
        await self._socket.send(message.SerializeToString())
        fault = None
        while True:
            answer = ForwardMsg.FromString(await asyncio.wait_for(self._socket.recv(decode=False), _PATIENCE_S))
            kind = answer.WhichOneof("type")
            if kind == "navigation":
                self._pages = {each.url_pathname: each.page_script_hash for each in answer.navigation.app_pages}
            elif kind == "delta" and answer.delta.new_element.WhichOneof("type") == "exception":
                fault = f"{visit}: {answer.delta.new_element.exception.message}"
            elif kind == "script_finished" and answer.script_finished == ForwardMsg.FINISHED_SUCCESSFULLY:
                return fault


@asynccontextmanager
async def visitor_of(address: str) -> AsyncIterator[Visitor]:
    """Connect a visitor, who sees the first page."""
    url = f"{address.replace('http', 'ws')}/_stcore/stream"
    async with connect(url, subprotocols=[Subprotocol("streamlit")], max_size=None, open_timeout=_PATIENCE_S) as socket:
        visitor = Visitor(socket)
        await visitor.open("")
        yield visitor


async def warm_up(address: str) -> None:
    """Open each page once, so that the server has loaded what it needs."""
    async with visitor_of(address) as visitor:
        for each in VISITS:
            await visitor.open(each)


async def visit(address: str, outcome: Outcome, ends: float, rng: random.Random) -> None:
    """Act as one visitor until the end."""
    start = time.perf_counter()
    await asyncio.sleep(rng.uniform(0, LOOKS_S[1]))  # they do not all come at once
    async with visitor_of(address) as visitor:
        while time.perf_counter() < ends:
            chosen = rng.choice(VISITS)
            began = time.perf_counter()
            fault = await visitor.open(chosen)
            outcome.interactions.append((chosen, began - start, time.perf_counter() - began))
            if fault:
                outcome.faults.append(fault)
            await asyncio.sleep(rng.uniform(*LOOKS_S))


async def sample_memory(server: int, outcome: Outcome, ends: float) -> None:
    """Record the server's resident memory periodically."""
    began = time.perf_counter()
    while (now := time.perf_counter()) < ends:
        outcome.memory.append((now - began, read_mb(server, "VmRSS")))
        await asyncio.sleep(_SAMPLE_S)


def log(url: str, name: str, rows_per_s: float, stop: Event, told: "Queue[Any]", *, documents: bool) -> None:
    """Log at an even pace until stopped; report the rows, the dropped rows and the pace."""
    rng, count, began = random.Random(name), 0, time.perf_counter()
    with Quarterdeck(url) as deck:
        while not stop.is_set():
            due = int((time.perf_counter() - began) * rows_per_s)
            for number in range(count, due):
                further = details(number) if documents else {}
                deck.log_retrieval(
                    f"what is an mbuf pool {rng.randrange(500)}", rng.uniform(0.6, 0.9),
                    session_id=f"{name}-{rng.randrange(USERS // LOGGERS)}", arm="blue",
                    prompt_version="v2", index_version=name, **further,
                )  # fmt: skip
            count = due
            time.sleep(_BURST_S)
        spent = time.perf_counter() - began
        deck.flush(_PATIENCE_S)
        told.put((name, count, deck.dropped, count / spent))


def flip(url: str, key: str, stop: Event, told: "Queue[Any]") -> None:
    """Flip a flag every second; report how many flips were acknowledged."""
    count = 0
    with closing(Store(url)) as store:
        while not stop.is_set():
            flag = get_flag(store, "production", key)
            switch_flag(store, flag, Act("harness", "under load"), on=flag.definition["state"] == "DISABLED")
            count += 1
            time.sleep(1.0)
    told.put((key, count, 0, 1.0))


def run(address: str, url: str, server: int, options: argparse.Namespace) -> tuple[Outcome, list[str]]:
    """Run the load; return what was observed and what was lost."""
    asyncio.run(warm_up(address))
    processes = multiprocessing.get_context("spawn")
    stop, told = processes.Event(), processes.Queue()
    loggers = [f"logger-{number}" for number in range(LOGGERS)]
    flags = [f"under-load-{number}" for number in range(FLIPPERS)]
    with closing(Store(url)) as store:
        for key in flags:
            create_flag(store, key, boolean_flag(on=True), Act("harness", "under load"))
    pace = options.rows_per_s / LOGGERS
    kind = {"documents": options.documents}
    workers = [
        *(processes.Process(target=log, args=(url, name, pace, stop, told), kwargs=kind) for name in loggers),
        *(processes.Process(target=flip, args=(url, key, stop, told)) for key in flags),
    ]
    for worker in workers:
        worker.start()
    outcome, ends = Outcome(), time.perf_counter() + options.minutes * 60
    try:
        asyncio.run(_visit_all(address, server, outcome, ends, options.sessions))
    finally:
        stop.set()
    reports = [told.get(timeout=_PATIENCE_S * 2) for _ in workers]
    for worker in workers:
        worker.join()
    return outcome, _list_losses(url, reports, set(loggers))


async def _visit_all(address: str, server: int, outcome: Outcome, ends: float, sessions: int) -> None:
    visitors = [visit(address, outcome, ends, random.Random(number)) for number in range(sessions)]
    await asyncio.gather(*visitors, sample_memory(server, outcome, ends))


def _list_losses(url: str, reports: Sequence[tuple[str, int, int, float]], loggers: set[str]) -> list[str]:
    lost = []
    with closing(Store(url)) as store:
        for name, count, dropped, pace in sorted(reports):
            if name in loggers:
                with store.read() as connection:
                    found = connection.scalar(
                        text(
                            "SELECT SUM(n + unmapped + unscored + empty + failed) FROM rollups "
                            "WHERE dimension = 'index_version' AND value = :name"
                        ),
                        {"name": name},
                    )
                    rows = connection.scalar(
                        text("SELECT COUNT(*) FROM retrievals WHERE index_version = :name"), {"name": name}
                    )
                print(f"{name}: {count:,} rows logged ({pace:,.0f}/s), {rows:,} found, {found:,} rolled up")
                if {count, found, rows} != {count} or dropped:
                    lost.append(f"{name}: {count:,} logged, {rows:,} found, {found:,} rolled up, {dropped:,} dropped")
            else:
                entries = len(list_audit(store, AuditFilter(target=name), limit=count + 10)) - 1  # one is its creation
                print(f"{name}: {count:,} flips, {entries:,} audit entries")
                if entries != count:
                    lost.append(f"{name}: {count:,} flips, {entries:,} audit entries")
    return lost


def measure_growth(memory: Sequence[tuple[float, float]]) -> float:
    """Return by what share the median of the run's last third exceeds that of the second."""
    third = len(memory) // 3
    middle, last = (statistics.median(mb for _, mb in part) for part in (memory[third : 2 * third], memory[-third:]))
    return last / middle - 1


def plot(memory: Sequence[tuple[float, float]], path: Path) -> None:
    """Draw the memory over time."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 3), layout="constrained")
    axes.plot([seconds / 60 for seconds, _ in memory], [mb for _, mb in memory])
    axes.set(title="Memory of the server under load", xlabel="minutes", ylabel="MB resident", ylim=(0, None))
    figure.savefig(path, metadata={"Date": None})


def show(interactions: Sequence[tuple[str, float, float]]) -> float:
    """Print the percentiles page by page and by time; return the 95th of all, in seconds."""
    parts: dict[str, list[float]] = defaultdict(list)
    for name, begin, took in interactions:
        parts[name or "overview"].append(took)
        parts[f"~ from minute {begin // _SHOWN_S * _SHOWN_S / 60:02.0f}"].append(took)
    for name, values in sorted(parts.items()):
        print(f"{name:<30}{len(values):>6} times  {_percentiles(values)}")
    everything = [took for _, _, took in interactions]
    print(f"{'all':<30}{len(everything):>6} times  {_percentiles(everything)}")
    return _percentile(everything, 95)


def _percentiles(values: list[float]) -> str:
    return "  ".join(f"p{p} {_percentile(values, p) * 1e3:6.0f} ms" for p in (50, 95, 99))


def _percentile(values: list[float], percent: int) -> float:
    return statistics.quantiles([*values, *values], n=100, method="inclusive")[percent - 1]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--home", type=Path, help="QUARTERDECK_HOME to copy (default: the demo's)")
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--sessions", type=int, default=50)
    parser.add_argument("--rows-per-s", type=float, default=20_000)
    parser.add_argument("--documents", action="store_true", help="log five documents and three dimensions a row")
    parser.add_argument("--plot", type=Path, help="draw the memory over time into this SVG file")
    options = parser.parse_args()
    source = options.home or load_config(os.environ).home
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "home"
        shutil.copytree(source, home, symlinks=True)
        os.environ["QUARTERDECK_HOME"] = str(home)
        store_file = home / "quarterdeck.db"
        if options.documents:
            declare(store_file)
        size = store_file.stat().st_size
        port = find_port()
        command = [sys.executable, "-m", "quarterdeck", "serve", "--port", str(port)]
        with served(command, port, "/healthz") as address:
            outcome, lost = run(address, load_config(os.environ).database_url, find_server(port), options)
        grown = store_file.stat().st_size - size
    p95, growth = show(outcome.interactions), measure_growth(outcome.memory)
    print(f"disk: the store grew by {grown / 1e6:,.0f} MB")
    print(f"memory: {outcome.memory[0][1]:.0f} MB at first, {outcome.memory[-1][1]:.0f} MB at last; ", end="")
    print(f"the last third {growth:+.1%} of the second")
    if options.plot:
        plot(outcome.memory, options.plot)
    print(json.dumps({"p95_s": round(p95, 3), "growth": round(growth, 4), "lost": lost, "faults": outcome.faults[:5]}))
    return 1 if p95 >= MOST_P95_S or growth > MOST_GROWTH or lost or outcome.faults else 0


if __name__ == "__main__":
    sys.exit(main())

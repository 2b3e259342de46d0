"""Is anything lost or torn when writers are killed in the middle of a write?

Run: `python -m benchmarks.crashes [--rounds 200] [--database postgresql://…]`. Each round starts one process that
writes for all it is worth: a service that logs, somebody who flips a flag, a builder of an index, or a server that
takes retrievals in. It notes what it was told is done, and gets a SIGKILL at a random moment. Then everything noted has
to be there, and the store has to be whole. `tests/faults` runs it small.
"""

import argparse
import multiprocessing
import os
import random
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import httpx2
from sqlalchemy import Connection, text

from benchmarks.index_swap import Scene, _kill_builder, _list_inconsistencies
from core.audit.acts import Act
from core.audit.trail import AuditFilter, list_audit, list_broken_audit_entries
from core.flags.operations import create_flag, switch_flag
from core.flags.store import get_flag
from core.indexes.builds import build_version
from core.indexes.registry import list_indexes
from quarterdeck.client import Quarterdeck
from quarterdeck.definitions import boolean_flag
from quarterdeck.schema import DIMENSIONS
from quarterdeck.store import Store

PROJECT = Path(__file__).resolve().parents[1]
ACT = Act("harness", "under fire")
FLAG = "under-fire"
TURNS = (
    "log",
    "flip",
    "log",
    "flip",
    "build",
    "log",
    "flip",
    "log",
    "flip",
    "serve",
)  # the roles that are killed, in this order
_PATIENCE_S = 120.0
_SUM = "SELECT SUM(n + unmapped + unscored + empty + failed) FROM rollups"


@dataclass
class Outcome:
    """What was done before the kills, and what was wrong after them."""

    kills: Counter[str] = field(default_factory=Counter)
    flushed: int = 0
    flips: int = 0
    received: int = 0
    lost: list[str] = field(default_factory=list)
    torn: list[str] = field(default_factory=list)


def run(folder: Path, url: str, *, rounds: int, seed: int = 1) -> Outcome:
    """Kill `rounds` writers, one after the other; return what became of the writes that were acknowledged."""
    rng, outcome = random.Random(seed), Outcome()
    scene = Scene(folder, 200, 8, str(folder / "indexes"))
    with closing(Store(url, create=True)) as store:
        create_flag(store, FLAG, boolean_flag(on=True), ACT)
    killers: dict[str, Callable[[int], None]] = {
        "log": lambda number: _kill_logger(folder, url, number, rng, outcome),
        "flip": lambda number: _kill_flipper(folder, url, number, rng, outcome),
        "build": lambda _number: _kill_build(scene, rng),
        "serve": lambda number: _kill_server(folder, url, number, rng, outcome),
    }
    for number in range(rounds):
        turn = TURNS[number % len(TURNS)]
        killers[turn](number)
        outcome.kills[turn] += 1
        outcome.torn += [f"after round {number} ({turn}): {fault}" for fault in _list_faults(url)]
    outcome.torn += _list_broken_indexes(scene)
    return outcome


def _kill_logger(folder: Path, url: str, number: int, rng: random.Random, outcome: Outcome) -> None:
    told = _kill(_log, (url, number, folder), folder / f"told-{number}", rng)
    flushed = int(told[-1])
    outcome.flushed += flushed
    outcome.lost += _list_missing(url, f"log-{number}", flushed)


def _kill_flipper(folder: Path, url: str, number: int, rng: random.Random, outcome: Outcome) -> None:
    told = [tuple(line.split()) for line in _kill(_flip, (url,), folder / f"told-{number}", rng)]
    outcome.flips += len(told)
    with closing(Store(url)) as store:
        found = {entry.entry_id: entry for entry in list_audit(store, AuditFilter(target=FLAG), limit=len(told) + 10)}
    for entry_id, state in told:
        entry = found.get(int(entry_id))
        if entry is None or (entry.after or {})["state"] != state:
            outcome.lost.append(f"flip to {state}, audit entry {entry_id}: {entry}")


def _kill_build(scene: Scene, rng: random.Random) -> None:
    """Kill a builder of the next index. The store of the indexes is the scene's own, in SQLite."""
    strike_at = rng.choice(["read", "embed", "write", "register"])
    _kill_builder(scene, _next_version(scene), strike_at=strike_at, rng=rng)


def _next_version(scene: Scene) -> int:
    """The version whose index is not registered yet: a killed build is started again."""
    with closing(Store(scene.url, create=True)) as store, store.begin():
        pass
    with closing(Store(scene.url)) as store:
        return 1 + len(list_indexes(store))


def _kill_server(folder: Path, url: str, number: int, rng: random.Random, outcome: Outcome) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environ = {**os.environ, "QUARTERDECK_HOME": str(folder / "home"), "QUARTERDECK_DATABASE_URL": url}
    with (folder / "serve.log").open("w") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "quarterdeck", "serve", "--port", str(port)],
            cwd=PROJECT, env=environ, stdout=log, stderr=log,
        )  # fmt: skip
    try:
        _wait(lambda: server.poll() is not None or _answers(f"http://127.0.0.1:{port}/healthz"), server)
        assert server.poll() is None, (folder / "serve.log").read_text()
        threading.Timer(rng.uniform(0.05, 1.0), server.kill).start()
        acknowledged = _post_until_killed(f"http://127.0.0.1:{port}/v1/retrievals", number)
    finally:
        server.kill()
        server.wait()
    outcome.received += acknowledged
    outcome.lost += _list_missing(url, f"serve-{number}", acknowledged)


def _post_until_killed(address: str, number: int) -> int:
    count, size = 0, 20
    with httpx2.Client(timeout=_PATIENCE_S) as client:
        while True:
            rows = [{"query": f"serve-{number}-{at}", "score": 0.5} for at in range(count, count + size)]
            try:
                answer = client.post(address, json=rows)
            except httpx2.TransportError:
                return count
            assert answer.status_code == 201, answer.text
            count += size


def _kill(role: Callable[..., None], arguments: tuple[object, ...], notes: Path, rng: random.Random) -> list[str]:
    """Run a role in a process of its own, kill it at a random moment, and return what it had noted by then."""
    notes.touch()
    process = multiprocessing.get_context("fork").Process(target=role, args=(*arguments, notes), daemon=True)
    process.start()
    _wait(lambda: notes.stat().st_size > 0, process)
    time.sleep(rng.uniform(0, 0.3))
    process.kill()
    process.join()
    return notes.read_text().splitlines()


def _log(url: str, number: int, folder: Path, notes: Path) -> None:
    rng, count = random.Random(number), 0
    deck = Quarterdeck(url, redact=None, snapshot_path=folder / "snapshot.json")
    with notes.open("ab", buffering=0) as note:
        while True:
            for _ in range(rng.randrange(1, 200)):
                deck.log_retrieval(f"log-{number}-{count}", 0.5, arm="blue")
                count += 1
            deck.flush(_PATIENCE_S)
            note.write(f"{count}\n".encode())


def _flip(url: str, notes: Path) -> None:
    store = Store(url, wait_s=_PATIENCE_S)
    with notes.open("ab", buffering=0) as note:
        while True:
            flag = get_flag(store, "production", FLAG)
            state = "DISABLED" if flag.definition["state"] == "ENABLED" else "ENABLED"
            entry = switch_flag(store, flag, ACT, on=state == "ENABLED")
            note.write(f"{entry} {state}\n".encode())


def _wait(ready: Callable[[], bool], process: object) -> None:
    end = time.monotonic() + _PATIENCE_S
    while not ready():
        assert time.monotonic() < end, f"{process} did not begin"
        time.sleep(0.005)


def _answers(address: str) -> bool:
    try:
        return httpx2.get(address).status_code == 200
    except httpx2.TransportError:
        return False


def _list_missing(url: str, prefix: str, told: int) -> list[str]:
    """Return the acknowledged rows that are missing or stored twice."""
    with closing(Store(url)) as store, store.read() as connection:
        stored = Counter(
            connection.scalars(text("SELECT query FROM retrievals WHERE query LIKE :prefix"), {"prefix": f"{prefix}-%"})
        )
    return [f"{prefix}-{at}" for at in range(told) if stored[f"{prefix}-{at}"] != 1]


def _list_faults(url: str) -> Iterator[str]:
    """Every sign of a partly stored change."""
    with closing(Store(url)) as store:
        if broken := list_broken_audit_entries(store):
            yield f"the audit chain is broken at {broken}"
        flag = get_flag(store, "production", FLAG)
        (last,) = list_audit(store, AuditFilter(target=FLAG), limit=1)
        if last.after != flag.definition:
            yield f"the flag is {flag.definition}, its last entry says {last.after}"
        with store.read() as connection:
            changes = _count(connection, f"SELECT COUNT(*) FROM audit WHERE target = '{FLAG}'")
            if flag.version != changes:
                yield f"the flag has version {flag.version}, and {changes} entries"
            rows = _count(connection, "SELECT COUNT(*) FROM retrievals")
            for dimension in ("", *DIMENSIONS):  # each counts every row once
                counted = _count(connection, f"{_SUM} WHERE dimension = '{dimension}'")
                if counted != rows:
                    yield f"there are {rows} rows, the rollup of {dimension or 'all rows'} counts {counted}"
            if store.dialect == "sqlite" and connection.scalar(text("PRAGMA quick_check")) != "ok":
                yield "the file is damaged"


def _count(connection: Connection, query: str) -> int:
    return int(connection.scalar(text(query)) or 0)


def _list_broken_indexes(scene: Scene) -> list[str]:
    """Build the next index over what the killed builders left; afterwards only complete ones may exist."""
    if not Path(scene.location).exists():
        return []
    from benchmarks.index_swap import ALIAS, HashEmbedder, make_source
    from core.indexes.operations import swap_index

    version = _next_version(scene)
    with closing(Store(scene.url)) as store:
        build_version(
            store, HashEmbedder(scene.dimension, store), make_source(version, scene.chunks), ACT,
            location=scene.location, name=f"docs-v{version}",
        )  # fmt: skip
        swap_index(store, ALIAS, f"docs-v{version}", ACT, expected=None)
        return list(_list_inconsistencies(scene, store))


def report(outcome: Outcome) -> str:
    """What happened, in two lines."""
    killed = ", ".join(f"{count} {name}" for name, count in sorted(outcome.kills.items()))
    return (
        f"{outcome.kills.total()} SIGKILLs ({killed})\n{outcome.flushed:,} flushed retrievals, "
        f"{outcome.flips:,} flips, {outcome.received:,} retrievals acknowledged by the server: "
        f"{len(outcome.lost)} lost, {len(outcome.torn)} torn"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--database", help="an empty database; a SQLite file where none is given")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="crashes-") as folder:
        outcome = run(Path(folder), options.database or f"sqlite:///{folder}/fire.db", rounds=options.rounds)
    print(report(outcome))
    for fault in [*outcome.lost, *outcome.torn][:20]:
        print(fault)


if __name__ == "__main__":
    main()

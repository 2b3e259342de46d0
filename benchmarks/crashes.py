"""Is anything lost or torn when writers are killed in the middle of a write?

Run: `python -m benchmarks.crashes [--rounds 200] [--database postgresql://…]`. Each round starts one process that
writes for all it is worth: a service that logs, somebody who flips a flag, a builder of an index, a sender of alerts,
two people who ask and approve, or a server that takes in retrievals one after the other, rows with documents and scores
from several senders at once (group commit), or spans over gRPC. It notes what it was told is done, and gets a SIGKILL
at a random moment. Then everything noted has to be there, and the store has to be whole. `tests/faults` runs it small.
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
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx2
from sqlalchemy import Connection, text

from benchmarks.index_swap import Scene, _kill_builder, _list_inconsistencies
from core.alerts.checking import check_alerts
from core.alerts.delivery import deliver_alerts
from core.alerts.operations import delete_alert_rule, delete_channel, save_webhook_rule
from core.alerts.rules import AlertRule
from core.approvals.operations import approve_request, set_policy
from core.approvals.requests import get_request, list_requests
from core.approved import apply_request
from core.audit.acts import Act
from core.audit.gate import EMERGENCY, Origin, Policy, RequestState
from core.audit.trail import AuditFilter, list_audit, list_broken_audit_entries
from core.errors import ApprovalNeeded
from core.flags.operations import change_rollout, create_flag, switch_flag
from core.flags.store import get_flag
from core.indexes.builds import build_version
from core.indexes.registry import list_indexes
from core.log.scores import apply_scores
from quarterdeck.client import Quarterdeck
from quarterdeck.clock import from_ms, now_ms
from quarterdeck.definitions import boolean_flag, rollout_pct
from quarterdeck.recorder import append_retrievals
from quarterdeck.retrieval import Retrieval
from quarterdeck.schema import DIMENSIONS
from quarterdeck.scope import Scope
from quarterdeck.store import Store

PROJECT = Path(__file__).resolve().parents[1]
ACT = Act("harness", "under fire")
FLAG = "under-fire"
# The roles that are killed, in this order.
TURNS = ("log", "flip", "group", "alert", "request", "build", "grpc", "log", "alert", "serve")
DRIFTING = Scope("alerting", "drifting")
ASKED = "asked-for"
WATCH = Act("harness", "under fire", environment=DRIFTING.environment)
SECRET, RULES = "the secret of a webhook", 8  # rules that are due at once
SENDERS, HITS = 4, 2  # threads that send at once, and documents of each of their rows
_PATIENCE_S = 120.0
_SUM = "SELECT SUM(n + unmapped + unscored + empty + failed) FROM rollups"


@dataclass
class Outcome:
    """What was done before the kills, and what was wrong after them."""

    kills: Counter[str] = field(default_factory=Counter)
    flushed: int = 0
    flips: int = 0
    received: int = 0
    scored: int = 0
    spans: int = 0
    alerts: int = 0
    alerts_twice: int = 0
    approved: int = 0
    lost: list[str] = field(default_factory=list)
    torn: list[str] = field(default_factory=list)


def run(folder: Path, url: str, *, rounds: int, seed: int = 1) -> Outcome:
    """Kill `rounds` writers, one after the other; return what became of the writes that were acknowledged."""
    rng, outcome = random.Random(seed), Outcome()
    scene = Scene(folder, 200, 8, str(folder / "indexes"))
    with closing(Store(url, create=True)) as store:
        create_flag(store, FLAG, boolean_flag(on=True), ACT)
        append_retrievals(store, _list_drifting(now_ms()))
        create_flag(store, ASKED, boolean_flag(on=True, rollout_pct=0), WATCH)
        set_policy(store, Policy(required=True), WATCH, has_sign_in=True)
    killers: dict[str, Callable[[int], None]] = {
        "log": lambda number: _kill_logger(folder, url, number, rng, outcome),
        "flip": lambda number: _kill_flipper(folder, url, number, rng, outcome),
        "build": lambda _number: _kill_build(scene, rng),
        "serve": lambda number: _kill_server(folder, url, number, rng, outcome),
        "group": lambda number: _kill_group(folder, url, number, rng, outcome),
        "grpc": lambda number: _kill_grpc(folder, url, number, rng, outcome),
        "request": lambda number: _kill_approver(folder, url, number, rng, outcome),
        "alert": lambda number: _kill_alerter(folder, url, number, rng, outcome),
    }
    for number in range(rounds):
        turn = TURNS[number % len(TURNS)]
        killers[turn](number)
        outcome.kills[turn] += 1
        outcome.torn += [f"after round {number} ({turn}): {fault}" for fault in _list_faults(url)]
    outcome.torn += [*_list_broken_indexes(scene), *_list_wrong_scores(url)]
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


def _kill_alerter(folder: Path, url: str, number: int, rng: random.Random, outcome: Outcome) -> None:
    """Kill a sender of alerts. Each rule's message has to come: by it, or by the next one that checks."""
    names = [f"alert-{number}-{at}" for at in range(RULES)]
    with _receiving() as (address, came):
        with closing(Store(url)) as store:
            for name in names:
                rule = AlertRule(name, service=DRIFTING.service)
                save_webhook_rule(store, rule, url=f"{address}/{name}", secret=SECRET, by=WATCH)
        _kill(_alert, (url,), folder / f"told-{number}", rng, begun=came.total, within_s=0.05)
        with closing(Store(url)) as store:
            later = datetime.now(UTC) + timedelta(minutes=3)
            check_alerts(store, DRIFTING.environment, now=later)
            deliver_alerts(store, DRIFTING.environment, now=later)
            for name in names:
                delete_alert_rule(store, name, WATCH)
                delete_channel(store, name, WATCH)
    outcome.alerts += len(names)
    outcome.alerts_twice += sum(came[name] == 2 for name in names)
    outcome.lost += [f"{name} came {came[name]} times" for name in names if came[name] not in (1, 2)]


def _kill_approver(folder: Path, url: str, number: int, rng: random.Random, outcome: Outcome) -> None:
    """Kill two people who ask, approve and apply. What they were told is applied is, once, and nothing is half done."""
    told = [int(line) for line in _kill(_approve, (url,), folder / f"told-{number}", rng, within_s=2.0)[1:]]
    outcome.approved += len(told)
    with closing(Store(url)) as store:
        found = {each.request_id: each for each in list_requests(store, states=tuple(RequestState), limit=10_000)}
        entries = [entry for entry in list_audit(store, AuditFilter(target=ASKED), limit=None) if entry.before]
        flag = get_flag(store, DRIFTING.environment, ASKED)
    applied = sorted(each.entry_id for each in found.values() if each.state is RequestState.APPLIED)
    outcome.lost += [f"request {each}" for each in told if found[each].state is not RequestState.APPLIED]
    stands = not entries or flag.definition == entries[0].after
    if applied != sorted(entry.entry_id for entry in entries) or not stands:
        outcome.torn.append(f"requests {applied}, entries {[entry.entry_id for entry in entries]}")


def _approve(url: str, notes: Path) -> None:
    store, share = Store(url, wait_s=_PATIENCE_S), 0
    ada, bob = (replace(WATCH, actor=name, origin=Origin.PERSON) for name in ("ada", "bob"))
    with notes.open("ab", buffering=0) as note:
        note.write(b"began\n")
        while True:
            flag = get_flag(store, DRIFTING.environment, ASKED)
            share = int(rollout_pct(flag.definition) or 0) % 90 + 1
            try:
                change_rollout(store, flag, share, ada)
                continue  # a killed one had approved it
            except ApprovalNeeded as needed:
                number = needed.request_id
            approve_request(store, get_request(store, number), bob)
            apply_request(store, get_request(store, number), now=datetime.now(UTC))
            note.write(f"{number}\n".encode())


def _list_drifting(now: int) -> list[Retrieval]:
    """Forty days of a service whose similarity dropped on the last five."""
    rng = random.Random(5)
    return [
        Retrieval(from_ms(now - day * 86_400_000 - at), f"before {day} {at}", rng.gauss(0.4 if day < 6 else 0.7, 0.05),
                  scope=DRIFTING)
        for day in range(1, 41) for at in range(50)
    ]  # fmt: skip


@contextmanager
def _receiving() -> Iterator[tuple[str, Counter[str]]]:
    """A webhook that counts what comes, by the last part of its path."""
    came: Counter[str] = Counter()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            came[self.path.rpartition("/")[2]] += 1
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", came
        server.shutdown()


def _alert(url: str, notes: Path) -> None:
    store = Store(url, wait_s=_PATIENCE_S)
    notes.write_text("began\n")
    while True:
        check_alerts(store, DRIFTING.environment, now=datetime.now(UTC))
        deliver_alerts(store, DRIFTING.environment, now=datetime.now(UTC))


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
    with _serving(folder, url, rng) as (address, _, begun):
        acknowledged = _post_until_killed(f"{address}/v1/retrievals", number, begun)
    outcome.received += acknowledged
    outcome.lost += _list_missing(url, f"serve-{number}", acknowledged)


def _kill_group(folder: Path, url: str, number: int, rng: random.Random, outcome: Outcome) -> None:
    with _serving(folder, url, rng) as (address, _, begun), ThreadPoolExecutor(SENDERS) as pool:
        told = list(pool.map(lambda at: _send_and_judge(address, f"group-{number}-{at}", begun), range(SENDERS)))
    for at, (rows, scores) in enumerate(told):
        outcome.received, outcome.scored = outcome.received + rows, outcome.scored + scores
        outcome.lost += _list_missing(url, f"group-{number}-{at}", rows)
        outcome.lost += _list_missing(url, f"group-{number}-{at}", scores, among="SELECT retrieval_id FROM scores")


def _kill_grpc(folder: Path, url: str, number: int, rng: random.Random, outcome: Outcome) -> None:
    with _serving(folder, url, rng) as (_, port, begun):
        acknowledged = _export_until_killed(port, number, begun)
    outcome.spans += acknowledged
    outcome.lost += _list_missing(url, f"grpc-{number}", acknowledged)


@contextmanager
def _serving(folder: Path, url: str, rng: random.Random) -> Iterator[tuple[str, int, threading.Event]]:
    """Start a server; give its address, its port for gRPC, and what a sender sets when something was acknowledged.

    A moment later the server is killed.
    """
    port, grpc_port, begun = _find_port(), _find_port(), threading.Event()
    wait_s = rng.uniform(0.0, 1.0)

    def strike() -> None:
        begun.wait(_PATIENCE_S)
        time.sleep(wait_s)
        server.kill()

    environ = {
        **os.environ, "QUARTERDECK_HOME": str(folder / "home"), "QUARTERDECK_DATABASE_URL": url,
        "QUARTERDECK_OTLP_GRPC_PORT": str(grpc_port),
    }  # fmt: skip
    with (folder / "serve.log").open("w") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "quarterdeck", "serve", "--port", str(port)],
            cwd=PROJECT, env=environ, stdout=log, stderr=log,
        )  # fmt: skip
    try:
        _wait(lambda: server.poll() is not None or _answers(f"http://127.0.0.1:{port}/healthz"), server)
        assert server.poll() is None, (folder / "serve.log").read_text()
        threading.Thread(target=strike, daemon=True).start()
        yield f"http://127.0.0.1:{port}", grpc_port, begun
    finally:
        server.kill()
        server.wait()


def _find_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _send_and_judge(address: str, prefix: str, begun: threading.Event) -> tuple[int, int]:
    """Send rows with documents, then a score of each, until the server dies; return how many were acknowledged."""
    rows, scores, size = 0, 0, 5
    with httpx2.Client(timeout=_PATIENCE_S) as client:
        while True:
            names = [f"{prefix}-{at}" for at in range(rows, rows + size)]
            documents = [[f"doc-{at}", 0.5] for at in range(HITS)]
            body = [{"query": name, "retrieval_id": name, "documents": documents} for name in names]
            judged = [{"retrieval_id": name, "name": "feedback", "value": 1} for name in names]
            try:
                for path, sent in (("retrievals", body), ("scores", judged)):
                    answer = client.post(f"{address}/v1/{path}", json=sent)
                    assert answer.status_code == 201, answer.text
                    rows, scores = (rows + size, scores) if path == "retrievals" else (rows, scores + size)
                begun.set()
            except httpx2.TransportError:
                return rows, scores


def _export_until_killed(port: int, number: int, begun: threading.Event) -> int:
    import grpc
    from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc

    count = 0
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        export = trace_service_pb2_grpc.TraceServiceStub(channel).Export
        while True:
            request = trace_service_pb2.ExportTraceServiceRequest()
            span = request.resource_spans.add().scope_spans.add().spans.add()
            span.trace_id, span.span_id, span.name = os.urandom(16), os.urandom(8), "search"
            span.start_time_unix_nano = span.end_time_unix_nano = time.time_ns()
            for key, value in (("openinference.span.kind", "RETRIEVER"), ("input.value", f"grpc-{number}-{count}")):
                span.attributes.add(key=key).value.string_value = value
            try:
                export(request, timeout=_PATIENCE_S)
            except grpc.RpcError:
                return count
            count += 1
            begun.set()


def _post_until_killed(address: str, number: int, begun: threading.Event) -> int:
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
            begun.set()


def _kill(
    role: Callable[..., None], arguments: tuple[object, ...], notes: Path, rng: random.Random,
    *, begun: Callable[[], object] = lambda: True, within_s: float = 0.3,
) -> list[str]:  # fmt: skip
    """Run a role in a process of its own, kill it at a random moment, and return what it had noted by then."""
    notes.touch()
    process = multiprocessing.get_context("fork").Process(target=role, args=(*arguments, notes), daemon=True)
    process.start()
    _wait(lambda: notes.stat().st_size > 0 and begun(), process)
    time.sleep(rng.uniform(0, within_s))
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


def _wait(ready: Callable[[], object], process: object) -> None:
    end = time.monotonic() + _PATIENCE_S
    while not ready():
        assert time.monotonic() < end, f"{process} did not begin"
        time.sleep(0.005)


def _answers(address: str) -> bool:
    try:
        return httpx2.get(address).status_code == 200
    except httpx2.TransportError:
        return False


def _list_missing(url: str, prefix: str, told: int, *, among: str = "SELECT query FROM retrievals") -> list[str]:
    """Return the acknowledged rows that are missing or stored twice."""
    column = among.split()[1]
    with closing(Store(url)) as store, store.read() as connection:
        found = connection.scalars(text(f"{among} WHERE {column} LIKE :prefix"), {"prefix": f"{prefix}-%"})
        stored = Counter(found)
    return [f"{prefix}-{at} ({column})" for at in range(told) if stored[f"{prefix}-{at}"] != 1]


def _list_wrong_scores(url: str) -> list[str]:
    """Apply every score; then the rollups have one of each row that has one."""
    with closing(Store(url)) as store:
        apply_scores(store, now_ms=now_ms())
        with store.read() as connection:
            known = "SELECT retrieval_id FROM retrievals"
            scored = _count(connection, f"SELECT COUNT(*) FROM scores WHERE retrieval_id IN ({known})")
            summed = _count(connection, "SELECT SUM(n) FROM metric_sums WHERE dimension = '' AND metric = 'feedback'")
    return [] if scored == summed else [f"{scored} rows have a score, the rollups count {summed}"]


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
            hits = HITS * _count(connection, "SELECT COUNT(*) FROM retrievals WHERE query LIKE 'group-%'")
            listed = _count(connection, "SELECT SUM(n) FROM document_days")
            if hits != listed:
                yield f"rows have {hits} documents, their days count {listed}"
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
        urgent = replace(ACT, reason=f"{EMERGENCY}no second person is here")  # aliases are shared by all environments
        swap_index(store, ALIAS, f"docs-v{version}", urgent, expected=None)
        return list(_list_inconsistencies(scene, store))


def report(outcome: Outcome) -> str:
    """What happened, in two lines."""
    killed = ", ".join(f"{count} {name}" for name, count in sorted(outcome.kills.items()))
    return (
        f"{outcome.kills.total()} SIGKILLs ({killed})\n{outcome.flushed:,} flushed retrievals, "
        f"{outcome.flips:,} flips, {outcome.alerts:,} alerts ({outcome.alerts_twice:,} came twice), "
        f"{outcome.approved:,} approved requests, {outcome.received:,} retrievals, {outcome.scored:,} scores "
        f"and {outcome.spans:,} spans acknowledged by the server: "
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

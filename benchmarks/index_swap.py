"""Do readers notice when the index under their alias is swapped, rolled back, removed, and its builder killed?

Run: `python -m benchmarks.index_swap [--chunks 5000] [--swaps 200]`, or with `--canary 50` for so many steps and
rollbacks of index canaries, with swaps and removals between them. Reader processes query through the alias all the
while; each answer is checked against what only the whole index of that name can answer. `tests/faults` runs it small.
"""

import argparse
import hashlib
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import numpy as np

from core.audit.acts import Act
from core.audit.trail import list_broken_audit_entries
from core.embedding.chunks import Chunk
from core.embedding.embed import Embedder, Vectors
from core.embedding.vectors import VectorCache
from core.errors import Conflict, NotFound, QuarterdeckError
from core.indexes.backends import open_indexes
from core.indexes.builds import build_version, collect_garbage, get_live
from core.indexes.ingest import DocumentSource
from core.indexes.operations import rollback_index, swap_index
from core.indexes.registry import get_index, list_indexes
from core.rollouts.canaries import list_canaries, promote_canary, roll_back_canary
from core.rollouts.index_canaries import explain_pause, start_index_canary
from quarterdeck.client import Quarterdeck
from quarterdeck.store import Store

PROJECT = Path(__file__).resolve().parents[1]
ALIAS = "default"
ACT = Act("harness", "under fire")
READERS = 4
GRACE = timedelta(seconds=3)  # readers look for a newer alias every 0.2 s, and a query takes less than that
_PAUSE_S = 0.02  # between two queries of a reader
_SHARED = 0.5
_VERSIONS = 4
_USERS = 200
_STEPS = "5% for 1m, 25% for 1m, 50% for 1m, 100%"
_GONE = 3  # exit code of a builder whose finished index was removed as garbage meanwhile


@dataclass(frozen=True, slots=True)
class Scene:
    """How large everything is; given to each process on its command line."""

    folder: Path
    chunks: int
    dimension: int
    location: str

    @property
    def url(self) -> str:
        return f"sqlite:///{self.folder / 'deck.db'}"

    @property
    def arguments(self) -> list[str]:
        return [str(self.folder), str(self.chunks), str(self.dimension), self.location]


@dataclass(frozen=True, slots=True)
class Reading:
    """What one reader saw: queries, the errors, the answers that a complete index would not give, and its times."""

    queries: int
    failures: list[str]
    wrong: list[str]
    names: list[str]
    latencies_ms: list[float]
    tried: int = 0  # queries of users whom a canary sent to its candidate


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of all processes."""

    readings: tuple[Reading, ...]
    swaps: int
    rollbacks: int
    kills: int
    removed: int
    embedded: int
    texts: int
    inconsistencies: tuple[str, ...]
    steps: int = 0  # of index canaries
    ways_back: int = 0


class HashEmbedder(Embedder):
    """Gives each text a random but fixed direction, so that a text is near itself alone; keeps the real cache."""

    def __init__(self, dimension: int, store: Store) -> None:
        super().__init__(f"hash-{dimension}", cache=VectorCache(store))
        self._dimension = dimension

    def _encode(self, texts: list[str]) -> Vectors:
        time.sleep(0.02)  # gives the killer time
        rows = np.stack([_direction(text, self._dimension) for text in texts])
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def _direction(text: str, dimension: int) -> Vectors:
    seed = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")
    return np.random.default_rng(seed).normal(size=dimension).astype(np.float32)


def make_source(version: int, chunks: int) -> DocumentSource:
    """Return a corpus version: half of it shared with all others, the rest and a marker its own."""
    shared = int(chunks * _SHARED)
    texts = [f"shared passage {at}" for at in range(shared)]
    texts += [f"passage {at} of version {version}" for at in range(shared, chunks - 1)]
    texts.append(marker_of(f"docs-v{version}"))
    rows = tuple(Chunk(f"page-{at // 10}.md", "", text) for at, text in enumerate(texts))
    return DocumentSource(f"v{version}", chunks // 10, rows)


def marker_of(name: str) -> str:
    """Return the text that the index `name` alone holds, as its last row."""
    return f"the marker of {name}"


def run(scene: Scene, *, swaps: int, kills: int, seed: int = 1) -> Outcome:
    """Let readers ask while indexes are built, killed, swapped, rolled back and removed; return what happened."""
    store = Store(scene.url, create=True)
    embedded = sum(_build_here(scene, store, version) for version in (1, 2))
    swap_index(store, ALIAS, "docs-v1", ACT, expected=None)
    counts = {"swap": 0, "rollback": 0, "removed": 0}
    with _readers(scene) as outputs:
        built = threading.Event()
        swapping = threading.Thread(target=_swap_all, args=(scene, swaps, counts, random.Random(seed), built))
        swapping.start()
        try:
            embedded += _build_under_fire(scene, kills, random.Random(seed))
        finally:
            built.set()
            swapping.join()
    readings = tuple(Reading(**json.loads(path.read_text())) for path in outputs)
    texts = int(scene.chunks * _SHARED) + (2 + _VERSIONS) * (scene.chunks - int(scene.chunks * _SHARED))
    outcome = Outcome(
        readings, counts["swap"], counts["rollback"], kills, counts["removed"], embedded, texts,
        tuple(_list_inconsistencies(scene, store)),
    )  # fmt: skip
    store.close()
    return outcome


def run_canary(scene: Scene, *, moves: int, seed: int = 1) -> Outcome:
    """Let readers ask while index canaries take `moves` steps and rollbacks between swaps and removals."""
    store, rng = Store(scene.url, create=True), random.Random(seed)
    embedded = sum(_build_here(scene, store, version) for version in range(1, _VERSIONS + 1))
    swap_index(store, ALIAS, "docs-v1", ACT, expected=None)
    counts = {"step": 0, "back": 0, "swap": 0, "removed": 0}
    with _readers(scene) as outputs:
        while counts["step"] + counts["back"] < moves:
            counts[_move_canary(store, rng)] += 1
            if rng.random() < 0.2:
                counts["removed"] += len(collect_garbage(store, ACT, keep=1, grace=GRACE).removable)
            missing = [at for at in range(1, _VERSIONS + 1) if f"docs-v{at}" not in _names(store)]
            if len(missing) > 1:
                embedded += _build_here(scene, store, missing[0])
            time.sleep(rng.uniform(0.1, 0.6))
    readings = tuple(Reading(**json.loads(path.read_text())) for path in outputs)
    texts = int(scene.chunks * _SHARED) + _VERSIONS * (scene.chunks - int(scene.chunks * _SHARED))
    outcome = Outcome(
        readings, counts["swap"], 0, 0, counts["removed"], embedded, texts,
        tuple(_list_inconsistencies(scene, store)), counts["step"], counts["back"],
    )  # fmt: skip
    store.close()
    return outcome


def _move_canary(store: Store, rng: random.Random) -> str:
    """Start a canary, take its next step, roll it back, or swap the alias under it; return which."""
    flag = next(iter(list_canaries(store, ACT.environment)), None)
    live = get_live(store, ALIAS).name
    others = sorted(_names(store) - {live})
    if flag is None or not flag.view.green_pct or explain_pause(store, flag):
        start_index_canary(store, ALIAS, rng.choice(others), ACT, steps=_STEPS, unprobed=True)
        return "step"
    if rng.random() < 0.1:
        swap_index(store, ALIAS, rng.choice(others), ACT, expected=live)
        return "swap"
    if rng.random() < 0.3:
        roll_back_canary(store, flag, ACT)
        return "back"
    promote_canary(store, flag, ACT)
    return "step"


def _names(store: Store) -> set[str]:
    return {index.name for index in list_indexes(store)}


def _build_here(scene: Scene, store: Store, version: int) -> int:
    source = make_source(version, scene.chunks)
    embedder = HashEmbedder(scene.dimension, store)
    return build_version(store, embedder, source, ACT, location=scene.location, name=f"docs-v{version}").embedded


@contextmanager
def _readers(scene: Scene) -> Iterator[list[Path]]:
    outputs = [scene.folder / f"reader-{number}.json" for number in range(READERS)]
    stop = scene.folder / "stop"
    processes = [_start(scene, "read", str(output)) for output in outputs]
    for process in processes:
        assert process.stdout and process.stdout.readline() == "ready\n"
    try:
        yield outputs
    finally:
        stop.touch()
        for process in processes:
            process.communicate(timeout=60)


def _start(scene: Scene, role: str, *more: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "benchmarks.index_swap", role, *scene.arguments, *more]
    environment = {**os.environ, "LANCE_LOG": "error", "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, cwd=PROJECT, env=environment, stdout=subprocess.PIPE, text=True)


def _swap_all(scene: Scene, swaps: int, counts: dict[str, int], rng: random.Random, built: threading.Event) -> None:
    """Swap, roll back and remove old indexes at least `swaps` times, and until all indexes are built."""
    store = Store(scene.url)
    while counts["swap"] + counts["rollback"] < swaps or not built.is_set():
        live = get_live(store, ALIAS).name
        if rng.random() < 0.3:
            try:
                rollback_index(store, ALIAS, ACT)
                counts["rollback"] += 1
            except LookupError:
                pass  # nothing to go back to yet
        else:
            others = [index.name for index in list_indexes(store) if index.name != live]
            swap_index(store, ALIAS, rng.choice(others), ACT, expected=live)
            counts["swap"] += 1
        if rng.random() < 0.2:
            counts["removed"] += len(collect_garbage(store, ACT, keep=1, grace=GRACE).removable)
        time.sleep(rng.uniform(0.02, 0.6))
    store.close()


def _build_under_fire(scene: Scene, kills: int, rng: random.Random) -> int:
    """Build the later versions, killing the builder `kills` times at different points; return the texts embedded."""
    versions = [3 + number for number in range(_VERSIONS)]
    strikes = [(version, kills // _VERSIONS + (at < kills % _VERSIONS)) for at, version in enumerate(versions)]
    embedded = 0
    for version, times in strikes:
        for _ in range(times):
            _kill_builder(scene, version, strike_at=rng.choice(["read", "embed", "write", "register"]), rng=rng)
        for _ in range(2):  # once more if the swapper removed it as garbage while the builder compared it
            builder = _start(scene, "build", str(version))
            said, _ = builder.communicate(timeout=600)
            if builder.returncode != _GONE:
                break
        assert builder.returncode == 0, said
        embedded += json.loads(said.splitlines()[-1])["embedded"]
    return embedded


def _kill_builder(scene: Scene, version: int, *, strike_at: str, rng: random.Random) -> None:
    builder = _start(scene, "build", str(version))
    assert builder.stdout
    for line in builder.stdout:
        step, _, done = line.strip().partition(" ")
        if strike_at == "read" or step == strike_at or (strike_at == "register" and line.startswith("write")):
            if strike_at == "register" and done == "0":
                continue
            break
    time.sleep(rng.uniform(0, 0.05))
    builder.kill()
    builder.communicate()


def _list_inconsistencies(scene: Scene, store: Store) -> Iterator[str]:
    indexes = open_indexes(scene.location)
    registered = list_indexes(store)
    if list_broken_audit_entries(store):
        yield "the audit chain is broken"
    if set(indexes.list_names()) != {index.name for index in registered}:
        yield f"{indexes.list_names()} are there, {[index.name for index in registered]} are registered"
    for index in registered:
        if indexes.count(index.name) != index.chunks:
            yield f"{index.name} has {indexes.count(index.name)} of {index.chunks} chunks"
    get_index(store, get_live(store, ALIAS).name)
    indexes.remove_leftovers(older_than_s=0)
    hidden = [path.name for path in Path(scene.location.rpartition(":")[2]).glob(".*")]
    if hidden:
        yield f"{hidden} are left over"


def _read(scene: Scene, output: Path) -> None:
    """Query through the alias until stopped; every answer must come from the complete index of that name."""
    indexes = open_indexes(scene.location)
    stop = scene.folder / "stop"
    failures: list[str] = []
    wrong: list[str] = []
    names: dict[str, None] = {}
    latencies: list[float] = []
    tried = 0
    with Quarterdeck(scene.url, poll_s=0.2, snapshot_path=output.with_suffix(".snapshot")) as deck:
        indexes.count(str(deck.active_index(ALIAS)))  # loads the library
        print("ready", flush=True)
        while not stop.exists():
            time.sleep(_PAUSE_S)
            started = time.perf_counter()
            name = deck.active_index(ALIAS, user_id=f"user-{len(latencies) % _USERS}")
            tried += name != deck.active_index(ALIAS)
            try:
                if name is None:
                    raise LookupError("no index is active")
                vector = _direction(marker_of(name), scene.dimension)
                hit = indexes.search(name, vector[None], top_k=1)[0][0]
                rows = indexes.count(name)
            except (QuarterdeckError, LookupError) as error:
                failures.append(f"{name}: {error}")
                continue
            latencies.append(1_000 * (time.perf_counter() - started))
            names[name] = None
            if hit.text != marker_of(name) or hit.score < 0.999 or rows != scene.chunks:
                wrong.append(f"{name}: {rows} rows, {hit}")
    reading = {
        "queries": len(latencies), "failures": failures[:20], "wrong": wrong[:20], "names": list(names),
        "latencies_ms": latencies, "tried": tried,
    }  # fmt: skip
    output.write_text(json.dumps(reading))


def _build(scene: Scene, version: int) -> None:
    store = Store(scene.url)
    print("read", flush=True)
    try:
        report = build_version(
            store,
            HashEmbedder(scene.dimension, store),
            make_source(version, scene.chunks),
            ACT,
            location=scene.location,
            name=f"docs-v{version}",
            on_progress=lambda step, done, _total: print(step, done, flush=True),
        )
    except Conflict as error:
        sys.exit(str(error))
    except NotFound:
        sys.exit(_GONE)
    print(json.dumps({"embedded": report.embedded}))


def _quantile(values: Sequence[float], share: float) -> float:
    return float(np.quantile(np.asarray(values), share))


def _report(outcome: Outcome) -> None:
    latencies = [value for reading in outcome.readings for value in reading.latencies_ms]
    if outcome.steps:
        tried = sum(each.tried for each in outcome.readings)
        print(f"{outcome.steps} canary steps, {outcome.ways_back} canary rollbacks, {tried:,} queries of a candidate")
    print(f"{outcome.swaps} swaps, {outcome.rollbacks} rollbacks, {outcome.kills} kills, {outcome.removed} removed")
    print(
        f"{len(latencies):,} queries of {len(outcome.readings)} readers: "
        f"{sum(len(each.failures) for each in outcome.readings)} failed, "
        f"{sum(len(each.wrong) for each in outcome.readings)} from an index that was not whole"
    )
    print(
        f"latency p50 {_quantile(latencies, 0.5):.1f} ms, p99 {_quantile(latencies, 0.99):.1f} ms, "
        f"largest {max(latencies):.1f} ms"
    )
    print(
        f"{outcome.embedded:,} texts embedded by the builds that ended, of {outcome.texts:,} different ones; "
        "the rest was in the cache when they began"
    )
    print("store: " + ("; ".join(outcome.inconsistencies) or "consistent, audit chain whole"))


def main() -> None:
    if sys.argv[1:2] in (["read"], ["build"]):
        role, folder, chunks, dimension, location, last = sys.argv[1:]
        scene = Scene(Path(folder), int(chunks), int(dimension), location)
        _read(scene, Path(last)) if role == "read" else _build(scene, int(last))
        return
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--chunks", type=int, default=5_000)
    parser.add_argument("--dimension", type=int, default=384)
    parser.add_argument("--swaps", type=int, default=200)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--canary", type=int, default=0, metavar="MOVES")
    parser.add_argument("--chroma", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="index-swap-") as folder:
        location = f"{'chroma:' if options.chroma else ''}{folder}/indexes"
        scene = Scene(Path(folder), options.chunks, options.dimension, location)
        if options.canary:
            _report(run_canary(scene, moves=options.canary))
            return
        _report(run(scene, swaps=options.swaps, kills=options.kills))


if __name__ == "__main__":
    main()

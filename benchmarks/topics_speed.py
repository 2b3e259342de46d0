"""How long each step from new distinct queries to topics takes.

Run: `python -m benchmarks.topics_speed [--queries 5000]`. The queries are varied from the labeled
ones at hand by joining halves of two of them, so that each is new to the model. The runs over a store read the queries
from a retrieval log in SQLite, as the coverage page does: first with nothing known of them, then with nothing new.

`--cached 200000` instead times a run over as many distinct queries whose vectors are cached, and prints the memory.
The vectors lie around 300 random directions, as far from them as those of BANKING77 from their classes.
"""

import argparse
import csv
import importlib
import resource
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from benchmarks.topics_quality import BANKING77, as_queries
from core.coverage import clusters as rule
from core.coverage.maps import MAP_LIMIT, map_queries
from core.coverage.report import report_coverage
from core.coverage.topics import find_topics
from core.embedding.embed import Embedder
from core.embedding.vectors import VectorCache
from quarterdeck.log import as_log
from quarterdeck.retrieval import Retrieval
from quarterdeck.scope import DEFAULT_SCOPE
from quarterdeck.store import Store


def distinct_queries(count: int) -> list[str]:
    """Return `count` different texts with the lengths and words of real queries."""
    with BANKING77.open(newline="", encoding="utf-8") as file:
        texts = [row["text"].split() for row in csv.DictReader(file)]
    rng = np.random.default_rng(0)
    found: dict[str, None] = {}
    while len(found) < count:
        left, right = texts[rng.integers(len(texts))], texts[rng.integers(len(texts))]
        found[" ".join(left[: (len(left) + 1) // 2] + right[len(right) // 2 :])] = None
    return list(found)


@contextmanager
def _timed(step: str) -> Iterator[None]:
    started, worked = time.perf_counter(), time.process_time()
    yield
    took, cpu = time.perf_counter() - started, time.process_time() - worked
    print(f"  {step:46} {took:7.2f} s, {cpu:.2f} s of CPU", flush=True)


def time_coverage(texts: Sequence[str]) -> None:
    """Print how long two coverage runs over the same log take, the second with nothing new."""
    now = datetime.now(UTC)
    with TemporaryDirectory() as folder:
        store = Store(f"sqlite:///{Path(folder) / 'deck.db'}", create=True)
        as_log(store).append([Retrieval(now, text, 0.3).row for text in texts])
        embedder = Embedder(cache=VectorCache(store))
        for step in ("coverage run, nothing known", "coverage run, nothing new"):
            with _timed(step):
                found = report_coverage(store, embedder, scope=DEFAULT_SCOPE, today=now.date(), low_score=0.5)
        print(f"  {found.topics.reason}")
        store.close()


def time_cached(count: int) -> None:
    """Print how long a coverage run over `count` distinct queries with cached vectors takes, and the peak of memory."""
    now, rng = datetime.now(UTC), np.random.default_rng(0)
    with TemporaryDirectory() as folder:
        store = Store(f"sqlite:///{Path(folder) / 'deck.db'}", create=True)
        embedder = Embedder(cache=VectorCache(store))
        centers = rng.standard_normal((300, 384)).astype(np.float32)
        for start in range(0, count, 20_000):
            texts = [f"question {at} about subject {at % 300}" for at in range(start, min(count, start + 20_000))]
            as_log(store).append([Retrieval(now, text, 0.3).row for text in texts])
            near = centers[np.arange(start, start + len(texts)) % 300]
            rows = near + 0.9 * rng.standard_normal((len(texts), 384)).astype(np.float32)
            VectorCache(store).save_vectors(
                embedder.model, texts, rows / np.linalg.norm(rows, axis=1, keepdims=True).astype(np.float32)
            )
        with _timed(f"coverage run over {count:,} cached vectors"):
            found = report_coverage(
                store, embedder, scope=DEFAULT_SCOPE, today=now.date(), low_score=0.5, embed_new=False
            )
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        print(f"  {found.topics.reason}; peak memory {peak:.2f} GB")
        store.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--queries", type=int, default=5_000)
    parser.add_argument("--cached", type=int, metavar="N", help="a run over N distinct queries with cached vectors")
    options = parser.parse_args()
    if options.cached:
        time_cached(options.cached)
        return
    texts = distinct_queries(options.queries)
    embedder = Embedder()
    print(f"{len(texts)} new distinct queries")
    with _timed("load the model"):
        embedder.embed(["warm up"])
    with _timed("embed"):
        vectors = embedder.embed(texts)
    with _timed("import scipy and scikit-learn"):
        importlib.import_module("scipy.cluster.hierarchy")
        importlib.import_module("sklearn.manifold")
    weights = np.ones(len(texts))
    with _timed("cluster at 77"):
        rule.cluster_vectors(vectors, weights, clusters=77)
    with _timed("cluster, number chosen"):
        rule.cluster_vectors(vectors, weights)
    with _timed("find_topics in all (cluster, name, describe)"):
        topics = find_topics(as_queries(texts), vectors)
    with _timed(f"map of {min(MAP_LIMIT, len(texts))} points"):
        map_queries(vectors[:MAP_LIMIT])
    print(f"  {topics.reason}")
    time_coverage(texts)


if __name__ == "__main__":
    main()

"""How long does a replay of 5,000 questions take, whose vectors are cached, through both indexes?

Run: `python -m benchmarks.replay [--questions 5000] [--passages 5000]`. Questions and passages have random unit vectors
of 384 numbers: indexes are searched exhaustively, so the time does not depend on what the vectors mean. Half of the
passages are in both indexes. Bar: 10 s from the log to the result, without the grouping into topics.
"""

import argparse
import resource
import tempfile
import time
from datetime import UTC, datetime, timedelta

import numpy as np

from core.audit.acts import Act
from core.embedding.chunks import Chunk
from core.embedding.embed import Embedder, Vectors
from core.embedding.vectors import VectorCache
from core.errors import SourceUnavailable
from core.indexes.builds import build_version, get_live
from core.indexes.ingest import DocumentSource
from core.indexes.operations import swap_index
from core.indexes.registry import get_index
from core.log.retrievals import last_days
from core.replay.comparison import ReplayResult
from core.replay.replaying import ReplayPlan, replay_index
from quarterdeck.recorder import append_retrievals
from quarterdeck.retrieval import Retrieval
from quarterdeck.scope import DEFAULT_SERVICE, Scope
from quarterdeck.store import Store

ACT = Act("benchmark", "measure the replay")
MODEL, DIMENSION = "random", 384
SEED = 10_000
_WORDS = 120  # of a passage: about 800 letters
_BAR_S = 10.0


class CachedOnly(Embedder):
    """Knows cached vectors alone: a replay that embeds anything fails."""

    def _encode(self, texts: list[str]) -> Vectors:
        raise SourceUnavailable(f"{len(texts)} texts are not cached")


def prepare(folder: str, *, questions: int, passages: int) -> Store:
    """Return a store with a week of questions, their vectors, and two indexes, the first one live."""
    rng, store = np.random.default_rng(SEED), Store(f"sqlite:///{folder}/deck.db", create=True)
    cache = VectorCache(store)
    texts = [f"question {at} about {' '.join(map(str, rng.integers(0, 999, 8)))}" for at in range(questions)]
    chunks = [
        Chunk(f"page-{at // 10}.md", "", f"passage {at} {' '.join(map(str, rng.integers(0, 99_999, _WORDS)))}")
        for at in range(passages + passages // 2)
    ]
    for start in range(0, questions + len(chunks), 1_000):
        part = [*texts, *(chunk.text for chunk in chunks)][start : start + 1_000]
        rows = rng.normal(size=(len(part), DIMENSION)).astype(np.float32)
        cache.save_vectors(MODEL, part, rows / np.linalg.norm(rows, axis=1, keepdims=True))
    now = datetime.now(UTC)
    counts = rng.zipf(2.0, questions).clip(max=50)
    append_retrievals(
        store,
        [
            Retrieval(now - timedelta(hours=1 + 140 * rng.random()), text, 0.5, session_id=f"s{at}")
            for at, (text, count) in enumerate(zip(texts, counts, strict=True))
            for _ in range(count)
        ],
    )
    for name, rows in (("docs-v1", chunks[:passages]), ("docs-v2", chunks[passages // 2 :])):
        source = DocumentSource(name, passages // 10, tuple(rows))
        build_version(store, CachedOnly(MODEL, cache=cache), source, ACT, location=f"{folder}/indexes", name=name)
    swap_index(store, "default", "docs-v1", ACT, expected=None)
    return store


def run(store: Store, *, questions: int) -> tuple[ReplayResult, float, float]:
    """Replay; return the result, the seconds, and the seconds of a processor."""
    cache = VectorCache(store)
    plan = ReplayPlan(
        Scope("production", DEFAULT_SERVICE), last_days(8, until=datetime.now(UTC).date()), 0.3, sample=questions
    )
    started, used = time.perf_counter(), _processor_s()
    found = replay_index(
        store, lambda model: CachedOnly(model, cache=cache), get_live(store, "default"), get_index(store, "docs-v2"),
        plan,
    )  # fmt: skip
    return found, time.perf_counter() - started, _processor_s() - used


def _processor_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--questions", type=int, default=5_000)
    parser.add_argument("--passages", type=int, default=5_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="replay-") as folder:
        store = prepare(folder, questions=options.questions, passages=options.passages)
        found, seconds, processor_s = run(store, questions=options.questions)
        store.close()
    print(
        f"{found.replayed:,} distinct questions, asked {found.about.asked:,} times, through two indexes of "
        f"{options.passages:,} passages: {seconds:.2f} s, {processor_s:.2f} s of a processor (bar: {_BAR_S:g} s); "
        f"newly embedded: {found.embedded}; overlap@{found.about.top_k} {found.overlap:.3f}"
    )


if __name__ == "__main__":
    main()

"""Shell: makes the two sides of a replay searchable: what is live, and the candidate, built for the replay if need be.

Every passage is embedded once per model; the tables of a candidate that is not registered last as long as the replay.
"""

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from core.corpus.corpus import Corpus
from core.embedding.chunks import MAX_CHARACTERS, Chunk
from core.embedding.embed import Embedder, Vectors
from core.errors import InvalidInput, NotFound
from core.indexes.backends import LanceIndexes, Passage, VectorIndexes, open_indexes
from core.indexes.ingest import OnProgress, embed_chunks, read_folder, read_version
from core.indexes.registry import Index, get_index
from core.prompts.spending import Budget
from core.replay.candidates import BM25, ReplayCandidate, check_reranker
from core.replay.comparison import SideCost
from core.replay.cross_encoder import CrossEncoder
from core.replay.remembered import RememberedScores, hash_parts
from core.replay.reranking import LexicalScores, Scores, order_hits
from quarterdeck.store import Store

_TABLE = "candidate"
_SLICE = 500  # questions between two reports of progress
_AT_ONCE = 8  # requests to a reranking server


@dataclass(frozen=True, slots=True)
class Reranker:
    """Orders the first `depth` hits of a question anew, for `usd` a question. Scores of a server are remembered."""

    name: str
    scores: Scores
    depth: int
    remembered: RememberedScores | None = None
    usd: float = 0.0

    def order(self, question: str, hits: Sequence[Passage], top_k: int) -> tuple[tuple[Passage, ...], float | None]:
        """Return the best hits, and the ms that took, None where the scores were remembered."""
        texts = [hit.text for hit in hits]
        name = hash_parts(self.name, question, *texts)
        found = self.remembered.find(name) if self.remembered else None
        if found is not None or not hits:
            return order_hits(hits, found or [], top_k), None
        started = time.perf_counter()
        scores = list(self.scores(question, texts))
        took_ms = (time.perf_counter() - started) * 1_000
        if self.remembered:
            self.remembered.record(name, scores)
        return order_hits(hits, scores, top_k), took_ms


@dataclass(frozen=True, slots=True)
class ReplaySide:
    """One side of a replay: the table that is searched, the model of its vectors, and its reranker.

    `embedded` counts passages that had to be embedded for it.
    """

    name: str
    model: str
    indexes: VectorIndexes
    table: str
    reranker: Reranker | None = None
    embedded: int = 0

    def search(
        self, texts: Sequence[str], vectors: Vectors, top_k: int, step: str, on_progress: OnProgress | None
    ) -> tuple[list[tuple[Passage, ...]], SideCost]:
        """Return the hits of each question, best first, and what a question took. Raises what a search raises."""
        wanted = max(top_k, self.reranker.depth) if self.reranker else top_k
        hits: list[tuple[Passage, ...]] = []
        searching_s, reranked_ms = 0.0, list[float]()
        for start in range(0, len(vectors), _SLICE):
            started = time.perf_counter()
            found = self.indexes.search(self.table, vectors[start : start + _SLICE], top_k=wanted)
            searching_s += time.perf_counter() - started
            if self.reranker:
                found, took_ms = _rerank(self.reranker, texts[start : start + _SLICE], found, top_k)
                reranked_ms += took_ms
            hits += found
            if on_progress:
                on_progress(step, len(hits), len(vectors))
        rerank_ms = sum(reranked_ms) / len(reranked_ms) if reranked_ms else None
        usd = len(reranked_ms) * self.reranker.usd if self.reranker else 0.0
        return hits, SideCost(searching_s * 1_000 / max(1, len(hits)), rerank_ms, usd)


@dataclass(frozen=True, slots=True)
class StagingTools:
    """What staging needs: embedders by model, the corpus, and where reranked scores are remembered.

    `reranker_usd` is the price of one search of a reranking server, paid from the `budget`.
    """

    embedder_of: Callable[[str], Embedder]
    corpus: Callable[[], Corpus]
    folder: Path
    budget: Budget = field(default_factory=Budget)
    reranker_usd: float = 0.0


def side_of(index: Index) -> ReplaySide:
    """Return the side that searches a registered index as it is."""
    return ReplaySide(index.name, index.model, open_indexes(index.location), index.name)


@contextmanager
def stage_sides(
    store: Store,
    live: Index,
    candidate: ReplayCandidate,
    tools: StagingTools,
    *,
    live_reranker: str = "",
    on_progress: OnProgress | None = None,
) -> Iterator[tuple[ReplaySide, ReplaySide]]:
    """Yield the live and the candidate side. `live_reranker` orders the hits of both, unless the candidate has another.

    Raises InvalidInput for a candidate that is the live index and for documents that cannot be read, NotFound for an
    index or version that is not there, and SourceUnavailable.
    """
    check_reranker(live_reranker)
    if candidate.index == live.name and len(candidate.changes) == 1:
        raise InvalidInput("index", f"{live.name} is the live index; choose another one")
    base = get_index(store, candidate.index) if candidate.index else live
    rerankers = (live_reranker, candidate.reranker or live_reranker)
    with _stage(base, candidate, tools, on_progress) as staged:
        sides = (side_of(live), replace(staged, name=candidate.name))
        before, after = (
            replace(side, reranker=_open_reranker(name, side, candidate.depth, tools))
            for side, name in zip(sides, rerankers, strict=True)
        )
        yield before, after


@contextmanager
def _stage(
    base: Index, candidate: ReplayCandidate, tools: StagingTools, on_progress: OnProgress | None
) -> Iterator[ReplaySide]:
    if not candidate.is_staged:
        yield side_of(base)
        return
    model = candidate.model or base.model
    chunks = _cut(base, candidate, tools, on_progress)
    vectors, embedded = embed_chunks(tools.embedder_of(model), chunks, on_progress=_name_step(on_progress))
    with tempfile.TemporaryDirectory(prefix="quarterdeck-replay-") as folder:
        indexes = LanceIndexes(folder)
        indexes.build(_TABLE, chunks, vectors)
        yield ReplaySide(candidate.name, model, indexes, _TABLE, embedded=embedded)


def _cut(
    base: Index, candidate: ReplayCandidate, tools: StagingTools, on_progress: OnProgress | None
) -> tuple[Chunk, ...]:
    """Return the candidate's passages: those of the base, unless the documents are others or are cut anew."""
    if not candidate.documents and candidate.characters is None:
        return open_indexes(base.location).list_chunks(base.name)
    wanted = candidate.documents or base.corpus_version
    size = candidate.characters or MAX_CHARACTERS
    if candidate.documents and Path(candidate.documents).is_dir():
        source = read_folder(Path(candidate.documents), max_characters=size, on_progress=on_progress)
    else:
        try:
            source = read_version(tools.corpus(), wanted, max_characters=size, on_progress=on_progress)
        except NotFound as error:
            raise NotFound(f"documents: {error}; name their version or folder with --documents") from error
    if source.problems:
        first = source.problems[0]
        raise InvalidInput(first.document, f"{first.reason} ({len(source.problems)} such documents)")
    if not source.chunks:
        raise InvalidInput("documents", f"{wanted} has no document with text")
    return source.chunks


def _open_reranker(name: str, side: ReplaySide, depth: int, tools: StagingTools) -> Reranker | None:
    if not name:
        return None
    if name == BM25:
        passages = (chunk.text for chunk in side.indexes.list_chunks(side.table))
        return Reranker(name, LexicalScores(passages), depth)
    remembered = RememberedScores(tools.folder / f"rerank-{hash_parts(name)[:16]}.txt")
    scores = CrossEncoder(name, budget=tools.budget, usd=tools.reranker_usd)
    return Reranker(name, scores, depth, remembered, tools.reranker_usd)


def _rerank(
    reranker: Reranker, texts: Sequence[str], found: Sequence[Sequence[Passage]], top_k: int
) -> tuple[tuple[tuple[Passage, ...], ...], list[float]]:
    """Return the hits of each question in their new order, and the ms of those that were not remembered."""
    workers = 1 if reranker.remembered is None else _AT_ONCE
    with ThreadPoolExecutor(workers) as pool:
        done = list(pool.map(lambda pair: reranker.order(pair[0], pair[1], top_k), zip(texts, found, strict=True)))
    return tuple(hits for hits, _ in done), [ms for _, ms in done if ms is not None]


def _name_step(on_progress: OnProgress | None) -> OnProgress | None:
    if on_progress is None:
        return None
    return lambda _step, done, total: on_progress("passages", done, total)

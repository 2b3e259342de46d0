"""Does the predicted lift of a new corpus version match the lift that is measured once it is live?

Run: `python -m benchmarks.prediction [--pages 40] [--cache FILE]`. DPDK's documentation is v1, FD.io VPP's is added as
v2. The queries are section headings of both, taken out of every passage of the index. Embedding all 4,541 passages
takes minutes: `--pages` samples so many pages of each, `--cache` keeps the vectors for the next run.
"""

import argparse
import random
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from benchmarks.data import locate
from core.audit.acts import Act
from core.coverage.topics import LOW_SCORE_SHARE, find_topics
from core.embedding.chunks import Chunk
from core.embedding.embed import Embedder
from core.embedding.formats import split_document
from core.embedding.vectors import VectorCache
from core.indexes.backends import LanceIndexes
from core.indexes.builds import build_version, get_live
from core.indexes.ingest import DocumentSource
from core.indexes.operations import swap_index
from core.log.values import AskedQuery
from core.predictions.operations import save_prediction
from core.predictions.prediction import Prediction, PredictionCheck
from core.predictions.predictions import get_prediction, measure_prediction, predict_version
from quarterdeck.store import Store

DOCUMENTS = locate("data", "corpus")
SEED = 7
QUERIES = 400  # of each half
ACT = Act("benchmark", "measure the prediction")


def read_chunks(folder: Path, pages: int | None = None) -> list[Chunk]:
    """Return the chunks of every page below `folder`, or of so many; names are relative to the folder above it."""
    found = sorted(folder.rglob("*.rst"))
    chosen = found if pages is None else sorted(random.Random(SEED).sample(found, min(pages, len(found))))
    return [
        chunk
        for page in chosen
        for chunk in split_document(page.relative_to(folder.parent).as_posix(), page.read_bytes())
    ]


def hold_out_headings(chunks: list[Chunk], limit: int) -> tuple[list[str], list[Chunk]]:
    """Return up to `limit` headings to ask for, and the chunks without these headings.

    A heading that its own passage repeats word for word, or that more than one page has, is not asked for.
    """
    bodies: dict[str, list[str]] = {}
    pages: dict[str, set[str]] = {}
    for chunk in chunks:
        for heading in _headings(chunk):
            bodies.setdefault(heading, []).append(_body(chunk).casefold())
            pages.setdefault(heading, set()).add(chunk.document)
    askable = sorted(
        heading
        for heading, texts in bodies.items()
        if len(heading.split()) >= 2 and len(pages[heading]) == 1 and not any(heading.casefold() in t for t in texts)
    )
    held_out = set(random.Random(SEED).sample(askable, min(limit, len(askable))))
    return sorted(held_out), [_without(chunk, held_out) for chunk in chunks]


def _headings(chunk: Chunk) -> list[str]:
    return chunk.section.split(" > ") if chunk.section else []


def _body(chunk: Chunk) -> str:
    return chunk.text.removeprefix(f"{chunk.section}\n") if chunk.section else chunk.text


def _without(chunk: Chunk, held_out: set[str]) -> Chunk:
    kept = " > ".join(heading for heading in _headings(chunk) if heading not in held_out)
    return Chunk(chunk.document, kept, f"{kept}\n{_body(chunk)}" if kept else _body(chunk))


def run(folder: Path, embedder: Embedder, store: Store, *, pages: int | None) -> tuple[Prediction, PredictionCheck]:
    """Predict v2 before it is built, build it, and search it; print how long each step takes."""
    old_queries, old = hold_out_headings(read_chunks(DOCUMENTS / "dpdk", pages), QUERIES)
    new_queries, new = hold_out_headings(read_chunks(DOCUMENTS / "vpp", pages), QUERIES)
    v1, v2 = (
        DocumentSource(name, len({c.document for c in rows}), tuple(rows))
        for name, rows in (("v1", old), ("v2", old + new))
    )
    print(
        f"{v1.documents} + {v2.documents - v1.documents} pages, {len(old):,} + {len(new):,} passages, "
        f"{len(old_queries)} + {len(new_queries)} headings held out"
    )
    with _timed("build and register v1"):
        built = build_version(store, embedder, v1, ACT, location=str(folder / "indexes"))
    swap_index(store, "default", built.index.name, ACT, expected=None)
    live = get_live(store, "default")
    with _timed("embed the queries"):
        vectors = embedder.embed([*old_queries, *new_queries])
    hits = LanceIndexes(folder / "indexes").search(live.name, vectors, top_k=1)
    asked = [
        AskedQuery(text, 1, found[0].score) for text, found in zip([*old_queries, *new_queries], hits, strict=True)
    ]
    threshold = float(np.quantile([query.mean_score for query in asked[: len(old_queries)]], LOW_SCORE_SHARE))
    low = [query for query in asked if query.mean_score < threshold]
    topics = find_topics(low, embedder.embed([query.text for query in low])).topics
    queries = [*low, *(query for query in asked if query.mean_score >= threshold)]
    for step in ("predict v2, new passages not embedded yet (unless --cache knows them)", "predict v2, vectors cached"):
        with _timed(step):
            found = predict_version(embedder, v2, live, queries, topics, threshold=threshold)
    save_prediction(store, found, ACT)
    with _timed("build v2, vectors cached by the prediction"):
        report = build_version(store, embedder, v2, ACT, location=str(folder / "indexes"))
    print(f"  texts that the build of v2 had to embed again: {report.embedded}")
    with _timed("search v2"):
        check = measure_prediction(store, embedder, get_prediction(store, "v2"))
    return found, check


@contextmanager
def _timed(step: str) -> Iterator[None]:
    started = time.perf_counter()
    yield
    print(f"  {step:72} {time.perf_counter() - started:8.2f} s", flush=True)


def _print_report(found: Prediction, check: PredictionCheck) -> None:
    assert check.total
    print(f"{'':42} {'queries':>8} {'live':>7} {'predicted':>10} {'measured':>9} {'error':>8} {'lifted share':>28}")
    for row in (check.total, *check.topics):
        lifted = f"{row.predicted_lifted_share:.1%} / {row.measured_lifted_share:.1%}"
        print(
            f"{row.label[:42]:42} {row.queries:8} {row.live_score:7.3f} {row.predicted_score:10.3f} "
            f"{row.measured_score:9.3f} {row.error:+8.4f} {lifted:>28}"
        )
    lift, measured = (
        check.total.predicted_score - check.total.live_score,
        check.total.measured_score - check.total.live_score,
    )
    print(
        f"lift of the mean score: predicted {lift:+.4f}, measured {measured:+.4f}, ratio {lift / measured:.3f}; "
        f"largest error of one query {check.largest_error:.4f}"
    )
    print(
        f"threshold {found.threshold:.3f}; {len(found.lifting)} of {found.new_documents} new pages lift a query, "
        f"{len(found.unreached)} are among the top 5 of none; most lift: "
        + ", ".join(each.document for each in found.lifting[:3])
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pages", type=int)
    parser.add_argument("--cache", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="prediction-") as folder:
        store = Store(f"sqlite:///{folder}/deck.db", create=True)
        vectors = Store(f"sqlite:///{options.cache}", create=True) if options.cache else store
        with vectors.begin():
            pass
        _print_report(*run(Path(folder), Embedder(cache=VectorCache(vectors)), store, pages=options.pages))


if __name__ == "__main__":
    main()

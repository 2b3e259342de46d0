"""Topics compared with BERTopic, KMeans and a former release on the same vectors, in one run.

BERTopic is as its guide sets it up: UMAP, HDBSCAN, and outliers reassigned by their vectors. It needs an environment of
its own (requirements-peers.txt), without the embedding model, so the vectors are made first, with the deck's:

    python -m benchmarks.topics_peers --save VECTORS.npz [FILE.csv]    the deck's environment: BANKING77, and made ones
    python -m benchmarks.topics_peers VECTORS.npz                      any environment; prints what it can import

`--former FOLDER` adds the clustering of a former release: a worktree of it, such as `git worktree add FOLDER v0.1.0`.
"""

import argparse
import importlib.util
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks import topic_sets
from core.coverage.clusters import cluster_vectors

Grouping = Callable[[NDArray[np.float32], Sequence[str]], Sequence[int]]


def save_sets(target: Path, files: Sequence[Path]) -> None:
    """Save labeled sets with their vectors: the files, or BANKING77 and 10,000 questions of 150 intents."""
    from benchmarks.topics_quality import BANKING77, read_labeled
    from core.embedding.embed import Embedder

    held: dict[str, NDArray[np.generic]] = {}
    for path in files or (BANKING77,):
        data = read_labeled(path)
        held |= _as_arrays(path.parent.name, data.texts, data.classes.tolist(), data.vectors)
    if not files:
        rows = topic_sets.intents(seed=0, classes=150, questions=10_000)
        texts = [text for text, _ in rows]
        held |= _as_arrays("150 headings", texts, [name for _, name in rows], Embedder().embed(texts))
    np.savez_compressed(target, allow_pickle=False, **held)


def _as_arrays(
    name: str, texts: Sequence[str], classes: Sequence[str], vectors: NDArray[np.float32]
) -> dict[str, NDArray[np.generic]]:
    return {f"{name}|texts": np.array(texts), f"{name}|classes": np.array(classes), f"{name}|vectors": vectors}


def run_ours(vectors: NDArray[np.float32], texts: Sequence[str]) -> Sequence[int]:
    return cluster_vectors(vectors, np.ones(len(texts))).labels.tolist()


def run_former(folder: Path) -> Grouping:
    """Return the clustering of a former release, whose module `core/clusters.py` stood alone."""
    spec = importlib.util.spec_from_file_location("former_clusters", folder / "core" / "clusters.py")
    if spec is None or spec.loader is None:
        raise SystemExit(f"{folder} holds no core/clusters.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its dataclasses look themselves up
    spec.loader.exec_module(module)
    return lambda vectors, texts: module.cluster_vectors(vectors, np.ones(len(texts))).labels.tolist()


def run_bertopic(vectors: NDArray[np.float32], texts: Sequence[str]) -> Sequence[int]:
    """BERTopic with its defaults, a fixed seed, and its outliers reassigned to the topic of the nearest vectors."""
    from bertopic import BERTopic
    from umap import UMAP

    umap = UMAP(n_neighbors=15, n_components=5, min_dist=0.0, metric="cosine", random_state=0)
    model = BERTopic(umap_model=umap, calculate_probabilities=False)
    topics, _ = model.fit_transform(list(texts), vectors)
    if -1 not in topics:
        return topics
    return model.reduce_outliers(list(texts), topics, strategy="embeddings", embeddings=vectors)


def print_sets(source: Path, former: Path | None) -> None:
    """Print the number of topics and ARI of each way; KMeans gets the true number."""
    from sklearn.cluster import KMeans
    from sklearn.metrics import adjusted_rand_score

    held = np.load(source)
    ways: dict[str, Grouping] = {"ours": run_ours}
    if former:
        ways["former release"] = run_former(former)
    if importlib.util.find_spec("bertopic"):
        ways["BERTopic"] = run_bertopic
    for name in dict.fromkeys(key.split("|")[0] for key in held.files):
        texts, classes, vectors = (held[f"{name}|{part}"] for part in ("texts", "classes", "vectors"))
        count = len(np.unique(classes))
        print(f"{name}: {len(texts):,} texts in {count} classes")

        def run_kmeans(rows: NDArray[np.float32], _: Sequence[str], count: int = count) -> Sequence[int]:
            return KMeans(count, n_init=3, random_state=0).fit_predict(rows).tolist()

        for way, group in {**ways, "KMeans at the true number": run_kmeans}.items():
            started = time.process_time()
            found = group(vectors, texts.tolist())
            score, took = adjusted_rand_score(classes, found), time.process_time() - started
            print(f"  {way:26} {len(set(found)):4} topics, ARI {score:.3f}, {took:.1f} s of CPU", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "files", nargs="*", type=Path, help="the vectors; with --save, CSV files with text and category"
    )
    parser.add_argument("--save", type=Path, metavar="VECTORS.npz", help="make the vectors instead")
    parser.add_argument("--former", type=Path, metavar="FOLDER", help="a worktree of a former release")
    options = parser.parse_args()
    if options.save:
        save_sets(options.save, options.files)
    else:
        for source in options.files:
            print_sets(source, options.former)


if __name__ == "__main__":
    main()

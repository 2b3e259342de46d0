"""Are the topics at the top of the list those that the index lacks? Ranked by gain, compared with a ranking by size.

Some classes of labeled queries are left out of the index. Half the queries of each other class are its documents, one
text each; the other half, all queries of the missing classes and 300 unrelated ones (`chatter.txt`) are asked. Each
query's score is its similarity to the nearest document. Queries below the 10% quantile of a healthy window (the indexed
classes alone) are clustered, `auto`; a topic counts when most of what was asked in it is of missing classes.

Run: `python -m benchmarks.gap_ranking [FILE.csv --text text --label category --missing 15 --top 15 --seeds 8]`.
"""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.topics_quality import BANKING77, Labeled, read_labeled
from core.coverage.topics import LOW_SCORE_SHARE, Topic, Topics, find_topics
from core.embedding.embed import Embedder
from core.log.values import AskedQuery

CHATTER = Path(__file__).with_name("chatter.txt")
INDEXED, UNRELATED, MISSING = 0, 1, 2


@dataclass(frozen=True, slots=True)
class Asked:
    texts: tuple[str, ...]
    vectors: NDArray[np.float32]
    scores: NDArray[np.float32]
    kind: NDArray[np.int64]

    @property
    def healthy(self) -> NDArray[np.float32]:
        return self.scores[self.kind == INDEXED]


def read_chatter() -> tuple[tuple[str, ...], NDArray[np.float32]]:
    texts = tuple(CHATTER.read_text(encoding="utf-8").splitlines())
    return texts, Embedder().embed(texts)


def ask(data: Labeled, chatter: tuple[Sequence[str], NDArray[np.float32]], *, missing: int, seed: int) -> Asked:
    """Return what was asked of an index that lacks `missing` classes, with the true top-1 scores."""
    rng = np.random.default_rng(seed)
    names = np.unique(data.classes)
    left_out = set(rng.choice(names, missing, replace=False).tolist())
    documents, asked, kind = [], [], []
    for name in names:
        rows = rng.permutation(np.flatnonzero(data.classes == name))
        indexed = 0 if name in left_out else len(rows) // 2
        documents.extend(rows[:indexed])
        asked.extend(rows[indexed:])
        kind.extend([MISSING if name in left_out else INDEXED] * (len(rows) - indexed))
    vectors = np.vstack([data.vectors[asked], chatter[1]])
    scores = (vectors @ data.vectors[documents].T).max(axis=1)
    texts = tuple(data.texts[row] for row in asked) + tuple(chatter[0])
    return Asked(texts, vectors, scores, np.array(kind + [UNRELATED] * len(chatter[0])))


def find_gaps(asked: Asked, *, low: NDArray[np.int64], clusters: int | None = None) -> Topics:
    queries = [AskedQuery(asked.texts[row], 1, float(asked.scores[row])) for row in low]
    return find_topics(queries, asked.vectors[low], clusters=clusters, baseline_median=float(np.median(asked.healthy)))


def real_gaps(asked: Asked, low: NDArray[np.int64], ranked: Sequence[Topic]) -> int:
    return sum(bool((asked.kind[low[list(topic.members)]] == MISSING).mean() > 0.5) for topic in ranked)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", nargs="?", type=Path, default=BANKING77)
    parser.add_argument("--text", default="text")
    parser.add_argument("--label", default="category")
    parser.add_argument("--missing", type=int, default=15)
    parser.add_argument("--top", type=int, default=15)
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--clusters", type=int, default=None)
    options = parser.parse_args()
    data = read_labeled(options.file, text=options.text, label=options.label)
    chatter = read_chatter()
    rankings: dict[str, Callable[[Topics], list[Topic]]] = {
        "gain": lambda found: list(found.ranked()),
        "size": lambda found: list(found.topics),
        "cohesion^2": lambda found: sorted(found.topics, key=lambda topic: -topic.gain / topic.cohesion**2),
    }
    print(f"real gaps among the first {options.top} topics (an index without {options.missing} classes)")
    print(
        f"{'seed':>4} {'low':>5} {'missing':>7} {'chatter':>7} {'outliers':>8} {'topics':>6} | " + "  ".join(rankings)
    )
    for seed in range(options.seeds):
        asked = ask(data, chatter, missing=options.missing, seed=seed)
        low = np.flatnonzero(asked.scores < np.quantile(asked.healthy, LOW_SCORE_SHARE))
        found = find_gaps(asked, low=low, clusters=options.clusters)
        hits = [real_gaps(asked, low, order(found)[: options.top]) for order in rankings.values()]
        kinds = [(asked.kind[low] == kind).sum() for kind in (MISSING, UNRELATED)]
        print(
            f"{seed:4} {len(low):5} {kinds[0]:7} {kinds[1]:7} {len(found.outliers):8} {len(found.topics):6} | "
            + "  ".join(f"{hit:{len(name)}}" for name, hit in zip(rankings, hits, strict=True))
        )


if __name__ == "__main__":
    main()

"""Topics compared with the true labels of real queries: ours, plain KMeans and Ward on the same vectors, in one run.

Run: `python -m benchmarks.topics_quality [FILE.csv --text text --label category]`; default is BANKING77's test split.
Prints NMI and ARI at the true number of classes, on the whole and on harder samples of it, the number that `auto`
chooses, and the share of topics whose name shares a word stem with the name of their most frequent class.
"""

import argparse
import csv
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.data import locate
from core.coverage.labels import stem
from core.coverage.topics import Topics, find_topics
from core.embedding.embed import Embedder
from core.log.values import AskedQuery

BANKING77 = locate("data", "banking77", "test.csv")


@dataclass(frozen=True, slots=True)
class Labeled:
    texts: tuple[str, ...]
    classes: NDArray[np.str_]
    vectors: NDArray[np.float32]

    @property
    def class_count(self) -> int:
        return len(np.unique(self.classes))

    def take(self, rows: NDArray[np.int64]) -> "Labeled":
        return Labeled(tuple(self.texts[row] for row in rows), self.classes[rows], self.vectors[rows])


def read_labeled(path: Path, *, text: str = "text", label: str = "category") -> Labeled:
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    texts = tuple(row[text] for row in rows)
    return Labeled(texts, np.array([row[label] for row in rows]), Embedder().embed(texts))


def as_queries(texts: Sequence[str]) -> list[AskedQuery]:
    return [AskedQuery(text, 1, 0.5) for text in texts]


def agreement(classes: Sequence[str], found: Sequence[int]) -> tuple[float, float]:
    """Return normalized mutual information and adjusted Rand index."""
    from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

    return normalized_mutual_info_score(classes, found), adjusted_rand_score(classes, found)


def named_share(data: Labeled, topics: Topics) -> float:
    """Return the share of topics whose label has a word stem in common with the name of their majority class."""
    hits = 0
    for topic in topics.topics:
        majority = Counter(data.classes[list(topic.members)].tolist()).most_common(1)[0][0]
        hits += bool(_stems(topic.label) & _stems(majority))
    return hits / len(topics.topics)


def _stems(text: str) -> set[str]:
    return {stem(word) for word in re.findall(r"[^\W_]+", text)}


def samples(data: Labeled) -> Iterator[tuple[str, Labeled]]:
    yield "all", data
    names = np.unique(data.classes)
    for seed in (0, 1):
        rng = np.random.default_rng(seed)
        half = rng.choice(names, max(2, round(len(names) * 0.52)), replace=False)
        yield f"half of the classes, seed {seed}", data.take(np.flatnonzero(np.isin(data.classes, half)))
        where = [rng.permutation(np.flatnonzero(data.classes == name)) for name in names]
        yield f"20 a class, seed {seed}", data.take(np.concatenate([rows[:20] for rows in where]))
        uneven = [rows[: rng.integers(5, 41)] for rows in where]
        yield f"5 to 40 a class, seed {seed}", data.take(np.concatenate(uneven))


def main() -> None:
    from sklearn.cluster import AgglomerativeClustering, KMeans

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", nargs="?", type=Path, default=BANKING77)
    parser.add_argument("--text", default="text")
    parser.add_argument("--label", default="category")
    parser.add_argument("--names", action="store_true", help="print every topic's name and its majority class")
    options = parser.parse_args()
    data = read_labeled(options.file, text=options.text, label=options.label)
    print(f"{'sample':30} {'queries':>7} {'classes':>7} {'ours':>13} {'KMeans':>13} {'Ward':>13} {'auto':>5} outliers")
    for name, part in samples(data):
        k = part.class_count
        ours = find_topics(as_queries(part.texts), part.vectors, clusters=k)
        auto = find_topics(as_queries(part.texts), part.vectors)
        found = [
            ours.assignments,
            KMeans(k, n_init=10, random_state=0).fit_predict(part.vectors),
            AgglomerativeClustering(k).fit_predict(part.vectors),
        ]
        scores = " ".join("{:7.3f}/{:.3f}".format(*agreement(part.classes, one)) for one in found)
        print(f"{name:30} {len(part.texts):7} {k:7} {scores} {auto.chosen_clusters:5} {len(ours.outliers):8}")
        if name == "all":
            at_true, at_auto = named_share(part, ours), named_share(part, auto)
            print(
                f"  names that share a stem with their class: {at_true:.0%} at the true number, {at_auto:.0%} at auto"
            )
            if options.names:
                _print_names(part, ours)


def _print_names(data: Labeled, topics: Topics) -> None:
    for topic in topics.topics:
        majority, times = Counter(data.classes[list(topic.members)].tolist()).most_common(1)[0]
        print(f"  {topic.count:4} {times / topic.count:4.0%} {majority:48} {topic.label}")


if __name__ == "__main__":
    main()

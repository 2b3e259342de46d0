"""Topics compared with the true labels of real queries: ours, plain KMeans and Ward on the same vectors, in one run.

Run: `python -m benchmarks.topics_quality [FILE.csv --text text --label category]`; default is BANKING77's test split.
Prints NMI and ARI at the true number of classes, on the whole and on harder samples of it, the number that `auto`
chooses, and the share of topics whose name shares a word stem with the name of their most frequent class.

`--small [--seeds 20]` draws small sets of 3 to 20 classes and prints ARI at the automatic number, beside KMeans at the
true number; `--made [--seeds 3]` does so for the sets of `topic_sets.py`. `--zipf` has uneven counts, and `--windows`
prints how many topics keep their label in the next window, which shares half of its queries. `--judge` prints topics
with ten questions each, for a reader to judge.
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

from benchmarks import topic_sets
from benchmarks.data import locate
from core.coverage.labels import stem
from core.coverage.topics import KnownTopic, Topics, find_topics
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
        hits += bool(_stems(f"{topic.label} {' '.join(topic.keywords)}") & _stems(majority))
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
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", nargs="?", type=Path, default=BANKING77)
    parser.add_argument("--text", default="text")
    parser.add_argument("--label", default="category")
    parser.add_argument("--names", action="store_true", help="print every topic's name and its majority class")
    parser.add_argument("--made", action="store_true", help="made sets at the automatic number")
    parser.add_argument("--small", action="store_true", help="small sets at the automatic number")
    parser.add_argument("--zipf", action="store_true", help="uneven counts at the automatic number")
    parser.add_argument("--windows", action="store_true", help="labels in windows that overlap by half")
    parser.add_argument("--judge", action="store_true", help="print topics as Markdown, for a reader to judge")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=0, help="tune on seeds from 10,000 upward")
    options = parser.parse_args()
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    if options.made:
        _print_made(seeds)
    elif options.small:
        print_small(read_labeled(options.file, text=options.text, label=options.label), seeds)
    elif options.judge:
        _print_for_judging()
    elif options.windows:
        _print_windows(read_labeled(options.file, text=options.text, label=options.label), seeds)
    elif options.zipf:
        _print_zipf(read_labeled(options.file, text=options.text, label=options.label), seeds)
    else:
        _print_samples(read_labeled(options.file, text=options.text, label=options.label), names=options.names)


def _print_samples(data: Labeled, *, names: bool) -> None:
    from sklearn.cluster import AgglomerativeClustering, KMeans

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
            if names:
                _print_names(part, ours)


def made_sets(seed: int) -> Iterator[tuple[str, topic_sets.Texts]]:
    """Return sets of many kinds: subsets of BANKING77, templates over headings, sentences of documents, mixtures."""
    with BANKING77.open(newline="", encoding="utf-8") as file:
        banking = [(row["text"], row["category"]) for row in csv.DictReader(file)]
    yield "small, 5 classes of 20", topic_sets.subset(banking, seed=seed, classes=5, least=15, most=25)
    yield "small, 10 classes of 20", topic_sets.subset(banking, seed=seed + 100, classes=10, least=15, most=25)
    yield "small, 20 classes of 10", topic_sets.subset(banking, seed=seed + 200, classes=20, least=5, most=15)
    yield "small, 8 classes of 5 to 40", topic_sets.subset(banking, seed=seed + 300, classes=8, least=5, most=40)
    yield "small, 30 classes of 8", topic_sets.subset(banking, seed=seed + 350, classes=30, least=7, most=8)
    yield "small, templates, 10 x 15", topic_sets.intents(seed=seed, classes=10, questions=150)
    yield "20 classes of 40", topic_sets.subset(banking, seed=seed + 400, classes=20, least=30, most=40)
    yield "40 classes of 40", topic_sets.subset(banking, seed=seed + 500, classes=40, least=30, most=40)
    yield "60 classes of 5 to 40", topic_sets.subset(banking, seed=seed + 600, classes=60, least=5, most=40)
    yield "templates, 64 headings", topic_sets.intents(seed=seed + 1, classes=64, questions=1_500)
    yield "templates, 150 headings", topic_sets.intents(seed=seed + 2, classes=150, questions=4_000)
    yield "diffuse, 20 documents", topic_sets.passages(seed=seed + 3, classes=20, least=40, most=200)
    yield "diffuse, 10 documents", topic_sets.passages(seed=seed + 4, classes=10, least=40, most=300)
    mixed = topic_sets.subset(banking, seed=seed + 700, classes=25, least=10, most=40)
    yield "mixture of 25 and 25", mixed + topic_sets.intents(seed=seed + 5, classes=25, questions=600)


def _print_made(seeds: Sequence[int]) -> None:
    from sklearn.cluster import KMeans

    embedder = Embedder()
    print(
        f"{'set':30} {'seed':>5} {'texts':>6} {'classes':>7} {'auto':>5} {'ours':>6} {'KMeans at the true number':>26}"
    )
    for seed in seeds:
        for name, rows in made_sets(seed):
            texts, classes = [text for text, _ in rows], [kind for _, kind in rows]
            vectors, count = embedder.embed(texts), len(set(classes))
            auto = find_topics(as_queries(texts), vectors)
            theirs = KMeans(count, n_init=10 if len(texts) < 1_500 else 3, random_state=0).fit_predict(vectors)
            ours, peer = agreement(classes, auto.assignments)[1], agreement(classes, theirs)[1]
            chosen = auto.chosen_clusters
            print(f"{name:30} {seed:5} {len(texts):6} {count:7} {chosen:5} {ours:6.3f} {peer:.3f}", flush=True)


def print_small(data: Labeled, seeds: Sequence[int]) -> None:
    """Print ARI and the number of topics on small sets of 3 to 20 classes, beside KMeans at the true number.

    Prints how far the number changes without a tenth of the texts, too.
    """
    from sklearn.cluster import KMeans

    gaps, factors, jumps = [], [], []
    for seed in seeds:
        part = data.take(topic_sets.draw_small(data.classes.tolist(), seed=seed))
        found, again = (
            find_topics(as_queries(each.texts), each.vectors)
            for each in (part, part.take(np.arange(len(part.texts) // 10, len(part.texts))))
        )
        theirs = KMeans(part.class_count, n_init=10, random_state=0).fit_predict(part.vectors)
        ours, peer = (agreement(part.classes.tolist(), one)[1] for one in (found.assignments, theirs))
        gaps.append(ours - peer)
        factors.append(_factor(found.chosen_clusters, part.class_count))
        jumps.append(_factor(found.chosen_clusters, again.chosen_clusters))
        told = f"{part.class_count:3} classes, {found.chosen_clusters:3} topics"
        print(f"  seed {seed:3}: {len(part.texts):3} texts, {told}, ARI {ours:.3f}, KMeans {peer:.3f}", flush=True)
    below, within = np.mean(np.array(gaps) < -0.02), np.mean(np.array(factors) <= 2)
    print(f"{len(gaps)} sets: ARI {np.mean(gaps):+.3f} to KMeans, {below:.0%} over 0.02 below, worst {min(gaps):+.3f}")
    print(f"number within a factor of two in {within:.0%}")
    usual, often = np.median(jumps), np.quantile(jumps, 0.9)
    print(
        f"without a tenth of the texts it changes by a factor of {usual:.2f} in the median, {often:.2f} in one of ten"
    )


def _factor(left: int, right: int) -> float:
    return max(left, right) / max(1, min(left, right))


def _print_zipf(data: Labeled, seeds: Sequence[int]) -> None:
    for exponent in (1.0, 1.3):
        for seed in seeds:
            counts = topic_sets.zipf_counts(len(data.texts), exponent=exponent, seed=seed)
            queries = [AskedQuery(text, count, 0.5) for text, count in zip(data.texts, counts, strict=True)]
            found = find_topics(queries, data.vectors)
            score = agreement(data.classes.tolist(), found.assignments)[1]
            print(f"Zipf({exponent}), seed {seed}: {found.chosen_clusters} topics, ARI {score:.3f}", flush=True)


def _print_windows(data: Labeled, seeds: Sequence[int]) -> None:
    for seed in seeds:
        order = np.random.default_rng(seed).permutation(len(data.texts))
        third = len(order) // 3
        first, second = (data.take(order[start : start + 2 * third]) for start in (0, third))
        before = find_topics(as_queries(first.texts), first.vectors).topics
        known = [KnownTopic(topic.topic_id, topic.centroid, topic.label) for topic in before]
        after = find_topics(as_queries(second.texts), second.vectors, previous=known).topics
        labels = {topic.topic_id: topic.label for topic in before}
        kept = [topic for topic in after if topic.topic_id in labels]
        same = sum(topic.label == labels[topic.topic_id] for topic in kept)
        print(f"seed {seed}: {len(before)} and {len(after)} topics, {len(kept)} kept, {same} of them keep their label")


def _print_for_judging() -> None:
    """Print the topics of BANKING77 and of made questions about 40 headings: title, keywords and ten questions each."""
    rng, number = np.random.default_rng(0), 0
    banking = read_labeled(BANKING77)
    made = tuple(text for text, _ in topic_sets.intents(seed=7, classes=40, questions=800))
    for texts, vectors in (
        (banking.texts, banking.vectors),
        (made, Embedder().embed(made)),
    ):
        for topic in find_topics(as_queries(texts), vectors).topics:
            number += 1
            print(f"\n## {number}. {topic.label}\n\nKeywords: {', '.join(topic.keywords)}\n")
            shown = rng.permutation(topic.members)[:10]
            print("\n".join(f"- {' '.join(texts[at].split())}" for at in shown))


def _print_names(data: Labeled, topics: Topics) -> None:
    for topic in topics.topics:
        majority, times = Counter(data.classes[list(topic.members)].tolist()).most_common(1)[0]
        print(f"  {topic.count:4} {times / topic.count:4.0%} {majority:48} {topic.label}")


if __name__ == "__main__":
    main()

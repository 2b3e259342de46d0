"""Rule: turns questions with vectors, counts and scores into named, ranked topics that keep their identity over time.

`clusters.py` groups the vectors and `labels.py` finds the names. Knows no store and no model.
"""

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from core.coverage.clusters import Clustering, cluster_sums, cluster_vectors, normalize
from core.coverage.labels import name_clusters
from core.errors import InvalidInput
from core.log.values import AskedQuery, normalize_query

FEWEST_ASKED = 10  # below this, groups mean nothing
LOW_SCORE_SHARE = 0.10
SAME_TOPIC_SIMILARITY = 0.80  # between the centroids of one topic in two runs; see `_match_known`
MAP_LIMIT = 2_000
SAMPLES = 5


class TopicStatus(StrEnum):
    """Whether there were enough queries to cluster."""

    OK = "ok"
    TOO_LITTLE = "too_little"


class Trend(StrEnum):
    """The direction of a topic's weekly count; `unknown` with less than two weeks."""

    NEW = "new"
    GROWING = "growing"
    FADING = "fading"
    STEADY = "steady"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class KnownTopic:
    """A topic of an earlier run, with the data to recognize it."""

    topic_id: str
    centroid: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Topic:
    """A group of queries that ask for the same thing.

    `count` is times asked, `distinct` the number of different queries. `cohesion` is the length of the mean unit vector
    (1: all the same). `gain` is the expected benefit of indexing it (`gain_of`). `members` are indices into the given
    queries, without outliers. `sample_queries` are typical ones, the medoid first. `centroid` has length 1.
    """

    topic_id: str
    cluster_id: int
    label: str
    count: int
    distinct: int
    share: float
    mean_score: float
    cohesion: float
    gain: float
    sample_queries: tuple[str, ...]
    trend: Trend
    centroid: tuple[float, ...]
    members: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Topics:
    """The topics by count, largest first; `assignments` holds the nearest cluster_id of every query, outliers too."""

    topics: tuple[Topic, ...]
    outliers: tuple[int, ...]
    assignments: tuple[int, ...]
    chosen_clusters: int
    chosen_by: str
    status: TopicStatus
    reason: str

    def ranked(self) -> tuple[Topic, ...]:
        """Return the topics by expected gain, largest first."""
        return tuple(sorted(self.topics, key=lambda topic: (-topic.gain, topic.cluster_id)))


def low_score_threshold(counts: Sequence[int], edges: Sequence[float], *, share: float = LOW_SCORE_SHARE) -> float:
    """Return the score below which a query counts as badly covered: the `share` quantile of the reference window.

    Of a histogram (n counts, n + 1 edges), straight between the edges of a bin. By the default, one query in ten of a
    healthy window is low; off-topic and unindexed questions fall far below it. Use at least 100 scores.
    """
    mass = np.asarray(counts, dtype=np.float64)
    bounds = np.asarray(edges, dtype=np.float64)
    if len(bounds) != len(mass) + 1 or mass.sum() <= 0 or (mass < 0).any():
        raise InvalidInput("counts", "needs one count per bin, at least one above zero, and one more edge than counts")
    cumulative = np.concatenate([[0.0], np.cumsum(mass)]) / mass.sum()
    at = int(np.searchsorted(cumulative, _checked_share(share), side="left"))
    if at == 0:
        return float(bounds[0])
    part = (share - cumulative[at - 1]) / (cumulative[at] - cumulative[at - 1])
    return float(bounds[at - 1] + part * (bounds[at] - bounds[at - 1]))


def find_topics(
    queries: Sequence[AskedQuery],
    vectors: NDArray[np.float32],
    *,
    clusters: int | None = None,
    seed: int = 0,
    previous: Sequence[KnownTopic] = (),
    baseline_median: float | None = None,
) -> Topics:
    """Return the topics of the (low-scoring) queries, one vector each; `clusters=None` chooses their number.

    Pass the queries that score below `low_score_threshold` and, as `baseline_median`, the median score of all traffic:
    clustering everything dilutes the topics, and without the baseline the gain is relative to the given queries only.
    A query is weighted by how often it was asked; texts that differ only in case and spaces are merged. The result does
    not depend on the order of the queries. A topic keeps the id of the `previous` one that it matches.

    Fewer than 10 queries (times asked) give the status `too_little`, not an error. Raises InvalidInput for `clusters`
    above the number of distinct queries, counts below 1, and vectors that do not fit.
    """
    _check(queries, vectors)
    asked = sum(query.count for query in queries)
    if asked < FEWEST_ASKED:
        reason = f"too few queries to cluster: {asked} scored low, at least {FEWEST_ASKED} are needed"
        return Topics((), (), (-1,) * len(queries), 0, "not clustered", TopicStatus.TOO_LITTLE, reason)
    texts = _merge(queries, vectors)
    if clusters is not None and not 1 <= clusters <= len(texts.names):
        raise InvalidInput("clusters", f"{clusters} is outside 1..{len(texts.names)}, the number of distinct queries")
    found = cluster_vectors(texts.vectors, texts.weights, clusters=clusters, seed=seed)
    baseline = baseline_median if baseline_median is not None else _weighted_median(queries)
    return recognize(_assemble(queries, texts, found, _describe(queries, texts, found, baseline)), previous)


def recognize(found: Topics, previous: Sequence[KnownTopic], taken: Collection[str] = ()) -> Topics:
    """Return the topics with the ids of the `previous` ones that they continue; the others get new ids.

    New ids are none of `taken`, the ids of topics elsewhere.
    Raises InvalidInput if a known topic's centroid has another length, so it comes from another embedding model.
    """
    for known in previous:
        if found.topics and len(known.centroid) != len(found.topics[0].centroid):
            raise InvalidInput("previous", f"topic {known.topic_id} comes from another embedding model")
    ids = _match_known(found.topics, previous, taken)
    named = (replace(topic, topic_id=topic_id) for topic, topic_id in zip(found.topics, ids, strict=True))
    return replace(found, topics=tuple(named))


def gain_of(count: int, mean_score: float, cohesion: float, *, baseline_median: float) -> float:
    """Return the expected gain of indexing a topic: count * (baseline median - mean score) * cohesion^4, at least 0.

    The first two factors are the total score that its queries lack. Cohesion^2 is the mean similarity of two queries of
    the topic. Squaring it again ranks off-topic chatter, which scores lowest but has nothing in common, below topics
    that one document could answer (benchmarks/gap_ranking.py compares ^2 and ^4).
    """
    return max(0.0, count * (baseline_median - mean_score) * cohesion**4)


def trend_of(weekly_counts: Sequence[int]) -> Trend:
    """Return the trend of weekly counts (oldest first).

    `new`: asked only in the last quarter of the weeks (the last week of 2 to 7). Otherwise `growing` or `fading` if the
    score test for a log-linear trend in Poisson counts, z = sum((t - mean t) x) / sqrt(sum(x) * var(t)), exceeds 2.58
    (1 in 100 steady topics). Bursty counts exceed it sooner. Below two weeks: `unknown`.
    """
    counts = np.asarray(weekly_counts, dtype=np.float64)
    if len(counts) < 2 or counts.sum() == 0:
        return Trend.UNKNOWN
    recent = max(1, len(counts) // 4)
    if counts[:-recent].sum() == 0:
        return Trend.NEW
    weeks = np.arange(len(counts)) - (len(counts) - 1) / 2
    z = float((weeks * counts).sum() / np.sqrt(counts.sum() * (weeks**2).mean()))
    if abs(z) <= 2.58:
        return Trend.STEADY
    return Trend.GROWING if z > 0 else Trend.FADING


def map_queries(vectors: NDArray[np.float32], *, seed: int = 0) -> NDArray[np.float64]:
    """Return a point (x, y) for each vector: t-SNE with cosine distances, seeded.

    Neighborhoods are reliable, distances between far groups are not. Raises InvalidInput above 2,000 vectors.
    """
    from sklearn.manifold import TSNE

    if len(vectors) > MAP_LIMIT:
        raise InvalidInput("vectors", f"a map holds at most {MAP_LIMIT} points, not {len(vectors)}")
    unit = normalize(np.asarray(vectors, dtype=np.float32))
    plane = _principal_plane(unit)
    if len(unit) < 5 or float(np.ptp(plane)) < 1e-6:
        return plane
    perplexity = min(30.0, (len(unit) - 1) / 3)
    start = (plane / plane[:, 0].std() * 1e-4).astype(np.float32)
    points = TSNE(2, perplexity=perplexity, init=start, random_state=seed, n_jobs=1).fit_transform(unit)
    return np.asarray(points, dtype=np.float64)


@dataclass(frozen=True, slots=True)
class _Texts:
    """The queries with equal texts merged, ordered by name so that the order of rows does not matter."""

    names: tuple[str, ...]
    vectors: NDArray[np.float32]
    weights: NDArray[np.float64]
    of_query: NDArray[np.int64]


def _checked_share(share: float) -> float:
    if not 0 <= share <= 1:
        raise InvalidInput("share", f"{share} is outside 0..1")
    return share


def _check(queries: Sequence[AskedQuery], vectors: NDArray[np.float32]) -> None:
    if vectors.ndim != 2 or len(vectors) != len(queries):
        raise InvalidInput("vectors", f"have shape {vectors.shape} for {len(queries)} queries")
    if not np.isfinite(vectors).all():
        raise InvalidInput("vectors", "contain a value that is not a number")
    for query in queries:
        if query.count < 1:
            raise InvalidInput("count", f"must be at least 1, not {query.count} for {query.text[:60]!r}")


def _merge(queries: Sequence[AskedQuery], vectors: NDArray[np.float32]) -> _Texts:
    keys = [normalize_query(query.text) for query in queries]
    names = sorted(set(keys))
    place = {name: at for at, name in enumerate(names)}
    of_query = np.array([place[key] for key in keys], dtype=np.int64)
    counts = np.array([query.count for query in queries], dtype=np.float64)
    unit = normalize(np.asarray(vectors, dtype=np.float32))
    sums, weights = cluster_sums(unit, of_query, counts, len(names))
    return _Texts(tuple(names), normalize(sums.astype(np.float32)), weights, of_query)


def _weighted_median(queries: Sequence[AskedQuery]) -> float:
    ordered = sorted((query.mean_score, query.count) for query in queries)
    reached = np.cumsum([count for _, count in ordered])
    return ordered[int(np.searchsorted(reached, reached[-1] / 2))][0]


def _describe(
    queries: Sequence[AskedQuery],
    texts: _Texts,
    found: Clustering,
    baseline: float,
) -> list[Topic]:
    """Return the topics, largest first, still without ids; labels need all topics at once."""
    asked = sum(query.count for query in queries)
    core = [np.flatnonzero((found.labels == cluster) & ~found.outlying) for cluster in range(found.clusters)]
    samples = [_typical(texts, members) for members in core]
    written = _as_written(queries, texts)
    inside = np.flatnonzero(~found.outlying)
    labels = name_clusters(
        [written[at] for at in inside],
        found.labels[inside].tolist(),
        texts.weights[inside].tolist(),
        [written[sample[0]] for sample in samples],
    )
    rows = _rows_of(texts)
    topics = [
        _topic(queries, texts, members, [row for at in members for row in rows[at]], asked, baseline)
        for members in core
    ]
    topics = [
        replace(topic, label=label, cluster_id=cluster, sample_queries=tuple(written[at] for at in sample))
        for cluster, (topic, label, sample) in enumerate(zip(topics, labels, samples, strict=True))
    ]
    return sorted(topics, key=lambda topic: (-topic.count, topic.sample_queries[0]))


def _topic(
    queries: Sequence[AskedQuery],
    texts: _Texts,
    members: NDArray[np.int64],
    rows: list[int],
    asked: int,
    baseline: float,
) -> Topic:
    weights = texts.weights[members]
    mean_vector = np.average(texts.vectors[members].astype(np.float64), axis=0, weights=weights)
    cohesion = float(np.linalg.norm(mean_vector))
    count = sum(queries[row].count for row in rows)
    score = sum(queries[row].count * queries[row].mean_score for row in rows) / count
    return Topic(
        topic_id="",
        cluster_id=-1,
        label="",
        count=count,
        distinct=len(members),
        share=count / asked,
        mean_score=score,
        cohesion=cohesion,
        gain=gain_of(count, score, cohesion, baseline_median=baseline),
        sample_queries=(),
        trend=trend_of(_sum_weeks([queries[row].weekly_counts for row in rows])),
        centroid=tuple((mean_vector / max(cohesion, 1e-12)).tolist()),
        members=tuple(sorted(rows)),
    )


def _sum_weeks(weekly: Sequence[tuple[int, ...]]) -> list[int]:
    """Add up weekly counts, aligned at the latest week."""
    longest = max((len(weeks) for weeks in weekly), default=0)
    padded = [(0,) * (longest - len(weeks)) + weeks for weeks in weekly]
    return [sum(column) for column in zip(*padded, strict=True)]


def _rows_of(texts: _Texts) -> list[list[int]]:
    rows: list[list[int]] = [[] for _ in texts.names]
    for row, at in enumerate(texts.of_query.tolist()):
        rows[at].append(row)
    return rows


def _as_written(queries: Sequence[AskedQuery], texts: _Texts) -> list[str]:
    """Return the most frequent spelling of each text."""
    best: list[tuple[int, str]] = [(0, "")] * len(texts.names)
    for query, at in zip(queries, texts.of_query.tolist(), strict=True):
        best[at] = min(best[at], (-query.count, query.text))
    return [text for _, text in best]


def _typical(texts: _Texts, members: NDArray[np.int64]) -> list[int]:
    """Return up to 5 members: the medoid, then members near the center that add something new."""
    unit = texts.vectors[members].astype(np.float64)
    center = unit.T @ texts.weights[members]
    toward = unit @ (center / max(float(np.linalg.norm(center)), 1e-12))
    picked = [int(toward.argmax())]
    alike = unit @ unit[picked[0]]
    while len(picked) < min(SAMPLES, len(members)):
        value = toward - 0.5 * alike
        value[picked] = -np.inf
        picked.append(int(value.argmax()))
        alike = np.maximum(alike, unit @ unit[picked[-1]])
    return [int(members[at]) for at in picked]


def _match_known(topics: Sequence[Topic], previous: Sequence[KnownTopic], elsewhere: Collection[str]) -> list[str]:
    """Return an id per topic: that of the known topic it continues, or a new one made from its medoid.

    The pairing maximizes the summed cosine similarity of centroids (Hungarian method); a pair below
    `SAME_TOPIC_SIMILARITY` is no match.
    """
    ids = [""] * len(topics)
    if topics and previous:
        from scipy.optimize import linear_sum_assignment

        new = normalize(np.array([topic.centroid for topic in topics], dtype=np.float32))
        old = normalize(np.array([known.centroid for known in previous], dtype=np.float32))
        similarity = (new @ old.T).astype(np.float64)
        similarity[similarity < SAME_TOPIC_SIMILARITY] = 0.0
        for at, known in zip(*linear_sum_assignment(similarity, maximize=True), strict=True):
            if similarity[at, known] > 0:
                ids[at] = previous[known].topic_id
    taken = {known.topic_id for known in previous} | set(elsewhere)
    for at, topic in enumerate(topics):
        ids[at] = ids[at] or _new_id(topic.sample_queries[0], taken)
        taken.add(ids[at])
    return ids


def _new_id(medoid: str, taken: set[str]) -> str:
    attempt, text = 0, normalize_query(medoid)
    while True:
        digest = hashlib.sha256(f"{text}#{attempt}".encode("utf-8", "surrogatepass")).hexdigest()
        if (topic_id := f"t-{digest[:10]}") not in taken:
            return topic_id
        attempt += 1


def _assemble(
    queries: Sequence[AskedQuery],
    texts: _Texts,
    found: Clustering,
    topics: Sequence[Topic],
) -> Topics:
    number = np.empty(found.clusters, dtype=np.int64)
    number[[topic.cluster_id for topic in topics]] = np.arange(len(topics))
    outliers = tuple(np.flatnonzero(found.outlying[texts.of_query]).tolist())
    asked = sum(query.count for query in queries)
    return Topics(
        topics=tuple(replace(topic, cluster_id=at) for at, topic in enumerate(topics)),
        outliers=outliers,
        assignments=tuple(number[found.labels[texts.of_query]].tolist()),
        chosen_clusters=found.clusters,
        chosen_by=found.chosen_by,
        status=TopicStatus.OK,
        reason=f"{asked} queries, {len(texts.names)} of them distinct, in {found.clusters} topics; "
        f"{len(outliers)} outliers",
    )


def _principal_plane(unit: NDArray[np.float32]) -> NDArray[np.float64]:
    centerd = unit.astype(np.float64) - (unit.mean(axis=0) if len(unit) else 0.0)
    if min(centerd.shape) == 0:
        return np.zeros((len(unit), 2))
    left, sizes, right = np.linalg.svd(centerd, full_matrices=False)
    plane = np.zeros((len(unit), 2))
    for axis in range(min(2, len(sizes))):
        sign = np.sign(right[axis][np.abs(right[axis]).argmax()])
        plane[:, axis] = left[:, axis] * sizes[axis] * sign
    return plane

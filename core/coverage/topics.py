"""Rule: queries, their vectors, counts and scores in; named, ranked topics with a lasting identity out.

Leaves the clustering of vectors to `core.coverage.clusters` and the wording of names to `core.coverage.labels`. Knows
no store or model.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from core.coverage.clusters import Clustering, cluster_sums, cluster_vectors, normalize
from core.coverage.labels import name_clusters
from core.errors import InvalidInput
from core.log.values import AskedQuery, normalize_query

FEWEST_ASKED = 10  # below this nothing can be said about groups
LOW_SCORE_SHARE = 0.10
SAME_TOPIC_SIMILARITY = 0.80  # between the centroids of one gap in two runs; see `_match_known`
MAP_LIMIT = 2_000
SAMPLES = 5


class TopicStatus(StrEnum):
    """Whether there was enough to cluster."""

    OK = "ok"
    TOO_LITTLE = "too_little"


class Trend(StrEnum):
    """How the weekly count of a topic moves; `unknown` without at least two weeks."""

    NEW = "new"
    GROWING = "growing"
    FADING = "fading"
    STEADY = "steady"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class KnownTopic:
    """A topic of an earlier run: what is needed to recognize it."""

    topic_id: str
    centroid: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Topic:
    """A group of queries that ask for the same thing.

    `count` is times asked, `distinct` the different queries. `cohesion` is the length of the mean unit vector (1: all
    the same). `gain` is what indexing would bring (`gain_of`). `members` index the queries given, outliers left out.
    `sample_queries` are typical ones, the medoid first. `centroid` has length 1.
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
        """Return the topics by what indexing them would bring, most first."""
        return tuple(sorted(self.topics, key=lambda topic: (-topic.gain, topic.cluster_id)))


def low_score_threshold(counts: Sequence[int], edges: Sequence[float], *, share: float = LOW_SCORE_SHARE) -> float:
    """Return the score below which a query counts as badly covered: the `share` quantile of the reference window.

    Of a histogram (n counts, n + 1 edges), straight between the edges of a bin. By the default, one query in ten of a
    healthy window is low; off-topic and unindexed questions fall far below it. Use at least 100 scores.
    """
    mass = np.asarray(counts, dtype=np.float64)
    bounds = np.asarray(edges, dtype=np.float64)
    if len(bounds) != len(mass) + 1 or mass.sum() <= 0 or (mass < 0).any():
        raise InvalidInput("counts", "needs one count a bin, at least one of them above zero, and one edge more")
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

    Give the queries that score below `low_score_threshold` and, as `baseline_median`, the median score of all traffic:
    clustering everything dilutes the gaps, and without the baseline the gain is measured against the queries given.
    A query weighs as often as it was asked; texts that differ only in case and spaces are taken together. The answer
    does not depend on the order of the queries. A topic keeps the id of the `previous` one it matches.

    Fewer than 10 queries (times asked) are an answer with status `too_little`. Raises InvalidInput for `clusters` above
    the number of distinct queries, counts below 1, and vectors that do not fit.
    """
    _check(queries, vectors)
    asked = sum(query.count for query in queries)
    if asked < FEWEST_ASKED:
        reason = f"too little to cluster: {asked} low-scoring queries, at least {FEWEST_ASKED} are needed"
        return Topics((), (), (-1,) * len(queries), 0, "not clustered", TopicStatus.TOO_LITTLE, reason)
    texts = _merge(queries, vectors)
    if clusters is not None and not 1 <= clusters <= len(texts.names):
        raise InvalidInput("clusters", f"{clusters} is outside 1..{len(texts.names)}, the number of distinct queries")
    found = cluster_vectors(texts.vectors, texts.weights, clusters=clusters, seed=seed)
    baseline = baseline_median if baseline_median is not None else _weighted_median(queries)
    return recognize(_assemble(queries, texts, found, _describe(queries, texts, found, baseline)), previous)


def recognize(found: Topics, previous: Sequence[KnownTopic]) -> Topics:
    """Return the topics with the ids of those of the `previous` ones that they continue, and new ids for the others.

    Raises InvalidInput when a known topic has a centroid of another length, so of another embedding model.
    """
    for known in previous:
        if found.topics and len(known.centroid) != len(found.topics[0].centroid):
            raise InvalidInput("previous", f"topic {known.topic_id} comes from another embedding model")
    ids = _match_known(found.topics, previous)
    named = (replace(topic, topic_id=topic_id) for topic, topic_id in zip(found.topics, ids, strict=True))
    return replace(found, topics=tuple(named))


def gain_of(count: int, mean_score: float, cohesion: float, *, baseline_median: float) -> float:
    """Return what indexing a topic would bring: count * (baseline median - mean score) * cohesion^4, at least 0.

    The first two factors are the score that its queries lack in sum. Cohesion^2 is the mean similarity of two queries
    of the topic; squared again it keeps off-topic chatter, which scores lowest of all but has nothing in common, below
    the gaps that one document could close (measured in benchmarks/gap_ranking.py, where ^2 and ^4 stand side by side).
    """
    return max(0.0, count * (baseline_median - mean_score) * cohesion**4)


def trend_of(weekly_counts: Sequence[int]) -> Trend:
    """Return where weekly counts (oldest first) are heading.

    `new`: asked only in the last quarter of the weeks (the last week of 2 to 7). Else `growing` or `fading` when the
    score test for a log-linear trend in Poisson counts, z = sum((t - mean t) x) / sqrt(sum(x) * var(t)), exceeds 2.58
    (1 in 100 steady topics). Counts that come in bursts call it sooner. Below two weeks: `unknown`.
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
    """Return a point (x, y) a vector, near where meanings are near: t-SNE with cosine distances, seeded.

    Neighbourhoods can be trusted, distances between far groups cannot. Raises InvalidInput above 2,000 vectors.
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
    """The queries with equal texts taken together, by name, so that the order of rows does not matter."""

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
        raise InvalidInput("vectors", "hold a value that is not a number")
    for query in queries:
        if query.count < 1:
            raise InvalidInput("count", f"{query.count} for {query.text[:60]!r}: a query was asked at least once")


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
    """Return the topics, largest first, still without an id; labels need all of them at once."""
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
    """Return each text the way it was asked most often."""
    best: list[tuple[int, str]] = [(0, "")] * len(texts.names)
    for query, at in zip(queries, texts.of_query.tolist(), strict=True):
        best[at] = min(best[at], (-query.count, query.text))
    return [text for _, text in best]


def _typical(texts: _Texts, members: NDArray[np.int64]) -> list[int]:
    """Return up to 5 members: the medoid, then those near the center that say something the others do not."""
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


def _match_known(topics: Sequence[Topic], previous: Sequence[KnownTopic]) -> list[str]:
    """Return an id a topic: that of the known topic it continues, or a new one made from its medoid.

    Pairs are chosen so that the summed cosine similarity of centroids is largest (Hungarian method); a pair below
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
    taken = {known.topic_id for known in previous}
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
        f"{len(outliers)} belong nowhere",
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

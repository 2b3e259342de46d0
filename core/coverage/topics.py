"""Rule: turns questions with vectors, counts and scores into named, ranked topics that keep their identity over time.

`clusters.py` groups the vectors, `labels.py` finds the names and `texts.py` merges equal texts. Knows no store and no
model.
"""

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import chain, count, pairwise

import numpy as np
from numpy.typing import NDArray

from core.coverage.clusters import Clustering, cluster_vectors
from core.coverage.labels import choose_title, find_keywords, make_title
from core.coverage.languages import NAMES, language_of
from core.coverage.texts import Texts, merge_texts
from core.coverage.trees import normalize
from core.errors import InvalidInput
from core.log.values import AskedQuery, normalize_query

FEWEST_ASKED = 10  # below this, groups mean nothing
LOW_SCORE_SHARE = 0.10
SAME_TOPIC_SIMILARITY = 0.80  # between the centroids of one topic in two runs; see `_match_known`
SAMPLES = 5
_CANDIDATES, _TOLD = 12, 200  # members nearest to the center: for its title, and those that say what a good one is


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
    """A topic of an earlier run, with the data to recognize it; it keeps its `label`, unless that is empty."""

    topic_id: str
    centroid: tuple[float, ...]
    label: str = ""


@dataclass(frozen=True, slots=True)
class Topic:
    """A group of queries that ask for the same thing.

    `label` is its title: the most typical question, or what it was called first. `keywords` tell it from the others.
    `count` is times asked, `distinct` the number of different queries. `cohesion` is the length of the mean unit vector
    (1: all the same). `gain` is the expected benefit of indexing it (`gain_of`). `members` are indices into the given
    queries, without outliers. `sample_queries` are typical ones, the most typical first. `centroid` has length 1.
    `language` is empty, or the language of questions that the model cannot group: such a topic holds all of them, and
    its gain is 0.
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
    keywords: tuple[str, ...] = ()
    language: str = ""


@dataclass(frozen=True, slots=True)
class Topics:
    """The topics by count, largest first; `assignments` holds the nearest cluster_id of every query, outliers too.

    `sampled` of `distinct` different queries shaped the topics; the others joined the nearest one.
    """

    topics: tuple[Topic, ...]
    outliers: tuple[int, ...]
    assignments: tuple[int, ...]
    chosen_clusters: int
    chosen_by: str
    status: TopicStatus
    reason: str
    distinct: int = 0
    sampled: int = 0

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
    languages: Collection[str] | None = None,
) -> Topics:
    """Return the topics of the (low-scoring) queries, one vector each; `clusters=None` chooses their number.

    Pass the queries that score below `low_score_threshold` and, as `baseline_median`, the median score of all traffic:
    clustering everything dilutes the topics, and without the baseline the gain is relative to the given queries only.
    Counts weigh in a topic's figures, and damped in its shape. Texts that differ only in case and spaces are merged.
    The result does not depend on the order of the queries. A topic keeps the id and the label of the `previous` one
    that it matches. With the `languages` that the model knows (ISO 639-1), questions in another one are not grouped:
    they form a topic by language.

    Fewer than 10 queries (times asked) give the status `too_little`, not an error. Raises InvalidInput for `clusters`
    above the number of distinct queries, counts below 1, and vectors that do not fit.
    """
    _check(queries, vectors)
    asked = sum(query.count for query in queries)
    if asked < FEWEST_ASKED:
        reason = f"too few questions to group: {asked} scored low, at least {FEWEST_ASKED} are needed"
        return Topics((), (), (-1,) * len(queries), 0, "not clustered", TopicStatus.TOO_LITTLE, reason)
    texts = merge_texts(queries, vectors)
    spoken = _find_foreign(texts, languages)
    known = sum(not language for language in spoken)
    if clusters is not None and not 1 <= clusters <= max(known, 1):
        raise InvalidInput("clusters", f"{clusters} is outside 1..{known}, the number of distinct questions")
    found, foreign = _cluster(texts, spoken, clusters=clusters, seed=seed)
    baseline = baseline_median if baseline_median is not None else _weighted_median(queries)
    return recognize(_assemble(queries, texts, found, _describe(queries, texts, found, baseline, foreign)), previous)


def recognize(found: Topics, previous: Sequence[KnownTopic], taken: Collection[str] = ()) -> Topics:
    """Return the topics with the ids and labels of the `previous` ones that they continue; the others get new ids.

    New ids are none of `taken`, the ids of topics elsewhere. No two topics have one label.
    Raises InvalidInput if a known topic's centroid has another length, so it comes from another embedding model.
    """
    for known in previous:
        if found.topics and len(known.centroid) != len(found.topics[0].centroid):
            raise InvalidInput("previous", f"topic {known.topic_id} comes from another embedding model")
    ids = _match_known(found.topics, previous, taken)
    kept = {known.topic_id: known.label for known in previous if known.label}
    labels = {kept[topic_id].casefold() for topic_id in ids if topic_id in kept}
    named = []
    for topic, topic_id in zip(found.topics, ids, strict=True):
        label = kept.get(topic_id) or _free_label(topic, labels)
        labels.add(label.casefold())
        named.append(replace(topic, topic_id=topic_id, label=label))
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


def _find_foreign(texts: Texts, languages: Collection[str] | None) -> list[str]:
    """Return for each text the language that the model does not know, or an empty string."""
    if languages is None:
        return [""] * len(texts.names)
    spoken = (language_of(text) for text in texts.written)
    return ["" if language in languages else language for language in spoken]


def _cluster(
    texts: Texts, spoken: Sequence[str], *, clusters: int | None, seed: int
) -> tuple[Clustering, tuple[str, ...]]:
    """Return the clustering of all texts, with one cluster for each foreign language behind the others, and those."""
    foreign = tuple(sorted(set(spoken) - {""}))
    grouped = np.flatnonzero([not language for language in spoken])
    labels = np.zeros(len(spoken), dtype=np.int64)
    outlying = np.zeros(len(spoken), dtype=np.bool_)
    if not len(grouped):
        found = Clustering(labels[:0], outlying[:0], 0, "no language that the model knows", grouped)
    else:
        found = cluster_vectors(texts.vectors[grouped], texts.weights[grouped], clusters=clusters, seed=seed)
    labels[grouped], outlying[grouped] = found.labels, found.outlying
    for at, language in enumerate(foreign):
        labels[[place for place, other in enumerate(spoken) if other == language]] = found.clusters + at
    return Clustering(labels, outlying, found.clusters, found.chosen_by, grouped[found.sampled]), foreign


def _weighted_median(queries: Sequence[AskedQuery]) -> float:
    ordered = sorted((query.mean_score, query.count) for query in queries)
    reached = np.cumsum([count for _, count in ordered])
    return ordered[int(np.searchsorted(reached, reached[-1] / 2))][0]


def _describe(
    queries: Sequence[AskedQuery], texts: Texts, found: Clustering, baseline: float, foreign: Sequence[str]
) -> list[Topic]:
    """Return the topics, largest first, still without ids; keywords need all topics at once."""
    asked = sum(query.count for query in queries)
    total = found.clusters + len(foreign)
    core = _members_of(np.where(found.outlying, -1, found.labels), total)
    shown = found.sampled[~found.outlying[found.sampled]]
    keywords = find_keywords(
        [texts.written[at] for at in shown], found.labels[shown].tolist(), texts.weights[shown].tolist(), total
    )
    rows = texts.rows
    topics = []
    for cluster, (members, words) in enumerate(zip(core, keywords, strict=True)):
        topic = _topic(queries, texts, members, [row for at in members for row in rows[at]], asked, baseline)
        samples = tuple(texts.written[at] for at in _typical(texts, members, words))
        named = replace(topic, cluster_id=cluster, label=make_title(samples[0]), keywords=words, sample_queries=samples)
        language = foreign[cluster - found.clusters] if cluster >= found.clusters else ""
        topics.append(_as_foreign(named, language) if language else named)
    return sorted(topics, key=lambda topic: (-topic.count, topic.sample_queries[0]))


def _members_of(labels: NDArray[np.int64], clusters: int) -> list[NDArray[np.int64]]:
    """Return the places of each label 0..clusters-1."""
    order = np.argsort(labels, kind="stable")
    ends = np.searchsorted(labels[order], np.arange(clusters + 1))
    return [order[start:end] for start, end in pairwise(ends.tolist())]


def _as_foreign(topic: Topic, language: str) -> Topic:
    label = f"Questions in {NAMES.get(language, language)}"
    return replace(topic, label=label, keywords=(), language=language, gain=0.0)


def _topic(
    queries: Sequence[AskedQuery],
    texts: Texts,
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


def _typical(texts: Texts, members: NDArray[np.int64], keywords: Sequence[str]) -> list[int]:
    """Return up to 5 members: the best title of those nearest to the center, then others that add something new."""
    unit = texts.vectors[members].astype(np.float64)
    center = unit.T @ texts.weights[members]
    toward = unit @ (center / max(float(np.linalg.norm(center)), 1e-12))
    central = [int(at) for at in np.argsort(-toward, kind="stable")[:_TOLD]]
    told = [texts.written[members[at]] for at in central]
    picked = [central[choose_title(told[:_CANDIDATES], keywords, told)]]
    alike = unit @ unit[picked[0]]
    while len(picked) < min(SAMPLES, len(members)):
        value = toward - 0.5 * alike
        value[picked] = -np.inf
        picked.append(int(value.argmax()))
        alike = np.maximum(alike, unit @ unit[picked[-1]])
    return [int(members[at]) for at in picked]


def _free_label(topic: Topic, taken: Collection[str]) -> str:
    """Return the topic's label, or another typical question where a topic with that name is known already."""
    titles = [topic.label, *(make_title(query) for query in topic.sample_queries)]
    numbered = (f"{topic.label} ({number})" for number in count(2))
    return next(title for title in chain(titles, numbered) if title.casefold() not in taken)


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
        spoken = np.array([_language_of_id(known.topic_id) for known in previous])
        for at, topic in enumerate(topics):  # of a foreign language there is one topic, wherever its center is
            similarity[at, spoken != topic.language] = 0.0
            if topic.language:
                similarity[at, spoken == topic.language] = 1.0
        for at, known in zip(*linear_sum_assignment(similarity, maximize=True), strict=True):
            if similarity[at, known] > 0:
                ids[at] = previous[known].topic_id
    taken = {known.topic_id for known in previous} | set(elsewhere)
    for at, topic in enumerate(topics):
        ids[at] = ids[at] or _new_id(topic, taken)
        taken.add(ids[at])
    return ids


def _new_id(topic: Topic, taken: set[str]) -> str:
    attempt, text = 0, normalize_query(topic.sample_queries[0])
    prefix = f"t-{topic.language}-" if topic.language else "t-"
    while True:
        digest = hashlib.sha256(f"{text}#{attempt}".encode("utf-8", "surrogatepass")).hexdigest()
        if (topic_id := f"{prefix}{digest[:10]}") not in taken:
            return topic_id
        attempt += 1


def _language_of_id(topic_id: str) -> str:
    """Return the language in the id of a topic that holds all questions in it, as `_new_id` made it."""
    parts = topic_id.split("-")
    return parts[1] if len(parts) == 3 else ""


def _assemble(
    queries: Sequence[AskedQuery],
    texts: Texts,
    found: Clustering,
    topics: Sequence[Topic],
) -> Topics:
    number = np.empty(len(topics), dtype=np.int64)
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
        reason=_explain(asked, len(texts.names), found, topics, len(outliers)),
        distinct=len(texts.names),
        sampled=len(found.sampled),
    )


def _say(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _explain(asked: int, distinct: int, found: Clustering, topics: Sequence[Topic], outliers: int) -> str:
    told = f"{_say(asked, 'question')}, {distinct:,} of them distinct, in {_say(found.clusters, 'topic')}"
    told += f"; {_say(outliers, 'outlier')}"
    foreign = [topic for topic in topics if topic.language]
    rest = distinct - len(found.sampled) - sum(topic.distinct for topic in foreign)
    if rest:
        told += f"; a sample of {len(found.sampled)} shaped the topics, the other {rest} joined the nearest one"
    names = ", ".join(f"{topic.count} {topic.label[0].lower()}{topic.label[1:]}" for topic in foreign)
    return f"{told}; not grouped, because the model does not know their language: {names}" if names else told

"""Shell: reports what users asked that the index hardly covers: topics of low-scoring questions, and their map."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from core.coverage.backlog import (
    find_former_models,
    list_backlog,
    list_topic_ids,
    record_sightings,
    save_centers,
)
from core.coverage.carrying import find_center, find_members
from core.coverage.exclusions import list_exclusions
from core.coverage.leaving import take_out
from core.coverage.maps import MAP_LIMIT, map_queries
from core.coverage.topics import (
    Topics,
    find_topics,
    low_score_threshold,
    recognize,
)
from core.drift.present import RAW, LowScores, PresentScale
from core.drift.report import WINDOW_DAYS, DriftOverview, find_present_scale, report_drift
from core.drift.verdict import DriftReport
from core.embedding.embed import Embedder
from core.embedding.vectors import VectorCache, hash_text
from core.errors import SourceUnavailable
from core.log.histograms import add_histograms, quantile_of_histogram
from core.log.retrievals import Window, count_states, last_days, list_questions
from core.log.values import AskedQuery, DailyScores
from quarterdeck.clock import DAY_MS, now_ms
from quarterdeck.schema import HISTOGRAM_BINS
from quarterdeck.scope import DEFAULT_SCOPE, Scope
from quarterdeck.store import Store

MOST_QUESTIONS = 500_000  # distinct ones in a window
CARRIED_BY_DAYS = 30  # whose questions tell where topics lie under another embedding model
CARRIED_FOR_DAYS = 90  # since a topic was seen, after which it stays with its model

logger = logging.getLogger("quarterdeck")


@dataclass(frozen=True, slots=True)
class Coverage:
    """The topics of low-scoring queries in one window.

    A query scores low below `threshold`; `low_count` of `scored_count` queries did. `empty_count` queries found
    nothing: perhaps an outage, but no gap. `pending` distinct queries wait for their vectors and are in no topic yet.
    `threshold` and all scores are on the `scale` of the embedding model that answers now.
    """

    topics: Topics
    queries: tuple[AskedQuery, ...]
    pending: tuple[str, ...]
    window: Window
    threshold: float
    low_count: int
    scored_count: int
    empty_count: int
    scope: Scope = DEFAULT_SCOPE
    scale: PresentScale = RAW

    @property
    def low(self) -> LowScores:
        """Below which a score is low, by embedding model."""
        return LowScores(self.threshold, self.scale)

    @property
    def low_share(self) -> float:
        """The share of the window's scored queries that scored low, 0 to 1."""
        return self.low_count / self.scored_count if self.scored_count else 0.0


def report_coverage(
    store: Store,
    embedder: Embedder,
    *,
    scope: Scope,
    today: date,
    clusters: int | None = None,
    window_days: int = WINDOW_DAYS,
    low_score: float | None = None,
    embed_new: bool = True,
    drift: DriftOverview | None = None,
) -> Coverage:
    """Return the topics of the low-scoring queries that a scope had in the last `window_days`.

    `low_score` sets the threshold by hand; else it comes from the reference of the drift verdict, which is frozen while
    retrieval drifts, so that a lasting drop does not become the measure of itself. `drift` is today's verdict, where it
    was read already. Topics seen before keep their ids and labels, also those of a former embedding model. All distinct
    low queries take part, up to 500,000: a sample of them shapes the topics, the others join the nearest one. With
    `embed_new=False` only queries whose vectors are cached are grouped, the others are `pending`. Questions that
    somebody took out of a topic are in none. Raises SourceUnavailable and InvalidInput.
    """
    window = last_days(window_days, until=today)
    drift = drift or report_drift(store, scope=scope, today=today)
    histogram = add_histograms(_list_reference(drift.report, drift.days))
    threshold = low_score if low_score is not None else _low_threshold(histogram)
    low = list_questions(store, window, below=threshold, limit=MOST_QUESTIONS, scope=scope, scale=drift.scale)
    median = quantile_of_histogram(histogram, 0.5) if any(histogram) else None
    texts = [query.text for query in low]
    cached = set(texts) if embed_new else set(embedder.get_known(texts))
    pending = tuple(text for text in texts if text not in cached)
    grouped = tuple(query for query in low if query.text in cached)
    if clusters is None and not pending:
        _carry_topics(store, embedder, grouped, scope, window.last)
    known = [topic.known for topic in list_backlog(store, embedder.model, scope)]
    recognized = recognize(_group(embedder, grouped, clusters, median), known, list_topic_ids(store))
    topics = take_out(recognized, grouped, _find_removed(store, recognized, grouped))
    if clusters is None and not pending:  # half a picture, or a number tried by hand, opens no new topics
        _remember(store, topics, embedder.model, scope)
    states = count_states(store, window, scope)
    return Coverage(
        topics=topics,
        queries=grouped,
        pending=pending,
        window=window,
        threshold=threshold,
        low_count=sum(query.count for query in low),
        scored_count=states.scored,
        empty_count=states.empty,
        scope=scope,
        scale=drift.scale,
    )


def find_threshold(store: Store, *, scope: Scope, today: date, low_score: float | None = None) -> float:
    """Return the similarity below which a question scores low: `low_score`, else what the drift reference gives."""
    return find_low(store, scope=scope, today=today, low_score=low_score).below


def find_low(store: Store, *, scope: Scope, today: date, low_score: float | None = None) -> LowScores:
    """Return the same, with what it is for scores of a former embedding model."""
    if low_score is not None:
        return LowScores(low_score, find_present_scale(store, scope, today=today))
    found = report_drift(store, scope=scope, today=today)
    return LowScores(_low_threshold(add_histograms(_list_reference(found.report, found.days))), found.scale)


def call_topics(coverage: Coverage, labels: Mapping[str, str]) -> Coverage:
    """Return a report whose topics are called as the backlog calls them now, by id: one may have been renamed since."""
    topics = (replace(topic, label=labels.get(topic.topic_id) or topic.label) for topic in coverage.topics.topics)
    return replace(coverage, topics=replace(coverage.topics, topics=tuple(topics)))


def hide_questions(coverage: Coverage) -> Coverage:
    """Return a report without anything that users asked: topics by their ids, counts and scores only."""
    topics = (
        replace(topic, label=name_hidden(topic.topic_id), keywords=(), sample_queries=())
        for topic in coverage.topics.topics
    )
    queries = tuple(replace(query, text="") for query in coverage.queries)
    return replace(coverage, topics=replace(coverage.topics, topics=tuple(topics)), queries=queries)


def name_hidden(topic_id: str) -> str:
    """Return what a topic is called for those who may not read questions: the end of its id, the same everywhere.

    >>> name_hidden("t-6b20f629ca")
    'Topic 29ca'
    """
    return f"Topic {topic_id[-4:]}"


@dataclass(frozen=True, slots=True)
class MapPoint:
    """One low-scoring query on the map; `cluster_id` is -1 for an outlier."""

    x: float
    y: float
    cluster_id: int
    query: AskedQuery


def map_coverage(coverage: Coverage, place: Callable[[tuple[str, ...]], NDArray[np.float64]]) -> tuple[MapPoint, ...]:
    """Return the most asked low-scoring queries as points: near points ask for similar things.

    `place` is `place_texts` or a cached version of it, because placing takes seconds.
    """
    queries = coverage.queries[:MAP_LIMIT]
    if len(queries) < 3:
        return ()
    places = place(tuple(query.text for query in queries))
    cluster_of = {member: topic.cluster_id for topic in coverage.topics.topics for member in topic.members}
    return tuple(
        MapPoint(float(x), float(y), cluster_of.get(at, -1), query)
        for at, ((x, y), query) in enumerate(zip(places, queries, strict=True))
    )


def place_texts(texts: Sequence[str], embedder: Embedder) -> NDArray[np.float64]:
    """Return a point on a plane (a row of two) for each text; texts that ask for similar things are near each other."""
    return map_queries(embedder.embed(texts))


@lru_cache(maxsize=8)
def _group(embedder: Embedder, queries: tuple[AskedQuery, ...], clusters: int | None, median: float | None) -> Topics:
    """Return the topics of the queries. Cached, because thousands of queries take seconds."""
    vectors = embedder.embed([query.text for query in queries])
    return find_topics(queries, vectors, clusters=clusters, baseline_median=median, languages=embedder.languages)


def _find_removed(store: Store, found: Topics, queries: Sequence[AskedQuery]) -> dict[str, set[int]]:
    """Return the members that somebody took out of their topic, by the topic's id."""
    excluded = list_exclusions(store, [topic.topic_id for topic in found.topics])
    return {
        topic.topic_id: {
            member for member in topic.members if hash_text(queries[member].text) in excluded[topic.topic_id]
        }
        for topic in found.topics
        if topic.topic_id in excluded
    }


def _carry_topics(store: Store, embedder: Embedder, low: Sequence[AskedQuery], scope: Scope, today: date) -> None:
    """Carry the topics that still have their place under a former embedding model to the present one.

    Only questions of the last 30 days whose vectors of the former model are still cached tell where a topic lies; they
    need not score low any more. A topic with too few of them is tried again, until it was not seen for 90 days.
    """
    formers = find_former_models(store, embedder.model, scope, since_ms=now_ms() - CARRIED_FOR_DAYS * DAY_MS)
    if not formers:
        return
    asked = (*low, *list_questions(store, last_days(CARRIED_BY_DAYS, until=today), scope=scope))
    for former in formers:
        vectors = VectorCache(store).get_vectors(former, list(dict.fromkeys(query.text for query in asked)))
        texts, length = list(vectors), len(next(iter(vectors.values()), ()))
        known = [each.known for each in list_backlog(store, former, scope) if len(each.centroid) == length]
        members = find_members(known, np.array(list(vectors.values()), dtype=np.float32))
        centers = {key: find_center(embedder.embed([texts[row] for row in rows])) for key, rows in members.items()}
        try:
            save_centers(store, centers, former=former, model=embedder.model)
        except SourceUnavailable as error:
            logger.warning("the topics of %s are not carried to %s: %s", former, embedder.model, error)
        else:
            logger.info("%d of %d topics of %s go on with %s", len(centers), len(known), former, embedder.model)


def _remember(store: Store, topics: Topics, model: str, scope: Scope) -> None:
    """Record the sightings; a store that can only be read still shows its topics."""
    try:
        record_sightings(store, topics.topics, model, at_ms=now_ms(), scope=scope)
    except SourceUnavailable as error:
        logger.warning("the topics seen are not remembered: %s", error)


def _list_reference(report: DriftReport, days: tuple[DailyScores, ...]) -> tuple[DailyScores, ...]:
    """Return the days that the drift verdict compares with; all days while there is nothing to compare."""
    return tuple(day for day in days if report.is_reference(day.day)) or days


def _low_threshold(histogram: Sequence[int]) -> float:
    """Return the score that nine in ten reference queries reach; 0 (nothing is low) without a reference."""
    edges = [step / HISTOGRAM_BINS for step in range(HISTOGRAM_BINS + 1)]
    return low_score_threshold(histogram, edges) if any(histogram) else 0.0

"""What the coverage page reads, cached for a minute: topics, their map, and the documents nearest to them."""

from collections import Counter
from datetime import date

import numpy as np
import streamlit as st
from numpy.typing import NDArray

from app.resources import get_config, get_embedder, get_store, load_drift
from core.cases.proposals import Proposals, propose_of_topic
from core.coverage.answerability import CoverageFinding
from core.coverage.asked import link_traces
from core.coverage.backlog import BacklogTopic, sum_versions
from core.coverage.closing import report_shelves
from core.coverage.emerging import EmergingReport
from core.coverage.judging import count_findings
from core.coverage.newcomers import report_emerging
from core.coverage.report import Coverage, MapPoint, map_coverage, place_texts, report_coverage
from core.coverage.shelves import ShelvedTopic
from core.drift.present import LowScores
from core.embedding.backfill import Backfill
from core.indexes.registry import list_aliases
from core.predictions.nearest import Nearest, find_nearest
from core.predictions.predictions import list_predictions
from quarterdeck.scope import Scope


@st.cache_resource
def get_backfill() -> Backfill:
    """Return the background embedding of new queries."""
    return Backfill(get_embedder())


@st.cache_resource(refresh_mode="background", ttl=60, max_entries=50, show_spinner="Grouping low-scoring questions …")
def load_coverage(scope: Scope, today: date, window_days: int, clusters: int | None) -> Coverage:
    """Return the topics of the low-scoring queries of a scope in the window."""
    return report_coverage(
        get_store(),
        get_embedder(),
        scope=scope,
        today=today,
        window_days=window_days,
        clusters=clusters,
        low_score=get_config().low_score,
        embed_new=False,
        drift=load_drift(scope, today),
    )


@st.cache_resource(refresh_mode="background", ttl=60, max_entries=50, show_spinner=False)
def load_emerging(scope: Scope, today: date, *, readable: bool) -> EmergingReport:
    """Return the topics that are new, as the last look in the background found them; nothing is computed here."""
    del today  # a part of the key only: a report of yesterday is of no use
    return report_emerging(get_store(), scope, readable=readable)


@st.cache_resource(refresh_mode="background", ttl=60, max_entries=50, show_spinner="Counting findings …")
def load_findings(
    scope: Scope, today: date, window_days: int, clusters: int | None
) -> dict[str, Counter[CoverageFinding]]:
    """Return why the low questions of each topic score low, by topic id."""
    return count_findings(get_store(), load_coverage(scope, today, window_days, clusters))


@st.cache_resource(max_entries=20, show_spinner="Drawing the map …")
def load_places(texts: tuple[str, ...]) -> NDArray[np.float64]:
    """Return the map positions of the texts, computed once for the same texts."""
    return place_texts(texts, get_embedder())


@st.cache_resource(refresh_mode="background", ttl=60, max_entries=50, show_spinner=False)
def load_map(scope: Scope, today: date, window_days: int, clusters: int | None) -> tuple[MapPoint, ...]:
    """Return the low-scoring queries of the window as points of a map."""
    return map_coverage(load_coverage(scope, today, window_days, clusters), load_places)


@st.cache_resource(refresh_mode="background", ttl=60, max_entries=100, show_spinner="Looking for traces …")
def load_traces(texts: tuple[str, ...], scope: Scope, start_ms: int, end_ms: int, low: LowScores) -> dict[str, str]:
    """Return the addresses of the newest traces of some questions."""
    return link_traces(get_store(), texts, scope=scope, start_ms=start_ms, end_ms=end_ms, low=low)


@st.cache_resource(
    refresh_mode="background", ttl=60, max_entries=100, show_spinner="Looking for the nearest documents …"
)
def load_nearest(typical: tuple[str, ...]) -> Nearest:
    """Return the documents of the live index nearest to the typical questions of a topic."""
    return find_nearest(get_store(), get_embedder(), typical)


@st.cache_resource(ttl=60, max_entries=50, show_spinner="Choosing typical questions …")
def load_topic_proposals(
    scope: Scope, today: date, days: int, clusters: int | None, topic_id: str, set_name: str, set_version: int
) -> Proposals:
    """Return cases for the typical questions of a topic, without those that a set has at this version."""
    del set_version  # a part of the key only: proposals for a former version are of no use
    coverage = load_coverage(scope, today, days, clusters)
    return propose_of_topic(get_store(), get_embedder(), coverage, topic_id, set_name)


@st.cache_resource(refresh_mode="background", ttl=15, max_entries=50, show_spinner="Reading the backlog …")
def load_shelved(
    scope: Scope, today: date, window_days: int, clusters: int | None, live: tuple[tuple[str, int], ...]
) -> tuple[ShelvedTopic[BacklogTopic], ...]:
    """Return the topics of the window and of the backlog, each on its shelf, with what was measured of it.

    `live` is what `read_live` returns: a swap, a decision and its undoing show at once.
    """
    del live  # it only tells entries of the cache apart
    coverage = load_coverage(scope, today, window_days, clusters)
    return report_shelves(get_store(), get_embedder(), coverage, today=today)


def read_live() -> tuple[tuple[str, int], ...]:
    """Return the versions of the aliases and of the backlog, which change with every swap and every decision."""
    store = get_store()
    return (*((alias.alias, alias.version) for alias in list_aliases(store)), ("", sum_versions(store)))


@st.cache_resource(refresh_mode="background", ttl=60, max_entries=50, show_spinner=False)
def load_cures(scope: Scope) -> dict[str, str]:
    """Return the best predicted cure of each topic in words, by topic id."""
    best: dict[str, tuple[float, str]] = {}
    for prediction in list_predictions(get_store(), scope):
        for topic in prediction.topics:
            lifted = f"{topic.lifted_share:.0%} covered"
            said = f"{prediction.target}: {topic.live_score:.2f} → {topic.predicted_score:.2f}, {lifted}"
            best[topic.topic_id] = max(best.get(topic.topic_id, (-1.0, "")), (topic.predicted_score, said))
    return {topic_id: said for topic_id, (_, said) in best.items()}

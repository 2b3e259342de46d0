"""What the questions page reads, cached for some seconds: pages of questions, counts, views, and known vectors."""

from datetime import date

import streamlit as st

from app.panels.coverage.resources import load_coverage
from app.resources import get_config, get_embedder, get_store
from core.cases.proposals import Proposals, propose_cases
from core.coverage.asked import find_topic, narrow_to_topic
from core.coverage.assignments import TopicAssignments, assign_topics
from core.coverage.newcomers import narrow_to_new
from core.coverage.report import find_low, report_coverage
from core.drift.present import LowScores
from core.jobs.looking import Lookup
from core.log.filters import Cursor, LoggedQuestion, Order, QuestionFilter, QuestionPage
from core.log.metrics import Daily, Segments, list_metric_days, list_metric_segments
from core.log.questions import count_questions, list_page
from core.log.retrievals import Window, count_states, list_dimensions
from core.log.search_index import IndexedShare, find_indexed_share
from core.log.services import ServiceSettings, get_service
from core.log.values import States
from core.metrics.daily import list_metrics
from core.metrics.definition import MetricDefinition
from core.metrics.segments import SegmentsReport, report_metric_segments
from core.questions.again import SearchedAgain, search_again
from core.questions.neighbors import find_similar, load_known, narrow_to_like
from core.questions.similar import KnownQuestions, SimilarQuestion
from core.questions.views import SavedViews, list_views
from core.reviews.queues import ReviewQueue, list_queues
from core.reviews.report import JudgedQuality, report_judged
from quarterdeck.scope import Scope

PAGE = 50
MOST_COUNTED = 10_000
TOPIC_DAYS = 30  # the longest window of the coverage page
TopicWindow = tuple[Scope, date, int]
QUALITY_METRICS = ("latency_ms", "cost_usd", "tokens", "feedback", "faithfulness", "relevancy")


@st.cache_resource(ttl=15, max_entries=200, show_spinner="Reading the questions …")
def load_page(
    wanted: QuestionFilter, after: Cursor | None, limit: int = PAGE, order: Order = Order.NEWEST
) -> QuestionPage:
    """Return the first questions that meet a filter, those after a cursor."""
    return list_page(get_store(), wanted, limit=limit, after=after, order=order)


@st.cache_resource(ttl=30, max_entries=200, show_spinner="Counting …")
def load_count(wanted: QuestionFilter) -> int:
    """Return how many questions meet a filter; counting ends after MOST_COUNTED."""
    return count_questions(get_store(), wanted, most=MOST_COUNTED + 1)


@st.cache_resource(refresh_mode="background", ttl=15, max_entries=100, show_spinner=False)
def load_states(scope: Scope, first: date, last: date) -> States:
    """Return the states of all questions of some days."""
    return count_states(get_store(), Window(first, last), scope)


@st.cache_resource(refresh_mode="background", ttl=60, max_entries=50, show_spinner=False)
def load_low(scope: Scope, today: date) -> LowScores:
    """Return the similarity under which questions of a scope score low, by embedding model."""
    return find_low(get_store(), scope=scope, today=today, low_score=get_config().low_score)


def load_threshold(scope: Scope, today: date) -> float:
    """Return the same for the embedding model that answers now."""
    return load_low(scope, today).below


@st.cache_resource(refresh_mode="background", ttl=60, max_entries=20, show_spinner="Looking for the topic …")
def load_topic(scope: Scope, today: date, days: int, name: str) -> tuple[str, QuestionFilter]:
    """Return the label of a topic of the window and the filter of its questions. Raises NotFound."""
    coverage = load_coverage(scope, today, min(days, TOPIC_DAYS), None)
    label = find_topic(coverage, name).label
    return label, narrow_to_topic(get_store(), QuestionFilter(scope=scope), coverage, name)


@st.cache_resource(refresh_mode="background", ttl=60, max_entries=20, show_spinner="Looking for the topic …")
def load_new_topic(scope: Scope, today: date, topic_id: str) -> tuple[str, QuestionFilter]:
    """Return the label of a topic that is new and the filter of its questions. Raises NotFound."""
    del today  # a part of the key only
    return narrow_to_new(get_store(), QuestionFilter(scope=scope), scope, topic_id)


@st.cache_resource
def get_topics() -> Lookup[TopicWindow, TopicAssignments]:
    """Return which topic each low question is in; questions are grouped in the background."""
    store, embedder, low_score = get_store(), get_embedder(), get_config().low_score  # not in the thread

    def assign(window: TopicWindow) -> TopicAssignments:
        scope, today, days = window
        coverage = report_coverage(
            store, embedder, scope=scope, today=today, window_days=days, low_score=low_score, embed_new=False
        )
        return assign_topics(coverage)

    return Lookup(assign, lasts_s=60)


def forget_topics() -> None:
    """Let every page group the questions again: one was taken out of its topic, or put back."""
    get_topics().forget()
    load_coverage.clear()
    load_topic.clear()


@st.cache_resource(ttl=5, max_entries=50, show_spinner=False)
def load_queues(scope: Scope) -> tuple[ReviewQueue, ...]:
    """Return the review queues of a scope."""
    return list_queues(get_store(), scope)


@st.cache_resource(refresh_mode="background", ttl=60, max_entries=50, show_spinner="Adding up the numbers …")
def load_metric_days(scope: Scope, window: Window) -> Daily:
    """Return the numbers of the quality tab by day."""
    return list_metric_days(get_store(), scope, QUALITY_METRICS, window)


@st.cache_resource(refresh_mode="background", ttl=60, max_entries=50, show_spinner="Adding up the segments …")
def load_metric_segments(scope: Scope, window: Window, dimension: str) -> Segments:
    """Return the numbers of the quality tab by the values of a dimension."""
    return list_metric_segments(get_store(), scope, QUALITY_METRICS, window, dimension)


@st.cache_resource(ttl=10, max_entries=50, show_spinner=False)
def load_metrics(scope: Scope) -> tuple[MetricDefinition, ...]:
    """Return the metrics that a scope can be shown by, built in or own."""
    return list_metrics(get_store(), scope)


@st.cache_resource(refresh_mode="background", ttl=60, max_entries=50, show_spinner="Adding up the segments …")
def load_segments_report(scope: Scope, metric: MetricDefinition, window: Window, dimension: str) -> SegmentsReport:
    """Return a metric by the values of a dimension."""
    return report_metric_segments(get_store(), scope, metric, window, dimension)


@st.cache_resource(refresh_mode="background", ttl=60, max_entries=50, show_spinner="Reading judged answers …")
def load_judged(scope: Scope, window: Window) -> tuple[JudgedQuality, ...]:
    """Return what the judge and reviewers say of a window's answers."""
    return report_judged(get_store(), scope, window)


@st.cache_resource(ttl=60, max_entries=50, show_spinner=False)
def load_dimensions(scope: Scope) -> tuple[str, ...]:
    """Return the dimensions of a scope."""
    return list_dimensions(get_store(), scope)


@st.cache_resource(ttl=10, max_entries=50, show_spinner=False)
def load_views(environment: str) -> SavedViews:
    """Return the saved views of an environment."""
    return list_views(get_store(), environment)


@st.cache_resource(ttl=60, max_entries=100, show_spinner=False)
def load_service(name: str) -> ServiceSettings:
    """Return the settings of a service."""
    return get_service(get_store(), name)


@st.cache_resource(refresh_mode="background", ttl=60, show_spinner=False)
def load_indexed_share() -> IndexedShare | None:
    """Return how much of the log is in the search index; None for a log that needs none."""
    return find_indexed_share(get_store())


@st.cache_resource(ttl=60, max_entries=100, show_spinner="Searching again …")
def load_again(text: str) -> SearchedAgain:
    """Return what the live and the waiting index find for a question now."""
    return search_again(get_store(), get_embedder(), text)


@st.cache_resource(refresh_mode="background", ttl=600, max_entries=3, show_spinner="Reading the known vectors …")
def load_known_questions(scope: Scope) -> KnownQuestions:
    """Return the newest distinct questions of a scope whose vectors are known."""
    return load_known(get_store(), get_embedder(), scope)


@st.cache_resource(ttl=60, max_entries=100, show_spinner="Looking for similar questions …")
def load_similar(scope: Scope, text: str) -> tuple[SimilarQuestion, ...]:
    """Return the questions most similar to one."""
    return find_similar(get_embedder(), load_known_questions(scope), text)


@st.cache_resource(ttl=60, max_entries=50, show_spinner="Proposing cases …")
def load_case_proposals(
    names: tuple[tuple[str, str, str], ...],
    set_name: str,
    set_version: int,
    threshold: float,
    _questions: tuple[LoggedQuestion, ...],
) -> Proposals:
    """Return cases for some questions, which `names` tell apart, and what of a set they repeat."""
    del names, set_version  # parts of the key only
    return propose_cases(get_store(), get_embedder(), _questions, set_name, threshold=threshold)


@st.cache_resource(ttl=60, max_entries=50, show_spinner="Looking for similar questions …")
def load_like(wanted: QuestionFilter, name: str) -> tuple[str, QuestionFilter]:
    """Return the text of a question, and the filter of those that are most like it. Raises NotFound."""
    return narrow_to_like(get_store(), get_embedder(), load_known_questions(wanted.scope), wanted, name)

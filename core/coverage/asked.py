"""Shell: narrows a filter of questions to what coverage knows: low scores, or one topic; and links their traces."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import date

from core.coverage.report import Coverage, find_low
from core.coverage.topics import Topic
from core.drift.present import LowScores
from core.errors import NotFound
from core.log.filters import QuestionFilter
from core.log.questions import list_matching, with_spellings
from core.log.services import get_service
from quarterdeck.scope import Scope
from quarterdeck.store import Store

_MOST_READ = 500
_MOST_TEXTS = 5_000


def narrow_to_low(
    store: Store, wanted: QuestionFilter, *, scope: Scope, today: date, low_score: float | None
) -> QuestionFilter:
    """Return the filter for the questions of a scope that score low, as the coverage page understands it."""
    low = find_low(store, scope=scope, today=today, low_score=low_score)
    return replace(wanted, scope=scope, below=low.below, bounds=low.bounds)


def narrow_to_topic(store: Store, wanted: QuestionFilter, coverage: Coverage, name: str) -> QuestionFilter:
    """Return the filter for the questions of one topic of a coverage report, in any spelling, within its window.

    Of a topic with more than 5,000 different questions, those most asked. `name` is the topic's id, its number or its
    label. Raises NotFound, listing the topics.
    """
    topic = find_topic(coverage, name)
    window = coverage.window
    texts = tuple(coverage.queries[member].text for member in topic.members[:_MOST_TEXTS])
    start_ms = window.start_ms if wanted.start_ms is None else max(wanted.start_ms, window.start_ms)
    end_ms = window.end_ms if wanted.end_ms is None else min(wanted.end_ms, window.end_ms)
    inside = replace(
        wanted, texts=texts, below=coverage.threshold, bounds=coverage.low.bounds, start_ms=start_ms, end_ms=end_ms
    )
    return with_spellings(store, inside, start_ms=window.start_ms, end_ms=window.end_ms)


def link_traces(
    store: Store, texts: Sequence[str], *, scope: Scope, start_ms: int, end_ms: int, low: LowScores
) -> dict[str, str]:
    """Return the address of the newest trace of each low-scoring question; empty if the service has no link."""
    service = get_service(store, scope.service)
    if not service.trace_link:
        return {}
    wanted = QuestionFilter(
        scope=scope, texts=tuple(texts), start_ms=start_ms, end_ms=end_ms, below=low.below, bounds=low.bounds
    )
    links: dict[str, str] = {}
    for question in list_matching(store, wanted, limit=_MOST_READ):
        if question.trace_id:
            links.setdefault(question.query, service.link_to(question.trace_id))
    return links


def find_topic(coverage: Coverage, name: str) -> Topic:
    """Return a topic of a report by its id, number or label. Raises NotFound, listing the topics."""
    for topic in coverage.topics.topics:
        if name in (topic.topic_id, str(topic.cluster_id)) or name.casefold() == topic.label.casefold():
            return topic
    known = ", ".join(f"{topic.cluster_id} ({topic.label})" for topic in coverage.topics.topics)
    raise NotFound(f"topic: there is no topic {name!r}; there are: {known or coverage.topics.reason}")

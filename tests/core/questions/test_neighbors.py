"""The filters for questions like one of them, and for those of a topic, on a real store."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import numpy as np
import pytest

from core.coverage.asked import narrow_to_topic
from core.coverage.report import report_coverage
from core.embedding.embed import Embedder, Vectors
from core.embedding.vectors import VectorCache
from core.errors import NotFound
from core.log.filters import QuestionFilter
from core.log.questions import list_matching
from core.questions.neighbors import load_known, narrow_to_like
from quarterdeck.clock import to_ms
from quarterdeck.recorder import append_retrievals
from quarterdeck.retrieval import Retrieval
from quarterdeck.scope import DEFAULT_SCOPE
from quarterdeck.store import Store

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
DAY = QuestionFilter(
    scope=DEFAULT_SCOPE, start_ms=to_ms(NOON - timedelta(hours=12)), end_ms=to_ms(NOON + timedelta(hours=12))
)


class FirstWords(Embedder):
    """Texts that begin with the same word point into nearly the same direction."""

    def __init__(self, store: Store) -> None:
        super().__init__("first words", cache=VectorCache(store))

    def _encode(self, texts: list[str]) -> Vectors:
        rows = np.full((len(texts), 8), 0.01, dtype=np.float32)
        for row, text in zip(rows, texts, strict=True):
            row[sum(text.split()[0].lower().encode()) % 8] = 1.0
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def ask(store: Store, *texts: str, days_ago: int = 0) -> None:
    found = [
        Retrieval(NOON - timedelta(days=days_ago, minutes=at), text, 0.2, retrieval_id=f"q{days_ago}-{at}")
        for at, text in enumerate(texts)
    ]
    append_retrievals(store, found)


def texts_of(store: Store, wanted: QuestionFilter) -> list[str]:
    return sorted(question.query for question in list_matching(store, wanted, limit=100))


def test_questions_like_one_are_listed_in_every_spelling_and_within_the_days(store: Store) -> None:
    ask(store, "vpp ping", "vpp trace", "mount disk", "VPP  Trace")
    ask(store, "vpp trace", days_ago=3)
    embedder = FirstWords(store)
    embedder.embed(["vpp ping", "vpp trace", "mount disk"])
    known = load_known(store, embedder, DEFAULT_SCOPE)
    text, wanted = narrow_to_like(store, embedder, known, DAY, "q0-0")
    assert text == "vpp ping"
    assert texts_of(store, wanted) == ["VPP  Trace", "vpp ping", "vpp trace"]
    within = replace(DAY, texts=("vpp ping", "mount disk"))
    assert narrow_to_like(store, embedder, known, within, "q0-0")[1].texts == ("vpp ping",)


def test_questions_like_one_that_is_not_there_are_refused(store: Store) -> None:
    ask(store, "vpp ping")
    embedder = FirstWords(store)
    with pytest.raises(NotFound, match="like: there is no question 'gone' in this service"):
        narrow_to_like(store, embedder, load_known(store, embedder, DEFAULT_SCOPE), DAY, "gone")


def test_a_topic_is_narrowed_to_the_days_that_are_wanted(store: Store) -> None:
    asked = [f"vpp number {at}" for at in range(6)]
    ask(store, *asked)
    ask(store, *asked, days_ago=2)
    found = report_coverage(store, FirstWords(store), scope=DEFAULT_SCOPE, today=date(2026, 3, 1), low_score=0.5)
    everything = narrow_to_topic(store, QuestionFilter(scope=DEFAULT_SCOPE), found, "0")
    assert len(texts_of(store, everything)) == 12
    assert texts_of(store, narrow_to_topic(store, DAY, found, "0")) == asked

"""Questions that somebody took out of a topic stay out of the next groupings, and come back when asked to."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import numpy as np
import pytest

from core.audit.acts import Act
from core.audit.trail import AuditFilter, list_audit
from core.coverage.assignments import assign_topics
from core.coverage.leaving import take_out
from core.coverage.operations import exclude_question, include_question
from core.coverage.report import Coverage, report_coverage
from core.coverage.topics import find_topics
from core.embedding.embed import Embedder
from core.embedding.vectors import VectorCache
from core.errors import InvalidInput, NotFound
from core.log.filters import LoggedQuestion, QuestionFilter
from core.log.questions import list_matching
from core.log.values import AskedQuery
from quarterdeck.recorder import append_retrievals
from quarterdeck.retrieval import Retrieval
from quarterdeck.scope import DEFAULT_SCOPE
from quarterdeck.store import Store

ADA = Act("ada", "it asks for something else")
TODAY = date(2026, 3, 1)


def test_what_stays_is_added_up_again() -> None:
    queries = [AskedQuery(f"how to mount {n}", n + 1, 0.1 * n, (n,)) for n in range(6)]
    queries += [AskedQuery(f"vpp plugin {n}", 10, 0.2, (10,)) for n in range(6)]
    vectors = np.zeros((12, 8), dtype=np.float32)
    vectors[:6, 0], vectors[6:, 1] = 1.0, 1.0
    found = find_topics(queries, vectors, clusters=2, baseline_median=0.8)
    small = next(topic for topic in found.topics if topic.label.startswith("how"))
    left = take_out(found, queries, {small.topic_id: [5], "elsewhere": [0]})
    again = next(topic for topic in left.topics if topic.topic_id == small.topic_id)
    assert (again.count, again.distinct, again.members) == (15, 5, small.members[:5])
    assert again.mean_score == pytest.approx(sum((n + 1) * 0.1 * n for n in range(5)) / 15)
    assert again.gain == pytest.approx(15 * (0.8 - again.mean_score) * again.cohesion**4, rel=1e-6)
    assert 5 in left.outliers
    assert all("mount 5" not in text for text in again.sample_queries)
    gone = take_out(found, queries, {small.topic_id: small.members})
    assert [topic.topic_id for topic in gone.topics] == [t.topic_id for t in found.topics if t is not small]
    assert take_out(found, queries, {}) is found


class Directions(Embedder):
    """Texts that begin with the same word point into the same direction."""

    def _encode(self, texts: list[str]) -> np.ndarray:
        rows = np.full((len(texts), 8), 0.01, dtype=np.float32)
        for row, text in zip(rows, texts, strict=True):
            row[0 if text.casefold().startswith("vpp") else 1] = 1.0
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def group(store: Store) -> Coverage:
    embedder = Directions("words", cache=VectorCache(store))
    return report_coverage(store, embedder, scope=DEFAULT_SCOPE, today=TODAY, low_score=0.5)


def ask(store: Store) -> None:
    noon = datetime(2026, 3, 1, 12, tzinfo=UTC)
    texts = [f"{word} number {n}" for word in ("vpp", "mount") for n in range(12)]
    append_retrievals(store, [
        Retrieval(noon - timedelta(minutes=at), text, 0.2, retrieval_id=f"q-{at}") for at, text in enumerate(texts)
    ] + [Retrieval(noon, "VPP  number 3", 0.2, retrieval_id="q-other")])  # fmt: skip


def question(store: Store, name: str) -> LoggedQuestion:
    return next(list_matching(store, QuestionFilter(retrieval_id=name), limit=1))


def test_a_question_leaves_its_topic_in_every_spelling_and_returns(store: Store) -> None:
    ask(store)
    before = assign_topics(group(store))
    taken = question(store, "q-3")
    topic_id = before.find(taken)
    assert topic_id == before.find(question(store, "q-other")) != ""
    entry = exclude_question(store, topic_id, taken, ADA)
    exclude_question(store, topic_id, taken, ADA)
    after = assign_topics(group(store))
    assert (after.find(taken), after.find(question(store, "q-other"))) == ("", "")
    assert after.find(question(store, "q-4")) == topic_id
    told = next(each for each in list_audit(store, AuditFilter(action="topic.exclude")) if each.entry_id == entry)
    assert (told.target, told.after) == (topic_id, {"question": "q-3"})  # not its text
    include_question(store, topic_id, taken, ADA)
    assert assign_topics(group(store)).find(taken) == topic_id
    with pytest.raises(NotFound, match="not taken out"):
        include_question(store, topic_id, taken, ADA)


def test_unknown_topics_and_removed_texts_are_refused(store: Store) -> None:
    ask(store)
    with pytest.raises(NotFound, match="no topic"):
        exclude_question(store, "t-nobody", question(store, "q-3"), ADA)
    with pytest.raises(InvalidInput, match="was removed"):
        exclude_question(store, "t-nobody", replace(question(store, "q-3"), query=""), ADA)

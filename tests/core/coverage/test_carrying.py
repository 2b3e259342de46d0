"""Topics keep their id, name and decision when the embedding model changes, and when it changes back."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import numpy as np
import pytest

from core.audit.acts import Act
from core.coverage.asked import narrow_to_low
from core.coverage.backlog import TopicState, list_backlog
from core.coverage.carrying import find_center, find_members
from core.coverage.operations import mark_topic
from core.coverage.report import report_coverage
from core.coverage.topics import KnownTopic
from core.drift.operations import save_model_map
from core.drift.scales import ModelMap
from core.embedding.embed import Embedder, Vectors
from core.embedding.vectors import VectorCache, forget_vectors
from core.log.filters import QuestionFilter
from core.log.questions import count_questions
from quarterdeck.recorder import append_retrievals
from quarterdeck.retrieval import Retrieval
from quarterdeck.scope import DEFAULT_SCOPE
from quarterdeck.store import Store

ADA = Act("ada", "it is planned")
TODAY = date(2026, 3, 1)
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


class Directions(Embedder):
    """Texts that begin with the same word point into the same direction, another one in each model."""

    def __init__(self, model: str, store: Store, *, dimension: int, vpp: int) -> None:
        super().__init__(model, cache=VectorCache(store))
        self._dimension, self._vpp = dimension, vpp

    def _encode(self, texts: list[str]) -> Vectors:
        rows = np.full((len(texts), self._dimension), 0.01, dtype=np.float32)
        for row, text in zip(rows, texts, strict=True):
            row[self._vpp if text.startswith("vpp") else 1] = 1.0
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def ask(store: Store, word: str, *, first: int = 0) -> None:
    append_retrievals(
        store,
        [Retrieval(NOON - timedelta(minutes=at), f"{word} number {first + at}", 0.2) for at in range(12)],
    )


def group(store: Store, embedder: Embedder):
    found = report_coverage(store, embedder, scope=DEFAULT_SCOPE, today=TODAY, low_score=0.5)
    return {topic.label: topic.topic_id for topic in found.topics.topics}


def test_a_topic_with_too_few_questions_near_it_stays_with_its_model() -> None:
    former = np.eye(3, dtype=np.float32)[[0, 0, 0, 1, 1, 2]]
    known = [KnownTopic("t-1", (1.0, 0.0, 0.0)), KnownTopic("t-2", (0.0, 1.0, 0.0))]
    assert find_members(known, former) == {"t-1": (0, 1, 2)}
    assert find_members([], former) == {}
    assert find_members(known, np.zeros((0, 3), dtype=np.float32)) == {}
    assert find_center(np.array([[0, 1], [0, 1]], dtype=np.float32)) == (0.0, 1.0)


@pytest.mark.deep
def test_topics_keep_id_name_and_decision_across_a_change_of_the_model_and_back(store: Store) -> None:
    small, large = Directions("small", store, dimension=8, vpp=0), Directions("large", store, dimension=12, vpp=5)
    ask(store, "vpp")
    ask(store, "mount")
    before = group(store, small)
    vpp = next(each for each in list_backlog(store, "small") if each.label.startswith("vpp"))
    mark_topic(store, vpp, TopicState.PLANNED, ADA, owner="kim")
    ask(store, "vpp", first=12)
    assert group(store, large) == before
    moved = {each.topic_id: each for each in list_backlog(store, "large")}
    assert set(moved) == set(before.values())
    kept = moved[vpp.topic_id]
    assert (kept.state, kept.owner, kept.label, len(kept.centroid)) == (TopicState.PLANNED, "kim", vpp.label, 12)
    assert list_backlog(store, "small") == ()
    assert group(store, small) == before
    assert {each.topic_id for each in list_backlog(store, "small")} == set(before.values())


def test_a_topic_whose_questions_score_well_under_the_new_model_is_kept_for_the_way_back(store: Store) -> None:
    small, large = Directions("small", store, dimension=8, vpp=0), Directions("large", store, dimension=12, vpp=5)
    ask(store, "vpp")
    ask(store, "mount")
    before = group(store, small)
    found = report_coverage(store, large, scope=DEFAULT_SCOPE, today=TODAY, low_score=0.1)
    assert not found.queries, "nothing scores low any more"
    assert {each.topic_id for each in list_backlog(store, "large")} == set(before.values())


def test_a_topic_left_behind_does_not_hold_back_the_others_and_is_carried_later(store: Store) -> None:
    small, large = Directions("small", store, dimension=8, vpp=0), Directions("large", store, dimension=12, vpp=5)
    ask(store, "vpp")
    ask(store, "mount")
    before = group(store, small)
    (mount,) = {each.topic_id for each in list_backlog(store, "small") if each.label.startswith("mount")}
    with store.begin() as connection:
        forget_vectors(connection, [f"mount number {at}" for at in range(12)])
    report_coverage(store, large, scope=DEFAULT_SCOPE, today=TODAY, low_score=0.1)
    assert {each.topic_id for each in list_backlog(store, "small")} == {mount}, "no vector tells where it lies"
    small = Directions("small", store, dimension=8, vpp=0)
    assert group(store, small) == before, "the other one comes back"
    report_coverage(store, large, scope=DEFAULT_SCOPE, today=TODAY, low_score=0.1)
    assert {each.topic_id for each in list_backlog(store, "large")} == set(before.values())


def test_in_the_first_week_after_the_change_low_questions_are_those_of_one_scale(store: Store) -> None:
    """Forty days at 0.5 and three at 0.65, as the new model scores; one question in ten is about vpp and scores low."""
    rows = []
    for at in range(-40, 3):
        model, well, low = ("small", 0.5, 0.3) if at < 0 else ("large", 0.65, 0.55)
        rows += [
            Retrieval(
                NOON + timedelta(days=at - 3, seconds=n), f"vpp number {n}" if n % 10 == 0 else f"mount {n}",
                low if n % 10 == 0 else well + n / 10_000, model=model,
            )
            for n in range(60)
        ]  # fmt: skip
    append_retrievals(store, rows)
    save_model_map(store, ModelMap("small", "large", ((0.2, 0.5), (0.8, 0.8)), 0.004, 400), ADA)
    large = Directions("large", store, dimension=12, vpp=5)
    found = report_coverage(store, large, scope=DEFAULT_SCOPE, today=TODAY)
    assert found.low_share == pytest.approx(0.1)
    assert {query.text.split()[0] for query in found.queries} == {"vpp"}
    assert [query.mean_score for query in found.queries] == pytest.approx([0.55] * 6)
    wanted = narrow_to_low(store, QuestionFilter(), scope=DEFAULT_SCOPE, today=TODAY, low_score=None)
    assert count_questions(store, wanted) == 43 * 6
    assert count_questions(store, replace(wanted, bounds=())) > 43 * 6, "on one bound, former scores are all low"


def test_a_service_without_earlier_topics_finds_its_own(store: Store) -> None:
    ask(store, "vpp")
    assert len(group(store, Directions("large", store, dimension=12, vpp=5))) == 1

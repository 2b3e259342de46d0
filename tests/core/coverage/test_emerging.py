"""New topics are called by the rule, and found, kept and read back in a store."""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from core.coverage import newcomers
from core.coverage.bets import AskedDay, EmergingCall, ReferenceQuestions
from core.coverage.emerging import Watch, describe_emerging, merge_calls
from core.coverage.newcomers import (
    list_due,
    look_aside,
    look_for_all,
    look_for_emerging,
    narrow_to_new,
    report_emerging,
)
from core.embedding.embed import Embedder
from core.embedding.vectors import VectorCache
from core.errors import NotFound, QuarterdeckError
from core.jobs.aside import run_aside
from core.log.filters import QuestionFilter
from core.log.questions import count_questions
from quarterdeck.recorder import append_retrievals
from quarterdeck.retrieval import Retrieval
from quarterdeck.scope import DEFAULT_SCOPE, Scope
from quarterdeck.store import Store

SIZE, TOPICS = 48, 12
TODAY = date(2026, 11, 25)
NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)


class Asking:
    """Draws questions around the centers of topics; the last topic is new."""

    def __init__(self, seed: int = 0) -> None:
        self.random = np.random.default_rng(seed)
        centers = self.random.normal(size=(TOPICS + 1, SIZE))
        self.centers = centers / np.linalg.norm(centers, axis=1, keepdims=True)

    def draw(self, topics: np.ndarray) -> np.ndarray:
        vectors = self.centers[topics] + self.random.normal(size=(len(topics), SIZE)) * 0.09
        return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)

    def day(self, day: int, *, count: int = 60, new: int = 0, session: str = "") -> AskedDay:
        topics = np.append(self.random.integers(0, TOPICS, count), np.full(new, TOPICS))
        texts = tuple(f"{day}.{at}" for at in range(len(topics)))
        sessions = (session if session and topic == TOPICS else text for topic, text in zip(topics, texts, strict=True))
        return AskedDay(day, self.draw(topics), texts, tuple(sessions))


def watch(asking: Asking, days: list[AskedDay]) -> list[EmergingCall]:
    past = [asking.day(day) for day in range(28)]
    known = ReferenceQuestions(
        np.concatenate([day.vectors for day in past]), [text for day in past for text in day.texts]
    )
    watching = Watch(known)
    for day in days:
        watching.add_day(day)
    return watching.list_calls()


def test_a_new_topic_is_called_within_days() -> None:
    asking = Asking()
    quiet = [asking.day(day) for day in range(28, 35)]
    calls = watch(asking, [*quiet, *(asking.day(day, new=6) for day in range(35, 39))])
    assert [call.called <= 38 for call in calls] == [True]
    assert calls[0].since >= 35
    assert calls[0].count >= 5 > calls[0].expected
    is_new = [int(text.split(".")[1]) >= 60 for text in calls[0].texts]
    assert np.mean(is_new) > 0.8


@pytest.mark.parametrize("seed", range(3))
def test_known_topics_are_not_called_though_one_doubles(seed: int) -> None:
    asking = Asking(seed)
    days = [asking.day(day) for day in range(28, 42)]
    more = [
        AskedDay(
            day.day,
            np.concatenate([day.vectors, asking.draw(np.zeros(5, dtype=int))]),
            (*day.texts, *(f"{day.day}+{at}" for at in range(5))),
            (*day.sessions, *(f"{day.day}+{at}" for at in range(5))),
        )
        for day in days[7:]
    ]
    assert watch(asking, [*days[:7], *more]) == []


def test_one_session_and_one_repeated_text_make_no_topic() -> None:
    asking = Asking()
    assert watch(asking, [asking.day(day, new=40, session="bot") for day in range(28, 40)]) == []
    repeated = asking.draw(np.array([TOPICS]))
    days = []
    for day in (asking.day(each) for each in range(28, 40)):
        texts, sessions = (*day.texts, "the same"), (*day.sessions, f"s-{day.day}")
        days.append(AskedDay(day.day, np.concatenate([day.vectors, repeated]), texts, sessions))
    assert watch(asking, days) == []


def test_calls_of_one_topic_are_one() -> None:
    one = EmergingCall(5, 4, ("a", "b", "c"), 3, 0.1, 9.0, (1.0, 0.0))
    near = EmergingCall(6, 5, ("d",), 1, 0.1, 9.0, (0.9, 0.1))
    other = EmergingCall(6, 5, ("e",), 1, 0.1, 9.0, (0.0, 1.0))
    assert merge_calls([other, near, one]) == [one, other]


def fill(store: Store, asking: Asking, *, days: int, new_days: int) -> None:
    rows, texts, vectors = [], [], []
    for ago in range(days, 0, -1):
        day = asking.day(days - ago, new=6 if ago <= new_days else 0)
        at = NOW - timedelta(days=ago)
        rows += [
            Retrieval(at, f"Question {text}", 0.6, session_id=session, retrieval_id=f"q-{text}")
            for text, session in zip(day.texts, day.sessions, strict=True)
        ]
        texts += [f"Question {text}" for text in day.texts]
        vectors.append(day.vectors)
    append_retrievals(store, rows)
    VectorCache(store).save_vectors("made", texts, np.concatenate(vectors))


@pytest.mark.deep
def test_an_emerging_topic_is_kept_and_read_with_its_questions(tmp_path: Path) -> None:
    store = Store(f"sqlite:///{tmp_path}/deck.db", create=True)
    assert report_emerging(store, DEFAULT_SCOPE).until is None
    fill(store, Asking(), days=70, new_days=4)
    embedder = Embedder("made", cache=VectorCache(store))
    assert look_for_emerging(store, embedder, scope=DEFAULT_SCOPE, now=NOW)
    assert not look_for_emerging(store, embedder, scope=DEFAULT_SCOPE, now=NOW), "the day was looked at"
    found = report_emerging(store, DEFAULT_SCOPE)
    (topic,) = found.topics
    assert found.until == TODAY - timedelta(days=1)
    assert topic.since >= TODAY - timedelta(days=4)
    assert topic.label.startswith("question ") or topic.label.startswith("Question ")
    assert describe_emerging(topic).startswith(f"{topic.count} questions by as many sessions")
    hidden = report_emerging(store, DEFAULT_SCOPE, readable=False)
    assert [(each.count, each.questions, each.label) for each in hidden.topics] == [(topic.count, (), "")]
    label, wanted = narrow_to_new(store, QuestionFilter(scope=DEFAULT_SCOPE), DEFAULT_SCOPE, topic.topic_id)
    assert label == topic.label
    assert count_questions(store, wanted) == topic.count
    with pytest.raises(NotFound, match="new: no topic"):
        narrow_to_new(store, QuestionFilter(scope=DEFAULT_SCOPE), DEFAULT_SCOPE, "n-none")


class Counting(Embedder):
    """Counts what it embeds; a new question is its own direction."""

    def __init__(self, store: Store) -> None:
        super().__init__("made", cache=VectorCache(store))
        self.embedded: list[str] = []

    def _encode(self, texts: list[str]) -> np.ndarray:
        self.embedded += texts
        return np.random.default_rng(len(self.embedded)).normal(size=(len(texts), SIZE)).astype(np.float32)


def test_a_question_is_embedded_once_whatever_the_number_of_looks(tmp_path: Path) -> None:
    store = Store(f"sqlite:///{tmp_path}/deck.db", create=True)
    fill(store, Asking(), days=35, new_days=0)
    asked = [Retrieval(NOW - timedelta(hours=20 + at), "Asked anew", 0.6, session_id=f"n-{at}") for at in range(2)]
    append_retrievals(store, asked)
    embedder = Counting(store)
    assert look_for_emerging(store, embedder, scope=DEFAULT_SCOPE, now=NOW)
    assert [text.lower() for text in embedder.embedded] == ["asked anew"]
    assert not look_for_emerging(store, embedder, scope=DEFAULT_SCOPE, now=NOW + timedelta(hours=3)), "the same day"
    append_retrievals(store, [*asked, Retrieval(NOW, "Asked a day later", 0.6, session_id="later")])
    assert look_for_emerging(store, embedder, scope=DEFAULT_SCOPE, now=NOW + timedelta(days=1))
    assert [text.lower() for text in embedder.embedded] == ["asked anew", "asked a day later"]


def test_a_novel_question_is_as_near_to_the_novel_ones_as_the_reference_would_be_without_it() -> None:
    """Novel questions are far from the reference by their choice; without leaving out, chance makes a crowd of them."""
    random = np.random.default_rng(5)

    def ask(day: int, count: int) -> AskedDay:
        vectors = random.normal(size=(count, 8)).astype(np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        texts = tuple(f"{day}.{at}" for at in range(count))
        return AskedDay(day, vectors, texts, texts)

    past = ask(0, 800)
    watching = Watch(ReferenceQuestions(past.vectors, past.texts))
    for day in range(1, 40):
        watching.add_day(ask(day, 120))
    assert watching.list_calls() == []


def test_scattered_questions_of_a_new_kind_are_called_by_their_crowd() -> None:
    """No two of them make a group, but all are nearer to one another than to anything known."""
    asking = Asking()
    kind = asking.centers[TOPICS]

    def scatter(day: int) -> AskedDay:
        known = asking.day(day, count=45)
        vectors = 1.2 * kind + asking.random.normal(size=(5, SIZE)) * 0.24
        vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
        names = tuple(f"{day}+{at}" for at in range(5))
        return AskedDay(
            day, np.concatenate([known.vectors, vectors]), (*known.texts, *names), (*known.sessions, *names)
        )

    (call,) = watch(
        asking, [asking.day(day, count=50) for day in range(28, 35)] + [scatter(day) for day in range(35, 42)]
    )
    assert call.since >= 35
    assert np.mean(["+" in text for text in call.texts]) > 0.8


def test_a_young_log_says_why_nothing_is_called(tmp_path: Path) -> None:
    store = Store(f"sqlite:///{tmp_path}/deck.db", create=True)
    fill(store, Asking(), days=10, new_days=0)
    look_for_emerging(store, Embedder("made", cache=VectorCache(store)), scope=DEFAULT_SCOPE, now=NOW)
    assert report_emerging(store, DEFAULT_SCOPE).problem.startswith("needs questions of 14 days before this week")


def test_a_service_that_cannot_be_looked_at_stops_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(f"sqlite:///{tmp_path}/deck.db", create=True)
    scopes = [Scope("production", name) for name in ("a", "b", "c")]
    append_retrievals(store, [Retrieval(NOW - timedelta(days=1), "q", 0.6, scope=scope) for scope in scopes])
    look = newcomers.look_for_emerging

    def look_but_fail(*args: object, scope: Scope, **given: object) -> bool:
        if scope.service == "b":
            raise ValueError("out of\norder")
        return look(*args, scope=scope, **given)

    monkeypatch.setattr(newcomers, "look_for_emerging", look_but_fail)
    embedder = Embedder("made", cache=VectorCache(store))
    with pytest.raises(QuarterdeckError, match="^b in production: ValueError: out of order$"):
        look_for_all(store, embedder, now=NOW)
    assert list_due(store, "made", now=NOW) == (scopes[1],)


@pytest.mark.deep
def test_a_look_is_a_process_of_its_own(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/deck.db"
    store = Store(url, create=True)
    fill(store, Asking(), days=3, new_days=0)
    assert run_aside(look_aside, url, None, "made", NOW) == 1
    assert report_emerging(store, DEFAULT_SCOPE).until == TODAY - timedelta(days=1)
    assert list_due(store, "made", now=NOW) == ()

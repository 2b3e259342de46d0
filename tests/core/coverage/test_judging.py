"""Questions of the log judged by real indexes, with the bundled model."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from core.audit.acts import Act
from core.coverage.answerability import CoverageFinding
from core.coverage.judging import count_findings, judge_all_questions, judge_questions, list_shares
from core.coverage.report import report_coverage
from core.embedding.chunks import Chunk
from core.embedding.embed import Embedder
from core.embedding.vectors import VectorCache
from core.indexes.backends import open_indexes
from core.indexes.operations import register_index, swap_index
from core.indexes.registry import Index
from core.log.filters import QuestionFilter
from core.log.questions import list_matching
from core.log.scores import apply_scores
from quarterdeck.clock import to_ms
from quarterdeck.recorder import append_retrievals
from quarterdeck.retrieval import Retrieval
from quarterdeck.scope import DEFAULT_SCOPE
from quarterdeck.store import Store

pytestmark = pytest.mark.slow
NOW = datetime.now(UTC)
PLACES = ("Lisbon", "Oslo", "Turin", "Ghent", "Malmo", "Porto", "Leeds", "Graz", "Brno", "Basel", "Cork", "Nantes")
SUBJECTS = ("museum opens at nine", "tram line to the harbor", "bridge over the river", "market in the old town",
            "library of the university")  # fmt: skip
PLAIN = tuple(f"The {subject} in {place} is described here." for subject in SUBJECTS for place in PLACES)
VISA = "Visitors need a visa to enter Norway. The visa application costs eighty euros and takes two weeks."


def build(store: Store, folder: Path, name: str, texts: tuple[str, ...], *, at: datetime) -> None:
    embedder = Embedder(cache=VectorCache(store))
    chunks = [Chunk(f"{place}.md", "", text) for place, text in enumerate(texts)]
    open_indexes(str(folder)).build(name, chunks, embedder.embed(texts))
    register_index(
        store, Index(name, str(folder), name, embedder.model, len(texts), at, "ada"), Act("ada", "why", at=at)
    )


def log(store: Store, *asked: tuple[str, float, str]) -> None:
    rows = [
        Retrieval(NOW - timedelta(minutes=30 - at), text, score, session_id=session, retrieval_id=f"q-{at}")
        for at, (text, score, session) in enumerate(asked)
    ]
    append_retrievals(store, rows)


def judge(store: Store, *, at: datetime = NOW) -> int:
    embedder = Embedder(cache=VectorCache(store))
    return judge_questions(store, embedder, scope=DEFAULT_SCOPE, now=at, low_score=0.5)


def read(store: Store) -> dict[str, tuple[float | None, str]]:
    found = list_matching(store, QuestionFilter(scope=DEFAULT_SCOPE), limit=100)
    return {each.query: (each.answerability, each.finding) for each in found}


def test_a_low_question_is_not_found_outdated_or_not_indexed(store: Store, tmp_path: Path) -> None:
    build(store, tmp_path, "v1", PLAIN, at=NOW - timedelta(days=2))
    swap_index(store, "default", "v1", Act("ada", "why", at=NOW - timedelta(days=2)), expected=None)
    build(store, tmp_path, "v2", (*PLAIN, VISA), at=NOW - timedelta(days=1))
    log(
        store,
        ("when does the museum in Oslo open", 0.2, "a"),
        ("how much is the visa application for Norway", 0.2, "b"),
        ("how do I grow tomatoes in winter", 0.2, "c"),
        ("is there a market in the old town of Graz", 0.9, "d"),
    )
    assert judge(store) == 4
    found = read(store)
    assert {query: finding for query, (_, finding) in found.items()} == {
        "when does the museum in Oslo open": "indexed but not found",
        "how much is the visa application for Norway": "outdated",
        "how do I grow tomatoes in winter": "not indexed",
        "is there a market in the old town of Graz": "",
    }
    assert all(0 <= (probability or -1) <= 1 for probability, _ in found.values())
    assert judge(store) == 0, "all of them are judged"
    build(store, tmp_path, "v3", PLAIN, at=NOW + timedelta(minutes=1))
    assert judge(store, at=NOW + timedelta(minutes=2)) == 4, "a new index makes them due again"


def test_a_question_that_does_not_stand_alone_is_read_with_the_former_ones(store: Store, tmp_path: Path) -> None:
    build(store, tmp_path, "v1", (*PLAIN, VISA), at=NOW - timedelta(days=1))
    swap_index(store, "default", "v1", Act("ada", "why", at=NOW - timedelta(days=1)), expected=None)
    log(store, ("do I need a visa for Norway", 0.7, "a"), ("how much does it cost", 0.2, "a"),
        ("how much does  it cost", 0.2, "b"))  # fmt: skip
    judge(store)
    found = read(store)
    assert (found["how much does it cost"][0] or 0) > (found["how much does  it cost"][0] or 0) + 0.1


def test_nothing_is_judged_without_a_live_index_of_the_model(store: Store, tmp_path: Path) -> None:
    log(store, ("what is a tram", 0.2, "a"))
    assert judge(store) == 0
    build(store, tmp_path, "tiny", PLAIN[:10], at=NOW)
    swap_index(store, "default", "tiny", Act("ada", "why"), expected=None)
    assert judge(store) == 0
    assert judge_all_questions(store, Embedder("other"), now=NOW, low_score=0.5) == 0


@pytest.mark.deep
def test_topics_say_why_their_questions_score_low(store: Store, tmp_path: Path) -> None:
    build(store, tmp_path, "v1", PLAIN, at=NOW - timedelta(days=2))
    swap_index(store, "default", "v1", Act("ada", "why", at=NOW - timedelta(days=2)), expected=None)
    log(
        store,
        *((f"how do I grow tomatoes in {when}", 0.2, "s") for when in ["winter", "spring", "summer", "autumn"] * 5),
    )
    judge(store)
    embedder = Embedder(cache=VectorCache(store))
    coverage = report_coverage(store, embedder, scope=DEFAULT_SCOPE, today=NOW.date(), low_score=0.5, clusters=1)
    (topic,) = coverage.topics.topics
    assert count_findings(store, coverage) == {topic.topic_id: Counter({CoverageFinding.NOT_INDEXED: 20})}
    assert list_shares({CoverageFinding.NOT_INDEXED: 3, CoverageFinding.OUTDATED: 1}) == {
        "indexed but not found": 0.0, "outdated": 0.25, "not indexed": 0.75,
    }  # fmt: skip
    assert list_shares({}) == {}


def test_a_judgment_is_no_score_of_somebody_else(store: Store, tmp_path: Path) -> None:
    build(store, tmp_path, "v1", PLAIN, at=NOW - timedelta(days=2))
    swap_index(store, "default", "v1", Act("ada", "why", at=NOW - timedelta(days=2)), expected=None)
    log(store, ("when does the museum in Oslo open", 0.2, "a"))
    judge(store)
    assert apply_scores(store, now_ms=to_ms(NOW)).applied == 1
    (question,) = list_matching(store, QuestionFilter(scope=DEFAULT_SCOPE), limit=10)
    assert question.scores == ()
    assert question.answerability is not None

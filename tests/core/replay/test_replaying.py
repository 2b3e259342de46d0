"""Replays over real stores and real LanceDB indexes; the embedder alone is one that needs no model."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from benchmarks.index_swap import HashEmbedder
from core.audit.acts import Act
from core.causes.changes import gather_changes
from core.coverage.assignments import TopicAssignments
from core.drift.present import LowScores
from core.embedding.chunks import Chunk
from core.errors import InvalidInput
from core.indexes.builds import build_version, get_live
from core.indexes.ingest import DocumentSource
from core.indexes.operations import swap_index
from core.indexes.registry import get_index
from core.ledger.operations import predict_effect
from core.ledger.report import report_ledger
from core.log.retrievals import last_days
from core.log.service_operations import save_service
from core.log.services import ServiceSettings
from core.replay.comparison import HitState
from core.replay.gate import check_replay, parse_replay_thresholds
from core.replay.replaying import ReplayPlan, replay_index
from quarterdeck.recorder import append_retrievals
from quarterdeck.retrieval import Retrieval
from quarterdeck.scope import DEFAULT_SERVICE, Scope
from quarterdeck.store import Store

ME = Act("ada", "a test")
NOW = datetime.now(UTC)
SCOPE = Scope("production", DEFAULT_SERVICE)
OLD = [f"old page {at}" for at in range(20)]
NEW = [f"new page {at}" for at in range(20)]


def embedder_of(store: Store):
    return lambda model: HashEmbedder(int(model.removeprefix("hash-")), store)


def build(store: Store, tmp_path, name: str, texts: list[str], *, dimension: int = 64):
    chunks = tuple(Chunk(f"{text.split()[0]}-{at}.md", "", text) for at, text in enumerate(texts))
    source = DocumentSource(name, len(chunks), chunks)
    location = str(tmp_path / "indexes")
    return build_version(store, HashEmbedder(dimension, store), source, ME, location=location, name=name).index


@pytest.fixture
def asked(store: Store, tmp_path) -> Store:
    """A week of questions about old pages (well covered) and new ones (not yet), and two indexes, the first live."""
    save_service(store, ServiceSettings(SCOPE.service, dimensions=("tenant",)), ME)
    rows = [
        Retrieval(
            NOW - timedelta(days=1 + at % 5, seconds=at), text, 1.0 if text in OLD else 0.2, session_id=f"s{at}",
            attributes={"tenant": "acme" if text in OLD else "cobalt"},
        )
        for at, text in enumerate([*OLD, *OLD, *OLD, *NEW])
    ]  # fmt: skip
    append_retrievals(store, rows)
    build(store, tmp_path, "docs-v1", OLD)
    build(store, tmp_path, "docs-v2", [*OLD[:10], *NEW])
    swap_index(store, "default", "docs-v1", ME, expected=None)
    return store


def plan(**given) -> ReplayPlan:
    values = {"scope": SCOPE, "window": last_days(7, until=NOW.date()), "threshold": 0.8}
    return ReplayPlan(**(values | given))


def replay(store: Store, **given):
    topics = TopicAssignments({"t-new": "the new pages"}, dict.fromkeys(NEW, "t-new"), LowScores(0.8))
    live, candidate = get_live(store, "default"), get_index(store, "docs-v2")
    return replay_index(store, embedder_of(store), live, candidate, plan(**given), topics=topics)


def test_a_replay_finds_what_wins_and_loses_by_the_searches_of_both_indexes(asked: Store):
    found = replay(asked)
    assert (found.replayed, found.about.asked, found.about.candidate) == (40, 80, "docs-v2")
    assert {each.label: each.verdict for each in found.topics} == {"the new pages": "wins", "other questions": "loses"}
    assert {each.name: each.verdict for each in found.segments} == {"acme": "loses", "cobalt": "wins"}
    assert sum(each.asked for each in found.segments) == pytest.approx(80)
    low = found.low_share
    assert (low.state, low.live, low.candidate) == (HitState.LOW, pytest.approx(0.25), pytest.approx(0.375))
    gained = next(each for each in found.changed if each.text == NEW[0])
    assert gained.hits.candidate[0].document.startswith("new-")
    assert gained.candidate_score == pytest.approx(1, abs=1e-5)
    assert len(found.changed) == 20


def test_the_scores_are_those_that_each_index_gives(asked: Store):
    found = replay(asked)
    embedder = HashEmbedder(64, asked)
    queries, passages = embedder.embed([*OLD, *NEW]), embedder.embed([*OLD[:10], *NEW])
    exact = np.clip((queries @ passages.T).max(axis=1), 0, 1)
    capped = [1.0] * 40  # 80 questions: no text weighs more than one of them
    assert found.candidate_score == pytest.approx(float(np.average(exact, weights=capped)), abs=1e-5)


def test_nothing_is_embedded_twice_and_progress_is_told(asked: Store):
    told = []
    live, candidate = get_live(asked, "default"), get_index(asked, "docs-v2")
    make = embedder_of(asked)
    first = replay_index(asked, make, live, candidate, plan(), on_progress=lambda *step: told.append(step))
    assert replay_index(asked, make, live, candidate, plan()).embedded == 0
    assert first.embedded == 0  # every question is a passage of one of the two, and was embedded for it
    assert told == [("live", 40, 40), ("candidate", 40, 40)]


def test_another_embedding_model_embeds_the_questions_once_and_is_compared_by_rank(asked: Store, tmp_path):
    build(asked, tmp_path, "docs-other", OLD[:1], dimension=32)
    live, candidate = get_live(asked, "default"), get_index(asked, "docs-other")
    make = embedder_of(asked)
    found = replay_index(asked, make, live, candidate, plan())
    assert found.embedded == 39
    assert found.about.changes_model
    assert replay_index(asked, make, live, candidate, plan()).embedded == 0
    report = check_replay(found, parse_replay_thresholds(""))
    assert [check.name for check in report.checks] == ["enough questions", "overlap@5"]
    assert "different scales" in report.notes[0]


def test_the_same_index_finds_no_change(asked: Store, tmp_path):
    build(asked, tmp_path, "docs-copy", OLD)
    found = replay_index(asked, embedder_of(asked), get_live(asked, "default"), get_index(asked, "docs-copy"), plan())
    assert (found.score.value, found.overlap, found.better, found.worse) == (0, 1, 0, 0)
    assert check_replay(found, parse_replay_thresholds("")).passed


def test_the_live_index_itself_and_days_without_questions_are_refused(asked: Store):
    live, make = get_live(asked, "default"), embedder_of(asked)
    with pytest.raises(InvalidInput, match="docs-v1 is the live index"):
        replay_index(asked, make, live, live, plan())
    long_ago = last_days(7, until=NOW.date() - timedelta(days=300))
    with pytest.raises(InvalidInput, match="questions: there are none"):
        replay_index(asked, make, live, get_index(asked, "docs-v2"), plan(window=long_ago))


def test_a_recorded_replay_is_the_prediction_of_the_swap_to_that_index_and_of_no_other(asked: Store, tmp_path):
    found = replay(asked)
    entry = predict_effect(asked, "version:docs-v2", found.predicted, ME, metric="score", service=SCOPE.service)
    build(asked, tmp_path, "docs-v3", OLD[:5])
    swap_index(asked, "default", "docs-v3", ME, expected="docs-v1")
    swap_index(asked, "default", "docs-v2", ME, expected="docs-v3")
    changes, _ = gather_changes(asked, _none, _none, scope=SCOPE, since=NOW - timedelta(days=10))
    ledger = report_ledger(asked, changes, scope=SCOPE, today=NOW.date() + timedelta(days=2), threshold=0.8)
    predicted = {each.summary: each.predicted_in for each in ledger.entries if each.predicted_in}
    assert list(predicted.values()) == [entry]
    assert "docs-v2" in next(iter(predicted))


def _none():
    raise InvalidInput("source", "there is none in this test")


def test_a_gate_fails_with_the_questions_that_lost_and_hides_them_by_default(asked: Store, tmp_path):
    build(asked, tmp_path, "docs-small", OLD[:5])
    live, candidate = get_live(asked, "default"), get_index(asked, "docs-small")
    found = replay_index(asked, embedder_of(asked), live, candidate, plan())
    hidden, shown = (
        {
            check.name: check
            for check in check_replay(found, parse_replay_thresholds(""), with_questions=with_them).checks
        }
        for with_them in (False, True)
    )
    assert [name for name, check in hidden.items() if not check.passed] == ["mean score", "share of low scores"]
    failures = hidden["mean score"].failures
    assert "page" not in " ".join(each.question for each in failures)
    assert failures[0].expected.startswith("old-")
    assert failures[0].reasons[0].startswith("asked 3 times, score 1.00 to 0.")
    assert {each.question for each in shown["mean score"].failures} > set(OLD[5:])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("replay: {score_drop: 2}", "gates.yaml, score_drop: must be a number from 0 to 1, not 2"),
        ("replay: {questions: 1.5}", "gates.yaml, questions: must be a whole number"),
        ("replay: {faith: 1}", "gates.yaml, faith: is unknown"),
        ("replay: [1]", "gates.yaml: must contain `replay:`"),
        ("a: b: c", "gates.yaml: is not YAML"),
    ],
)
def test_a_wrong_threshold_is_named(text: str, message: str):
    with pytest.raises(InvalidInput, match=message):
        parse_replay_thresholds(text)

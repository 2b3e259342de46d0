"""Proposals: what the live index answers, what only the waiting one does, and what no index does."""

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from benchmarks.index_swap import HashEmbedder, make_source, marker_of
from core.audit.acts import Act
from core.cases.cases import DRAFT
from core.cases.operations import add_cases
from core.cases.proposals import REFUSAL, propose_cases, propose_of_topic
from core.coverage.report import Coverage
from core.coverage.topics import Topic, Topics, TopicStatus, Trend
from core.errors import NotFound
from core.indexes.builds import build_version
from core.indexes.operations import swap_index
from core.log.filters import LoggedQuestion, QuestionFilter
from core.log.questions import list_matching
from core.log.retrievals import Window
from core.log.values import AskedQuery
from quarterdeck.recorder import append_retrievals
from quarterdeck.retrieval import Retrieval
from quarterdeck.store import Store

pytestmark = pytest.mark.slow
ME = Act("ada", "a test")
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
LIVE, WAITING, NEITHER = marker_of("docs-v1"), marker_of("docs-v2"), "how do I brew tea"


@pytest.fixture
def embedder(store: Store, tmp_path: Path) -> HashEmbedder:
    """The model of two indexes: docs-v1 is live, docs-v2 waits; a text is near itself alone."""
    made = HashEmbedder(64, store)
    for version in (1, 2):
        by = Act("ada", "a test", at=NOON + timedelta(days=version))
        source = make_source(version, 20)
        build_version(store, made, source, by, location=str(tmp_path / "indexes"), name=f"docs-v{version}")
    swap_index(store, "default", "docs-v1", ME, expected=None)
    return made


def ask(store: Store, texts: Sequence[str]) -> list[LoggedQuestion]:
    rows = [Retrieval(NOON - timedelta(minutes=at), text, 0.2, retrieval_id=f"q-{at}") for at, text in enumerate(texts)]
    append_retrievals(store, rows)
    return list(list_matching(store, QuestionFilter(), limit=100))


def test_documents_come_from_the_live_index_else_from_the_waiting_one_else_a_refusal_is_expected(
    store: Store, embedder: HashEmbedder
) -> None:
    found = propose_cases(store, embedder, ask(store, [LIVE, WAITING, NEITHER]), "qa", threshold=0.8)
    live, waiting, neither = found.proposals
    assert (live.new.expected_documents, live.new.reference_answer) == (("page-1.md",), LIVE)
    assert (live.note, live.new.source.corpus_version) == ("best passage of the live index docs-v1", "v1")
    assert (waiting.note, waiting.new.source.corpus_version) == ("best passage of the waiting index docs-v2", "v2")
    assert (neither.new.answerable, neither.new.reference_answer) == (False, REFUSAL)
    assert {each.new.tags for each in found.proposals} == {(DRAFT,)}
    assert [each.new.source.retrieval_id for each in found.proposals] == ["q-0", "q-1", "q-2"]
    assert (found.set_version, len(found.fresh)) == (0, 3)


def test_what_the_set_has_and_what_was_chosen_twice_is_named(store: Store, embedder: HashEmbedder) -> None:
    questions = ask(store, [LIVE, NEITHER, f"  {NEITHER.upper()}"])
    add_cases(store, "qa", propose_cases(store, embedder, questions[:1], "qa", threshold=0.8).all, ME)
    found = propose_cases(store, embedder, questions, "qa", threshold=0.8)
    repeats = [each.duplicate.of if each.duplicate else None for each in found.proposals]
    assert repeats == [LIVE, None, NEITHER]
    assert [new.question for new in found.fresh] == [NEITHER]


def test_without_any_index_a_proposal_says_so(store: Store) -> None:
    (found,) = propose_cases(store, HashEmbedder(64, store), ask(store, [LIVE]), "qa", threshold=0.8).proposals
    assert (found.note, found.score) == ("no index of this embedding model is there", None)
    assert not found.new.answerable


def test_the_typical_questions_of_a_topic_have_their_newest_row_as_source(store: Store, embedder: HashEmbedder) -> None:
    texts = [f"how do I set up tunnel {number}" for number in range(12)]
    ask(store, [*texts, texts[3]])
    topic = Topic("t1", 0, "tunnels", 13, 12, 1.0, 0.2, 0.9, 1.0, (), Trend.NEW, (1.0,), tuple(range(12)))
    queries = tuple(AskedQuery(text, 2 if text == texts[3] else 1, 0.2) for text in texts)
    topics = Topics((topic,), (), (0,) * 12, 1, "given", TopicStatus.OK, "")
    coverage = Coverage(topics, queries, (), Window(date(2026, 2, 27), date(2026, 3, 1)), 0.5, 13, 13, 0)
    found = propose_of_topic(store, embedder, coverage, "t1", "qa")
    assert len(found.proposals) == 10
    assert {each.new.source.topic_id for each in found.proposals} == {"t1"}
    first = next(each for each in found.proposals if each.new.question == texts[3])
    assert first.new.source.retrieval_id == "q-3"  # asked again earlier, as q-12
    add_cases(store, "qa", found.fresh, ME)
    assert len(propose_of_topic(store, embedder, coverage, "t1", "qa").proposals) == 2  # the other two
    with pytest.raises(NotFound):
        propose_of_topic(store, embedder, coverage, "t9", "qa")

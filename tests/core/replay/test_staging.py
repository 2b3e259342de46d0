"""Candidates that are built for the replay: other passages, another model, a reranker, and chains of them."""

import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from benchmarks.index_swap import HashEmbedder
from core.audit.acts import Act
from core.corpus.corpus import Corpus
from core.embedding.chunks import Chunk
from core.errors import Conflict, InvalidInput, NotFound
from core.indexes.builds import build_version, get_live
from core.indexes.ingest import DocumentSource
from core.indexes.operations import swap_index
from core.log.retrievals import last_days
from core.replay.candidates import ReplayCandidate
from core.replay.comparison import ReplayResult
from core.replay.remembered import replaying_alone
from core.replay.replaying import ReplayPlan, replay_sides
from core.replay.staging import StagingTools, stage_sides
from quarterdeck.recorder import append_retrievals
from quarterdeck.retrieval import Retrieval
from quarterdeck.scope import DEFAULT_SERVICE, Scope
from quarterdeck.store import Store
from tests.rerank_server import serve_reranker

pytestmark = pytest.mark.sqlite_only("the store that it reads is tested on both in test_replaying.py")

ME = Act("ada", "a test")
NOW = datetime.now(UTC)
PAGES = [f"page {at} tells of port {at}" for at in range(24)]


@pytest.fixture
def asked(store: Store, tmp_path: Path) -> Store:
    append_retrievals(store, [Retrieval(NOW - timedelta(days=2), text, 0.9) for text in PAGES])
    rows = tuple(Chunk(f"{at}.md", "", text) for at, text in enumerate(PAGES))
    source = DocumentSource("v1", len(rows), rows)
    build_version(store, HashEmbedder(48, store), source, ME, location=str(tmp_path / "indexes"), name="docs-v1")
    swap_index(store, "default", "docs-v1", ME, expected=None)
    return store


def replay(store: Store, tmp_path: Path, candidate: ReplayCandidate, *, live_reranker: str = "") -> ReplayResult:
    def embedder_of(model: str) -> HashEmbedder:
        return HashEmbedder(int(model.removeprefix("hash-")), store)

    tools = StagingTools(embedder_of, lambda: Corpus(str(tmp_path / "none")), tmp_path / "replays")
    plan = ReplayPlan(Scope("production", DEFAULT_SERVICE), last_days(7, until=NOW.date()), 0.8)
    live = get_live(store, "default")
    with stage_sides(store, live, candidate, tools, live_reranker=live_reranker) as sides:
        return replay_sides(store, embedder_of, sides, plan, changes=candidate.changes)


def test_another_model_embeds_the_live_passages_and_questions_once(asked: Store, tmp_path: Path) -> None:
    found = replay(asked, tmp_path, ReplayCandidate(model="hash-32"))
    assert (found.about.changes_model, found.about.candidate, found.embedded) == (True, "model hash-32", 24)
    assert found.overlap > 0
    assert replay(asked, tmp_path, ReplayCandidate(model="hash-32")).embedded == 0
    assert list((tmp_path / "indexes").glob("*candidate*")) == []


def test_documents_are_cut_anew_into_passages_of_the_wanted_size(asked: Store, tmp_path: Path) -> None:
    folder = tmp_path / "handbook"
    folder.mkdir()
    for at in range(0, 24, 2):
        filler = "Nothing of it is about anything else. " * 6
        (folder / f"{at}.txt").write_text(f"{PAGES[at]}\n\n{filler}\n\n{PAGES[at + 1]}")
    small = replay(asked, tmp_path, ReplayCandidate(documents=str(folder), characters=240))
    large = replay(asked, tmp_path, ReplayCandidate(documents=str(folder), characters=2_000))
    assert small.candidate_score > 0.95  # a question is a passage word for word
    assert large.candidate_score < 0.9
    assert small.about.changes == ("documents handbook", "passages of 240")
    assert replay(asked, tmp_path, ReplayCandidate(documents=str(folder), characters=240)).embedded == 0


def test_a_reranker_orders_hits_anew_and_a_chain_applies_every_part(asked: Store, tmp_path: Path) -> None:
    found = replay(asked, tmp_path, ReplayCandidate(reranker="bm25", depth=24))
    assert all(each.hits.candidate[0].document == f"{PAGES.index(each.text)}.md" for each in found.changed)
    assert found.score.value == pytest.approx(0, abs=1e-6)  # the best hit stays the best
    assert found.costs[1].rerank_ms is not None
    assert found.costs[0].rerank_ms is None
    chain = replay(asked, tmp_path, ReplayCandidate(model="hash-32", reranker="bm25"), live_reranker="bm25")
    assert chain.about.changes == ("model hash-32", "reranker bm25")
    assert chain.costs[0].rerank_ms is not None


def test_a_reranking_server_is_asked_once_for_each_question(asked: Store, tmp_path: Path) -> None:
    with serve_reranker() as server:
        candidate = ReplayCandidate(reranker=server.url, depth=24)
        first = replay(asked, tmp_path, candidate)
        assert len(server.bodies) == 24
        second = replay(asked, tmp_path, candidate)
    assert (second.overlap, len(server.bodies)) == (first.overlap, 24)
    assert "port" not in "".join(path.read_text() for path in (tmp_path / "replays").glob("*.txt"))


def test_what_cannot_be_replayed_is_one_line(asked: Store, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="docs-v1 is the live index"):
        replay(asked, tmp_path, ReplayCandidate("docs-v1"))
    with pytest.raises(NotFound, match="no index 'docs-v9' is registered"):
        replay(asked, tmp_path, ReplayCandidate("docs-v9"))
    rows = (Chunk("0.md", "", PAGES[0]),)
    source = DocumentSource("v2", 1, rows)
    build_version(asked, HashEmbedder(48, asked), source, ME, location=str(tmp_path / "indexes"), name="docs-v2")
    shutil.rmtree(tmp_path / "indexes" / "docs-v2.lance")
    with pytest.raises(NotFound, match="no index 'docs-v2' in"):
        replay(asked, tmp_path, ReplayCandidate("docs-v2"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(InvalidInput, match="documents: .*empty has no document with text"):
        replay(asked, tmp_path, ReplayCandidate(documents=str(tmp_path / "empty")))


def test_two_replays_of_the_same_candidate_do_not_run_at_once(tmp_path: Path) -> None:
    with replaying_alone(tmp_path, "docs-v2", "chat"):
        with pytest.raises(Conflict, match="docs-v2 is already being replayed for chat; wait for it, or cancel it"):
            with replaying_alone(tmp_path, "docs-v2", "chat"):
                pass
        with replaying_alone(tmp_path, "docs-v3", "chat"), replaying_alone(tmp_path, "docs-v2", "search"):
            pass
    with replaying_alone(tmp_path, "docs-v2", "chat"):
        pass

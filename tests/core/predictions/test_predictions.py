import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from benchmarks.index_swap import HashEmbedder, make_source, marker_of
from core.audit.acts import Act
from core.corpus.corpus import WORKSPACE, Corpus
from core.coverage import report
from core.coverage.report import report_coverage
from core.drift.operations import save_model_map
from core.drift.scales import ModelMap
from core.embedding.chunks import Chunk
from core.embedding.embed import Embedder
from core.embedding.vectors import VectorCache
from core.errors import InvalidInput, NotFound
from core.indexes.builds import build_version
from core.indexes.ingest import DocumentSource, read_folder, read_version
from core.indexes.operations import swap_index
from core.indexes.registry import get_index
from core.log.retrievals import last_days
from core.log.values import AskedQuery
from core.predictions.operations import save_prediction
from core.predictions.predictions import (
    add_to_live,
    get_prediction,
    list_predictions,
    measure_in_log,
    measure_prediction,
    predict_coverage,
    predict_version,
)
from quarterdeck.recorder import append_retrievals
from quarterdeck.retrieval import Retrieval
from quarterdeck.store import Store
from tests.conftest import CHAT, Demo

pytestmark = pytest.mark.slow

ME = Act("ada", "a test")


@pytest.fixture
def live(store, tmp_path):
    """Version 1, 40 passages, live."""
    embedder = HashEmbedder(16, store)
    built = build_version(
        store, embedder, make_source(1, 40), ME, location=str(tmp_path / "indexes"), name="docs-v1"
    ).index
    swap_index(store, "default", "docs-v1", ME, expected=None)
    return built


def asked(*texts):
    return [AskedQuery(text, 1, 0.0) for text in texts]


@pytest.mark.deep
def test_the_prediction_is_what_the_built_index_then_measures_with_pages_added_changed_and_removed(
    store, live, tmp_path
):
    embedder = HashEmbedder(16, store)
    target = make_source(2, 40)
    queries = asked(*[f"question {at}" for at in range(100)], marker_of("docs-v1"), marker_of("docs-v2"))
    found = predict_version(embedder, target, live, queries, (), threshold=0.5)
    assert (found.new_chunks, found.removed_chunks) == (20, 20)
    report = build_version(store, embedder, target, ME, location=str(tmp_path / "indexes"), name="docs-v2")
    assert report.embedded == 0
    check = measure_prediction(store, embedder, found)
    assert check.largest_error < 1e-5
    assert check.total
    assert (check.total.queries, round(check.total.error, 6)) == (102, 0)
    by_text = {query.text: query for query in found.queries}
    assert by_text[marker_of("docs-v2")].predicted_score == pytest.approx(1)
    gone = by_text[marker_of("docs-v1")]
    assert gone.live_score == pytest.approx(1)
    assert gone.predicted_score < 0.95
    assert marker_of("docs-v1") in {query.text for query in found.worse}


@pytest.mark.deep
def test_a_version_that_drops_nearly_everything_is_predicted_exactly_too(store, live, tmp_path):
    embedder = HashEmbedder(16, store)
    target = DocumentSource("v3", 1, make_source(1, 40).chunks[:2])
    found = predict_version(embedder, target, live, asked("one", "two", "three"), (), threshold=0.5)
    exact = embedder.embed(["one", "two", "three"]) @ embedder.embed([chunk.text for chunk in target.chunks]).T
    assert np.allclose([query.predicted_score for query in found.queries], np.clip(exact.max(axis=1), 0, 1), atol=1e-5)
    assert (found.new_chunks, found.removed_chunks, found.unreached) == (0, 38, ())


def test_a_version_whose_name_is_too_long_to_be_kept_is_refused_before_anything_is_embedded(store, live):
    embedder = HashEmbedder(16, store)
    target = DocumentSource("v" * 246, 1, (Chunk("vpp.md", "", "what is vpp"),))
    with pytest.raises(InvalidInput, match="corpus version: must be at most 245 characters to be kept, not 246"):
        predict_version(embedder, target, live, asked("what is vpp"), (), threshold=0.95)
    assert embedder.get_known(["what is vpp"]) == {}


def test_a_prediction_is_kept_and_compared_with_the_log_after_the_swap(store, live):
    embedder = HashEmbedder(16, store)
    target = DocumentSource("v2", 1, (*make_source(1, 40).chunks, Chunk("vpp.md", "", "what is vpp")))
    found = predict_version(embedder, target, live, asked("what is vpp"), (), threshold=0.95)
    save_prediction(store, found, ME)
    save_prediction(store, found, ME)
    assert get_prediction(store, "v2") == found
    assert list_predictions(store) == (found,)
    with pytest.raises(NotFound, match="corpus version 'v9' has none; run `quarterdeck index predict`"):
        get_prediction(store, "v9")
    with pytest.raises(NotFound, match="no index is built from corpus version 'v2' yet"):
        measure_prediction(store, embedder, found)
    now = datetime.now(UTC)
    append_retrievals(
        store, [Retrieval(ts=now - timedelta(seconds=at), query="what is vpp", score=0.99) for at in range(3)]
    )
    check = measure_in_log(store, found, last_days(2, until=now.date()))
    assert check.total
    assert check.total.error == pytest.approx(0.01, abs=1e-4)
    assert (check.total.predicted_lifted_share, check.total.measured_lifted_share) == (1, 1)


def test_a_prediction_is_compared_with_an_index_of_another_model_by_their_map_alone(store, live, tmp_path):
    """The other model has other vectors, so its scores are others; the map says that all are 0.2 higher."""
    small, large = HashEmbedder(16, store), HashEmbedder(24, store)
    large.model = "large"
    target = DocumentSource("v2", 1, (*make_source(1, 40).chunks, Chunk("vpp.md", "", "what is vpp")))
    found = predict_version(small, target, live, asked("what is vpp"), (), threshold=0.6)
    assert found.model == live.model == small.model
    build_version(store, large, target, ME, location=str(tmp_path / "indexes"), name="docs-large")
    now = datetime(2026, 3, 2, 12, tzinfo=UTC)
    append_retrievals(store, [Retrieval(now, "what is vpp", 0.95, model="large")])
    with pytest.raises(InvalidInput, match=f"v2 was predicted with {small.model}, and docs-large is built with large"):
        measure_prediction(store, large, found)
    assert measure_in_log(store, found, last_days(2, until=now.date())).total is None
    save_model_map(store, ModelMap(small.model, "large", ((0.0, 0.2), (0.8, 1.0)), 0.004, 400), ME)
    check = measure_prediction(store, small, found)
    assert check.total
    assert check.total.measured_score == pytest.approx(0.8)
    check = measure_in_log(store, found, last_days(2, until=now.date()))
    assert check.total
    assert check.total.measured_score == pytest.approx(0.75)


def test_drafts_on_top_of_what_is_live_take_nothing_away_but_the_page_that_they_replace(store, live):
    embedder = HashEmbedder(16, store)
    before = make_source(1, 40).chunks
    replaced = before[0].document
    drafts = DocumentSource("drafts", 2, (Chunk("vpp.md", "", "what is vpp"), Chunk(replaced, "", "written anew")))
    wanted = add_to_live(drafts, live)
    gone = [chunk for chunk in before if chunk.document == replaced]
    assert len(wanted.chunks) == 40 - len(gone) + 2
    assert (wanted.version, wanted.documents) == ("drafts", len({chunk.document for chunk in before}) + 1)
    found = predict_version(embedder, wanted, live, asked("what is vpp", gone[0].text), (), threshold=0.95)
    assert (found.new_chunks, found.removed_chunks) == (2, len(gone))
    assert found.queries[0].predicted_score == pytest.approx(1)
    assert found.queries[1].predicted_score < found.queries[1].live_score
    alone = predict_version(embedder, drafts, live, asked("what is vpp"), (), threshold=0.95)
    assert alone.removed_chunks == 40


def test_a_page_that_stays_and_that_no_query_reaches_is_named(store, live):
    embedder = HashEmbedder(16, store)
    page = make_source(1, 40).chunks[0]
    found = predict_version(embedder, make_source(1, 40), live, asked(page.text), (), threshold=0.5)
    standing = {chunk.document for chunk in make_source(1, 40).chunks}
    assert page.document not in found.idle
    assert set(found.idle) < standing
    assert found.idle
    nothing = predict_version(embedder, make_source(1, 40), live, [], (), threshold=0.5)
    assert set(nothing.idle) == standing


def test_vectors_of_another_model_are_refused(store, live):
    with pytest.raises(InvalidInput, match="docs-v1 was built with hash-16, not hash-8"):
        predict_version(HashEmbedder(8, store), make_source(2, 40), live, asked("q"), (), threshold=0.5)


@pytest.fixture
def deck(demo: Demo, tmp_path):
    """A copy of the demo's store: predictions are kept in it."""
    original = demo.config.database_url.removeprefix("sqlite:///")
    with closing(sqlite3.connect(original)) as source, closing(sqlite3.connect(tmp_path / "deck.db")) as copy:
        source.backup(copy)  # to open the file otherwise would drop SQLite's locks on it in this process
    store = Store(f"sqlite:///{tmp_path / 'deck.db'}")
    yield store
    store.close()


@pytest.mark.deep
def test_version_2_of_the_demo_is_predicted_to_close_the_vpp_topic_and_it_does(demo: Demo, deck):
    embedder = Embedder(demo.config.embedding_model, cache=VectorCache(deck))
    coverage = report_coverage(deck, embedder, scope=CHAT, today=datetime.now(UTC).date())
    corpus = Corpus(demo.config.corpus_repo)
    source = read_version(corpus, "v2")
    found = predict_coverage(deck, embedder, source, get_index(deck, "docs-v1"), coverage)
    vpp = next(topic for topic in found.topics if "vpp" in topic.label.casefold())
    assert vpp.live_score < 0.4
    assert vpp.predicted_score > vpp.live_score + 0.2
    assert vpp.lifted_share > 0.75
    assert vpp.documents[0].startswith("vpp-")
    assert len(found.queries) > len(coverage.queries)
    check = measure_prediction(deck, embedder, found)
    assert check.total
    assert abs(check.total.error) < 0.02
    assert all(abs(row.error) < 0.02 for row in check.topics)
    assert check.largest_error < 0.02


@pytest.mark.deep
def test_a_second_look_at_an_unchanged_log_groups_nothing_again_and_knows_its_gaps(demo: Demo, deck, monkeypatch):
    embedder = Embedder(demo.config.embedding_model, cache=VectorCache(deck))
    today = datetime.now(UTC).date()
    first = report_coverage(deck, embedder, scope=CHAT, today=today)
    monkeypatch.setattr(report, "find_topics", None)
    assert report_coverage(deck, embedder, scope=CHAT, today=today) == first
    with pytest.raises(TypeError, match="not callable"):
        report_coverage(deck, embedder, scope=CHAT, today=today - timedelta(days=1))


@pytest.mark.deep
def test_a_version_that_is_live_already_lifts_nothing(demo: Demo, deck):
    embedder = Embedder(demo.config.embedding_model, cache=VectorCache(deck))
    coverage = report_coverage(deck, embedder, scope=CHAT, today=datetime.now(UTC).date())
    source = read_version(Corpus(demo.config.corpus_repo), "v1")
    found = predict_coverage(deck, embedder, source, get_index(deck, "docs-v1"), coverage)
    assert (found.new_chunks, found.removed_chunks, found.lifting, found.lifted_share) == (0, 0, (), 0)
    assert found.lift == pytest.approx(0, abs=1e-5)


@pytest.mark.deep
def test_a_folder_that_is_not_committed_is_predicted_like_a_version(demo: Demo, deck, tmp_path):
    folder = tmp_path / "drafts"
    folder.mkdir()
    (folder / "cooking.md").write_text("# Cooking\n\nBoil the pasta in salted water for ten minutes.")
    embedder = Embedder(demo.config.embedding_model, cache=VectorCache(deck))
    v1 = read_version(Corpus(demo.config.corpus_repo), "v1")
    draft = read_folder(folder)
    source = DocumentSource(draft.version, v1.documents + 1, (*v1.chunks, *draft.chunks))
    queries = asked("what is an mbuf", "how do I create a ring")
    found = predict_version(embedder, source, get_index(deck, "docs-v1"), queries, (), threshold=0.5)
    assert (found.target, found.new_documents, found.unreached) == ("drafts", 1, ("cooking.md",))
    workspace = read_version(Corpus(demo.config.corpus_repo), WORKSPACE)
    assert predict_version(
        embedder, workspace, get_index(deck, "docs-v1"), queries, (), threshold=0.5
    ).new_documents > 10  # fmt: skip

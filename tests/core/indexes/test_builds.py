from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from benchmarks.index_swap import HashEmbedder, make_source, marker_of
from core.audit.acts import Act
from core.audit.trail import list_audit, list_broken_audit_entries
from core.cases.golden import golden_of
from core.embedding.chunks import CHUNKING
from core.errors import Conflict, InvalidInput, NotFound
from core.indexes.backends import open_indexes
from core.indexes.builds import build_version, collect_garbage, find_live, get_live, probe_index, ship_index
from core.indexes.ingest import DocumentSource
from core.indexes.operations import forget_index, retire_index, rollback_index, swap_index
from core.indexes.probes import GoldenQuery
from core.indexes.registry import IndexState, get_index, list_aliases, list_indexes, list_swaps, newest_swap_id
from core.tracking.cases import Case
from quarterdeck.client import Quarterdeck

pytestmark = pytest.mark.slow

ME = Act("ada", "a test")


@pytest.fixture(params=["", "chroma:"])
def location(request, tmp_path):
    """Where indexes are kept, in each of the libraries."""
    if request.param:
        pytest.importorskip("chromadb", reason="the extra `chroma` is not installed")
    return f"{request.param}{tmp_path / 'indexes'}"


@pytest.fixture
def build(store, location):
    """Builds and registers the index of a version, 40 chunks each, half of them the same in all versions."""

    def make(version, by=ME, **options):
        options = {"name": f"docs-v{version}", "location": location} | options
        return build_version(store, HashEmbedder(16, store), make_source(version, 40), by, **options)

    return make


@pytest.mark.deep
def test_a_build_is_registered_whole_and_no_alias_stands_for_it(store, build, location):
    seen = []
    report = build(1, on_progress=lambda *step: seen.append(step))
    assert (report.index.chunks, report.embedded, report.was_there) == (40, 40, False)
    assert seen == [("embed", 40, 40), ("write", 0, 40), ("write", 40, 40)]
    assert list_indexes(store) == (get_index(store, "docs-v1"),)
    index = get_index(store, "docs-v1")
    assert (index.corpus_version, index.model, index.built_by) == ("v1", "hash-16", "ada")
    assert (index.chunking, index.state, index.location) == (CHUNKING, IndexState.READY, location)
    assert open_indexes(location).count("docs-v1") == 40
    assert find_live(store, "default") is None
    with pytest.raises(NotFound, match="'default' points to no index yet"):
        get_live(store, "default")


def test_a_build_and_its_way_to_live_and_back_leave_one_audit_entry_each_step(store, build):
    for version in (1, 2):
        build(version)
        build(version)  # it is there already: nothing changes, nothing is recorded
    swap_index(store, "default", "docs-v1", ME, expected=None)
    swap_index(store, "default", "docs-v2", ME, expected="docs-v1")
    rollback_index(store, "default", ME)
    entries = [(entry.action, entry.actor, entry.reason) for entry in reversed(list_audit(store))]
    actions = ["index.register", "index.register", "index.swap", "index.swap", "index.swap"]
    assert entries == [(action, "ada", "a test") for action in actions]


def test_only_what_is_new_is_embedded(build):
    assert [build(version).embedded for version in (1, 2, 3)] == [40, 20, 20]


def test_the_same_build_twice_is_one_index_and_other_content_needs_another_name(store, build, location):
    first = build(1, name=None)
    again = build(1, name=None)
    assert (again.was_there, again.index.name, again.embedded) == (True, first.index.name, 0)
    assert first.index.name.startswith("docs-v1-")
    build(1)
    with pytest.raises(Conflict, match="'docs-v1' already exists with other content"):
        build(2, name="docs-v1")
    assert len(list_indexes(store)) == 2
    with pytest.raises(InvalidInput, match="v9 has no document with text"):
        build_version(store, HashEmbedder(16, store), DocumentSource("v9", 0, ()), ME, location=location)


def test_an_index_whose_name_is_too_long_for_its_probe_to_be_kept_is_not_built(store, build):
    with pytest.raises(InvalidInput, match="index: must be at most 250 characters to be kept, not 251"):
        build(1, name="d" * 251)
    assert list_indexes(store) == ()


def test_a_build_killed_before_it_was_registered_is_taken_up(store, build, location):
    source = make_source(1, 40)
    vectors = HashEmbedder(16, store).embed([chunk.text for chunk in source.chunks])
    open_indexes(location).build("docs-v1", source.chunks, vectors)
    assert not build(1).was_there
    assert get_index(store, "docs-v1").chunks == 40
    open_indexes(location).build("docs-v2", source.chunks, vectors)
    with pytest.raises(Conflict, match="other content"):
        build(2)


def test_a_good_index_passes_its_probe_and_goes_live(store, build):
    build(1)
    build(2)
    embedder = HashEmbedder(16, store)
    swap_index(store, "default", "docs-v1", ME, expected=None)
    golden = [GoldenQuery(marker_of("docs-v2"), ("page-3.md",)), GoldenQuery("shared passage 3", ("page-0.md",))]
    queries = [f"shared passage {at}" for at in range(10)]
    report = probe_index(store, embedder, "docs-v2", golden=golden, queries=queries, live="docs-v1")
    assert [(check.name, check.measured) for check in report.checks[:3]] == [
        ("complete", 40), ("passages", 1.0), ("golden set", 1.0),
    ]  # fmt: skip
    assert report.checks[3].name == "recall" and report.checks[3].measured == 1.0
    assert report.checks[4].measured == pytest.approx(0, abs=1e-6)
    ship_index(store, "default", report, ME, expected="docs-v1")
    assert get_live(store, "default").name == "docs-v2"
    assert list_audit(store)[0].after == {
        "index": "docs-v2", "probe": "passed: complete, passages, golden set, recall, scores",
    }  # fmt: skip


def test_an_index_whose_vectors_belong_to_other_texts_does_not_go_live(store, build, location):
    build(1)
    source = make_source(2, 40)
    embedder = HashEmbedder(16, store)
    vectors = embedder.embed([chunk.text for chunk in source.chunks])
    open_indexes(location).build("docs-v2", source.chunks, np.roll(vectors, 1, axis=0))
    build(2)
    report = probe_index(
        store, embedder, "docs-v2", golden=[GoldenQuery("shared passage 3", ("page-9.md",))],
        queries=["shared passage 1"], live="docs-v1",
    )  # fmt: skip
    assert {check.name for check in report.checks if not check.passed} >= {"passages", "golden set"}
    with pytest.raises(
        InvalidInput, match="docs-v2 did not pass its probe.*0 of 20 passages are found by their own text"
    ):
        ship_index(store, "default", report, ME, expected=None)
    assert list_aliases(store) == ()


def test_a_probe_needs_an_index_of_the_model_that_readers_use(store, build):
    build(1)
    with pytest.raises(InvalidInput, match="has vectors of hash-16; the probe embeds with hash-8"):
        probe_index(store, HashEmbedder(8, store), "docs-v1")
    with pytest.raises(NotFound, match="no index 'docs-v7' is registered; there are: docs-v1"):
        probe_index(store, HashEmbedder(16, store), "docs-v7")


def test_an_index_of_another_model_is_probed_without_comparing_scores(store, location):
    for name, dimension in (("docs-v1", 16), ("docs-other", 8)):
        build_version(store, HashEmbedder(dimension, store), make_source(1, 40), ME, location=location, name=name)
    report = probe_index(store, HashEmbedder(8, store), "docs-other", queries=["shared passage 1"], live="docs-v1")
    assert report.passed
    assert [check.name for check in report.checks] == ["complete", "passages", "golden set", "model"]
    assert "the model changes from hash-16 to hash-8: readers have to embed with it" in report.checks[3].reason
    assert report.summary == "passed: complete, passages"


def test_cases_that_expect_documents_make_the_golden_set():
    cases = [Case("1", "what", ("a.md",), "x", True), Case("2", "unknown", (), "x", False)]
    assert golden_of(cases) == (GoldenQuery("what", ("a.md",)),)


def test_rollbacks_go_back_one_by_one_and_skip_what_is_gone(store, build, url):
    for version in (1, 2, 3):
        build(version)
    for former, name in ((None, "docs-v1"), ("docs-v1", "docs-v2"), ("docs-v2", "docs-v3")):
        swap_index(store, "default", name, ME, expected=former)
    assert rollback_index(store, "default", ME) == "docs-v2"
    assert rollback_index(store, "default", ME) == "docs-v1"
    with pytest.raises(NotFound, match="has no previous index that still exists"):
        rollback_index(store, "default", ME)
    with pytest.raises(NotFound, match="no alias 'other'"):
        rollback_index(store, "other", ME)
    assert [swap.is_rollback for swap in list_swaps(store, "default")] == [False, False, False, True, True]
    with Quarterdeck(url, snapshot_path=None) as deck:
        assert deck.active_index() == "docs-v1"
    swap_index(store, "default", "docs-v2", ME, expected="docs-v1")
    swap_index(store, "default", "docs-v3", ME, expected="docs-v2")
    with store.read() as connection:
        newest = newest_swap_id(connection)
    retire_index(store, "docs-v2", ME, newest_swap=newest)
    assert rollback_index(store, "default", ME) == "docs-v1"


def test_garbage_goes_with_its_files_and_what_may_be_needed_stays(store, build, location):
    long_ago = datetime.now(UTC) - timedelta(days=2)
    for version in range(1, 6):
        build(version, by=Act("ada", "long ago", at=long_ago + timedelta(minutes=version)))
    former = None
    for minute, version in ((10, 1), (11, 2), (12, 5)):
        by = Act("ada", "long ago", at=long_ago + timedelta(minutes=minute))
        swap_index(store, "default", f"docs-v{version}", by, expected=former)
        former = f"docs-v{version}"
    done = collect_garbage(store, ME, keep=1)
    assert set(done.removable) == {"docs-v1", "docs-v3", "docs-v4"}
    assert {kept.name: kept.reason for kept in done.kept} == {
        "docs-v5": "live", "docs-v2": "an alias can be rolled back to it",
    }  # fmt: skip
    assert open_indexes(location).list_names() == ("docs-v2", "docs-v5")
    assert {index.name for index in list_indexes(store)} == {"docs-v2", "docs-v5"}
    assert list_indexes(store, state=IndexState.RETIRED) == ()
    assert {entry.action for entry in list_audit(store, limit=6)} == {"index.retire", "index.remove"}
    assert collect_garbage(store, ME, keep=1).removable == ()
    assert list_broken_audit_entries(store) == ()


def test_nothing_young_is_garbage(store, build):
    build(1)
    build(2)
    assert collect_garbage(store, ME, keep=0).removable == ()
    with pytest.raises(InvalidInput, match="keep"):
        collect_garbage(store, ME, keep=-1)


def test_a_swap_between_decision_and_removal_saves_the_index(store, build):
    build(1)
    build(2)
    swap_index(store, "default", "docs-v1", ME, expected=None)
    with store.read() as connection:
        seen = newest_swap_id(connection)
    swap_index(store, "default", "docs-v2", ME, expected="docs-v1")
    with pytest.raises(Conflict, match="'docs-v2' is live"):
        retire_index(store, "docs-v2", ME, newest_swap=seen)
    with pytest.raises(Conflict, match="an alias was swapped during the removal of index 'docs-v1'"):
        retire_index(store, "docs-v1", ME, newest_swap=seen)
    assert len(list_indexes(store)) == 2


def test_an_index_that_is_being_removed_cannot_go_live_and_the_next_run_ends_it(store, build, location):
    build(1)
    with store.read() as connection:
        seen = newest_swap_id(connection)
    with pytest.raises(Conflict, match="is not retired"):
        forget_index(store, "docs-v1", ME)
    retire_index(store, "docs-v1", ME, newest_swap=seen)
    with pytest.raises(NotFound, match="no index 'docs-v1' is registered"):
        swap_index(store, "default", "docs-v1", ME, expected=None)
    assert collect_garbage(store, ME).removable == ("docs-v1",)
    assert open_indexes(location).list_names() == ()
    assert build(1).index == get_index(store, "docs-v1")

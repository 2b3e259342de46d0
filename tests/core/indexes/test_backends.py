"""The contract of an index backend: every test with the fixture `indexes` holds for each backend there is."""

import os
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from core.config import PROJECT
from core.embedding.chunks import Chunk
from core.errors import Conflict, InvalidInput, NotFound, SourceUnavailable
from core.indexes.backends import BACKENDS, ChromaIndexes, LanceIndexes, open_indexes

pytestmark = pytest.mark.slow

CHUNKS = [Chunk("a.md", "A", "about a"), Chunk("b.md", "B", "about b"), Chunk("c.md", "C", "about c")]
AXES = np.eye(3, 8, dtype=np.float32)


@pytest.fixture(params=BACKENDS)
def indexes(request, tmp_path):
    """An index of three passages, in each of the libraries."""
    if request.param == "chroma":
        pytest.importorskip("chromadb", reason="the extra `chroma` is not installed")
    made = open_indexes(f"{request.param}:{tmp_path / 'indexes'}")
    made.build("docs-v1", CHUNKS, AXES)
    yield made
    for name in made.list_names():
        made.remove(name)


def folder_of(indexes, name):
    return indexes._folder / f"{name}{indexes.suffix}"


def test_a_search_gives_the_true_cosine_best_first(indexes):
    query = np.array([[0.6, 0.8, 0, 0, 0, 0, 0, 0], [0, 0, 1, 0, 0, 0, 0, 0]], dtype=np.float32)
    hits = indexes.search("docs-v1", query, top_k=2)
    assert [(hit.document, round(hit.score, 5)) for hit in hits[0]] == [("b.md", 0.8), ("a.md", 0.6)]
    assert (hits[1][0].text, hits[1][0].section) == ("about c", "C")


def test_a_query_that_points_away_scores_0_and_not_less(indexes):
    (hits,) = indexes.search("docs-v1", -AXES[:1], top_k=3)
    assert [hit.score for hit in hits] == [0, 0, 0]


def test_more_hits_than_passages_are_all_passages(indexes):
    assert [len(found) for found in indexes.search("docs-v1", AXES, top_k=50)] == [3, 3, 3]
    assert indexes.search("docs-v1", AXES[:0]) == ()
    with pytest.raises(InvalidInput, match="top_k"):
        indexes.search("docs-v1", AXES, top_k=0)


def test_every_chunk_can_be_listed(indexes):
    assert sorted(indexes.list_chunks("docs-v1"), key=lambda chunk: chunk.document) == CHUNKS
    assert indexes.count("docs-v1") == 3


@pytest.mark.deep
def test_an_index_larger_than_one_batch_is_whole(indexes):
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(6_000, 8)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    indexes.build("large", [Chunk("d.md", "", f"passage {at}") for at in range(6_000)], rows)
    assert indexes.count("large") == len(indexes.list_chunks("large")) == 6_000
    found = indexes.search("large", rows[5_500:5_900], top_k=1)
    assert [hits[0].text for hits in found] == [f"passage {at}" for at in range(5_500, 5_900)]


def test_a_name_is_used_once(indexes):
    with pytest.raises(Conflict, match="'docs-v1' already exists"):
        indexes.build("docs-v1", CHUNKS, AXES)
    for name in ("../docs", "", ".hidden", "Docs", "a/b"):
        with pytest.raises(InvalidInput, match="index name"):
            indexes.build(name, CHUNKS, AXES)
    with pytest.raises(InvalidInput, match="nothing to index"):
        indexes.build("docs-v2", [], AXES[:0])
    with pytest.raises(InvalidInput, match="there are 2 for 3 chunks"):
        indexes.build("docs-v2", CHUNKS, AXES[:2])
    assert indexes.list_names() == ("docs-v1",)


def test_a_build_that_is_being_written_is_not_visible(indexes, monkeypatch):
    seen = []
    write = type(indexes)._write

    def write_and_look(self, staging, chunks, vectors):
        write(self, staging, chunks, vectors)
        seen.append((self.list_names(), staging.exists()))

    monkeypatch.setattr(type(indexes), "_write", write_and_look)
    indexes.build("docs-v2", CHUNKS, AXES)
    assert seen == [(("docs-v1",), True)]
    assert indexes.list_names() == ("docs-v1", "docs-v2")


def test_a_build_that_fails_leaves_nothing_and_says_why(indexes, monkeypatch):
    def fail(self, staging, chunks, vectors):
        staging.mkdir()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(type(indexes), "_write", fail)
    with pytest.raises(SourceUnavailable, match="'docs-v2' could not be written: .*No space left"):
        indexes.build("docs-v2", CHUNKS, AXES)
    assert [path.name for path in indexes._folder.iterdir()] == [folder_of(indexes, "docs-v1").name]


def test_of_two_builders_of_one_name_one_gets_a_conflict_and_the_index_is_whole(indexes):
    results = []

    def build():
        try:
            results.append(type(indexes)(indexes._folder).build("docs-v2", CHUNKS, AXES))
        except Conflict as error:
            results.append(str(error))

    builders = [threading.Thread(target=build) for _ in range(3)]
    for each in builders:
        each.start()
    for each in builders:
        each.join()
    assert results.count(3) == 1
    assert sum("already exists" in str(each) for each in results) == 2
    assert indexes.count("docs-v2") == 3


def test_a_removed_index_is_gone_at_once_and_its_name_is_free(indexes):
    assert indexes.search("docs-v1", AXES[:1])
    assert indexes.remove("docs-v1")
    assert not indexes.remove("docs-v1")
    with pytest.raises(NotFound, match="no index 'docs-v1'"):
        indexes.search("docs-v1", AXES[:1])
    indexes.build("docs-v1", CHUNKS[:1], AXES[1:2])
    assert indexes.search("docs-v1", AXES[1:2])[0][0].text == "about a"
    assert list(indexes._folder.glob(".*")) == []


def test_leftovers_go_when_they_are_old_enough(indexes):
    old, young = (indexes._hidden("staging", name) for name in ("old", "young"))
    for path in (old, young):
        path.mkdir()
        (path / "half").write_text("written")
    past = time.time() - 7_200
    for path in (old / "half", old):
        os.utime(path, (past, past))
    assert indexes.remove_leftovers(older_than_s=3_600) == 1
    assert (old.exists(), young.exists()) == (False, True)
    assert indexes.list_names() == ("docs-v1",)


def test_missing_and_damaged_indexes_give_one_line(indexes):
    with pytest.raises(NotFound, match="no index 'docs-v9' in .*; there are: docs-v1"):
        indexes.search("docs-v9", AXES[:1])
    folder_of(indexes, "broken").mkdir()
    with pytest.raises(SourceUnavailable, match="index 'broken' could not be read"):
        indexes.search("broken", AXES[:1])


@pytest.mark.deep
def test_another_process_reads_what_this_one_built(indexes):
    script = (
        "import sys, numpy; from core.indexes.backends import open_indexes; "
        "hits = open_indexes(sys.argv[1]).search('docs-v1', numpy.eye(3, 8, dtype='f4')[1:2]); print(hits[0][0].text)"
    )
    kind = "chroma:" if isinstance(indexes, ChromaIndexes) else ""
    done = subprocess.run(
        [sys.executable, "-c", script, f"{kind}{indexes._folder}"],
        cwd=PROJECT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stdout == "about b\n", done.stderr


def test_an_index_is_taken_in_from_elsewhere(tmp_path):
    indexes = LanceIndexes(tmp_path)
    indexes.build("docs-v1", CHUNKS, AXES)
    other = LanceIndexes(tmp_path / "other")
    assert other.copy_from(tmp_path / "docs-v1.lance", "docs-v1") == 3
    assert other.search("docs-v1", AXES[:1], top_k=1) == indexes.search("docs-v1", AXES[:1], top_k=1)
    with pytest.raises(NotFound, match="no table at"):
        other.copy_from(tmp_path / "docs-v9.lance", "docs-v9")


@pytest.mark.parametrize(
    ("uri", "kind"),
    [
        ("data/indexes", LanceIndexes),
        ("/data/a:b", LanceIndexes),
        ("lancedb:data", LanceIndexes),
        ("chroma:data/indexes", ChromaIndexes),
    ],
)
def test_the_place_says_which_library_holds_the_indexes(uri, kind):
    assert type(open_indexes(uri)) is kind
    for other in ("qdrant:data", "s3://bucket/indexes"):
        with pytest.raises(InvalidInput, match="is unknown; use a folder"):
            open_indexes(other)

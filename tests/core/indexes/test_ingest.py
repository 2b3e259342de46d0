from pathlib import Path

import numpy as np
import pytest

from core.config import load_config
from core.corpus.corpus import WORKSPACE, Corpus
from core.embedding.chunks import Chunk
from core.embedding.embed import Embedder
from core.embedding.vectors import VectorCache
from core.errors import InvalidInput, NotFound
from core.indexes.backends import LanceIndexes
from core.indexes.ingest import build_index, embed_chunks, read_folder, read_version
from tests.conftest import Demo


class CountingEmbedder(Embedder):
    """Gives a text the direction of its length, and remembers what it was asked to embed; `fail_at` makes it fail."""

    def __init__(self, store, fail_at=None):
        super().__init__("counting", cache=VectorCache(store))
        self.embedded = []
        self.fail_at = fail_at

    def _encode(self, texts):
        if self.fail_at is not None and len(self.embedded) >= self.fail_at:
            raise KeyboardInterrupt
        self.embedded += texts
        return np.array([[len(text), 1.0] for text in texts], dtype=np.float32)


@pytest.fixture
def folder(tmp_path):
    """Documents of several formats, one that is broken, one that holds no text, and hidden files."""
    root = tmp_path / "corpus"
    (root / "guide").mkdir(parents=True)
    (root / ".git").mkdir()
    (root / "a.md").write_text("# A\n\nabout a")
    (root / "guide" / "b.rst").write_text("B\n=\n\nabout b\n")
    (root / "c.html").write_text("<h1>C</h1><p>about c</p>")
    (root / "broken.pdf").write_bytes(b"not a pdf")
    (root / "latin.txt").write_bytes(b"caf\xe9")
    (root / "logo.png").write_bytes(b"\x89PNG")
    (root / ".git" / "x.md").write_text("# hidden")
    return root


def test_a_folder_is_read_in_all_formats_and_a_broken_file_is_a_line_and_no_end(folder):
    seen = []
    source = read_folder(folder, on_progress=lambda *step: seen.append(step))
    assert [(chunk.document, chunk.text) for chunk in source.chunks] == [
        ("a.md", "A\nabout a"), ("c.html", "C\nabout c"), ("guide/b.rst", "B\nabout b"),
    ]  # fmt: skip
    assert [problem.document for problem in source.problems] == ["broken.pdf", "latin.txt"]
    assert all("\n" not in problem.reason for problem in source.problems)
    assert (source.version, source.documents, source.skipped) == ("corpus", 3, 1)
    assert seen[-1] == ("read", 5, 5)


def test_a_folder_that_is_none_is_refused(tmp_path):
    with pytest.raises(InvalidInput, match="is not a folder"):
        read_folder(tmp_path / "none")


def test_each_text_is_embedded_once_and_each_chunk_gets_its_vector(store):
    embedder = CountingEmbedder(store)
    chunks = [Chunk("a.md", "", "one"), Chunk("b.md", "", "three"), Chunk("c.md", "", "one")]
    vectors, new = embed_chunks(embedder, chunks)
    assert (vectors[:, 0].tolist(), new) == ([3, 5, 3], 2)
    assert embedder.embedded == ["one", "three"]
    again = CountingEmbedder(store)
    more, new = embed_chunks(again, [*chunks, Chunk("d.md", "", "seven..")])
    assert (more[:, 0].tolist(), new, again.embedded) == ([3, 5, 3, 7], 1, ["seven.."])
    assert embed_chunks(again, [])[1] == 0


def test_a_build_that_was_cut_off_goes_on_where_it_was(store):
    chunks = [Chunk("a.md", "", f"passage {at}") for at in range(300)]
    first = CountingEmbedder(store, fail_at=256)
    with pytest.raises(KeyboardInterrupt):
        embed_chunks(first, chunks)
    second, seen = CountingEmbedder(store), []
    vectors, new = embed_chunks(second, chunks, on_progress=lambda *step: seen.append(step))
    assert (len(first.embedded), new, len(vectors)) == (256, 44, 300)
    assert not set(first.embedded) & set(second.embedded)
    assert seen == [("embed", 128, 300), ("embed", 256, 300), ("embed", 300, 300)]


@pytest.mark.deep
@pytest.mark.slow
def test_a_corpus_version_is_read_with_names_below_the_tracked_folder(demo: Demo):
    corpus = Corpus(demo.config.corpus_repo)
    v1, v2, workspace = (read_version(corpus, revision) for revision in ("v1", "v2", WORKSPACE))
    assert "mbuf.md" in {chunk.document for chunk in v1.chunks}
    assert v2.documents > v1.documents > 30
    assert set(workspace.chunks) == set(v2.chunks)
    assert v1.problems == ()
    with pytest.raises(NotFound):
        read_version(corpus, "v9")


@pytest.mark.deep
@pytest.mark.slow
def test_a_version_and_a_checked_out_folder_of_it_give_the_same_chunks(demo: Demo):
    corpus = Corpus(demo.config.corpus_repo)
    assert set(read_folder(Path(demo.config.corpus_repo) / "corpus").chunks) == set(read_version(corpus, "v2").chunks)


@pytest.mark.deep
@pytest.mark.slow
def test_the_ingest_stage_indexes_a_folder_and_fails_on_a_document_that_it_cannot_read(tmp_path, folder):
    config = load_config({"QUARTERDECK_HOME": str(tmp_path / "home")})
    with pytest.raises(InvalidInput, match=r"broken.pdf: .*\(2 such documents\)"):
        build_index(folder, tmp_path / "out", config)
    for name in ("broken.pdf", "latin.txt"):
        (folder / name).unlink()
    assert build_index(folder, tmp_path / "out", config) == 3
    assert build_index(folder, tmp_path / "out", config) == 3
    assert {chunk.document for chunk in LanceIndexes(tmp_path / "out").list_chunks("chunks")} == {
        "a.md", "c.html", "guide/b.rst",
    }  # fmt: skip
    (tmp_path / "empty").mkdir()
    with pytest.raises(InvalidInput, match="has no documents with text"):
        build_index(tmp_path / "empty", tmp_path / "out", config)
    assert LanceIndexes(tmp_path / "out").count("chunks") == 3

"""`quarterdeck index map`: learned, kept with its audit entry, and what is wrong is one line."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from benchmarks.index_swap import HashEmbedder
from core.audit.acts import Act
from core.drift.report import list_model_maps
from core.embedding.chunks import Chunk
from core.embedding.embed import DEFAULT_MODEL
from core.indexes.builds import build_version
from core.indexes.ingest import DocumentSource
from core.indexes.operations import swap_index
from quarterdeck.recorder import append_retrievals
from quarterdeck.retrieval import Retrieval
from quarterdeck.scope import DEFAULT_SCOPE
from quarterdeck.store import Store
from tests.app.commands.running import Run, only_line

ACT = Act("tester", "set up")
TEXTS = [f"how do I set port {at}" for at in range(120)]


def log(store: Store, model: str | None) -> None:
    noon = datetime.now(UTC).replace(hour=12, minute=0, second=0, microsecond=0) - timedelta(days=2)
    append_retrievals(store, [Retrieval(noon, text, 0.5, model=model) for text in TEXTS])


@pytest.fixture
def built(store: Store, tmp_path: Path) -> Store:
    """Indexes of two models with half of the texts, and every vector cached."""
    for name, model, dimension in (("docs-v1", DEFAULT_MODEL, 48), ("docs-v2", DEFAULT_MODEL, 48), ("other", "o", 32)):
        embedder = HashEmbedder(dimension, store)
        embedder.model = model  # the cache has every vector, so that no model is loaded
        embedder.embed(TEXTS)
        rows = tuple(Chunk(f"{at}.md", "", text) for at, text in enumerate(TEXTS[:60]))
        source = DocumentSource(name, len(rows), rows)
        build_version(store, embedder, source, ACT, location=str(tmp_path / "indexes"), name=name)
    swap_index(store, "default", "docs-v1", ACT, expected=None)
    return store


def test_a_map_is_kept_and_says_whose_names_it_needs(built: Store, url: str, quarterdeck: Run) -> None:
    log(built, "text-2")
    answer = quarterdeck("index", "map", "other", "--reason", "moves", "--database", url)
    assert answer.code == 0, answer
    assert f"{DEFAULT_MODEL} -> o, by 120 questions asked under both" in answer.out
    assert "the map misses the mean by 0." in answer.out
    assert f"note: default logs text-2 as `model`, not {DEFAULT_MODEL}: the map is used once it does" in answer.out
    (kept,) = list_model_maps(built, DEFAULT_SCOPE)
    assert (kept.former, kept.model, kept.pairs) == (DEFAULT_MODEL, "o", 120)
    (entry,) = quarterdeck("audit", "list", "--limit", "1", "--database", url, "--json").json
    assert (entry["action"], entry["reason"]) == ("drift.map", "moves")
    log(built, DEFAULT_MODEL)
    again = quarterdeck("index", "map", "other", "--reason", "again", "--database", url)
    assert "note:" not in again.out
    assert len(list_model_maps(built, DEFAULT_SCOPE)) == 1


@pytest.mark.sqlite_only("what is refused is refused before the store is written")
def test_what_cannot_be_mapped_is_one_line(built: Store, url: str, quarterdeck: Run) -> None:
    def refuse(*given: object) -> str:
        return only_line(quarterdeck("index", "map", *given, "--database", url), 2)

    assert "a map needs at least 100 asked under both models, not 0" in refuse("other", "--reason", "moves")
    log(built, DEFAULT_MODEL)
    assert "docs-v2 has the model of the live index" in refuse("docs-v2", "--reason", "moves")
    assert "no index 'gone' is registered" in refuse("gone", "--reason", "moves")
    assert "reason: is empty" in refuse("other", "--reason", " ")
    assert "nope" in refuse("other", "--reason", "moves", "--alias", "nope")
    assert list_model_maps(built, DEFAULT_SCOPE) == ()

"""`quarterdeck replay` and `quarterdeck gate replay`, with a store whose vectors are all cached."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from xml.etree import ElementTree

import pytest

from benchmarks.index_swap import HashEmbedder
from core.audit.acts import Act
from core.embedding.chunks import Chunk
from core.embedding.embed import DEFAULT_MODEL
from core.indexes.builds import build_version
from core.indexes.ingest import DocumentSource
from core.indexes.operations import swap_index
from quarterdeck.recorder import append_retrievals
from quarterdeck.retrieval import Retrieval
from quarterdeck.store import Store
from tests.app.commands.running import Run, only_line

ACT = Act("tester", "set up")
TEXTS = [f"how do I set port {at}" for at in range(40)]


@pytest.fixture
def asked(store: Store, tmp_path: Path) -> Store:
    """Forty questions that are passages of docs-v1 word for word; docs-v2 lacks half of them."""
    embedder = HashEmbedder(48, store)
    embedder.model = DEFAULT_MODEL  # the cache has every vector, so that the model itself is never loaded
    now = datetime.now(UTC)
    append_retrievals(store, [Retrieval(now - timedelta(days=2), text, 1.0) for text in TEXTS])
    embedder.embed(TEXTS)
    for name, texts in (("docs-v1", TEXTS), ("docs-v2", TEXTS[:20])):
        rows = tuple(Chunk(f"{at}.md", "", text) for at, text in enumerate(texts))
        build_version(
            store, embedder, DocumentSource(name, len(rows), rows), ACT, location=str(tmp_path / "indexes"), name=name
        )
    swap_index(store, "default", "docs-v1", ACT, expected=None)
    return store


@pytest.mark.usefixtures("asked")
def test_a_replay_is_printed_and_recorded_with_a_reason(url: str, quarterdeck: Run) -> None:
    found = quarterdeck("replay", "docs-v2", "--no-topics", "--database", url, "--json").json
    assert (found["replayed"], found["embedded"], found["entry"]) == (40, 0, None)
    assert found["score"]["high"] < 0
    assert len(found["changed"]) == 20
    answer = quarterdeck("replay", "docs-v2", "--no-topics", "--record", "--reason", "smaller", "--database", url)
    assert answer.code == 0, answer
    assert "docs-v2 against docs-v1: 40 of 40 distinct questions" in answer.out
    assert "recorded in the ledger (audit entry" in answer.out
    (entry,) = quarterdeck("audit", "list", "--limit", "1", "--database", url, "--json").json
    assert (entry["action"], entry["target"], entry["reason"]) == ("ledger.predict", "version:docs-v2", "smaller")
    assert entry["after"]["value"] == pytest.approx(found["score"]["value"], abs=1e-4)


@pytest.mark.usefixtures("asked")
def test_what_cannot_be_replayed_is_said_in_one_line(url: str, quarterdeck: Run) -> None:
    line = only_line(quarterdeck("replay", "docs-v9", "--database", url), 2)
    assert "no index 'docs-v9' is registered" in line
    assert "--reason" in only_line(quarterdeck("replay", "docs-v2", "--record", "--database", url), 2)


@pytest.mark.usefixtures("asked")
def test_the_gate_fails_an_index_that_loses_pages_and_writes_reports_without_questions(
    url: str, quarterdeck: Run, tmp_path: Path
) -> None:
    junit, summary = tmp_path / "gate.xml", tmp_path / "gate.md"
    given = ("gate", "replay", "docs-v2", "--no-topics", "--database", url, "--junit", junit, "--summary", summary)
    answer = quarterdeck(*given)
    assert answer.code == 1
    assert "FAIL mean score" in answer.out
    assert "ok   enough questions" in answer.out
    suite = ElementTree.parse(junit).getroot()[0]
    assert (suite.get("name"), suite.get("tests")) == ("replay docs-v2 against docs-v1", "4")
    assert "### ❌ replay:" in summary.read_text()
    assert "how do I" not in answer.out + junit.read_text() + summary.read_text()
    assert "how do I set port" in quarterdeck(*given, "--questions").out


@pytest.mark.usefixtures("asked")
def test_the_gate_passes_with_wider_thresholds(url: str, quarterdeck: Run, tmp_path: Path) -> None:
    thresholds = tmp_path / "gates.yaml"
    thresholds.write_text("replay: {score_drop: 1.0, low_share_rise: 1.0}")
    answer = quarterdeck("gate", "replay", "docs-v2", "--no-topics", "--thresholds", thresholds, "--database", url)
    assert answer.code == 0, answer
    assert "replay docs-v2 against docs-v1: passed" in answer.out

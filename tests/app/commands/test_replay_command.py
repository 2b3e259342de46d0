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
from core.prompts.answers import REFUSAL
from core.replay.remembered import replaying_alone
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
    embedder.embed([*TEXTS, REFUSAL])
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


PROMPT = """---
name: qa
version: {version}
top_k: {top_k}
max_sentences: 1
---
Answer from the context alone.
{{context}}
{{question}}
"""


@pytest.mark.deep
@pytest.mark.usefixtures("asked")
@pytest.mark.sqlite_only("the store is the same; the chain is what is tested")
def test_a_chain_with_a_reranker_and_a_prompt_is_replayed_offline(url: str, quarterdeck: Run, tmp_path: Path) -> None:
    """The pages have no sentence, so both prompts refuse every question."""
    for version, top_k in ((1, 1), (2, 3)):
        (tmp_path / f"v{version}.md").write_text(PROMPT.format(version=version, top_k=top_k))
    chain = ("docs-v2", "--reranker", "bm25", "--prompt", tmp_path / "v2.md", "--live-prompt", tmp_path / "v1.md")
    given = ("replay", *chain, "--no-topics", "--database", url)
    found = quarterdeck(*given, "--json").json
    assert found["about"]["candidate"] == "docs-v2 + reranker bm25 + prompt qa-v2"
    assert found["answers"]["compared"] == 40
    assert found["answers"]["candidate_cost_usd"] > found["answers"]["live_cost_usd"]
    assert found["answers"]["refused"]["candidate"] == 1
    assert quarterdeck(*given, "--json").json["answers"]["remembered"] == 80
    kept = quarterdeck(*given, "--keep")
    assert kept.code == 0, kept
    assert "faithfulness " in kept.out
    assert "how do I" not in kept.out
    gate = quarterdeck("gate", *given)
    assert "enough answers: 40 questions" in gate.out
    assert "cost of an answer" in gate.out


@pytest.mark.usefixtures("asked")
@pytest.mark.sqlite_only("what is refused is refused before the store is searched")
def test_what_is_wrong_with_a_candidate_is_one_line(url: str, quarterdeck: Run, tmp_path: Path) -> None:
    def refuse(*given: object) -> str:
        return only_line(quarterdeck(*given, "--database", url), 2)

    assert "candidate: give an index, or one of" in refuse("replay")
    assert "reranker: must be bm25" in refuse("replay", "--reranker", "magic")
    assert "none.md: cannot be read: No such file" in refuse("replay", "--prompt", tmp_path / "none.md")
    assert "none.yaml: cannot be read: No such file" in refuse("gate", "replay", "docs-v2", "--thresholds", "none.yaml")
    assert "max-cost-usd: say what the replay may cost" in refuse("replay", "docs-v2", "--answerer", "openai")
    (tmp_path / "v1.md").write_text(PROMPT.format(version=1, top_k=1))
    line = only_line(quarterdeck("replay", "--prompt", tmp_path / "v1.md", "--database", url), 1)
    assert "name the prompt that answers now with --live-prompt" in line
    record = ("replay", "--reranker", "bm25", "--record", "--reason", "try")
    assert "about: no index goes live here" in refuse(*record)
    long = f"http://rank.example.org/{'x' * 300}"
    assert "candidate: must be at most" in refuse("replay", "--reranker", long, "--keep")


@pytest.mark.usefixtures("asked")
@pytest.mark.sqlite_only("the lock is a file")
def test_a_second_replay_of_the_same_candidate_is_one_line(
    url: str, quarterdeck: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QUARTERDECK_HOME", str(tmp_path / "home"))
    with replaying_alone(tmp_path / "home" / "replays", "docs-v2", "default in production"):
        answer = quarterdeck("replay", "docs-v2", "--no-topics", "--database", url)
    assert "docs-v2 is already being replayed for default in production; wait for it" in answer.err
    assert len(answer.err.splitlines()) == 1


@pytest.mark.usefixtures("asked")
@pytest.mark.sqlite_only("the ledger is tested on both in tests/core/ledger")
def test_other_passages_are_predicted_about_the_alias(url: str, quarterdeck: Run, tmp_path: Path) -> None:
    (tmp_path / "pages").mkdir()
    for at, text in enumerate(TEXTS):
        (tmp_path / "pages" / f"{at}.txt").write_text(text)
    answer = quarterdeck(
        "replay", "--documents", tmp_path / "pages", "--characters", "300", "--no-topics", "--record",
        "--reason", "smaller", "--database", url,
    )  # fmt: skip
    assert answer.code == 0, answer
    (entry,) = quarterdeck("audit", "list", "--limit", "1", "--database", url, "--json").json
    assert entry["target"] == "index:default"

"""The bench that prompts are evaluated on: every fallback for something that cannot be read is reported."""

import json
import logging
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from core.config import Config, load_config
from core.indexes import ingest
from core.prompts.bench import open_embedder
from core.prompts.gatekeeper import Files, run_prompt_gate
from core.prompts.trials import Trial, run_trial
from core.tracking.cases import dataset_digest

PROMPTS = tuple(Path("data/demo/prompts/qa").absolute() / f"v{number}.md" for number in (2, 3))


@pytest.fixture
def config(tmp_path: Path) -> Config:
    """A home with nothing in it."""
    return load_config({"QUARTERDECK_HOME": str(tmp_path / "home")})


@pytest.fixture
def files(tmp_path: Path) -> Files:
    """Four cases, and a folder with the one document that answers them."""
    rows = [
        {"id": f"q{i}", "question": f"How large is headroom {i}?", "expected_documents": ["mbuf.md"],
         "reference_answer": "128 bytes", "answerable": True}
        for i in range(4)
    ]  # fmt: skip
    (tmp_path / "cases.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "mbuf.md").write_text("# Mbuf\n\nThe headroom of an mbuf is 128 bytes.\n")
    return replace(Files(), cases=tmp_path / "cases.jsonl", corpora=(tmp_path / "docs",))


def test_an_embedder_without_the_decks_store_says_where_vectors_are_kept_and_why(
    config: Config, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "quarterdeck"), open_embedder(config):
        pass
    (told,) = (record.getMessage() for record in caplog.records)
    assert f"vectors are kept in {config.home / 'gate-vectors.db'}" in told
    assert "quarterdeck.db" in told.partition("because")[2]


def test_a_build_without_a_cache_says_why(config: Config, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "quarterdeck"):
        ingest._embedder(config)
    (told,) = (record.getMessage() for record in caplog.records)
    assert told.startswith("vectors are not cached, so that building is slow: ")
    assert "quarterdeck.db" in told


@pytest.mark.deep
@pytest.mark.slow
def test_a_gate_that_cannot_read_the_prompt_in_production_says_so_and_with_what_it_compares(
    config: Config, files: Files, caplog: pytest.LogCaptureFixture
) -> None:
    broken = config.home / "mlflow" / "mlflow.db"
    broken.parent.mkdir(parents=True)
    broken.write_bytes(b"not a database" * 1_000)
    with caplog.at_level(logging.WARNING, "quarterdeck"):
        (report,) = run_prompt_gate(config, PROMPTS[1:], files=files)
    (note,) = (note for note in report.notes if "production" in note)
    assert note.startswith("Not compared with the prompt in production, which could not be read: MLflow store")
    assert "not a database" in note
    assert any("is not compared with the prompt in production" in record.getMessage() for record in caplog.records)


@pytest.mark.deep
@pytest.mark.slow
def test_a_trial_computes_the_digest_of_its_cases_once(
    config: Config, files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: Counter[str] = Counter()

    def count(cases: Any) -> str:
        calls["dataset_digest"] += 1
        return dataset_digest(cases)

    for name, module in list(sys.modules.items()):
        if name.startswith("core.prompts.") and getattr(module, "dataset_digest", None) is dataset_digest:
            monkeypatch.setattr(module, "dataset_digest", count)
    outcome = run_trial(config, Trial(PROMPTS, cases=files.cases, corpora=files.corpora))
    assert {result.dataset_digest for result in outcome.results} == {outcome.results[0].dataset_digest}
    assert len(outcome.results) == 2
    assert outcome.is_complete
    assert calls["dataset_digest"] == 1

"""The demo is real: its scores are what the index answers, its versions restore, and the labs hold on it."""

import json
import os
import random
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from core import demo as demo_room
from core.audit.trail import AuditFilter, list_audit
from core.config import PROJECT, load_config
from core.coverage.report import report_coverage
from core.demo.build import build_demo
from core.embedding.embed import Embedder
from core.errors import Conflict, SourceUnavailable
from core.flags.store import list_flags
from core.indexes.backends import LanceIndexes
from core.prompts.answerers import SentenceVectors, extractive_pipeline
from core.prompts.contests import report_prompts
from core.prompts.decisions import WinnerRule
from core.prompts.evaluate import EXPERIMENT
from core.prompts.judges import find_supported
from core.prompts.prices import parse_prices
from core.prompts.prompts import parse_prompt
from core.tracking.cases import Case
from core.tracking.gateway import Tracking
from core.tracking.runs import RunFilter
from quarterdeck import Quarterdeck, Retrieval
from quarterdeck.definitions import rollout_pct
from quarterdeck.flags import FlagSet
from quarterdeck.recorder import append_retrievals
from quarterdeck.scope import DEFAULT_SCOPE
from quarterdeck.store import Store
from tests.conftest import Demo

CONTENT = PROJECT / "data" / "demo"
PROGRAM = Path(sys.executable).with_name("quarterdeck")
USERS = [f"user-{number}" for number in range(100_000)]

pytestmark = pytest.mark.slow


@pytest.fixture
def demo_store(demo: Demo) -> Iterator[Store]:
    with closing(Store(demo.config.database_url)) as store:
        yield store


def ask_command(demo: Demo, *arguments: str) -> Any:
    """What a command of the real program prints as JSON."""
    done = subprocess.run(
        [PROGRAM, *arguments, "--json"], env=demo.environ, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def read_queries(name: str) -> set[str]:
    return {line.strip() for line in (CONTENT / "queries" / f"{name}.txt").read_text().splitlines() if line.strip()}


def read_log(demo: Demo) -> list[sqlite3.Row]:
    with closing(sqlite3.connect(demo.config.home / "quarterdeck.db")) as connection:
        connection.row_factory = sqlite3.Row
        return connection.execute("SELECT * FROM retrievals ORDER BY id").fetchall()


def test_drift_by_command_says_drifting_and_tells_to_reindex(demo: Demo) -> None:
    found = ask_command(demo, "drift")
    assert found["status"] == "drifting"
    assert found["delta"] < -0.05
    assert found["delta"] == pytest.approx(found["recent_avg_score"] - found["baseline_avg_score"], abs=0.02)
    assert "re-index" in found["action"]


def test_topics_by_command_find_the_new_subject_as_the_largest(demo: Demo) -> None:
    topics = ask_command(demo, "topics", "--clusters", "3")
    assert len(topics) == 3
    assert [topic["count"] for topic in topics] == sorted((topic["count"] for topic in topics), reverse=True)
    assert "vpp" in topics[0]["label"].lower()
    samples = topics[0]["sample_queries"]
    assert len(set(samples) & read_queries("vpp")) > len(samples) / 2


@pytest.mark.deep
def test_most_queries_of_the_largest_topic_are_about_vpp(demo: Demo, demo_store: Store) -> None:
    embedder = Embedder(demo.config.embedding_model)
    today = datetime.now(UTC).date()
    coverage = report_coverage(demo_store, embedder, scope=DEFAULT_SCOPE, today=today, clusters=3)
    members = [coverage.queries[at] for at in coverage.topics.topics[0].members]
    about_vpp = sum(query.count for query in members if query.text in read_queries("vpp"))
    assert about_vpp / sum(query.count for query in members) > 0.5


def test_the_best_prompt_by_faithfulness_per_cost_is_named(demo: Demo) -> None:
    tracking = Tracking(demo.config.tracking_uri)
    found = report_prompts(tracking, experiment=EXPERIMENT, rule=WinnerRule.FAITHFULNESS_PER_COST)
    runs = [each.run for each in found.contenders]
    best = max(runs, key=lambda run: run.metrics["faithfulness_mean"] / run.metrics["cost_usd_mean"])
    assert len(found.judged) == 3
    assert found.decision is not None
    assert found.decision.winner is not None
    assert found.decision.winner.label == best.name
    assert best.name in found.decision.reason


def test_each_prompt_is_a_registered_version_and_a_run_over_twenty_cases(demo: Demo) -> None:
    tracking = Tracking(demo.config.tracking_uri)
    runs = tracking.list_runs(RunFilter(EXPERIMENT))
    assert sorted(run.params["version"] for run in runs) == ["1", "2", "3"]
    assert {len(tracking.list_case_results(run.run_id)) for run in runs} == {20}
    assert all(run.params["answerer"].startswith("extractive") for run in runs)
    versions = {prompt.version: prompt.text for prompt in tracking.list_prompts()}
    assert sorted(versions) == [1, 2, 3]
    production = tracking.production_version("qa")
    assert production is not None
    assert production.version == 2


def expected_pages(version: str) -> dict[str, bytes]:
    """The pages of a corpus version as they were written by hand: v2 renames and replaces some of v1's."""
    pages = {path.name: path.read_bytes() for path in (CONTENT / "corpus" / "v1").glob("*.md")}
    if version == "v2":
        changes = yaml.safe_load((CONTENT / "corpus" / "CHANGES.yaml").read_text())
        for old, new in changes["renamed"].items():
            pages[new] = pages.pop(old)
        for name in changes["removed"]:
            del pages[name]
        pages |= {path.name: path.read_bytes() for path in (CONTENT / "corpus" / "v2").glob("*.md")}
    return pages


class Clone:
    """A fresh clone of the demo's corpus repository, with an empty cache, whose remote is the demo's."""

    def __init__(self, demo: Demo, folder: Path) -> None:
        self.root = folder / "clone"
        self._environ = demo.environ | {
            "DVC_SITE_CACHE_DIR": str(folder / "site-cache"),
            "PATH": f"{PROGRAM.parent}{os.pathsep}{os.environ['PATH']}",
        }
        self.run("git", "clone", "--quiet", str(demo.config.home / "corpus"), str(self.root), cwd=folder)
        self.dvc("remote", "modify", "--local", "local", "url", str(demo.config.home / "dvc-remote"))

    def dvc(self, *arguments: str) -> str:
        return self.run(sys.executable, "-m", "dvc", *arguments)

    def run(self, *command: str, cwd: Path | None = None) -> str:
        done = subprocess.run(
            command, cwd=cwd or self.root, env=self._environ, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    @property
    def pages(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in (self.root / "corpus").iterdir()}


def test_both_versions_restore_byte_for_byte_in_a_fresh_clone(demo: Demo, tmp_path: Path) -> None:
    clone = Clone(demo, tmp_path)
    for version, count in (("v1", 38), ("v2", 55)):
        clone.run("git", "checkout", "--quiet", version)
        clone.dvc("pull", "--quiet")
        assert clone.pages == expected_pages(version)
        assert len(clone.pages) == count
        assert (clone.root / "index" / "chunks.lance").is_dir()


def test_the_pipeline_runs_only_when_the_corpus_changed(demo: Demo, tmp_path: Path) -> None:
    clone = Clone(demo, tmp_path)
    clone.dvc("pull", "--quiet")
    assert "Stage 'ingest' didn't change, skipping" in clone.dvc("repro")
    page = clone.root / "corpus" / "mbuf.md"
    content = page.read_text()
    page.unlink()
    page.write_text(content + "\nOne more line.\n")
    assert "Running stage 'ingest'" in clone.dvc("repro", "--dry")


def test_a_rollout_of_twenty_percent_reaches_a_fifth_of_the_users(demo: Demo, tmp_path: Path) -> None:
    with Quarterdeck(demo.config.database_url, snapshot_path=tmp_path / "snapshot.json") as deck:
        share = sum(deck.is_enabled("new_prompt_v3", user) for user in USERS) / len(USERS)
    assert share == pytest.approx(0.20, abs=0.01)


@pytest.mark.deep
def test_raising_the_rollout_from_five_to_twenty_percent_moves_nobody_out(demo_store: Store) -> None:
    changed = next(e for e in list_audit(demo_store, AuditFilter(target="new_prompt_v3")) if e.action == "flag.update")
    states = (changed.before or {}, changed.after or {})
    assert [rollout_pct(state) for state in states] == [5, 20]
    few, more = (
        {
            user
            for user in USERS
            if FlagSet.from_definitions({"flags": {"new_prompt_v3": s}}).is_enabled("new_prompt_v3", user)
        }
        for s in states
    )
    assert 0.04 < len(few) / len(USERS) < 0.06
    assert few < more


def test_the_flags_are_those_of_the_story_each_with_its_audit_entries(demo_store: Store) -> None:
    found = {
        flag.key: (flag.definition["state"], rollout_pct(flag.definition))
        for flag in list_flags(demo_store, "production")
    }
    assert found == {
        "answer-service": ("ENABLED", 5),
        "contextual_retrieval": ("DISABLED", 100),
        "new_prompt_v3": ("ENABLED", 20),
        "use_hyde": ("DISABLED", 100),
        "use_reranker": ("ENABLED", 100),
    }
    tried = {flag.key: rollout_pct(flag.definition) for flag in list_flags(demo_store, "staging")}
    assert tried == {"contextual_retrieval": 100, "new_prompt_v3": 100, "use_hyde": 100}
    assert {flag.definition["state"] for flag in list_flags(demo_store, "staging")} == {"ENABLED"}
    assert {entry.target for entry in list_audit(demo_store)} == {*found, "default", "docs-v1", "docs-v2"}


def test_logged_scores_are_what_the_index_answers(demo: Demo) -> None:
    rows = random.Random(1).sample(read_log(demo), 20)
    vectors = Embedder(demo.config.embedding_model).embed([row["query"] for row in rows])
    found = LanceIndexes(demo.config.index_uri).search("docs-v1", vectors, top_k=1)
    assert [row["score"] for row in rows] == pytest.approx([hits[0].score for hits in found], abs=1e-5)


@pytest.mark.deep
def test_logged_costs_and_faithfulness_are_those_of_the_offline_answer_and_nobody_rated_it(demo: Demo) -> None:
    embedder, indexes = Embedder(demo.config.embedding_model), LanceIndexes(demo.config.index_uri)
    vectors = SentenceVectors(embedder)
    prices = parse_prices((PROJECT / "data" / "prices.yaml").read_text())
    rows = read_log(demo)
    assert {(row["feedback"], row["latency_ms"]) for row in rows} == {(None, None)}
    for row in random.Random(2).sample(rows, 10):
        path = CONTENT / "prompts" / "qa" / f"{row['prompt_version']}.md"
        answer = extractive_pipeline(
            parse_prompt(path.read_text()),
            search=lambda text, k: indexes.search("docs-v1", embedder.embed([text]), top_k=k)[0],
            vectors=vectors,
            prices=prices,
        )(Case("c", row["query"], (), "", answerable=True))
        supported = find_supported(answer, vectors)
        assert row["cost_usd"] == pytest.approx(answer.cost_usd)
        assert row["faithfulness"] == (sum(supported) / len(supported) if supported else None)


def test_the_log_covers_37_days_and_vpp_comes_up_in_the_last_seven(demo: Demo) -> None:
    rows, vpp = read_log(demo), read_queries("vpp")
    end = datetime.fromisoformat(json.loads((demo.config.home / "demo.json").read_text())["built"]).timestamp() * 1000
    days_ago = [(end - row["ts_ms"]) / 86_400_000 for row in rows]
    assert 36 < max(days_ago) <= 37
    assert min(days_ago) >= 0
    shares = []
    for first, last in ((37, 7), (7, 4), (4, 0)):
        asked = [row["query"] in vpp for row, ago in zip(rows, days_ago, strict=True) if last <= ago < first]
        shares.append(sum(asked) / len(asked))
    assert shares[0] == 0
    assert 0.1 < shares[1] < shares[2] < 0.65


def test_the_traffic_is_the_same_each_time_it_is_drawn(demo: Demo, demo_store: Store) -> None:
    rows = read_log(demo)
    now = datetime.fromisoformat(json.loads((demo.config.home / "demo.json").read_text())["built"])
    replies = {
        (row["query"], row["prompt_version"]): demo_room.Reply(row["score"], row["cost_usd"], row["faithfulness"])
        for row in rows
    }
    flags = {flag.key: flag.definition for flag in list_flags(demo_store, "production")}
    drawn = demo_room._draw_traffic(demo_room._load_queries(), replies, FlagSet.from_definitions({"flags": flags}), now)
    columns = (
        "ts_ms", "query", "score", "session_id", "arm", "prompt_version", "index_version", "cost_usd", "faithfulness",
    )  # fmt: skip
    assert [tuple(getattr(each, name) for name in columns) for each in drawn] == [
        tuple(row[name] for name in columns) for row in rows
    ]


def test_building_again_changes_nothing(demo: Demo, demo_store: Store) -> None:
    before = (demo.config.home / "demo.json").read_text(), len(read_log(demo)), len(list_audit(demo_store))
    said: list[str] = []
    assert build_demo(demo.config, now=datetime.now(UTC), say=said.append) is False
    assert ((demo.config.home / "demo.json").read_text(), len(read_log(demo)), len(list_audit(demo_store))) == before
    assert said == []


@pytest.mark.parametrize("reset", [False, True])
def test_a_store_with_data_of_others_is_left_alone(reset: bool, store: Store, url: str, tmp_path: Path) -> None:
    append_retrievals(store, [Retrieval(datetime.now(UTC), "a real question", 0.7)])
    config = load_config({"QUARTERDECK_HOME": str(tmp_path / "home")}, database_url=url)
    with pytest.raises(Conflict, match="has data that is not the demo's"):
        build_demo(config, now=datetime.now(UTC), reset=reset, say=print)
    assert not (tmp_path / "home").exists()
    with store.read() as connection:
        assert connection.exec_driver_sql("SELECT query FROM retrievals").all() == [("a real question",)]


def test_a_reset_leaves_a_store_alone_that_another_demo_did_not_make(store: Store, url: str, tmp_path: Path) -> None:
    append_retrievals(store, [Retrieval(datetime.now(UTC), "a real question", 0.7)])
    home = tmp_path / "home"
    home.mkdir()
    for complete in (True, False):
        (home / "demo.json").write_text(f'{{"complete": {str(complete).lower()}, "store": "sqlite:////elsewhere.db"}}')
        config = load_config({"QUARTERDECK_HOME": str(home)}, database_url=url)
        with pytest.raises(Conflict, match="has data that is not the demo's"):
            build_demo(config, now=datetime.now(UTC), reset=True, say=print)
    with store.read() as connection:
        assert connection.exec_driver_sql("SELECT query FROM retrievals").all() == [("a real question",)]


def test_a_machine_without_git_gets_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    config = load_config({"QUARTERDECK_HOME": str(tmp_path / "home")})
    with pytest.raises(SourceUnavailable, match="`git` cannot be run: .*is it installed"):
        build_demo(config, now=datetime.now(UTC), say=print)


def test_a_demo_that_was_cut_off_is_built_again(demo: Demo) -> None:
    """The shared demo began as a half-built one (see its fixture)."""
    assert demo.said[0] == "The last build of the demo was interrupted: starting again."
    assert json.loads((demo.config.home / "demo.json").read_text())["complete"] is True
    assert not (demo.config.home / "corpus" / "half-written").exists()
    assert len(Tracking(demo.config.tracking_uri).list_runs(RunFilter(EXPERIMENT))) == 3
    with closing(Store(demo.config.database_url)) as store:
        assert len(list_flags(store, "production")) == 5

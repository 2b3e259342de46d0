"""The demo is real: its scores are what the index answers, its versions restore, and the labs hold on it."""

import json
import os
import random
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from core.audit.trail import AuditFilter, list_audit
from core.config import PROJECT, load_config
from core.coverage.report import report_coverage
from core.demo import build as demo_room
from core.demo.build import build_demo
from core.demo.traffic import begin_new_topic, begin_outage, draw_traffic
from core.drift.report import report_drift
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
from quarterdeck.clock import to_ms
from quarterdeck.definitions import rollout_pct
from quarterdeck.flags import FlagSet
from quarterdeck.recorder import append_retrievals
from quarterdeck.scope import Scope
from quarterdeck.store import Store
from tests.conftest import CHAT, Demo

CONTENT = PROJECT / "data" / "demo"
PROGRAM = Path(sys.executable).with_name("quarterdeck")
USERS = [f"user-{number}" for number in range(100_000)]

SEARCH, STAGED = Scope("production", "search-box"), Scope("staging", "docs-chat")
SCOPES = (CHAT, SEARCH, STAGED)

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


def read_log(demo: Demo, scope: Scope = CHAT) -> list[sqlite3.Row]:
    """The rows of a scope, read past all of our own code."""
    query = (
        "SELECT retrievals.* FROM retrievals JOIN scopes ON scopes.id = scope_id "
        "WHERE environment = ? AND service = ? ORDER BY retrievals.id"
    )
    with closing(sqlite3.connect(demo.config.home / "quarterdeck.db")) as connection:
        connection.row_factory = sqlite3.Row
        return connection.execute(query, scope).fetchall()


def built_at(demo: Demo) -> datetime:
    return datetime.fromisoformat(json.loads((demo.config.home / "demo.json").read_text())["built"])


def test_drift_by_command_says_drifting_and_tells_to_reindex(demo: Demo) -> None:
    found = ask_command(demo, "drift", "--service", "docs-chat")
    assert (found["environment"], found["service"], found["status"]) == ("production", "docs-chat", "drifting")
    changed = datetime.fromisoformat(f"{found['changed_on']}T00:00:00+00:00")
    assert abs(changed - begin_new_topic(built_at(demo))) <= timedelta(days=1)
    assert found["delta"] < -0.05
    assert found["delta"] == pytest.approx(found["recent_avg_score"] - found["baseline_avg_score"], abs=0.02)
    assert "re-index" in found["action"]


@pytest.mark.deep
def test_topics_by_command_find_the_new_subject_as_the_largest(demo: Demo) -> None:
    topics = ask_command(demo, "topics", "--service", "docs-chat", "--clusters", "3")
    assert len(topics) == 3
    assert [topic["count"] for topic in topics] == sorted((topic["count"] for topic in topics), reverse=True)
    assert "vpp" in topics[0]["label"].lower()
    samples = topics[0]["sample_queries"]
    assert len(set(samples) & read_queries("vpp")) > len(samples) / 2


@pytest.mark.deep
def test_most_queries_of_the_largest_topic_are_about_vpp(demo: Demo, demo_store: Store) -> None:
    embedder = Embedder(demo.config.embedding_model)
    today = datetime.now(UTC).date()
    coverage = report_coverage(demo_store, embedder, scope=CHAT, today=today, clusters=3)
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


@pytest.mark.deep
def test_both_versions_restore_byte_for_byte_in_a_fresh_clone(demo: Demo, tmp_path: Path) -> None:
    clone = Clone(demo, tmp_path)
    for version, count in (("v1", 38), ("v2", 55)):
        clone.run("git", "checkout", "--quiet", version)
        clone.dvc("pull", "--quiet")
        assert clone.pages == expected_pages(version)
        assert len(clone.pages) == count
        assert (clone.root / "index" / "chunks.lance").is_dir()


@pytest.mark.deep
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
    assert {entry.target for entry in list_audit(demo_store)} == {
        *found,
        "default",
        "docs-v1",
        "docs-v2",
        "docs-chat",
        "qa",
    }


def test_logged_scores_are_what_the_index_answers(demo: Demo) -> None:
    rows = random.Random(1).sample(read_log(demo), 20)
    vectors = Embedder(demo.config.embedding_model).embed([row["query"] for row in rows])
    found = LanceIndexes(demo.config.index_uri).search("docs-v1", vectors, top_k=1)
    assert [row["score"] for row in rows] == pytest.approx([hits[0].score for hits in found], abs=1e-5)


@pytest.mark.deep
def test_logged_costs_and_faithfulness_are_those_of_the_offline_answer_and_so_is_the_rating(demo: Demo) -> None:
    embedder, indexes = Embedder(demo.config.embedding_model), LanceIndexes(demo.config.index_uri)
    vectors = SentenceVectors(embedder)
    prices = parse_prices((PROJECT / "data" / "prices.yaml").read_text())
    rows = read_log(demo)
    assert {row["latency_ms"] for row in rows} == {None}
    rated = [row for row in rows if row["feedback"] is not None]
    for row in [*random.Random(2).sample(rows, 10), *random.Random(3).sample(rated, 10)]:
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
        if row["feedback"] is not None:
            nearest = max(vectors.similarities(row["query"], answer.sentences), default=0.0)
            assert row["feedback"] == (1 if nearest >= 0.5 else -1)


def test_the_log_covers_37_days_and_vpp_comes_up_in_the_last_seven(demo: Demo) -> None:
    rows, vpp = read_log(demo), read_queries("vpp")
    end = built_at(demo).timestamp() * 1000
    days_ago = [(end - row["ts_ms"]) / 86_400_000 for row in rows]
    assert 36 < max(days_ago) <= 37
    assert min(days_ago) >= 0
    shares = []
    for first, last in ((37, 7), (7, 4), (4, 0)):
        asked = [row["query"] in vpp for row, ago in zip(rows, days_ago, strict=True) if last <= ago < first]
        shares.append(sum(asked) / len(asked))
    assert shares[0] == 0
    assert 0.1 < shares[1] < 0.65
    assert 0.35 < shares[2] < 0.65


@pytest.mark.deep
def test_the_traffic_is_the_same_each_time_it_is_drawn(demo: Demo, demo_store: Store) -> None:
    flags = {flag.key: flag.definition for flag in list_flags(demo_store, "production")}
    drawn = draw_traffic(
        demo_room._load_queries(),
        FlagSet.from_definitions({"flags": flags}),
        environment="production",
        now=built_at(demo),
    )
    rows = {scope: read_log(demo, scope) for scope in SCOPES}
    assert {each.scope for each in drawn} == set(SCOPES)
    for scope in SCOPES:
        assert [
            (to_ms(each.ts), each.text, each.session_id, each.user_id, each.arm, each.prompt_version,
             each.index_version, each.attributes)
            for each in drawn if each.scope == scope
        ] == [
            (row["ts_ms"], row["query"], row["session_id"], row["user_id"], row["arm"], row["prompt_version"],
             row["index_version"], json.loads(row["attributes"]) if row["attributes"] else None)
            for row in rows[scope]
        ]  # fmt: skip


@pytest.mark.deep
def test_two_services_and_two_environments_report_and_a_command_for_one_lists_them(demo: Demo) -> None:
    listed = ask_command(demo, "services", "list")
    assert [(each["environment"], each["service"], each["dimensions"]) for each in listed] == [
        ("production", "docs-chat", ["tenant"]),
        ("production", "search-box", []),
        ("staging", "docs-chat", ["tenant"]),
    ]
    for command in ("drift", "topics"):
        done = subprocess.run([PROGRAM, command], env=demo.environ, capture_output=True, text=True, check=False)
        assert done.returncode == 2
        assert "production/docs-chat, production/search-box" in done.stderr
    assert len(read_log(demo, SEARCH)) < len(read_log(demo)) / 2


@pytest.mark.deep
def test_staging_has_a_verdict_of_its_own_and_is_searched_in_the_next_index(demo: Demo) -> None:
    found = ask_command(demo, "drift", "--environment", "staging")
    assert (found["service"], found["status"]) == ("docs-chat", "stable")
    rows = read_log(demo, STAGED)
    assert {row["index_version"] for row in rows} == {"docs-v1", "docs-v2"}
    about_vpp = [row for row in rows if row["query"] in read_queries("vpp")]
    assert {row["index_version"] for row in about_vpp} == {"docs-v2"}
    assert sum(row["score"] for row in about_vpp) / len(about_vpp) > 0.5


@pytest.mark.deep
def test_the_deck_calls_the_outage_of_the_search_box_and_since_when(demo: Demo) -> None:
    found = ask_command(demo, "drift", "--service", "search-box")
    yesterday = built_at(demo).date() - timedelta(days=1)
    assert (found["status"], found["outage_since"]) == ("outage", yesterday.isoformat())
    assert found["empty_share"] > 0.1
    assert found["unscored_share"] == 0
    midnight = datetime(yesterday.year, yesterday.month, yesterday.day, tzinfo=UTC).timestamp() * 1000
    rows = read_log(demo, SEARCH)
    before = [row["score"] is None for row in rows if row["ts_ms"] < midnight]
    since = [row["score"] is None for row in rows if row["ts_ms"] >= midnight]
    assert sum(before) / len(before) < 0.05
    assert 0.5 < sum(since) / len(since) < 1


@pytest.mark.deep
def test_what_the_search_box_shows_are_the_hits_above_its_floor(demo: Demo) -> None:
    rows = random.Random(4).sample(read_log(demo, SEARCH)[-400:], 20)
    since = begin_outage(built_at(demo)).timestamp() * 1000
    vectors = Embedder(demo.config.embedding_model).embed([row["query"] for row in rows])
    found = LanceIndexes(demo.config.index_uri).search("docs-v1", vectors, top_k=5)
    for row, hits in zip(rows, found, strict=True):
        floor = 0.7 if row["ts_ms"] >= since else 0.3
        assert {name for name, _ in json.loads(row["documents"])} == {
            hit.document for hit in hits if hit.score >= floor
        }


def test_documents_are_those_of_the_hits_and_their_rollup_counts_them(demo: Demo) -> None:
    rows = random.Random(5).sample(read_log(demo), 20)
    vectors = Embedder(demo.config.embedding_model).embed([row["query"] for row in rows])
    found = LanceIndexes(demo.config.index_uri).search("docs-v1", vectors, top_k=5)
    for row, hits in zip(rows, found, strict=True):
        documents = json.loads(row["documents"])
        assert [name for name, _ in documents] == list(dict.fromkeys(hit.document for hit in hits))
        assert documents[0][1] == pytest.approx(hits[0].score, abs=1e-5)
    every = [name for row in read_log(demo) for name, _ in json.loads(row["documents"])]
    query = "SELECT SUM(n) FROM document_days JOIN scopes ON scopes.id = scope_id WHERE environment = ? AND service = ?"
    with closing(sqlite3.connect(demo.config.home / "quarterdeck.db")) as connection:
        assert connection.execute(query, CHAT).fetchone() == (len(every),)


@pytest.mark.deep
def test_ratings_came_minutes_to_days_after_their_questions(demo: Demo) -> None:
    rated = [
        row for row in ask_command(demo, "questions", "--service", "docs-chat", "--limit", "4000") if row["scores"]
    ]
    assert len(rated) > 100
    assert {(score["name"], score["source"]) for row in rated for score in row["scores"]} == {("feedback", "user")}
    assert {score["value"] for row in rated for score in row["scores"]} == {1, -1}
    assert [row["feedback"] for row in rated] == [row["scores"][0]["value"] for row in rated]
    query = "SELECT scores.ts_ms - retrievals.ts_ms, scores.ts_ms FROM scores JOIN retrievals USING (retrieval_id)"
    with closing(sqlite3.connect(demo.config.home / "quarterdeck.db")) as connection:
        late = connection.execute(query).fetchall()
        assert connection.execute("SELECT COUNT(*) FROM scores WHERE pending > 0").fetchone() == (0,)
    assert min(minutes for minutes, _ in late) >= 60_000
    assert 2 * 86_400_000 < max(minutes for minutes, _ in late) <= 3 * 86_400_000
    assert max(at for _, at in late) <= built_at(demo).timestamp() * 1000


def test_users_are_named_and_tenants_are_among_the_segments(demo: Demo, demo_store: Store) -> None:
    rows = read_log(demo)
    assert all(row["user_id"] and row["session_id"].startswith(f"{row['user_id']}-") for row in rows)
    assert {row["user_id"] for row in read_log(demo, SEARCH)} == {None}
    segments = dict(report_drift(demo_store, scope=CHAT, today=built_at(demo).date()).segments)
    assert sorted(each.segment for each in segments["tenant"]) == ["acme", "borealis", "cobalt"]
    tenants = {row["user_id"]: json.loads(row["attributes"])["tenant"] for row in rows}
    assert all(json.loads(row["attributes"])["tenant"] == tenants[row["user_id"]] for row in rows)


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

"""The overview looks things up: the live corpus version, and the experiment that prompts were evaluated in."""

import sqlite3
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from core.audit.acts import Act
from core.corpus.versions import Version
from core.drift.report import report_drift
from core.errors import NotConnected
from core.flags.canary_plan import DEFAULT_PLAN
from core.flags.operations import create_flag, import_flags
from core.flags.store import get_flag
from core.indexes.operations import register_index, swap_index
from core.indexes.registry import Index
from core.overview import (
    Area,
    Standing,
    describe_areas,
    describe_corpus,
    describe_drift,
    describe_prompts,
    describe_rollouts,
)
from core.prompts.contests import find_experiment
from core.rollouts.canaries import CanaryReport
from core.rollouts.canary import CanaryCall, CanaryVerdict
from core.tracking.cases import CaseResult, render_case_results
from core.tracking.conventions import RunNames
from core.tracking.gateway import Tracking
from quarterdeck.definitions import boolean_flag, canary_flag
from quarterdeck.recorder import append_retrievals
from quarterdeck.retrieval import Retrieval
from quarterdeck.scope import DEFAULT_SCOPE
from quarterdeck.store import Store
from tests.core.drift.test_report import NOW as LAST
from tests.core.drift.test_report import TODAY, write

BUILD = "Build an index of corpus v2"
BY = Act("ada", "test it")
NOW = datetime(2026, 11, 17, tzinfo=UTC)
NEW = Version("b" * 40, "bbbbbbb", ("v2",), "v2", NOW, "ada", "Add VPP", 55, 9, 17, 0, 2, 1, "d")
OLD = Version("a" * 40, "aaaaaaa", ("v1",), "v1", NOW - timedelta(days=9), "ada", "Start", 38, 9, 38, 0, 0, 0, "d")


@dataclass(frozen=True)
class Repository:
    """A corpus of two versions."""

    def list_versions(self) -> tuple[Version, ...]:
        return NEW, OLD

    def count_changes(self, old: str, new: str) -> tuple[int, int, int, int]:
        assert (old, new) == (OLD.revision, NEW.revision)
        return 17, 0, 0, 0


def build(store: Store, version: str) -> None:
    register_index(store, Index(f"docs-{version}", "somewhere", version, "m", 10, NOW, "ada"), BY)


@pytest.mark.parametrize(
    ("built", "live", "sentence", "decision"),
    [
        ((), None, "No index is live; the newest corpus version, v2, has no index yet.", BUILD),
        (("v2",), None, "No index is live; the newest corpus version, v2, is built and waits.", "Ship corpus v2"),
        (("v1",), "v1", "v1 is live; v2 (17 files more) is committed, without an index yet.", BUILD),
        (("v1", "v2"), "v1", "v1 is live; v2 (17 files more) is built and waits.", "Ship corpus v2"),
        (("v1", "b" * 40), "v1", "v1 is live; v2 (17 files more) is built and waits.", "Ship corpus v2"),
        (("v1", "v2"), "v2", "v2, the newest version, is live.", ""),
    ],
)  # fmt: skip
def test_a_newer_version_waits_only_once_its_index_is_built(
    built: tuple[str, ...], live: str | None, sentence: str, decision: str, store: Store
) -> None:
    for version in built:
        build(store, version)
    if live:
        swap_index(store, "default", f"docs-{live}", BY, expected=None)
    area = describe_corpus(store, Repository())  # type: ignore[arg-type]
    assert (area.sentence, area.decision) == (sentence, decision)
    assert area.standing is (Standing.DECIDE if decision else Standing.GOOD)


@pytest.fixture(scope="module")
def tracking(tmp_path_factory: pytest.TempPathFactory) -> Tracking:
    """An experiment of the team's own, with a prompt in production and a better one; newer runs train something."""
    folder = tmp_path_factory.mktemp("mlflow")
    opened = Tracking(f"sqlite:///{folder}/mlflow.db")
    for experiment, version, faithfulness in (("older", 0, 0.9), ("support bot", 1, 0.5), ("support bot", 2, 1.0)):
        prompt = opened.register_prompt("qa", f"Prompt {version}: {{context}}", tags={"version": str(version)})
        cases = [
            CaseResult(
                f"c{at}", "Why?", True, "So.", False, faithfulness, 0.75, True, True, ("a.md",), ("So.",), (True,), 10,
                2, 0.001, None,
            )
            for at in range(20)
        ]  # fmt: skip
        opened.log_evaluation(
            experiment, f"qa-v{version}",
            params={"prompt": "qa", "version": str(version)},
            metrics={"faithfulness_mean": faithfulness, "cost_usd_mean": 0.001},
            artifacts={"cases.json": render_case_results(cases)}, prompt=prompt,
        )  # fmt: skip
    opened.set_prompt_alias("qa", "production", 2)
    for number in range(120):
        opened.log_evaluation("training", f"epoch {number}", params={}, metrics={"loss": 0.5}, artifacts={})
    with sqlite3.connect(folder / "mlflow.db") as connection:
        connection.execute("UPDATE runs SET start_time = start_time + rowid")
    connection.close()
    return opened


@pytest.mark.deep
@pytest.mark.slow
def test_prompts_are_those_of_the_newest_experiment_with_evaluated_runs_whatever_its_name(tracking: Tracking) -> None:
    assert find_experiment(tracking) == "support bot"
    area = describe_prompts(tracking)
    assert (area.standing, area.figure, area.change) == (Standing.DECIDE, "v1", "2 variants")
    assert area.sentence.startswith("v1 is in production; ")
    assert area.decision == "Promote qa-v2"


@pytest.mark.deep
@pytest.mark.slow
def test_a_configured_experiment_goes_first_even_while_it_is_empty(tracking: Tracking) -> None:
    alone = describe_prompts(tracking, "older")
    assert (alone.change, alone.standing) == ("1 variant", Standing.UNKNOWN)  # nothing to compare it with is no praise
    assert find_experiment(tracking, "planned") == "planned"
    area = describe_prompts(tracking, "planned")
    assert area.standing is Standing.EMPTY
    assert area.sentence == "No prompt has been evaluated yet in the experiment planned."


@pytest.mark.deep
@pytest.mark.slow
def test_runs_whose_names_a_team_mapped_are_judged_here_too(tmp_path: Path) -> None:
    opened = Tracking(f"sqlite:///{tmp_path}/mlflow.db")
    for version, grounded in (("1", 0.78), ("2", 0.93)):
        opened.log_evaluation(
            "own", f"run {version}", params={"tpl": "qa", "rev": version}, metrics={"grounded_pct": grounded},
            artifacts={},
        )  # fmt: skip
    assert describe_prompts(opened).standing is Standing.EMPTY
    naming = {"own": RunNames(prompt="tpl", version="rev", faithfulness="grounded_pct")}
    area = describe_prompts(opened, naming=naming)
    assert (area.sentence, area.change) == (
        "none is in production; run 2 leads, but no variant wins yet.", "2 variants",
    )  # fmt: skip


@pytest.mark.deep
@pytest.mark.slow
def test_a_store_without_an_evaluated_run_has_no_experiment_to_look_at(tmp_path: Path) -> None:
    empty = Tracking(f"sqlite:///{tmp_path}/mlflow.db")
    empty.log_evaluation("training", "epoch 1", params={}, metrics={"loss": 0.5}, artifacts={})
    assert find_experiment(empty) == ""
    assert describe_prompts(empty).sentence == "No prompt has been evaluated yet."


def test_hits_without_a_score_are_not_called_searches_that_find_nothing(store: Store) -> None:
    write(store, [0.6] * 40)
    day = LAST - timedelta(days=1)
    append_retrievals(store, [Retrieval(day + timedelta(seconds=n), f"q{n}", documents=["a"]) for n in range(90)])
    area = describe_drift(report_drift(store, scope=DEFAULT_SCOPE, today=TODAY), lambda: pytest.fail("no drop"))
    assert (area.figure, area.change) == ("13%", "of the last days' searches had no score")
    assert [todo.text for todo in area.todos] == ["Hits come without a score: check what the service logs"]


def report_canary(store: Store, call: CanaryCall, reason: str) -> CanaryReport:
    """A running canary with this verdict."""
    flag = get_flag(store, "production", "answers")
    return CanaryReport(flag, DEFAULT_PLAN, True, 5.0, NOW, (), CanaryVerdict(call, reason))


def test_a_canary_is_called_neither_healthy_nor_good_before_there_is_a_verdict(store: Store) -> None:
    create_flag(store, "answers", canary_flag(5), BY)
    early = report_canary(store, CanaryCall.HOLD, "Too early to tell: 14 users on green so far.")
    area = describe_rollouts(store, "production", lambda: (early,))
    assert (area.standing, area.change) == (Standing.UNKNOWN, "1 canary 5%, no verdict yet")
    confirmed = report_canary(store, CanaryCall.PROMOTE, "Green can go on.")
    area = describe_rollouts(store, "production", lambda: (confirmed,))
    assert (area.standing, area.change) == (Standing.DECIDE, "1 canary 5%, confirmed")
    assert area.todos[0].filters == (("tab", "Canaries"), ("canary", "answers"))


def test_many_partly_rolled_out_flags_are_counted_and_three_are_named(store: Store) -> None:
    flags = {f"flag-{at:02}": boolean_flag(on=True, rollout_pct=10) for at in range(53)}
    import_flags(store, {"flags": flags}, BY)
    area = describe_rollouts(store, "production", tuple)
    assert area.sentence == (
        "53 of 53 flags are partly rolled out: flag-00 at 10%, flag-01 at 10%, flag-02 at 10% and 50 more."
    )
    assert area.standing is Standing.UNKNOWN  # nothing compares those who have them with the others


def test_an_area_that_was_never_connected_is_told_from_one_that_cannot_be_read() -> None:
    def fail() -> Area:
        raise NotConnected("MLflow store: there is no file")

    found = describe_areas([("prompts", fail), ("corpus", fail)], lambda page: page == "prompts")
    assert [area.standing for area in found] == [Standing.UNCONNECTED, Standing.BROKEN]
    assert found[0].sentence == "Not connected yet."

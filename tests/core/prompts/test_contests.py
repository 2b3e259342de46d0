"""Chosen runs side by side on a real MLflow store: who wins, over which cases, and what is said when nobody can."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from core.prompts.contests import PromptComparison, report_prompts
from core.prompts.decisions import WinnerRule
from core.tracking.cases import CaseResult, render_case_results
from core.tracking.gateway import Tracking

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy:DeprecationWarning"),
]
BLANK = CaseResult("", "", True, "So.", False, 0.0, 0.5, True, True, (), (), (), 1, 1, 0.1, None)


def cases(*scores: float) -> list[CaseResult]:
    return [replace(BLANK, case_id=f"c{n:02}", question=f"Question {n}?", faithfulness=s) for n, s in enumerate(scores)]


def log(store: Tracking, version: str, table: list[CaseResult] | str, *, digest: str = "d", **more: Any) -> str:
    prompt = store.register_prompt("qa", f"Prompt {version} {{context}} {{question}}", tags={"version": version})
    mean = sum(case.faithfulness for case in table) / len(table) if isinstance(table, list) else 0.5  # type: ignore[union-attr]
    return store.log_evaluation(
        "trials", f"qa-v{version}",
        params={"prompt": "qa", "version": version, "dataset_digest": digest},
        metrics={"faithfulness_mean": mean, "cost_usd_mean": 0.001, **more},
        artifacts={"cases.json": render_case_results(table) if isinstance(table, list) else table},
        prompt=prompt,
    )  # fmt: skip


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mlflow")
    Tracking(f"sqlite:///{folder}/mlflow.db").register_prompt("other", "Prompt")
    return folder / "mlflow.db"


@pytest.fixture
def store(empty: Path, tmp_path: Path) -> Tracking:
    shutil.copyfile(empty, tmp_path / "mlflow.db")
    return Tracking(f"sqlite:///{tmp_path}/mlflow.db")


def report(store: Tracking, *run_ids: str, **options: Any) -> PromptComparison:
    return report_prompts(store, experiment="trials", rule=WinnerRule.FAITHFULNESS_PER_COST, run_ids=run_ids, **options)


@pytest.mark.deep
def test_without_a_choice_each_version_competes_with_its_newest_run(store: Tracking) -> None:
    log(store, "1", cases(*[0.5] * 8))
    log(store, "2", cases(*[0.1] * 8))
    newest = log(store, "2", cases(*[1.0] * 8))
    found = report(store)
    assert [each.label for each in found.contenders] == ["qa-v2", "qa-v1"]
    assert found.winner is not None
    assert (found.winner.run.run_id, found.is_chosen, found.production) == (newest, False, None)
    assert found.winner.prompt is not None
    assert found.winner.prompt.label == "v2"


@pytest.mark.deep
def test_the_version_in_production_takes_part_however_old_its_run_is(
    store: Tracking, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = log(store, "1", cases(*[0.5] * 8))
    store.set_prompt_alias("qa", "production", 1)
    for _ in range(3):
        log(store, "2", cases(*[1.0] * 8))
    monkeypatch.setattr("core.prompts.entrants.LOOKED_AT", 2)
    found = report(store)
    assert [each.run.run_id for each in found.contenders][-1] == old
    assert found.production is not None
    assert found.production.version == 1


@pytest.mark.deep
def test_chosen_runs_are_compared_in_the_order_given_and_missing_ones_are_named(store: Tracking) -> None:
    one, two, _ = (log(store, version, cases(*[0.5] * 8)) for version in "123")
    found = report(store, two, "nope", one)
    assert [each.run.run_id for each in found.contenders] == [two, one]
    assert (found.missing, found.is_chosen) == (("nope",), True)


@pytest.mark.deep
def test_runs_over_different_cases_are_compared_only_when_asked_and_then_over_the_shared_ones(
    store: Tracking,
) -> None:
    one = log(store, "1", cases(*[0.2] * 8))
    two = log(store, "2", cases(*[0.9] * 10), digest="e")
    found = report(store, one, two)
    assert found.decision is not None
    assert (found.decision.comparable, found.winner) == (False, None)
    assert found.decision.reason.startswith("Not comparable: 0 cases only in qa-v1, 2 only in qa-v2.")
    assert len(found.shared) == 8
    over_shared = report(store, one, two, shared_only=True)
    assert over_shared.decision is not None
    assert (over_shared.decision.comparable, over_shared.decision.cases) == (True, 8)
    assert over_shared.winner is not None
    assert over_shared.winner.run.run_id == two


def test_a_chosen_run_over_other_cases_and_production_chosen_twice_change_nothing(store: Tracking) -> None:
    log(store, "1", cases(*[0.9] * 8))
    live, other = log(store, "1", cases(*[0.9] * 8)), log(store, "2", cases(*[0.5] * 8))
    store.set_prompt_alias("qa", "production", 1)
    older = next(run.run_id for run in store.list_runs() if run.run_id not in (live, other))
    apart = log(store, "3", cases(*[1.0] * 10), digest="e")
    found = report(store, older, apart, other, live)
    assert found.winner is not None
    assert (found.winner.run.run_id, len(found.judged)) == (live, 2)
    assert "because a newer run of the same version is judged: qa-v1" in found.reason
    assert "because they were run over other cases: qa-v3" in found.reason
    alone = report(store, other, live)
    assert alone.decision is not None
    assert found.decision is not None
    assert (alone.decision.difference, alone.decision.interval) == (found.decision.difference, found.decision.interval)


@pytest.mark.deep
@pytest.mark.parametrize(
    ("table", "more", "problem"),
    [
        ("not json", {}, "has no readable table of cases"),
        ([replace(BLANK, case_id="c00", error="timed out")], {}, "has no judged cases"),
    ],
)
def test_a_run_that_cannot_be_judged_by_case_is_told_and_left_out(
    table: Any, more: dict[str, Any], problem: str, store: Tracking
) -> None:
    good = log(store, "1", cases(*[0.5] * 8))
    bad = log(store, "2", table, **more)
    found = report(store, good, bad)
    assert [each.problem.startswith(problem) for each in found.contenders] == [False, True]
    assert [each.run.run_id for each in found.judged] == [good]
    assert found.decision is not None
    assert "a winner needs two runs" in found.decision.reason


def test_a_run_that_was_not_evaluated_is_told_by_what_it_lacks(store: Tracking) -> None:
    bare = store.log_evaluation("trials", "bare", params={}, metrics={"loss": 1.0}, artifacts={})
    found = report(store, bare)
    assert found.contenders[0].problem == "has no faithfulness_mean and cost_usd_mean"
    assert found.decision is None
    assert report(store).contenders == ()


def test_figures_that_the_rule_cannot_work_with_are_a_sentence(store: Tracking) -> None:
    runs = [log(store, version, cases(*[0.5] * 8), cost_usd_mean=0.0) for version in "12"]
    found = report(store, *runs)
    assert found.decision is not None
    assert found.decision.reason == "No verdict by faithfulness per cost: cost_usd_mean: qa-v1 has 0.0 USD a query."

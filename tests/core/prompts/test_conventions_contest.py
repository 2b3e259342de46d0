"""Runs of anybody's convention, compared on real MLflow stores: tables, traces, means, many versions, refusals."""

import json
import math
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from core.prompts.contests import PromptComparison, Verdict, report_prompts
from core.prompts.decisions import WinnerRule
from core.tracking.cases import render_case_results
from core.tracking.conventions import RunNames
from core.tracking.gateway import Tracking
from tests.core.prompts.test_contests import cases, empty, log, store  # noqa: F401 - fixtures
from tests.mlflow_server import serve_mlflow

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy:DeprecationWarning"),
]
TABLE = "eval_results_table.json"


def report(tracking: Tracking, experiment: str = "trials", **options: Any) -> PromptComparison:
    options = {"rule": WinnerRule.FAITHFULNESS_PER_COST, **options}
    return report_prompts(tracking, experiment=experiment, **options)


def log_table(tracking: Tracking, version: str, scores: Sequence[float], *, name: str = "") -> str:
    """A run as `mlflow.evaluate` of MLflow 2 logs it, with its grades of 1 to 5."""
    rows = [[f"Question {n}?", f"Answer {n}.", score, "because"] for n, score in enumerate(scores)]
    columns = ["inputs", "outputs", "faithfulness/v1/score", "faithfulness/v1/justification"]
    return tracking.log_evaluation(
        "trials", name or f"qa-v{version}", params={"prompt_name": "qa", "prompt_version": f"v{version}"},
        metrics={"faithfulness/v1/mean": sum(scores) / len(scores), "cost_per_query_usd": 0.001},
        artifacts={TABLE: json.dumps({"columns": columns, "data": rows})},
        tags={"mlflow.loggedArtifacts": json.dumps([{"path": TABLE, "type": "table"}])},
    )  # fmt: skip


def log_means(tracking: Tracking, version: str, faithfulness: float, **params: str) -> str:
    """A run as tutorials log it: means only."""
    return tracking.log_evaluation(
        "trials", f"qa-v{version}",
        params={"prompt_name": "qa", "prompt_version": f"v{version}", "n_test_cases": 40, **params},
        metrics={"faithfulness_mean": faithfulness, "cost_per_query_usd": 0.002}, artifacts={"prompt.txt": "Answer."},
    )  # fmt: skip


def leave_running(tracking: Tracking, run_id: str) -> None:
    """Let a run look as if its program still evaluated, or had never ended it."""
    from mlflow import MlflowClient

    MlflowClient(tracking.tracking_uri).update_run(run_id, "RUNNING")


def by_version(found: PromptComparison) -> dict[str, Any]:
    return {each.evaluation.version: each for each in found.contenders}


@pytest.mark.deep
def test_tables_of_mlflow_evaluate_are_judged_case_by_case(store: Tracking) -> None:  # noqa: F811
    log_table(store, "1", [1, 2, 1, 2, 1, 1, 2, 1])
    log_table(store, "2", [5, 4, 5, 4, 5, 5, 4, 5])
    found = report(store)
    assert (found.verdict, found.winner and found.winner.label) == (Verdict.WINNER, "qa-v2")
    assert found.winner is not None
    assert (found.winner.faithfulness, found.winner.case_count) == (pytest.approx(0.90625), 8)


@pytest.mark.deep
def test_means_alone_name_no_winner(store: Tracking) -> None:  # noqa: F811
    for version, mean in (("1", 0.78), ("2", 0.93)):
        log_means(store, version, mean)
    found = report(store)
    assert (found.verdict, found.winner, found.leader and found.leader.label) == (Verdict.MEANS_ONLY, None, "qa-v2")
    assert found.decision is not None
    assert found.decision.cases == 40
    assert store.read_prompt_text(found.contenders[0].run) == "Answer."


@pytest.mark.deep
def test_a_mean_that_is_no_number_and_a_run_that_has_not_ended_are_named(store: Tracking) -> None:  # noqa: F811
    for version, mean in (("1", 0.78), ("2", 0.93), ("3", math.inf), ("4", 0.99)):
        run_id = log_means(store, version, mean)
    leave_running(store, run_id)
    found = report(store)
    assert (found.verdict, sorted(by_version(found))) == (Verdict.MEANS_ONLY, ["1", "2"])
    assert "have not ended: qa-v4." in found.reason
    assert "no number from 0 to 100: qa-v3." in found.reason


def test_runs_that_nobody_ends_are_compared(store: Tracking) -> None:  # noqa: F811
    for version, mean in (("1", 0.78), ("2", 0.93)):
        leave_running(store, log_means(store, version, mean))
    assert sorted(by_version(report(store))) == ["1", "2"]


@pytest.mark.parametrize(("means", "expected"), [((78.0, 93.0), (0.78, 0.93)), ((7.8, 9.3), (0.78, 0.93))])
def test_means_in_percent_or_of_ten_become_shares(
    means: tuple[float, float], expected: tuple[float, float], store: Tracking,  # noqa: F811
) -> None:  # fmt: skip
    for version, mean in zip("12", means, strict=True):
        log_means(store, version, mean)
    found = by_version(report(store))
    assert (found["1"].faithfulness, found["2"].faithfulness) == pytest.approx(expected)


def test_without_a_rule_runs_of_free_models_are_judged_by_faithfulness(store: Tracking) -> None:  # noqa: F811
    for version, score in (("1", 0.5), ("2", 0.9)):
        log(store, version, cases(*[score] * 8), cost_usd_mean=0.0)
    found = report(store, rule=None)
    assert (found.verdict, found.winner and found.winner.label) == (Verdict.WINNER, "qa-v2")
    assert "faithfulness alone decides" in found.reason


@pytest.mark.deep
def test_a_mixed_experiment_is_judged_over_the_runs_that_share_their_cases(store: Tracking) -> None:  # noqa: F811
    for version, score in (("1", 0.7), ("2", 0.95), ("3", 0.8)):
        log(store, version, cases(*[score] * 8), digest=version)
    log_means(store, "4", 0.99)
    trial = [replace(case, question=f"Mine {n}?") for n, case in enumerate(cases(*[1.0] * 9))]
    log(store, "5", trial)
    log(store, "2", trial)  # the newest run of version 2 is over other cases
    found = report(store)
    assert found.winner is not None
    assert (found.winner.evaluation.version, len(found.judged), len(found.shared)) == ("2", 3, 8)
    assert "no table of cases: qa-v4" in found.reason
    assert "run over other cases: qa-v5" in found.reason


@pytest.mark.deep
def test_a_table_of_mlflow_and_one_of_the_deck_over_the_same_questions_are_compared(store: Tracking) -> None:  # noqa: F811
    log(store, "1", [replace(case, question=f"Question {n}?") for n, case in enumerate(cases(*[0.2] * 8))])
    rows = [[f"Question {n}?", "So.", 0.9] for n in range(8)]
    table = json.dumps({"columns": ["question", "answer", "faithfulness"], "data": rows})
    store.log_evaluation(
        "trials", "other", params={"prompt": "qa", "version": "2"},
        metrics={"faithfulness": 0.9, "cost_usd": 0.001}, artifacts={TABLE: table},
    )  # fmt: skip
    found = report(store)
    assert found.winner is not None
    assert (found.winner.label, len(found.shared)) == ("other", 8)


@pytest.mark.deep
def test_all_versions_are_judged_and_eight_are_drawn(store: Tracking) -> None:  # noqa: F811
    log(store, "0", cases(*[0.95] * 8))
    for number in range(1, 12):
        log(store, str(number), cases(*[0.5 + number / 100] * 8))
    found = report(store)
    assert (len(found.judged), len(found.drawn)) == (12, 8)
    assert found.winner is not None
    assert found.winner.evaluation.version == "0"
    assert found.winner in found.drawn


@pytest.mark.deep
@pytest.mark.parametrize("linked", [True, False])
def test_production_is_listed_once_however_it_is_named(linked: bool, store: Tracking) -> None:  # noqa: F811
    if linked:
        log(store, "1", cases(*[0.95] * 8))
        log(store, "2", cases(*[0.6] * 8))
    else:
        for number, score in (("1", 0.95), ("2", 0.6)):
            store.register_prompt("qa", f"Prompt {number} {{context}} {{question}}")
            store.log_evaluation(
                "trials", f"qa-{number}", params={"prompt": "qa", "version": number},
                metrics={"faithfulness_mean": score, "cost_usd_mean": 0.001},
                artifacts={"cases.json": render_case_results(cases(*[score] * 8))},
            )  # fmt: skip
    store.set_prompt_alias("qa", "production", 1)
    found = report(store)
    assert [each.evaluation.version for each in found.contenders] == ["2", "1"]
    assert found.winner is not None
    assert found.is_live(found.winner)


@pytest.mark.deep
def test_a_version_that_refuses_worse_than_production_does_not_win(store: Tracking) -> None:  # noqa: F811
    log(store, "1", cases(*[0.7] * 20))
    refusing = [replace(case, refused=True, refusal_correct=n > 5) for n, case in enumerate(cases(*[1.0] * 20))]
    log(store, "3", refusing)
    store.set_prompt_alias("qa", "production", 1)
    found = report(store)
    assert (found.verdict, found.winner) == (Verdict.NO_WINNER, None)
    assert "qa-v3 cannot win: it refuses or answers rightly in 70% of the cases, qa-v1 in production" in found.reason
    log(store, "2", cases(*[0.9] * 20))
    found = report(store)
    assert found.winner is not None
    assert found.winner.evaluation.version == "2"


def test_a_cheap_version_below_the_floor_does_not_win_per_cost(store: Tracking) -> None:  # noqa: F811
    log(store, "1", cases(*[0.9] * 8))
    log(store, "2", cases(*[0.3] * 8), cost_usd_mean=0.0001)
    found = report(store)
    assert found.winner is not None
    assert found.winner.evaluation.version == "1"
    assert "below the floor, 0.50" in found.reason
    assert report(store, floor=0.1).winner.evaluation.version == "2"  # type: ignore[union-attr]


def test_runs_without_a_cost_are_judged_by_faithfulness_alone(store: Tracking) -> None:  # noqa: F811
    for version, score in (("1", 0.5), ("2", 0.9)):
        table = render_case_results([replace(case, cost_usd=math.nan) for case in cases(*[score] * 8)])
        store.log_evaluation(
            "trials", f"qa-v{version}", params={"prompt": "qa", "version": version},
            metrics={"faithfulness_mean": score}, artifacts={"cases.json": table},
        )  # fmt: skip
    found = report(store)
    assert found.winner is not None
    assert found.winner.label == "qa-v2"
    assert found.reason.endswith("No run reports a cost, so faithfulness alone decides.")


def test_names_of_a_team_are_used_and_without_them_the_search_says_what_it_found(store: Tracking) -> None:  # noqa: F811
    for version, score in (("1", 0.5), ("2", 0.9)):
        store.log_evaluation(
            "own", f"run {version}", params={"tpl": "qa", "rev": version},
            metrics={"grounded_pct": score, "usd": 0.001}, artifacts={},
        )  # fmt: skip
    lost = report(store, "own")
    assert (lost.verdict, lost.contenders) == (Verdict.NOTHING, ())
    assert "Found 2 runs with the metrics grounded_pct, usd and the parameters tpl, rev." in lost.reason
    names = RunNames(prompt="tpl", version="rev", faithfulness="grounded_pct", cost="usd")
    found = report(store, "own", naming={"own": names})
    assert (found.verdict, found.prompt) == (Verdict.MEANS_ONLY, "qa")
    assert {version: each.cost_usd for version, each in by_version(found).items()} == {"1": 0.001, "2": 0.001}


GENAI = """
import sys, mlflow
from mlflow.entities import Feedback
from mlflow.genai.scorers import scorer

uri, folder = sys.argv[1:]
mlflow.set_tracking_uri(uri)
mlflow.set_registry_uri(uri)
mlflow.set_experiment(experiment_id=mlflow.create_experiment("genai", artifact_location=folder))

@scorer
def faithfulness(outputs):
    return Feedback(value=float(outputs.split()[-1]))

for version, level in (("1", 0.7), ("2", 0.92)):
    mlflow.genai.register_prompt("bot", f"Prompt {version} {{{{question}}}}")

    def predict(question):
        mlflow.genai.load_prompt(f"prompts:/bot/{version}")
        return f"answer {level + 0.02 * (int(question.split()[-1]) % 4):.2f}"

    rows = [{"inputs": {"question": f"How is it {n}"}} for n in range(8)]
    mlflow.genai.evaluate(data=rows, predict_fn=predict, scorers=[faithfulness])
"""


@pytest.mark.deep
def test_an_evaluation_of_mlflow_3_is_judged_by_its_assessments(empty: Path, tmp_path: Path) -> None:  # noqa: F811
    shutil.copyfile(empty, tmp_path / "mlflow.db")
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    command = [sys.executable, "-c", GENAI, uri, (tmp_path / "files").as_uri()]
    subprocess.run(command, check=True, capture_output=True, cwd=tmp_path)
    found = report(Tracking(uri), "genai", rule=None)
    assert (found.verdict, found.winner and found.winner.label) == (Verdict.WINNER, "bot-v2")
    figures = {version: (each.faithfulness, each.case_count) for version, each in by_version(found).items()}
    assert figures == {"1": (pytest.approx(0.73), 8), "2": (pytest.approx(0.95), 8)}
    with serve_mlflow(tmp_path / "mlflow.db") as address:
        served = report(Tracking(address), "genai", rule=None)
    assert (served.verdict, served.reason) == (found.verdict, found.reason)

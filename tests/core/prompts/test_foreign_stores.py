"""Runs that other programs wrote, each experiment as somebody may have it: nested, unfinished, failed, oddly named."""

import json
import math
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from core.prompts.contests import PromptComparison, Verdict
from core.tracking.conventions import RunNames
from core.tracking.gateway import Tracking
from tests.core.prompts.test_contests import empty, store  # noqa: F401 - fixtures
from tests.core.prompts.test_conventions_contest import by_version, log_means, report

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy:DeprecationWarning"),
]
GOOD, POOR = [0.92, 0.94, 0.96] * 4, [0.70, 0.72, 0.74] * 4


def write(tracking: Tracking) -> Any:
    """MLflow's own client, which other programs use."""
    from mlflow import MlflowClient

    return MlflowClient(tracking.tracking_uri)


def log_table(tracking: Tracking, version: str, table: object, *, name: str, experiment: str = "trials") -> str:
    """A run with its prompt, its version and one file, which the tags of the run do not name."""
    return tracking.log_evaluation(
        experiment, f"qa-v{version}", params={"prompt_name": "qa", "prompt_version": f"v{version}"},
        metrics={"cost_per_query_usd": 0.002}, artifacts={name: json.dumps(table)},
    )  # fmt: skip


def list_rows(scores: Sequence[float]) -> list[dict[str, Any]]:
    return [{"question": f"Question {n}?", "answer": "So.", "faithfulness": score} for n, score in enumerate(scores)]


def list_columns(scores: Sequence[float]) -> dict[str, Any]:
    """As `DataFrame.to_json` writes it."""
    rows = list_rows(scores)
    return {name: {str(n): row[name] for n, row in enumerate(rows)} for name in rows[0]}


def put_into_object(scores: Sequence[float]) -> dict[str, Any]:
    rows = [
        {"id": f"c{n}", "input": row["question"], "scores": {"faithfulness": {"score": row["faithfulness"]}}}
        for n, row in enumerate(list_rows(scores))
    ]
    return {"model": "gpt-4o-mini", "summary": {"faithfulness": 0.5}, "results": rows}


def name_rows(scores: Sequence[float]) -> dict[str, Any]:
    return {f"case {n}": row for n, row in enumerate(list_rows(scores))}


def say_winner(found: PromptComparison) -> tuple[Verdict, str, int]:
    return found.verdict, found.winner.label if found.winner else "", len(found.shared)


@pytest.mark.deep
@pytest.mark.parametrize("write_table", [list_rows, list_columns, put_into_object, name_rows])
def test_a_table_of_cases_is_found_under_any_name_and_in_any_common_shape(write_table: Any, store: Tracking) -> None:  # noqa: F811
    log_table(store, "1", write_table(POOR), name="per_question.json")
    log_table(store, "2", write_table(GOOD), name="my-output.json")
    found = report(store)
    assert say_winner(found) == (Verdict.WINNER, "qa-v2", 12)
    figures = {version: (each.faithfulness, each.cost_usd) for version, each in by_version(found).items()}
    assert figures == {"1": (pytest.approx(0.72), 0.002), "2": (pytest.approx(0.94), 0.002)}


@pytest.mark.deep
@pytest.mark.parametrize(
    "summary",
    [
        {"faithfulness": {"mean": 0.9, "min": 0.5}, "relevancy": {"mean": 0.8, "min": 0.1}},
        [{"prompt": "qa-v1", "faithfulness_mean": 0.78}, {"prompt": "qa-v2", "faithfulness_mean": 0.93}],
        [{"id": "qa-v1", "faithfulness_mean": 0.78}, {"id": "qa-v2", "faithfulness_mean": 0.93}],
        {"v1": {"faithfulness": 0.78}, "v2": {"faithfulness": 0.93}},
    ],
)
def test_a_file_of_means_is_no_table_of_cases(summary: object, store: Tracking) -> None:  # noqa: F811
    for version, mean in (("1", 0.78), ("2", 0.93)):
        store.log_evaluation(
            "trials", f"qa-v{version}", params={"prompt_name": "qa", "prompt_version": version},
            metrics={"faithfulness_mean": mean}, artifacts={"results.json": json.dumps(summary)},
        )  # fmt: skip
    found = report(store)
    assert found.verdict is Verdict.MEANS_ONLY
    assert all("no table in results.json" in each.problem for each in found.contenders)


def test_a_total_cost_is_shared_among_the_cases_of_the_table(store: Tracking) -> None:  # noqa: F811
    for variant, scores, total in (("a", POOR, 0.012), ("b", GOOD, 0.024)):
        store.log_evaluation(
            "trials", f"rag prompt {variant}", params={"prompt_id": "rag", "variant": variant},
            metrics={"ragas_faithfulness": sum(scores) / len(scores), "total_cost": total},
            artifacts={"results.json": json.dumps(list_rows(scores))},
        )  # fmt: skip
    costs = {version: each.cost_usd for version, each in by_version(report(store)).items()}
    assert costs == {"a": pytest.approx(0.001), "b": pytest.approx(0.002)}


def test_a_score_that_is_no_number_leaves_its_case_out(store: Tracking) -> None:  # noqa: F811
    log_table(store, "1", list_rows(POOR), name="cases.json")
    log_table(store, "2", list_rows([math.nan, *GOOD[1:]]), name="cases.json")
    assert say_winner(report(store)) == (Verdict.WINNER, "qa-v2", 11)


def nest(tracking: Tracking, run_id: str, parent: str) -> None:
    write(tracking).set_tag(run_id, "mlflow.parentRunId", parent)


def test_the_runs_of_a_sweep_are_compared_and_their_summary_is_not(store: Tracking) -> None:  # noqa: F811
    sweep = store.log_evaluation(
        "trials", "sweep", params={"prompt_name": "qa"}, metrics={"faithfulness_mean": 0.99}, artifacts={}
    )
    for version, mean in (("1", 0.78), ("2", 0.93)):
        run_id = store.log_evaluation(
            "trials", f"try {version}", params={"prompt_version": version}, metrics={"faithfulness_mean": mean},
            artifacts={},
        )  # fmt: skip
        nest(store, run_id, sweep)
    found = report(store)
    assert (found.prompt, sorted(by_version(found))) == ("qa", ["1", "2"])
    assert found.leader is not None
    assert found.leader.label == "try 2"


@pytest.mark.parametrize("named", [True, False])
def test_a_case_that_is_a_nested_run_is_a_part_of_its_evaluation(named: bool, store: Tracking) -> None:  # noqa: F811
    for version, mean in (("1", 0.78), ("2", 0.93)):
        parent = log_means(store, version, mean)
        for number in range(2):
            run_id = store.log_evaluation(
                "trials", f"case {number}", params={"prompt_name": "qa", "prompt_version": version} if named else {},
                metrics={"faithfulness": 0.1 + number / 10}, artifacts={},
            )  # fmt: skip
            nest(store, run_id, parent)
    found = report(store)
    assert {version: each.faithfulness for version, each in by_version(found).items()} == {"1": 0.78, "2": 0.93}


def test_a_version_that_failed_is_named_and_one_that_was_run_again_is_not(store: Tracking) -> None:  # noqa: F811
    broken = [log_means(store, version, 0.99) for version in ("1", "3", "4")]
    for run_id, status in zip(broken, ("FAILED", "FAILED", "KILLED"), strict=True):
        write(store).set_terminated(run_id, status)
    for version, mean in (("1", 0.78), ("2", 0.93)):
        log_means(store, version, mean)
    found = report(store)
    assert sorted(by_version(found)) == ["1", "2"]
    assert "Left out, because they failed: qa-v4, qa-v3." in found.reason


def test_an_experiment_is_not_mixed_with_others_of_its_prefix_or_with_deleted_ones(store: Tracking) -> None:  # noqa: F811
    for experiment, version, scores in (
        ("qa", "1", POOR), ("qa", "2", GOOD), ("qa-nightly", "3", [1.0] * 12), ("qa_", "4", [1.0] * 12),
        ("qa%", "5", [1.0] * 12), ("gone", "6", [1.0] * 12),
    ):  # fmt: skip
        log_table(store, version, list_rows(scores), name="cases.json", experiment=experiment)
    client = write(store)
    client.delete_experiment(client.get_experiment_by_name("gone").experiment_id)
    found = report(store, "qa")
    assert (say_winner(found), sorted(by_version(found))) == ((Verdict.WINNER, "qa-v2", 12), ["1", "2"])
    assert "gone" not in store.list_experiments()
    assert report(store, "gone").verdict is Verdict.NOTHING


GENAI = """
import sys, mlflow
from mlflow.genai.scorers import scorer

uri, folder = sys.argv[1:]
mlflow.set_tracking_uri(uri)
mlflow.set_registry_uri(uri)

@scorer
def is_grounded(outputs):
    return outputs.endswith("yes")

@scorer
def correctness(outputs):
    return 0.5

for experiment, scorers in (("alike", [is_grounded]), ("others", [correctness])):
    mlflow.set_experiment(experiment_id=mlflow.create_experiment(experiment, artifact_location=folder))
    for version, good in (("1", 2), ("2", 8)):
        mlflow.genai.register_prompt(f"bot-{experiment}", f"Prompt {version} {{{{question}}}}")
        said = lambda question: "yes" if int(question.split()[-1]) < good else "no"

        def predict(question):
            mlflow.genai.load_prompt(f"prompts:/bot-{experiment}/{version}")
            return said(question)

        rows = [{"inputs": {"question": f"How is it {n}"}} for n in range(9)]
        mlflow.genai.evaluate(data=rows, predict_fn=predict, scorers=scorers)
"""


@pytest.mark.deep
def test_assessments_of_other_names_are_found_or_named(empty: Path, tmp_path: Path) -> None:  # noqa: F811
    shutil.copyfile(empty, tmp_path / "mlflow.db")
    tracking = Tracking(f"sqlite:///{tmp_path}/mlflow.db")
    command = [sys.executable, "-c", GENAI, tracking.tracking_uri, (tmp_path / "files").as_uri()]
    subprocess.run(command, check=True, capture_output=True, cwd=tmp_path)
    assert say_winner(report(tracking, "alike", rule=None)) == (Verdict.WINNER, "bot-alike-v2", 9)
    lost = report(tracking, "others", rule=None)
    assert (lost.verdict, lost.contenders) == (Verdict.NOTHING, ())
    assert "Found 2 runs with the metrics correctness/mean" in lost.reason
    named = report(tracking, "others", rule=None, naming={"others": RunNames(faithfulness="correctness/mean")})
    assert {version: (each.faithfulness, each.case_count) for version, each in by_version(named).items()} == {
        "1": (0.5, 9), "2": (0.5, 9),
    }  # fmt: skip

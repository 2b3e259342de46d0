"""What runs of any convention say of their evaluation: literal runs."""

from typing import Any

import pytest

from core.errors import InvalidInput
from core.tracking.conventions import RunNames, describe_search, order_by_variety, read_evaluation
from core.tracking.runs import Run
from tests.core.tracking.test_runs import WHEN


def run(name: str = "", **parts: dict[str, Any]) -> Run:
    return Run(
        "0123456789", name, "trials", "FINISHED", WHEN, parts.get("metrics", {}), parts.get("params", {}),
        parts.get("tags", {}), "/nowhere",
    )  # fmt: skip


def linked(*prompts: tuple[str, int]) -> dict[str, str]:
    told = ", ".join(f'{{"name": "{name}", "version": "{version}"}}' for name, version in prompts)
    return {"mlflow.linkedPrompts": f"[{told}]"}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (run("qa-v2", params={"prompt": "qa", "version": "2"}), ("qa", "2")),
        (run("x", params={"prompt_name": "qa", "prompt_version": "v2"}), ("qa", "2")),
        (run("x", tags={"prompt_name": "qa", "prompt_version": "v2"}), ("qa", "2")),
        (run("x", params={"PROMPT_NAME": "qa", "Prompt Version": "v2"}), ("qa", "2")),
        (run("x", params={"prompt_name": "qa-v2"}), ("qa", "2")),
        (run("x", params={"prompt_uri": "prompts:/qa/2"}), ("qa", "2")),
        (run("fair-dog-12", tags=linked(("qa", 2))), ("qa", "2")),
        (run("qa_v2"), ("qa", "2")),
        (run("v2"), ("", "2")),
        (run("qa-v2", params={"prompt": "qa"}), ("qa", "2")),
        (run("x", params={"prompt": "Answer {question}", "version": "2"}), ("", "2")),
        (run("x", params={"prompt": "qa", "version": "concise"}), ("qa", "concise")),
        (run("fair-dog-12"), ("", "")),
    ],
)
def test_prompt_and_version_are_found_under_many_names(given: Run, expected: tuple[str, str]) -> None:
    found = read_evaluation(given)
    assert (found.prompt, found.version) == expected


def test_of_several_linked_prompts_the_one_with_the_most_versions_is_compared() -> None:
    runs = [run("a", tags=linked(("system", 1), ("qa", number))) for number in (1, 2)]
    varied = order_by_variety(runs)
    assert varied == ("qa", "system")
    assert [read_evaluation(each, varied=varied).version for each in runs] == ["1", "2"]
    assert read_evaluation(runs[1], versions={("qa", 2): "concise"}, varied=varied).version == "concise"


@pytest.mark.parametrize(
    ("metrics", "params", "expected"),
    [
        ({"faithfulness_mean": 0.9, "cost_usd_mean": 0.001}, {"cases": "20"}, (0.9, 0.001, 20)),
        ({"faithfulness_mean": 0.9, "cost_per_query_usd": 0.001}, {"n_test_cases": "40"}, (0.9, 0.001, 40)),
        ({"faithfulness/mean": 0.9}, {}, (0.9, None, None)),
        ({"faithfulness/v1/mean": 4.5, "n_cases": 12.0}, {}, (4.5, None, 12)),
        ({"faithfulness": 0.9, "total_cost_usd": 0.04}, {"n_test_cases": "40"}, (0.9, 0.001, 40)),
        ({"faithfulness_mean": float("nan"), "groundedness_mean": 0.7}, {"cases": "many"}, (0.7, None, None)),
        ({"Faithfulness": 0.9, "CostUSD": 0.001}, {}, (0.9, 0.001, None)),
        ({"ragas/faithfulness": 0.9, "avg_cost_per_query_usd": 0.001}, {}, (0.9, 0.001, None)),
        ({"eval.mean_faithfulness": 0.9, "usd_per_call": 0.001}, {"N_TEST_CASES": "40"}, (0.9, 0.001, 40)),
        ({"avg_groundedness": 0.9, "sum_cost_usd": 0.04}, {"nTestCases": "40"}, (0.9, 0.001, 40)),
        ({"faithfulness_mean": 0.9, "ragas_faithfulness": 0.1, "judge_cost_usd": 1.0}, {}, (0.9, None, None)),
        ({"faithfulness_min": 0.9, "faithfulness_p50": 0.9, "cost_per_1k_queries": 1.0}, {}, (None, None, None)),
        ({"faithfulness_mean": 1.7976931348623157e308, "cost": 1.7976931348623157e308}, {}, (None, None, None)),
        ({"faithfulness_mean": -1.0, "cost": -1.0}, {}, (None, None, None)),
        ({"loss": 0.9}, {}, (None, None, None)),
    ],
)
def test_means_are_found_under_many_names(
    metrics: dict[str, float], params: dict[str, str], expected: tuple[float | None, float | None, int | None]
) -> None:
    found = read_evaluation(run("x", metrics=metrics, params=params))
    assert (found.faithfulness, found.cost_usd, found.cases) == expected


def test_names_of_a_team_replace_the_usual_ones() -> None:
    names = RunNames(prompt="tpl", version="rev", faithfulness="grounded", cost="usd", cases="rows")
    own = run("x", params={"tpl": "qa", "rev": "v3", "rows": "5", "prompt": "other"},
              metrics={"grounded": 0.8, "usd": 0.002, "faithfulness_mean": 0.1})  # fmt: skip
    found = read_evaluation(own, names)
    assert (found.prompt, found.version, found.faithfulness, found.cost_usd, found.cases) == ("qa", "3", 0.8, 0.002, 5)
    assert RunNames.read(names.to_audit()) == names
    assert RunNames.read(None) == RunNames()
    with pytest.raises(InvalidInput, match="cost"):
        RunNames(cost="a\nb")


def test_a_run_keeps_its_own_name_unless_mlflow_made_it_up() -> None:
    assert read_evaluation(run("nightly", params={"prompt": "qa", "version": "2"})).label == "nightly"
    assert read_evaluation(run("fair-dog-12", params={"prompt": "qa", "version": "2"})).label == "qa-v2"
    assert read_evaluation(run("fair-dog-12")).label == "fair-dog-12"


def test_an_empty_search_says_what_was_looked_for_and_what_was_found() -> None:
    said = describe_search([run("x", metrics={"grounded_pct": 1.0}, params={"tpl": "qa"})])
    assert said.startswith("Looked for a mean faithfulness (metrics faithfulness_mean, faithfulness/mean")
    assert said.endswith("Found 1 run with the metrics grounded_pct and the parameters tpl.")
    assert describe_search([]).endswith("Found no run.")

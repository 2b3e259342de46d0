"""Which runs are compared and by which columns, on literal runs."""

from datetime import UTC, datetime
from typing import Any

import pytest

from core.tracking.runs import PromptVersion, Run, choose_columns, label_texts, parse_links, parse_tables

WHEN = datetime(2026, 11, 20, tzinfo=UTC)
GOOD = {"faithfulness_mean": 0.9, "cost_usd_mean": 0.001}


def run(run_id: str, *, name: str = "", **parts: dict[str, Any]) -> Run:
    return Run(
        run_id, name or run_id, "trials", "FINISHED", WHEN, parts.get("metrics", GOOD), parts.get("params", {}),
        parts.get("tags", {}), "/nowhere",
    )  # fmt: skip


def test_columns_are_what_differs_and_the_rest_is_told_once() -> None:
    runs = [
        run("a", params={"top_k": "3", "model": "m", "seed": "1"}, tags={"team": "x", "mlflow.user": "ann"}),
        run("b", params={"top_k": "4", "model": "m"}, tags={"team": "x", "mlflow.user": "bob"},
            metrics={**GOOD, "faithfulness_mean": 0.8, "latency_ms_mean": 5.0}),
    ]  # fmt: skip
    found = choose_columns(runs)
    assert found.params == ("top_k", "seed")
    assert found.metrics == ("faithfulness_mean", "latency_ms_mean")
    assert found.tags == ()
    assert found.same == {"model": "m", "cost_usd_mean": "0.001"}


def test_a_single_run_shows_all_that_it_has_and_none_shows_nothing() -> None:
    found = choose_columns([run("a", params={"top_k": "3"}, tags={"team": "x", "mlflow.user": "ann"})])
    assert (found.metrics, found.params, found.tags, found.same) == (tuple(GOOD), ("top_k",), ("team",), {})
    assert choose_columns([]).same == {}


def test_runs_of_one_name_are_told_apart_by_their_ids() -> None:
    assert label_texts(["qa", "qa", "sum"], ["0123456789", "abcdefghij", "x"]) == ("qa (012345)", "qa (abcdef)", "sum")
    assert label_texts([], []) == ()


def test_tables_that_mlflow_logged_are_named_and_what_is_no_list_of_them_is_none() -> None:
    told = '[{"path": "eval_results_table.json", "type": "table"}, {"path": "x.png", "type": "image"}]'
    assert parse_tables(told) == ("eval_results_table.json",)
    assert [parse_tables(text) for text in ("", "3", "[3]", '[{"type": "table"}]', "null")] == [()] * 5


def test_a_link_is_read_and_what_is_no_link_is_none() -> None:
    linked = run("a", tags={"mlflow.linkedPrompts": '[{"name": "qa", "version": "3"}]'})
    assert linked.linked_prompts == (("qa", 3),)
    assert run("a").linked_prompts == ()
    assert [parse_links(text) for text in ("my prompt", "3", "null", '[{"name": "qa"}]', '[["a"]]')] == [()] * 5


@pytest.mark.parametrize(
    ("tags", "label", "spellings"),
    [
        ({"version": "3"}, "v3", {"v3", "3", "qa-v3", "qa-3"}),
        ({}, "v7", {"v7", "7", "qa-v7", "qa-7"}),
        ({"version": "concise"}, "concise", {"concise", "qa-concise"}),
        ({"version": "v3"}, "v3", {"v3", "3", "qa-v3", "qa-3"}),
    ],
)
def test_a_version_is_called_as_its_file_says_and_else_by_the_registry(
    tags: dict[str, str], label: str, spellings: set[str]
) -> None:
    prompt = PromptVersion("qa", 7, "text", (), "", WHEN, (), tags)
    assert (prompt.label, prompt.spellings) == (label, spellings)

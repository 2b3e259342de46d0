"""The prompts page as a visitor sees it: which runs, who wins, what differs, and what is promoted."""

import re
import shutil
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from core.prompts.contests import report_prompts
from core.prompts.decisions import WinnerRule
from core.tracking.gateway import Tracking
from core.tracking.runs import RunFilter
from quarterdeck.definitions import rollout_pct
from quarterdeck.recorder import append_retrievals
from quarterdeck.retrieval import Retrieval
from quarterdeck.store import Store
from tests.conftest import Demo
from tests.pages.flag_form import stored_flag
from tests.pages.opening import (
    CHAT_ROWS,
    HOSTILE,
    ask,
    assert_shown_as_text,
    click_table,
    only_error,
    open_page,
    text_of,
    verdict,
)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.usefixtures("clean_streamlit"),
    pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy:DeprecationWarning"),
]


@pytest.fixture
def own(demo_url: str, as_demo: Demo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Tracking]:
    """A copy of the demo's MLflow database that a test may change, with a copy of its store."""
    shutil.copyfile(as_demo.config.home / "mlflow" / "mlflow.db", tmp_path / "mlflow.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    return Tracking(f"sqlite:///{tmp_path}/mlflow.db")


@pytest.fixture
def bare(template: Path) -> Tracking:
    """A store whose runs have metrics and no table of cases, one not even metrics; its experiment Default is empty."""
    return Tracking(f"sqlite:///{template}")


def run_ids(tracking: Tracking) -> dict[str, str]:
    return {run.name: run.run_id for run in tracking.list_runs(RunFilter("rag-prompt-iterations"))}


def said(app: AppTest) -> str:
    return text_of(" ".join(each.value for each in (*app.markdown, *app.caption)))


def table_with(app: AppTest, column: str) -> Any:
    return next(table.value for table in app.dataframe if column in table.value.columns)


@pytest.mark.deep
def test_the_rule_is_stated_and_the_chosen_runs_are_those_of_the_address(own: Tracking) -> None:
    ids = run_ids(own)
    app = open_page("prompts", runs=f"{ids['qa-v1']},{ids['qa-v2']},nope", rule="faithfulness under a cost ceiling")
    assert verdict(app).startswith("qa-v2 wins by faithfulness under a cost ceiling")
    assert "Rule: faithfulness under a cost ceiling. Compared: the 2 chosen runs. In production: v2." in said(app)
    assert "1 of the chosen runs is not in this store." in said(app)


def test_what_differs_is_shown_and_nothing_else(own: Tracking) -> None:
    app = open_page("prompts")
    params = table_with(app, "parameter")
    assert list(params.columns) == ["parameter", "qa-v3", "qa-v2", "qa-v1"]
    assert "top_k" in set(params["parameter"])
    assert "model" not in set(params["parameter"])


@pytest.mark.deep
def test_prompts_are_compared_word_by_word_side_by_side_and_inline(own: Tracking) -> None:
    for how in ("side by side", "inline"):
        shown = " ".join(each.value for each in open_page("prompts", tab="Side by side", wording=how).markdown)
        assert ":red-background[~~" in shown
        assert ":green-background[**" in shown
        assert ("**B: qa\\-v2**" in shown) is (how == "side by side")


@pytest.mark.deep
def test_each_case_says_who_won_and_what_both_answered(own: Tracking) -> None:
    app = open_page("prompts", tab="Side by side", a="qa-v1", b="qa-v2", cases="B won")
    counts = re.search(r"A was more faithful in \*\*(\d+)\*\*, B in \*\*(\d+)\*\*, and \*\*(\d+)\*\*", said(app))
    assert counts, said(app)
    assert sum(map(int, counts.groups())) == 20
    differing = table_with(open_page("prompts", tab="Side by side", a="qa-v1", b="qa-v2"), "won")
    assert len(differing) == int(counts[1]) + int(counts[2])  # what is equal is one click away
    assert "=" not in set(differing["won"])
    table = table_with(app, "won")
    assert set(table["won"]) == {"B"}
    assert len(table) == int(counts[2])
    assert (table["A"] < table["B"]).all()
    assert table["answer of A"].str.len().min() > 0


@pytest.mark.deep
def test_runs_are_filtered_sorted_and_told_apart_by_what_differs(own: Tracking) -> None:
    app = open_page("prompts", tab="Runs", sort="cost_usd_mean", ascending="true")
    table = table_with(app, "run id")
    assert list(table["run"]) == ["qa-v3", "qa-v2", "qa-v1"]
    assert "top_k" in table.columns
    assert "model" not in table.columns
    assert "model extractive-offline" in said(app)
    assert list(table_with(open_page("prompts", tab="Runs", version="2"), "run id")["run"]) == ["qa-v2"]
    for nothing in ({"version": "9"}, {"tag": "team=none"}, {"until": "2020-01-01"}):
        app = open_page("prompts", tab="Runs", **nothing)
        assert [info.value for info in app.main.info] == ["No run passes these filters."]
    assert "tag: must be key=value" in only_error(open_page("prompts", tab="Runs", tag="team"))


@pytest.mark.deep
def test_a_ninth_run_is_not_taken_and_said_not_to_be(own: Tracking) -> None:
    for number in range(6):
        own.log_evaluation(
            "rag-prompt-iterations", f"more {number}", params={}, metrics={"faithfulness_mean": 0.5}, artifacts={}
        )
    app = click_table(open_page("prompts", tab="Runs"), {"rows": list(range(9)), "columns": [], "cells": []})
    assert len(app.query_params["runs"].split(",")) == 8
    assert [text_of(info.value) for info in app.main.info] == ["At most 8 runs are compared; the others are left out."]
    assert len(app.toast) == 1


def test_a_promotion_and_its_roll_back_change_alias_flag_and_audit_trail(own: Tracking, demo_url: str) -> None:
    app = open_page("prompts", tab="Promote")
    assert "In production: **qa v2**" in said(app)
    app.number_input[0].set_value(100.0)
    app.text_area[0].input("as faithful, cheaper")
    app = next(button for button in app.button if button.label == "Promote v3").click().run()
    assert not app.exception
    assert [each.value.startswith("Recorded as audit entry ") for each in app.success] == [True]
    assert own.production_version("qa").version == 3  # type: ignore[union-attr]
    assert rollout_pct(stored_flag(demo_url, "new_prompt_v3")) == 100
    assert "as faithful, cheaper" in own.get_run(run_ids(own)["qa-v3"]).description
    app = next(button for button in app.button if button.label == "Roll back to v2").click().run()
    assert not app.exception
    assert own.production_version("qa").version == 2  # type: ignore[union-attr]
    assert rollout_pct(stored_flag(demo_url, "new_prompt_v3")) == 20
    rows = ask(demo_url, "SELECT action, reason FROM audit WHERE target = 'qa' AND action LIKE 'prompt.%' ORDER BY id")
    assert rows == [("prompt.promote", "as faithful, cheaper"), ("prompt.rollback", "rolled back to v2 on the page")]


@pytest.mark.deep
def test_a_promotion_without_a_decision_changes_nothing(own: Tracking, demo_url: str) -> None:
    app = open_page("prompts", tab="Promote")
    app.text_area[0].input(" ")
    app = next(button for button in app.button if button.label == "Promote v3").click().run()
    assert "Nothing was changed" in only_error(app)
    assert own.production_version("qa").version == 2  # type: ignore[union-attr]


def test_live_figures_stand_beside_offline_ones(own: Tracking, demo_url: str) -> None:
    app = open_page("prompts", tab="Live", days="90d")
    table = table_with(app, "live questions").set_index("version")
    ((count, mean),) = ask(demo_url, f"SELECT COUNT(*), AVG(score) FROM {CHAT_ROWS} AND prompt_version = 'v3'")
    assert table.loc["v3", "live questions"] == count
    assert table.loc["v3", "live score"].startswith(f"{mean:.2f}")
    assert table.loc["v2", "in production"] == "yes"
    assert table.loc["v1", "offline faithfulness"].startswith("0.")
    ((count, cost),) = ask(demo_url, f"SELECT COUNT(*), AVG(cost_usd) FROM {CHAT_ROWS} AND prompt_version = 'v2'")
    assert table.loc["v2", "live cost"] == f"${cost:.6f} (n = {count:,})"
    assert table.loc["v2", "live faithfulness"].startswith("1.00 (n = ")
    ((count, mean),) = ask(
        demo_url, f"SELECT COUNT(*), AVG(feedback) FROM {CHAT_ROWS} AND prompt_version = 'v2' AND feedback IS NOT NULL"
    )
    assert table.loc["v2", "live feedback"] == f"{mean:+.2f} (n = {count:,})"
    assert "No service reported latency in these days" in said(app)
    assert "live latency" not in table.columns


def test_live_figures_that_services_report_have_their_column(own: Tracking, demo_url: str) -> None:
    with closing(Store(demo_url)) as store:
        fields = {"prompt_version": "v3", "feedback": 1, "latency_ms": 80.0}
        rows = [Retrieval(datetime.now(UTC), "why", 0.5, **fields) for _ in range(2)]
        append_retrievals(store, rows)
    app = open_page("prompts", tab="Live")
    table = table_with(app, "live questions").set_index("version")
    query = "SELECT COUNT(feedback), AVG(feedback) FROM retrievals JOIN scopes ON scopes.id = scope_id"
    ((count, mean),) = ask(demo_url, f"{query} WHERE environment = 'production' AND prompt_version = 'v3'")
    assert table.loc["v3", "live feedback"] == f"{mean:+.2f} (n = {count:,})"
    assert table.loc["v3", "live latency"] == "80 ms (n = 2)"
    assert table.loc["v2", "live latency"] == "—"
    assert "No service reported" not in said(app)


@pytest.mark.parametrize("tab", ["Promote", "Live"])
def test_without_the_control_store_runs_are_still_compared(
    tab: str, as_demo: Demo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QUARTERDECK_DATABASE_URL", f"sqlite:///{tmp_path / 'nowhere.db'}")
    app = open_page("prompts", tab=tab)
    assert str(tmp_path / "nowhere.db") in only_error(app)
    assert any("wins by" in each.value for each in app.markdown)


@pytest.mark.deep
def test_runs_over_different_cases_are_compared_only_on_demand(own: Tracking) -> None:
    ids = run_ids(own)
    store = own
    results = store.list_case_results(ids["qa-v2"])
    from core.tracking.cases import render_case_results

    fewer = store.log_evaluation(
        "rag-prompt-iterations", "qa-few", params={"prompt": "qa", "version": "few"},
        metrics={"faithfulness_mean": 0.9, "cost_usd_mean": 0.001},
        artifacts={"cases.json": render_case_results(results[:12])},
    )  # fmt: skip
    chosen = f"{ids['qa-v1']},{fewer}"
    app = open_page("prompts", runs=chosen)
    assert verdict(app).startswith("Not comparable: 8 cases only in qa-v1")
    app = open_page("prompts", runs=chosen, shared="true")
    assert "Not comparable" not in verdict(app)


TABS = ("Compare", "Runs", "Promote", "Live")


@pytest.mark.deep
@pytest.mark.usefixtures("empty_url", "as_new_mlflow")
def test_each_tab_of_a_store_without_a_run_says_how_to_get_one() -> None:
    for tab in TABS:
        app = open_page("prompts", tab=tab)
        assert (len(app.exception), len(app.error)) == (0, 0)
        assert text_of(app.main.info[0].value) == "No evaluated run in Default yet."
        assert app.code[0].value == "quarterdeck demo"


@pytest.mark.parametrize("tab", TABS)
def test_each_tab_of_a_broken_store_says_so_in_one_line(
    tab: str,
    empty_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "broken.db").write_bytes(b"not a database" * 1_000)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/broken.db")
    assert "file is not a database" in only_error(open_page("prompts", tab=tab))


@pytest.mark.deep
@pytest.mark.parametrize("tab", TABS)
def test_runs_without_tables_of_cases_get_no_verdict_and_everything_else(
    tab: str,
    empty_url: str,
    bare: Tracking,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", bare.tracking_uri)
    app = open_page("prompts", tab=tab, experiment="trials")
    assert verdict(app).startswith("No version is ahead by the means alone: qa-v3 0.90 at $0.00100 a query against")
    assert "means without a table of cases prove nothing" in verdict(app)
    assert "Not judged case by case: qa-v3 has no readable table of cases" in said(app)
    shown = {
        "Compare": lambda: "top_k" not in said(app) and "parameter" in app.dataframe[0].value.columns,
        "Runs": lambda: list(table_with(app, "run id")["run"]) == ["foreign", "qa-v3", "qa-v2", "qa-v1"],
        "Promote": lambda: "In production: **qa v2**" in said(app),
        "Live": lambda: "has no question in these days" in app.main.info[0].value,
    }
    assert shown[tab](), said(app)


@pytest.mark.deep
def test_chosen_runs_that_are_gone_or_were_never_evaluated_are_said_to_be(
    empty_url: str,
    bare: Tracking,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", bare.tracking_uri)
    app = open_page("prompts", experiment="trials", runs="gone,away")
    assert text_of(app.main.info[0].value) == "None of the chosen runs is in this store."
    (foreign,) = (run.run_id for run in bare.list_runs(RunFilter("trials")) if run.name == "foreign")
    app = open_page("prompts", experiment="trials", runs=foreign)
    assert verdict(app) == "The run cannot be judged case by case."
    assert "foreign has no faithfulness_mean and cost_usd_mean" in said(app)
    assert "There is nothing to draw" in said(app)


@pytest.mark.deep
@pytest.mark.usefixtures("empty_url")
@pytest.mark.parametrize("times", [1, 2])
def test_no_run_is_compared_with_itself(times: int, bare: Tracking, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", bare.tracking_uri)
    (run_id,) = (run.run_id for run in bare.list_runs(RunFilter("trials")) if run.name == "qa-v1")
    twice = ",".join([run_id] * times)
    app = open_page("prompts", experiment="trials", runs=twice, a="qa-v1", b="qa-v1", tab="Side by side")
    assert verdict(app) == "The run cannot be judged case by case."
    assert "Only one run is compared" in said(app)
    found = report_prompts(bare, experiment="trials", rule=WinnerRule.FAITHFULNESS_PER_COST, run_ids=[run_id] * 2)
    assert len(found.contenders) == 1


@pytest.mark.deep
@pytest.mark.usefixtures("empty_url")
def test_the_page_starts_with_the_configured_experiment_or_the_newest_with_evaluated_runs(
    bare: Tracking, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copyfile(bare.tracking_uri.removeprefix("sqlite:///"), tmp_path / "mlflow.db")
    store = Tracking(f"sqlite:///{tmp_path}/mlflow.db")
    store.log_evaluation("an experiment", "epoch 1", params={}, metrics={"loss": 0.5}, artifacts={})
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store.tracking_uri)
    (chosen,) = (box for box in open_page("prompts").selectbox if box.label == "MLflow experiment")
    assert (chosen.value, chosen.options) == ("trials", ["trials", "an experiment"])
    monkeypatch.setenv("QUARTERDECK_EXPERIMENT", "planned")
    st.cache_resource.clear()
    app = open_page("prompts")
    (chosen,) = (box for box in app.selectbox if box.label == "MLflow experiment")
    assert (chosen.value, chosen.options) == ("planned", ["planned", "an experiment", "trials"])
    assert text_of(app.main.info[0].value) == "No evaluated run in planned yet."


@pytest.mark.deep
@pytest.mark.usefixtures("empty_url")
def test_versions_and_names_of_prompts_are_shown_as_text(
    bare: Tracking, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copyfile(bare.tracking_uri.removeprefix("sqlite:///"), tmp_path / "mlflow.db")
    store = Tracking(f"sqlite:///{tmp_path}/mlflow.db")
    for number in (1, 2):
        tags = {"version": f"{HOSTILE} {number}"}
        prompt = store.register_prompt("own", HOSTILE, tags=tags, experiment="own")
        params = {"prompt": "own", "version": f"{HOSTILE} {number}"}
        metrics = {"faithfulness_mean": 0.9, "cost_usd_mean": 0.001}
        store.log_evaluation("own", f"{HOSTILE} {number}", params=params, metrics=metrics, artifacts={}, prompt=prompt)
    store.set_prompt_alias("own", "production", 1)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store.tracking_uri)
    for tab in TABS:
        assert_shown_as_text(open_page("prompts", experiment="own", tab=tab))


@pytest.mark.deep
def test_an_experiment_without_evaluated_runs_says_what_it_found_and_takes_names(
    empty_url: str, bare: Tracking, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copyfile(bare.tracking_uri.removeprefix("sqlite:///"), tmp_path / "mlflow.db")
    own = Tracking(f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", own.tracking_uri)
    for version, score in (("1", 0.5), ("2", 0.9)):
        own.log_evaluation(
            "own names",
            f"run {version}",
            params={"tpl": "sum", "rev": version},
            metrics={"grounded_pct": score},
            artifacts={},
        )
    app = open_page("prompts", experiment="own names")
    assert "Found 2 runs with the metrics grounded_pct and the parameters tpl, rev." in said(app)
    for label, name in (("Prompt", "tpl"), ("Version", "rev"), ("Faithfulness", "grounded_pct")):
        next(box for box in app.selectbox if box.label.startswith(f"{label}: ")).select(name)
    next(field for field in app.text_input if field.label.startswith("Reason")).input("our own names")
    app = next(button for button in app.button if button.label == "Save the names").click().run()
    assert not app.exception
    assert verdict(app).startswith("run 2 is ahead by its mean alone")
    assert [each.value.startswith("Recorded as audit entry ") for each in app.success] == [True]

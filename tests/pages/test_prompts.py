"""The prompts page: on the demo, without a run, and with MLflow broken."""

from pathlib import Path

import pytest

from tests.conftest import Demo
from tests.pages.opening import ask, only_error, open_page, text_of, verdict

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("clean_streamlit")]


@pytest.mark.deep
def test_prompts_names_the_winner_by_faithfulness_per_cost(as_demo: Demo) -> None:
    query = """
        SELECT runs.name, good.value / cost.value FROM runs
        JOIN latest_metrics AS good ON good.run_uuid = runs.run_uuid AND good.key = 'faithfulness_mean'
        JOIN latest_metrics AS cost ON cost.run_uuid = runs.run_uuid AND cost.key = 'cost_usd_mean'
        ORDER BY 2 DESC"""
    rows = ask(as_demo.config.home / "mlflow" / "mlflow.db", query)
    assert len(rows) == 3
    assert verdict(open_page("prompts")).startswith(f"{rows[0][0]} wins by faithfulness per cost")


@pytest.mark.deep
def test_prompts_without_an_experiment_says_which_command_logs_one(
    empty_url: str, tmp_path: Path, as_new_mlflow: None
) -> None:
    app = open_page("prompts")
    assert (len(app.exception), len(app.error)) == (0, 0)
    assert app.code[0].value == "quarterdeck demo"


@pytest.mark.deep
@pytest.mark.parametrize(
    ("uri", "named"),
    [
        ("sqlite:///{folder}/nowhere/mlflow.db", "{folder}/nowhere/mlflow.db"),
        ("sqlite:///{folder}/garbage.db", "{folder}/garbage.db"),
        ("http://127.0.0.1:1", "http://127.0.0.1:1"),
    ],
)
def test_prompts_says_in_one_line_that_mlflow_cannot_be_read(
    uri: str, named: str, as_demo: Demo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "garbage.db").write_bytes(b"\x93garbage" * 4_000)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri.format(folder=tmp_path))
    assert named.format(folder=tmp_path) in only_error(open_page("prompts"))
    overview = open_page("overview")
    shown = text_of(" ".join(m.value for m in overview.markdown))
    assert not overview.exception
    assert named.format(folder=tmp_path) in shown
    assert "score fell by 0." in shown
    assert not (tmp_path / "nowhere").exists()

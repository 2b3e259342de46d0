"""The ledger page on the demo."""

import json

import pytest

from tests.app.commands.running import Run
from tests.conftest import Demo
from tests.pages.opening import click_table, open_page, text_of, verdict

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("clean_streamlit")]


def test_the_ledger_lists_the_demo_s_changes_with_what_they_did(as_demo: Demo) -> None:
    app = open_page("ledger", environment="production", service="docs-chat")
    assert not app.exception
    assert not app.error
    table = app.dataframe[0].value
    rollout = table[table["change"] == "new_prompt_v3 rolled out from 5% to 20%"].iloc[0]
    assert rollout["measured"].lstrip("+-").startswith("0.00")
    assert rollout["verdict"] == "never predicted"
    assert verdict(app).startswith("No prediction; ")
    app = click_table(app, {"rows": [int(rollout.name)], "columns": [], "cells": []})
    links = [element.proto.label for element in app.get("page_link")]
    assert f"Open entry {rollout['id']}" in links


@pytest.mark.deep
def test_a_prediction_is_recorded_and_a_wrong_one_says_what_to_do(demo_url: str) -> None:
    app = open_page("ledger", environment="production", service="docs-chat")
    reason = next(field for field in app.text_input if field.label == "Reason")
    reason.input("the evaluation")
    next(button for button in app.button if button.label == "Predict").click().run()
    assert any("choose a name" in text_of(error.value) for error in app.error)
    next(box for box in app.selectbox if box.label == "Its name").select("new_prompt_v3")
    next(button for button in app.button if button.label == "Predict").click().run()
    assert not app.error
    assert any("Recorded as audit entry" in said.value for said in app.success)


def test_the_command_line_predicts_and_lists(as_demo: Demo, demo_url: str, quarterdeck: Run) -> None:
    place = ("--database", demo_url, "--environment", "production", "--service", "docs-chat")
    wrong = quarterdeck(
        "predict-effect", "flag:x", "--effect", "0.1", "--low", "0.2", "--high", "0.3", *place, "--reason", "r"
    )
    assert (wrong.code, "effect" in wrong.err) == (2, True)
    assert quarterdeck(
        "predict-effect", "flag:x", "--effect", "0", "--low", "-0.1", "--high", "0.1", *place, "--reason", "r"
    ).code == 0  # fmt: skip
    found = json.loads(quarterdeck("ledger", *place, "--json").out)
    assert {"entries", "calibration", "problems", "environment", "service"} == set(found)
    assert found["calibration"]["never_predicted"] == len(found["entries"]) > 3

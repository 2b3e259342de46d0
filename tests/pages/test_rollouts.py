"""The rollouts page: its sentence, the kill switch, flags made and deleted, and plans."""

import sqlite3
from contextlib import closing
from datetime import timedelta

import pytest
from streamlit.testing.v1 import AppTest

from core.audit.acts import Act
from core.flags.operations import change_rollout
from core.flags.store import get_flag
from quarterdeck.store import Store
from tests.conftest import Demo
from tests.pages.flag_form import edit, flip, last_changes, stored_flag
from tests.pages.opening import ask, click_table, only_error, open_page, shown_text, text_of, verdict

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("clean_streamlit")]


@pytest.mark.deep
def test_rollouts_says_which_flags_are_partly_rolled_out(as_demo: Demo) -> None:
    query = "SELECT COUNT(*) FROM flags WHERE environment = 'production'"
    ((count,),) = ask(as_demo.config.home / "quarterdeck.db", query)
    said = verdict(open_page("rollouts"))
    assert said == f"2 of {count} flags are partly rolled out: answer-service at 5%, new_prompt_v3 at 20%."


@pytest.mark.deep
def test_a_store_that_somebody_writes_to_can_be_read_but_not_changed(demo_url: str) -> None:
    path = demo_url.removeprefix("sqlite:///")
    with closing(sqlite3.connect(path)) as once:
        once.execute("PRAGMA journal_mode = WAL")
    app = open_page("rollouts", flag="use_hyde")
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        line = only_error(flip(app, on=True, reason="try it"))
        other.execute("ROLLBACK")
    assert "locked" in line
    assert "Nothing was changed" in line
    assert last_changes(demo_url, "use_hyde") == ["flag.create"]


@pytest.mark.deep
def test_flipping_a_flag_stores_it_and_shows_its_audit_entry(demo_url: str) -> None:
    before = stored_flag(demo_url, "use_reranker")
    app = flip(open_page("rollouts", flag="use_reranker"), on=False, reason="costs too much")
    ((entry, actor, reason),) = ask(
        demo_url, "SELECT id, actor, reason FROM audit WHERE action = 'flag.update' AND target = 'use_reranker'"
    )
    assert (actor, reason) == ("tester", "costs too much")
    assert [s.value for s in app.success] == [f"Recorded as audit entry {entry}. Services see it within 2 seconds."]
    assert stored_flag(demo_url, "use_reranker") == before | {"state": "DISABLED"}
    shown = open_page("audit", entry=str(entry))
    assert shown.selectbox(key="entry").value == entry
    assert [text.value for text in shown.text] == ["costs too much"]


def press(app: AppTest, label: str) -> AppTest:
    return next(button for button in app.button if button.label == label).click().run()


def open_new(app: AppTest) -> AppTest:
    return app.button(key="new-flag").click().run()


@pytest.mark.deep
def test_the_kill_switch_asks_once_and_turns_a_flag_off(demo_url: str) -> None:
    app = open_page("rollouts", flag="new_prompt_v3")
    app.button(key="kill-new_prompt_v3").click().run()
    assert stored_flag(demo_url, "new_prompt_v3")["state"] == "ENABLED"
    press(app, "Turn off")
    assert stored_flag(demo_url, "new_prompt_v3")["state"] == "DISABLED"
    assert verdict(app) == "1 of 5 flags is partly rolled out: answer-service at 5%."


@pytest.mark.deep
def test_the_question_of_the_kill_switch_can_be_declined_and_its_reason_is_kept(demo_url: str) -> None:
    app = open_page("rollouts", flag="new_prompt_v3")
    press(app.button(key="kill-new_prompt_v3").click().run(), "Keep it on")
    assert "Turn off" not in {button.label for button in app.button}
    app.button(key="kill-new_prompt_v3").click().run()
    next(each for each in app.text_input if each.label == "Reason (optional)").input("wrong answers")
    press(app, "Turn off")
    query = "SELECT reason FROM audit WHERE target = 'new_prompt_v3' ORDER BY id DESC LIMIT 1"
    assert ask(demo_url, query) == [("wrong answers",)]


@pytest.mark.deep
def test_a_kill_can_be_undone_for_half_a_minute_whatever_else_the_visitor_does(
    demo_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = stored_flag(demo_url, "new_prompt_v3")
    app = press(open_page("rollouts", flag="new_prompt_v3").button(key="kill-new_prompt_v3").click().run(), "Turn off")
    app.run().run()  # other clicks do not take Undo away
    press(app, "Undo")
    assert stored_flag(demo_url, "new_prompt_v3") == before
    assert "is undone" in app.success[0].value
    monkeypatch.setattr("app.panels.rollouts.kill_switch.UNDO_FOR", timedelta(0))
    app = press(open_page("rollouts", flag="new_prompt_v3").button(key="kill-new_prompt_v3").click().run(), "Turn off")
    assert stored_flag(demo_url, "new_prompt_v3")["state"] == "DISABLED"
    assert "Undo" not in {button.label for button in app.button}


@pytest.mark.deep
def test_undo_of_a_kill_overwrites_nobody(demo_url: str) -> None:
    app = press(open_page("rollouts", flag="new_prompt_v3").button(key="kill-new_prompt_v3").click().run(), "Turn off")
    with closing(Store(demo_url)) as store:
        change_rollout(store, get_flag(store, "production", "new_prompt_v3"), 35, Act("bob", "smaller"))
    press(app, "Undo")
    assert "Nothing was changed" in only_error(app)
    assert stored_flag(demo_url, "new_prompt_v3")["state"] == "DISABLED"


@pytest.mark.deep
def test_a_click_in_the_list_opens_the_flag_of_its_row(demo_url: str) -> None:
    app = open_page("rollouts")
    keys = list(app.dataframe[0].value["flag"])
    assert app.selectbox(key="flag").value == keys[0]
    for cell in ({"rows": [3], "columns": [], "cells": []}, {"rows": [], "columns": [], "cells": [(2, "flag")]}):
        click_table(app, cell)
        row = cell["rows"][0] if cell["rows"] else 2
        assert app.selectbox(key="flag").value == keys[row]
        assert app.query_params["flag"] == keys[row]
    click_table(app, {"rows": [], "columns": [], "cells": []})
    assert app.selectbox(key="flag").value == keys[2]


@pytest.mark.deep
def test_a_flag_is_made_off_and_deleted_by_its_typed_name(demo_url: str) -> None:
    app = open_new(open_page("rollouts"))
    app.text_input(key="new-key").input("shiny")
    app.text_input(key="new-description").input("a trial")
    app.text_input(key="new-reason").input("try it")
    press(app, "Create flag")
    assert verdict(app).startswith("2 of 6 flags")
    made = stored_flag(demo_url, "shiny")
    assert (made["state"], made["metadata"]["description"]) == ("DISABLED", "a trial")
    assert app.selectbox(key="flag").value == "shiny"
    assert "new-key" not in {each.key for each in app.text_input}
    assert "shiny is created, and off." in text_of(app.success[0].value)
    app.text_input(key="delete-reason-shiny").input("was a trial")
    app.text_input(key="delete-name-shiny").input("shin")
    next(button for button in app.button if button.label == "Delete flag").click().run()
    assert "type shiny to delete it" in only_error(app)
    app.text_input(key="delete-reason-shiny").input("was a trial")
    app.text_input(key="delete-name-shiny").input("shiny")
    next(button for button in app.button if button.label == "Delete flag").click().run()
    assert verdict(app).startswith("2 of 5 flags")
    assert last_changes(demo_url, "shiny") == ["flag.delete", "flag.create"]


@pytest.mark.deep
@pytest.mark.parametrize(
    ("key", "field_name"), [("x" * 300, "key: 300 characters"), ("a\tb", "control characters"), ("", "key: give")]
)
def test_a_flag_of_a_name_that_cannot_be_is_refused_with_the_fields_name(
    key: str, field_name: str, demo_url: str
) -> None:
    app = open_new(open_page("rollouts"))
    app.text_input(key="new-key").input(key)
    app.text_input(key="new-reason").input("try it")
    press(app, "Create flag")
    assert field_name in only_error(app)
    assert ask(demo_url, "SELECT COUNT(*) FROM flags") == [(5 + 3,)]


@pytest.mark.deep
def test_a_rollout_in_steps_is_planned_paused_and_cancelled_on_the_page(demo_url: str) -> None:
    app = open_page("rollouts", flag="new_prompt_v3")
    app.text_input(key="plan-reason-new_prompt_v3").input("no complaints")
    app.text_input(key="plan-name-new_prompt_v3").input("new_prompt_v3")
    next(button for button in app.button if button.label == "Plan it").click().run()
    assert "Next: new_prompt_v3, 5% now." in verdict(app)
    assert "5% → 25% → 50% → 100%. Next: 5% now." in shown_text(app)
    assert any("No server is running that makes the steps" in warning.value for warning in app.warning)
    for verb, told in (("Pause", "A plan is paused"), ("Resume", "Rolling out"), ("Cancel", "Rolling out")):
        next(each for each in app.text_input if str(each.key).startswith("schedule-reason-")).input("look first")
        next(button for button in app.button if button.label == f"{verb} the plan").click().run()
        assert told in shown_text(app)
    assert last_changes(demo_url, "new_prompt_v3")[:4] == [
        "schedule.cancel", "schedule.resume", "schedule.pause", "schedule.create",
    ]  # fmt: skip
    assert "plan-reason-new_prompt_v3" in {each.key for each in app.text_input}


@pytest.mark.deep
def test_a_viewer_sees_the_flags_and_can_change_none(as_demo: Demo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUARTERDECK_OPERATOR_ROLE", "viewer")
    app = edit(open_page("rollouts", flag="new_prompt_v3"), share=30.0)
    assert "kill" not in app.dataframe[0].value
    locked = {button.label: button.disabled for button in app.button}
    assert all(locked[label] for label in ("Save", "New flag", "Plan it", "Delete flag"))

"""The audit page on the demo."""

import pytest

from core.audit.acts import Act
from core.audit.sentences import say_entry
from core.flags.operations import create_flag, switch_flag
from core.flags.store import get_flag
from quarterdeck.definitions import boolean_flag
from quarterdeck.store import Store
from tests.conftest import Demo
from tests.pages.flag_form import flip, stored_flag
from tests.pages.opening import ask, click_table, open_page, shown_text, verdict

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("clean_streamlit")]


def test_audit_says_how_many_changes_there_are_and_which_was_last(as_demo: Demo) -> None:
    ((count, actor, action, target),) = ask(
        as_demo.config.home / "quarterdeck.db",
        "SELECT COUNT(*), actor, action, target FROM audit WHERE id = id HAVING MAX(id)",
    )
    app = open_page("audit")
    assert verdict(app).startswith(f"The last of {count} changes: {say_entry(actor, action, target)}, ")
    assert any("Chain verified" in m.value for m in app.markdown)


@pytest.mark.deep
def test_reverting_an_entry_brings_the_former_state_back(demo_url: str) -> None:
    before = stored_flag(demo_url, "use_hyde")
    flip(open_page("rollouts", flag="use_hyde"), on=True, reason="try it")
    app = open_page("audit", on="use_hyde")
    next(each for each in app.text_input if each.label.startswith("Reason")).input("was a mistake")
    next(each for each in app.button if each.label.startswith("Revert")).click().run()
    assert not app.exception
    assert stored_flag(demo_url, "use_hyde") == before


def test_the_trail_is_that_of_all_environments_and_has_no_switch_that_changes_nothing(
    empty_url: str, store: Store
) -> None:
    for environment in ("production", "staging"):
        create_flag(store, "use_hyde", boolean_flag(on=True), Act("ada", "for a test", environment))
    app = open_page("audit")
    assert {box.label for box in app.selectbox} == {"Who", "What", "On", "Where", "Entry"}
    assert set(app.dataframe[0].value["where"]) == {"production", "staging"}


@pytest.mark.deep
def test_an_entry_whose_state_before_is_that_of_now_offers_no_revert(empty_url: str, store: Store) -> None:
    create_flag(store, "use_hyde", boolean_flag(on=True), Act("ada", "for a test"))
    switch_flag(store, get_flag(store, "production", "use_hyde"), Act("ada", "off"), on=False)
    off = switch_flag(store, get_flag(store, "production", "use_hyde"), Act("ada", "on again"), on=True) - 1
    app = open_page("audit", entry=str(off))
    assert "Nothing to revert: the state before this entry is that of now." in shown_text(app)
    assert not [button for button in app.button if button.label == "Revert"]
    assert [button for button in open_page("audit", entry=str(off + 1)).button if button.label == "Revert"]


def test_a_click_on_a_row_opens_its_entry(empty_url: str, store: Store) -> None:
    entries = [create_flag(store, key, boolean_flag(on=True), Act("ada", "for a test")) for key in ("one", "two")]
    app = open_page("audit")
    assert app.selectbox(key="entry").value == entries[1]
    for cell in ({"rows": [1], "columns": [], "cells": []}, {"rows": [], "columns": [], "cells": [(1, "who")]}):
        click_table(app, cell)
        assert app.selectbox(key="entry").value == entries[0]
        assert app.query_params["entry"] == str(entries[0])


def test_no_action_s_own_name_is_shown_and_the_address_keeps_it(empty_url: str, store: Store) -> None:
    create_flag(store, "one", boolean_flag(on=True), Act("ada", "for a test"))
    switch_flag(store, get_flag(store, "production", "one"), Act("ada", "off"), on=False)
    app = open_page("audit", what="flag.create")
    assert app.selectbox(key="what").options == ["changed the flag", "created the flag"]
    assert list(app.dataframe[0].value["what"]) == ["created the flag"]
    assert "flag.create" not in shown_text(app) + str(app.dataframe[0].value.to_dict())
    app.selectbox(key="what").select("changed the flag").run()
    assert app.query_params["what"] == "flag.update"
    assert list(app.dataframe[0].value["what"]) == ["changed the flag"]

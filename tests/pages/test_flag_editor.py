"""The form that changes a flag: its preview, its rules, and what it refuses."""

import json
import re
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta

import pytest
from streamlit.testing.v1 import AppTest

from app.visitor import Visitor
from core.audit.acts import Act
from core.flags.operations import create_flag, switch_flag
from core.flags.store import get_flag
from quarterdeck.definitions import boolean_flag
from quarterdeck.recorder import append_retrievals
from quarterdeck.retrieval import Retrieval
from quarterdeck.store import Store
from tests.conftest import Demo
from tests.pages.flag_form import edit, field, last_changes, save, stored_flag
from tests.pages.opening import ask, only_error, open_page, shown_text, text_of, verdict

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("clean_streamlit")]


def press_first(app: AppTest, label: str) -> AppTest:
    return next(button for button in app.button if button.label == label).click().run()


def has_unsaved(app: AppTest) -> bool:
    return any("These are your unsaved edits" in each.value for each in app.info)


def add_rule(app: AppTest, attribute: str, value: str) -> AppTest:
    press_first(app, "Add a rule")
    [each for each in app.text_input if each.label == "Attribute"][-1].input(attribute).run()
    return [each for each in app.text_input if each.label == "Value"][-1].input(value).run()


def differences(app: AppTest) -> Iterator[str]:
    """The blocks of the page that hold a difference: lines that begin with + or -."""
    return (code.value for code in app.code if re.search(r"^[+-]", code.value, re.MULTILINE))


@pytest.mark.deep
def test_a_change_is_previewed_on_recent_users_and_saved_with_its_reason(demo_url: str) -> None:
    app = edit(open_page("rollouts", flag="new_prompt_v3"), share=40.0)
    said = re.search(r"\*\*(\d+)%\*\* get another answer: ([\d,]+) of ([\d,]+) users", shown_text(app))
    assert said, shown_text(app)
    since = int((datetime.now(UTC) - timedelta(days=7)).timestamp() * 1000)
    query = (
        "SELECT COUNT(DISTINCT COALESCE(user_id, session_id)) FROM retrievals JOIN scopes ON scopes.id = scope_id "
        "WHERE environment = 'production' AND ts_ms >= ?"
    )
    ((users,),) = ask(demo_url, query, since)
    assert int(said[3].replace(",", "")) == pytest.approx(users, abs=10)
    assert int(said[1]) == pytest.approx(20, abs=7)
    diff = next(differences(app))
    assert [line.split()[1] for line in diff.splitlines() if line[0] in "+-"]
    assert "20000" in diff
    assert "40000" in diff
    assert last_changes(demo_url, "new_prompt_v3")[0] == "flag.update"
    before = len(last_changes(demo_url, "new_prompt_v3"))
    save(app, "no complaints")
    assert "new_prompt_v3 at 40%" in verdict(app)
    assert len(last_changes(demo_url, "new_prompt_v3")) == before + 1


@pytest.mark.deep
def test_a_wide_change_in_production_takes_the_flags_name(demo_url: str) -> None:
    before = stored_flag(demo_url, "new_prompt_v3")
    app = edit(open_page("rollouts", flag="new_prompt_v3"), share=95.0)
    assert "Type **new_prompt_v3** to change it for this many users" in shown_text(app)
    line = only_error(save(app, "all in", name="new_prompt"))
    assert re.search(r"name: \d+% of users get another answer; type new_prompt_v3 to continue", line)
    assert stored_flag(demo_url, "new_prompt_v3") == before
    app = edit(open_page("rollouts", flag="new_prompt_v3"), share=95.0)
    assert "new_prompt_v3 at 95%" in verdict(save(app, "all in", name="new_prompt_v3"))


@pytest.mark.deep
def test_a_page_says_what_a_user_gets_now_and_after_the_change_and_why(as_demo: Demo) -> None:
    app = edit(open_page("rollouts", flag="new_prompt_v3"), share=0.0)
    app.text_input(key="why-user-new_prompt_v3").input("user-1").run()
    shown = shown_text(app)
    assert "**Now**: " in shown
    assert "**After the change**: off, with the value false" in shown
    assert any("falls to" in text.value for text in app.text)


@pytest.mark.deep
def test_rules_read_as_sentences_before_and_after_a_change(demo_url: str) -> None:
    app = open_page("rollouts", flag="new_prompt_v3")
    now = next(text_of(each.value) for each in app.markdown if each.value.startswith("- "))
    assert now.splitlines() == ["- 20% of users: on, by user id", "- 80% of users: off, by user id"]
    add_rule(app, "country", "DE")
    marked = [text_of(each.value) for each in app.markdown if "background[" in each.value]
    assert marked[0].splitlines() == ["- :green-background[**For users whose country is DE: on**]", *now.splitlines()]


@pytest.mark.deep
def test_the_preview_counts_rules_on_attributes_that_are_logged_and_names_the_others(
    empty_url: str, store: Store
) -> None:
    now = datetime.now(UTC)
    append_retrievals(
        store,
        [
            Retrieval(
                query="q", score=0.5, ts=now, user_id=f"u{number}",
                attributes={"country": "DE" if number < 3 else "FR"} if number < 6 else {},
            )
            for number in range(10)
        ],
    )  # fmt: skip
    create_flag(store, "use_hyde", boolean_flag(on=True, rollout_pct=0), Act("ada", "for a test"))
    app = add_rule(open_page("rollouts", flag="use_hyde"), "country", "DE")
    said = shown_text(app)
    assert "get another answer: 3 of 10 users of the last 7 days" in said
    assert "country is known for 6 of 10; the count takes it for missing elsewhere." in said
    add_rule(app, "plan", "pro")
    assert "plan is not in the retrieval log: the count takes it for missing." in shown_text(app)


@pytest.mark.deep
def test_unsaved_edits_survive_a_reload_and_another_page_and_can_be_discarded(demo_url: str) -> None:
    app = add_rule(edit(open_page("rollouts", flag="new_prompt_v3"), share=40.0), "country", "DE")
    address = {"flag": "new_prompt_v3", "draft": app.query_params["draft"]}
    for _ in range(2):
        app = open_page("rollouts", **address)  # another session, as after a reload
        assert field(app.number_input, "share").value == 40.0
        assert "For users whose country is DE: on" in shown_text(app)
        assert has_unsaved(app)
    app = app.switch_page("../pages/audit.py").run().switch_page("../pages/rollouts.py")
    app.query_params["flag"] = "new_prompt_v3"
    assert field(app.run().number_input, "share").value == 40.0
    press_first(app, "Discard them")
    assert field(app.number_input, "share").value == 20.0
    assert "draft" not in app.query_params
    assert field(open_page("rollouts", **address).number_input, "share").value == 20.0


@pytest.mark.deep
def test_a_draft_is_its_authors_and_of_its_flag(demo_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    app = edit(open_page("rollouts", flag="new_prompt_v3"), share=40.0)
    draft = app.query_params["draft"]
    assert not has_unsaved(open_page("rollouts", flag="use_hyde", draft=draft))
    monkeypatch.setattr("app.panels.rollouts.drafts.get_visitor", lambda: Visitor("bob", {}))
    assert field(open_page("rollouts", flag="new_prompt_v3", draft=draft).number_input, "share").value == 20.0


@pytest.mark.deep
def test_a_saved_edit_is_no_draft_any_more(demo_url: str) -> None:
    app = save(edit(open_page("rollouts", flag="new_prompt_v3"), share=40.0), "no complaints")
    assert "draft" not in app.query_params
    assert not has_unsaved(app)


@pytest.mark.deep
def test_what_a_user_gets_is_answered_for_all_flags_at_once(as_demo: Demo) -> None:
    app = open_page("rollouts")
    app.text_input(key="answers-user").input("user-1").run()
    answers = next(each.value for each in app.dataframe if "why" in each.value and "variant" in each.value)
    assert list(answers["flag"]) == list(app.dataframe[0].value["flag"])
    by_flag = answers.set_index("flag")
    assert by_flag.loc["use_hyde", "variant"] == "the caller's default"
    assert by_flag.loc["use_hyde", "why"] == "The flag is switched off: every caller gets the default in its code."
    assert "falls to" in by_flag.loc["new_prompt_v3", "why"]
    app.text_input(key="answers-more").input("[1]").run()
    assert only_error(app) == "attributes: give a JSON object"


@pytest.mark.deep
def test_rules_are_added_ordered_and_taken_away(demo_url: str) -> None:
    app = open_page("rollouts", flag="new_prompt_v3")
    for attribute, value in (("country", "DE"), ("plan", "pro")):
        next(button for button in app.button if button.label == "Add a rule").click().run()
        [each for each in app.text_input if each.label == "Attribute"][-1].input(attribute).run()
        [each for each in app.text_input if each.label == "Value"][-1].input(value).run()
    [each for each in app.button if each.label == ":material/arrow_upward:"][-1].click().run()
    save(app, "by plan first")
    targeting = stored_flag(demo_url, "new_prompt_v3")["targeting"]["if"]
    assert [test["=="] for test in targeting[:-1:2]] == [[{"var": "plan"}, "pro"], [{"var": "country"}, "DE"]]
    assert targeting[1:-1:2] == ["on", "on"]  # a new rule lets its users in
    app = open_page("rollouts", flag="new_prompt_v3")
    next(button for button in app.button if button.label == ":material/close:").click().run()
    save(app, "plan no more")
    targeting = stored_flag(demo_url, "new_prompt_v3")["targeting"]["if"]
    assert [test["=="] for test in targeting[:-1:2]] == [[{"var": "country"}, "DE"]]


@pytest.mark.deep
def test_owner_tags_and_expiry_are_kept_found_and_shown(demo_url: str) -> None:
    app = open_page("rollouts", flag="new_prompt_v3")
    field(app.text_input, "owner").input("ada").run()
    field(app.text_input, "tags").input("prompts, rag").run()
    save(app, "who looks after it")
    assert stored_flag(demo_url, "new_prompt_v3")["metadata"]["tags"] == "prompts, rag"
    found = open_page("rollouts", search="RAG ada")
    assert list(found.dataframe[0].value["flag"]) == ["new_prompt_v3"]
    assert list(open_page("rollouts", stale="true").dataframe[0].value["flag"]) == ["use_reranker"]
    assert "None of 5 flags matches the filters." in shown_text(open_page("rollouts", search="no such flag"))


@pytest.mark.deep
def test_a_definition_is_edited_as_json_and_a_wrong_one_is_one_line(demo_url: str) -> None:
    app = open_page("rollouts", flag="use_hyde")
    next(each for each in app.segmented_control if str(each.key).startswith("how-")).set_value("JSON").run()
    area = app.text_area[0]
    typed = json.loads(area.value)
    area.input(json.dumps(typed | {"state": "MAYBE"})).run()
    assert only_error(app) == "**This cannot be saved** — state: give ENABLED or DISABLED, not 'MAYBE'"
    app.text_area[0].input(json.dumps(typed | {"metadata": typed["metadata"] | {"owner": "ada"}})).run()
    save(app, "an owner")
    assert stored_flag(demo_url, "use_hyde")["metadata"]["owner"] == "ada"


@pytest.mark.deep
@pytest.mark.parametrize("reason", ["", "   "])
def test_a_change_without_a_reason_is_refused_in_one_line(reason: str, demo_url: str) -> None:
    before = stored_flag(demo_url, "new_prompt_v3")
    line = only_error(save(edit(open_page("rollouts", flag="new_prompt_v3"), share=25.0), reason))
    assert line == "**Nothing was changed** — reason: is empty; give a reason for the audit trail"
    assert stored_flag(demo_url, "new_prompt_v3") == before


def test_a_form_that_nobody_touched_has_nothing_to_save(as_demo: Demo) -> None:
    app = open_page("rollouts", flag="use_hyde")
    assert "Save" not in [button.label for button in app.button]
    app = edit(edit(app, on=True), on=False)
    assert "Save" not in [button.label for button in app.button]


@pytest.mark.deep
def test_saving_over_a_change_of_somebody_else_is_a_conflict_that_shows_both_changes(demo_url: str) -> None:
    app = edit(open_page("rollouts", flag="new_prompt_v3"), share=30.0)
    with closing(Store(demo_url)) as store:
        flag = get_flag(store, "production", "new_prompt_v3")
        switch_flag(store, flag, Act("somebody else", "was faster"), on=False)
    save(app, "mine")
    assert not app.exception
    lines = [text_of(error.value) for error in app.error]
    assert any("somebody else was faster" in line for line in lines)
    assert any(
        "Conflict** — somebody else changed this flag just now, while you were editing" in line for line in lines
    )
    theirs, mine = differences(app)
    assert '+  "state": "DISABLED"' in theirs
    assert "30000" in mine
    assert stored_flag(demo_url, "new_prompt_v3")["state"] == "DISABLED"
    app.button(key="drop-edit-new_prompt_v3").click().run()
    assert [error.value for error in app.error] == []
    assert field(app.toggle, "on").value is False
    assert field(app.number_input, "share").value == 20.0

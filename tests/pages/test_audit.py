"""The audit page on the demo."""

import pytest

from core.audit.sentences import say_entry
from tests.conftest import Demo
from tests.pages.flag_form import flip, stored_flag
from tests.pages.opening import ask, open_page, verdict

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
    app.text_input[0].input("was a mistake")
    app.button[0].click().run()
    assert not app.exception
    assert stored_flag(demo_url, "use_hyde") == before

"""What became of a change is said beside its control and as a toast, and can be undone there."""

import pytest
from streamlit.testing.v1 import AppTest

from core.audit.acts import Act
from core.audit.trail import list_audit
from core.flags.operations import create_flag
from quarterdeck.definitions import boolean_flag
from quarterdeck.store import Store
from tests.conftest import Demo
from tests.pages.opening import open_page, text_of

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("clean_streamlit")]
BY = Act("ada", "for a test")


def press(app: AppTest, label: str) -> AppTest:
    return next(button for button in app.button if button.label == label).click().run()


def order_of(app: AppTest) -> list[str]:
    """The kinds of the elements of the page, and the labels of its buttons, from the top to the bottom."""
    return [getattr(each, "label", "") or each.type for each in app.main]


@pytest.mark.deep
def test_the_kill_switch_says_beside_itself_what_it_did_and_takes_it_back(empty_url: str, store: Store) -> None:
    create_flag(store, "use_hyde", boolean_flag(on=True), BY)
    app = press(press(open_page("rollouts", flag="use_hyde"), "Kill switch: turn use\\_hyde off"), "Turn off")
    entry = list_audit(store, limit=1)[0]
    assert [text_of(each.value) for each in app.success] == [
        f"Recorded as audit entry {entry.entry_id}. use_hyde is off in production. Services see it within 2 seconds."
    ]
    assert f":green[:material/check_circle:] Saved: entry {entry.entry_id}" in [each.value for each in app.markdown]
    assert [button.label for button in app.button].count("Undo") == 1  # a kill is undone beside its switch, not twice
    app = press(app, "Undo")
    newest = list_audit(store, limit=1)[0]
    assert (newest.action, newest.after["state"]) == ("flag.update", "ENABLED")
    assert newest.reason == f"undo of entry {entry.entry_id} on the page"
    assert not app.error


def test_a_saved_change_is_a_toast_with_undo(empty_url: str, store: Store) -> None:
    create_flag(store, "use_hyde", boolean_flag(on=True), BY)
    app = open_page("rollouts", flag="use_hyde")
    app.text_input(key="delete-reason-use_hyde").set_value("not needed")
    app.text_input(key="delete-name-use_hyde").set_value("use_hyde")
    app = press(app, "Delete flag")
    entry = list_audit(store, limit=1)[0]
    assert [button.label for button in app.button].count("Undo") == 1
    app = app.button(key=f"saved-{entry.entry_id}").click().run()
    assert list_audit(store, limit=1)[0].action == "flag.create"
    assert "is undone" in text_of(app.success[0].value)


def test_an_error_is_said_below_its_form_and_as_a_toast(empty_url: str, store: Store) -> None:
    create_flag(store, "use_hyde", boolean_flag(on=True), BY)
    app = press(open_page("rollouts", flag="use_hyde"), "Delete flag")
    (said,) = [text_of(each.value) for each in app.error]
    assert said.startswith("**Nothing was changed** — reason")
    assert [text_of(each.value) for each in app.toast] == [said]
    order = order_of(app)
    assert order.index("error") > order.index("Delete flag")
    assert not list(app.run().error)


def test_a_flag_that_is_gone_is_said_at_the_list(empty_url: str, store: Store) -> None:
    create_flag(store, "use_hyde", boolean_flag(on=True), BY)
    create_flag(store, "other", boolean_flag(on=True), BY)
    app = open_page("rollouts", flag="use_hyde")
    app.text_input(key="delete-reason-use_hyde").set_value("not needed")
    app.text_input(key="delete-name-use_hyde").set_value("use_hyde")
    app = press(app, "Delete flag")
    assert "use_hyde is deleted." in text_of(app.success[0].value)
    assert not app.warning
    assert app.selectbox(key="flag").value == "other"
    press(app, "Undo")
    assert list_audit(store, limit=1)[0].action == "flag.create"


@pytest.mark.deep
@pytest.mark.parametrize(
    ("page", "filters", "button"),
    [
        ("questions", {}, "Save"),
        ("questions", {"show": "Review"}, "Begin"),
        ("prompts", {"tab": "Names"}, "Save the names"),
        ("prompts", {"tab": "Promote"}, "Promote v3"),
    ],
)
def test_what_a_form_is_refused_for_is_said_below_its_button(
    page: str, filters: dict[str, str], button: str, as_demo: Demo
) -> None:
    app = open_page(page, **filters)
    for decision in app.text_area:
        decision.set_value("")
    app = press(app, button)
    (said,) = [text_of(each.value) for each in app.error]
    assert said.startswith("**Nothing was changed** — ")
    order = order_of(app)
    assert order.index("error") > order.index(button)

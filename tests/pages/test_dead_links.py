"""A link to something that is gone says so, with who removed it, and shows nothing else in its place."""

import pytest

from core.audit.acts import Act
from core.flags.operations import create_flag, remove_flag
from core.flags.store import get_flag
from quarterdeck.definitions import boolean_flag, canary_flag
from quarterdeck.store import Store
from tests.conftest import Demo
from tests.pages.opening import assert_shown_as_text, open_page, shown_text, text_of
from tests.pages.test_coverage import WORDS, ask_in_vain

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("clean_streamlit")]
BY = Act("ada", "not needed any more")


def test_a_deleted_flag_is_named_with_who_deleted_it_and_no_other_is_shown(empty_url: str, store: Store) -> None:
    for key in ("gone", "stays"):
        create_flag(store, key, boolean_flag(on=True), BY)
    entry = remove_flag(store, get_flag(store, "production", "gone"), BY, typed_name="gone")
    app = open_page("rollouts", flag="gone")
    (said,) = [text_of(each.value) for each in app.warning]
    assert said.startswith("There is no flag gone in production: ada deleted it on ")
    assert said.endswith(f", entry {entry}.")
    assert app.selectbox(key="flag").value is None
    assert [each.value for each in app.subheader] == []
    assert not [button for button in app.button if button.label.startswith("Kill switch")]
    app.selectbox(key="flag").select("stays").run()
    assert app.query_params["flag"] == "stays"
    assert [each.value for each in app.subheader] == ["stays"]
    assert not app.warning


def test_a_flag_that_never_was_and_hostile_names_are_said_as_text(empty_url: str, store: Store) -> None:
    create_flag(store, "stays", boolean_flag(on=True), BY)
    app = open_page("rollouts", flag="<b>**x**</b>")
    assert "none of that name was deleted here" in text_of(app.warning[0].value)
    assert_shown_as_text(app)


def test_a_link_opens_its_flag_whatever_the_filters_hide(empty_url: str, store: Store) -> None:
    for key in ("wanted", "other"):
        create_flag(store, key, boolean_flag(on=True), BY)
    app = open_page("rollouts", flag="wanted", search="other")
    assert app.selectbox(key="flag").value == "wanted"


@pytest.mark.deep
def test_a_canary_that_is_gone_is_said(empty_url: str, store: Store) -> None:
    create_flag(store, "answers", canary_flag(5), BY)
    app = open_page("rollouts", tab="Canaries", canary="gone")
    assert [text_of(each.value) for each in app.warning] == ["There is no canary gone in production."]
    assert not open_page("rollouts", tab="Canaries", canary="answers").warning


@pytest.mark.deep
def test_an_entry_that_is_not_there_is_said_and_an_old_one_is_shown_whatever_the_filter(
    empty_url: str, store: Store
) -> None:
    first = create_flag(store, "one", boolean_flag(on=True), BY)
    create_flag(store, "two", boolean_flag(on=True), Act("bob", "another"))
    app = open_page("audit", entry="999")
    assert "There is no entry 999" in text_of(app.warning[0].value)
    assert [each.value for each in app.subheader] == []
    app = open_page("audit", entry=str(first), who="bob")
    assert app.selectbox(key="entry").value == first
    assert f"Entry {first}" in app.subheader[0].value


@pytest.mark.deep
def test_a_topic_is_linked_by_its_id_and_one_that_never_was_is_said(empty_url: str, store: Store) -> None:
    ask_in_vain(store, WORDS[:1])
    topic = open_page("coverage").selectbox(key="topic").value
    assert topic.startswith("t-")
    assert open_page("coverage", days="7d", topic=topic).selectbox(key="topic").value == topic
    app = open_page("coverage", topic="t-nope")
    assert "There is no topic t-nope in default, production" in text_of(app.warning[0].value)
    assert app.selectbox(key="topic").value is None
    assert "State: open" not in shown_text(app)
    app.selectbox(key="topic").select(topic).run()
    assert app.query_params["topic"] == topic


@pytest.mark.parametrize(
    ("page", "filters", "said"),
    [
        ("rollouts", {"tab": "Canaries", "canary": "gone"}, "There is no canary gone in production."),
        ("rollouts", {"tab": "Experiments", "experiment": "gone"}, "There is no experiment gone in production."),
        ("prompts", {"experiment": "gone"}, "There is no MLflow experiment gone with runs."),
        ("corpus", {"tab": "Documents", "document": "x.md"}, "No question of the last 30 days found a document x.md."),
    ],
)  # fmt: skip
@pytest.mark.deep
def test_a_link_to_what_is_gone_says_so_and_shows_nothing_in_its_place(
    page: str, filters: dict[str, str], said: str, as_demo: Demo
) -> None:
    app = open_page(page, **filters)
    assert said in [text_of(each.value) for each in app.warning]
    assert page != "corpus" or len(app.warning) == 1  # said once
    assert not app.get("plotly_chart")
    assert not [button for button in app.button if "Roll back" in button.label]

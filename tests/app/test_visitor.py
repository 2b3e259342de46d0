"""What the pages let a visitor do: controls that change something are locked for viewers, with the reason."""

import pytest
from streamlit.testing.v1 import AppTest

from app.navigation import TITLES
from tests.conftest import Demo
from tests.pages.opening import forget, only_error, open_page, text_of

# Buttons that change nothing stored begin like this; a rule that is added belongs to a draft until it is saved.
FILTERS = {"Add", "Newest", "Older", "Clear all"}  # of the questions page
READING = ("Show", "Help", "Look", "Compare", "Preview", "Search", "Sign out", "Add a rule", "Table **of", "Backtest")

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("clean_streamlit")]


@pytest.fixture
def as_viewer(as_demo: Demo, monkeypatch: pytest.MonkeyPatch) -> Demo:
    monkeypatch.setenv("QUARTERDECK_OPERATOR_ROLE", "viewer")
    return as_demo


def list_changing(app: AppTest) -> list[tuple[str, bool, str]]:
    """Label, whether locked, and the help of each button that may change something."""
    return [
        (b.label, b.disabled, text_of(b.help))
        for b in app.button
        if not (b.label.startswith(READING) or b.label in FILTERS)
    ]  # a filter


@pytest.mark.deep
@pytest.mark.parametrize("page", TITLES)
def test_who_only_looks_finds_every_change_locked_with_the_reason(page: str, as_viewer: Demo) -> None:
    app = open_page(page)
    assert not app.exception
    assert "the local operator, as **viewer**" in " ".join(each.value for each in app.sidebar.caption)
    for label, disabled, reason in list_changing(app):
        assert (label, disabled) == (label, True)
        assert "requires the role" in reason and "you have viewer" in reason, label


@pytest.mark.deep
@pytest.mark.parametrize("page", ["drift", "coverage", "rollouts", "audit"])
def test_who_may_change_something_finds_it_open(page: str, as_demo: Demo) -> None:
    filters = {"what": "flag.update"} if page == "audit" else {}  # the newest entry may not be revertible
    assert [label for label, disabled, _ in list_changing(open_page(page, **filters)) if not disabled]


@pytest.mark.deep
def test_a_change_sent_past_a_locked_control_is_refused_in_one_line(
    as_demo: Demo, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = open_page("rollouts", flag="new_prompt_v3")
    app.button(key="kill-new_prompt_v3").click().run()
    forget()  # the visitor's role is revoked while the page is open
    monkeypatch.setenv("QUARTERDECK_OPERATOR_ROLE", "viewer")
    next(button for button in app.button if button.label == "Turn off").click().run()
    assert only_error(app).startswith("**Nothing was changed** — a change requires the role editor in production")

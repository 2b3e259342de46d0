"""Accessibility: no serious finding of axe-core in either theme, keyboard only, and a narrow screen."""

from collections.abc import Iterator
from importlib.resources import files

import pytest
from playwright.sync_api import Browser, Page

from app.navigation import TITLES, path_of
from tests.browser.conftest import PATIENCE_MS, Server, Visit

# Every page, and every tab of those that have some.
FILTERS = {"coverage": "?days=7d"}
PLACES = (
    *(path_of(name) + FILTERS.get(name, "") for name in TITLES),
    "questions?show=Review", "questions?show=Quality",
    "prompts?tab=Runs", "prompts?tab=Promote", "prompts?tab=Live", "prompts?tab=Cases", "prompts?tab=Evaluate",
    "corpus?tab=Files", "corpus?tab=Diff", "corpus?tab=Pipeline", "corpus?tab=Indexes", "corpus?tab=Documents",
    "corpus?tab=What+would+it+fix%3F",
    "rollouts?tab=Experiments", "rollouts?tab=Canaries", "rollouts?tab=Blue-green", "rollouts?tab=Access",
)  # fmt: skip
# axe-core, and what it calls serious or critical, a line each.
AXE = files("axe_playwright_python").joinpath("axe.min.js")
DARK = "rgb(16, 20, 29)"
FIND = """async () => (await axe.run({resultTypes: ['violations']})).violations
    .filter(found => ['serious', 'critical'].includes(found.impact))
    .flatMap(found => found.nodes.map(node => `${found.id}: ${node.html} ${node.failureSummary}`))"""

# WCAG 2.2, 2.5.8: 24 by 24 pixels, or as much room around it.
TARGETS = """async () => (await axe.run({runOnly: ['target-size']})).violations
    .flatMap(found => found.nodes.map(node => node.html))"""

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.deep]


def name(place: str) -> str:
    return place or "overview"


def unfold(page: Page, *, width: int) -> None:
    """Make the window as high as the page, so that everything is on the screen."""
    main = page.get_by_test_id("stMain")
    page.set_viewport_size({"width": width, "height": 900})
    height = main.evaluate("element => element.scrollHeight")
    page.set_viewport_size({"width": width, "height": max(900, height)})
    page.wait_for_timeout(500)  # charts and tables are redrawn


@pytest.fixture(scope="module")
def tab(chromium: Browser, server: Server) -> Iterator[Visit]:
    """One tab for all pages, so that Streamlit's scripts are read once."""
    context = chromium.new_context()
    context.set_default_timeout(PATIENCE_MS)
    yield Visit(context.new_page(), server.address, [])
    context.close()


@pytest.mark.deep
@pytest.mark.parametrize("place", PLACES, ids=name)
def test_axe_finds_nothing_serious_in_either_theme(place: str, tab: Visit) -> None:
    tab.page.emulate_media(color_scheme="light")
    page = tab.open(place)
    unfold(page, width=1440)
    page.evaluate(AXE.read_text())
    assert page.evaluate(FIND) == []
    page.emulate_media(color_scheme="dark")
    page.wait_for_function(
        f"getComputedStyle(document.querySelector('[data-testid=stApp]')).backgroundColor === '{DARK}'"
    )
    page.wait_for_timeout(100)
    page.wait_for_function("document.getAnimations().every(each => each.playState !== 'running')")  # of colors
    assert page.evaluate(FIND) == []


@pytest.mark.parametrize("place", PLACES, ids=name)
def test_a_narrow_screen_needs_no_sideways_scroll(place: str, tab: Visit) -> None:
    tab.page.set_viewport_size({"width": 420, "height": 800})
    page = tab.open(place)
    unfold(page, width=420)
    assert page.evaluate("document.documentElement.scrollWidth") <= 420
    assert page.get_by_test_id("stMain").evaluate("element => element.scrollWidth - element.clientWidth") <= 0


@pytest.mark.parametrize("place", ["ledger", "alerts", "questions", "questions?show=Quality"])
def test_the_verdict_is_told_and_targets_are_large_enough(place: str, tab: Visit) -> None:
    page = tab.open(place)
    unfold(page, width=1440)
    assert 'strong: "Verdict:"' in page.get_by_test_id("stMain").aria_snapshot()
    page.evaluate(AXE.read_text())
    assert page.evaluate(TARGETS) == []


def tab_to(page: Page, wanted: str, *, tag: str = "") -> None:
    """Press Tab until the control with these words has the focus."""
    told = """() => {
        const it = document.activeElement, label = it.labels?.[0] ?? it.closest('label')
        return [it.tagName, [it.getAttribute('aria-label'), label?.innerText, it.innerText].filter(Boolean).join(' ')]
    }"""
    seen = []
    for _ in range(150):
        page.keyboard.press("Tab")
        found = page.evaluate(told)
        if wanted in found[1] and tag in ("", found[0]):
            return
        seen.append(found[1][:40])
    pytest.fail(f"Tab does not lead to {wanted}: {seen}")


def test_a_flag_is_flipped_by_the_keyboard_alone(visit: Visit) -> None:
    page = visit.open("rollouts?flag=use_hyde&search=use_hyde")
    tab_to(page, "On", tag="INPUT")
    page.keyboard.press("Space")
    page.get_by_text("Before you save").wait_for()
    tab_to(page, "Reason", tag="INPUT")
    page.keyboard.type("by the keyboard")
    if page.get_by_label("Name of the flag").count():
        tab_to(page, "Name of the flag", tag="INPUT")
        page.keyboard.type("use_hyde")
    tab_to(page, "Save", tag="BUTTON")
    page.keyboard.press("Enter")
    page.get_by_text("Recorded as audit entry").wait_for()
    assert visit.faults == []


def test_a_filter_is_changed_by_the_keyboard_alone(visit: Visit) -> None:
    page = visit.open("drift")
    tab_to(page, "7d", tag="BUTTON")  # a group of choices is one stop; arrows move within it
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    page.wait_for_url("**days=14d**")
    tab_to(page, "Environment")
    assert visit.faults == []

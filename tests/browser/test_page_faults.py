"""How the pages look and answer in a browser: widths, many flags, messages on the screen, hover, dead links."""

import re
from collections.abc import Iterator
from contextlib import closing

import pytest
from playwright.sync_api import Browser, Page, expect

from core.audit.acts import Act
from core.flags.operations import import_flags
from quarterdeck.definitions import boolean_flag
from quarterdeck.store import Store
from tests.browser.conftest import PATIENCE_MS, Server, Visit

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.deep]
CUT = """() => [...document.querySelectorAll('[data-testid=stMain] :is(p, span, a, h4, label)')]
    .filter(e => e.innerText?.trim() && e.clientWidth && e.scrollWidth > e.clientWidth + 1)
    .filter(e => ['hidden', 'clip'].includes(getComputedStyle(e).overflowX))
    .map(e => e.innerText.slice(0, 60))"""


@pytest.fixture(scope="module")
def crowded(server: Server) -> Server:
    """The demo with fifty more flags that are on for a part of the users."""
    names = [f"partly_rolled_out_flag_number_{number:02}" for number in range(50)]
    document = {"flags": {name: boolean_flag(on=True, rollout_pct=10) for name in names}}
    with closing(Store(server.database_url)) as store:
        import_flags(store, document, Act("ada", "many"))
    return server


@pytest.fixture
def tab(chromium: Browser, crowded: Server) -> Iterator[Visit]:
    context = chromium.new_context(viewport={"width": 1440, "height": 900})
    page = context.new_page()
    page.set_default_timeout(PATIENCE_MS)
    yield Visit(page, crowded.address, [])
    context.close()


def height_of(page: Page, text: str) -> float:
    box = page.get_by_test_id("stVerticalBlock").filter(has_text=text).last.bounding_box()
    assert box is not None
    return box["height"]


def test_many_partly_rolled_out_flags_keep_the_tile_and_the_sentence_short(tab: Visit) -> None:
    page = tab.open("rollouts")
    told = re.match(r"(\d+) of \d+ flags are partly rolled out: .+ and (\d+) more", tab.sentence)
    assert told, tab.sentence
    assert int(told[1]) - 3 == int(told[2]) > 45
    heading = page.locator("h4").first.bounding_box()
    assert heading is not None
    assert heading["height"] < 120
    page.get_by_role("link", name=f"Show all {told[1]}").click()
    page.wait_for_url("**partly=true**")
    tab.wait()
    only = page.get_by_test_id("stCheckbox").filter(has_text="Partly rolled out").locator("input")
    expect(only).to_be_checked(timeout=PATIENCE_MS)
    page = tab.open()
    assert height_of(page, "Rollouts") < 200
    assert len(tab.sentence) < 300
    first = page.locator("h4").first.bounding_box()
    assert first is not None
    assert first["height"] < 120


@pytest.mark.parametrize("width", [1440, 1024, 420])
def test_no_word_of_the_overview_is_cut(width: int, tab: Visit) -> None:
    tab.page.set_viewport_size({"width": width, "height": 900})
    page = tab.open()
    page.get_by_text("To decide", exact=False).first.wait_for()
    assert page.evaluate(CUT) == []


def test_an_error_of_a_form_far_down_is_beside_its_button_and_on_the_screen(tab: Visit) -> None:
    page = tab.open("rollouts?flag=use_hyde")
    page.get_by_text("Delete this flag").click()
    button = page.get_by_role("button", name="Delete flag")
    button.click()
    toast = page.get_by_test_id("stToast").first
    expect(toast).to_contain_text("Nothing was changed", timeout=PATIENCE_MS)
    expect(toast).to_be_in_viewport()
    said = page.get_by_test_id("stAlertContentError").first
    expect(said).to_contain_text("Nothing was changed", timeout=PATIENCE_MS)
    here, there = button.bounding_box(), said.bounding_box()
    assert here is not None
    assert there is not None
    assert abs(there["y"] - here["y"]) < 200


def test_a_dead_link_says_so_and_shows_nothing_else(tab: Visit) -> None:
    page = tab.open("rollouts?flag=gone")
    expect(page.get_by_text("There is no flag gone in production", exact=False)).to_be_visible(timeout=PATIENCE_MS)
    assert page.get_by_role("button", name="Kill switch").count() == 0

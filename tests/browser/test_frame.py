"""The frame in a real browser: the keys, the search, the title of the tab, and what fits on the first screen."""

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import PATIENCE_MS, Visit

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.deep]

# Boxes that are wider inside than outside, whose words are cut or hang out.
CUT = """names => names.flatMap(name => [...document.querySelectorAll(name)])
    .filter(each => each.scrollWidth > each.clientWidth + 1).map(each => each.className)"""


def test_keys_open_pages_and_the_help_and_no_key_works_while_somebody_types(visit: Visit) -> None:
    page = visit.open()
    expect(page).to_have_title("Overview · Quarterdeck", timeout=PATIENCE_MS)
    page.keyboard.press("g")
    page.keyboard.press("d")
    page.wait_for_url("**/drift")
    visit.wait()
    expect(page).to_have_title("Drift · Quarterdeck", timeout=PATIENCE_MS)
    page.keyboard.press("?")
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("is retrieval getting worse", timeout=PATIENCE_MS)
    expect(dialog.get_by_role("row").filter(has_text="Coverage")).to_contain_text("g c")
    page.keyboard.press("Escape")
    expect(dialog).to_have_count(0, timeout=PATIENCE_MS)
    visit.open("corpus?tab=Files")
    box = page.get_by_label("Search in file names")
    box.press_sequentially("g/d?")
    expect(box).to_have_value("g/d?")
    expect(page.get_by_role("dialog")).to_have_count(0)
    assert visit.faults == []


def test_the_search_finds_a_flag_and_a_document_as_somebody_types(visit: Visit) -> None:
    page = visit.open()
    page.keyboard.press("/")
    box = page.get_by_role("dialog").get_by_label("Pages, flags, topics")
    box.fill("hyde", timeout=PATIENCE_MS)
    found = page.get_by_role("dialog").get_by_role("link")
    expect(found.filter(has_text="use_hyde")).to_be_visible(timeout=PATIENCE_MS)
    box.press("ArrowDown")
    expect(found.first).to_be_focused(timeout=PATIENCE_MS)
    box.fill("mbuf")
    expect(found.filter(has_text="mbuf.md").first).to_be_visible(timeout=PATIENCE_MS)
    box.fill("hyde")
    found.filter(has_text="use_hyde").click(timeout=PATIENCE_MS)
    page.wait_for_url("**/rollouts?*flag=use_hyde*")
    visit.wait()
    expect(page.get_by_role("dialog")).to_have_count(0, timeout=PATIENCE_MS)
    assert visit.faults == []


@pytest.mark.parametrize("visit", [{"viewport": {"width": 1440, "height": 900}}], indirect=True, ids=["1440"])
def test_the_first_screen_holds_the_sentence_the_decisions_and_the_chart(visit: Visit) -> None:
    page = visit.open()
    page.locator(".js-plotly-plot").first.wait_for(timeout=PATIENCE_MS)
    ends = [box["y"] + box["height"] for name in ("h4", ".st-key-todos", ".st-key-cards")
            if (box := page.locator(name).first.bounding_box())]  # fmt: skip
    assert len(ends) == 3
    assert ends == sorted(ends)
    chart = page.locator(".js-plotly-plot").first.bounding_box()
    assert chart is not None
    assert chart["y"] + 250 < 900


@pytest.mark.parametrize(
    "visit",
    [{"viewport": {"width": width, "height": 900}, "color_scheme": color}
     for width in (1024, 420) for color in ("light", "dark")],
    indirect=True, ids=["1024-light", "1024-dark", "420-light", "420-dark"],
)  # fmt: skip
def test_words_wrap_where_there_is_little_room(visit: Visit) -> None:
    page = visit.open()
    page.locator(".st-key-cards").wait_for(timeout=PATIENCE_MS)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert page.evaluate(CUT, [".st-key-todos", ".st-key-cards", "[class*=st-key-card-] p", ".st-key-verdict"]) == []

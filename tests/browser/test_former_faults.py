"""What was wrong on the first pages, each shown right in a browser: one figure for one thing, no verdict without one,
links and ranges that agree, and a first contact without red. Widths, many flags and forms are in `test_page_faults.py`.
"""

import re
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from app.navigation import TITLES, path_of
from quarterdeck.recorder import append_retrievals
from quarterdeck.retrieval import Retrieval
from quarterdeck.store import Store
from tests.browser.conftest import PATIENCE_MS, Server, Visit, serving

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.deep]
BARS = """() => {
    const bars = document.querySelector('.js-plotly-plot')?._fullData?.[0]
    return bars?.orientation === 'h' ? {values: [...bars.x], names: [...bars.y],
        axis: document.querySelector('.js-plotly-plot')._fullLayout.xaxis.title.text} : null
}"""


@pytest.fixture(scope="module")
def new_deck(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A deck that nothing is connected to."""
    home = tmp_path_factory.mktemp("new") / "home"
    home.mkdir()
    with serving(home) as served:
        yield served


@pytest.fixture
def newcomer(chromium: Browser, new_deck: Server) -> Iterator[Visit]:
    page = chromium.new_page()
    page.set_default_timeout(PATIENCE_MS)
    yield Visit(page, new_deck.address, [])
    page.close()


def read_main(page: Page) -> str:
    """What the page says, without its code blocks."""
    code = " ".join(each.inner_text() for each in page.get_by_test_id("stCode").all())
    text = page.get_by_test_id("stMain").inner_text()
    for line in filter(None, code.splitlines()):
        text = text.replace(line, "")
    return text


def find_gap_px(control: Locator, said: Locator) -> float:
    """How far below a control something is said."""
    above, below = control.bounding_box(), said.bounding_box()
    assert above and below
    return below["y"] - above["y"] - above["height"]


def find_figure(text: str, pattern: str) -> str:
    found = re.search(pattern, text)
    assert found, text
    return found[1]


def test_the_share_of_the_drop_is_one_figure_on_every_page_and_in_every_range(visit: Visit) -> None:
    told = set()
    for path in ("", "drift", "drift?days=7d"):
        visit.open(path)
        told.add(find_figure(visit.sentence, r"(\d+%) of the drop\)"))
    page = visit.open()
    page.get_by_role("link", name="2. Index “").click()
    page.wait_for_url("**/coverage?*topic=*")
    visit.wait()
    topic = find_figure(page.url, r"topic=(t-\w+)")
    for days in ("7d", "14d", "30d"):
        page = visit.open(f"coverage?days={days}&topic={topic}")
        said = page.get_by_text("of the drop, in the last 7 days", exact=False).first
        expect(said).to_be_visible(timeout=PATIENCE_MS)
        told.add(find_figure(said.inner_text(), r"(\d+(?:\.\d+)?%) of the drop"))
    assert len(told) == 1, told


def test_the_share_of_low_questions_is_one_figure_and_names_its_window(visit: Visit) -> None:
    page = visit.open()
    card = page.locator(".st-key-card-coverage")
    share = find_figure(card.inner_text(), r"(\d+%) score low, last 7 days")
    card.get_by_role("link").click()
    page.wait_for_url("**/coverage?*days=7d*")
    visit.wait()
    assert find_figure(read_main(page), r"Of the last 7 days\. .*; (\d+%) do now") == share
    page = visit.open("drift")
    drawn = page.get_by_text("10% did in the reference", exact=False).first
    assert re.match(r"\d+% of the questions since \d+ \w{3} score under", drawn.inner_text())


def test_a_canary_without_a_verdict_is_called_neither_healthy_nor_good(visit: Visit) -> None:
    page = visit.open()
    card = page.locator(".st-key-card-rollouts").inner_text()
    assert "no verdict yet" in card
    assert "No verdict" in card
    assert not re.search(r"healthy|Good\b", read_main(page))
    page = visit.open("rollouts?tab=Canaries")
    page.get_by_text("Too early to tell", exact=False).first.wait_for()
    assert not re.search(r"healthy|Good\b", read_main(page))


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("coverage?topic=t-nope", "There is no topic t-nope"),
        ("audit?entry=999999", "There is no entry 999999"),
        ("rollouts?flag=nope", "There is no flag nope in production"),
    ],
)
def test_a_dead_link_says_so_and_opens_nothing_else(path: str, said: str, visit: Visit) -> None:
    page = visit.open(path)
    expect(page.get_by_text(said, exact=False).first).to_be_visible(timeout=PATIENCE_MS)
    assert page.locator("h3").count() == 0  # the heading of a flag, a topic or an entry


def test_selector_panel_and_address_name_one_topic_after_a_change_of_range(visit: Visit) -> None:
    page = visit.open("coverage?days=7d")
    page.get_by_role("combobox", name="Topic").click()
    page.get_by_role("option").nth(1).click()
    page.wait_for_url("**topic=t-*")
    for days in ("30d", "14d", "7d"):
        choice = page.get_by_test_id("stMain").get_by_role("radio", name=days, exact=True)
        choice.click()
        expect(choice).to_be_checked(timeout=PATIENCE_MS)
        visit.wait()
        heading = page.locator("h3").first
        expect(heading).to_be_visible(timeout=PATIENCE_MS)
        chosen = page.locator(".st-key-topic")
        shown = chosen.get_by_role("combobox").input_value() or chosen.inner_text()
        assert heading.inner_text()[:40] in shown
        assert re.search(r"topic=t-\w+", page.url)


def test_coverage_offers_the_days_that_it_shows(visit: Visit) -> None:
    page = visit.open("coverage?days=90d")
    expect(page.get_by_text("90 days are not offered here, at most 30", exact=False)).to_be_visible()
    offered = page.locator(".st-key-days").get_by_role("radio").all_inner_texts()
    assert [each.strip() for each in offered] == ["7d", "14d", "30d"]
    assert "Of the last 30 days." in read_main(page)


def test_the_bars_show_the_gain_that_they_are_sorted_by_and_no_number_that_reads_like_a_rank(visit: Visit) -> None:
    page = visit.open("coverage?days=7d")
    page.wait_for_function(BARS, timeout=PATIENCE_MS)
    bars = page.evaluate(BARS)
    assert bars["values"] == sorted(bars["values"], reverse=True)
    assert bars["axis"] == "gain"
    expect(page.get_by_text("of the gain of indexing", exact=False).first).to_be_visible()
    assert not [name for name in bars["names"] if re.match(r"\d+ ?·", name)]


def test_a_decision_and_its_refusal_are_said_beside_the_form_and_on_the_screen(visit: Visit) -> None:
    page = visit.open("coverage?days=7d")
    form = page.get_by_test_id("stForm").filter(has_text="Owner").first
    save = form.get_by_role("button", name="Save", exact=True)
    save.click()
    toast, alert = page.get_by_test_id("stToast").first, page.get_by_test_id("stAlertContentError").first
    for said in (toast, alert):
        expect(said).to_contain_text("Nothing was changed", timeout=PATIENCE_MS)
    expect(toast).to_be_in_viewport()
    assert find_gap_px(save, alert) < 120
    form.get_by_label("Owner").fill("docs team")
    form.get_by_label("Reason").fill("they know it")
    save.click()
    toast = page.locator(".st-key-saved-toast")
    expect(toast).to_contain_text("Saved: entry", timeout=PATIENCE_MS)
    expect(toast).to_be_in_viewport()
    done = page.get_by_test_id("stAlertContentSuccess").first
    expect(done).to_be_visible(timeout=PATIENCE_MS)
    assert find_gap_px(save, done) < 120
    toast.get_by_role("button", name="Undo", exact=True).click()
    expect(page.get_by_text("is undone", exact=False).first).to_be_visible(timeout=PATIENCE_MS)


def test_a_new_deck_shows_no_red_and_no_path_on_any_page(newcomer: Visit, new_deck: Server) -> None:
    home = str(Path(new_deck.database_url.removeprefix("sqlite:///")).parent)
    for path in map(path_of, TITLES):
        page = newcomer.open(path)
        assert page.get_by_test_id("stAlertContentError").count() == 0, path
        assert page.get_by_test_id("stException").count() == 0, path
        said = read_main(page)
        assert "Not readable" not in said, path
        assert home not in said, path


def test_the_checklist_stays_after_the_first_questions_and_names_no_missing_mlflow_first(
    newcomer: Visit, new_deck: Server
) -> None:
    page = newcomer.open()
    page.get_by_text("Set up: 0 of 4 done", exact=False).first.wait_for()
    now = datetime.now(UTC).replace(microsecond=0)
    with closing(Store(new_deck.database_url, create=True)) as store:
        append_retrievals(store, [Retrieval(now - timedelta(minutes=at), f"what is {at}", 0.7) for at in range(4)])
    for _ in range(20):  # what the overview caches goes within seconds
        page = newcomer.open()
        if "4 so far" in read_main(page):
            break
        page.wait_for_timeout(2_000)
    said = read_main(page)
    assert "Set up: 0 of 4 done" in said
    assert "4 so far" in said
    assert not re.search(r"\bGood\b|Not readable", said)
    assert "MLflow" not in newcomer.sentence

"""Charts in a real browser: one box a day, a click that leads on, the way back, and a table for who cannot click."""

import re

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import PATIENCE_MS, Visit

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.deep]
# Where the n-th day of the median is in the window, and where its column of the chart begins.
PLACE = """at => {
    const chart = document.querySelector('.js-plotly-plot')
    const line = chart?._fullData?.find(each => each.name === 'median'), {xaxis, yaxis} = chart?._fullLayout ?? {}
    if (!line || !xaxis?._length) return null
    const box = chart.getBoundingClientRect()
    return {x: box.x + xaxis._offset + xaxis.d2p(line.x[at]), y: box.y + yaxis._offset + yaxis.d2p(line.y[at]),
            top: box.y + yaxis._offset + 8, day: line.x[at].slice(0, 10)}
}"""
MARKER = """() => {
    const chart = document.querySelector('.js-plotly-plot'), {xaxis, yaxis2} = chart._fullLayout
    const lane = chart._fullData.find(each => each.yaxis === 'y2' && each.customdata[0][1])
    const box = chart.getBoundingClientRect()
    return {x: box.x + xaxis._offset + xaxis.d2p(lane.x[0]), y: box.y + yaxis2._offset + yaxis2.d2p(lane.y[0]),
            entry: lane.customdata[0][1]}
}"""
BOX = "document.querySelector('.js-plotly-plot .hoverlayer')?.textContent ?? ''"


def find_day(page: Page, at: int) -> dict[str, float | str]:
    """Where a day is, once the chart is drawn and on the screen."""
    page.wait_for_function(PLACE, arg=at, timeout=PATIENCE_MS)
    page.locator(".js-plotly-plot").first.scroll_into_view_if_needed()
    return page.evaluate(PLACE, at)


def test_a_day_has_one_box_wherever_in_its_column_the_pointer_is(visit: Visit) -> None:
    page = visit.open("drift")
    place = find_day(page, 12)
    page.mouse.move(place["x"] + 2, place["top"])  # far above the line
    page.wait_for_function(f"/ questionsmedian 0/.test({BOX})", timeout=PATIENCE_MS)
    far = page.evaluate(BOX)
    assert ", 80% between 0." in far
    assert re.search(r"\d{1,2} [A-Z][a-z]{2}", far), far  # which day
    page.mouse.move(place["x"] + 2, place["y"] + 1)
    page.wait_for_timeout(200)
    assert page.evaluate(BOX) == far


def test_a_click_on_a_day_opens_its_questions_and_the_way_back_shows_the_chart(visit: Visit) -> None:
    page = visit.open("drift")
    place = find_day(page, 12)
    page.mouse.move(place["x"] + 2, place["y"] + 20)
    page.wait_for_function(f"/ questionsmedian 0/.test({BOX})", timeout=PATIENCE_MS)
    page.mouse.click(place["x"] + 2, place["y"] + 20)
    page.wait_for_url(f"**/questions?day={place['day']}", timeout=PATIENCE_MS)
    visit.wait()
    assert " questions of " in visit.sentence
    page.go_back()
    page.wait_for_url("**/drift**")
    visit.wait()
    page.wait_for_function(PLACE, arg=12, timeout=PATIENCE_MS)
    assert "/drift" in page.url
    assert visit.faults == []


def test_a_click_on_a_change_opens_its_audit_entry(visit: Visit) -> None:
    page = visit.open("drift")
    find_day(page, 12)
    place = page.evaluate(MARKER)
    page.mouse.move(place["x"], place["y"])
    page.wait_for_function(f"/ by |why: /.test({BOX})", timeout=PATIENCE_MS)
    page.mouse.click(place["x"], place["y"])
    page.wait_for_url(f"**/audit?entry={place['entry']}", timeout=PATIENCE_MS)


def test_the_table_of_a_chart_is_reached_by_keyboard_and_every_button_has_a_name_of_its_own(visit: Visit) -> None:
    page = visit.open("drift")
    switch = page.get_by_role("button", name="Table of: The median score")
    switch.focus()
    page.keyboard.press("Enter")
    back = page.get_by_role("button", name="Chart of: The median score")
    expect(back).to_be_visible(timeout=PATIENCE_MS)
    visit.wait()
    expect(back).to_be_focused(timeout=PATIENCE_MS)
    named = [said for said in page.get_by_test_id("stMain").get_by_role("button", name="CSV").all_inner_texts() if said]
    assert len(named) == len(set(named)) > 1  # those of other tabs are not shown
    for button in page.locator("[class*='st-key-chart-'] button").all():
        box = button.bounding_box()
        assert box is None or min(box["width"], box["height"]) >= 24  # WCAG 2.2, 2.5.8


def test_the_verdict_is_told_to_screen_readers_with_what_it_is(visit: Visit) -> None:
    page = visit.open("drift")
    told = page.get_by_test_id("stMain").aria_snapshot()
    assert 'strong: "Verdict:"' in told
    drawn = page.get_by_text("Verdict:").first.bounding_box()
    assert drawn is not None
    assert drawn["width"] <= 1


@pytest.mark.parametrize("visit", [{"reduced_motion": "reduce"}], indirect=True)
def test_whoever_asked_for_less_motion_gets_none(visit: Visit) -> None:
    page = visit.open("drift")
    moving = """() => [...document.querySelectorAll('[data-testid=stMain] *')]
        .filter(each => parseFloat(getComputedStyle(each).transitionDuration) > 0.01).length"""
    assert page.evaluate(moving) == 0


def test_paper_shows_charts_and_no_buttons(visit: Visit) -> None:
    page = visit.open("drift")
    find_day(page, 12)
    page.emulate_media(media="print")
    assert page.locator("[class*='st-key-chart-'] .js-plotly-plot").first.is_visible()
    assert not page.get_by_test_id("stSidebar").is_visible()
    assert not page.get_by_role("button", name="Table of: The median score").is_visible()

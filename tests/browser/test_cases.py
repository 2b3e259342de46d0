"""The walk of somebody who makes cases of the largest gap, edits one in place, takes it back, and evaluates on them."""

from contextlib import closing

import pytest
from playwright.sync_api import Page, expect

from core.cases.store import get_set
from quarterdeck.store import Store
from tests.browser.conftest import PATIENCE_MS, Server, Visit
from tests.browser.test_questions import open_view

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.deep]
_ROW = 35  # the height of a row of a table, in pixels


def edit_cell(page: Page, *, x: int, row: int, text: str) -> None:
    """Type into a cell of the table of cases, which is drawn on a canvas."""
    table = page.get_by_test_id("stDataFrame").first
    table.scroll_into_view_if_needed()
    table.dblclick(position={"x": x, "y": _ROW * row + _ROW // 2})
    page.keyboard.press("Control+a")
    page.keyboard.type(text)
    page.keyboard.press("Enter")


def test_from_the_largest_gap_to_ten_cases_an_edit_its_undo_and_an_evaluation(visit: Visit, server: Server) -> None:
    page = visit.open("coverage?days=7d")
    page.get_by_role("button", name="Add 10 typical questions to the cases").click()
    page.get_by_role("button", name="to qa", exact=False).click()
    expect(page.get_by_text("cases to qa.", exact=False)).to_be_visible(timeout=PATIENCE_MS)
    with closing(Store(server.database_url)) as store:
        made = get_set(store, "qa")
    assert len(made.cases) > 20
    assert all(each.source.topic_id and each.source.retrieval_id for each in made.cases[20:])
    page.get_by_role("link", name="See the cases of qa").click()
    page.wait_for_url("**/prompts?*tab=Cases*")
    visit.wait()
    expect(page.get_by_text(f"{len(made.cases)} cases, version 2", exact=False)).to_be_visible(timeout=PATIENCE_MS)
    edit_cell(page, x=300, row=1, text="Who frees a sent mbuf?")
    page.get_by_label("Reason").first.fill("clearer")
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.get_by_text("Saved as version 3.", exact=False)).to_be_visible(timeout=PATIENCE_MS)
    with closing(Store(server.database_url)) as store:
        edited = get_set(store, "qa").cases[0]
    assert (edited.case.question, edited.reviewer, edited.version) == ("Who frees a sent mbuf?", "tester", 2)
    page.locator(".st-key-saved-toast").get_by_role("button", name="Undo", exact=True).click()
    expect(page.get_by_text("is undone.", exact=False)).to_be_visible(timeout=PATIENCE_MS)
    with closing(Store(server.database_url)) as store:
        assert get_set(store, "qa").cases[0].case.question == made.cases[0].case.question
    open_view(page, "Evaluate")
    page.get_by_label("Reason").first.fill("does it answer the gap?")
    page.get_by_role("button", name="Start the evaluation").click()
    expect(page.get_by_text("done Evaluation of", exact=False)).to_be_visible(timeout=4 * PATIENCE_MS)
    expect(page.get_by_text("faithfulness_mean", exact=False).first).to_be_visible()
    assert visit.faults == []

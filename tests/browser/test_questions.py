"""The walk of somebody who looks for what is behind a drop: all questions, one session, two answers marked bad."""

from contextlib import closing

import pytest
from playwright.sync_api import Page, expect

from core.log.filters import QuestionFilter
from core.log.questions import list_matching
from quarterdeck.store import Store
from tests.browser.conftest import PATIENCE_MS, Server, Visit

pytestmark = [pytest.mark.browser, pytest.mark.slow]
_ROW, _BOX = 35, 18  # the height of a row of a table, and how far from its left edge its box is, in pixels


def select_row(visit: Visit, number: int) -> None:
    """Click the box of a row of the table, which is drawn on a canvas."""
    table = visit.page.get_by_test_id("stDataFrame").first
    table.scroll_into_view_if_needed()
    table.click(position={"x": _BOX, "y": _ROW * number + _ROW // 2})
    visit.wait()


def open_tab(page: Page, name: str) -> None:
    page.get_by_role("tab", name=name, exact=True).click()


def open_view(page: Page, name: str) -> None:
    """Choose one of the views of an open tab."""
    page.get_by_role("radiogroup", name="View").get_by_text(name, exact=True).click()


@pytest.mark.deep
def test_from_a_drop_to_its_questions_to_a_session_to_two_answers_marked_bad(visit: Visit, server: Server) -> None:
    page = visit.open("drift")
    page.get_by_role("link", name="See the low questions since").click()
    page.wait_for_url("**/questions?*low=1*")
    visit.wait()
    assert "questions since" in visit.sentence
    assert page.get_by_test_id("stException").count() == 0
    select_row(visit, 1)
    panel = page.get_by_text("low under", exact=False).last
    expect(panel).to_be_visible(timeout=PATIENCE_MS)
    open_tab(page, "Session")
    expect(page.get_by_test_id("stChatMessage").first).to_be_visible(timeout=PATIENCE_MS)
    select_row(visit, 2)
    page.get_by_role("button", name="Bad (2)").click()
    expect(page.get_by_text("Marked 2 answers bad.", exact=False)).to_be_visible(timeout=PATIENCE_MS)
    expect(page.locator(".st-key-saved-toast")).to_contain_text("Saved: entry")
    with closing(Store(server.database_url)) as store:
        judged = list_matching(store, QuestionFilter(score_name="feedback", score_below=0.0), limit=10_000)
        given = [score for question in judged for score in question.scores if score.source == "reviewer"]
    assert [(score.name, score.value) for score in given] == [("feedback", -1.0)] * 2
    assert visit.faults == []


@pytest.mark.deep
def test_the_documents_tab_leads_to_the_questions_of_a_document(visit: Visit) -> None:
    page = visit.open("corpus?tab=Documents")
    expect(page.get_by_text("documents were found in the last 30 days", exact=False)).to_be_visible()
    select_row(visit, 1)
    page.get_by_role("link", name="Its low questions").click()
    page.wait_for_url("**/questions?*document=*")
    visit.wait()
    assert "match the filters" in visit.sentence
    assert visit.faults == []

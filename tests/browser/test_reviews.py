"""The review queue by keyboard alone: every label, a skip and a way back, and no key while a note is written."""

from contextlib import closing

import pytest
from playwright.sync_api import expect

from core.audit.acts import Act
from core.log.filters import QuestionFilter
from core.log.questions import list_page
from core.reviews.operations import QueueDraft, create_queue
from core.reviews.queues import ReviewItem, list_labels, list_queues
from core.reviews.tasks import ReviewRule, ReviewTask
from quarterdeck.clock import to_ms
from quarterdeck.store import Store
from tests.browser.conftest import PATIENCE_MS, Server, Visit
from tests.conftest import CHAT

pytestmark = [pytest.mark.browser, pytest.mark.slow]


def begin(server: Server) -> list[str]:
    """Begin a queue of four questions for the visitor; return their ids."""
    with closing(Store(server.database_url)) as store:
        questions = list_page(store, QuestionFilter(scope=CHAT), limit=4).questions
        items = [ReviewItem(each.retrieval_id, to_ms(each.ts)) for each in questions]
        draft = QueueDraft(CHAT, "by keyboard", ReviewTask.FAITHFULNESS, ReviewRule.SELECTION, ("tester",))
        create_queue(store, draft, items, Act("tester", "test"))
    return [item.retrieval_id for item in items]


def press(visit: Visit, key: str, then: str) -> None:
    """Press a key, and wait for the sentence that follows."""
    visit.page.keyboard.press(key)
    expect(visit.page.locator("h4").first).to_have_text(then, timeout=PATIENCE_MS)
    visit.wait()


@pytest.mark.deep
def test_a_queue_is_labeled_without_a_mouse(visit: Visit, server: Server) -> None:
    names = begin(server)
    page = visit.open("questions?show=Review")
    assert visit.sentence == "4 of 4 questions wait for your label."
    press(visit, "1", "3 of 4 questions wait for your label.")
    press(visit, "2", "2 of 4 questions wait for your label.")
    page.keyboard.press("b")
    expect(page.get_by_text("Your label: Partly.")).to_be_visible(timeout=PATIENCE_MS)
    visit.wait()
    page.keyboard.press("3")
    expect(page.get_by_text("Your label: Partly.")).to_have_count(0, timeout=PATIENCE_MS)
    visit.wait()
    press(visit, "s", "1 of 4 questions waits for your label.")
    page.get_by_role("textbox", name="Note").focus()
    page.keyboard.type("123 steps are missing")
    page.keyboard.press("Enter")
    visit.wait()
    assert visit.sentence == "1 of 4 questions waits for your label."
    page.locator("h4").first.click()  # out of the note
    press(visit, "1", "You have labeled all 4 questions.")
    with closing(Store(server.database_url)) as store:
        (queue,) = [each for each in list_queues(store, CHAT) if each.name == "by keyboard"]
        given = {label.retrieval_id: (label.value, label.note) for label in list_labels(store, queue.queue_id)}
        scores = list_page(store, QuestionFilter(retrieval_id=names[1])).questions[0].scores
    assert given == {
        names[0]: (1.0, ""), names[1]: (0.0, ""), names[2]: (None, ""), names[3]: (1.0, "123 steps are missing"),
    }  # fmt: skip
    by_reviewers = [score.value for score in scores if (score.source, score.name) == ("reviewer", "faithfulness")]
    assert by_reviewers == [0.0]
    assert visit.faults == []

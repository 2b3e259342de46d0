"""The walk of somebody who has never seen the deck: from a drop to its questions, to cases, to a fix and its effect.

Each step is a function that takes the tab and leaves it where the next one begins.
"""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from core.audit.trail import AuditFilter, list_audit
from core.cases.store import get_set
from core.indexes.registry import list_aliases
from core.log.filters import QuestionFilter
from core.log.questions import list_matching
from quarterdeck.store import Store
from tests.browser.conftest import PATIENCE_MS, Server, Visit, serving
from tests.browser.test_questions import open_tab, open_view, select_row
from tests.conftest import Demo, copy_home

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.deep]
LONG_MS = 4 * PATIENCE_MS


@pytest.fixture
def own_server(demo: Demo, tmp_path: Path) -> Iterator[Server]:
    """A server of this test alone: nobody else has shipped anything there."""
    copy_home(demo.config.home, tmp_path / "home")
    with serving(tmp_path / "home") as served:
        yield served


@pytest.fixture
def walker(chromium: Browser, own_server: Server) -> Iterator[Visit]:
    context = chromium.new_context(viewport={"width": 1440, "height": 900})
    page = context.new_page()
    page.set_default_timeout(PATIENCE_MS)
    yield Visit(page, own_server.address, [])
    context.close()


def find_the_largest_gap(walker: Visit) -> str:
    """From the overview to the gap that is most worth indexing; return its id."""
    page = walker.open()
    assert "Retrieval score fell" in walker.sentence
    page.get_by_role("link", name="2. Index “").click()
    page.wait_for_url("**/coverage?*topic=*")
    walker.wait()
    assert "The one most worth indexing is" in walker.sentence
    return page.url.partition("topic=")[2].partition("&")[0]


def find_the_questions_behind_the_drop(walker: Visit) -> None:
    page = walker.open("drift")
    page.get_by_role("link", name="See the low questions since").click()
    page.wait_for_url("**/questions?*low=1*")
    walker.wait()
    assert "questions since" in walker.sentence


def read_a_session(walker: Visit) -> None:
    select_row(walker, 1)
    expect(walker.page.get_by_text("low under", exact=False).last).to_be_visible(timeout=PATIENCE_MS)
    open_tab(walker.page, "Session")
    expect(walker.page.get_by_test_id("stChatMessage").first).to_be_visible(timeout=PATIENCE_MS)


def mark_two_answers_bad(walker: Visit, server: Server) -> None:
    select_row(walker, 2)
    walker.page.get_by_role("button", name="Bad (2)").click()
    expect(walker.page.get_by_text("Marked 2 answers bad.", exact=False)).to_be_visible(timeout=PATIENCE_MS)
    with closing(Store(server.database_url)) as store:
        judged = list_matching(store, QuestionFilter(score_name="feedback", score_below=0.0), limit=10_000)
    assert sum(score.source == "reviewer" for question in judged for score in question.scores) == 2


def propose_ten_cases(walker: Visit, topic: str) -> None:
    """From the overview to the largest gap, and from its panel to ten proposed cases of a set of its own."""
    page = walker.open()
    page.get_by_role("link", name="2. Index “").click()
    page.wait_for_url(f"**/coverage?*topic={topic}*")
    walker.wait()
    page.get_by_role("button", name="Add 10 typical questions to the cases").click()
    page.get_by_role("combobox", name="Add to the case set").fill("gap")
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Add 10 to gap")).to_be_visible(timeout=LONG_MS)


def add_the_cases(walker: Visit, server: Server, topic: str) -> None:
    page = walker.page
    page.get_by_role("button", name="Add 10 to gap").click(timeout=LONG_MS)
    expect(page.get_by_text("Added 10 cases to gap.", exact=False)).to_be_visible(timeout=PATIENCE_MS)
    with closing(Store(server.database_url)) as store:
        made = get_set(store, "gap").cases
    assert [each.source.topic_id for each in made] == [topic] * 10
    assert all(each.source.retrieval_id for each in made)


def evaluate_on_them(walker: Visit) -> None:
    """From the cases to an evaluation of the prompt that is offered first, and to its run."""
    page = walker.page
    page.get_by_role("link", name="See the cases of gap").click()
    page.wait_for_url("**/prompts?*case_set=gap*")
    walker.wait()
    expect(page.get_by_text("gap: 10 cases, version 1", exact=False)).to_be_visible(timeout=PATIENCE_MS)
    open_view(page, "Evaluate")
    page.get_by_role("combobox", name="Cases", exact=True).click()
    page.get_by_role("option", name="gap: 10 cases, version 1").click()
    page.get_by_label("Reason").first.fill("does it answer the gap?")
    page.get_by_role("button", name="Start the evaluation").click()
    expect(page.get_by_text("done Evaluation of", exact=False)).to_be_visible(timeout=LONG_MS)
    expect(page.get_by_text("faithfulness_mean", exact=False).first).to_be_visible(timeout=PATIENCE_MS)


def probe_the_waiting_version(walker: Visit) -> None:
    """From the to-do list to the waiting index, and its probe; only one that passed can go live."""
    page = walker.open()
    page.get_by_role("link", name="Ship corpus v2").click()
    page.wait_for_url("**/corpus?*tab=Indexes*")
    walker.wait()
    page.get_by_role("button", name="Probe").click()
    form = page.get_by_test_id("stForm").filter(has_text="Every reader of")
    expect(form.get_by_label("Reason")).to_be_visible(timeout=LONG_MS)


def let_it_go_live(walker: Visit, server: Server) -> None:
    page = walker.page
    form = page.get_by_test_id("stForm").filter(has_text="Every reader of")
    form.get_by_label("Reason").fill("covers the gap", timeout=LONG_MS)
    form.get_by_label("Type the index").fill("docs-v2")
    form.get_by_role("button", name="Let it go live").click()
    page.get_by_text("Readers follow within").first.wait_for()  # the start of the probe is recorded too
    with closing(Store(server.database_url)) as store:
        assert [alias.index_name for alias in list_aliases(store)] == ["docs-v2"]
        assert list_audit(store, AuditFilter(action="index.swap"), limit=1)[0].reason == "covers the gap"


def see_it_shipped(walker: Visit, topic: str) -> None:
    """The gap is under Shipped, with its score before and what the index that went live makes of its questions."""
    page = walker.open(f"coverage?days=7d&shelf=shipped&topic={topic}")
    shipped = page.get_by_role("radio", name="Shipped")
    expect(shipped).to_have_attribute("aria-checked", "true", timeout=PATIENCE_MS)
    assert "Shipped 0" not in shipped.inner_text()
    open_tab(page, "Cure")
    expect(page.get_by_text("Since docs-v2 went live on", exact=False)).to_be_visible(timeout=PATIENCE_MS)
    effect = page.get_by_text("Searched again in docs-v2, the same questions from before score", exact=False)
    expect(effect).to_be_visible(timeout=PATIENCE_MS)
    scores = [float(word.rstrip(";")) for word in effect.inner_text().split() if word[:2] == "0."]
    assert scores[0] > 0.47  # the threshold, below which a question is low


def test_from_a_drop_to_its_questions_to_a_fix_to_its_measured_effect(walker: Visit, own_server: Server) -> None:
    topic = find_the_largest_gap(walker)
    find_the_questions_behind_the_drop(walker)
    read_a_session(walker)
    mark_two_answers_bad(walker, own_server)
    propose_ten_cases(walker, topic)
    add_the_cases(walker, own_server, topic)
    evaluate_on_them(walker)
    probe_the_waiting_version(walker)
    let_it_go_live(walker, own_server)
    see_it_shipped(walker, topic)
    assert walker.faults == []

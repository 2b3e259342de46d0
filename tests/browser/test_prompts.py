"""Prompts in a real browser: runs are ticked into the address, one is promoted with its flag, one click rolls back."""

from contextlib import closing, suppress

import pytest
from playwright.sync_api import TimeoutError as PlaywrightTimeoutError
from playwright.sync_api import expect

from core.audit.trail import AuditFilter, list_audit
from core.flags.store import get_flag
from core.tracking.gateway import Tracking
from core.tracking.runs import RunFilter
from quarterdeck.definitions import rollout_pct
from quarterdeck.store import Store
from tests.browser.conftest import PATIENCE_MS, Server, Visit

pytestmark = [
    pytest.mark.deep,
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy:DeprecationWarning"),
]
HEADER, ROW = 35, 35  # heights in the table of runs


def open_runs(server: Server) -> Tracking:
    """The MLflow store that the server writes to."""
    home = server.database_url.removesuffix("quarterdeck.db")
    return Tracking(f"{home}mlflow/mlflow.db")


def tick(visit: Visit, row: int, *, chosen: int) -> None:
    """Tick a row of the runs, until the page says that so many are chosen."""
    page = visit.page
    table = page.get_by_test_id("stDataFrame").first
    for _ in range(8):  # the table is a canvas: a click before it is drawn, or while it moves, hits nothing
        table.scroll_into_view_if_needed()
        box = table.bounding_box()
        assert box is not None
        page.mouse.click(box["x"] + 18, box["y"] + HEADER + (row + 0.5) * ROW)
        with suppress(PlaywrightTimeoutError):  # a second click would take the tick away again: be patient first
            page.get_by_text(f"{chosen} chosen.").wait_for(timeout=15_000)
            return
    pytest.fail(f"{chosen} rows were never ticked")


def test_rows_that_are_ticked_are_compared_and_stay_in_the_address(visit: Visit, server: Server) -> None:
    runs = open_runs(server).list_runs(RunFilter("rag-prompt-iterations"))
    page = visit.open("prompts?tab=Runs")
    page.get_by_text("None is chosen: the newest run of each of 3 versions is compared.").wait_for()
    tick(visit, 0, chosen=1)
    page.get_by_text("1 chosen. Choose at least one more.").wait_for()
    tick(visit, 2, chosen=2)
    page.wait_for_url(f"**runs={runs[0].run_id}%2C{runs[2].run_id}**")
    page.get_by_text("Compared: the 2 chosen runs.").wait_for()

    page = visit.open(page.url.removeprefix(f"{visit.address}/"))  # as somebody who got the link
    page.get_by_text("2 chosen.").wait_for()
    page.get_by_role("button", name="Clear the choice").click()
    page.get_by_text("None is chosen").wait_for()
    assert "runs=" not in page.url
    assert visit.faults == []


def test_a_prompt_is_promoted_with_its_flag_and_one_click_takes_it_back(visit: Visit, server: Server) -> None:
    tracking = open_runs(server)
    page = visit.open("prompts?tab=Promote")
    page.get_by_text("In production: qa v2.").wait_for()
    form = page.get_by_test_id("stForm").filter(has_text="Promote v3")
    form.get_by_role("spinbutton", name="Users who get it, %").fill("35")
    form.get_by_label("Decision, kept at the run and in the audit trail").fill("as faithful, a quarter cheaper")
    form.get_by_role("button", name="Promote v3").click()
    page.get_by_text("Recorded as audit entry").wait_for()
    live = tracking.production_version("qa")
    assert live is not None
    assert live.version == 2, "the alias stays until all users get the new version"
    with closing(Store(server.database_url)) as store:
        assert rollout_pct(get_flag(store, "production", "new_prompt_v3").definition) == 35

    page.get_by_role("button", name="Roll back to v2").click()
    page.get_by_text("In production: qa v2.").wait_for()
    with closing(Store(server.database_url)) as store:
        back, forth = list_audit(store, AuditFilter(target="qa"), limit=2)
        assert (back.action, forth.action) == ("prompt.rollback", "prompt.promote")
        assert (forth.actor, forth.reason) == ("tester", "as faithful, a quarter cheaper")
        assert rollout_pct(get_flag(store, "production", "new_prompt_v3").definition) == 20
    page.get_by_text(f"Recorded as audit entry {back.entry_id}").wait_for()
    live = tracking.production_version("qa")
    assert live is not None
    assert live.version == 2

    page = visit.open("audit")
    assert "tester rolled back the prompt qa" in visit.sentence
    expect(page.get_by_test_id("stText").first).to_have_text("rolled back to v2 on the page", timeout=PATIENCE_MS)
    assert visit.faults == []

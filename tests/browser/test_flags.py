"""Flags in a real browser: previews, two visitors at one flag, the kill switch in the list, steps by the server."""

from collections.abc import Callable, Iterator
from contextlib import closing

import pytest
from playwright.sync_api import Browser, Page, expect

from core.audit.acts import Act
from core.audit.trail import AuditFilter, list_audit
from core.flags.operations import create_flag
from core.flags.store import Flag, get_flag
from quarterdeck.definitions import boolean_flag, rollout_pct
from quarterdeck.store import Store
from tests.browser.conftest import PATIENCE_MS, Server, Visit

KILL_X, NAME_X = 80, 200  # inside the columns of the list, behind its column of marks

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.deep]


def make_flag(server: Server, key: str) -> str:
    """A flag for this test, on for 20% of users; return the address of its page."""
    with closing(Store(server.database_url)) as store:
        create_flag(store, key, boolean_flag(on=True, rollout_pct=20), Act("ada", "for a test"))
    return f"rollouts?flag={key}&search={key}"


def stored(server: Server, key: str) -> Flag:
    with closing(Store(server.database_url)) as store:
        return get_flag(store, "production", key)


def click_until(page: Page, x: int, row: int, is_done: Callable[[], bool]) -> None:
    """Click in a row of the list. It is a canvas: a click before it is drawn, or while it moves, hits nothing."""
    table = page.get_by_test_id("stDataFrame").first
    for _ in range(20):
        box = table.bounding_box()
        assert box is not None
        page.mouse.click(box["x"] + x, box["y"] + 35 * (row + 1) + 17)
        page.wait_for_timeout(1_500)
        if is_done():
            return


@pytest.fixture
def second(chromium: Browser, server: Server) -> Iterator[Visit]:
    """Another visitor."""
    context = chromium.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    page.set_default_timeout(PATIENCE_MS)
    yield Visit(page, server.address, [])
    context.close()


def set_rollout(visit: Visit, pct: str) -> None:
    """Type another percentage, and wait for what it would do."""
    share = visit.page.get_by_role("spinbutton", name="Rollout, % of users")
    share.fill(pct)
    share.press("Enter")
    visit.page.get_by_text("get another answer").wait_for()
    visit.wait()


def press_save(page: Page, reason: str) -> None:
    form = page.get_by_test_id("stForm").filter(has_text="Save")
    form.get_by_label("Reason").fill(reason)
    form.get_by_role("button", name="Save").click()


def test_a_change_shows_what_it_does_before_it_is_saved(visit: Visit, server: Server) -> None:
    page = visit.open(make_flag(server, "seen_before"))
    set_rollout(visit, "40")
    expect(page.get_by_test_id("stCode").first).to_contain_text("40000")
    assert rollout_pct(stored(server, "seen_before").definition) == 20
    press_save(page, "no complaints")
    page.get_by_text("Recorded as audit entry").wait_for()
    assert rollout_pct(stored(server, "seen_before").definition) == 40
    page.get_by_text("Change something to see what it would do").wait_for()
    assert visit.faults == []


def test_the_second_of_two_visitors_sees_both_changes_and_overwrites_nothing(
    visit: Visit, second: Visit, server: Server
) -> None:
    address = make_flag(server, "wanted_by_two")
    visit.open(address)
    second.open(address)
    set_rollout(visit, "30")
    set_rollout(second, "40")
    press_save(visit.page, "first")
    visit.page.get_by_text("Recorded as audit entry").wait_for()
    press_save(second.page, "second")
    second.page.get_by_text("Their change", exact=True).wait_for()
    codes = second.page.get_by_test_id("stCode")
    expect(codes.nth(0)).to_contain_text("30000")
    expect(codes.nth(1)).to_contain_text("40000")
    assert rollout_pct(stored(server, "wanted_by_two").definition) == 30
    second.page.get_by_role("button", name="Start again from theirs").click()
    expect(second.page.get_by_role("spinbutton", name="Rollout, % of users")).to_have_value("30")
    set_rollout(second, "40")
    press_save(second.page, "after looking")
    second.page.get_by_text("Recorded as audit entry").wait_for()
    assert rollout_pct(stored(server, "wanted_by_two").definition) == 40


def test_the_switch_in_the_list_asks_once_and_turns_a_flag_off(visit: Visit, server: Server) -> None:
    page = visit.open(make_flag(server, "has_to_stop"))
    asked = page.get_by_role("button", name="Turn off", exact=True)
    click_until(page, KILL_X, 0, lambda: asked.count() > 0)
    assert stored(server, "has_to_stop").definition["state"] == "ENABLED"
    asked.click()
    page.get_by_text("has_to_stop is off in production.").wait_for()
    assert stored(server, "has_to_stop").definition["state"] == "DISABLED"
    with closing(Store(server.database_url)) as store:
        newest = list_audit(store, AuditFilter(target="has_to_stop"), limit=1)[0]
    assert (newest.actor, newest.reason) == ("tester", "kill switch")


def test_a_click_in_a_row_opens_its_flag_and_unsaved_edits_survive_a_reload(visit: Visit, server: Server) -> None:
    make_flag(server, "row_one")
    make_flag(server, "row_two")
    page = visit.open("rollouts?search=row_")
    heading = page.get_by_role("heading", name="row_two")
    click_until(page, NAME_X, 1, lambda: heading.count() > 0)
    assert "flag=row_two" in page.url
    set_rollout(visit, "40")
    page.reload()
    page.get_by_text("These are your unsaved edits").wait_for()
    expect(page.get_by_role("spinbutton", name="Rollout, % of users")).to_have_value("40")
    assert rollout_pct(stored(server, "row_two").definition) == 20


def test_a_rollout_in_steps_is_planned_and_the_server_makes_its_first_step(visit: Visit, server: Server) -> None:
    page = visit.open(make_flag(server, "goes_up"))
    page.get_by_text("Change it later, or roll it out in steps").click()
    form = page.get_by_test_id("stForm").filter(has_text="Plan it")
    form.get_by_label("Reason").fill("no complaints")
    form.get_by_role("textbox", name="Name of the flag").fill("goes_up")
    form.get_by_role("button", name="Plan it").click()
    page.get_by_text("Recorded as audit entry").wait_for()
    for _ in range(60):
        if rollout_pct(stored(server, "goes_up").definition) == 5:
            break
        page.wait_for_timeout(1_000)
    with closing(Store(server.database_url)) as store:
        newest = list_audit(store, AuditFilter(target="goes_up"), limit=1)[0]
    assert (newest.action, newest.actor) == ("flag.update", "scheduler for tester")
    assert newest.reason.startswith("step 1 of 4 of schedule ")
    page = visit.open("rollouts?flag=goes_up&search=goes_up")
    page.get_by_text("✓ 5% → 25% → 50% → 100%").wait_for()

"""An experiment in a real browser: started by the form, shown with its verdict, decided, and listed with its reason."""

from contextlib import closing

import pytest

from core.audit.acts import Act
from core.flags.operations import create_flag
from core.flags.store import get_flag
from core.rollouts.experiment_records import get_experiment
from quarterdeck import Quarterdeck
from quarterdeck.definitions import split_flag
from quarterdeck.store import Store
from tests.browser.conftest import Server, Visit

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.deep]


def answer(server: Server, key: str, users: int) -> None:
    """What a service does: ask the flag, answer, log."""
    with Quarterdeck(server.database_url) as deck:
        for number in range(users):
            deck.variant(key, f"{key}-{number}")
            deck.log_retrieval("what is an mbuf", 0.7, session_id=f"{key}-{number}")
        deck.flush()


def test_an_experiment_is_started_looked_at_and_decided(visit: Visit, server: Server) -> None:
    with closing(Store(server.database_url)) as store:
        create_flag(store, "seen_style", split_flag({"control": 1, "long": 1}), Act("ada", "for a test"))
    page = visit.open("rollouts?tab=Experiments")
    page.get_by_text("Start an experiment", exact=True).click()
    page.get_by_role("combobox", name="On the flag").fill("seen_style")  # a long list holds what is on the screen only
    page.get_by_role("option", name="seen_style", exact=True).click()
    visit.wait()
    page.get_by_label("Name of the experiment").fill("long or not")
    page.get_by_label("Name of the experiment").press("Tab")
    visit.wait()
    form = page.get_by_test_id("stForm").filter(has_text="Smallest effect worth having")
    form.get_by_label("Reason").fill("users ask for detail")
    form.get_by_role("button", name="Start", exact=True).click()
    page.get_by_text("Recorded as audit entry").wait_for()
    page.get_by_text("long or not: No exposures yet").first.wait_for()
    answer(server, "seen_style", 80)
    page.wait_for_timeout(11_000)  # reads are kept for ten seconds
    visit.open("rollouts?tab=Experiments")
    page.get_by_text("7 days of the 7 days minimum run").wait_for()
    form = page.get_by_test_id("stForm").filter(has_text="Everybody gets")
    form.get_by_label("Reason").fill("they like it")
    if form.get_by_label("Type the flag's name").count():
        form.get_by_label("Type the flag's name").fill("seen_style")
    form.get_by_role("button", name="Decide", exact=True).click()
    page.get_by_text("everybody gets control: they like it").wait_for()
    with closing(Store(server.database_url)) as store:
        assert get_experiment(store, "production", "long or not").winner == "control"
        assert get_flag(store, "production", "seen_style").definition["defaultVariant"] == "control"
    assert visit.faults == []

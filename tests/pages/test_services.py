"""The switches of environments and services at the top of the pages."""

from datetime import UTC, datetime, timedelta

import pytest

from quarterdeck.recorder import append_retrievals
from quarterdeck.retrieval import Retrieval
from quarterdeck.scope import Scope
from quarterdeck.store import Store
from tests.pages.opening import open_page, verdict

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("clean_streamlit")]

ANSWERS, SEARCH, STAGING = Scope("production", "answers"), Scope("production", "search"), Scope("staging", "answers")


def write(store: Store, scope: Scope, level: float) -> None:
    """Write forty steady days around a level."""
    now = datetime.now(UTC)
    rows = [
        Retrieval(now - timedelta(days=day, minutes=at), f"q{at}", level + 0.01 * (at % 5 - 2), scope=scope)
        for day in range(40)
        for at in range(20)
    ]
    append_retrievals(store, rows)


def test_with_one_service_there_is_no_switch_and_its_verdict_is_shown(empty_url: str, store: Store) -> None:
    write(store, ANSWERS, 0.8)
    app = open_page("drift")
    assert "0.80" in verdict(app)
    assert [box.label for box in app.selectbox if box.label == "Service"] == []


def test_the_service_is_chosen_at_the_top_and_stays_in_the_address(empty_url: str, store: Store) -> None:
    write(store, ANSWERS, 0.8)
    write(store, SEARCH, 0.5)
    app = open_page("drift")
    assert app.selectbox(key="service").options == ["answers", "search"]
    assert "0.80" in verdict(app)
    app.selectbox(key="service").select("search").run()
    assert "search" in app.query_params["service"]
    assert "0.50" in verdict(app)
    assert "0.50" in verdict(open_page("drift", service="search"))
    assert "0.80" in verdict(open_page("drift", service="nobody"))


def test_an_environment_that_only_rows_name_is_shown_as_new_with_its_own_verdict(empty_url: str, store: Store) -> None:
    write(store, ANSWERS, 0.8)
    write(store, STAGING, 0.3)
    app = open_page("drift")
    assert app.selectbox(key="environment").options == ["production", "staging (new)"]
    assert "0.80" in verdict(app)
    assert "0.30" in verdict(open_page("drift", environment="staging"))

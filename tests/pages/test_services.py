"""The switches of environments and services at the top of the pages."""

import re
from datetime import UTC, datetime, timedelta

import pytest

from quarterdeck.recorder import append_retrievals
from quarterdeck.retrieval import Retrieval
from quarterdeck.scope import Scope
from quarterdeck.store import Store
from tests.pages.opening import open_page, text_of, verdict

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


@pytest.mark.deep
def test_with_one_service_there_is_no_switch_and_its_verdict_is_shown(empty_url: str, store: Store) -> None:
    write(store, ANSWERS, 0.8)
    app = open_page("drift")
    assert "0.80" in verdict(app)
    assert [box.label for box in app.selectbox if box.label == "Service"] == []


@pytest.mark.deep
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


@pytest.mark.deep
def test_an_environment_that_only_rows_name_is_shown_as_new_with_its_own_verdict(empty_url: str, store: Store) -> None:
    write(store, ANSWERS, 0.8)
    write(store, STAGING, 0.3)
    app = open_page("drift")
    assert app.selectbox(key="environment").options == ["production", "staging (new)"]
    assert "0.80" in verdict(app)
    assert "0.30" in verdict(open_page("drift", environment="staging"))


@pytest.mark.deep
def test_a_log_in_which_nothing_was_ever_found_is_told_as_such_with_its_alerts(empty_url: str, store: Store) -> None:
    now = datetime.now(UTC)
    rows = [Retrieval(now - timedelta(days=day, minutes=at), f"q{at}") for day in range(1, 9) for at in range(20)]
    append_retrievals(store, rows)
    app = open_page("drift")
    assert re.match(r"160 searches are recorded since .*, and none found anything\.", verdict(app))
    assert any("Outage" in markdown.value for markdown in app.markdown)
    assert "none found anything" in verdict(open_page("overview"))


@pytest.mark.deep
def test_what_is_set_aside_is_named_below_the_verdict(empty_url: str, store: Store) -> None:
    write(store, ANSWERS, 0.8)
    append_retrievals(store, [Retrieval(datetime(1970, 1, 2, tzinfo=UTC), "q", 0.1, scope=ANSWERS)])
    captions = " ".join(text_of(caption.value) for caption in open_page("drift").caption)
    assert "1 question on 2 Jan 1970 is set aside" in captions


@pytest.mark.deep
def test_the_overview_names_an_outage_of_a_service_that_is_not_shown(empty_url: str, store: Store) -> None:
    write(store, ANSWERS, 0.8)
    write(store, Scope("production", "mail"), 0.8)
    now = datetime.now(UTC)
    for scope in (SEARCH, STAGING):
        rows = [
            Retrieval(now - timedelta(days=day, minutes=at), f"q{at}", None if day < 4 else 0.7, scope=scope)
            for day in range(1, 41)
            for at in range(20)
        ]
        append_retrievals(store, rows)
    links = [link for link in open_page("overview").get("page_link") if "Outage" in link.proto.label]
    assert [re.sub(r"since .*:", "since …:", link.proto.label) for link in links] == [
        ":red[:material/cloud_off: Outage] of search since …: show search"
    ]
    assert "service=search" in links[0].proto.query_string
    shown = open_page("overview", service="search")
    assert not [link for link in shown.get("page_link") if "Outage" in link.proto.label]

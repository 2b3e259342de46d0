"""The deck in a real browser: every page opens, a flag is flipped, another process sees it, hostile text stays text."""

import os
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import httpx2
import pytest
from playwright.sync_api import expect

from app.navigation import TITLES, path_of
from core.audit.acts import Act
from core.flags.operations import create_flag
from quarterdeck.definitions import boolean_flag
from quarterdeck.store import Store
from tests.browser.conftest import PATIENCE_MS, Server, Visit

SENTENCES = {  # what the first sentence says of the demo
    "overview": "Retrieval score fell",
    "questions": "questions of the last 30 days, newest first.",
    "drift": "Retrieval score fell",
    "coverage": "score low",
    "prompts": "wins by faithfulness per cost",
    "corpus": "v1 is live",
    "rollouts": "flags are partly rolled out",
    "audit": "The last of",
}
HOSTILE = (
    '<script>window.stolen = 1</script><img src=x onerror="window.stolen = 1"> **bold** [x](javascript:alert(1)) $x$'
)

# Prints what a service's client sees whenever it changes, for two minutes at most.
WATCH = """
import sys, time
from quarterdeck import Quarterdeck
deck = Quarterdeck(sys.argv[1])
seen, end = None, time.monotonic() + 120
while time.monotonic() < end:
    if deck.is_enabled(sys.argv[2], "user-1") is not seen:
        seen = deck.is_enabled(sys.argv[2], "user-1")
        print(seen, flush=True)
    time.sleep(0.05)
"""

QUICK = ("overview", "rollouts")  # the other pages are opened by `make test DEEP=1`

pytestmark = [pytest.mark.browser, pytest.mark.slow]


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[] if name in QUICK else [pytest.mark.deep], id=name) for name in TITLES],
)
def test_a_page_opens_with_its_sentence_and_without_errors(name: str, visit: Visit) -> None:
    page = visit.open(path_of(name))
    assert SENTENCES.get(name, "") in visit.sentence
    assert page.locator("h4").first.is_visible()
    assert page.get_by_test_id("stException").count() == 0
    assert page.get_by_test_id("stAlertContentError").count() == 0
    assert visit.faults == []


@pytest.mark.deep
def test_the_navigation_leads_to_every_page_and_the_overview_is_the_root(visit: Visit) -> None:
    page = visit.open()
    links = page.get_by_test_id("stSidebarNavLink")
    names = [link.inner_text().split()[-1] for link in links.all()]  # behind its icon
    assert names == list(TITLES.values())
    links.filter(has_text=TITLES["corpus"]).click()
    page.wait_for_url("**/corpus")
    visit.wait()
    assert "v1 is live" in visit.sentence


def switch_on(visit: Visit, flag: str, *, reason: str) -> None:
    """Switch the chosen flag on in its form, and save that."""
    page = visit.page
    page.get_by_text("On", exact=True).click()
    form = page.get_by_test_id("stForm").filter(has_text="Save")
    form.get_by_label("Reason").fill(reason)
    if form.get_by_label("Name of the flag").count():
        form.get_by_label("Name of the flag").fill(flag)
    form.get_by_role("button", name="Save").click()
    page.get_by_text("Recorded as audit entry").wait_for()


@pytest.mark.deep
def test_a_flip_on_the_page_is_audited_and_reaches_another_process(
    visit: Visit, server: Server, tmp_path: Path
) -> None:
    client = subprocess.Popen(
        [sys.executable, "-c", WATCH, server.database_url, "use_hyde"],
        env=os.environ | {"XDG_CACHE_HOME": str(tmp_path)},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert client.stdout is not None
        assert client.stdout.readline() == "False\n"
        visit.open("rollouts?flag=use_hyde")
        switch_on(visit, "use_hyde", reason="seen in the browser")
        assert client.stdout.readline() == "True\n"
    finally:
        client.terminate()
        client.communicate()
    page = visit.open("audit")
    assert "tester changed the flag use_hyde" in visit.sentence
    expect(page.get_by_test_id("stText").first).to_have_text("seen in the browser", timeout=PATIENCE_MS)
    assert visit.faults == []


@pytest.mark.deep
@pytest.mark.parametrize(
    "visit", [{"color_scheme": "dark"}, {"color_scheme": "light"}], indirect=True, ids=["dark", "light"]
)
def test_the_page_follows_the_visitors_theme(visit: Visit, request: pytest.FixtureRequest) -> None:
    page = visit.open("drift")
    assert SENTENCES["drift"] in visit.sentence
    color = page.evaluate("getComputedStyle(document.querySelector('[data-testid=stApp]')).backgroundColor")
    is_dark = "dark" in request.node.callspec.id
    assert color == ("rgb(16, 20, 29)" if is_dark else "rgb(255, 255, 255)")


@pytest.mark.deep
def test_the_environment_stays_in_the_address_and_on_the_next_pages(visit: Visit, server: Server) -> None:
    with closing(Store(server.database_url)) as store:
        create_flag(store, "only_in_staging", boolean_flag(on=True), Act("ada", "try it", "staging"))
    page = visit.open("rollouts?environment=staging")
    for _ in range(30):  # the server looks for new environments every few seconds
        if page.get_by_label("Environment").input_value() == "staging":
            break
        page.wait_for_timeout(1_000)
        visit.open("rollouts?environment=staging")
    page.get_by_test_id("stSidebarNavLink").filter(has_text="Drift").click()
    page.wait_for_url("**/drift?environment=staging")
    visit.wait()
    expect(page.get_by_label("Environment")).to_have_value("staging", timeout=PATIENCE_MS)


@pytest.mark.deep
def test_filters_stay_in_the_address(visit: Visit) -> None:
    page = visit.open("corpus?tab=Files&version=v1&search=mbuf")
    search = page.get_by_label("Search in file names")
    expect(search).to_have_value("mbuf", timeout=PATIENCE_MS)
    search.fill("ring")
    search.press("Enter")
    page.wait_for_url("**search=ring**")
    assert "version=v1" in page.url


@pytest.mark.deep
def test_hostile_queries_and_reasons_are_shown_as_text(visit: Visit, server: Server) -> None:
    rows = [
        {"query": f"{HOSTILE} {number}", "score": 0.05, "arm": "<b>blue</b>", "service": "docs-chat"}
        for number in range(40)
    ]
    assert httpx2.post(f"{server.address}/v1/retrievals", json=rows).json()["stored"] == 40
    visit.open("rollouts?flag=contextual_retrieval")
    switch_on(visit, "contextual_retrieval", reason=HOSTILE)
    for path in map(path_of, TITLES):
        page = visit.open(f"{path}?days=7+days")
        assert page.evaluate("window.stolen") is None
        come_in = "[data-testid=stMain] :is(script, img[src=x]):not(.st-key-frame_script *)"  # the pages' own script
        assert page.locator(come_in).count() == 0
        assert page.locator('a[href^="javascript:"]').count() == 0
        assert page.get_by_test_id("stException").count() == 0
    page = visit.open("audit")
    expect(page.get_by_test_id("stText").first).to_have_text(HOSTILE, timeout=PATIENCE_MS)


def test_the_flags_are_served_as_a_flagd_document(server: Server) -> None:
    flags = httpx2.get(f"{server.address}/flagd/flags.json").json()["flags"]
    assert set(flags) == {"answer-service", "contextual_retrieval", "new_prompt_v3", "use_hyde", "use_reranker"}


MAP = ".st-key-coverage-map .js-plotly-plot"


@pytest.mark.deep
def test_a_click_on_the_map_chooses_the_topic(visit: Visit) -> None:
    page = visit.open("coverage?days=7d")
    page.wait_for_selector(f"{MAP} >> nth=0")
    place = """at => {
        const chart = document.querySelector('.st-key-coverage-map .js-plotly-plot')
        const group = chart?._fullData?.[1], {xaxis, yaxis} = chart?._fullLayout ?? {}
        const point = group && at % group.x.length
        return group && [xaxis.l2p(group.x[point]) + xaxis._offset, yaxis.l2p(group.y[point]) + yaxis._offset]
    }"""
    page.wait_for_function(place, arg=0)
    name = page.evaluate(f"document.querySelector('{MAP}')._fullData[1].name")
    chart, heading = page.locator(MAP).first, page.locator("h3").first
    for at in range(10):  # the page may still move while it settles, and another point may lie on top of this one
        chart.scroll_into_view_if_needed()
        box, (x, y) = chart.bounding_box(), page.evaluate(place, at)
        page.mouse.click(box["x"] + x, box["y"] + y)
        visit.wait()
        if heading.inner_text().startswith(name.rstrip("…")):
            break
    assert heading.inner_text().startswith(name.rstrip("…"))

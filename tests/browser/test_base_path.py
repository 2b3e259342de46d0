"""A deck below a path: its pages, links and API work there, and nothing answers outside."""

import httpx2
import pytest
from playwright.sync_api import Browser, expect

from tests.browser.conftest import PATIENCE_MS, serving, visiting
from tests.conftest import Demo

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.deep]


def test_the_whole_deck_is_below_its_path(demo: Demo, chromium: Browser) -> None:
    with serving(demo.config.home, STREAMLIT_SERVER_BASE_URL_PATH="/ops/deck/") as server:
        with visiting(chromium, f"{server.address}/ops/deck") as visit:
            page = visit.open("drift?days=7d")
            expect(page.get_by_test_id("stPlotlyChart").first).to_be_visible(timeout=PATIENCE_MS)
            page.get_by_role("link", name="Coverage").first.click()
            expect(page).to_have_url(f"{server.address}/ops/deck/coverage", timeout=PATIENCE_MS)
            expect(page.get_by_role("heading", level=1)).to_be_visible(timeout=PATIENCE_MS)
            assert visit.faults == []
        assert httpx2.get(f"{server.address}/ops/deck/v1/openapi.json", timeout=60).json()["openapi"].startswith("3.1")
        assert httpx2.get(f"{server.address}/v1/openapi.json").status_code == 404
        assert httpx2.get(f"{server.address}/healthz").status_code == 200

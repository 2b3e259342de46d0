"""People who use a keyboard, a screen reader or a narrow screen: axe-core on every page, in either theme."""

import pytest
from axe_playwright_python.sync_playwright import Axe

from tests.browser.conftest import Visit

pytestmark = [pytest.mark.slow, pytest.mark.browser]

PAGES = ("", "drift", "coverage?days=7d", "prompts", "corpus", "rollouts", "audit")
GRAVE = {"serious", "critical"}


@pytest.mark.parametrize("visit", [{"color_scheme": "light"}, {"color_scheme": "dark"}], indirect=True, ids=str)
@pytest.mark.parametrize("path", PAGES)
def test_axe_finds_nothing_serious_on_a_page(path: str, visit: Visit) -> None:
    page = visit.open(path)
    found = [rule for rule in Axe().run(page).response["violations"] if rule["impact"] in GRAVE]
    assert [
        f"{rule['id']}: {node['target']} {node['failureSummary'].splitlines()[-1].strip()}"
        for rule in found
        for node in rule["nodes"]
    ] == []

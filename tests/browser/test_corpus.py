"""The corpus page in a real browser: verify a version, let an index go live and roll it back, download files."""

import time
import zipfile
from pathlib import Path

import pytest
from playwright.sync_api import expect

from core.audit.acts import Act
from core.embedding.embed import Embedder
from core.embedding.vectors import VectorCache
from core.indexes.builds import probe_index, save_probe
from quarterdeck.client import Quarterdeck
from quarterdeck.store import Store
from tests.browser.conftest import PATIENCE_MS, Server, Visit

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.deep]
LONG_MS = 4 * PATIENCE_MS  # a job starts a Python of its own, on a machine that may be busy


def test_a_version_is_verified_while_the_page_shows_how_far_it_is(visit: Visit) -> None:
    page = visit.open("corpus?tab=Files&version=v1")
    page.get_by_role("button", name="Verify").click()
    page.get_by_text("Recorded as audit entry").wait_for()
    expect(page.get_by_text("Intact: each of 38 files of v1").first).to_be_visible(timeout=LONG_MS)
    assert visit.faults == []


def test_a_file_and_a_whole_version_are_downloaded(visit: Visit, tmp_path: Path) -> None:
    page = visit.open("corpus?tab=Files&version=v1&path=corpus/mbuf.md")
    expect(page.get_by_text("DPDK packet buffers: mbuf")).to_be_visible(timeout=PATIENCE_MS)
    with page.expect_download() as one:
        page.get_by_role("button", name="Download", exact=True).click()
    one.value.save_as(tmp_path / "mbuf.md")
    assert one.value.suggested_filename == "mbuf.md"
    assert (tmp_path / "mbuf.md").read_text().startswith("# DPDK packet buffers: mbuf")
    with page.expect_download() as whole:
        page.get_by_role("button", name="Download as an archive").click()
    whole.value.save_as(tmp_path / "v1.zip")
    with zipfile.ZipFile(tmp_path / "v1.zip") as bundle:
        assert len(bundle.namelist()) == 38
    assert visit.faults == []


def test_an_index_goes_live_and_is_rolled_back_and_a_service_follows(visit: Visit, server: Server) -> None:
    store = Store(server.database_url)
    embedder = Embedder(cache=VectorCache(store))
    report = probe_index(store, embedder, "docs-v2", live="docs-v1", queries=("what is an mbuf",))
    save_probe(store, report, Act("tester", "before the visit"), live="docs-v1")
    store.close()
    with Quarterdeck(server.database_url, poll_s=0.2, snapshot_path=None) as deck:
        assert deck.active_index() == "docs-v1"
        page = visit.open("corpus?tab=Indexes")
        form = page.get_by_test_id("stForm").filter(has_text="Every reader of")
        form.get_by_label("Reason").fill("seen in the browser")
        form.get_by_label("Type the index").fill("docs-v2")
        form.get_by_role("button", name="Let it go live").click()
        page.get_by_text("Recorded as audit entry").wait_for()
        expect(page.locator("h4").first).to_contain_text("v2 is live", timeout=PATIENCE_MS)
        wait_for_index(deck, "docs-v2")
        form = page.get_by_test_id("stForm").filter(has_text="Roll back to docs-v1")
        form.get_by_label("Reason").fill("and back")
        form.get_by_role("button", name="Roll back to docs-v1").click()
        expect(page.locator("h4").first).to_contain_text("v1 is live", timeout=PATIENCE_MS)
        wait_for_index(deck, "docs-v1")
    assert visit.faults == []


def wait_for_index(deck: Quarterdeck, name: str) -> None:
    for _ in range(300):
        if deck.active_index() == name:
            return
        time.sleep(0.1)
    pytest.fail(f"a service still reads {deck.active_index()}")

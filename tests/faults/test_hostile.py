"""Hostile text in what the pages show, in a real browser: no script runs, nothing leaves its place."""

from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, Dialog

from core.access import Scope
from core.acts import Act
from core.credentials import issue_token
from core.errors import InvalidInput
from core.operations import create_flag
from quarterdeck.definitions import boolean_flag
from quarterdeck.recorder import append_retrievals
from quarterdeck.retrieval import Retrieval
from quarterdeck.store import Store
from tests.browser.conftest import PATIENCE_MS, Server, serving

pytestmark = [pytest.mark.slow, pytest.mark.deep, pytest.mark.browser]

SCRIPTS = (
    "<script>window.stolen=1</script><img src=x onerror=window.stolen=1><svg onload=window.stolen=1>"
    "[x](javascript:window.stolen=1) **b** $x$ `c` :red[r]"
)
BIDI = "‮gnp.exe‬ ⁧نص⁩ \u200b\ufeff"
ENDLESS = "x" * 7_000
PAGES = ("", "drift", "coverage", "prompts", "corpus", "rollouts", "audit")
MEGABYTE = "y" * (1 << 20)


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server whose store holds hostile text wherever somebody may write some."""
    home = tmp_path_factory.mktemp("hostile") / "home"
    home.mkdir()
    with closing(Store(f"sqlite:///{home / 'quarterdeck.db'}", create=True)) as store:
        act = Act(f"{SCRIPTS} {BIDI}", f"{SCRIPTS} {BIDI} {'w' * 1_500}")
        create_flag(
            store, SCRIPTS.replace(" ", ""), boolean_flag(on=True, rollout_pct=20, description=SCRIPTS + BIDI), act
        )
        create_flag(store, "k" * 200, boolean_flag(on=True, description="d" * 5_000), act)
        issue_token(store, "search", [Scope.EVALUATE], act, expires_days=30)
        now = datetime.now(UTC)
        append_retrievals(store, [
            Retrieval(now - timedelta(hours=at), f"{text} {at}", score, arm=SCRIPTS, prompt_version="v" * 256,
                      index_version=SCRIPTS, session_id=f"{SCRIPTS}{at}")
            for at in range(60) for text, score in ((SCRIPTS, 0.05), (BIDI + "\n\t\x07\x1b[31m", 0.1), (ENDLESS, 0.9))
        ])  # fmt: skip
    with serving(home) as server:
        yield server


def test_a_megabyte_is_refused_wherever_it_is_sent(hostile: Server, tmp_path: Path) -> None:
    with closing(Store(hostile.database_url)) as store:
        secret, _ = issue_token(store, "logger", [Scope.INGEST], Act("ada", "a test"), expires_days=30)
    answer = httpx.post(
        f"{hostile.address}/v1/retrievals", json={"query": MEGABYTE, "score": 0.5}, timeout=60,
        headers={"Authorization": f"Bearer {secret}"},
    )  # fmt: skip
    assert answer.status_code == 400
    assert len(answer.text) < 1_000
    with closing(Store(f"sqlite:///{tmp_path / 'deck.db'}", create=True)) as store:
        for actor, reason in ((MEGABYTE, "why"), ("ada", MEGABYTE)):
            with pytest.raises(InvalidInput) as refused:
                create_flag(store, "flag", boolean_flag(on=True), Act(actor, reason))
            assert len(str(refused.value)) < 1_000


@pytest.mark.parametrize("width", [1_280, 420])
def test_no_script_runs_and_no_layout_breaks(width: int, hostile: Server, chromium: Browser) -> None:
    context = chromium.new_context(viewport={"width": width, "height": 900})
    page = context.new_page()
    dialogs: list[str] = []

    def note(dialog: Dialog) -> None:
        dialogs.append(dialog.message)
        dialog.dismiss()

    page.on("dialog", note)
    try:
        for path in PAGES:
            page.goto(f"{hostile.address}/{path}")
            page.get_by_test_id("stHeading").first.wait_for(timeout=PATIENCE_MS)
            page.locator('[data-test-script-state="notRunning"]').wait_for(timeout=PATIENCE_MS)
            assert page.evaluate("window.stolen") is None, path
            assert page.locator("[data-testid=stMain] script, [data-testid=stMain] img[src=x]").count() == 0, path
            assert page.locator('a[href^="javascript:"]').count() == 0, path
            assert page.get_by_test_id("stException").count() == 0, path
            main = "document.querySelector('[data-testid=stMain]')"
            assert page.evaluate("document.documentElement.scrollWidth") <= width, path
            assert page.evaluate(f"{main}.scrollWidth - {main}.clientWidth") <= 0, path
        assert dialogs == []
    finally:
        context.close()

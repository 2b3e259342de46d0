"""A new store: the three steps that the overview shows, run exactly as shown, lead to the first data."""

import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from tests.browser.conftest import PATIENCE_MS, Server, Visit, serving

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.deep]
STEPS = 3


def test_the_steps_of_an_empty_overview_run_as_they_stand_there_and_bring_the_first_data(
    chromium: Browser, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (tmp_path / "log.csv").write_text(f"ts,query,score\n{datetime.now(UTC).isoformat()},what is a ring,0.71\n")
    with serving(home) as server:
        page = chromium.new_page()
        visit = Visit(page, server.address, [])
        visit.open()
        assert visit.sentence == "There is no data yet: no question has been logged."
        page.get_by_test_id("stCode").nth(STEPS - 1).wait_for(timeout=PATIENCE_MS)
        steps = [code.inner_text() for code in page.get_by_test_id("stCode").all()][:STEPS]
        for step, count in zip(steps, (1, 2, 3), strict=True):
            run(step, server, tmp_path)
            assert count_retrievals(server) == count
        page.get_by_role("link", name="Then look at the first data").click()
        page.wait_for_url("**/drift")
        page.get_by_text("Too little data", exact=False).first.wait_for(timeout=PATIENCE_MS)
        assert page.get_by_test_id("stException").count() == 0
        page.close()


def run(step: str, server: Server, folder: Path) -> None:
    """Run what a step shows, as if pasted: a command into a shell, or Python into Python."""
    command = [sys.executable, "-c", step] if step.startswith("from ") else ["sh", "-c", step]
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    settings = {"PATH": path, "QUARTERDECK_HOME": str(folder / "home")}
    done = subprocess.run(command, cwd=folder, env={**os.environ, **settings}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def count_retrievals(server: Server) -> int:
    """How many questions the store holds."""
    import sqlite3
    from contextlib import closing

    with closing(sqlite3.connect(server.database_url.removeprefix("sqlite:///"))) as connection:
        return int(connection.execute("SELECT COUNT(*) FROM retrievals").fetchone()[0])

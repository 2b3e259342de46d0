"""A real Chromium and a real server over a copy of the demo, which these tests change."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page

from tests.conftest import Demo, copy_home

PATIENCE_MS = int(os.environ.get("QUARTERDECK_TEST_PATIENCE_MS", "60000"))  # more on a busy machine


@dataclass(frozen=True)
class Server:
    """A running `quarterdeck serve`: where it answers and which store it shares."""

    address: str
    database_url: str


@pytest.fixture(scope="session")
def server(demo: Demo, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The deck over a copy of the demo."""
    home = tmp_path_factory.mktemp("served") / "home"
    copy_home(demo.config.home, home)
    with serving(home) as served:
        yield served


@contextmanager
def serving(home: Path, **settings: str) -> Iterator[Server]:
    """Serve a home by a process of its own, which is ended by its process id; its log is `serve.log`."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    program = Path(sys.executable).with_name("quarterdeck")
    with (home / "serve.log").open("w") as log:
        process = subprocess.Popen(
            [program, "serve", "--port", str(port)],
            env={**os.environ, "QUARTERDECK_HOME": str(home), "QUARTERDECK_OPERATOR": "tester", **settings},
            stdout=log,
            stderr=log,
        )
        try:
            address = f"http://127.0.0.1:{port}"
            _wait_until_healthy(address, process, home / "serve.log")
            yield Server(address, f"sqlite:///{home / 'quarterdeck.db'}")
        finally:
            process.terminate()
            process.wait(30)


def _wait_until_healthy(address: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    for _ in range(PATIENCE_MS // 100):
        assert process.poll() is None, log.read_text()
        try:
            if httpx2.get(f"{address}/healthz").status_code == 200:
                return
        except httpx2.TransportError:
            time.sleep(0.1)
    pytest.fail(f"the server does not answer: {log.read_text()}")


def _faults_of(message: ConsoleMessage) -> list[str]:
    """A console message, except for Streamlit's own search for its address below a deep link."""
    where = message.location.get("url", "")
    is_search = where.endswith(("/_stcore/health", "/_stcore/host-config")) and "404" in message.text
    return [f"{message.text} {where}"] if message.type == "error" and not is_search else []


@dataclass
class Visit:
    """A visitor's tab, and every error that its console showed."""

    page: Page
    address: str
    faults: list[str]

    def open(self, path: str = "") -> Page:
        """Open a page of the deck and wait until its sentence is shown and nothing is being computed."""
        self.page.goto(f"{self.address}/{path}")
        self.wait()
        return self.page

    def wait(self) -> None:
        """Wait until the page's script has run to its end, and the browser has loaded what draws it."""
        self.page.get_by_test_id("stHeading").first.wait_for(timeout=PATIENCE_MS)
        self.page.locator('[data-test-script-state="notRunning"]').wait_for(timeout=PATIENCE_MS)
        self.page.get_by_test_id("stSkeleton").first.wait_for(state="detached", timeout=PATIENCE_MS)

    @property
    def sentence(self) -> str:
        """The sentence on top."""
        return self.page.locator("h4").first.inner_text(timeout=PATIENCE_MS)


@pytest.fixture
def visit(chromium: Browser, server: Server, request: pytest.FixtureRequest) -> Iterator[Visit]:
    """A fresh tab. `request.param` may hold options of its context, like the width or the theme."""
    with visiting(chromium, server.address, **getattr(request, "param", {})) as visit:
        yield visit


@contextmanager
def visiting(chromium: Browser, address: str, **options: Any) -> Iterator[Visit]:
    """A fresh tab of the deck at an address."""
    context = chromium.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
    page = context.new_page()
    faults: list[str] = []
    page.on("console", lambda message: faults.extend(_faults_of(message)))
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.set_default_timeout(PATIENCE_MS)
    yield Visit(page, address, faults)
    context.close()

"""The image that deploy/build-image built: it serves the demo as a user without rights, and the pages work.

    deploy/build-image quarterdeck:test && QUARTERDECK_BUILT_IMAGE=quarterdeck:test pytest tests/test_image.py

Building takes minutes, so the test takes an image that is there, in buildah's storage.
"""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import httpx2
import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.conftest import PATIENCE_MS

pytestmark = [pytest.mark.deep, pytest.mark.slow, pytest.mark.browser]
PAGES = ("", "questions", "drift", "coverage", "prompts", "corpus", "rollouts", "ledger", "audit")
LARGEST_MB = 2_200


def _image() -> str:
    name = os.environ.get("QUARTERDECK_BUILT_IMAGE", "")
    if not name or shutil.which("buildah") is None:
        pytest.skip(
            "build the image first: deploy/build-image NAME, and set QUARTERDECK_BUILT_IMAGE=NAME; needs buildah"
        )
    return name


def _ask(*command: str) -> str:
    return subprocess.run(["buildah", *command], check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture(scope="module")
def container() -> Iterator[str]:
    name = _ask("from", "--pull=never", _image())
    yield name
    _ask("rm", name)


def _inside(container: str, *command: str) -> Sequence[str]:
    return ("buildah", "run", "--isolation", "chroot", "--user", "10001", container, "--", *command)


@pytest.fixture(scope="module")
def address(container: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The deck in the container, over its demo."""
    subprocess.run(_inside(container, "quarterdeck", "demo"), check=True, capture_output=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = tmp_path_factory.mktemp("image") / "log"
    with log.open("w") as opened:
        server = subprocess.Popen(
            _inside(container, "quarterdeck", "serve", "--port", str(port)), stdout=opened, stderr=opened
        )
        try:
            _wait(f"http://127.0.0.1:{port}/healthz", server, log)
            yield f"http://127.0.0.1:{port}"
        finally:
            server.terminate()
            server.wait(60)


def _wait(url: str, server: "subprocess.Popen[bytes]", log: Path) -> None:
    for _ in range(1_200):
        assert server.poll() is None, log.read_text()
        try:
            if httpx2.get(url).status_code == 200:
                return
        except httpx2.TransportError:
            time.sleep(0.1)
    pytest.fail(log.read_text())


def test_the_image_is_small_enough(container: str) -> None:
    root = _ask("mount", container)
    try:
        used = subprocess.run(["du", "-xsm", root], check=True, capture_output=True, text=True).stdout
    finally:
        _ask("umount", container)
    assert int(used.split()[0]) <= LARGEST_MB


def test_it_runs_without_rights(container: str) -> None:
    found = subprocess.run(_inside(container, "id", "-u"), check=True, capture_output=True, text=True).stdout
    assert found.strip() == "10001"
    written = subprocess.run(_inside(container, "touch", "/srv/quarterdeck/x"), check=False, capture_output=True)
    assert written.returncode != 0


@pytest.fixture(scope="module")
def page(chromium: Browser) -> Iterator[Page]:
    opened = chromium.new_page(viewport={"width": 1440, "height": 900})
    yield opened
    opened.close()


@pytest.mark.parametrize("name", PAGES)
def test_every_page_is_drawn(address: str, page: Page, name: str) -> None:
    page.goto(f"{address}/{name}")
    expect(page.get_by_role("heading", level=1)).to_be_visible(timeout=PATIENCE_MS)
    page.locator('[data-test-script-state="notRunning"]').wait_for(timeout=PATIENCE_MS)
    assert page.get_by_test_id("stException").count() == 0

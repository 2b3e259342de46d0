"""Takes the pictures of the guides: serves a demo and photographs its pages with Debian's Chromium.

Run from the checkout: .venv/bin/python docs/screenshots.py [HOME [NAME...]]. Without HOME a demo is built in a
temporary folder; names take some of the pictures only.
Pictures land in docs/images/; look at them before they are committed.
"""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

PROJECT = Path(__file__).resolve().parents[1]
IMAGES = PROJECT / "docs" / "images"
FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update",
]  # fmt: skip
WIDTH, PATIENCE_MS = 1280, 300_000
# The picture's name, the page's address, and how much of it from the top.
PICTURES = {
    "overview": ("", 1_240),
    "drift": ("drift", 900),
    "drift-causes": ("drift", 1_500),
    "coverage": ("coverage", 1_500),
    "prompts": ("prompts", 900),
    "prompts-runs": ("prompts?tab=Runs", 1_050),
    "corpus": ("corpus", 820),
    "corpus-diff": ("corpus?tab=Diff", 760),
    "corpus-indexes": ("corpus?tab=Indexes", 820),
    "rollouts": ("rollouts", 860),
    "rollouts-canaries": ("rollouts?tab=Canaries", 1_000),
    "audit": ("audit", 900),
}


def take_pictures(address: str, browser: Browser, names: Sequence[str]) -> None:
    """Photograph pages once they stand still, in the light theme."""
    context = browser.new_context(color_scheme="light")
    context.set_default_timeout(PATIENCE_MS)
    for name in names:
        path, height = PICTURES[name]
        page = context.new_page()
        page.set_viewport_size({"width": WIDTH, "height": height})
        page.goto(f"{address}/{path}")
        page.get_by_test_id("stHeading").first.wait_for()
        page.locator('[data-test-script-state="notRunning"]').wait_for()
        page.wait_for_function("!document.querySelector('[data-testid=stSkeleton]')")  # tables and charts come later
        page.wait_for_timeout(2_000)  # charts draw themselves step by step
        page.screenshot(path=IMAGES / f"{name}.png")
        page.close()
        shrink(IMAGES / f"{name}.png")


def shrink(path: Path) -> None:
    """Reduce a picture to 128 colours, a third of the bytes."""
    from PIL import Image

    with Image.open(path) as picture:
        small = picture.convert("RGB").quantize(128)
    small.save(path, optimize=True)


def serve(home: Path, port: int) -> "subprocess.Popen[bytes]":
    """Start a deck over the demo and wait until it answers."""
    import httpx

    server = subprocess.Popen(
        [sys.executable, "-m", "quarterdeck", "serve", "--port", str(port)],
        cwd=PROJECT,
        env={**os.environ, "QUARTERDECK_HOME": str(home), "QUARTERDECK_OPERATOR": "ada"},
    )
    for _ in range(600):
        if server.poll() is not None:
            sys.exit("the deck did not start")
        try:
            httpx.get(f"http://127.0.0.1:{port}/healthz").raise_for_status()
            return server
        except httpx.HTTPError:
            time.sleep(0.2)
    server.terminate()
    sys.exit("the deck does not answer")


def run(home: Path, names: Sequence[str]) -> None:
    """Serve the demo, take the pictures, stop."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    IMAGES.mkdir(exist_ok=True)
    server = serve(home, port)
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
            take_pictures(f"http://127.0.0.1:{port}", browser, names)
            browser.close()
    finally:
        server.terminate()
        server.wait(30)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        run(Path(sys.argv[1]).absolute(), sys.argv[2:] or list(PICTURES))
    else:
        with tempfile.TemporaryDirectory() as folder:
            own = {**os.environ, "QUARTERDECK_HOME": folder}
            subprocess.run([sys.executable, "-m", "quarterdeck", "demo"], cwd=PROJECT, env=own, check=True)
            run(Path(folder), list(PICTURES))

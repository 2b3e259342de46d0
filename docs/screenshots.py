"""Takes the pictures of the guides: serves a demo and photographs its pages with Debian's Chromium.

Run from the checkout: .venv/bin/python -m docs.screenshots [HOME [NAME...]]. Without HOME a demo is built in a
temporary folder; names take some of the pictures only.
Pictures land in docs/images/; look at them before they are committed.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

from app.navigation import TITLES, path_of
from benchmarks.first_paint import find_port, served
from tests.chromium import FLAGS

PROJECT = Path(__file__).resolve().parents[1]
IMAGES = PROJECT / "docs" / "images"
WIDTH, PATIENCE_MS = 1280, 300_000
# How much of a page its picture shows, from the top.
HEIGHTS = {"overview": 1_240, "coverage": 1_500, "corpus": 820, "rollouts": 860}
# The picture's name, the page's address, and how much of it.
PICTURES = {name: (path_of(name), HEIGHTS.get(name, 900)) for name in TITLES} | {
    "drift-causes": ("drift", 1_500),
    "prompts-runs": ("prompts?tab=Runs", 1_050),
    "corpus-diff": ("corpus?tab=Diff", 760),
    "corpus-indexes": ("corpus?tab=Indexes", 820),
    "rollouts-canaries": ("rollouts?tab=Canaries", 1_000),
}


def take_pictures(address: str, browser: Browser, names: Sequence[str]) -> None:
    """Take screenshots of pages once they stop changing, in the light theme."""
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
    """Reduce a picture to 256 colors, a third of the bytes; rare ones such as those of markers are kept."""
    from PIL import Image

    with Image.open(path) as picture:
        small = picture.convert("RGB").quantize(256, method=Image.Quantize.MAXCOVERAGE)
    small.save(path, optimize=True)


def run(home: Path, names: Sequence[str]) -> None:
    """Serve the demo, take the pictures, stop."""
    os.environ.update(QUARTERDECK_HOME=str(home), QUARTERDECK_OPERATOR="ada")
    IMAGES.mkdir(exist_ok=True)
    port = find_port()
    command = [sys.executable, "-m", "quarterdeck", "serve", "--port", str(port)]
    with served(command, port, "/healthz") as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=list(FLAGS))
        take_pictures(address, browser, names)
        browser.close()


if __name__ == "__main__":
    if len(sys.argv) > 1:
        run(Path(sys.argv[1]).absolute(), sys.argv[2:] or list(PICTURES))
    else:
        with tempfile.TemporaryDirectory() as folder:
            own = {**os.environ, "QUARTERDECK_HOME": folder}
            subprocess.run([sys.executable, "-m", "quarterdeck", "demo"], cwd=PROJECT, env=own, check=True)
            run(Path(folder), list(PICTURES))

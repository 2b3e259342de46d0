"""How long the first paint of each page takes in Chromium, compared with an empty Streamlit page.

    .venv/bin/python -m benchmarks.first_paint [--home FOLDER] [--visits 7] [--check 2.0]

Serves the deck over QUARTERDECK_HOME (default: the demo's) and, from a second process, a page that holds one sentence
and nothing else. After three visits that warm the caches each page is opened in turn with the empty one; the median
time from the start of the navigation until the sentence was painted, by the browser's own clock, is printed, and its
ratio to the empty page's. The browser keeps its profile on disk, as people's do: without one (a private window) it
compiles Streamlit's scripts again at each visit, which takes about a third of a second longer.
`--check R` exits with 1 when a page takes more than R times as long. With `--home` it measures any prepared home, for
example one with 10M retrievals, 10,000 runs and 20,000 files.
"""

import argparse
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx2
from playwright.sync_api import BrowserContext, TimeoutError, sync_playwright

from app.navigation import TITLES, path_of
from tests.chromium import FLAGS

PATIENCE_MS, SETTLED_MS = 120_000, 20_000
WARMING = 3  # the browser keeps a script's compiled code once it has seen it a few times
PROJECT = Path(__file__).resolve().parents[1]
EMPTY = 'import streamlit as st\n\nst.title("Empty", anchor=False)\nst.markdown("#### Nothing but this sentence.")\n'
# Playwright's own waiting looks between the page's long tasks and is late by up to half a second.
SHOWN = """
window.shown = new Promise(resolve => {
  const look = () => {
    const sentence = document.querySelector('h4');
    if (!sentence || !sentence.getClientRects().length) return;
    observer.disconnect();
    requestAnimationFrame(() => setTimeout(() => resolve(performance.now())));
  };
  const observer = new MutationObserver(look);
  observer.observe(document, {subtree: true, childList: true});
});
"""


@contextmanager
def served(command: list[str], port: int, health: str) -> Iterator[str]:
    """A server in a process of its own, ended by its process id."""
    process = subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(600):
            try:
                if httpx2.get(f"{address}{health}").status_code == 200:
                    break
            except httpx2.TransportError:
                time.sleep(0.1)
        yield address
    finally:
        process.terminate()
        process.wait(30)


def find_port() -> int:
    """Return a port that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def visit(context: BrowserContext, url: str) -> float:
    """Return the seconds from the start of the navigation, in a new tab, until the sentence on top was painted."""
    page = context.new_page()
    page.set_default_timeout(PATIENCE_MS)
    page.goto(url, wait_until="commit")
    seconds = page.evaluate("window.shown") / 1e3
    with suppress(TimeoutError):  # a page that reads new queries aside goes on for long
        page.locator('[data-test-script-state="notRunning"]').wait_for(timeout=SETTLED_MS)
    page.close()
    return seconds


def measure(context: BrowserContext, bare: str, page: str, visits: int) -> tuple[float, float]:
    """Return the median seconds of the empty page and of the page.

    They take turns, so that other load on the machine affects both alike; the first visits warm the caches.
    """
    turns = [(visit(context, bare), visit(context, page)) for _ in range(WARMING + visits)][WARMING:]
    return statistics.median(turn[0] for turn in turns), statistics.median(turn[1] for turn in turns)


def main() -> int:
    """Serve both, visit every page, print a row for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--home", type=Path, help="QUARTERDECK_HOME to serve (default: the demo's)")
    parser.add_argument("--visits", type=int, default=7)
    parser.add_argument("--check", type=float, metavar="R", help="fail when a page takes more than R times as long")
    options = parser.parse_args()
    if options.home:
        os.environ["QUARTERDECK_HOME"] = str(options.home)
    chromium = shutil.which("chromium")
    if chromium is None:
        sys.exit("first_paint needs Debian's chromium: apt-get install chromium")
    with tempfile.TemporaryDirectory() as scratch, sync_playwright() as playwright:
        script = Path(scratch) / "empty.py"
        script.write_text(EMPTY)
        empty_port, deck_port = find_port(), find_port()
        empty = [
            sys.executable, "-m", "streamlit", "run", str(script), "--server.port", str(empty_port),
            "--server.address", "127.0.0.1", "--server.headless", "true",
        ]  # fmt: skip
        deck = [sys.executable, "-m", "quarterdeck", "serve", "--port", str(deck_port)]
        browser = playwright.chromium.launch_persistent_context(
            Path(scratch) / "profile", executable_path=chromium, args=FLAGS, viewport={"width": 1440, "height": 900}
        )
        browser.add_init_script(SHOWN)
        with served(empty, empty_port, "/_stcore/health") as bare, served(deck, deck_port, "/healthz") as address:
            ratios = {}
            for name in TITLES:
                empty_s, page_s = measure(browser, bare, f"{address}/{path_of(name)}", options.visits)
                ratios[name] = page_s / empty_s
                row = f"{page_s * 1e3:7.0f} ms, empty page {empty_s * 1e3:7.0f} ms: {ratios[name]:5.2f} times"
                print(f"{name:<12} {row}", flush=True)
        browser.close()
    late = [page for page, ratio in ratios.items() if options.check and ratio > options.check]
    if late:
        print(f"over the budget of {options.check} times the empty page: {', '.join(late)}")
    return 1 if late else 0


if __name__ == "__main__":
    sys.exit(main())

"""How fast the pages feel in Chromium: first sentence, first chart, the way from page to page, and what jumps.

    .venv/bin/python -m benchmarks.first_paint [--home FOLDER] [--visits 7] [--check 2.0]

Serves the deck over QUARTERDECK_HOME (default: the demo's) and, from two more processes, a page of Streamlit that holds
one sentence and nothing else, and one that holds one Plotly chart and nothing else. After three visits that warm the
caches each page is opened in turn with those two; by the browser's own clock, from the start of the navigation, the
medians are printed of

- the time until the sentence was painted, and its ratio to the empty page's,
- the time until the first chart was painted, and its ratio to that of the lone chart,
- the layout shift: the sum of all shifts until the page rests (the web vital counts the worst five seconds only).

Then one tab walks through the navigation: the time from the click on a page until its last chart or table was painted.

The browser keeps its profile on disk, as people's do: without one (a private window) it compiles Streamlit's scripts
again at each visit, which takes about a third of a second longer.
`--check R` exits with 1 when a page's sentence takes more than R times as long. With `--home` it measures any prepared
home, for example one with 10M retrievals, 10,000 runs and 20,000 files.
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
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx2
from playwright.sync_api import BrowserContext, TimeoutError, sync_playwright

from app.navigation import TITLES, path_of
from tests.chromium import FLAGS

PATIENCE_MS, SETTLED_MS = 120_000, 20_000
WARMING = 3  # the browser keeps a script's compiled code once it has seen it a few times
PROJECT = Path(__file__).resolve().parents[1]
EMPTY = 'import streamlit as st\n\nst.title("Empty", anchor=False)\nst.markdown("#### Nothing but this sentence.")\n'
LONE = """import plotly.graph_objects as go
import streamlit as st

st.plotly_chart(go.Figure(go.Scatter(y=[0.5 + at % 7 / 50 for at in range(30)])))
"""
# Playwright's own waiting looks between the page's long tasks and is late by up to half a second.
MARKS = """
const marks = window.marks = {sentence: 0, chart: 0, drawn: 0, shift: 0}
const DRAWN = 'h4, .js-plotly-plot .main-svg, [data-testid=stDataFrame] canvas'
const painted = then => requestAnimationFrame(() => setTimeout(() => then(performance.now())))
const isShown = found => found && found.getClientRects().length > 0
new PerformanceObserver(list => {
  for (const each of list.getEntries()) if (!each.hadRecentInput) marks.shift += each.value
}).observe({type: 'layout-shift', buffered: true})
let sought = {sentence: 'h4', chart: '.js-plotly-plot .main-svg'}
new MutationObserver(changes => {
  for (const [name, what] of Object.entries(sought)) {
    if (isShown(document.querySelector(what))) { delete sought[name]; painted(at => { marks[name] = at }) }
  }
  const isNew = node => node instanceof Element && (node.matches(DRAWN) || node.querySelector(DRAWN))
  if (changes.some(each => [...each.addedNodes].some(isNew))) painted(at => { marks.drawn = at })
}).observe(document, {subtree: true, childList: true})
"""
CLICK = """path => {
  const links = [...document.querySelectorAll('a[data-testid="stSidebarNavLink"]')]
  const link = path ? links.find(each => each.pathname.endsWith('/' + path)) : links[0]
  marks.drawn = 0
  marks.clicked = performance.now()
  link.click()
}"""
RESTS = """() => marks.drawn && !document.querySelector('[data-testid=stSkeleton]')
  && document.querySelector('[data-test-script-state="notRunning"]') && performance.now() - marks.drawn > 700"""


@dataclass(frozen=True)
class Marks:
    """One visit: when sentence and first chart were painted, in seconds; no chart is None. And the sum of shifts."""

    sentence: float
    chart: float | None
    shift: float


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


def visit(context: BrowserContext, url: str) -> Marks:
    """Return what was seen of a page in a new tab, until it rests."""
    page = context.new_page()
    page.set_default_timeout(PATIENCE_MS)
    page.goto(url, wait_until="commit")
    page.wait_for_function("marks.sentence || marks.chart")
    with suppress(TimeoutError):  # a page that reads new queries aside goes on for long
        page.wait_for_function(RESTS, timeout=SETTLED_MS)
    found = page.evaluate("marks")
    page.close()
    return Marks(found["sentence"] / 1e3, found["chart"] / 1e3 if found["chart"] else None, found["shift"])


def measure(context: BrowserContext, bare: str, lone: str, page: str, visits: int) -> tuple[Marks, Marks, Marks]:
    """Return the medians of the empty page, of the lone chart and of the page.

    They take turns, so that other load on the machine affects all alike; the first visits warm the caches.
    """
    turns = [[visit(context, url) for url in (bare, lone, page)] for _ in range(WARMING + visits)][WARMING:]
    empty, chart, found = (_take_median([turn[at] for turn in turns]) for at in range(3))
    return empty, chart, found


def _take_median(visits: Sequence[Marks]) -> Marks:
    charts = [each.chart for each in visits if each.chart is not None]
    return Marks(
        statistics.median(each.sentence for each in visits),
        statistics.median(charts) if charts else None,
        statistics.median(each.shift for each in visits),
    )


def walk(context: BrowserContext, address: str, visits: int) -> dict[str, float]:
    """Return the median seconds from a click in the navigation until the last chart or table of the page was painted.

    One tab goes from page to page as often as asked, after one round that warms the caches.
    """
    page = context.new_page()
    page.set_default_timeout(PATIENCE_MS)
    page.goto(f"{address}/audit")
    page.wait_for_function(RESTS)
    seen: dict[str, list[float]] = {name: [] for name in TITLES}
    for number in range(1 + visits):
        for name in TITLES:
            page.evaluate(CLICK, path_of(name))
            with suppress(TimeoutError):
                page.wait_for_function(RESTS, timeout=SETTLED_MS)
            if number:
                seen[name].append(page.evaluate("marks.drawn - marks.clicked") / 1e3)
    page.close()
    return {name: statistics.median(found) for name, found in seen.items()}


def _run_script(folder: Path, name: str, text: str, port: int) -> list[str]:
    """Return the command that serves a script of Streamlit alone."""
    script = folder / name
    script.write_text(text)
    return [
        sys.executable, "-m", "streamlit", "run", str(script), "--server.port", str(port),
        "--server.address", "127.0.0.1", "--server.headless", "true",
    ]  # fmt: skip


def _say(found: Marks, empty: Marks, lone: Marks) -> str:
    sentence = (
        f"sentence {found.sentence * 1e3:5.0f} ms ({found.sentence / empty.sentence:.2f} x {empty.sentence:.2f} s)"
    )
    chart = "no chart" + " " * 19
    if found.chart and lone.chart:
        chart = f"chart {found.chart * 1e3:5.0f} ms ({found.chart / lone.chart:.2f} x {lone.chart:.2f} s)"
    return f"{sentence}  {chart}  shift {found.shift:.3f}"


def main() -> int:
    """Serve both, visit every page, print a row for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--home", type=Path, help="QUARTERDECK_HOME to serve (default: the demo's)")
    parser.add_argument("--visits", type=int, default=7)
    parser.add_argument("--pages", nargs="*", choices=TITLES, help="the pages to open (default: all)")
    parser.add_argument("--check", type=float, metavar="R", help="fail when a page takes more than R times as long")
    options = parser.parse_args()
    if options.home:
        os.environ["QUARTERDECK_HOME"] = str(options.home)
    chromium = shutil.which("chromium")
    if chromium is None:
        sys.exit("first_paint needs Debian's chromium: apt-get install chromium")
    with tempfile.TemporaryDirectory() as scratch, sync_playwright() as playwright:
        ports = [find_port() for _ in range(3)]
        bare, lone = (
            _run_script(Path(scratch), f"{name}.py", text, port)
            for (name, text), port in zip((("empty", EMPTY), ("lone", LONE)), ports, strict=False)
        )
        deck = [sys.executable, "-m", "quarterdeck", "serve", "--port", str(ports[2])]
        browser = playwright.chromium.launch_persistent_context(
            Path(scratch) / "profile", executable_path=chromium, args=FLAGS, viewport={"width": 1440, "height": 900}
        )
        browser.add_init_script(f"(() => {{{MARKS}}})()")
        with (
            served(bare, ports[0], "/_stcore/health") as empty_at,
            served(lone, ports[1], "/_stcore/health") as lone_at,
            served(deck, ports[2], "/healthz") as address,
        ):
            ratios = {}
            for name in options.pages or TITLES:
                empty, chart, found = measure(browser, empty_at, lone_at, f"{address}/{path_of(name)}", options.visits)
                ratios[name] = found.sentence / empty.sentence
                print(f"{name:<10} {_say(found, empty, chart)}", flush=True)
            for name, seconds in walk(browser, address, options.visits).items():
                print(f"to {name:<10} {seconds * 1e3:6.0f} ms to the last chart or table", flush=True)
        browser.close()
    late = [page for page, ratio in ratios.items() if options.check and ratio > options.check]
    if late:
        print(f"over the budget of {options.check} times the empty page: {', '.join(late)}")
    return 1 if late else 0


if __name__ == "__main__":
    sys.exit(main())

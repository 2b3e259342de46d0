"""The memory of the server while Chromium opens its pages one by one.

    python -m benchmarks.big_home FOLDER
    python -m benchmarks.app_memory --home FOLDER

Idle is the server after the overview was shown once. Each page is then opened three times, each in a new session; the
peak is the highest resident size in between (Linux: VmHWM), with the embedding model loaded from the coverage page on.
Exits with 1 above 1.5 GB, or when the corpus page's tabs take 300 MB above what there was before them.
"""

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

from app.navigation import TITLES, path_of
from benchmarks.first_paint import find_port, served
from tests.chromium import FLAGS

FIRST = ("", "corpus", "corpus?tab=Files&version=v25", "corpus?tab=Diff")  # idle is measured before the corpus page
LAST = ("coverage", "coverage?days=30d")  # they load the embedding model
PAGES = (*FIRST, *(path for path in map(path_of, TITLES) if path not in (*FIRST, *LAST)), *LAST)
MOST_MB, MOST_CORPUS_MB, VISITS = 1500, 300, 3


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--home", type=Path, help="QUARTERDECK_HOME to serve (default: the demo's)")
    options = parser.parse_args()
    if options.home:
        os.environ["QUARTERDECK_HOME"] = str(options.home)
    port, peaks = find_port(), {}
    command = [sys.executable, "-m", "quarterdeck", "serve", "--port", str(port)]
    with sync_playwright() as playwright, served(command, port, "/healthz") as address:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
        server = find_server(port)
        for page in PAGES:
            before = read_mb(server, "VmRSS")
            Path(f"/proc/{server}/clear_refs").write_text("5")  # reset the peak
            for _ in range(VISITS):
                visit(browser, f"{address}/{page}")
            peaks[page] = (before, read_mb(server, "VmHWM"))
            print(f"{page or 'overview':<32} before {before:6.0f} MB   peak {peaks[page][1]:6.0f} MB", flush=True)
        browser.close()
    idle = peaks["corpus"][0]
    corpus = max(peak for page, (_, peak) in peaks.items() if page.startswith("corpus")) - idle
    highest = max(peak for _, peak in peaks.values())
    print(f"corpus page above idle ({idle:.0f} MB): {corpus:.0f} MB (bar {MOST_CORPUS_MB})")
    print(f"highest of all, model loaded: {highest:.0f} MB (bar {MOST_MB})")
    return 0 if corpus < MOST_CORPUS_MB and highest < MOST_MB else 1


def visit(browser: Browser, url: str) -> None:
    """Open a page in a session of its own, and leave it once it is complete."""
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    page = context.new_page()
    page.goto(url)
    page.locator("h4").first.wait_for(timeout=300_000)
    page.locator('[data-test-script-state="notRunning"]').wait_for(timeout=300_000)
    context.close()


def find_server(port: int) -> int:
    """Return the process that listens on the port."""
    found = subprocess.run(
        ["pgrep", "-f", f"quarterdeck serve --port {port}"], check=True, capture_output=True, text=True
    )
    return int(found.stdout.split()[0])


def read_mb(process: int, name: str) -> float:
    """Return one of the sizes in a process's /proc status."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(f"{name}:"))


if __name__ == "__main__":
    sys.exit(main())

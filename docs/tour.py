"""Records the tour: from a drop to a closed gap in under two minutes, as a video of captioned pictures.

Run from the checkout: .venv/bin/python -m docs.tour [HOME]. HOME is a demo; it is copied, because the tour changes it.
Without HOME a demo is built in a temporary folder. The steps are those of tests/browser/test_walk.py.
The video is docs/images/tour.mp4; look at it before it is committed.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

from playwright.sync_api import Locator, Page, sync_playwright

from tests.browser import test_walk as walk
from tests.browser.conftest import PATIENCE_MS, Server, Visit, serving
from tests.chromium import FLAGS
from tests.conftest import copy_home

PROJECT = Path(__file__).resolve().parents[1]
VIDEO = PROJECT / "docs" / "images" / "tour.mp4"
WIDTH, HEIGHT, CAPTION = 1280, 720, 64
MOST_BYTES, MOST_SECONDS = 5_000_000, 120
_SETTLE_MS = 1_500  # charts draw themselves step by step
_MOST_LOOKS, _LOOK_MS = 30, 5_000
_RING = "element => { element.style.outline = '3px solid #e4572e'; element.style.outlineOffset = '3px' }"
_NO_RING = "element => { element.style.outline = '' }"
_FRAME = """<body style="margin:0;background:#10141d">
<img src="pictures/{picture}" width="{width}" height="{height}" style="display:block">
<p style="margin:0;font:600 24px/{caption}px 'DejaVu Sans',sans-serif;color:#fff;text-align:center">{said}</p></body>"""


@dataclass
class Film:
    """The pictures taken so far, with how many seconds each is shown."""

    folder: Path
    page: Page
    frames: list[tuple[str, str, float]] = field(default_factory=list)

    def take(self, said: str, shown: Locator | None = None, *, seconds: float = 5.0) -> None:
        """Photograph the page under a caption, with a ring around what the caption is about."""
        if shown is not None:
            shown.scroll_into_view_if_needed()
            shown.evaluate(_RING)
        self.page.wait_for_timeout(_SETTLE_MS)
        name = f"{len(self.frames):02}.png"
        self.page.screenshot(path=self.folder / "pictures" / name)
        if shown is not None:
            shown.evaluate(_NO_RING)
        self.frames.append((name, said, seconds))


def act(film: Film, walker: Visit, server: Server) -> None:
    """Walk from the drop to the closed gap, and take a picture of each step."""
    page = walker.open()
    page.locator(".js-plotly-plot").first.wait_for(timeout=PATIENCE_MS)
    film.take("Monday morning. One sentence: what fell, since when, and why", page.locator("h4").first)
    film.take("Below it: what waits for a decision, whose it is, and how old", page.locator(".st-key-todos"))
    topic = walk.find_the_largest_gap(walker)
    walker.open("drift")
    page.locator(".js-plotly-plot").first.wait_for(timeout=PATIENCE_MS)
    film.take("Drift: the days of the drop are shaded, what changed is below", page.locator(".js-plotly-plot").first)
    walk.find_the_questions_behind_the_drop(walker)
    film.take("Behind it: every low question since that day", page.get_by_test_id("stDataFrame").first)
    walk.read_a_session(walker)
    film.take("One question: its session, as the user lived it", page.get_by_test_id("stChatMessage").first)
    walk.mark_two_answers_bad(walker, server)
    film.take(
        "Two answers are marked bad. Every change says so, and can be found again", page.locator(".st-key-saved-toast")
    )
    walker.open(f"coverage?days=7d&topic={topic}")
    film.take("Coverage: the low questions form gaps, by what indexing them would bring", page.locator("h4").first)
    walk.propose_ten_cases(walker, topic)
    film.take("Ten typical questions become test cases", page.get_by_role("button", name="Add 10 to gap"))
    walk.add_the_cases(walker, server, topic)
    walk.evaluate_on_them(walker)
    film.take(
        "An evaluation runs on them: the live index does not answer", page.get_by_text("done Evaluation of").first
    )
    walk.probe_the_waiting_version(walker)
    film.take("A newer corpus waits. It is probed before anybody gets it", page.get_by_text("Last probe of").first)
    walk.let_it_go_live(walker, server)
    film.take(
        "It goes live with a reason, for everybody within two seconds",
        page.get_by_text("Recorded as audit entry").first,
    )
    walk.see_it_shipped(walker, topic)
    effect = page.get_by_text("Searched again in docs-v2", exact=False).first
    film.take("Shipped: the same questions, searched again. The gap is closed", effect, seconds=7.0)
    wait_until_decided(walker, topic)
    film.take("Back on the overview, the gap has left the list", page.locator(".st-key-todos"))


def wait_until_decided(walker: Visit, topic: str) -> None:
    """Open the overview until it shows the topic no longer: it reads anew in the background."""
    for _ in range(_MOST_LOOKS):
        page = walker.open()
        if not page.locator(f'.st-key-todos a[href*="{topic}"]').count():
            return
        page.wait_for_timeout(_LOOK_MS)
    raise AssertionError("the gap does not leave the list")


def write_captions(film: Film, page: Page) -> None:
    """Draw each picture with its caption below it."""
    page.set_viewport_size({"width": WIDTH, "height": HEIGHT + CAPTION})
    for name, said, _ in film.frames:
        html = _FRAME.format(picture=name, width=WIDTH, height=HEIGHT, caption=CAPTION, said=escape(said))
        (film.folder / "frame.html").write_text(html)
        page.goto((film.folder / "frame.html").as_uri())
        page.wait_for_function("document.images[0].complete")
        page.screenshot(path=film.folder / name)


def join(film: Film) -> None:
    """Join the pictures to a video by ffmpeg, and check its length and size."""
    seconds = sum(each for _, _, each in film.frames)
    if seconds > MOST_SECONDS:
        sys.exit(f"the tour takes {seconds:.0f} s, at most {MOST_SECONDS}")
    lines = [f"file {name}\nduration {each}" for name, _, each in film.frames]
    (film.folder / "frames.txt").write_text("\n".join([*lines, f"file {film.frames[-1][0]}", ""]))
    command = [
        "ffmpeg", "-y", "-loglevel", "error", "-f", "concat", "-i", "frames.txt", "-r", "10", "-c:v", "libx264",
        "-tune", "stillimage", "-crf", "26", "-pix_fmt", "yuv420p", "-movflags", "+faststart", str(VIDEO),
    ]  # fmt: skip
    subprocess.run(command, cwd=film.folder, check=True)
    size = VIDEO.stat().st_size
    if size > MOST_BYTES:
        sys.exit(f"{VIDEO} has {size:,} bytes, at most {MOST_BYTES:,}")
    sys.stdout.write(f"{VIDEO}: {len(film.frames)} pictures, {seconds:.0f} s, {size / 1e6:.1f} MB\n")


def run(demo: Path) -> None:
    """Serve a copy of the demo, walk through it, and write the video."""
    with tempfile.TemporaryDirectory() as name, sync_playwright() as playwright:
        folder = Path(name)
        (folder / "pictures").mkdir()
        copy_home(demo, folder / "home")
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=list(FLAGS))
        context = browser.new_context(viewport={"width": WIDTH, "height": HEIGHT}, color_scheme="light")
        page = context.new_page()
        page.set_default_timeout(PATIENCE_MS)
        with serving(folder / "home", QUARTERDECK_OPERATOR="ada") as server:
            film = Film(folder, page)
            act(film, Visit(page, server.address, []), server)
        write_captions(film, page)
        browser.close()
        join(film)


if __name__ == "__main__":
    if not shutil.which("ffmpeg"):
        sys.exit("the tour needs Debian's ffmpeg: apt-get install ffmpeg")
    if len(sys.argv) > 1:
        run(Path(sys.argv[1]).absolute())
    else:
        with tempfile.TemporaryDirectory() as made:
            own = {**os.environ, "QUARTERDECK_HOME": made}
            subprocess.run([sys.executable, "-m", "quarterdeck", "demo"], cwd=PROJECT, env=own, check=True)
            run(Path(made))

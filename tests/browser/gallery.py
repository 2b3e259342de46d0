"""The gallery: pictures of every page in its main states, and how they are compared with the kept ones.

    python -m tests.browser.gallery [NAME...]     take all pictures anew, or those whose names begin with these
    python -m tests.browser.gallery --into FOLDER [NAME...]    put them elsewhere, to look at or to compare

Pictures show the demo, an empty deck, two that broke, and a crowded one, all built and served with a stopped clock
(tests/frozen) and seeded ids, in Debian's Chromium, with the fonts that Streamlit brings. They are kept at half size
in tests/browser/gallery/. Look at them before they are committed.

Two pictures are alike when they have the same size and at most ALIKE of their pixels differ. A pixel differs when its
color is outside what the other picture shows within one pixel around it, by more than LEVELS of 255 in some channel.
So a line that antialiasing or another version of a font library moves by half a pixel makes no difference, and a margin
that grows by a few pixels does: everything below or beside it moves. Measured on one picture of the overview in full
size, moved before it was halved: 1 pixel is 0.06% to 0.20% of the pixels, 4 are 0.9% to 1.6%, 8 are 1.6% to 4.4%.
"""

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from urllib.parse import quote

from filelock import FileLock
from PIL import Image, ImageChops, ImageFilter
from playwright.sync_api import Browser, Page, sync_playwright

from app.navigation import TITLES, path_of
from core.config import PROJECT
from tests.browser.conftest import PATIENCE_MS, Server, Visit, serving
from tests.chromium import FLAGS

NOW = "2026-11-30T16:05:00+00:00"  # a Monday
KEPT = Path(__file__).with_name("gallery")
DIFFERING = PROJECT / "build" / "gallery"  # where a picture goes that is not alike
# Pages show where their store is, so it is always at the same place.
HOMES = Path("/tmp/quarterdeck-gallery")
ALIKE, LEVELS = 0.002, 40
STILL = 0.00005  # Chromium may draw the corner of an icon another way each time
WIDTHS, THEMES = (1440, 1024, 420), ("light", "dark")
FIRST_SCREEN, WHOLE = 900, 2_000  # at most so much of a page
_LOOKS = tuple((width, theme) for width in WIDTHS for theme in THEMES)
_EACH_WIDTH = ((1440, "light"), (1024, "dark"), (420, "light"))
_TWO_LOOKS = ((1440, "light"), (420, "dark"))
_TABS = {
    "questions": ("show", ("Review", "Quality")),
    "prompts": ("tab", ("Side by side", "Runs", "Promote", "Live", "Names", "Cases", "Evaluate")),
    "corpus": (
        "tab", ("Files", "Diff", "Documents", "Pipeline", "Indexes", "Replay", "What would it fix?")
    ),
    "rollouts": ("tab", ("Experiments", "Canaries", "Blue-green", "Requests", "Access")),
}  # fmt: skip
_MOST_LOOKS = 40  # until a page stands still
_MOST_ROUNDS = 5  # until all pages of a state say the same
FRESH_S = 16.0  # after that, a page reads anew what most pages show (app/panels/*/resources.py)
_READY = """() => document.fonts.status === 'loaded' && !document.querySelector('[data-testid=stSkeleton]') &&
    document.querySelector('[data-test-script-state=notRunning]') &&
    [...document.querySelectorAll('[data-testid=stPlotlyChart]')].every(each => each.querySelector('.main-svg'))"""
# React and Plotly draw in several tasks: after two idle moments none of them waits.
_IDLE = "() => new Promise(done => requestIdleCallback(() => requestIdleCallback(done)))"
_HEIGHT = """() => {
    const main = document.querySelector('[data-testid=stMain]')
    return Math.max(...[...main.children].map(each => each.scrollHeight))
}"""
# The port is another one each time.
_SAY_USUAL_PORT = """() => {
    const words = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT)
    for (let each; each = words.nextNode();) each.data = each.data.replace(/127\\.0\\.0\\.1:\\d+/, '127.0.0.1:8501')
}"""


@dataclass(frozen=True, slots=True)
class Picture:
    """A page in a state, at a width and in a theme; `most` is how much of it is shown, from the top."""

    state: str
    page: str
    path: str
    width: int
    theme: str
    most: int

    @property
    def name(self) -> str:
        """The name of its file."""
        return f"{self.state}-{self.page}-{self.width}-{self.theme}"

    @property
    def kept(self) -> Path:
        """Its file in the repository."""
        return KEPT / f"{self.name}.png"


def list_pictures() -> tuple[Picture, ...]:
    """Return all pictures of the gallery, those of one state together."""
    paths = {name: path_of(name) for name in TITLES}
    tabs = {
        f"{page}-{tab.split()[0].lower()}": f"{page}?{key}={quote(tab)}"
        for page, (key, tabs) in _TABS.items() for tab in tabs
    }  # fmt: skip
    crowded = paths | {"prompts": "prompts?experiment=bench", "rollouts-partly": "rollouts?partly=true"}
    parts: Mapping[str, Sequence[tuple[Mapping[str, str], Sequence[tuple[int, str]], int]]] = {
        "demo": ((paths, _LOOKS, WHOLE), (tabs, _TWO_LOOKS, WHOLE)),
        "empty": ((paths, _EACH_WIDTH, FIRST_SCREEN),),
        "no-mlflow": (({name: paths[name] for name in ("overview", "prompts")}, _EACH_WIDTH, FIRST_SCREEN),),
        "no-store": ((paths, _TWO_LOOKS, FIRST_SCREEN),),
        "crowded": ((crowded, _EACH_WIDTH, FIRST_SCREEN),),
    }
    return tuple(
        Picture(state, page, path, width, theme, most)
        for state, part in parts.items() for pages, looks, most in part
        for page, path in pages.items() for width, theme in looks
    )  # fmt: skip


STATES = tuple(dict.fromkeys(each.state for each in list_pictures()))


@contextmanager
def serving_state(state: str) -> Iterator[Server]:
    """Serve the home of a state with the stopped clock."""
    with FileLock(f"{HOMES}.lock"):
        pristine = _keep_homes()
        for name in {state, "demo"}:  # the indexes of the others are the demo's
            shutil.rmtree(HOMES / name, ignore_errors=True)
            shutil.copytree(pristine / name, HOMES / name, symlinks=True)
        with serving(HOMES / state, **_freeze()) as server:
            yield server


def take_pictures(
    browser: Browser, server: Server, pictures: Iterable[Picture], *, style: str = ""
) -> Iterator[tuple[Picture, Image.Image]]:
    """Yield the pictures of one state in full size; `style` is added to each page.

    A page is opened once for each width, in light, and then follows the theme as it follows a visitor's system.
    """
    of_width = attrgetter("width")
    for width, of_context in groupby(sorted(pictures, key=of_width, reverse=True), key=of_width):
        context = browser.new_context(
            viewport={"width": width, "height": FIRST_SCREEN}, color_scheme="light", timezone_id="UTC",
            locale="en-US", reduced_motion="reduce",
        )  # fmt: skip
        for path, themes in groupby(of_context, key=attrgetter("path")):
            page = context.new_page()
            page.set_default_timeout(PATIENCE_MS)
            Visit(page, server.address, []).open(path)
            page.evaluate(_SAY_USUAL_PORT)
            if style:
                page.add_style_tag(content=style)
            _wait_until_still(page)
            for at, each in enumerate(themes):
                if at == 0:
                    height = min(each.most, max(FIRST_SCREEN, page.evaluate(_HEIGHT)))
                    page.set_viewport_size({"width": width, "height": height})
                page.emulate_media(color_scheme=each.theme, reduced_motion="reduce")
                yield each, _wait_until_still(page)
            page.close()
        context.close()


def warm_up(browser: Browser, server: Server, pictures: Iterable[Picture]) -> None:
    """Open the pages until they say twice the same: what they compute in the background is there then.

    Most values are shown as they were and read anew after FRESH_S, so that a page can show an older state than another.
    """
    page = browser.new_page(timezone_id="UTC", locale="en-US")
    page.set_default_timeout(PATIENCE_MS)
    paths = tuple(dict.fromkeys(each.path for each in pictures))
    former: dict[str, str] = {}
    for _ in range(_MOST_ROUNDS):
        started = time.monotonic()
        said = {path: _read(Visit(page, server.address, []).open(path)) for path in paths}
        if said == former:
            break
        former = said
        page.wait_for_timeout(1_000 * max(0.0, FRESH_S - (time.monotonic() - started)))
    page.close()


def halve(image: Image.Image) -> Image.Image:
    """Return a picture at half size, as pictures are kept and compared."""
    return image.resize((image.width // 2, image.height // 2), Image.Resampling.BOX)


def measure_difference(one: Image.Image, other: Image.Image) -> float:
    """Return the share of pixels that differ, 1.0 for pictures of different sizes."""
    if one.size != other.size:
        return 1.0
    worst = ImageChops.lighter(_find_outside(one, other), _find_outside(other, one))
    channels = worst.split()
    most = ImageChops.lighter(ImageChops.lighter(channels[0], channels[1]), channels[2])
    return sum(most.histogram()[LEVELS + 1 :]) / (one.width * one.height)


def open_kept(picture: Picture) -> Image.Image | None:
    """Return the kept picture, None if there is none yet."""
    if not picture.kept.exists():
        return None
    with Image.open(picture.kept) as kept:
        return kept.convert("RGB")


def save_picture(image: Image.Image, path: Path) -> None:
    """Write a picture in few colors, which takes a third of the bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image.quantize(128, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(path, optimize=True)


def _find_outside(image: Image.Image, around: Image.Image) -> Image.Image:
    """How far each pixel is below the least or above the most of those around the same place in the other picture."""
    below = ImageChops.subtract(around.filter(ImageFilter.MinFilter(3)), image)
    above = ImageChops.subtract(image, around.filter(ImageFilter.MaxFilter(3)))
    return ImageChops.lighter(below, above)


def _read(page: Page) -> str:
    """All words of a page, once nothing of it is being computed."""
    page.wait_for_function(_READY)
    return str(page.get_by_test_id("stMain").inner_text())


def _wait_until_still(page: Page) -> Image.Image:
    from io import BytesIO

    former = None
    for _ in range(_MOST_LOOKS):
        page.wait_for_function(_READY)
        page.evaluate(_IDLE)
        taken = Image.open(BytesIO(page.screenshot(animations="disabled", caret="hide"))).convert("RGB")
        if former is not None and measure_difference(former, taken) <= STILL:
            return taken
        former = taken
        page.wait_for_timeout(250)
    raise AssertionError(f"{page.url} does not stand still")


def _freeze() -> dict[str, str]:
    folders = [str(PROJECT / "tests" / "frozen"), str(PROJECT), os.environ.get("PYTHONPATH", "")]
    return {
        "PYTHONPATH": os.pathsep.join(filter(None, folders)), "PYTHONHASHSEED": "0", "QUARTERDECK_TEST_NOW": NOW,
        "TZ": "UTC",
    }  # fmt: skip


def _keep_homes() -> Path:
    """Return the folder with the homes as they were built, anew where what they are made from changed."""
    kept = PROJECT / ".pytest_cache" / "gallery"
    pristine = kept / _digest_sources()
    if not pristine.exists():
        shutil.rmtree(kept, ignore_errors=True)
        shutil.rmtree(HOMES, ignore_errors=True)
        HOMES.mkdir(parents=True)
        build = [sys.executable, "-m", "tests.gallery_homes", str(HOMES)]
        subprocess.run(build, cwd=PROJECT, env={**os.environ, **_freeze()}, check=True)
        shutil.copytree(HOMES, pristine.with_suffix(".part"), symlinks=True)
        pristine.with_suffix(".part").rename(pristine)
    return pristine


def _digest_sources() -> str:
    """Return a name for everything that decides what the homes hold: the code, its texts and the libraries."""
    digest = hashlib.sha256(NOW.encode())
    paths = [
        path for name in ("core", "quarterdeck", "data/demo", "tests/frozen") for path in (PROJECT / name).rglob("*.*")
    ]
    named = ("data/prices.yaml", "constraints.txt", "tests/gallery_homes.py", "app/http/server.py")
    for path in sorted([*paths, *(PROJECT / name for name in named)]):
        if "__pycache__" not in path.parts:
            digest.update(str(path).encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def main() -> None:
    """Take pictures anew."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="as demo, demo-overview or demo-overview-1440")
    parser.add_argument("--into", type=Path, default=KEPT, metavar="FOLDER", help="where pictures go")
    asked = parser.parse_args()
    names, folder = tuple(asked.names), asked.into
    wanted = [each for each in list_pictures() if not names or each.name.startswith(names)]
    if not names:
        shutil.rmtree(folder, ignore_errors=True)
    started = time.monotonic()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=list(FLAGS))
        for state in dict.fromkeys(each.state for each in wanted):
            own = [each for each in wanted if each.state == state]
            with serving_state(state) as server:
                warm_up(browser, server, own)
                for picture, image in take_pictures(browser, server, own):
                    save_picture(halve(image), folder / picture.kept.name)
                    print(picture.name, flush=True)
        browser.close()
    size = sum(path.stat().st_size for path in folder.glob("*.png"))
    print(f"{len(wanted)} pictures in {time.monotonic() - started:.0f} s; all of them have {size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()

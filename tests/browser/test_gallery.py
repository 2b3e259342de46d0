"""Every page in its main states looks as in the kept pictures, at three widths, light and dark.

`python -m tests.browser.gallery` takes the pictures anew; `tests.browser.gallery` says when two are alike.
"""

from collections.abc import Iterator

import pytest
from PIL import Image
from playwright.sync_api import Browser, CDPSession

from tests.browser.conftest import PATIENCE_MS, Server, Visit
from tests.browser.gallery import (
    ALIKE,
    DIFFERING,
    KEPT,
    STATES,
    halve,
    list_pictures,
    measure_difference,
    open_kept,
    save_picture,
    serving_state,
    take_pictures,
    warm_up,
)

pytestmark = [
    pytest.mark.browser, pytest.mark.slow, pytest.mark.deep,
    pytest.mark.skipif(not KEPT.is_dir(), reason="no pictures are kept yet: python -m tests.browser.gallery"),
]  # fmt: skip
PICTURES = list_pictures()
OVERVIEW = next(each for each in PICTURES if each.name == "demo-overview-1440-light")
BROKEN = {  # margins that nobody would break on purpose
    "of the page": "[data-testid=stMainBlockContainer] { padding-left: 2.75rem !important }",
    "of a card": ".st-key-cards { margin-top: 8px }",
    "within a card": "[class*=st-key-card-] { padding: 1rem !important }",
}


@pytest.fixture(scope="module")
def demo_server() -> Iterator[Server]:
    with serving_state("demo") as server:
        yield server


@pytest.mark.parametrize("state", STATES)
def test_every_page_looks_as_in_the_kept_pictures(state: str, chromium: Browser) -> None:
    own = [each for each in PICTURES if each.state == state]
    differing = {}
    with serving_state(state) as server:
        warm_up(chromium, server, own)
        for picture, whole in take_pictures(chromium, server, own):
            kept, taken = open_kept(picture), halve(whole)
            share = 1.0 if kept is None else measure_difference(kept, taken)
            if share > ALIKE:
                differing[picture.name] = f"{share:.2%}"
                save_picture(taken, DIFFERING / f"{picture.name}.png")
    again = f"python -m tests.browser.gallery {' '.join(differing)}"
    assert differing == {}, f"compare {DIFFERING} with {KEPT}; if the change is wanted: {again}"


def test_the_gallery_keeps_a_picture_of_each_and_no_other_in_at_most_ten_megabytes() -> None:
    files = list(KEPT.iterdir())
    assert {path.name for path in files} == {each.kept.name for each in PICTURES}
    assert sum(path.stat().st_size for path in files) <= 10_000_000


@pytest.mark.parametrize("style", BROKEN.values(), ids=BROKEN)
def test_a_broken_margin_makes_a_page_unlike_its_picture(style: str, demo_server: Server, chromium: Browser) -> None:
    warm_up(chromium, demo_server, [OVERVIEW])
    ((_, whole),) = take_pictures(chromium, demo_server, [OVERVIEW])
    ((_, broken),) = take_pictures(chromium, demo_server, [OVERVIEW], style=style)
    kept = open_kept(OVERVIEW)
    assert kept is not None
    assert measure_difference(kept, halve(whole)) <= ALIKE
    assert measure_difference(kept, halve(broken)) > ALIKE


def test_what_antialiasing_changes_makes_no_difference() -> None:
    kept = open_kept(OVERVIEW)
    assert kept is not None
    doubled = kept.resize((kept.width * 2, kept.height * 2), Image.Resampling.BICUBIC)
    shifted = doubled.transform(doubled.size, Image.Transform.AFFINE, (1, 0, 1, 0, 1, 0)).resize(kept.size)
    assert measure_difference(kept, shifted) <= ALIKE


def test_every_letter_of_the_pages_is_drawn_in_a_font_that_the_app_brings(
    demo_server: Server, chromium: Browser
) -> None:
    page = chromium.new_page()
    page.set_default_timeout(PATIENCE_MS)
    foreign = {}
    for path in dict.fromkeys(each.path for each in PICTURES if each.state == "demo"):
        Visit(page, demo_server.address, []).open(path)
        if found := find_foreign_letters(page.context.new_cdp_session(page)):
            foreign[path] = found
    page.close()
    assert foreign == {}


def find_foreign_letters(session: CDPSession) -> list[str]:
    """The texts that a font of the system draws."""
    session.send("DOM.enable")
    session.send("CSS.enable")
    root = session.send("DOM.getDocument", {"depth": 0})["root"]["nodeId"]
    found = []
    for node in session.send("DOM.querySelectorAll", {"nodeId": root, "selector": "body *"})["nodeIds"]:
        fonts = session.send("CSS.getPlatformFontsForNode", {"nodeId": node})["fonts"]
        if any(not font["isCustomFont"] for font in fonts):
            said = session.send("DOM.getOuterHTML", {"nodeId": node})["outerHTML"]
            found.append(f"{[font['familyName'] for font in fonts]} {said[-160:]}")
    session.detach()
    return found

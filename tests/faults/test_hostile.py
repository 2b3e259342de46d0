"""Hostile text in what the pages show, in a real browser: no script runs, nothing leaves its place."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import urlencode

import httpx2
import pytest
from playwright.sync_api import Browser, Dialog, Page

from app.navigation import TITLES, path_of
from core.access.credentials import issue_token
from core.access.scopes import TokenScope
from core.audit.acts import Act
from core.coverage.backlog import TopicState, list_backlog
from core.coverage.operations import mark_topic
from core.embedding.embed import DEFAULT_MODEL
from core.errors import InvalidInput
from core.flags.operations import create_flag
from quarterdeck.definitions import boolean_flag
from quarterdeck.store import Store
from tests.browser.conftest import PATIENCE_MS, Server, serving
from tests.hostile_home import ACT, EXPERIMENT, HOSTILE, LETTERS, build_hostile_home

pytestmark = [pytest.mark.slow, pytest.mark.deep, pytest.mark.browser]

MEGABYTE = "y" * (1 << 20)
FILE = "corpus/<img src=x onerror=stolen=1> :red[r] www.evil.example.md"
VIEWS: dict[str, tuple[dict[str, str], ...]] = {path_of(name): ({},) for name in TITLES} | {
    "drift": ({}, {"days": "7d"}),
    "prompts": tuple(
        {"experiment": EXPERIMENT, **more}
        for more in (
            {}, {"tab": "Side by side", "wording": "inline"}, {"tab": "Runs"}, {"tab": "Runs", "tag": LETTERS},
            {"tab": "Promote"}, {"tab": "Live"}, {"runs": f"{LETTERS},nope"},
        )
    ),
    "corpus": (
        {}, {"tab": "Files"}, {"tab": "Files", "version": "v1", "path": FILE},
        {"tab": "Files", "version": "v1", "path": "corpus/b.txt"}, {"tab": "Files", "version": LETTERS},
        {"tab": "Files", "search": LETTERS}, {"tab": "Diff"}, {"tab": "Diff", "change": FILE},
        {"tab": "Diff", "change": "corpus/b.txt"}, {"tab": "Diff", "change": LETTERS}, {"tab": "Diff", "old": LETTERS},
        {"tab": "Pipeline"}, {"tab": "Indexes"}, {"tab": "Indexes", "alias": LETTERS}, {"tab": "What would it fix?"},
        {"tab": "What would it fix?", "target": "v1"}, {"tab": "What would it fix?", "drafts": LETTERS},
        {"tab": "Replay"}, {"tab": "Replay", "replayed": LETTERS},
    ),
    "rollouts": (
        {}, {"flag": LETTERS}, {"flag": f"rules {LETTERS}"}, {"search": LETTERS}, {"tab": "Experiments"},
        {"tab": "Canaries"}, {"tab": "Blue-green"}, {"tab": "Blue-green", "deployed": "search"}, {"tab": "Access"},
    ),
    "audit": ({}, {"entry": "1"}, {"entry": "3"}),
}  # fmt: skip
# What became of letters, if it did: colors, icons, arrows, formulas, emoji.
MADE = ".stMarkdownColoredText:text-is('r'), .katex, [role=img][aria-label='delete icon'], :text('😄')"
COME_IN, OWN = ":is(script, img[src=x], svg[onload])", ".st-key-frame_script *"  # the pages' own script
SHOWN = "(letters) => document.querySelector('[data-testid=stMain]').innerText.includes(letters)"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("hostile") / "home"
    build_hostile_home(place)
    return place


@pytest.fixture(scope="module")
def hostile(home: Path) -> Iterator[Server]:
    """A server whose sources hold hostile text wherever somebody may write some."""
    with serving(home) as server:
        yield server


@pytest.fixture(scope="module")
def broken(home: Path) -> Iterator[Server]:
    """The same with an MLflow address and a corpus path that are hostile themselves."""
    settings = {
        "MLFLOW_TRACKING_URI": f"sqlite:////nowhere/{LETTERS}",
        "QUARTERDECK_CORPUS_REPO": f"/nowhere/{LETTERS}",
    }
    with serving(home, **settings) as server:
        yield server


def test_a_megabyte_is_refused_wherever_it_is_sent(hostile: Server, tmp_path: Path) -> None:
    with closing(Store(hostile.database_url)) as store:
        secret, _ = issue_token(store, "logger", [TokenScope.INGEST], Act("ada", "a test"), expires_days=30)
    answer = httpx2.post(
        f"{hostile.address}/v1/retrievals", json={"query": MEGABYTE, "score": 0.5}, timeout=60,
        headers={"Authorization": f"Bearer {secret}"},
    )  # fmt: skip
    assert answer.status_code == 400
    assert len(answer.text) < 1_000
    with closing(Store(f"sqlite:///{tmp_path / 'deck.db'}", create=True)) as store:
        for actor, reason in ((MEGABYTE, "why"), ("ada", MEGABYTE)):
            with pytest.raises(InvalidInput) as refused:
                create_flag(store, "flag", boolean_flag(on=True), Act(actor, reason))
            assert len(str(refused.value)) < 1_000


@pytest.mark.parametrize("width", [1_440, 420])
@pytest.mark.parametrize("name", list(VIEWS))
def test_no_script_runs_and_no_layout_breaks(name: str, width: int, hostile: Server, chromium: Browser) -> None:
    with looking(chromium, width) as page:
        found = [f"{name} {view}: {each}" for view in VIEWS[name] for each in find_faults(page, hostile, name, view)]
    assert found == []


@pytest.mark.parametrize("name", ["", "prompts", "corpus"])
def test_broken_sources_say_so_letter_by_letter(name: str, broken: Server, chromium: Browser) -> None:
    with looking(chromium, 420) as page:
        assert find_faults(page, broken, name, {}) == []
        assert name == "" or page.evaluate(SHOWN, ":red[r]")


def test_users_text_is_shown_letter_by_letter(hostile: Server, chromium: Browser) -> None:
    with looking(chromium, 1_440) as page:
        for name, view in (("rollouts", {"flag": LETTERS}), ("prompts", {"experiment": EXPERIMENT, "tab": "Promote"})):
            assert find_faults(page, hostile, name, view) == []
            text = page.get_by_test_id("stMain").inner_text().replace("\u2060", "")
            assert LETTERS in text, text


def test_what_was_decided_about_a_topic_stays_text(hostile: Server, chromium: Browser) -> None:
    with looking(chromium, 1_440) as page, closing(Store(hostile.database_url)) as store:
        assert find_faults(page, hostile, "coverage", {}) == []
        page.locator(".js-plotly-plot").first.wait_for(timeout=PATIENCE_MS)  # the topics are found
        known = list_backlog(store, DEFAULT_MODEL)
        for topic in known:
            mark_topic(store, topic, TopicState.PLANNED, ACT, owner=LETTERS, note=HOSTILE)
        assert known
        assert find_faults(page, hostile, "coverage", {"topic": known[0].topic_id}) == []
        assert find_faults(page, hostile, "audit", {}) == []


@contextmanager
def looking(chromium: Browser, width: int) -> Iterator[Page]:
    """A tab of a width, in which no dialog may open."""
    context = chromium.new_context(viewport={"width": width, "height": 900})
    dialogs: list[str] = []

    def note(dialog: Dialog) -> None:
        dialogs.append(dialog.message)
        dialog.dismiss()

    page = context.new_page()
    page.on("dialog", note)
    try:
        yield page
        assert dialogs == []
    finally:
        context.close()


def wait_until_still(page: Page) -> None:
    """Wait until the text stops changing: a page that is kept is sent before it is drawn."""
    before, text = None, ""
    while text != before:
        page.wait_for_timeout(400)
        before, text = text, page.get_by_test_id("stMain").inner_text()


def find_faults(page: Page, server: Server, name: str, view: dict[str, str]) -> list[str]:
    """What is wrong with one view."""
    page.goto(f"{server.address}/{name}?{urlencode(view)}")
    page.get_by_test_id("stHeading").first.wait_for(timeout=PATIENCE_MS)
    page.locator('[data-test-script-state="notRunning"]').wait_for(timeout=PATIENCE_MS)
    for each in reversed(page.locator("[data-testid=stMain] details:not([open]) > summary").all()):
        each.click()
    wait_until_still(page)
    main = "document.querySelector('[data-testid=stMain]')"
    is_preview = view.get("path") == FILE  # a document may hold links and bold words
    checks = {
        "a script ran": page.evaluate("window.stolen") is not None,
        "an element came in": page.locator(f"[data-testid=stMain] {COME_IN}:not({OWN})").count() > 0,
        "a link runs a script": page.locator('a[href^="javascript:"]').count() > 0,
        "a link leads away": not is_preview and page.locator('a[href*="evil.example"]').count() > 0,
        "an exception": page.get_by_test_id("stException").count() > 0,
        "letters became something else": page.locator(MADE).count() > 0,
        "the page is too wide": page.evaluate("document.documentElement.scrollWidth - window.innerWidth") > 0,
        "the middle is too wide": page.evaluate(f"{main}.scrollWidth - {main}.clientWidth") > 0,
    }
    return [said for said, is_wrong in checks.items() if is_wrong]

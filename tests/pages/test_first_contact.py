"""A deck that nothing is connected to: grey, with two lines how, and a checklist that stays until it is finished."""

import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from core.audit.acts import Act
from core.flags.operations import create_flag
from core.indexes.operations import register_index
from core.indexes.registry import Index
from quarterdeck.definitions import boolean_flag
from quarterdeck.recorder import append_retrievals
from quarterdeck.retrieval import Retrieval
from quarterdeck.store import Store
from tests.pages.opening import forget, open_page, shown_text, verdict

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("clean_streamlit")]
PAGES = ("questions", "drift", "coverage", "prompts", "corpus", "rollouts", "audit")


@pytest.fixture
def new_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home in which there is nothing, not even a store."""
    home = tmp_path / "home"
    monkeypatch.setenv("QUARTERDECK_HOME", str(home))
    monkeypatch.setenv("QUARTERDECK_OPERATOR", "tester")
    return home


@pytest.mark.parametrize("page", PAGES)
def test_no_page_of_a_new_deck_is_red_and_each_says_how_to_connect(page: str, new_home: Path) -> None:
    app = open_page(page)
    assert not app.exception
    assert [error.value for error in app.error] == []
    assert ":material/cable: Not connected" in shown_text(app)
    assert app.code


def test_the_overview_of_a_new_deck_is_a_checklist_without_tiles(new_home: Path) -> None:
    app = open_page("overview")
    assert verdict(app) == "There is no data yet: no question has been logged."
    assert "Set up: 0 of 4 done" in shown_text(app)
    assert not app.metric
    assert ":red" not in " ".join(each.value for each in app.markdown)


@pytest.mark.deep
def test_the_third_step_runs_as_it_stands_there(new_home: Path) -> None:
    step = next(code.value for code in open_page("overview").code if code.value.startswith("from quarterdeck"))
    new_home.mkdir()
    environ = {name: value for name, value in os.environ.items() if not name.startswith("QUARTERDECK_")}
    done = subprocess.run([sys.executable, "-c", step], env=environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    with Store(f"sqlite:///{new_home / 'quarterdeck.db'}").read() as connection:
        assert connection.exec_driver_sql("SELECT COUNT(*) FROM retrievals").scalar() == 1


@pytest.mark.deep
def test_the_checklist_stays_after_the_first_questions_and_goes_with_its_last_step(
    empty_url: str, store: Store, tmp_path: Path
) -> None:
    now = datetime.now(UTC)
    append_retrievals(store, [Retrieval(now - timedelta(minutes=at), f"what is {at}", 0.7) for at in range(4)])
    app = open_page("overview")
    said = shown_text(app)
    assert "Set up: 0 of 4 done" in said
    assert "4 so far; topics need 10 low ones, drift 14 days and has 1" in said
    assert ":material/check_circle: Good" not in said  # four questions are no verdict
    assert said.count(":material/cable: Not connected") == 2
    assert not app.error
    append_retrievals(store, [Retrieval(now - timedelta(days=at), "what is a ring", 0.7) for at in range(14)])
    create_flag(store, "use_hyde", boolean_flag(on=True), Act("ada", "test"))
    forget()
    app = open_page("overview")
    assert "Set up: 2 of 4 done" in shown_text(app)
    for page in ("corpus", "prompts"):
        app.button(key=f"skip-{page}").click().run()
        assert not app.error
    assert "Set up" not in shown_text(app)


@pytest.mark.deep
def test_what_used_to_work_is_red(empty_url: str, store: Store) -> None:
    now = datetime.now(UTC)
    append_retrievals(store, [Retrieval(now, "what is a ring", 0.7)])
    register_index(store, Index("docs-v1", "there", "v1", "m", 9, now, "ada"), Act("ada", "built"))
    app = open_page("overview")
    tiles = [each.value for each in app.markdown if "badge" in each.value]
    assert any("Corpus" in tile and ":red-badge[:material/warning: Not readable]" in tile for tile in tiles)
    assert any("Prompt" in tile and ":gray-badge[:material/cable: Not connected]" in tile for tile in tiles)

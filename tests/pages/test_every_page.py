"""Every page alike: without data, with a store that is missing, broken or locked, and by its links."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from core.audit.acts import Act
from core.config import PROJECT
from core.flags.operations import create_flag
from quarterdeck.definitions import boolean_flag
from quarterdeck.store import Store
from tests.conftest import Demo
from tests.pages.opening import (
    HOSTILE,
    assert_shown_as_text,
    cards_of,
    markdown_of,
    only_error,
    open_page,
    text_of,
    verdict,
)

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("clean_streamlit")]


STORE_PAGES = ("questions", "drift", "coverage", "rollouts", "audit")


@pytest.mark.parametrize(
    ("page", "command"),
    [
        ("questions", "quarterdeck demo"),
        ("drift", "quarterdeck demo"),
        ("coverage", "quarterdeck demo"),
        ("rollouts", "quarterdeck flags import FILE"),
        ("audit", "quarterdeck demo"),
    ],
)
def test_a_page_without_data_says_which_command_fills_it(page: str, command: str, empty_url: str) -> None:
    app = open_page(page)
    assert not app.exception
    assert len(app.main.info) == 1
    assert [code.value for code in app.code] == [command]


@pytest.mark.parametrize("page", STORE_PAGES)
def test_a_missing_store_is_one_line_that_says_where_it_was_looked_for(
    page: str, as_demo: Demo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QUARTERDECK_DATABASE_URL", f"sqlite:///{tmp_path / 'nowhere.db'}")
    line = only_error(open_page(page))
    assert str(tmp_path / "nowhere.db") in line
    assert "quarterdeck demo" in line
    assert not (tmp_path / "nowhere.db").exists()


@pytest.mark.parametrize("page", STORE_PAGES)
def test_a_corrupt_store_is_one_line_that_names_the_file(
    page: str, as_demo: Demo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "garbage.db").write_bytes(b"\x93garbage" * 4_000)
    monkeypatch.setenv("QUARTERDECK_DATABASE_URL", f"sqlite:///{tmp_path / 'garbage.db'}")
    line = only_error(open_page(page))
    assert str(tmp_path / "garbage.db") in line
    assert "not a database" in line
    assert "`quarterdeck restore`" in line


@pytest.fixture
def locked_url(demo_url: str) -> Iterator[str]:
    """A store that another program has locked against readers too."""
    with closing(sqlite3.connect(demo_url.removeprefix("sqlite:///"), isolation_level=None)) as other:
        other.execute("PRAGMA journal_mode = DELETE")
        other.execute("BEGIN EXCLUSIVE")
        yield demo_url
        other.execute("ROLLBACK")


@pytest.mark.deep
def test_a_locked_store_is_one_line_on_each_page_and_nobody_waits_for_ever(locked_url: str) -> None:
    app = open_page("overview")
    for page in STORE_PAGES:
        line = only_error(app.switch_page(f"../pages/{page}.py").run())
        assert locked_url.removeprefix("sqlite:///") in line
        assert "locked" in line


@pytest.mark.parametrize("page", ["overview", "corpus"])
@pytest.mark.parametrize("content", [None, b"\x93garbage" * 4_000])
def test_other_areas_stay_readable_without_the_store(
    page: str, content: bytes | None, as_demo: Demo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if content:
        (tmp_path / "deck.db").write_bytes(content)
    monkeypatch.setenv("QUARTERDECK_DATABASE_URL", f"sqlite:///{tmp_path / 'deck.db'}")
    app = open_page(page)
    shown = text_of(" ".join(m.value for m in app.markdown)) + cards_of(app)
    assert not app.exception
    assert str(tmp_path / "deck.db") in shown + text_of(" ".join(error.value for error in app.error))
    assert ("v2 is in production" if page == "overview" else "the newest is v2") in shown


def test_a_wrong_setting_is_one_line_that_names_it(as_demo: Demo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUARTERDECK_LOW_SCORE", "high")
    app = AppTest.from_file(PROJECT / "app" / "main.py", default_timeout=120).run()
    assert "QUARTERDECK_LOW_SCORE: must be a number between 0 and 1, not 'high'" in only_error(app)


@pytest.mark.deep
def test_links_select_the_flag_the_version_the_days_and_the_topic(as_demo: Demo) -> None:
    assert open_page("rollouts", flag="new_prompt_v3").selectbox(key="flag").value == "new_prompt_v3"
    corpus = open_page("corpus", tab="Files", version="v1", search="mbuf")
    assert corpus.selectbox(key="version").value == "v1"
    assert "1 of the 38 files of v1" in " ".join(caption.value for caption in corpus.caption)
    assert open_page("drift", days="14d").segmented_control(key="days").value == "14d"
    topics = open_page("coverage", clusters="3").selectbox(key="topic")
    last = topics.options[2]
    chosen = topics.select(last).run().query_params["topic"]
    assert chosen.startswith("t-")  # the id, whatever it is called
    assert open_page("coverage", clusters="3", topic=chosen).selectbox(key="topic").value == chosen


@pytest.mark.deep
def test_another_environment_is_chosen_at_the_top_and_stays_chosen_on_the_next_page(demo_url: str) -> None:
    with closing(Store(demo_url)) as store:
        create_flag(store, "only_here", boolean_flag(on=True), Act("ada", "try it", "test"))
    app = open_page("rollouts")
    assert app.selectbox(key="environment").options == ["production", "staging", "test"]
    app.selectbox(key="environment").select("test").run()
    assert app.selectbox(key="flag").options == ["only_here"]
    assert "test" in app.query_params["environment"]
    assert app.switch_page("../pages/drift.py").run().selectbox(key="environment").value == "test"
    linked = open_page("rollouts", environment="test")
    assert verdict(linked) == "No flag is partly rolled out (1 in all)."


@pytest.mark.deep
@pytest.mark.parametrize(
    ("page", "filters"),
    [
        ("rollouts", {"flag": HOSTILE}),
        ("rollouts", {"environment": HOSTILE}),
        ("corpus", {"tab": HOSTILE, "kinds": "x", "path": "../../etc/passwd", "alias": HOSTILE}),
        ("questions", {"days": "-1", "after": HOSTILE, "question": HOSTILE}),
        ("drift", {"days": "-1"}),
        ("coverage", {"topic": "no such", "clusters": "many", "days": "1e9"}),
        ("prompts", {"experiment": "no such", "rule": HOSTILE}),
        ("audit", {"entry": "99999", "who": HOSTILE}),
    ],
)
def test_a_link_with_a_wrong_filter_opens_the_page_without_it(
    page: str, filters: dict[str, str], as_demo: Demo
) -> None:
    app = open_page(page, **filters)
    assert not app.exception
    assert app.main.warning or verdict(app)  # what is gone is said, and nothing else is shown in its place


def test_hostile_flags_and_reasons_are_shown_as_text(empty_url: str, store: Store) -> None:
    key = HOSTILE.replace(" ", "")
    create_flag(store, key, boolean_flag(on=True, rollout_pct=20, description=HOSTILE), Act(HOSTILE, HOSTILE))
    rollouts, audit = open_page("rollouts"), open_page("audit")
    for app in (rollouts, audit, open_page("overview")):
        assert_shown_as_text(app)
    assert key in text_of(" ".join(markdown_of(rollouts)))
    assert HOSTILE in [text_of(caption.value) for caption in rollouts.caption]
    assert HOSTILE in [text.value for text in audit.text]

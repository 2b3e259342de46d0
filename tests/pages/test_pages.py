"""Every page as a visitor meets it: on the demo, on an empty store, and with each source broken in its own way."""

import hashlib
import json
import re
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from streamlit.testing.v1 import AppTest

from app import ui
from core.arms.histories import share_histories
from core.audit.acts import Act
from core.audit.trail import list_audit
from core.config import PROJECT
from core.embedding.embed import Embedder
from core.embedding.vectors import VectorCache
from core.errors import InvalidInput
from core.flags.operations import create_flag, switch_flag
from core.flags.store import get_flag
from quarterdeck.definitions import boolean_flag
from quarterdeck.recorder import append_retrievals
from quarterdeck.retrieval import Retrieval
from quarterdeck.store import Store
from tests.conftest import Demo
from tests.dvc_repos import DvcRepo

PAGES = ("overview", "drift", "coverage", "prompts", "corpus", "rollouts", "audit")
STORE_PAGES = ("drift", "coverage", "rollouts", "audit")
HOSTILE = "<script>alert(1)</script> **bold** [x](javascript:alert(1)) :red[x] $x$ `y`"
LIVE_MARKUP = ("<script", "**bold**", "[x](", ":red[x]", "$x$", "`y`")

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def _clean_streamlit() -> Iterator[None]:
    """Streamlit's caches outlive an AppTest: start and end without them, and with no open connection."""
    _forget()
    yield
    _forget()


def _forget() -> None:
    import streamlit as st

    from app.resources import get_store

    with suppress(InvalidInput):  # no store was opened under a wrong setting
        get_store().close()
    st.cache_resource.clear()
    share_histories.cache_clear()


@pytest.fixture
def demo_url(as_demo: Demo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A copy of the demo's store that a test may change; MLflow, corpus and indexes stay the demo's."""
    target = tmp_path / "copy.db"
    with (
        closing(sqlite3.connect(as_demo.config.home / "quarterdeck.db")) as source,
        closing(sqlite3.connect(target)) as to,
    ):
        source.backup(to)
    monkeypatch.setenv("QUARTERDECK_DATABASE_URL", f"sqlite:///{target}")
    return f"sqlite:///{target}"


@pytest.fixture
def empty_url(url: str, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A home with a new store in it and nothing else."""
    monkeypatch.setenv("QUARTERDECK_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("QUARTERDECK_OPERATOR", "tester")
    monkeypatch.setenv("QUARTERDECK_DATABASE_URL", url)
    return url


def open_page(name: str, **filters: str) -> AppTest:
    """Open a page as its deep link does."""
    app = AppTest.from_file(PROJECT / "app" / "main.py", default_timeout=120)
    app.query_params.update(filters)
    return (app if name == "overview" else app.switch_page(f"../pages/{name}.py")).run()


def text_of(markdown: str) -> str:
    """What a reader sees of escaped Markdown."""
    return re.sub(r"\\(.)", r"\1", markdown).replace("\u2060", "")


def verdict(app: AppTest) -> str:
    """The sentence on top."""
    assert not app.exception
    assert [error.value for error in app.error] == []
    return next(text_of(m.value.removeprefix("#### ")) for m in app.markdown if m.value.startswith("#### "))


def only_error(app: AppTest) -> str:
    """The one error of a page: one line, no traceback."""
    assert not app.exception
    assert len(app.error) == 1, [error.value for error in app.error]
    line = text_of(app.error[0].value)
    assert "\n" not in line.strip()
    assert "Traceback" not in line
    return line


def ask(home_or_url: Path | str, query: str, *values: Any) -> list[tuple[Any, ...]]:
    """Rows of a database, read past all of our own code."""
    if str(home_or_url).startswith("postgresql"):
        with psycopg.connect(str(home_or_url)) as server:
            return server.execute(query.replace("?", "%s"), values).fetchall()
    path = home_or_url if isinstance(home_or_url, Path) else home_or_url.removeprefix("sqlite:///")
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(query, values).fetchall()


def utc_midnight_ms(days_ago: int = 0) -> int:
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return int((today - timedelta(days=days_ago)).timestamp() * 1000)


def test_drift_says_by_how_much_and_since_when_the_score_fell(as_demo: Demo) -> None:
    app = open_page("drift")
    assert re.match(r"Retrieval score fell 0\.\d\d since \d+ \w+\. Most likely: users ask about", verdict(app))
    details = " ".join(caption.value for caption in app.caption)
    said = re.search(
        r"fell by ([\d.]+) .* since (\d+ \w+ \d+): ([\d.]+) over ([\d,]+) .* against ([\d.]+) over", details
    )
    assert said, details
    since = int(datetime.strptime(f"{said[2]} +0000", "%d %b %Y %z").timestamp() * 1000)
    assert utc_midnight_ms(9) <= since <= utc_midnight_ms(4)
    ((now, count),) = ask(
        as_demo.config.home / "quarterdeck.db",
        "SELECT AVG(score), COUNT(score) FROM retrievals WHERE ts_ms >= ?",
        since,
    )
    ((before,),) = ask(
        as_demo.config.home / "quarterdeck.db", "SELECT AVG(score) FROM retrievals WHERE ts_ms < ?", since
    )
    assert float(said[3]) == pytest.approx(now, abs=0.0015)
    assert int(said[4].replace(",", "")) == count
    assert float(said[5]) == pytest.approx(before, abs=0.0015)
    assert float(said[1]) == pytest.approx(before - now, abs=0.02)
    assert "re-index" in " ".join(caption.value for caption in app.caption)


@pytest.mark.deep
def test_drift_shows_the_mean_since_the_day_it_names(as_demo: Demo) -> None:
    metrics = {metric.label: metric.value for metric in open_page("drift").metric}
    label = next(label for label in metrics if label.startswith("Mean score since"))
    days = {ui.format_day(datetime.now(UTC).date() - timedelta(days=ago)): ago for ago in range(7)}
    since = utc_midnight_ms(days[label.removeprefix("Mean score since ")])
    ((mean,),) = ask(
        as_demo.config.home / "quarterdeck.db", "SELECT AVG(score) FROM retrievals WHERE ts_ms >= ?", since
    )
    assert metrics[label] == f"{mean:.2f}"
    assert float(metrics["Change"]) < -0.05


def test_coverage_names_the_gap_and_its_true_share_of_the_traffic(as_demo: Demo) -> None:
    app = open_page("coverage", days="7d")
    said = re.search(r"most worth indexing is “(.+)”: (\d+)% of all queries, mean score (\d\.\d+)", verdict(app))
    assert said, verdict(app)
    asked = {line.strip() for line in (PROJECT / "data/demo/queries/vpp.txt").read_text().splitlines()}
    rows = ask(
        as_demo.config.home / "quarterdeck.db",
        "SELECT query, score FROM retrievals WHERE ts_ms >= ?",
        utc_midnight_ms(6),
    )
    threshold = float(re.search(r"under ([\d.]+)", " ".join(c.value for c in app.caption))[1])  # type: ignore[index]
    low_vpp = [score for query, score in rows if score < threshold and query in asked]
    assert "vpp" in said[1].lower()
    assert int(said[2]) == pytest.approx(100 * len(low_vpp) / len(rows), abs=4)
    assert float(said[3]) == pytest.approx(sum(low_vpp) / len(low_vpp), abs=0.02)


def test_prompts_names_the_winner_by_faithfulness_per_cost(as_demo: Demo) -> None:
    query = """
        SELECT runs.name, good.value / cost.value FROM runs
        JOIN latest_metrics AS good ON good.run_uuid = runs.run_uuid AND good.key = 'faithfulness_mean'
        JOIN latest_metrics AS cost ON cost.run_uuid = runs.run_uuid AND cost.key = 'cost_usd_mean'
        ORDER BY 2 DESC"""
    rows = ask(as_demo.config.home / "mlflow" / "mlflow.db", query)
    assert len(rows) == 3
    assert verdict(open_page("prompts")).startswith(f"{rows[0][0]} wins by faithfulness per cost")


def test_corpus_says_what_is_live_and_what_is_newer(as_demo: Demo) -> None:
    said = verdict(open_page("corpus"))
    live = "SELECT corpus_version FROM indexes JOIN aliases ON index_name = name WHERE alias = 'default'"
    ((version,),) = ask(as_demo.config.home / "quarterdeck.db", live)
    v1, v2 = ({path.name for path in (PROJECT / "data/demo/corpus" / name).glob("*.md")} for name in ("v1", "v2"))
    assert version == "v1"
    assert said.startswith("v1 is live, 60 d old; v2 is newer")
    assert f"(files: {len(v2 - v1)} added, {len(v2 & v1)} modified, 1 renamed)" in said


@pytest.mark.deep
def test_rollouts_says_which_flags_are_partly_rolled_out(as_demo: Demo) -> None:
    query = "SELECT COUNT(*) FROM flags WHERE environment = 'production'"
    ((count,),) = ask(as_demo.config.home / "quarterdeck.db", query)
    said = verdict(open_page("rollouts"))
    assert said == f"2 of {count} flags are partly rolled out: answer-service at 5%, new_prompt_v3 at 20%."


def test_audit_says_how_many_changes_there_are_and_which_was_last(as_demo: Demo) -> None:
    ((count, actor, action, target),) = ask(
        as_demo.config.home / "quarterdeck.db",
        "SELECT COUNT(*), actor, action, target FROM audit WHERE id = id HAVING MAX(id)",
    )
    app = open_page("audit")
    assert verdict(app).startswith(f"The last of {count} changes: {actor} did {action} of {target} ")
    assert any("Chain verified" in m.value for m in app.markdown)


def test_overview_has_one_sentence_with_its_number_for_each_area(as_demo: Demo) -> None:
    app = open_page("overview")
    assert verdict(app) == verdict(open_page("drift"))
    figures = {metric.label: metric.value for metric in app.metric}
    assert figures | {"Drift": "", "Gaps": ""} == {
        "Drift": "",
        "Gaps": "",
        "Prompt": "v2",
        "Corpus": "v1",
        "Rollouts": "2",
    }
    sentences = " ".join(text_of(m.value) for m in app.markdown if m.value.startswith(":small["))
    for expected in ("score fell", "score low", "v2 is in production", "v1 is live", "2 of 5 flags"):
        assert expected in sentences


@pytest.mark.parametrize(
    ("page", "command"),
    [
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


@pytest.mark.deep
def test_prompts_without_an_experiment_says_which_command_logs_one(
    empty_url: str, tmp_path: Path, as_new_mlflow: None
) -> None:
    app = open_page("prompts")
    assert (len(app.exception), len(app.error)) == (0, 0)
    assert [code.value for code in app.code] == ["quarterdeck demo"]


@pytest.fixture
def as_new_mlflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An MLflow database that MLflow itself has made, without any run."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    SqlAlchemyStore(uri, str(tmp_path / "artifacts")).engine.dispose()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)


@pytest.mark.deep
def test_corpus_of_a_repository_that_tracks_nothing_says_how_to_track_it(
    empty_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repo = DvcRepo.create(tmp_path / "corpus")
    repo.git("add", "--all")
    repo.git("commit", "--quiet", "--message", "start")
    monkeypatch.setenv("QUARTERDECK_CORPUS_REPO", str(repo.root))
    app = open_page("corpus")
    assert (len(app.exception), len(app.error)) == (0, 0)
    assert "dvc add" in app.code[0].value


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


@pytest.mark.deep
def test_a_store_that_somebody_writes_to_can_be_read_but_not_changed(demo_url: str) -> None:
    path = demo_url.removeprefix("sqlite:///")
    with closing(sqlite3.connect(path)) as once:
        once.execute("PRAGMA journal_mode = WAL")
    app = open_page("rollouts", flag="use_hyde")
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        line = only_error(flip(app, on=True, reason="try it"))
        other.execute("ROLLBACK")
    assert "locked" in line
    assert "Nothing was changed" in line
    assert last_changes(demo_url, "use_hyde") == ["flag.create"]


@pytest.mark.parametrize("page", ["overview", "corpus"])
@pytest.mark.parametrize("content", [None, b"\x93garbage" * 4_000])
def test_other_areas_stay_readable_without_the_store(
    page: str, content: bytes | None, as_demo: Demo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if content:
        (tmp_path / "deck.db").write_bytes(content)
    monkeypatch.setenv("QUARTERDECK_DATABASE_URL", f"sqlite:///{tmp_path / 'deck.db'}")
    app = open_page(page)
    shown = text_of(" ".join(m.value for m in app.markdown))
    assert not app.exception
    assert str(tmp_path / "deck.db") in shown + text_of(" ".join(error.value for error in app.error))
    assert ("v2 is in production" if page == "overview" else "the newest is v2") in shown


@pytest.mark.parametrize(
    ("uri", "named"),
    [
        ("sqlite:///{folder}/nowhere/mlflow.db", "{folder}/nowhere/mlflow.db"),
        ("sqlite:///{folder}/garbage.db", "{folder}/garbage.db"),
        ("http://127.0.0.1:1", "http://127.0.0.1:1"),
    ],
)
def test_prompts_says_in_one_line_that_mlflow_cannot_be_read(
    uri: str, named: str, as_demo: Demo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "garbage.db").write_bytes(b"\x93garbage" * 4_000)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri.format(folder=tmp_path))
    assert named.format(folder=tmp_path) in only_error(open_page("prompts"))
    overview = open_page("overview")
    shown = text_of(" ".join(m.value for m in overview.markdown))
    assert not overview.exception
    assert named.format(folder=tmp_path) in shown
    assert "score fell 0." in shown
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize("kind", ["missing", "no repository", "broken"])
def test_corpus_says_in_one_line_that_the_repository_cannot_be_read(
    kind: str, as_demo: Demo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "elsewhere"
    if kind != "missing":
        folder.mkdir()
    if kind == "broken":
        shutil.copytree(as_demo.config.home / "corpus", folder, dirs_exist_ok=True)
        shutil.rmtree(folder / ".git" / "objects")
    monkeypatch.setenv("QUARTERDECK_CORPUS_REPO", str(folder))
    assert str(folder) in only_error(open_page("corpus"))
    overview = open_page("overview")
    assert not overview.exception
    assert "score fell 0." in text_of(" ".join(m.value for m in overview.markdown))


def test_a_wrong_setting_is_one_line_that_names_it(as_demo: Demo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUARTERDECK_LOW_SCORE", "high")
    app = AppTest.from_file(PROJECT / "app" / "main.py", default_timeout=120).run()
    assert "QUARTERDECK_LOW_SCORE: must be a number between 0 and 1, not 'high'" in only_error(app)


def field(kind: Any, name: str) -> Any:
    """The control of the chosen flag whose key starts so; the rest of its key names the version that was seen."""
    return next(each for each in kind if str(each.key).startswith(f"{name}-production-"))


def edit(app: AppTest, *, on: bool | None = None, share: float | None = None) -> AppTest:
    """Change the form of the chosen flag, as far as the preview."""
    if on is not None:
        field(app.toggle, "on").set_value(on).run()
    if share is not None:
        field(app.number_input, "share").set_value(share).run()
    return app


def save(app: AppTest, reason: str, *, name: str = "") -> AppTest:
    """Fill in the form under the preview and press Save."""
    field(app.text_input, "reason").input(reason)
    if name:
        field(app.text_input, "name").input(name)
    return next(button for button in app.button if button.label == "Save").click().run()


def flip(app: AppTest, *, on: bool, reason: str) -> AppTest:
    """Switch the chosen flag, its name typed where it is asked for."""
    edit(app, on=on)
    asked = any(str(each.key).startswith("name-production-") for each in app.text_input)
    return save(app, reason, name=str(app.selectbox(key="flag").value) if asked else "")


def last_changes(url: str, key: str) -> list[str]:
    """What happened to a flag in production, newest first."""
    query = "SELECT action FROM audit WHERE environment = 'production' AND target = ? ORDER BY id DESC"
    return [action for (action,) in ask(url, query, key)]


def stored_flag(url: str, key: str) -> dict[str, Any]:
    ((definition,),) = ask(url, "SELECT definition FROM flags WHERE environment = 'production' AND key = ?", key)
    found: dict[str, Any] = json.loads(definition)
    return found


def test_flipping_a_flag_stores_it_and_shows_its_audit_entry(demo_url: str) -> None:
    before = stored_flag(demo_url, "use_reranker")
    app = flip(open_page("rollouts", flag="use_reranker"), on=False, reason="costs too much")
    ((entry, actor, reason),) = ask(
        demo_url, "SELECT id, actor, reason FROM audit WHERE action = 'flag.update' AND target = 'use_reranker'"
    )
    assert (actor, reason) == ("tester", "costs too much")
    assert [s.value for s in app.success] == [f"Recorded as audit entry {entry}. Services see it within 2 seconds."]
    assert stored_flag(demo_url, "use_reranker") == before | {"state": "DISABLED"}
    shown = open_page("audit", entry=str(entry))
    assert shown.selectbox(key="entry").value == entry
    assert [text.value for text in shown.text] == ["costs too much"]


def shown_text(app: AppTest) -> str:
    """What a reader sees of the page's sentences."""
    return text_of(" ".join(element.value for element in (*app.markdown, *app.caption)))


def differences(app: AppTest) -> Iterator[str]:
    """The blocks of the page that hold a difference: lines that begin with + or -."""
    return (code.value for code in app.code if re.search(r"^[+-]", code.value, re.MULTILINE))


def test_a_change_is_previewed_on_recent_users_and_saved_with_its_reason(demo_url: str) -> None:
    app = edit(open_page("rollouts", flag="new_prompt_v3"), share=40.0)
    said = re.search(r"\*\*(\d+)%\*\* get another answer: ([\d,]+) of ([\d,]+) session ids", shown_text(app))
    assert said, shown_text(app)
    since = int((datetime.now(UTC) - timedelta(days=7)).timestamp() * 1000)
    query = "SELECT COUNT(DISTINCT session_id) FROM retrievals WHERE ts_ms >= ?"
    ((users,),) = ask(demo_url, query, since)
    assert int(said[3].replace(",", "")) == pytest.approx(users, abs=10)
    assert int(said[1]) == pytest.approx(20, abs=7)
    diff = next(differences(app))
    assert [line.split()[1] for line in diff.splitlines() if line[0] in "+-"]
    assert "20000" in diff
    assert "40000" in diff
    assert last_changes(demo_url, "new_prompt_v3")[0] == "flag.update"
    before = len(last_changes(demo_url, "new_prompt_v3"))
    save(app, "no complaints")
    assert "new_prompt_v3 at 40%" in verdict(app)
    assert len(last_changes(demo_url, "new_prompt_v3")) == before + 1


@pytest.mark.deep
def test_a_wide_change_in_production_takes_the_flags_name(demo_url: str) -> None:
    before = stored_flag(demo_url, "new_prompt_v3")
    app = edit(open_page("rollouts", flag="new_prompt_v3"), share=95.0)
    assert "Type **new_prompt_v3** to change it for so many" in shown_text(app)
    line = only_error(save(app, "all in", name="new_prompt"))
    assert re.search(r"name: \d+% of users get another answer; type new_prompt_v3 to go on", line)
    assert stored_flag(demo_url, "new_prompt_v3") == before
    app = edit(open_page("rollouts", flag="new_prompt_v3"), share=95.0)
    assert "new_prompt_v3 at 95%" in verdict(save(app, "all in", name="new_prompt_v3"))


def test_a_page_says_what_a_user_gets_now_and_after_the_change_and_why(as_demo: Demo) -> None:
    app = edit(open_page("rollouts", flag="new_prompt_v3"), share=0.0)
    app.text_input(key="why-user-new_prompt_v3").input("user-1").run()
    shown = shown_text(app)
    assert "**Now**: " in shown
    assert "**After the change**: off, with the value false" in shown
    assert any("falls to" in text.value for text in app.text)


@pytest.mark.deep
def test_rules_are_added_ordered_and_taken_away(demo_url: str) -> None:
    app = open_page("rollouts", flag="new_prompt_v3")
    for attribute, value in (("country", "DE"), ("plan", "pro")):
        next(button for button in app.button if button.label == "Add a rule").click().run()
        [each for each in app.text_input if each.label == "Attribute"][-1].input(attribute).run()
        [each for each in app.text_input if each.label == "Value"][-1].input(value).run()
    [each for each in app.button if each.label == "↑"][-1].click().run()
    save(app, "by plan first")
    targeting = stored_flag(demo_url, "new_prompt_v3")["targeting"]["if"]
    assert [test["=="] for test in targeting[:-1:2]] == [[{"var": "plan"}, "pro"], [{"var": "country"}, "DE"]]
    app = open_page("rollouts", flag="new_prompt_v3")
    next(button for button in app.button if button.label == "✕").click().run()
    save(app, "plan no more")
    targeting = stored_flag(demo_url, "new_prompt_v3")["targeting"]["if"]
    assert [test["=="] for test in targeting[:-1:2]] == [[{"var": "country"}, "DE"]]


@pytest.mark.deep
def test_owner_tags_and_expiry_are_kept_found_and_shown(demo_url: str) -> None:
    app = open_page("rollouts", flag="new_prompt_v3")
    field(app.text_input, "owner").input("ada").run()
    field(app.text_input, "tags").input("prompts, rag").run()
    save(app, "who looks after it")
    assert stored_flag(demo_url, "new_prompt_v3")["metadata"]["tags"] == "prompts, rag"
    found = open_page("rollouts", search="RAG ada")
    assert list(found.dataframe[0].value["flag"]) == ["new_prompt_v3"]
    assert list(open_page("rollouts", stale="true").dataframe[0].value["flag"]) == ["use_reranker"]
    assert "None of the 5 flags fits the filters." in shown_text(open_page("rollouts", search="no such flag"))


def test_a_definition_is_edited_as_json_and_a_wrong_one_is_one_line(demo_url: str) -> None:
    app = open_page("rollouts", flag="use_hyde")
    next(each for each in app.segmented_control if str(each.key).startswith("how-")).set_value("JSON").run()
    area = app.text_area[0]
    typed = json.loads(area.value)
    area.input(json.dumps(typed | {"state": "MAYBE"})).run()
    assert only_error(app) == "**This cannot be saved** — state: give ENABLED or DISABLED, not 'MAYBE'"
    app.text_area[0].input(json.dumps(typed | {"metadata": typed["metadata"] | {"owner": "ada"}})).run()
    save(app, "an owner")
    assert stored_flag(demo_url, "use_hyde")["metadata"]["owner"] == "ada"


def test_the_kill_switch_turns_a_flag_off_at_once(demo_url: str) -> None:
    app = open_page("rollouts", flag="new_prompt_v3")
    app.button(key="kill-new_prompt_v3").click().run()
    assert stored_flag(demo_url, "new_prompt_v3")["state"] == "DISABLED"
    assert verdict(app) == "1 of 5 flags is partly rolled out: answer-service at 5%."


@pytest.mark.deep
def test_a_flag_is_made_off_and_deleted_by_its_typed_name(demo_url: str) -> None:
    app = open_page("rollouts")
    app.text_input(key="new-key").input("shiny")
    app.text_input(key="new-reason").input("try it")
    next(button for button in app.button if button.label == "Create flag").click().run()
    assert verdict(app).startswith("2 of 6 flags")
    assert stored_flag(demo_url, "shiny")["state"] == "DISABLED"
    app = open_page("rollouts", flag="shiny")
    app.text_input(key="delete-reason-shiny").input("was a trial")
    app.text_input(key="delete-name-shiny").input("shin")
    next(button for button in app.button if button.label == "Delete flag").click().run()
    assert "type shiny to delete it" in only_error(app)
    app.text_input(key="delete-reason-shiny").input("was a trial")
    app.text_input(key="delete-name-shiny").input("shiny")
    next(button for button in app.button if button.label == "Delete flag").click().run()
    assert verdict(app).startswith("2 of 5 flags")
    assert last_changes(demo_url, "shiny") == ["flag.delete", "flag.create"]


@pytest.mark.parametrize(
    ("key", "field_name"), [("x" * 300, "key: 300 characters"), ("a\tb", "control characters"), ("", "key: give")]
)
def test_a_flag_of_a_name_that_cannot_be_is_refused_with_the_fields_name(
    key: str, field_name: str, demo_url: str
) -> None:
    app = open_page("rollouts")
    app.text_input(key="new-key").input(key)
    app.text_input(key="new-reason").input("try it")
    next(button for button in app.button if button.label == "Create flag").click().run()
    assert field_name in only_error(app)
    assert ask(demo_url, "SELECT COUNT(*) FROM flags") == [(5 + 3,)]


@pytest.mark.deep
def test_a_rollout_in_steps_is_planned_paused_and_cancelled_on_the_page(demo_url: str) -> None:
    app = open_page("rollouts", flag="new_prompt_v3")
    app.text_input(key="plan-reason-new_prompt_v3").input("no complaints")
    app.text_input(key="plan-name-new_prompt_v3").input("new_prompt_v3")
    next(button for button in app.button if button.label == "Plan it").click().run()
    assert "Next: new_prompt_v3, 5% now." in verdict(app)
    assert "5% → 25% → 50% → 100%. Next: 5% now." in shown_text(app)
    assert any("No server makes the steps at the moment" in warning.value for warning in app.warning)
    for verb, told in (("Pause", "A plan is paused"), ("Resume", "Rolling out"), ("Cancel", "Rolling out")):
        next(each for each in app.text_input if str(each.key).startswith("schedule-reason-")).input("look first")
        next(button for button in app.button if button.label == f"{verb} the plan").click().run()
        assert told in shown_text(app)
    assert last_changes(demo_url, "new_prompt_v3")[:4] == [
        "schedule.cancel", "schedule.resume", "schedule.pause", "schedule.create",
    ]  # fmt: skip
    assert "plan-reason-new_prompt_v3" in {each.key for each in app.text_input}


@pytest.mark.deep
@pytest.mark.parametrize("reason", ["", "   "])
def test_a_change_without_a_reason_is_refused_in_one_line(reason: str, demo_url: str) -> None:
    before = stored_flag(demo_url, "new_prompt_v3")
    line = only_error(save(edit(open_page("rollouts", flag="new_prompt_v3"), share=25.0), reason))
    assert line == "**Nothing was changed** — reason: is empty; say why, for the audit trail"
    assert stored_flag(demo_url, "new_prompt_v3") == before


def test_a_form_that_nobody_touched_has_nothing_to_save(as_demo: Demo) -> None:
    app = open_page("rollouts", flag="use_hyde")
    assert "Save" not in [button.label for button in app.button]
    app = edit(edit(app, on=True), on=False)
    assert "Save" not in [button.label for button in app.button]


@pytest.mark.deep
def test_saving_over_a_change_of_somebody_else_is_a_conflict_that_shows_both_changes(demo_url: str) -> None:
    app = edit(open_page("rollouts", flag="new_prompt_v3"), share=30.0)
    with closing(Store(demo_url)) as store:
        flag = get_flag(store, "production", "new_prompt_v3")
        switch_flag(store, flag, Act("somebody else", "was faster"), on=False)
    save(app, "mine")
    assert not app.exception
    lines = [text_of(error.value) for error in app.error]
    assert any("somebody else was faster" in line for line in lines)
    assert any(
        "Conflict** — somebody else changed this flag just now, while you were editing" in line for line in lines
    )
    theirs, mine = differences(app)
    assert '+  "state": "DISABLED"' in theirs
    assert "30000" in mine
    assert stored_flag(demo_url, "new_prompt_v3")["state"] == "DISABLED"
    app.button(key="drop-edit-new_prompt_v3").click().run()
    assert [error.value for error in app.error] == []
    assert field(app.toggle, "on").value is False
    assert field(app.number_input, "share").value == 20.0


@pytest.mark.deep
def test_a_viewer_sees_the_flags_and_can_change_none(as_demo: Demo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUARTERDECK_OPERATOR_ROLE", "viewer")
    app = edit(open_page("rollouts", flag="new_prompt_v3"), share=30.0)
    assert "kill" not in app.dataframe[0].value
    locked = {button.label: button.disabled for button in app.button}
    assert all(locked[label] for label in ("Save", "Create flag", "Plan it", "Delete flag"))


@pytest.mark.deep
def test_reverting_an_entry_brings_the_former_state_back(demo_url: str) -> None:
    before = stored_flag(demo_url, "use_hyde")
    flip(open_page("rollouts", flag="use_hyde"), on=True, reason="try it")
    app = open_page("audit", on="use_hyde")
    app.text_input[0].input("was a mistake")
    app.button[0].click().run()
    assert not app.exception
    assert stored_flag(demo_url, "use_hyde") == before


@pytest.mark.deep
def test_accepting_the_level_restarts_the_reference(demo_url: str) -> None:
    app = open_page("drift")
    app.text_input(key="drift_reason").input("users moved on to VPP")
    app.button[0].click().run()
    assert not app.exception
    assert ask(demo_url, "SELECT action, reason FROM audit ORDER BY id DESC LIMIT 1") == [
        ("drift.accept", "users moved on to VPP")
    ]
    assert "Drifting" not in " ".join(m.value for m in open_page("drift").markdown)


@pytest.mark.deep
def test_links_select_the_flag_the_version_the_days_and_the_topic(as_demo: Demo) -> None:
    assert open_page("rollouts", flag="new_prompt_v3").selectbox(key="flag").value == "new_prompt_v3"
    corpus = open_page("corpus", tab="Files", version="v1", search="mbuf")
    assert corpus.selectbox(key="version").value == "v1"
    assert "1 of 38 files of v1" in " ".join(caption.value for caption in corpus.caption)
    assert len(open_page("drift", days="14d").dataframe[-1].value) == 14
    topics = open_page("coverage", clusters="3").selectbox(key="topic")
    last = topics.options[-1]
    assert len(topics.options) == 3
    chosen = open_page("coverage", clusters="3", topic=last).selectbox(key="topic")
    assert chosen.options.index(last) == 2


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
        ("drift", {"days": "-1"}),
        ("coverage", {"topic": "no such", "clusters": "many", "days": "1e9"}),
        ("prompts", {"experiment": "no such", "rule": HOSTILE}),
        ("audit", {"entry": "99999", "who": HOSTILE}),
    ],
)
def test_a_link_with_a_wrong_filter_opens_the_page_without_it(
    page: str, filters: dict[str, str], as_demo: Demo
) -> None:
    assert verdict(open_page(page, **filters))


def markdown_of(app: AppTest) -> list[str]:
    """Every text of a page that the browser reads as Markdown."""
    shown = [*app.markdown, *app.caption, *app.title, *app.subheader, *app.info, *app.error, *app.success]
    labels = [*app.button, *app.metric, *app.toggle, *app.slider, *app.text_input, *app.selectbox]
    links = [element.proto.label for element in app.get("page_link")]
    return [each.value for each in (*shown, *app.metric)] + [element.label for element in labels] + links


def assert_shown_as_text(app: AppTest) -> None:
    """No page text holds markup of the hostile text that is not escaped."""
    assert not app.exception
    for text in markdown_of(app):
        unescaped = re.sub(r"\\.", "", text)
        assert not [markup for markup in LIVE_MARKUP if markup in unescaped], text


def test_hostile_flags_and_reasons_are_shown_as_text(empty_url: str, store: Store) -> None:
    key = HOSTILE.replace(" ", "")
    create_flag(store, key, boolean_flag(on=True, rollout_pct=20, description=HOSTILE), Act(HOSTILE, HOSTILE))
    rollouts, audit = open_page("rollouts"), open_page("audit")
    for app in (rollouts, audit, open_page("overview")):
        assert_shown_as_text(app)
    assert key in text_of(" ".join(markdown_of(rollouts)))
    assert HOSTILE in [text_of(caption.value) for caption in rollouts.caption]
    assert HOSTILE in [text.value for text in audit.text]


@pytest.mark.deep
def test_a_gap_is_decided_under_the_environment_that_is_looked_at(empty_url: str, store: Store) -> None:
    create_flag(store, "tried", boolean_flag(on=True), Act("ada", "makes the environment", "staging"))
    now = datetime.now(UTC)
    asked = [
        f"how do I set up {word}"
        for word in ("memif", "nat", "tap", "ipsec", "bonds", "vxlan", "acl", "lb", "gre", "mpls")
    ]
    rows = [Retrieval(now - timedelta(minutes=at), text, 0.1) for at, text in enumerate(asked * 2)]
    append_retrievals(store, [*rows, *(Retrieval(row.ts, "what is an mbuf", 0.9) for row in rows)])
    Embedder(cache=VectorCache(store)).embed([row.query for row in rows])
    app = open_page("coverage", environment="staging")
    next(button for button in app.button if button.label == "Save").click().run()
    assert "reason" in only_error(app)
    next(field for field in app.text_input if field.label == "Reason").set_value("asked for a lot")
    next(field for field in app.text_input if field.label == "Owner").set_value("grace")
    next(field for field in app.selectbox if field.label == "State").set_value("planned")
    next(button for button in app.button if button.label == "Save").click().run()
    assert not app.error
    (entry,) = [entry for entry in list_audit(store) if entry.action == "topic.mark"]
    assert (entry.environment, entry.reason) == ("staging", "asked for a lot")
    assert (entry.after or {})["state"] == "planned"


def test_hostile_queries_are_shown_as_text(empty_url: str, store: Store) -> None:
    now = datetime.now(UTC)
    words = ("mempool", "ring", "vector", "graph", "memif", "ipsec", "nat", "tap", "flow", "lcore", "numa", "hash")
    rows = [
        Retrieval(now - timedelta(minutes=at), f"{HOSTILE} {word}", score)
        for score in (0.1, 0.9)
        for at, word in enumerate(words)
    ]
    append_retrievals(store, rows)
    Embedder(cache=VectorCache(store)).embed([row.query for row in rows])  # a page leaves this to the background
    app = open_page("coverage")
    assert_shown_as_text(app)
    assert_shown_as_text(open_page("overview"))
    assert any(HOSTILE in str(cell) for cell in app.dataframe[0].value["query"])


def test_hostile_file_names_and_messages_are_shown_as_text(
    empty_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repo = DvcRepo.create(tmp_path / "corpus")
    name = HOSTILE.replace("/", "|")
    repo.write({f"corpus/{name}": "text", "corpus/plain.md": "text"})
    repo.dvc("add", "--quiet", "corpus")
    repo.git("add", "--all")
    repo.git("commit", "--quiet", "--message", HOSTILE)
    repo.git("tag", "<b>v1`y`$x$")
    monkeypatch.setenv("QUARTERDECK_CORPUS_REPO", str(repo.root))
    app = open_page("corpus")
    assert_shown_as_text(app)
    assert_shown_as_text(open_page("overview"))
    assert "<b>v1`y`$x$" in verdict(app)
    files = open_page("corpus", tab="Files", path="corpus")
    assert_shown_as_text(files)
    assert any(name in str(table.value.to_dict()) for table in files.dataframe)
    assert_shown_as_text(open_page("corpus", tab="Files", path=f"corpus/{name}"))


def test_a_token_is_made_shown_once_and_revoked_on_the_access_tab(empty_url: str) -> None:
    app = open_page("rollouts", tab="Access")
    assert "open to everybody" in " ".join(each.value for each in app.markdown)
    app.text_input(key="token-name").set_value("search")
    app.multiselect(key="token-scopes").set_value(["evaluate"])
    app.text_input(key="token-reason").set_value("OFREP for search")
    next(each for each in app.button if each.label == "Make the token").click().run()
    assert not app.exception
    (secret,) = (each.value for each in app.code if each.value.startswith("qd_"))
    ((digest,),) = ask(empty_url, "SELECT digest FROM tokens WHERE name = 'search'")
    assert hashlib.sha256(secret.encode()).hexdigest() == digest
    assert "1 of 1 are active" in " ".join(each.value for each in app.markdown)
    app.run()
    assert not [each for each in app.code if each.value.startswith("qd_")]
    app.text_input(key="token-revoke-reason").set_value("leaked")
    next(each for each in app.button if each.label == "Revoke").click().run()
    assert not app.exception
    assert ask(empty_url, "SELECT COUNT(*) FROM tokens WHERE revoked_ms IS NOT NULL") == [(1,)]
    assert "0 of 1 are active" in " ".join(each.value for each in app.markdown)


def test_a_token_without_a_scope_is_refused_in_one_line(empty_url: str) -> None:
    app = open_page("rollouts", tab="Access")
    app.text_input(key="token-name").set_value("search")
    app.text_input(key="token-reason").set_value("why")
    next(each for each in app.button if each.label == "Make the token").click().run()
    assert "scopes: give at least one of evaluate, ingest, admin" in only_error(app)
    assert ask(empty_url, "SELECT COUNT(*) FROM tokens") == [(0,)]

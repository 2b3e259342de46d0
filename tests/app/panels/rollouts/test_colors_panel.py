"""The tab Blue-green as a visitor sees it, with a real nginx and real processes."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from benchmarks.blue_green import ACT, NAME, Scene, staging
from core.audit.trail import AuditFilter, list_audit
from core.config import PROJECT
from core.deployments.colors import Color
from core.deployments.deployments import deploy_release, get_deployment, start_release, switch_color
from quarterdeck.store import Store

pytestmark = [pytest.mark.slow, pytest.mark.deep, pytest.mark.usefixtures("clean_streamlit")]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("QUARTERDECK_HOME", str(tmp_path))
    monkeypatch.setenv("QUARTERDECK_DATABASE_URL", f"sqlite:///{tmp_path / 'deck.db'}")
    monkeypatch.setenv("QUARTERDECK_OPERATOR", "grace")
    return tmp_path


@pytest.fixture
def deck(home: Path) -> Iterator[Store]:
    opened = Store(f"sqlite:///{home / 'deck.db'}", create=True)
    with opened.begin():
        pass
    yield opened
    opened.close()


@pytest.fixture
def scene(home: Path, deck: Store) -> Iterator[Scene]:
    """A release in blue with the traffic, and one in green that waits; its name would be bold in Markdown."""
    with staging(home) as staged:
        deploy_release(deck, staged.open(), "r1", ACT)
        start_release(deck, staged.open(), "**r2**", ACT)
        yield staged


def open_tab() -> AppTest:
    app = AppTest.from_file(PROJECT / "app" / "main.py", default_timeout=120)
    app.query_params["tab"] = "Blue-green"
    app = app.switch_page("../pages/rollouts.py").run()
    assert not app.exception
    return app


def texts_of(app: AppTest) -> str:
    shown: list[Any] = [*app.markdown, *app.caption, *app.info, *app.error, *app.success]
    return re.sub(r"\\(.)", r"\1", "\n".join(each.value for each in shown))


def press(app: AppTest, label: str, reason: str) -> AppTest:
    button = next(each for each in app.button if label in each.label.replace("\\", ""))
    form = button.proto.form_id or button.form_id
    field = next(each for each in app.text_input if each.form_id == form)
    field.input(reason)
    button.click()
    app.run()
    assert not app.exception
    return app


def test_without_a_deployment_the_tab_says_how_to_make_the_first(deck: Store) -> None:
    app = open_tab()
    assert "No service is deployed in two colors yet" in texts_of(app)
    assert "quarterdeck deploy release RELEASE" in app.code[0].value


def test_a_visitor_switches_rolls_back_and_takes_down_each_with_a_reason(scene: Scene, deck: Store) -> None:
    app = open_tab()
    assert "answers runs on blue (r1) since" in texts_of(app)
    app = press(app, "Switch to green (**r2**)", " ")
    assert "Nothing was changed" in texts_of(app)
    assert get_deployment(deck, "production", NAME).live == Color.BLUE
    app = press(app, "Switch to green (**r2**)", "looks good")
    assert "answers runs on green (**r2**) since" in texts_of(app)
    app = press(app, "Roll back to blue (r1)", "looks bad")
    assert "Recorded as audit entry" in texts_of(app)
    app = press(app, "Take down green (**r2**)", "not needed")
    assert "green is free for the next release" in texts_of(app)
    told = [(entry.action, entry.actor, entry.reason) for entry in list_audit(deck, AuditFilter(target=NAME), limit=3)]
    assert told == [
        ("deployment.teardown", "grace", "not needed"),
        ("deployment.rollback", "grace", "looks bad"),
        ("deployment.switch", "grace", "looks good"),
    ]


def test_a_visitor_who_saw_another_state_changes_nothing(scene: Scene, deck: Store) -> None:
    app = open_tab()
    switch_color(deck, scene.open(), ACT)
    app = press(app, "Switch to green", "looks good")
    assert "changed since you loaded it" in texts_of(app)
    assert list_audit(deck, AuditFilter(target=NAME))[0].actor == ACT.actor


def test_a_viewer_is_told_why_the_switch_is_locked(scene: Scene, deck: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUARTERDECK_OPERATOR_ROLE", "viewer")
    (button,) = [each for each in open_tab().button if "Switch to" in each.label]
    assert button.disabled
    assert "requires the role editor" in button.help


def test_what_nginx_really_does_is_shown_and_brought_in_line(scene: Scene, deck: Store) -> None:
    proxy = scene.open().proxy
    proxy.write(Color.GREEN, "green 999")
    proxy.reload()
    proxy.wait_for("green 999")
    app = open_tab()
    assert "nginx follows green, not blue as intended" in texts_of(app)
    app = press(app, "Bring it in line", "nobody said so")
    assert "nginx follows green" not in texts_of(app)
    assert proxy.read_mark().startswith("blue")


def test_a_server_that_does_not_run_the_service_shows_its_state_and_no_switch(scene: Scene, deck: Store) -> None:
    definition = scene.definition.read_text()
    scene.definition.unlink()
    app = open_tab()
    scene.definition.write_text(definition)
    assert "answers runs on blue (r1) since" in texts_of(app)
    assert "not defined on this server's machine" in texts_of(app)
    assert [each.label for each in app.button if "Switch" in each.label] == []


def test_a_definition_that_is_wrong_is_one_line(home: Path, deck: Store) -> None:
    (home / "deployments.yaml").write_text("services: {answers: {command: [serve]}}")
    app = open_tab()
    assert len(app.error) == 1
    assert "answers.blue: is missing" in texts_of(app)

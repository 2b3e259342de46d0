"""What `pip install quarterdeck-deck` gives: a deck that starts anywhere, and two wheels that share no file.

The wheels are built here and installed into a new environment, without the checkout. What they depend on is borrowed
from the environment of this test run.
"""

import os
import re
import shutil
import socket
import subprocess
import sys
import sysconfig
import time
import tomllib
import venv
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PathDistribution
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from playwright.sync_api import Browser, expect

from core.config import PROJECT
from core.deployments.health import ask
from core.errors import SourceUnavailable

FLAGS = '{"flags": {"use_hyde": {"state": "ENABLED", "variants": {"on": true, "off": false}, "defaultVariant": "on"}}}'
READ_SETTINGS = """
import sys
import quarterdeck_deck
sys.path.insert(0, *quarterdeck_deck.__path__)
from app.http.server import SCRIPT
from streamlit import config
from streamlit.starlette import App
App(SCRIPT)
print(config.get_option("client.toolbarMode"), config.get_option("browser.gatherUsageStats"))
"""


@dataclass(frozen=True)
class Installed:
    """A new environment with both wheels, and a folder of its own to work in."""

    programs: Path
    folder: Path
    wheels: Path

    @property
    def home(self) -> Path:
        return self.folder / "share" / "quarterdeck"

    @property
    def environ(self) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "QUARTERDECK", "VIRTUAL_ENV"))}
        return kept | {"XDG_DATA_HOME": str(self.folder / "share"), "HOME": str(self.folder)}

    def run(self, program: str, *arguments: str, code: int = 0) -> str:
        """Run a program of the environment in its folder; return what it printed."""
        done = subprocess.run(
            [self.programs / program, *arguments],
            cwd=self.folder, env=self.environ, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout

    def pip(self, *arguments: str) -> None:
        self.run("python", "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments)

    def install(self, *names: str) -> None:
        self.pip("install", "--no-index", "--no-deps", "--force-reinstall", "--find-links", str(self.wheels), *names)

    def list_missing(self, name: str) -> list[str]:
        """Return the missing files of an installed distribution, including its commands."""
        (site,) = self.programs.parent.glob("lib/python*/site-packages")
        installed = [PathDistribution(folder) for folder in site.glob("*.dist-info")]
        (found,) = [each for each in installed if canonicalize_name(each.name) == name]
        assert found.files
        return [str(file) for file in found.files if not Path(str(file.locate())).exists()]


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the two wheels, built as `make build` does."""
    folder = tmp_path_factory.mktemp("wheels")
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check", "--no-build-isolation",
         "--no-deps", "--wheel-dir", folder, ".", "./deck"],
        cwd=PROJECT, check=True,
    )  # fmt: skip
    return folder


@pytest.fixture(scope="module")
def installed(wheels: Path, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """An environment with both wheels; a path file in it borrows the libraries, not the checkout, of this test run."""
    folder = tmp_path_factory.mktemp("installed")
    venv.create(folder / "env", with_pip=True)
    made = Installed(folder / "env" / "bin", folder, wheels)
    made.install("quarterdeck-deck", "quarterdeck")
    (site,) = folder.glob("env/lib/python*/site-packages")
    (site / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    (folder / "flags.json").write_text(FLAGS)
    return made


def read_project(path: Path) -> dict[str, Any]:
    found = tomllib.loads(path.read_text(encoding="utf-8"))["project"]
    assert isinstance(found, dict)
    return found


def read_pins(name: str) -> dict[str, str]:
    """Return the version of every package that a file pins, "" for one that it only names."""
    lines = (PROJECT / name).read_text(encoding="utf-8").splitlines()
    found = [re.match(r"([A-Za-z][\w.-]*)(?:\[\w+\])?(?:==(\S+))?", line) for line in lines]
    return {canonicalize_name(each[1]): each[2] or "" for each in found if each}


def test_the_deck_needs_what_the_checkout_installs_in_ranges_around_what_the_tests_run_on() -> None:
    client, deck = read_project(PROJECT / "pyproject.toml"), read_project(PROJECT / "deck" / "pyproject.toml")
    pinned = read_pins("constraints.txt")
    listed = [Requirement(each) for project in (client, deck) for each in project["dependencies"]]
    needed = {canonicalize_name(each.name): each.specifier for each in listed}
    assert str(needed.pop("quarterdeck")) == f"=={client['version']}"
    assert set(read_pins("requirements.txt")) - {"psycopg"} - set(needed) == set()
    assert [name for name, allowed in needed.items() if pinned[name] not in allowed] == []


def test_both_distributions_have_one_version_and_say_the_same_of_python() -> None:
    client, deck = read_project(PROJECT / "pyproject.toml"), read_project(PROJECT / "deck" / "pyproject.toml")
    for field in ("version", "requires-python", "license", "authors"):
        assert client[field] == deck[field]
    assert {*deck["optional-dependencies"]} == {*client["optional-dependencies"]} - {"postgresql"}
    for name, extra in deck["optional-dependencies"].items():
        assert extra == [f"quarterdeck[{name}]=={client['version']}"]


@pytest.mark.slow
@pytest.mark.deep
def test_each_wheel_holds_one_package_and_none_of_the_others_files(wheels: Path) -> None:
    names = {}
    for wheel in wheels.glob("*.whl"):
        with ZipFile(wheel) as archive:
            names[wheel.name.partition("-")[0]] = [name for name in archive.namelist() if ".dist-info/" not in name]
    assert set(names) == {"quarterdeck", "quarterdeck_deck"}
    for package, files in names.items():
        assert {name.partition("/")[0] for name in files} == {package}
    deck = set(names["quarterdeck_deck"])
    tracked = subprocess.run(
        ["git", "ls-files", "app", "core", "pages", "data"], cwd=PROJECT, capture_output=True, text=True, check=True
    ).stdout.split()  # fmt: skip
    kept = {path for path in tracked if (PROJECT / path).exists()}
    assert {f"quarterdeck_deck/{path}" for path in kept} - deck == set()
    assert [name for name in deck if "/var/" in name or "__pycache__" in name] == []


@pytest.mark.slow
@pytest.mark.deep
def test_the_installed_deck_reads_its_own_data_and_keeps_state_in_the_users_data_folder(installed: Installed) -> None:
    said = installed.run("quarterdeck", "gate", "cost-check")
    assert "cost-check qa-v3: passed" in said
    assert (installed.home / "gate-vectors.db").exists()
    assert installed.run("python", "-c", READ_SETTINGS).split() == ["viewer", "False"]


@pytest.mark.slow
@pytest.mark.deep
def test_its_folders_are_on_the_path_of_its_own_process_only(installed: Installed) -> None:
    script = "from importlib.util import find_spec; print([n for n in ('app', 'core', 'pages') if find_spec(n)])"
    assert installed.run("python", "-c", script).strip() == "[]"
    for command in (("quarterdeck",), ("quarterdeck-deck",), ("python", "-m", "quarterdeck")):
        assert "Serve the pages and the HTTP API" in installed.run(*command, "--help")


@pytest.mark.slow
@pytest.mark.deep
@pytest.mark.browser
def test_the_installed_deck_serves_away_from_the_checkout(serving: str, chromium: Browser) -> None:
    assert ask(f"{serving}/healthz") == '{"status":"ok"}'
    assert "use_hyde" in ask(f"{serving}/flagd/flags.json")
    page = chromium.new_page()
    page.goto(f"{serving}/rollouts")
    expect(page.get_by_text("use_hyde").first).to_be_visible(timeout=120_000)
    page.close()


@pytest.fixture
def serving(installed: Installed) -> Iterator[str]:
    """The address of the installed deck, over a store with one flag that it made itself."""
    installed.run("quarterdeck", "flags", "import", "flags.json", "--reason", "first flag")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with (installed.folder / "log").open("w") as log:
        server = subprocess.Popen(
            [installed.programs / "quarterdeck-deck", "serve", "--port", str(port)],
            cwd=installed.folder, env=installed.environ, stdout=log, stderr=log,
        )  # fmt: skip
        try:
            for _ in range(1_200):
                assert server.poll() is None, (installed.folder / "log").read_text()
                try:
                    ask(f"http://127.0.0.1:{port}/healthz")
                    break
                except SourceUnavailable:
                    time.sleep(0.1)
            yield f"http://127.0.0.1:{port}"
        finally:
            server.terminate()
            server.wait(60)


@pytest.mark.slow
@pytest.mark.deep
def test_either_can_be_removed_and_the_other_is_whole(installed: Installed) -> None:
    installed.pip("uninstall", "--yes", "quarterdeck-deck")
    assert installed.list_missing("quarterdeck") == []
    assert "quarterdeck_deck" not in installed.run("python", "-c", "import quarterdeck; print(quarterdeck.Quarterdeck)")
    assert installed.run("quarterdeck", "drift", code=1) == ""
    installed.install("quarterdeck-deck")
    installed.pip("uninstall", "--yes", "quarterdeck")
    assert installed.list_missing("quarterdeck-deck") == []
    installed.run("python", "-c", "import quarterdeck_deck")
    assert not shutil.which("quarterdeck", path=str(installed.programs))
    installed.install("quarterdeck")
    assert "Serve the pages and the HTTP API" in installed.run("quarterdeck", "--help")

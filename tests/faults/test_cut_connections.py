"""PostgreSQL behind a network that is slow, or that cuts a connection in the middle of a commit."""

from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import text
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.testclient import TestClient

from app.http import api, backends
from core.audit.trail import list_audit, list_broken_audit_entries
from core.errors import Conflict
from core.flags.operations import create_flag, switch_flag
from core.flags.store import get_flag
from quarterdeck import Quarterdeck
from quarterdeck.definitions import boolean_flag
from quarterdeck.errors import SourceUnavailable
from quarterdeck.store import Store
from tests.faults.bad_days import ME, PATIENCE_S, flip, wait_until
from tests.faults.pg_proxy import Cut, Proxy, proxying
from tests.faults.test_postgresql import Server, server

__all__ = ["server"]
pytestmark = [pytest.mark.slow, pytest.mark.deep]

ROUNDS = 5


@pytest.fixture
def proxy(server: Server) -> Iterator[Proxy]:
    """A proxy before this test's server, whose store has one flag."""
    with closing(Store(server.url, create=True)) as store:
        create_flag(store, "use_hyde", boolean_flag(on=True), ME)
    place = server.url.partition("host=")[2]
    with proxying(f"{place}/.s.PGSQL.5432", "postgresql://postgres@127.0.0.1:{port}/deck?sslmode=disable") as running:
        yield running


def assert_whole(store: Store) -> None:
    """The audit chain is whole, the flag is as its last entry says, and the rollups count every row once."""
    assert list_broken_audit_entries(store) == ()
    flag, entries = get_flag(store, "production", "use_hyde"), list_audit(store, limit=None)
    assert (flag.version, flag.definition) == (len(entries), entries[0].after)
    with store.read() as connection:
        rows = connection.scalar(text("SELECT COUNT(*) FROM retrievals"))
        counted = connection.scalar(text("SELECT SUM(n) FROM rollups WHERE dimension = ''")) or 0
    assert counted == rows


@pytest.mark.parametrize("cut", Cut)
def test_a_flip_that_is_cut_in_mid_commit_happened_whole_or_not_at_all(cut: Cut, proxy: Proxy, server: Server) -> None:
    with closing(Store(proxy.url)) as store, closing(Store(server.url)) as direct:
        for number in range(ROUNDS):
            before = get_flag(store, "production", "use_hyde")
            proxy.arm(b"audit", cut)
            with pytest.raises(SourceUnavailable) as refused:
                flip(store, on=bool(number % 2))
            assert "\n" not in str(refused.value)
            assert str(refused.value).startswith("The store postgresql")
            expected = before.version + (cut is Cut.AFTER)
            assert wait_until(lambda: get_flag(direct, "production", "use_hyde").version == expected)  # noqa: B023
            assert_whole(direct)
            if cut is Cut.AFTER:  # who tries again with what was seen before is told
                with pytest.raises(Conflict):
                    switch_flag(store, before, ME, on=bool(number % 2))
        flip(store, on=True)
        assert_whole(direct)
        assert get_flag(direct, "production", "use_hyde").version == 2 + (ROUNDS if cut is Cut.AFTER else 0)
    assert proxy.cuts == ROUNDS


@pytest.mark.parametrize("cut", Cut)
def test_rows_of_a_client_that_is_cut_in_mid_commit_are_there_once(
    cut: Cut, proxy: Proxy, server: Server, tmp_path: Path
) -> None:
    with Quarterdeck(proxy.url, snapshot_path=tmp_path / "flags.json") as deck, closing(Store(server.url)) as direct:
        for number in range(ROUNDS):
            proxy.arm(b"retrievals", cut)
            for at in range(40):
                assert deck.log_retrieval(f"{number} {at}", 0.5)
            deck.flush(PATIENCE_S)
        assert deck.dropped == 0
        assert proxy.cuts >= 1
        with direct.read() as connection:
            stored = Counter(connection.scalars(text("SELECT query FROM retrievals")))
        assert stored == Counter(f"{number} {at}" for number in range(ROUNDS) for at in range(40))
        assert_whole(direct)


@pytest.mark.parametrize("cut", Cut)
def test_a_request_that_is_cut_in_mid_commit_may_be_sent_again_under_its_key(
    cut: Cut, proxy: Proxy, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QUARTERDECK_DATABASE_URL", proxy.url)
    backends.close()
    client = TestClient(Starlette(middleware=[Middleware(api.ApiAhead)]), raise_server_exceptions=False)
    for number in range(ROUNDS):
        sent = {"json": {"query": f"row {number}", "score": 0.5}, "headers": {"Idempotency-Key": f"key-{number}"}}
        proxy.arm(b"retrievals", cut)
        answers = [client.post("/v1/retrievals", **sent)]
        while answers[-1].status_code == 503:
            assert answers[-1].json()["error"].startswith("The store postgresql")
            answers.append(client.post("/v1/retrievals", **sent))
        assert [answer.status_code for answer in answers] == [503, 201], [answer.text for answer in answers]
    backends.close()
    with closing(Store(server.url)) as direct:
        with direct.read() as connection:
            stored = Counter(connection.scalars(text("SELECT query FROM retrievals")))
        assert stored == Counter(f"row {number}" for number in range(ROUNDS))
        assert_whole(direct)


def test_a_slow_database_delays_changes_and_no_answer(proxy: Proxy, server: Server, tmp_path: Path) -> None:
    """A tenth of a second for every packet: evaluations come from memory, rows wait in the queue."""
    with (
        Quarterdeck(proxy.url, snapshot_path=tmp_path / "flags.json") as deck,
        closing(Store(proxy.url)) as store,
        closing(Store(server.url)) as direct,
    ):
        assert wait_until(lambda: deck.is_enabled("use_hyde", "u1"))
        proxy.delay_s = 0.1
        for at in range(500):
            assert deck.is_enabled("use_hyde", "u1")
            assert deck.log_retrieval(f"slow {at}", 0.5)
        flip(store, on=False)
        assert wait_until(lambda: not deck.is_enabled("use_hyde", "u1"))
        deck.flush(PATIENCE_S)
        with direct.read() as connection:
            assert connection.scalar(text("SELECT COUNT(*) FROM retrievals")) == 500
        assert deck.dropped == 0
        assert_whole(direct)

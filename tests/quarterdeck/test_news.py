"""Flips over PostgreSQL's LISTEN and NOTIFY. The clients poll every ten minutes, so they rely on notifications."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing

import pytest
from sqlalchemy import text

from core.audit.acts import Act
from core.flags.operations import create_flag, switch_flag
from core.flags.store import get_flag
from quarterdeck import Quarterdeck
from quarterdeck.definitions import boolean_flag
from quarterdeck.errors import SourceUnavailable
from quarterdeck.news import News
from quarterdeck.store import Store
from tests.backends import copy_empty_store

ME = Act("ada", "because")
NEVER_S = 600.0
LISTENERS = "FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'LISTEN%'"
FLIP = """
import sys
from core.audit.acts import Act
from core.flags.store import get_flag
from core.flags.operations import switch_flag
from quarterdeck.store import Store
store = Store(sys.argv[1])
switch_flag(store, get_flag(store, "production", "use_reranker"), Act("bob", "from elsewhere"), on=False)
"""


@pytest.fixture
def shared() -> Iterator[Store]:
    """A store in PostgreSQL with one flag that is on."""
    with closing(Store(copy_empty_store())) as store:
        create_flag(store, "use_reranker", boolean_flag(on=True), ME)
        yield store


@pytest.fixture
def listening(shared: Store, tmp_path) -> Iterator[Quarterdeck]:
    """A client that receives notifications."""
    url = shared.url.render_as_string(hide_password=False)
    with Quarterdeck(url, poll_s=NEVER_S, snapshot_path=tmp_path / "snapshot.json") as deck:
        assert wait_until(lambda: count_listeners(shared) == 1)
        yield deck


def wait_until(true) -> bool:
    deadline = time.monotonic() + NEVER_S / 10
    while not true() and time.monotonic() < deadline:
        time.sleep(0.02)
    return bool(true())


def count_listeners(store: Store) -> int:
    with store.read() as connection:
        return connection.scalar(text(f"SELECT count(*) {LISTENERS}"))


def cut_off_listeners(store: Store) -> None:
    with store.begin() as connection:
        assert connection.execute(text(f"SELECT pg_terminate_backend(pid) {LISTENERS}")).all() == [(True,)]


def flip(store: Store, *, on: bool) -> None:
    switch_flag(store, get_flag(store, "production", "use_reranker"), ME, on=on)


@pytest.mark.deep
@pytest.mark.slow
def test_a_flip_in_another_process_is_heard_long_before_the_next_look(shared, listening):
    url = shared.url.render_as_string(hide_password=False)
    assert listening.is_enabled("use_reranker", "u1")
    subprocess.run([sys.executable, "-c", FLIP, url], check=True, timeout=120)
    assert wait_until(lambda: not listening.is_enabled("use_reranker", "u1"))


@pytest.mark.deep
@pytest.mark.slow
def test_a_lost_connection_is_made_again_and_what_was_missed_is_looked_for(shared, listening):
    cut_off_listeners(shared)
    flip(shared, on=False)
    assert wait_until(lambda: not listening.is_enabled("use_reranker", "u1"))
    assert wait_until(lambda: count_listeners(shared) == 1)
    flip(shared, on=True)
    assert wait_until(lambda: listening.is_enabled("use_reranker", "u1"))


@pytest.mark.deep
@pytest.mark.slow
def test_a_client_that_may_not_listen_any_more_looks_at_its_poll_and_says_so_once(
    shared, tmp_path, monkeypatch, caplog
):
    caplog.set_level("INFO", "quarterdeck")
    url = shared.url.render_as_string(hide_password=False)
    with Quarterdeck(url, poll_s=0.1, snapshot_path=tmp_path / "snapshot.json") as deck:
        assert wait_until(lambda: count_listeners(shared) == 1)
        monkeypatch.setattr(Store, "listen", refuse)
        cut_off_listeners(shared)
        for on in (False, True, False):
            flip(shared, on=on)
            assert wait_until(lambda on=on: deck.is_enabled("use_reranker", "u1") is on)
        assert count_listeners(shared) == 0
    assert caplog.text.count("the store sends no notifications") == 1


def refuse(store: Store, channel: str) -> None:
    raise SourceUnavailable("no more connections are free")


@pytest.mark.slow
def test_a_closed_client_leaves_no_connection_behind(shared, listening):
    listening.close()
    assert wait_until(lambda: count_listeners(shared) == 0)


@pytest.mark.deep
@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_hears_by_itself_and_the_parent_goes_on_hearing(shared, listening):
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:  # whatever happens here, pytest must not go on twice
        try:
            os.write(writer, b"off" if wait_until(lambda: not listening.is_enabled("use_reranker", "u1")) else b"on")
        finally:
            os._exit(0)
    assert wait_until(lambda: count_listeners(shared) == 2)
    flip(shared, on=False)
    os.close(writer)
    assert os.read(reader, 3) == b"off"
    assert os.waitpid(child, 0)[1] == 0
    os.close(reader)
    assert wait_until(lambda: not listening.is_enabled("use_reranker", "u1"))
    flip(shared, on=True)
    assert wait_until(lambda: listening.is_enabled("use_reranker", "u1"))


@pytest.mark.sqlite_only
def test_where_nothing_is_announced_waiting_ends_with_its_time_or_when_told_to_stop(store):
    stop = threading.Event()
    with closing(News(store)) as news:
        news.wait(stop, 0.01)
        waiting = threading.Thread(target=news.wait, args=(stop, NEVER_S))
        waiting.start()
        stop.set()
        waiting.join(NEVER_S / 10)
        assert not waiting.is_alive()

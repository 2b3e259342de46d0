"""Failures of a store in a file: a full disk, a read-only one, a lock held for long, another file in its place."""

import os
import resource
import shutil
import sqlite3
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx2
import pytest
from sqlalchemy import text

from core.audit.trail import list_audit, list_broken_audit_entries
from core.flags.operations import create_flag
from quarterdeck import Quarterdeck
from quarterdeck.definitions import boolean_flag
from quarterdeck.errors import SourceUnavailable
from quarterdeck.store import Store
from tests.browser.conftest import Server, serving
from tests.faults.bad_days import ME, PATIENCE_S, flip, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.deep]

LOCKED_S = 30.0
DISK_BYTES = 4 << 20


def count_rows(store: Store) -> int:
    with store.read() as connection:
        return int(connection.scalar(text("SELECT COUNT(*) FROM retrievals")) or 0)


def assert_whole(store: Store) -> None:
    """The file is sound, the audit chain whole, and every row is in the rollups once."""
    assert list_broken_audit_entries(store) == ()
    with store.read() as connection:
        assert connection.scalar(text("PRAGMA integrity_check")) == "ok"
        counted = (
            connection.scalar(
                text("SELECT SUM(n + unmapped + unscored + empty + failed) FROM rollups WHERE dimension = ''")
            )
            or 0
        )
    assert counted == count_rows(store)


class SmallDisk:
    """A disk of four megabytes: a tmpfs where we may mount one, else a limit on the size of each file."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        mounted = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(folder)]
        self.is_mounted = os.geteuid() == 0 and subprocess.run(mounted, capture_output=True).returncode == 0
        if not self.is_mounted:
            resource.setrlimit(resource.RLIMIT_FSIZE, (DISK_BYTES, self._limits[1]))

    def grow(self) -> None:
        if self.is_mounted:
            subprocess.run(["mount", "-o", f"remount,size={16 * DISK_BYTES}", str(self.folder)], check=True)
        else:
            resource.setrlimit(resource.RLIMIT_FSIZE, self._limits)

    def give_back(self) -> None:
        self.grow()
        if self.is_mounted:
            subprocess.run(["umount", "--lazy", str(self.folder)], check=True)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    folder = tmp_path / "disk"
    folder.mkdir()
    small = SmallDisk(folder)
    yield small
    small.give_back()


def test_a_full_disk_refuses_in_one_line_and_loses_nothing_of_what_was_accepted(
    disk: SmallDisk, tmp_path: Path
) -> None:
    url, accepted = f"sqlite:///{disk.folder / 'deck.db'}", 0
    with closing(Store(url, create=True)) as store, Quarterdeck(url, snapshot_path=disk.folder / "flags.json") as deck:
        create_flag(store, "use_hyde", boolean_flag(on=True), ME)
        assert wait_until(lambda: deck.is_enabled("use_hyde", "u1"))
        with pytest.raises(SourceUnavailable) as refused:
            for _ in range(100):
                accepted += sum(
                    deck.log_retrieval(f"{accepted + at} {'x' * 900}", 0.5) is not None for at in range(100)
                )
                deck.flush(5)
        assert "\n" not in str(refused.value)
        assert "full" in str(refused.value) or "I/O" in str(refused.value)
        landed = 1
        while True:  # small writes may still succeed for a while
            try:
                flip(store, on=landed % 2 == 0)
            except SourceUnavailable as error:
                assert "\n" not in str(error)
                break
            landed += 1
        assert deck.is_enabled("use_hyde", "u1") in (True, False)
        assert len(list_audit(store)) == landed
        disk.grow()
        deck.flush(PATIENCE_S)
        assert (count_rows(store), deck.dropped) == (accepted, 0)
        flip(store, on=landed % 2 == 0)
        assert len(list_audit(store)) == landed + 1
        assert_whole(store)
        print(f"{accepted:,} retrievals accepted and {landed} changes made on a full disk: 0 lost")


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """A folder that nobody may write to: a mount where we may, for root writes past permissions."""
    if os.geteuid() == 0:
        if subprocess.run(["mount", "--bind", str(folder), str(folder)], capture_output=True).returncode:
            pytest.skip("root writes past permissions, and nothing can be mounted here")
        subprocess.run(["mount", "-o", "remount,ro,bind", str(folder)], check=True)
        yield
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
    else:
        kept = {path: path.stat().st_mode for path in (folder, *folder.iterdir())}
        for path in kept:
            path.chmod(0o555 if path.is_dir() else 0o444)
        yield
        for path, mode in kept.items():
            path.chmod(mode)


@pytest.mark.parametrize("left_open", [True, False], ids=["while in use", "after a clean stop"])
def test_a_read_only_store_is_told_as_that_and_what_is_queued_waits_for_it(left_open: bool, tmp_path: Path) -> None:
    folder = tmp_path / "store"
    folder.mkdir()
    url = f"sqlite:///{folder / 'deck.db'}"
    store = Store(url, create=True)
    create_flag(store, "use_hyde", boolean_flag(on=True), ME)
    with Quarterdeck(url, snapshot_path=tmp_path / "flags.json") as deck:
        if not left_open:
            store.close()
            deck._store.close()  # type: ignore[union-attr]
        with read_only(folder):
            assert deck.is_enabled("use_hyde", "u1")
            deck.log_retrieval("what is an mbuf", 0.5)
            with pytest.raises(SourceUnavailable, match=r"1 retrievals are not stored") as unstored:
                deck.flush(2)
            with pytest.raises(SourceUnavailable) as refused, closing(Store(url)) as another:
                flip(another, on=False)
            for error in (unstored, refused):
                assert "\n" not in str(error.value)
                assert "read" in str(error.value) and "only" in str(error.value), error.value
        deck.flush(PATIENCE_S)
        with closing(Store(url)) as again:
            assert count_rows(again) == 1
            assert len(list_audit(again)) == 1
            flip(again, on=False)
            assert_whole(again)
        assert wait_until(lambda: not deck.is_enabled("use_hyde", "u1"))
    store.close()


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Server]:
    home = tmp_path / "home"
    home.mkdir()
    with serving(home) as server:
        yield server
    assert "Traceback" not in (home / "serve.log").read_text()


def flags_of(server: Server) -> set[str]:
    answer = httpx2.get(f"{server.address}/flagd/flags.json", timeout=PATIENCE_S)
    return set(answer.json().get("flags", ())) if answer.status_code == 200 else set()


def post(server: Server, *queries: str) -> httpx2.Response:
    rows = [{"query": query, "score": 0.5} for query in queries]
    return httpx2.post(f"{server.address}/v1/retrievals", json=rows, timeout=PATIENCE_S)


def test_a_store_that_is_deleted_and_replaced_under_a_running_server_is_followed(
    served: Server, tmp_path: Path
) -> None:
    path = Path(served.database_url.removeprefix("sqlite:///"))
    with closing(Store(served.database_url, create=True)) as store:
        create_flag(store, "of_the_first", boolean_flag(on=True), ME)
    assert wait_until(lambda: flags_of(served) == {"of_the_first"})
    assert post(served, "before").status_code == 201
    for file in path.parent.glob(f"{path.name}*"):
        file.unlink()
    assert wait_until(lambda: post(served, "after it was deleted").status_code == 201)
    with closing(Store(served.database_url)) as store:
        assert count_rows(store) >= 1
    assert wait_until(lambda: flags_of(served) == set())
    other = tmp_path / "other.db"
    with closing(Store(f"sqlite:///{other}", create=True)) as store:
        create_flag(store, "of_the_second", boolean_flag(on=True), ME)
    for beside in ("-wal", "-shm"):
        path.with_name(path.name + beside).unlink(missing_ok=True)
    shutil.move(other, path)
    assert wait_until(lambda: flags_of(served) == {"of_the_second"})
    assert wait_until(lambda: httpx2.get(f"{served.address}/readyz").status_code == 200)
    assert wait_until(lambda: post(served, "after it was replaced").status_code == 201)
    with closing(Store(served.database_url)) as store:
        assert [entry.target for entry in list_audit(store)] == ["of_the_second"]
        assert_whole(store)


def test_a_store_that_is_replaced_by_one_with_the_same_count_of_changes_is_noticed(tmp_path: Path) -> None:
    url, other = f"sqlite:///{tmp_path / 'deck.db'}", tmp_path / "other.db"
    for name, place in (("first", url), ("second", f"sqlite:///{other}")):
        with closing(Store(place, create=True)) as store:
            create_flag(store, name, boolean_flag(on=True), ME)
    with Quarterdeck(url, poll_s=0.05, snapshot_path=tmp_path / "flags.json") as deck:
        assert deck.is_enabled("first", "u1")
        other.replace(tmp_path / "deck.db")
        assert wait_until(lambda: deck.is_enabled("second", "u1") and not deck.is_enabled("first", "u1"))


def test_a_database_locked_for_half_a_minute_loses_nothing_that_was_accepted(served: Server, tmp_path: Path) -> None:
    with closing(Store(served.database_url, create=True)) as store, Quarterdeck(
        served.database_url, snapshot_path=tmp_path / "flags.json"
    ) as deck:  # fmt: skip
        create_flag(store, "use_hyde", boolean_flag(on=True), ME)
        assert wait_until(lambda: deck.is_enabled("use_hyde", "u1") and flags_of(served) == {"use_hyde"})
        accepted, received = 0, 0
        with closing(sqlite3.connect(str(store.url.database), isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            locked_at = time.monotonic()
            with pytest.raises(SourceUnavailable, match=r"failed: database is locked\. Another program"):
                flip(store, on=False)
            while time.monotonic() < locked_at + LOCKED_S:
                accepted += sum(
                    deck.log_retrieval(f"from the client {accepted + at}", 0.5) is not None for at in range(100)
                )
                assert deck.is_enabled("use_hyde", "u1")
                assert flags_of(served) == {"use_hyde"}
                answer = post(served, "while it was locked")
                assert answer.status_code in (201, 503)
                assert "Traceback" not in answer.text
                received += answer.status_code == 201
                time.sleep(0.2)
            other.execute("ROLLBACK")
        deck.flush(PATIENCE_S)
        assert wait_until(lambda: post(served, "afterwards").status_code == 201)
        flip(store, on=False)
        assert wait_until(lambda: not deck.is_enabled("use_hyde", "u1") and flags_of(served) == {"use_hyde"})
        assert count_rows(store) == accepted + received + 1
        assert [entry.action for entry in list_audit(store)] == ["flag.update", "flag.create"]
        assert_whole(store)
        print(f"locked for {LOCKED_S:g} s: {accepted:,} retrievals accepted meanwhile, 0 lost")


@pytest.mark.parametrize("days", [-400, 400])
def test_a_clock_that_jumps_loses_no_row_no_entry_and_no_flip(days: int, url: str, tmp_path: Path, monkeypatch) -> None:
    with closing(Store(url, create=True)) as store, Quarterdeck(
        url, poll_s=0.05, snapshot_path=tmp_path / "flags.json"
    ) as deck:  # fmt: skip
        create_flag(store, "use_hyde", boolean_flag(on=True), ME)
        deck.log_retrieval("before", 0.5)
        deck.flush()
        there = time.time_ns() + days * 86_400 * 10**9
        monkeypatch.setattr(time, "time_ns", lambda: there)
        monkeypatch.setattr(time, "time", lambda: there / 10**9)
        flip(store, on=False)
        deck.log_retrieval("after", 0.5)
        deck.flush()
        assert wait_until(lambda: not deck.is_enabled("use_hyde", "u1"))
        monkeypatch.undo()
        flip(store, on=True)
        assert wait_until(lambda: deck.is_enabled("use_hyde", "u1"))
        entries = list_audit(store)
        assert [(entry.action, entry.entry_id) for entry in entries] == [
            ("flag.update", 3), ("flag.update", 2), ("flag.create", 1),
        ]  # fmt: skip
        assert abs(entries[1].ts - datetime.now(UTC)) > timedelta(days=399)
        assert count_rows(store) == 2
        assert list_broken_audit_entries(store) == ()


def test_threads_that_write_while_the_disk_fills_all_hear_of_it(disk: SmallDisk) -> None:
    url = f"sqlite:///{disk.folder / 'deck.db'}"
    with closing(Store(url, create=True)) as store:
        create_flag(store, "use_hyde", boolean_flag(on=True), ME)
        landed, refused = [], []

        def write(number: int) -> None:
            for at in range(200):
                try:
                    create_flag(store, f"flag-{number}-{at}", boolean_flag(on=True, description="x" * 9_000), ME)
                except SourceUnavailable as error:
                    refused.append(str(error))
                    return
                landed.append(f"flag-{number}-{at}")

        threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(refused) == 4
        disk.grow()
        audited = {entry.target for entry in list_audit(store, limit=10_000)}
        assert audited == {"use_hyde", *landed}
        assert_whole(store)

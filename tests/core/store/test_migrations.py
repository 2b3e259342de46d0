"""Stores of earlier releases, kept as SQL under tests/fixtures/stores, migrated to this one with their data."""

import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import inspect, select, text

from core.audit.acts import Act
from core.audit.settings import Family, get_setting, setting_key
from core.audit.trail import list_audit, list_broken_audit_entries
from core.config import PROJECT
from core.errors import Conflict, SourceUnavailable
from core.flags.operations import change_rollout
from core.flags.store import get_flag
from core.indexes.registry import get_index, list_aliases
from core.log.retrievals import list_daily_scores, list_days
from core.store.migrator import Migration, list_revisions, migrate
from quarterdeck.client import Quarterdeck
from quarterdeck.definitions import rollout_pct
from quarterdeck.recorder import append_retrievals
from quarterdeck.retrieval import Retrieval
from quarterdeck.schema import REVISION, metadata
from quarterdeck.store import Store
from tests.backends import make_url

STORES = PROJECT / "tests" / "fixtures" / "stores"
FORMER = sorted(path.name.removesuffix(".sql").split(".") for path in STORES.glob("*.sql"))
ME = Act("bob", "after the upgrade")

Open = Callable[..., Store]


def name_of(former: list[str]) -> str:
    return "-".join(former)


def mark_of(former: list[str]) -> Any:
    return pytest.param(former, id=name_of(former), marks=[pytest.mark.slow] if former[1] == "postgresql" else [])


MARKED = [mark_of(former) for former in FORMER]


def make_store_of(revision: str, backend: str, folder: Path) -> str:
    """Make the store that an earlier release left; return its URL."""
    url, script = make_url(backend, folder), (STORES / f"{revision}.{backend}.sql").read_text(encoding="utf-8")
    if backend == "sqlite":
        with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as connection, connection:
            connection.executescript(script)
        connection.close()
    else:
        with psycopg.connect(url, autocommit=True) as server:
            server.execute(script.encode())
    return url


@pytest.fixture
def open_store() -> Iterator[Open]:
    opened: list[Store] = []

    def open_it(url: str, **options: Any) -> Store:
        opened.append(Store(url, **options))
        return opened[-1]

    yield open_it
    for store in opened:
        store.close()


def shape_of(store: Store) -> dict[str, Any]:
    """Tables, columns, keys, indexes and triggers, as the database tells them."""
    with store.read() as connection:
        found = inspect(connection)
        triggers = (
            "SELECT name, sql FROM sqlite_master WHERE type = 'trigger' OR name = 'retrievals_low'"
            if store.dialect == "sqlite"
            else "SELECT proname, prosrc FROM pg_proc WHERE proname = 'retrievals_roll_up'"
        )
        return {
            "triggers": sorted(map(tuple, connection.execute(text(triggers)))),
            **{
                table: {
                    "columns": sorted(
                        (each["name"], str(each["type"]), each["nullable"]) for each in found.get_columns(table)
                    ),
                    "key": found.get_pk_constraint(table)["constrained_columns"],
                    "indexes": sorted((each["name"], tuple(each["column_names"])) for each in found.get_indexes(table)),
                    "unique": sorted(tuple(each["column_names"]) for each in found.get_unique_constraints(table)),
                }
                for table in found.get_table_names()
            },
        }


def test_every_earlier_revision_is_kept_as_a_store_of_each_database() -> None:
    assert list_revisions()[-1] == REVISION
    assert {tuple(each) for each in FORMER} == {
        (revision, backend) for revision in list_revisions()[:-1] for backend in ("sqlite", "postgresql")
    }


@pytest.mark.parametrize("former", MARKED)
def test_a_store_of_an_earlier_release_is_upgraded_with_its_data(
    former: list[str], tmp_path: Path, open_store: Open
) -> None:
    revision, backend = former
    url = make_store_of(revision, backend, tmp_path)
    store = open_store(url)
    with (
        pytest.raises(SourceUnavailable, match=f"schema revision {revision}, .* Run: quarterdeck migrate"),
        store.read(),
    ):
        pass
    assert migrate(store) == Migration(revision, REVISION)
    assert migrate(store) == Migration(REVISION, REVISION)
    flag = get_flag(store, "production", "use_hyde")
    assert (rollout_pct(flag.definition), flag.version, flag.updated_by) == (35, 2, "ada")
    assert get_index(store, "docs-v1").chunks == 40
    assert [(alias.alias, alias.index_name) for alias in list_aliases(store)] == [("default", "docs-v1")]
    assert get_setting(store, setting_key(Family.ACCEPTED_LEVEL, "production"))[0] == {"accepted_on": "2026-03-01"}
    assert list_broken_audit_entries(store) == ()
    assert len(list_audit(store)) == 8
    assert [(day.day, day.count) for day in list_daily_scores(store)] == [(date(2026, 2, 27), 1), (date(2026, 3, 1), 2)]
    with store.read() as connection:
        rows = connection.execute(text("SELECT query, score, arm FROM retrievals ORDER BY id")).all()
        vector = connection.execute(select(metadata.tables["vectors"].c.vector)).scalar_one()
    assert rows[2] == ("naïve “quotes” 'single' 漢字", 1.0, "green")
    assert bytes(vector) == b"\x00\x00\x80?" * 4


@pytest.mark.parametrize("former", MARKED)
def test_an_upgraded_store_has_the_shape_of_a_new_one(former: list[str], tmp_path: Path, open_store: Open) -> None:
    upgraded = open_store(make_store_of(*former, tmp_path))
    migrate(upgraded)
    fresh = open_store(make_url(former[1], tmp_path), create=True)
    assert shape_of(upgraded) == shape_of(fresh)


@pytest.mark.parametrize("former", MARKED)
def test_an_upgraded_store_is_written_to_and_read_as_a_new_one(
    former: list[str], tmp_path: Path, open_store: Open
) -> None:
    url = make_store_of(*former, tmp_path)
    store = open_store(url)
    migrate(store)
    change_rollout(store, get_flag(store, "production", "use_hyde"), 60, ME)
    append_retrievals(store, [Retrieval(datetime(2026, 3, 2, 9, tzinfo=UTC), "new", 0.4)])
    with store.begin() as connection:  # another program inserts: the trigger counts it
        moment = int(datetime(2026, 3, 2, 10, tzinfo=UTC).timestamp() * 1000)
        connection.execute(text(f"INSERT INTO retrievals (ts_ms, query, score) VALUES ({moment}, 'theirs', 0.2)"))
    assert [day.count for day in list_daily_scores(store)] == [1, 2, 2]
    assert [(day.count, day.empty) for day in list_days(store)][1] == (2, 1)
    assert list_broken_audit_entries(store) == ()
    with Quarterdeck(url, snapshot_path=tmp_path / "snapshot.json") as deck:
        assert deck.active_index() == "docs-v1"


@pytest.mark.parametrize("backend", ["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
def test_of_two_servers_that_start_at_once_one_upgrades(backend: str, tmp_path: Path, open_store: Open) -> None:
    url = make_store_of("0001", backend, tmp_path)
    stores, done, faults = [open_store(url) for _ in range(6)], [], []
    line = threading.Barrier(len(stores))

    def start(store: Store) -> None:
        line.wait()
        try:
            done.append(migrate(store).was_needed)
        except SourceUnavailable as error:
            faults.append(error)

    threads = [threading.Thread(target=start, args=(store,)) for store in stores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (sorted(done), faults) == ([False] * 5 + [True], [])
    assert [day.count for day in list_daily_scores(stores[0])] == [1, 2]


# Upgrades a store, but stands still in the last step until it is killed.
STANDING_STILL = """
import sys, time
from core.store import migrator
from quarterdeck.store import Store
def stand(connection):
    print("in the middle", flush=True)
    time.sleep(600)
migrator.make_triggers = stand
migrator.migrate(Store(sys.argv[1]))
"""


@pytest.mark.deep
@pytest.mark.slow
@pytest.mark.parametrize("backend", ["sqlite", "postgresql"])
def test_a_server_killed_in_the_middle_of_an_upgrade_leaves_the_former_store(
    backend: str, tmp_path: Path, open_store: Open
) -> None:
    url = make_store_of("0001", backend, tmp_path)
    killed = subprocess.Popen([sys.executable, "-c", STANDING_STILL, url], stdout=subprocess.PIPE, text=True)
    assert killed.stdout is not None and killed.stdout.readline() == "in the middle\n"
    os.kill(killed.pid, signal.SIGKILL)
    killed.communicate()
    store = open_store(url)
    assert store.find_revision() == "0001"
    assert migrate(store) == Migration("0001", REVISION)
    assert [day.count for day in list_daily_scores(store)] == [1, 2]


def test_a_store_of_a_newer_release_is_left_alone_in_one_line(store: Store, url: str) -> None:
    with store.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(Conflict, match=f"schema revision 9999, this release knows {REVISION}. Upgrade Quarterdeck.$"):
        migrate(store)
    assert store.find_revision() == "9999"


def test_where_there_is_no_store_yet_there_is_nothing_to_do(tmp_path: Path, open_store: Open) -> None:
    assert migrate(open_store(f"sqlite:///{tmp_path / 'none' / 'deck.db'}")) == Migration(REVISION, REVISION)
    assert not (tmp_path / "none").exists()

import sqlite3
import threading
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import select, text

from core.log.retrievals import list_daily_scores
from quarterdeck.errors import InvalidInput, SourceUnavailable
from quarterdeck.recorder import append_retrievals
from quarterdeck.retrieval import Retrieval
from quarterdeck.schema import REVISION, retrievals
from quarterdeck.store import Store, fetch_many

RETRIEVAL = Retrieval(datetime(2026, 3, 1, 12, tzinfo=UTC), "what is an mbuf", 0.5)


@pytest.mark.parametrize("url", ["", "nonsense", "mysql://x/y", "sqlite://", "sqlite:///:memory:"])
def test_a_url_that_cannot_be_a_shared_store_is_refused_in_one_line(url):
    with pytest.raises(InvalidInput, match="^database URL: "):
        Store(url)


@pytest.mark.parametrize(("asked", "level"), [("", 1), ("?synchronous=NORMAL", 1), ("?synchronous=full", 2)])
def test_a_file_is_written_as_durably_as_its_address_says(tmp_path, asked, level):
    store = Store(f"sqlite:///{tmp_path / 'deck.db'}{asked}", create=True)
    with store.begin() as connection:
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == level
    store.close()


def test_another_durability_is_refused(tmp_path):
    with pytest.raises(InvalidInput, match="synchronous must be NORMAL or FULL, not 'OFF'"):
        Store(f"sqlite:///{tmp_path / 'deck.db'}?synchronous=off")


def test_a_missing_store_is_reported_and_never_created_by_a_reader(tmp_path):
    path = tmp_path / "none" / "deck.db"
    with pytest.raises(SourceUnavailable, match="No store at .*quarterdeck demo"), Store(f"sqlite:///{path}").read():
        pass
    assert not path.parent.exists()


def test_a_damaged_file_gives_one_line(tmp_path):
    path = tmp_path / "deck.db"
    path.write_bytes(b"this is no database" * 100)
    with pytest.raises(SourceUnavailable, match="file is not a database"), Store(f"sqlite:///{path}").read():
        pass


def test_a_database_of_others_is_not_taken_for_a_store(tmp_path):
    path = tmp_path / "other.db"
    with closing(sqlite3.connect(path)) as other, other:
        other.execute("CREATE TABLE things (id)")
    with pytest.raises(SourceUnavailable, match="holds no Quarterdeck tables"), Store(f"sqlite:///{path}").read():
        pass


def test_a_store_of_a_newer_release_is_refused_in_one_line(url, store):
    with store.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(SourceUnavailable, match="schema revision 9999.*Upgrade Quarterdeck"), Store(url).read():
        pass


def test_a_store_of_an_older_release_is_refused_with_the_command_that_upgrades_it(url, store):
    with store.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '0001'"))
    for opened in (Store(url), Store(url, create=True), Store(url, tolerant=True)):
        with (
            pytest.raises(SourceUnavailable, match="schema revision 0001, .* Run: quarterdeck migrate.$"),
            opened.read(),
        ):
            pass
        opened.close()


def test_a_newer_store_that_serves_older_clients_is_open_to_them_and_to_nobody_else(url, store):
    with store.begin() as connection:
        connection.execute(text(f"UPDATE alembic_version SET version_num = '9999_serves_{REVISION}'"))
    client = Store(url, create=True, tolerant=True)
    append_retrievals(client, [RETRIEVAL])
    client.close()
    with pytest.raises(SourceUnavailable, match="Upgrade Quarterdeck"), Store(url).read():
        pass


def test_a_reading_transaction_cannot_write(store):
    with pytest.raises(SourceUnavailable, match="read-?only"), store.read() as connection:
        connection.execute(text("DELETE FROM flags"))


def test_many_rows_come_in_their_order_whatever_their_texts_hold(store):
    texts = ("a\nb", "a\u2028b\x85c", '"],["', "\\n", "\u00e9\t\x1f", "plain")
    asked = [replace(RETRIEVAL, query=f"{number} {texts[number % len(texts)]}") for number in range(2_500)]
    append_retrievals(store, asked)
    columns = retrievals.c.query, retrievals.c.score, retrievals.c.cost_usd
    with store.read() as connection:
        assert list(fetch_many(connection, select(*columns).where(retrievals.c.score > 2))) == []
        found = fetch_many(connection, select(*columns).order_by(retrievals.c.id.desc()))
        assert [tuple(row) for row in found] == [(each.query, 0.5, None) for each in reversed(asked)]


def test_a_failed_transaction_leaves_nothing_behind(store):
    with pytest.raises(RuntimeError), store.begin() as connection:
        connection.execute(text("INSERT INTO settings VALUES ('a', '1', 1)"))
        raise RuntimeError
    with store.read() as connection:
        assert connection.scalar(text("SELECT COUNT(*) FROM settings")) == 0


@pytest.mark.sqlite_only("it is about a file")
def test_a_locked_store_is_reported_with_its_name(url, store):
    with closing(sqlite3.connect(str(store.url.database), isolation_level=None)) as blocker, blocker:
        blocker.execute("BEGIN IMMEDIATE")
        with pytest.raises(SourceUnavailable, match="deck.db failed: database is locked"):
            with Store(url, wait_s=0.05).begin():
                pass
        blocker.execute("ROLLBACK")


def test_two_that_open_an_empty_store_at_once_make_its_tables_once(url):
    stores, faults = [Store(url, create=True) for _ in range(8)], []

    def open_it(opened: Store) -> None:
        try:
            with opened.begin() as connection:
                assert connection.scalar(text("SELECT COUNT(*) FROM alembic_version")) == 1
        except SourceUnavailable as error:
            faults.append(error)

    threads = [threading.Thread(target=open_it, args=(each,)) for each in stores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for each in stores:
        each.close()
    assert faults == []


def test_a_password_never_shows_in_the_name_of_a_store():
    assert "secret" not in Store("postgresql://deck:secret@127.0.0.1:1/deck").name


@pytest.mark.sqlite_only("it is about a file")
def test_a_store_that_is_replaced_while_it_is_open_is_opened_again(url, store, tmp_path):
    append_retrievals(store, [RETRIEVAL])
    other = Store(f"sqlite:///{tmp_path / 'other.db'}", create=True)
    append_retrievals(other, [replace(RETRIEVAL) for _ in range(3)])
    other.close()
    for beside in ("deck.db-wal", "deck.db-shm"):
        (tmp_path / beside).unlink(missing_ok=True)  # they belong to the former file
    (tmp_path / "other.db").replace(tmp_path / "deck.db")
    assert sum(day.count for day in list_daily_scores(store)) == 3
    append_retrievals(store, [replace(RETRIEVAL)])
    assert sum(day.count for day in list_daily_scores(store)) == 4


@pytest.mark.sqlite_only("it is about a file")
def test_a_store_that_is_removed_while_it_is_open_is_reported_and_found_again(url, store, tmp_path):
    reader = Store(url)
    append_retrievals(store, [RETRIEVAL])
    assert len(list_daily_scores(reader)) == 1
    store.close()
    for path in tmp_path.glob("deck.db*"):
        path.unlink()
    with pytest.raises(SourceUnavailable, match="No store at"):
        list_daily_scores(reader)
    append_retrievals(store, [replace(RETRIEVAL), replace(RETRIEVAL)])
    assert [day.count for day in list_daily_scores(reader)] == [2]
    reader.close()


@pytest.mark.deep
def test_several_who_open_a_new_store_at_once_all_get_it(tmp_path: Path) -> None:
    faults: list[Exception] = []

    def open_it(url: str, together: threading.Barrier) -> None:
        together.wait()
        try:
            with closing(Store(url, create=True)) as store, store.begin():
                pass
        except SourceUnavailable as error:
            faults.append(error)

    for round_ in range(40):
        together = threading.Barrier(4)
        url = f"sqlite:///{tmp_path / f'{round_}.db'}"
        threads = [threading.Thread(target=open_it, args=(url, together)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert faults == []

"""Backups of a store that is in use: whole, checked, and brought back as they were."""

import json
import random
import threading
import zipfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import CliRunner
from sqlalchemy import delete, select

from app.cli import main
from core.audit.acts import Act
from core.audit.trail import list_audit, list_broken_audit_entries
from core.cases.operations import NewCase, add_cases
from core.errors import Conflict, InvalidInput, NotFound, SourceUnavailable
from core.flags.operations import create_flag, switch_flag
from core.flags.store import get_flag
from core.store.backups import restore_backup, verify_backup, write_backup
from quarterdeck.definitions import boolean_flag
from quarterdeck.recorder import append_retrievals
from quarterdeck.retrieval import Retrieval
from quarterdeck.schema import audit, metadata
from quarterdeck.store import Store
from tests.backends import make_url

NOW = datetime(2026, 11, 25, 16, 0, tzinfo=UTC)
ME = Act("ada", "a test")
KINDS = ["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)]


def everything_in(store: Store) -> dict[str, list[tuple[object, ...]]]:
    with store.read() as connection:
        return {t.name: sorted(map(tuple, connection.execute(select(t))), key=repr) for t in metadata.sorted_tables}


@pytest.fixture
def filled(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    store = Store(make_url(getattr(request, "param", "sqlite"), tmp_path), create=True)
    create_flag(store, "use_hyde", boolean_flag(on=True), ME)
    append_retrievals(store, [Retrieval(NOW, f"what is {number}\t\\N\n?", number / 50) for number in range(50)])
    add_cases(store, "qa", [NewCase("a\ttab, \\N and 漢字?", ("a\\b.md",), "Two\nlines.", answerable=True)], ME)
    with store.begin() as connection:  # a row of another program, which the trigger counts
        connection.exec_driver_sql(
            "INSERT INTO retrievals (ts_ms, query, score, rolled_up) VALUES (1764086400000, 'by hand', 0.5, 0)"
        )
    yield store
    store.close()


@pytest.mark.parametrize("filled", KINDS, indirect=True)
def test_a_store_comes_back_as_it_was_and_can_be_written_to(filled: Store, tmp_path: Path) -> None:
    before = everything_in(filled)
    made = write_backup(filled, tmp_path / "deck.zip", now=NOW)
    assert made.rows["retrievals"] == 51
    assert verify_backup(tmp_path / "deck.zip") == made
    url = make_url(filled.dialect, tmp_path)
    assert restore_backup(tmp_path / "deck.zip", url, now=NOW) == (made, None)
    restored = Store(url)
    assert everything_in(restored) == before
    switch_flag(restored, get_flag(restored, "production", "use_hyde"), ME, on=False)
    append_retrievals(restored, [Retrieval(NOW, "one more", 0.5)])
    assert list_broken_audit_entries(restored) == ()
    assert len(everything_in(restored)["retrievals"]) == 52
    restored.close()


@pytest.mark.parametrize("filled", KINDS, indirect=True)
def test_a_store_that_holds_something_is_replaced_only_when_told_so(filled: Store, tmp_path: Path) -> None:
    write_backup(filled, tmp_path / "deck.zip", now=NOW)
    before = everything_in(filled)
    switch_flag(filled, get_flag(filled, "production", "use_hyde"), ME, on=False)
    url, changed = filled.url.render_as_string(hide_password=False), everything_in(filled)
    with pytest.raises(Conflict, match="already"):
        restore_backup(tmp_path / "deck.zip", url, now=NOW)
    assert everything_in(filled) == changed
    _, former = restore_backup(tmp_path / "deck.zip", url, replace=True, now=NOW)
    assert everything_in(filled) == before
    if former:
        aside = Store(f"sqlite:///{former}")
        assert everything_in(aside) == changed
        aside.close()


def test_a_backup_while_others_write_holds_one_moment(filled: Store, tmp_path: Path) -> None:
    stop = threading.Event()

    def write() -> None:
        own, number = Store(filled.url.render_as_string()), 0
        while not stop.is_set():
            number += 1
            create_flag(own, f"flag_{number}", boolean_flag(on=True), ME)
        own.close()

    writer = threading.Thread(target=write)
    writer.start()
    try:
        made = [write_backup(filled, tmp_path / f"deck-{number}.zip", now=NOW) for number in range(5)]
    finally:
        stop.set()
        writer.join()
    for number, backup in enumerate(made):
        assert verify_backup(tmp_path / f"deck-{number}.zip") == backup
        of_flags = backup.rows["audit"] - 1  # one is of the cases
        assert backup.rows["flags"] == of_flags, "a change without its entry"
    assert made[-1].rows["flags"] > made[0].rows["flags"]


def test_a_damaged_backup_is_found_wherever_the_damage_is(filled: Store, tmp_path: Path) -> None:
    path, damaged, rng = tmp_path / "deck.zip", tmp_path / "damaged.zip", random.Random(3)
    write_backup(filled, path, now=NOW)
    whole = path.read_bytes()
    for _ in range(40):
        at = rng.randrange(len(whole))
        damaged.write_bytes(whole[:at] + bytes([whole[at] ^ (1 << rng.randrange(8))]) + whole[at + 1 :])
        try:
            found = verify_backup(damaged)
        except (SourceUnavailable, InvalidInput):
            continue
        assert found == verify_backup(path), "only a byte that means nothing may differ"
    for length in (0, 10, len(whole) // 2, len(whole) - 1):
        damaged.write_bytes(whole[:length])
        with pytest.raises((SourceUnavailable, InvalidInput)):
            verify_backup(damaged)
    assert sorted(each.name for each in tmp_path.glob(".*")) == []


def test_a_backup_whose_audit_trail_was_cut_is_refused(filled: Store, tmp_path: Path) -> None:
    switch_flag(filled, get_flag(filled, "production", "use_hyde"), ME, on=False)
    with filled.begin() as connection:
        connection.execute(delete(audit).where(audit.c.id == 1))
    with pytest.raises(SourceUnavailable, match="audit trail is broken at entry 2"):
        write_backup(filled, tmp_path / "deck.zip", now=NOW)
    assert list(tmp_path.glob("*.zip")) == []
    assert list(tmp_path.glob(".deck*")) == []


def test_what_is_no_backup_is_refused_and_nothing_is_made_of_it(filled: Store, tmp_path: Path) -> None:
    url = make_url("sqlite", tmp_path)
    with pytest.raises(NotFound, match="there is no file"):
        restore_backup(tmp_path / "none.zip", url, now=NOW)
    other = tmp_path / "other.zip"
    for manifest in ("{}", "[]", '{"format": 9}', '{"format": 1, "digests": {"../../evil": "x"}}'):
        with zipfile.ZipFile(other, "w") as archive:
            archive.writestr("manifest.json", manifest)
        with pytest.raises((InvalidInput, SourceUnavailable)):
            restore_backup(other, url, now=NOW)
    assert not Path(url.removeprefix("sqlite:///")).exists()


@pytest.mark.slow
@pytest.mark.parametrize("filled", KINDS, indirect=True)
def test_a_backup_goes_into_the_other_kind_of_database_and_back(filled: Store, tmp_path: Path) -> None:
    """Every table has the same rows afterwards, texts that are hard to quote among them, and the store is writable."""
    other = "postgresql" if filled.dialect == "sqlite" else "sqlite"
    source = filled
    for at, kind in enumerate((other, filled.dialect)):
        path, url = tmp_path / f"{at}.zip", make_url(kind, tmp_path)
        write_backup(source, path, now=NOW)
        before = everything_in(source)
        restore_backup(path, url, now=NOW)
        source = Store(url)
        assert everything_in(source) == before
        assert list_broken_audit_entries(source) == ()
        with pytest.raises(Conflict, match="already"):
            restore_backup(path, url, now=NOW)
        last = list_audit(source, limit=1)[0].entry_id
        switch_flag(source, get_flag(source, "production", "use_hyde"), ME, on=bool(at))
        append_retrievals(source, [Retrieval(NOW, "one more", 0.5)])
        assert list_audit(source, limit=1)[0].entry_id == last + 1
    source.close()


def test_an_older_file_is_not_written_over(filled: Store, tmp_path: Path) -> None:
    (tmp_path / "deck.zip").write_text("yesterday's")
    with pytest.raises(Conflict, match="already exists"):
        write_backup(filled, tmp_path / "deck.zip", now=NOW)
    assert (tmp_path / "deck.zip").read_text() == "yesterday's"


def test_a_running_reader_sees_the_restored_store(filled: Store, tmp_path: Path) -> None:
    write_backup(filled, tmp_path / "deck.zip", now=NOW)
    switch_flag(filled, get_flag(filled, "production", "use_hyde"), ME, on=False)
    restore_backup(tmp_path / "deck.zip", filled.url.render_as_string(), replace=True, now=NOW)
    assert get_flag(filled, "production", "use_hyde").definition["state"] == "ENABLED"


def test_the_command_line_backs_up_checks_and_restores_with_an_audit_entry(
    filled: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(*arguments: str) -> str:
        done = CliRunner().invoke(main, list(arguments))
        assert done.exception is None
        return done.output

    file, url = str(tmp_path / "deck.zip"), filled.url.render_as_string()
    monkeypatch.setenv("QUARTERDECK_HOME", str(tmp_path))
    assert "verified" in run("backup", file, "--database", url)
    assert "is intact" in run("restore", file, "--check", "--database", url)
    fresh = make_url("sqlite", tmp_path)
    assert json.loads(run("restore", file, "--database", fresh, "--json"))["backup"]["rows"]["flags"] == 1
    store = Store(fresh)
    assert [entry.action for entry in list_audit(store)] == ["store.restore", "case.add", "flag.create"]
    assert list_broken_audit_entries(store) == ()
    store.close()

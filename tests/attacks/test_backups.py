"""What somebody who can change a backup can do to the store that it is restored to."""

import hashlib
import json
import sqlite3
import zipfile
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from core.access.roles import grant_role, list_grants
from core.audit.acts import Act
from core.audit.permissions import Grant, Role
from core.errors import SourceUnavailable
from core.store.backups import restore_backup, verify_backup, write_backup
from quarterdeck import Quarterdeck
from quarterdeck.store import Store

NOW = datetime(2026, 11, 1, tzinfo=UTC)
ACT = Act("ada", "setting the scene")
HARM = "BEGIN DELETE FROM settings WHERE name = 'roles'; END"


def tamper(folder: Path, *statements: str) -> Path:
    """Write a backup of a store, run statements on the database in it, and make its list fit again."""
    url = f"sqlite:///{folder / 'deck.db'}"
    with closing(Store(url, create=True)) as store:
        grant_role(store, Grant("ada", Role.ADMIN), ACT)
        write_backup(store, folder / "deck.zip", now=NOW)
    with zipfile.ZipFile(folder / "deck.zip") as archive:
        archive.extractall(folder / "parts")
    database = folder / "parts" / "store.db"
    with closing(sqlite3.connect(database)) as connection:
        for statement in statements:
            connection.execute(statement)
        connection.commit()
    listed = json.loads((folder / "parts" / "manifest.json").read_text())
    listed["digests"]["store.db"] = hashlib.sha256(database.read_bytes()).hexdigest()
    with zipfile.ZipFile(folder / "hostile.zip", "w") as archive:
        archive.writestr("manifest.json", json.dumps(listed))
        archive.write(database, "store.db")
    return folder / "hostile.zip"


@pytest.mark.parametrize(
    "statement",
    [f"CREATE TRIGGER t AFTER INSERT ON retrievals {HARM}", "CREATE VIEW v AS SELECT * FROM tokens"],
    ids=["trigger", "view"],
)
def test_a_backup_with_statements_of_its_own_is_refused(tmp_path: Path, statement: str) -> None:
    hostile = tamper(tmp_path, statement)
    with pytest.raises(SourceUnavailable, match=r"is no backup of a store: it would run the (trigger t|view v)"):
        verify_backup(hostile)
    with pytest.raises(SourceUnavailable):
        restore_backup(hostile, f"sqlite:///{tmp_path / 'new.db'}", now=NOW)
    assert not (tmp_path / "new.db").exists()


def test_a_trigger_under_the_name_of_ours_is_replaced(tmp_path: Path) -> None:
    drop = "DROP TRIGGER retrievals_roll_up"
    hostile = tamper(tmp_path, drop, f"CREATE TRIGGER retrievals_roll_up AFTER INSERT ON retrievals {HARM}")
    url = f"sqlite:///{tmp_path / 'new.db'}"
    restore_backup(hostile, url, now=NOW)
    with Quarterdeck(url, snapshot_path=tmp_path / "snapshot.json") as deck:
        deck.log_retrieval("what is an mbuf", 0.5)
        deck.flush(30)
    with closing(Store(url)) as store:
        assert [grant.who for grant in list_grants(store)] == ["ada"]

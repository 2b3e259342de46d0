"""What somebody who can write to the database can do to the audit trail without being noticed."""

import json
import logging
from contextlib import closing
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from sqlalchemy import delete, event, func, insert, select, update

from app.cli import main
from app.http.server import list_local_jobs
from core.alerts.heads import export_head
from core.audit.acts import Act
from core.audit.heads import Head, is_signed_by, make_keys, read_heads, read_private_key, read_public_key, write_head
from core.audit.trail import FIRST_HASH, get_head, list_broken_audit_entries, list_denied_heads, record_audit
from core.config import load_config
from core.errors import InvalidInput, SourceUnavailable
from core.flags.operations import create_flag, switch_flag
from core.flags.store import get_flag
from quarterdeck.definitions import boolean_flag
from quarterdeck.schema import audit
from quarterdeck.store import Store

ME = Act("ada", "because")
WEBHOOK = "http://127.0.0.1/x"
NOW = datetime(2026, 11, 1, tzinfo=UTC)


@pytest.fixture
def trail(store: Store) -> Store:
    """A store with six entries."""
    create_flag(store, "f", boolean_flag(on=True), ME)
    for at in range(5):
        switch_flag(store, get_flag(store, "production", "f"), ME, on=bool(at % 2))
    return store


def rewrite(store: Store, rows: list[dict[str, Any]]) -> None:
    """Replace the trail by one that the deck's own code would write."""
    with store.begin() as connection:
        connection.execute(delete(audit))
        for row in rows:
            values = {name: row[name] for name in row if name not in ("id", "hash", "previous_hash")}
            sides = {side: json.loads(row[side]) if row[side] else None for side in ("before", "after")}
            record_audit(connection, **values | sides)


def read_rows(store: Store) -> list[dict[str, Any]]:
    with store.read() as connection:
        return [dict(row) for row in connection.execute(select(audit).order_by(audit.c.id)).mappings()]


def cut_tail(store: Store) -> None:
    with store.begin() as connection:
        connection.execute(delete(audit).where(audit.c.id > 4))


def delete_all(store: Store) -> None:
    with store.begin() as connection:
        connection.execute(delete(audit))


def rehash_all(store: Store) -> None:
    rewrite(store, [row | {"actor": "eve"} for row in read_rows(store)])


def leave_one_out(store: Store) -> None:
    rows = read_rows(store)
    rewrite(store, [*rows[:2], *rows[3:]])


@pytest.mark.parametrize("attack", [cut_tail, delete_all, rehash_all, leave_one_out])
def test_what_the_chain_alone_does_not_show_a_head_that_was_kept_shows(trail: Store, attack: Any) -> None:
    before = get_head(trail, now=NOW)
    attack(trail)
    assert list_broken_audit_entries(trail) == ()
    assert list_denied_heads(trail, [before]) == (before,)
    assert list_denied_heads(trail, [Head(0, 0, before.hash, "")]) != ()


def test_heads_stay_true_while_the_trail_grows(trail: Store) -> None:
    heads = [get_head(trail, now=NOW)]
    for _ in range(3):
        switch_flag(trail, get_flag(trail, "production", "f"), ME, on=True)
        heads.append(get_head(trail, now=NOW))
    assert [head.entries for head in heads] == [6, 7, 8, 9]
    assert list_denied_heads(trail, heads) == ()
    wrong = [replace(heads[0], entries=5), replace(heads[0], entry_id=5)]
    assert list_denied_heads(trail, wrong) == tuple(wrong)


def test_the_id_and_the_number_of_an_entry_are_hashed(trail: Store) -> None:
    with trail.begin() as connection:
        connection.execute(update(audit).where(audit.c.id == 6).values(id=7))
    assert list_broken_audit_entries(trail) == (7,)
    with trail.begin() as connection:
        connection.execute(update(audit).where(audit.c.id == 7).values(id=6))
        connection.execute(delete(audit).where(audit.c.id == 3))
    assert list_broken_audit_entries(trail) == (4,)
    switch_flag(trail, get_flag(trail, "production", "f"), ME, on=False)
    assert list_broken_audit_entries(trail) == (4,)


def test_an_entry_takes_its_number_from_the_one_before_and_not_from_a_count_of_all(trail: Store) -> None:
    statements: list[str] = []
    with trail.begin() as connection:
        event.listen(connection.engine, "before_cursor_execute", lambda *given: statements.append(given[2]))
    switch_flag(trail, get_flag(trail, "production", "f"), ME, on=False)
    assert any("INSERT INTO audit" in each for each in statements)
    assert [each for each in statements if "count(" in each.lower()] == []
    assert list_broken_audit_entries(trail) == ()
    assert get_head(trail, now=NOW).entries == 7


@pytest.mark.parametrize("left_out", [5, 2_000], ids=["a few", "more than is tried"])
def test_ids_that_the_database_leaves_out_break_nothing(left_out: int, trail: Store) -> None:
    """PostgreSQL does so for changes that are undone, and after a crash."""
    with trail.begin() as connection:
        values = dict.fromkeys(("environment", "actor", "action", "target", "reason", "hash"), "x")
        skipping = insert(audit).values(id=6 + left_out, ts_ms=0, previous_hash="skipping", **values)
        connection.execute(skipping)
        if connection.dialect.name == "postgresql":
            connection.execute(select(func.setval(func.pg_get_serial_sequence("audit", "id"), 6 + left_out)))
        connection.execute(delete(audit).where(audit.c.previous_hash == "skipping"))
    for on in (True, False, True):
        switch_flag(trail, get_flag(trail, "production", "f"), ME, on=on)
    assert list_broken_audit_entries(trail) == ()
    head = get_head(trail, now=NOW)
    assert head.entries == 9
    with trail.begin() as connection:
        connection.execute(delete(audit).where(audit.c.id == 3))
    switch_flag(trail, get_flag(trail, "production", "f"), ME, on=False)
    assert list_broken_audit_entries(trail) == (4,)
    assert list_denied_heads(trail, [head]) == (head,)


def test_entries_of_an_earlier_release_stay_valid_and_none_comes_after_newer_ones(trail: Store) -> None:
    from core.audit.trail import _chain_hash

    rows, previous = read_rows(trail), FIRST_HASH
    with trail.begin() as connection:
        for row in rows:
            own = _chain_hash(previous, row)
            connection.execute(update(audit).where(audit.c.id == row["id"]).values(hash=f"{row['id']:064}"))
            connection.execute(update(audit).where(audit.c.id == row["id"]).values(previous_hash=previous, hash=own))
            previous = own
    assert list_broken_audit_entries(trail) == ()
    switch_flag(trail, get_flag(trail, "production", "f"), ME, on=True)
    assert list_broken_audit_entries(trail) == ()
    last = read_rows(trail)[-1]
    switch_flag(trail, get_flag(trail, "production", "f"), ME, on=False)
    with trail.begin() as connection:
        own = _chain_hash(last["hash"], read_rows(trail)[-1])
        connection.execute(update(audit).where(audit.c.id == last["id"] + 1).values(hash=own))
    assert list_broken_audit_entries(trail) == (last["id"] + 1,)


@pytest.mark.sqlite_only("it is about the file and the webhook")
def test_a_head_goes_signed_to_the_file_the_log_and_the_webhook(
    trail: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    secret, public = make_keys()
    key, file, sent = tmp_path / "key.pem", tmp_path / "heads.jsonl", []
    key.write_bytes(secret)
    with caplog.at_level(logging.WARNING):
        head = export_head(trail, key, file, WEBHOOK, now=NOW, send=lambda *given: len(sent.append(given) or sent))
    assert read_heads(file.read_text()) == (head,)
    assert sent == [(WEBHOOK, asdict(head), "")]
    assert write_head(head) in caplog.text
    assert (head.entries, is_signed_by(head, read_public_key(public))) == (6, True)
    for forged in (
        replace(head, entries=7),
        replace(head, hash=FIRST_HASH),
        replace(head, at="2027-01-01"),
        replace(head, signature="AA=="),
    ):
        assert not is_signed_by(forged, read_public_key(public))

    def refuse(*_given: Any) -> int:
        raise SourceUnavailable("webhook x was not reached")

    with pytest.raises(SourceUnavailable, match="not exported everywhere: webhook x was not reached"):
        export_head(trail, key, file, WEBHOOK, now=NOW, send=refuse)
    assert len(read_heads(file.read_text())) == 2
    with pytest.raises(SourceUnavailable, match="cannot be written"):
        export_head(trail, key, tmp_path / "none" / "heads", "", now=NOW)


def test_what_is_no_key_and_no_head_is_refused() -> None:
    for pem in (b"", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", make_keys()[1]):
        with pytest.raises(InvalidInput, match="^key: "):
            read_private_key(pem)
    for text in ("{", "[]", "a" * 63, '{"entries": 1}', '{"entries": "1", "entry_id": 1, "hash": "", "at": ""}'):
        with pytest.raises(InvalidInput, match="^head: line 1 is no head"):
            read_heads(text)


@pytest.mark.sqlite_only("it is about the commands")
def test_the_commands_make_a_key_print_a_head_and_find_what_was_cut(
    trail: Store, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, heads = tmp_path / "key.pem", tmp_path / "heads.jsonl"
    monkeypatch.setenv("QUARTERDECK_DATABASE_URL", url)
    monkeypatch.setenv("QUARTERDECK_HOME", str(tmp_path))

    def run(*arguments: str) -> tuple[int, str]:
        done = CliRunner().invoke(main, ["audit", *arguments])
        return done.exit_code, done.output

    assert run("keygen", str(key))[0] == 0
    assert key.stat().st_mode & 0o077 == 0
    assert run("keygen", str(key))[0] != 0
    monkeypatch.setenv("QUARTERDECK_AUDIT_KEY", str(key))
    heads.write_text(run("head")[1])
    assert run("verify", "--head", str(heads), "--key", f"{key}.pub")[0] == 0
    assert run("verify", "--head", read_heads(heads.read_text())[0].hash)[0] == 0
    cut_tail(trail)
    assert run("verify") == (0, "the chain is intact: no entry was changed or removed\n")
    code, said = run("verify", "--head", str(heads))
    assert (code, "is not in the trail" in said) == (1, True)
    other = tmp_path / "other.pem"
    run("keygen", str(other))
    code, said = run("verify", "--head", str(heads), "--key", str(other))
    assert (code, "is not signed by this key" in said) == (1, True)
    with closing(Store(url)) as store:
        assert [
            job.name
            for job in list_local_jobs(
                load_config({"QUARTERDECK_HOME": str(tmp_path), "QUARTERDECK_AUDIT_KEY": str(key)}), store
            )
        ] == ["audit heads"]

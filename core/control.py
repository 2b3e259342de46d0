"""Gateway to the control tables of the shared store: flags, indexes and their aliases, settings and the audit trail.

Reads return our own types. The few writing functions take an open transaction: `operations.py` is their only caller,
so that no change lands without its audit entry.
"""

import hashlib
import json
import uuid
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, Table, delete, func, insert, or_, select, text, update

from core.errors import Conflict, NotFound
from core.retention import Swap
from quarterdeck.news import tell_news
from quarterdeck.retrieval import from_ms
from quarterdeck.schema import aliases, audit, flags, indexes, settings
from quarterdeck.snapshot import STATE_VERSION
from quarterdeck.store import Store, fetch_many

FIRST_HASH = "0" * 64
_MOST_SWAPS = 10_000
_AUDIT_LOCK = 0x61756469  # "audi": PostgreSQL's advisory lock, so that the chain of entries is a line


@dataclass(frozen=True, slots=True)
class Flag:
    """One flag of one environment: a flagd definition, and the version that the next writer has to expect."""

    environment: str
    key: str
    definition: dict[str, Any]
    version: int
    updated: datetime
    updated_by: str


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One change: who, when, why, and the stored state before and after it (None: there was or is nothing)."""

    entry_id: int
    ts: datetime
    environment: str
    actor: str
    action: str
    target: str
    reason: str
    before: dict[str, Any] | None
    after: dict[str, Any] | None
    previous_hash: str
    hash: str


class IndexState(StrEnum):
    """Whether an index may be swapped in; a retired one is being removed, and no alias can stand for it again."""

    READY = "ready"
    RETIRED = "retired"


@dataclass(frozen=True, slots=True)
class Index:
    """One physical vector index: which corpus version it holds, by which model, how many chunks, cut by which rule."""

    name: str
    location: str
    corpus_version: str
    model: str
    chunks: int
    built: datetime
    built_by: str
    chunking: str = ""
    state: IndexState = IndexState.READY


@dataclass(frozen=True, slots=True)
class Alias:
    """The name that readers use, the index it stands for, and the version that the next swap has to expect."""

    alias: str
    index_name: str
    version: int
    updated: datetime
    updated_by: str


def list_flags(store: Store, environment: str) -> tuple[Flag, ...]:
    """Return every flag of the environment, by key."""
    with store.read() as connection:
        rows = connection.execute(select(flags).where(flags.c.environment == environment).order_by(flags.c.key))
        return tuple(_flag(row) for row in rows.mappings())


def get_flag(store: Store, environment: str, key: str) -> Flag:
    """Return one flag. Raises NotFound, naming those that exist."""
    for flag in (known := list_flags(store, environment)):
        if flag.key == key:
            return flag
    names = ", ".join(flag.key for flag in known) or "none"
    raise NotFound(f"flag: no flag {key!r} in {environment}; there are: {names}")


def list_indexes(store: Store, *, state: IndexState = IndexState.READY) -> tuple[Index, ...]:
    """Return the registered vector indexes that can be used (or those being removed), newest first."""
    query = select(indexes).where(indexes.c.state == state).order_by(indexes.c.built_ms.desc(), indexes.c.name)
    with store.read() as connection:
        return tuple(_index(row) for row in connection.execute(query).mappings())


def get_index(store: Store, name: str) -> Index:
    """Return one index that can be used. Raises NotFound, naming those that there are."""
    for index in (known := list_indexes(store)):
        if index.name == name:
            return index
    names = ", ".join(index.name for index in known) or "none"
    raise NotFound(f"index: no index {name!r} is registered; there are: {names}")


def list_swaps(store: Store, alias: str) -> tuple[Swap, ...]:
    """Return what the alias stood for over time, oldest first, from the audit trail."""
    entries = list_audit(store, target=alias, action="index.swap", limit=_MOST_SWAPS)
    return tuple(
        Swap(
            entry.ts,
            (entry.before or {}).get("index"),
            (entry.after or {})["index"],
            is_rollback=bool((entry.after or {}).get("rollback")),
        )
        for entry in reversed(entries)
    )


def list_aliases(store: Store) -> tuple[Alias, ...]:
    """Return the index aliases, by name."""
    with store.read() as connection:
        rows = connection.execute(select(aliases).order_by(aliases.c.alias)).mappings()
        return tuple(
            Alias(row["alias"], row["index_name"], row["version"], from_ms(row["updated_ms"]), row["updated_by"])
            for row in rows
        )


def get_setting(store: Store, name: str) -> tuple[Any, int]:
    """Return a setting's value and version; (None, 0) when it was never set."""
    with store.read() as connection:
        row = connection.execute(select(settings.c.value, settings.c.version).where(settings.c.name == name)).first()
    return (json.loads(row.value), row.version) if row else (None, 0)


def list_settings(store: Store, prefix: str) -> dict[str, Any]:
    """Return the values of the settings whose names start with `prefix`, by name."""
    wanted = settings.c.name.startswith(prefix, autoescape=True)
    with store.read() as connection:
        rows = connection.execute(select(settings.c.name, settings.c.value).where(wanted).order_by(settings.c.name))
        return {row.name: json.loads(row.value) for row in rows}


def list_audit(
    store: Store,
    *,
    target: str | None = None,
    action: str | None = None,
    actor: str | None = None,
    environment: str | None = None,
    since_ms: int | None = None,
    until_ms: int | None = None,
    limit: int | None = 500,
    among: Collection[str] | None = None,
) -> tuple[AuditEntry, ...]:
    """Return audit entries, newest first; None for `limit` means all of them.

    `among` names the environments whose entries may be read, None for all.
    """
    wanted = {"target": target, "action": action, "actor": actor, "environment": environment}
    query = select(audit).where(*_chosen(wanted, since_ms, until_ms, among)).order_by(audit.c.id.desc()).limit(limit)
    return _read_entries(store, query)


def list_audit_by_hour(
    store: Store, environment: str, *, since_ms: int, most_an_hour: int, limit: int
) -> tuple[AuditEntry, ...]:
    """Return what concerns an environment, newest first: its own entries, and those of indexes and prompts anywhere.

    Of what was done alike to one target within an hour of the clock, only the newest `most_an_hour` entries, so that
    somebody who flips a flag all day hides nothing else.
    """
    shared = (audit.c.action.startswith(family) for family in ("index.", "prompt."))
    hour = (audit.c.environment, audit.c.target, audit.c.action, audit.c.ts_ms // 3_600_000)
    place = func.row_number().over(partition_by=hour, order_by=audit.c.id.desc()).label("place")
    ranked = (
        select(audit, place)
        .where(audit.c.ts_ms >= since_ms, or_(audit.c.environment == environment, *shared))
        .subquery()
    )
    newest = [ranked.c[column.name] for column in audit.c]
    query = select(*newest).where(ranked.c.place <= most_an_hour).order_by(ranked.c.id.desc()).limit(limit)
    return _read_entries(store, query)


def count_audit(
    store: Store,
    *,
    target: str | None = None,
    action: str | None = None,
    actor: str | None = None,
    environment: str | None = None,
    since_ms: int | None = None,
    until_ms: int | None = None,
    among: Collection[str] | None = None,
) -> int:
    """Return how many entries `list_audit` would find without a limit."""
    wanted = {"target": target, "action": action, "actor": actor, "environment": environment}
    with store.read() as connection:
        query = select(func.count()).select_from(audit).where(*_chosen(wanted, since_ms, until_ms, among))
        return int(connection.scalar(query) or 0)


def list_audit_values(
    store: Store, column: str, *, limit: int = 1_000, among: Collection[str] | None = None
) -> tuple[str, ...]:
    """Return what stands in a column of the audit trail (actor, action, target, environment), in order."""
    query = select(audit.c[column]).where(*_chosen({}, None, None, among)).distinct()
    with store.read() as connection:
        return tuple(connection.scalars(query.order_by(audit.c[column]).limit(limit)))


def _chosen(
    wanted: dict[str, str | None], since_ms: int | None, until_ms: int | None, among: Collection[str] | None
) -> list[ColumnElement[bool]]:
    found = [audit.c[name] == value for name, value in wanted.items() if value is not None]
    found += [audit.c.environment.in_(among)] if among is not None else []
    found += [audit.c.ts_ms >= since_ms] if since_ms is not None else []
    return found + ([audit.c.ts_ms < until_ms] if until_ms is not None else [])


def get_audit_entry(store: Store, entry_id: int) -> AuditEntry:
    """Return one audit entry. Raises NotFound."""
    with store.read() as connection:
        row = connection.execute(select(audit).where(audit.c.id == entry_id)).mappings().first()
    if row is None:
        raise NotFound(f"audit entry: there is no entry {entry_id}")
    return _entry(row)


def list_broken_audit_entries(store: Store) -> tuple[int, ...]:
    """Return the ids of the entries at which the chain of hashes breaks: a row was changed, or one before removed."""
    broken, expected = [], FIRST_HASH
    with store.read() as connection:
        for found in fetch_many(connection, select(audit).order_by(audit.c.id)):
            row = dict(zip(audit.c.keys(), found, strict=True))
            values = {name: row[name] for name in _CHAINED}
            if row["previous_hash"] != expected or row["hash"] != _chain_hash(expected, values):
                broken.append(row["id"])
            expected = row["hash"]
    return tuple(broken)


def record_audit(connection: Connection, **values: Any) -> int:
    """Append one entry, chained to the last by its hash; return its id. `before` and `after` are JSON-like or None."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _AUDIT_LOCK})
    previous = connection.scalar(select(audit.c.hash).order_by(audit.c.id.desc()).limit(1)) or FIRST_HASH
    stored = {**values, "before": _to_json(values["before"]), "after": _to_json(values["after"])}
    stored |= {"previous_hash": previous, "hash": _chain_hash(previous, stored)}
    return int(connection.execute(insert(audit).values(stored)).inserted_primary_key[0])  # type: ignore[index]


def save_flag(connection: Connection, flag: Flag, *, updated_ms: int) -> None:
    """Store `flag.definition` as the version after `flag.version`. Raises Conflict when that is not the stored one."""
    identity = {"environment": flag.environment, "key": flag.key}
    values = {"definition": _to_json(flag.definition), "updated_ms": updated_ms, "updated_by": flag.updated_by}
    save_versioned(connection, flags, identity, values, expected_version=flag.version)
    move_state_version(connection)


def delete_flag(connection: Connection, flag: Flag) -> None:
    """Remove a flag of this very version. Raises Conflict."""
    found = connection.execute(
        delete(flags).where(
            flags.c.environment == flag.environment, flags.c.key == flag.key, flags.c.version == flag.version
        )
    )
    if found.rowcount != 1:
        raise Conflict(f"flag {flag.key!r} was changed by somebody else; reload and look at it again")
    move_state_version(connection)


def save_versioned(
    connection: Connection, table: Table, identity: dict[str, Any], values: dict[str, Any], *, expected_version: int
) -> None:
    """Insert (expected version 0) or update a row that carries a version. Raises Conflict; nothing is overwritten."""
    same = [table.c[name] == value for name, value in identity.items()]
    found = connection.scalar(select(table.c.version).where(*same)) or 0
    if found != expected_version:
        name = next(reversed(identity.values()))
        raise Conflict(
            f"{name!r} is at version {found}, you changed version {expected_version}: somebody else was faster. "
            "Nothing was overwritten; reload to see their change."
        )
    if found:
        connection.execute(update(table).where(*same).values(**values, version=found + 1))
    else:
        connection.execute(insert(table).values(**identity, **values, version=1))


def lock_index(connection: Connection, name: str) -> str | None:
    """Return the state of an index, which stays what it is until the transaction ends; None when there is none."""
    return connection.scalar(select(indexes.c.state).where(indexes.c.name == name).with_for_update())


def newest_swap_id(connection: Connection) -> int:
    """Return the audit entry of the last swap of any alias; 0 before the first."""
    return connection.scalar(select(func.max(audit.c.id)).where(audit.c.action == "index.swap")) or 0


def save_setting(connection: Connection, name: str, value: Any, *, expected_version: int) -> None:
    """Store a named fact. Raises Conflict when somebody else changed it first."""
    save_versioned(
        connection, settings, {"name": name}, {"value": json.dumps(value)}, expected_version=expected_version
    )


def move_state_version(connection: Connection) -> None:
    """Tell every client that flags or aliases changed."""
    counter = settings.c.name == STATE_VERSION
    if connection.execute(update(settings).where(counter).values(version=settings.c.version + 1)).rowcount == 0:
        mark = json.dumps(uuid.uuid4().hex)  # tells this store's versions from those of another in its place
        connection.execute(insert(settings).values(name=STATE_VERSION, value=mark, version=1))
    tell_news(connection)


_CHAINED = ("ts_ms", "environment", "actor", "action", "target", "reason", "before", "after")


def _chain_hash(previous: str, values: dict[str, Any]) -> str:
    line = json.dumps([previous, *(values[name] for name in _CHAINED)], ensure_ascii=False)
    return hashlib.sha256(line.encode()).hexdigest()


def _to_json(value: Any) -> str | None:
    return None if value is None else json.dumps(value, sort_keys=True, ensure_ascii=False)


def _flag(row: Any) -> Flag:
    return Flag(
        row["environment"], row["key"], json.loads(row["definition"]), row["version"],
        from_ms(row["updated_ms"]), row["updated_by"],
    )  # fmt: skip


def _index(row: Any) -> Index:
    return Index(
        row["name"], row["location"], row["corpus_version"], row["model"], row["chunks"], from_ms(row["built_ms"]),
        row["built_by"], row["chunking"], IndexState(row["state"]),
    )  # fmt: skip


def _read_entries(store: Store, query: Select[Any]) -> tuple[AuditEntry, ...]:
    with store.read() as connection:
        return tuple(_entry(dict(zip(audit.c.keys(), row, strict=True))) for row in fetch_many(connection, query))


def _entry(row: Any) -> AuditEntry:
    before, after = (json.loads(row[side]) if row[side] is not None else None for side in ("before", "after"))
    return AuditEntry(
        row["id"], from_ms(row["ts_ms"]), row["environment"], row["actor"], row["action"], row["target"],
        row["reason"], before, after, row["previous_hash"], row["hash"],
    )  # fmt: skip

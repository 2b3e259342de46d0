"""Gateway to the audit trail: every change of stored state, each entry chained to the previous one by its hash."""

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, func, insert, or_, select, text, update

from core.audit.actions import Action, Subject, read_action
from core.audit.heads import Head
from core.audit.permissions import Roles, may_read_questions
from core.errors import NotFound
from quarterdeck.clock import from_ms
from quarterdeck.schema import audit
from quarterdeck.store import Store, fetch_many

FIRST_HASH = "0" * 64
_MOST_LEFT_OUT = 1_000  # ids; PostgreSQL leaves some out when changes are undone
_AUDIT_LOCK = 0x61756469  # "audi": PostgreSQL's advisory lock, which keeps the hash chain linear


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One change: who, when, why, and the stored state before and after it (None: there was or is nothing).

    `action` is a plain string where another release recorded one that is unknown here.
    """

    entry_id: int
    ts: datetime
    environment: str
    actor: str
    action: Action | str
    target: str
    reason: str
    before: dict[str, Any] | None
    after: dict[str, Any] | None
    previous_hash: str
    hash: str


@dataclass(frozen=True, slots=True)
class AuditFilter:
    """Which entries are meant: those that have every given value, from `since_ms` on and before `until_ms`.

    `among` names the environments whose entries may be read; None for all. `before_id` is for paging: older ones only.
    """

    target: str | None = None
    action: str | None = None
    actor: str | None = None
    environment: str | None = None
    since_ms: int | None = None
    until_ms: int | None = None
    among: tuple[str, ...] | None = None
    before_id: int | None = None

    def conditions(self) -> list[ColumnElement[bool]]:
        """Return what has to hold for a row of the trail."""
        texts = ("target", "action", "actor", "environment")
        found = [audit.c[name] == value for name in texts if (value := getattr(self, name)) is not None]
        found += [audit.c.environment.in_(self.among)] if self.among is not None else []
        found += [audit.c.ts_ms >= self.since_ms] if self.since_ms is not None else []
        found += [audit.c.id < self.before_id] if self.before_id is not None else []
        return found + ([audit.c.ts_ms < self.until_ms] if self.until_ms is not None else [])


EVERY_ENTRY = AuditFilter()


def hide_labels(entries: Iterable[AuditEntry], roles: Roles) -> tuple[AuditEntry, ...]:
    """Return entries without what topics were called, which is made of questions, where these roles may read none."""
    named = (Action.TOPIC_MARK, Action.TOPIC_RENAME, Action.TOPIC_SUMMARIZE)
    return tuple(
        replace(entry, before=_without_label(entry.before), after=_without_label(entry.after))
        if entry.action in named and not may_read_questions(roles, entry.environment)
        else entry
        for entry in entries
    )


def _without_label(told: dict[str, Any] | None) -> dict[str, Any] | None:
    return told and {name: value for name, value in told.items() if name != "label"}


def list_audit(store: Store, wanted: AuditFilter = EVERY_ENTRY, *, limit: int | None = 500) -> tuple[AuditEntry, ...]:
    """Return the entries that are meant, newest first; None for `limit` means all of them."""
    query = select(audit).where(*wanted.conditions()).order_by(audit.c.id.desc()).limit(limit)
    return _read_entries(store, query)


def list_audit_by_hour(
    store: Store, environment: str, *, since_ms: int, most_an_hour: int, limit: int
) -> tuple[AuditEntry, ...]:
    """Return the entries about an environment, newest first: its own, and those of indexes and prompts anywhere.

    Of the entries with the same action on one target within a clock hour, only the newest `most_an_hour` are returned,
    so that somebody who flips a flag all day hides nothing else.
    """
    shared = (audit.c.action.startswith(f"{subject}.") for subject in (Subject.INDEX, Subject.PROMPT))
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


def count_audit(store: Store, wanted: AuditFilter = EVERY_ENTRY) -> int:
    """Return how many entries `list_audit` would find without a limit."""
    with store.read() as connection:
        query = select(func.count()).select_from(audit).where(*wanted.conditions())
        return int(connection.scalar(query) or 0)


def list_audit_values(
    store: Store, column: str, *, among: tuple[str, ...] | None = None, limit: int = 1_000
) -> tuple[str, ...]:
    """Return the distinct values in a column of the audit trail (actor, action, target, environment), sorted.

    `among` names the environments whose entries may be read; None for all.
    """
    query = select(audit.c[column]).where(*AuditFilter(among=among).conditions()).distinct()
    with store.read() as connection:
        return tuple(connection.scalars(query.order_by(audit.c[column]).limit(limit)))


def get_audit_entry(store: Store, entry_id: int) -> AuditEntry:
    """Return one audit entry. Raises NotFound."""
    with store.read() as connection:
        row = connection.execute(select(audit).where(audit.c.id == entry_id)).mappings().first()
    if row is None:
        raise NotFound(f"audit entry: there is no entry {entry_id}")
    return _entry(row)


def list_broken_audit_entries(store: Store) -> tuple[int, ...]:
    """Return the ids of the entries at which the hash chain breaks.

    There a row was changed, or an earlier one removed. That the newest ones were removed, or all were written anew,
    shows in the signed heads only: see `list_denied_heads`.
    """
    return tuple(entry_id for entry_id, _, is_whole in _walk(store) if not is_whole)


def get_head(store: Store, *, now: datetime) -> Head:
    """Return how many entries there are, and the last one's id and hash; zeros before the first."""
    with store.read() as connection:
        last = connection.execute(select(audit.c.id, audit.c.hash).order_by(audit.c.id.desc()).limit(1)).first()
        entry_id, digest = last or (0, FIRST_HASH)
        entries = connection.scalar(select(func.count()).select_from(audit).where(audit.c.id <= entry_id))
    return Head(int(entries or 0), entry_id, digest, now.isoformat())


def list_denied_heads(store: Store, heads: Iterable[Head]) -> tuple[Head, ...]:
    """Return the heads that the trail does not have any more: entries were removed or written anew since.

    Of a head without a number of entries, the hash alone counts.
    """
    wanted = tuple(heads)
    known = {digest: (number, entry_id) for number, (entry_id, digest, _) in enumerate(_walk(store), 1)}
    known[FIRST_HASH] = (0, 0)
    return tuple(
        head
        for head in wanted
        if head.hash not in known or (head.at and known[head.hash] != (head.entries, head.entry_id))
    )


def _walk(store: Store) -> Iterator[tuple[int, str, bool]]:
    """Yield the id and the hash of each entry in order, and whether the chain is whole there.

    Entries of earlier releases are hashed without their id and number; none may follow one that has them.
    """
    expected, is_numbered, removed = FIRST_HASH, False, 0
    with store.read() as connection:
        for number, found in enumerate(fetch_many(connection, select(audit).order_by(audit.c.id)), 1):
            row = dict(zip(audit.c.keys(), found, strict=True))
            is_next = row["previous_hash"] == expected
            removed = removed if is_next else (_find_number(row) or number) - number  # later ones keep their numbers
            is_new = row["hash"] in {_chain_hash(expected, row, each) for each in (number, number + removed)}
            is_old = not is_numbered and not is_new and row["hash"] == _chain_hash(expected, row)
            is_numbered |= is_new
            yield row["id"], row["hash"], is_next and (is_new or is_old)
            expected = row["hash"]


def record_audit(connection: Connection, **values: Any) -> int:
    """Append one entry, chained to the last by its hash; return its id. `before` and `after` are JSON-like or None."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _AUDIT_LOCK})
    last = connection.execute(select(audit).order_by(audit.c.id.desc()).limit(1)).mappings().first()
    number = 1 + (_number_of(connection, dict(last)) if last else 0)
    previous = last["hash"] if last else FIRST_HASH
    stored = {**values, "before": _to_json(values["before"]), "after": _to_json(values["after"])}
    stored |= {"previous_hash": previous, "hash": ""}
    entry_id = int(connection.execute(insert(audit).values(stored).returning(audit.c.id)).scalar_one())
    own = _chain_hash(previous, {**stored, "id": entry_id}, number)
    connection.execute(update(audit).where(audit.c.id == entry_id).values(hash=own))
    return entry_id


def _number_of(connection: Connection, last: dict[str, Any]) -> int:
    """Return the number of the newest entry. Entries of earlier releases have none, so they are counted."""
    return _find_number(last) or int(connection.scalar(select(func.count()).select_from(audit)) or 0)


def _find_number(row: dict[str, Any]) -> int | None:
    """Return the number that an entry's hash covers: its id, less the ids that the database left out before it."""
    candidates = range(row["id"], max(0, row["id"] - _MOST_LEFT_OUT), -1)
    found = (number for number in candidates if _chain_hash(row["previous_hash"], row, number) == row["hash"])
    return next(found, None)


_CHAINED = ("ts_ms", "environment", "actor", "action", "target", "reason", "before", "after")


def _chain_hash(previous: str, values: dict[str, Any], number: int | None = None) -> str:
    """Return the hash of an entry; without its place in the trail, the one of earlier releases."""
    place = [] if number is None else [number, values["id"]]
    line = json.dumps([previous, *place, *(values[name] for name in _CHAINED)], ensure_ascii=False)
    return hashlib.sha256(line.encode()).hexdigest()


def _to_json(value: Any) -> str | None:
    return None if value is None else json.dumps(value, sort_keys=True, ensure_ascii=False)


def _read_entries(store: Store, query: Select[Any]) -> tuple[AuditEntry, ...]:
    with store.read() as connection:
        return tuple(_entry(dict(zip(audit.c.keys(), row, strict=True))) for row in fetch_many(connection, query))


def _entry(row: Any) -> AuditEntry:
    before, after = (json.loads(row[side]) if row[side] is not None else None for side in ("before", "after"))
    return AuditEntry(
        row["id"], from_ms(row["ts_ms"]), row["environment"], row["actor"],
        read_action(row["action"]), row["target"], row["reason"], before, after, row["previous_hash"], row["hash"],
    )  # fmt: skip

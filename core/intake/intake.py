"""Gateway to the marks of what has arrived: idempotency keys with their answers, and the ids of traces.

A mark commits with its rows, in the transaction that the caller gives: a killed import or a repeated request stores
nothing twice.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, delete, or_, select
from sqlalchemy.dialects import postgresql, sqlite

from core.errors import Conflict
from quarterdeck.schema import ingest_keys
from quarterdeck.store import Store

KEYS_KEPT_MS = 48 * 3_600_000

_SLICE = 500


@dataclass(frozen=True, slots=True)
class Ticket:
    """A request's idempotency key, by its source, and the digest of its body."""

    source: str
    key: str
    digest: str


def claim_key(connection: Connection, ticket: Ticket, answer: Any, *, now_ms: int) -> bool:
    """Add a key with its answer; False if it is known. Waits for a concurrent writer of the same key."""
    row = {
        "source": ticket.source, "key": ticket.key, "digest": ticket.digest, "answer": json.dumps(answer),
        "created_ms": now_ms,
    }  # fmt: skip
    return connection.execute(_insert_new(connection).returning(ingest_keys.c.key), row).first() is not None


def first_answer(connection: Connection, ticket: Ticket) -> Any | None:
    """Return the first answer to a known key, or None. Raises Conflict for another body."""
    same = (ingest_keys.c.source == ticket.source, ingest_keys.c.key == ticket.key)
    first = connection.execute(select(ingest_keys.c.digest, ingest_keys.c.answer).where(*same)).first()
    if first is None:
        return None
    if first.digest != ticket.digest:
        raise Conflict(f"Idempotency-Key: {ticket.key!r} was used with another body; use a new key for each request")
    return json.loads(first.answer)


def find_keys(store: Store, source: str, keys: Iterable[str]) -> set[str]:
    """Return the keys that have already arrived."""
    wanted, found = list(keys), set[str]()
    with store.read() as connection:
        for start in range(0, len(wanted), _SLICE):
            part = wanted[start : start + _SLICE]
            query = select(ingest_keys.c.key).where(ingest_keys.c.source == source, ingest_keys.c.key.in_(part))
            found.update(connection.scalars(query))
    return found


def add_keys(connection: Connection, source: str, keys: Iterable[tuple[str, int]]) -> None:
    """Record the arrival of keys, each with its time in milliseconds."""
    rows = [{"source": source, "key": key, "digest": "", "answer": "", "created_ms": at} for key, at in keys]
    if rows:
        connection.execute(_insert_new(connection), rows)


def forget_keys(connection: Connection, source: str, *, before_ms: int) -> None:
    """Remove the marks of one source, and of all that have its name before a colon, older than `before_ms`."""
    family = source.partition(":")[0]
    same = or_(ingest_keys.c.source == family, ingest_keys.c.source.startswith(f"{family}:", autoescape=True))
    connection.execute(delete(ingest_keys).where(same, ingest_keys.c.created_ms < before_ms))


def _insert_new(connection: Connection) -> Any:
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    return dialect.insert(ingest_keys).on_conflict_do_nothing()

"""Gateway through which retrievals from outside enter the log, together with the mark that they have.

The mark (an idempotency key, the progress of an import, the ids of traces) lands in the rows' own transaction: a killed
import or a repeated request stores nothing twice.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, delete, func, or_, select
from sqlalchemy.dialects import postgresql, sqlite

from core.errors import Conflict
from quarterdeck.recorder import append_retrievals
from quarterdeck.retrieval import Retrieval
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


def store_retrievals(
    store: Store, rows: Sequence[Retrieval], mark: Callable[[Connection], None] = lambda _connection: None
) -> None:
    """Append rows and call `mark`, which records that they came, in one transaction. Raises SourceUnavailable."""
    with store.begin() as connection:
        mark(connection)
        _append(store, connection, rows)


def store_once(store: Store, rows: Sequence[Retrieval], ticket: Ticket, answer: Any, *, now_ms: int) -> Any:
    """Append rows unless this ticket was seen before; return the answer to give: the given one, or the first one.

    Raises Conflict when the key was used with another body.
    """
    with store.begin() as connection:
        values = {"source": ticket.source, "key": ticket.key, "digest": ticket.digest}
        if not _add_key(connection, {**values, "answer": json.dumps(answer), "created_ms": now_ms}):
            return _first_answer(connection, ticket)
        forget_keys(connection, ticket.source, before_ms=now_ms - KEYS_KEPT_MS)
        _append(store, connection, rows)
    return answer


def find_answer(store: Store, ticket: Ticket) -> Any | None:
    """Return the first answer to a ticket that was seen before, or None. Raises Conflict for another body."""
    with store.read() as connection:
        return _first_answer(connection, ticket)


def find_keys(store: Store, source: str, keys: Iterable[str]) -> set[str]:
    """Return those of the keys that are marked as having come in."""
    wanted, found = list(keys), set[str]()
    with store.read() as connection:
        for start in range(0, len(wanted), _SLICE):
            part = wanted[start : start + _SLICE]
            query = select(ingest_keys.c.key).where(ingest_keys.c.source == source, ingest_keys.c.key.in_(part))
            found.update(connection.scalars(query))
    return found


def add_keys(connection: Connection, source: str, keys: Iterable[tuple[str, int]]) -> None:
    """Mark keys, each with its time in milliseconds, as having come in."""
    rows = [{"source": source, "key": key, "digest": "", "answer": "", "created_ms": at} for key, at in keys]
    if rows:
        connection.execute(_insert_new(connection), rows)


def forget_keys(connection: Connection, source: str, *, before_ms: int) -> None:
    """Remove the marks of one source, and of all that have its name before a colon, older than `before_ms`."""
    family = source.partition(":")[0]
    same = or_(ingest_keys.c.source == family, ingest_keys.c.source.startswith(f"{family}:", autoescape=True))
    connection.execute(delete(ingest_keys).where(same, ingest_keys.c.created_ms < before_ms))


def count_keys(store: Store, source: str) -> int:
    """Return how many keys of one source are kept."""
    with store.read() as connection:
        query = select(func.count()).select_from(ingest_keys).where(ingest_keys.c.source == source)
        return connection.scalar(query) or 0


def _append(store: Store, connection: Connection, rows: Sequence[Retrieval]) -> None:
    """Append within a transaction that is open; a log elsewhere has its rows before the mark is committed."""
    append_retrievals(_Within(store, connection) if store.log_url is None else store, rows)


def _add_key(connection: Connection, row: dict[str, Any]) -> bool:
    """Add a key; False when it is known. A concurrent writer of it is waited for."""
    return connection.execute(_insert_new(connection).returning(ingest_keys.c.key), row).first() is not None


def _insert_new(connection: Connection) -> Any:
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    return dialect.insert(ingest_keys).on_conflict_do_nothing()


def _first_answer(connection: Connection, ticket: Ticket) -> Any | None:
    same = (ingest_keys.c.source == ticket.source, ingest_keys.c.key == ticket.key)
    first = connection.execute(select(ingest_keys.c.digest, ingest_keys.c.answer).where(*same)).first()
    if first is None:
        return None
    if first.digest != ticket.digest:
        raise Conflict(f"Idempotency-Key: {ticket.key!r} was used with another body; give each request its own")
    return json.loads(first.answer)


class _Within(Store):
    """A store whose writing transaction is one that is open already."""

    def __init__(self, store: Store, connection: Connection) -> None:
        self.url, self.name = store.url, store.name
        self._connection = connection

    @property
    def dialect(self) -> str:
        return self._connection.dialect.name

    @contextmanager
    def begin(self) -> Iterator[Connection]:
        yield self._connection

    begin_in_turn = begin  # the open transaction has the file already

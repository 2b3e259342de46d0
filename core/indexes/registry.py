"""Gateway to the registered vector indexes, and to the aliases by which readers find the live one."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, func, select

from core.audit.actions import Action
from core.audit.trail import AuditFilter, list_audit
from core.errors import NotFound
from core.indexes.audited import SwapState
from core.indexes.retention import Swap
from quarterdeck.clock import from_ms
from quarterdeck.schema import aliases, audit, indexes
from quarterdeck.store import Store

_MOST_SWAPS = 10_000


class IndexState(StrEnum):
    """Whether an index may be swapped in; a retired one is being removed and can never be used again."""

    READY = "ready"
    RETIRED = "retired"


@dataclass(frozen=True, slots=True)
class Index:
    """One physical vector index: its corpus version, embedding model, number of chunks, and chunking rule."""

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
    """The name that readers use, the index it points to, and its version for optimistic locking."""

    alias: str
    index_name: str
    version: int
    updated: datetime
    updated_by: str


def list_indexes(store: Store, *, state: IndexState = IndexState.READY) -> tuple[Index, ...]:
    """Return the registered vector indexes in this state (by default, usable ones), newest first."""
    query = select(indexes).where(indexes.c.state == state).order_by(indexes.c.built_ms.desc(), indexes.c.name)
    with store.read() as connection:
        return tuple(_index(row) for row in connection.execute(query).mappings())


def get_index(store: Store, name: str) -> Index:
    """Return one usable index. Raises NotFound, listing the existing ones."""
    for index in (known := list_indexes(store)):
        if index.name == name:
            return index
    names = ", ".join(index.name for index in known) or "none"
    raise NotFound(f"index: no index {name!r} is registered; there are: {names}")


def list_swaps(store: Store, alias: str) -> tuple[Swap, ...]:
    """Return the swaps of the alias, oldest first, from the audit trail."""
    entries = list_audit(store, AuditFilter(target=alias, action=Action.INDEX_SWAP), limit=_MOST_SWAPS)
    sides = ((entry.ts, SwapState.read(entry.before), SwapState.read(entry.after)) for entry in reversed(entries))
    return tuple(
        Swap(at, former.index if former else None, now.index, is_rollback=now.is_rollback)
        for at, former, now in sides
        if now
    )


def list_aliases(store: Store) -> tuple[Alias, ...]:
    """Return the index aliases, ordered by name."""
    with store.read() as connection:
        return tuple(map(_alias, connection.execute(select(aliases).order_by(aliases.c.alias)).mappings()))


def lock_alias(connection: Connection, alias: str) -> Alias | None:
    """Return an alias and lock it until the transaction ends; None if there is no such alias."""
    row = connection.execute(select(aliases).where(aliases.c.alias == alias).with_for_update()).mappings().first()
    return _alias(row) if row else None


def lock_index(connection: Connection, name: str) -> str | None:
    """Return the state of an index and lock it until the transaction ends; None if there is no such index."""
    return connection.scalar(select(indexes.c.state).where(indexes.c.name == name).with_for_update())


def newest_swap_id(connection: Connection) -> int:
    """Return the audit entry id of the last swap of any alias; 0 before the first."""
    return connection.scalar(select(func.max(audit.c.id)).where(audit.c.action == Action.INDEX_SWAP)) or 0


def _alias(row: Any) -> Alias:
    return Alias(row["alias"], row["index_name"], row["version"], from_ms(row["updated_ms"]), row["updated_by"])


def _index(row: Any) -> Index:
    return Index(
        row["name"], row["location"], row["corpus_version"], row["model"], row["chunks"], from_ms(row["built_ms"]),
        row["built_by"], row["chunking"], IndexState(row["state"]),
    )  # fmt: skip

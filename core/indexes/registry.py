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
    entries = list_audit(store, AuditFilter(target=alias, action=Action.INDEX_SWAP), limit=_MOST_SWAPS)
    sides = ((entry.ts, SwapState.read(entry.before), SwapState.read(entry.after)) for entry in reversed(entries))
    return tuple(
        Swap(at, former.index if former else None, now.index, is_rollback=now.is_rollback)
        for at, former, now in sides
        if now
    )


def list_aliases(store: Store) -> tuple[Alias, ...]:
    """Return the index aliases, by name."""
    with store.read() as connection:
        rows = connection.execute(select(aliases).order_by(aliases.c.alias)).mappings()
        return tuple(
            Alias(row["alias"], row["index_name"], row["version"], from_ms(row["updated_ms"]), row["updated_by"])
            for row in rows
        )


def lock_index(connection: Connection, name: str) -> str | None:
    """Return the state of an index, which stays what it is until the transaction ends; None when there is none."""
    return connection.scalar(select(indexes.c.state).where(indexes.c.name == name).with_for_update())


def newest_swap_id(connection: Connection) -> int:
    """Return the audit entry of the last swap of any alias; 0 before the first."""
    return connection.scalar(select(func.max(audit.c.id)).where(audit.c.action == Action.INDEX_SWAP)) or 0


def _index(row: Any) -> Index:
    return Index(
        row["name"], row["location"], row["corpus_version"], row["model"], row["chunks"], from_ms(row["built_ms"]),
        row["built_by"], row["chunking"], IndexState(row["state"]),
    )  # fmt: skip

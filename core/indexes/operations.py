"""Shell: registers, swaps, rolls back and retires indexes, each change with its audit entry in one transaction."""

from sqlalchemy import delete, insert, select, update

from core.audit.actions import Action
from core.audit.acts import Act, changing
from core.audit.gate import find_naming
from core.audit.settings import move_state_version, save_versioned
from core.errors import Conflict, NotFound
from core.indexes.audited import BuildState, SwapState
from core.indexes.canaried import list_canaried
from core.indexes.registry import Index, IndexState, list_aliases, list_indexes, list_swaps, lock_index, newest_swap_id
from core.indexes.retention import former_indexes
from quarterdeck.clock import to_ms
from quarterdeck.schema import aliases, indexes
from quarterdeck.store import Store


def register_index(store: Store, index: Index, by: Act) -> int:
    """Register a finished vector index. Raises Conflict when its name is taken, also by a change that waits for one."""
    if index.name in {known.name for known in list_indexes(store)}:
        raise Conflict(f"index {index.name!r} is already registered")
    built = BuildState(
        index.location, index.corpus_version, index.model, index.chunks, to_ms(index.built), index.built_by,
        index.chunking,
    )  # fmt: skip
    with changing(store, by) as change:
        if (request := find_naming(change.connection, index.name, at_ms=change.at_ms)) is not None:
            raise Conflict(f"request {request} was made for another index {index.name!r}; decide about it first")
        change.connection.execute(insert(indexes).values(name=index.name, **built.to_audit()))
        change.record(Action.INDEX_REGISTER, index.name, None, built)
    return change.entry_id


def swap_index(
    store: Store, alias: str, index_name: str, by: Act, *, expected: str | None, probe: str = "", rollback: bool = False
) -> int:
    """Point `alias` to another index, with optimistic locking: Conflict unless it points to `expected` now.

    `probe` describes the check made before and goes into the audit trail. Raises NotFound for an index that is not
    registered, or is being removed.
    """
    before, after = SwapState(expected) if expected else None, SwapState(index_name, probe, is_rollback=rollback)
    with changing(store, by) as change:
        if lock_index(change.connection, index_name) != IndexState.READY:
            raise NotFound(f"index: no index {index_name!r} is registered; build it first")
        live = change.connection.execute(select(aliases).where(aliases.c.alias == alias)).first()
        if (live.index_name if live else None) != expected:
            raise Conflict(f"alias {alias!r} points to {live.index_name if live else 'nothing'}, not to {expected}")
        values = {"index_name": index_name, "updated_ms": change.at_ms, "updated_by": by.actor}
        version = live.version if live else 0
        save_versioned(change.connection, aliases, {"alias": alias}, values, expected_version=version)
        move_state_version(change.connection)
        change.record(Action.INDEX_SWAP, alias, before, after)
    return change.entry_id


def find_rollback(store: Store, alias: str) -> str | None:
    """Return the index that a rollback of `alias` would restore: the last one before the present that still exists."""
    ready = {index.name for index in list_indexes(store)}
    return next((name for name in former_indexes(list_swaps(store, alias)) if name in ready), None)


def rollback_index(store: Store, alias: str, by: Act) -> str:
    """Point `alias` back to its previous index, and return that name; twice in a row goes back two.

    Raises NotFound when there is no previous index, or none that still exists.
    """
    live = next((known for known in list_aliases(store) if known.alias == alias), None)
    if live is None:
        raise NotFound(f"alias: there is no alias {alias!r}")
    former = find_rollback(store, alias)
    if former is None:
        raise NotFound(f"alias {alias!r} has no previous index that still exists; build one and swap it in")
    swap_index(store, alias, former, by, expected=live.index_name, rollback=True)
    return former


def retire_index(store: Store, name: str, by: Act, *, newest_swap: int) -> int:
    """Bar an index from being swapped in, so that its files can be removed.

    `newest_swap` is the swap on which the decision is based. Raises Conflict when an alias points to the index or a
    canary searches it, or after a newer swap, since the index may have been used in between.
    """
    with changing(store, by) as change:
        state = lock_index(change.connection, name)
        if state is None:
            raise NotFound(f"index: no index {name!r} is registered")
        if name in change.connection.scalars(select(aliases.c.index_name)):
            raise Conflict(f"index {name!r} is live and cannot be removed")
        if name in list_canaried(change.connection):
            raise Conflict(f"an index canary searches index {name!r}; remove the canary's flag first")
        if newest_swap_id(change.connection) != newest_swap:
            raise Conflict(f"an alias was swapped during the removal of index {name!r}; try again")
        change.connection.execute(update(indexes).where(indexes.c.name == name).values(state=IndexState.RETIRED))
        change.record(Action.INDEX_RETIRE, name, {"state": state}, {"state": str(IndexState.RETIRED)})
    return change.entry_id


def forget_index(store: Store, name: str, by: Act) -> int:
    """Unregister a retired index whose files are gone. Raises Conflict when it is not retired."""
    with changing(store, by) as change:
        if lock_index(change.connection, name) != IndexState.RETIRED:
            raise Conflict(f"index {name!r} is not retired; nothing was removed")
        row = change.connection.execute(select(indexes).where(indexes.c.name == name)).mappings().one()
        change.connection.execute(delete(indexes).where(indexes.c.name == name))
        change.record(
            Action.INDEX_REMOVE, name, {key: row[key] for key in ("corpus_version", "chunks", "built_ms")}, None
        )
    return change.entry_id

"""Shell: registers, swaps, rolls back and retires indexes, each change with its audit entry in one transaction."""

from sqlalchemy import delete, insert, select, update

from core.audit.actions import Action
from core.audit.acts import Act, changing
from core.audit.settings import move_state_version, save_versioned
from core.errors import Conflict, NotFound
from core.indexes.audited import BuildState, SwapState
from core.indexes.registry import Index, IndexState, list_aliases, list_indexes, list_swaps, lock_index, newest_swap_id
from core.indexes.retention import former_indexes
from quarterdeck.clock import to_ms
from quarterdeck.schema import aliases, indexes
from quarterdeck.store import Store


def register_index(store: Store, index: Index, by: Act) -> int:
    """Make a finished vector index known. Raises Conflict when its name is taken."""
    if index.name in {known.name for known in list_indexes(store)}:
        raise Conflict(f"index {index.name!r} is registered already")
    built = BuildState(
        index.location, index.corpus_version, index.model, index.chunks, to_ms(index.built), index.built_by,
        index.chunking,
    )  # fmt: skip
    with changing(store, by) as change:
        change.connection.execute(insert(indexes).values(name=index.name, **built.to_audit()))
        change.record(Action.INDEX_REGISTER, index.name, None, built)
    return change.entry_id


def swap_index(
    store: Store, alias: str, index_name: str, by: Act, *, expected: str | None, probe: str = "", rollback: bool = False
) -> int:
    """Let `alias` stand for another index. `expected` is the one that it stands for now; Conflict if it does not.

    `probe` is kept in the audit trail: what was checked before. Raises NotFound for an index that is not registered,
    or is being removed.
    """
    before, after = SwapState(expected) if expected else None, SwapState(index_name, probe, is_rollback=rollback)
    with changing(store, by) as change:
        if lock_index(change.connection, index_name) != IndexState.READY:
            raise NotFound(f"index: no index {index_name!r} is registered; build it first")
        live = change.connection.execute(select(aliases).where(aliases.c.alias == alias)).first()
        if (live.index_name if live else None) != expected:
            raise Conflict(f"alias {alias!r} stands for {live.index_name if live else 'nothing'}, not for {expected}")
        values = {"index_name": index_name, "updated_ms": change.at_ms, "updated_by": by.actor}
        version = live.version if live else 0
        save_versioned(change.connection, aliases, {"alias": alias}, values, expected_version=version)
        move_state_version(change.connection)
        change.record(Action.INDEX_SWAP, alias, before, after)
    return change.entry_id


def find_rollback(store: Store, alias: str) -> str | None:
    """Return the index that a rollback of `alias` would go back to: the last before the present that still exists."""
    ready = {index.name for index in list_indexes(store)}
    return next((name for name in former_indexes(list_swaps(store, alias)) if name in ready), None)


def rollback_index(store: Store, alias: str, by: Act) -> str:
    """Let `alias` stand for the index it stood for before, and return its name; twice in a row goes back two.

    Raises NotFound when there is no former index, or none that still exists.
    """
    live = next((known for known in list_aliases(store) if known.alias == alias), None)
    if live is None:
        raise NotFound(f"alias: there is no alias {alias!r}")
    former = find_rollback(store, alias)
    if former is None:
        raise NotFound(f"alias {alias!r} stood for no other index that still exists; build one and swap it in")
    swap_index(store, alias, former, by, expected=live.index_name, rollback=True)
    return former


def retire_index(store: Store, name: str, by: Act, *, newest_swap: int) -> int:
    """Bar an index from being swapped in, so that its files can be removed.

    `newest_swap` is the swap that the decision rests on. Raises Conflict when an alias stands for the index, or
    when there was a swap since: somebody may have used the index in the meantime.
    """
    with changing(store, by) as change:
        state = lock_index(change.connection, name)
        if state is None:
            raise NotFound(f"index: no index {name!r} is registered")
        if name in change.connection.scalars(select(aliases.c.index_name)):
            raise Conflict(f"index {name!r} is live and is not removed")
        if newest_swap_id(change.connection) != newest_swap:
            raise Conflict(f"an alias was swapped while index {name!r} was to be removed; look again")
        change.connection.execute(update(indexes).where(indexes.c.name == name).values(state=IndexState.RETIRED))
        change.record(Action.INDEX_RETIRE, name, {"state": state}, {"state": str(IndexState.RETIRED)})
    return change.entry_id


def forget_index(store: Store, name: str, by: Act) -> int:
    """Take a retired index, whose files are gone, off the list. Raises Conflict when it is not retired."""
    with changing(store, by) as change:
        if lock_index(change.connection, name) != IndexState.RETIRED:
            raise Conflict(f"index {name!r} is not retired; nothing was removed")
        row = change.connection.execute(select(indexes).where(indexes.c.name == name)).mappings().one()
        change.connection.execute(delete(indexes).where(indexes.c.name == name))
        change.record(
            Action.INDEX_REMOVE, name, {key: row[key] for key in ("corpus_version", "chunks", "built_ms")}, None
        )
    return change.entry_id

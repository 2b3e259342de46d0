"""Gateway to what index canaries search: the indexes that they compare now, and those that they left lately.

Garbage collection keeps both. Canaries are started and judged in `core/rollouts`.
"""

import json
from datetime import datetime

from sqlalchemy import Connection, select

from quarterdeck.clock import from_ms, to_ms
from quarterdeck.index_canaries import PREFIX, IndexArms, read_arms
from quarterdeck.schema import aliases, audit, flags
from quarterdeck.store import Store


def list_canaried(connection: Connection) -> frozenset[str]:
    """Return the indexes that canaries of any environment compare, also those that serve nobody at the moment."""
    known = {alias: (name, version) for alias, name, version, _ in _list_aliases(connection)}
    held = [each for each in _list_arms(connection) if each.holds(*known.get(each.alias, (None, 0)))]
    return frozenset(name for each in held for name in (each.live, each.candidate))


def list_left(store: Store, *, since: datetime) -> dict[str, datetime]:
    """Return the indexes that canaries searched until a change since then, with the time of the last such change.

    That is a change of the canary, or a swap of its alias.
    """
    query = (
        select(audit.c.ts_ms, audit.c.target, audit.c.before)
        .where(audit.c.ts_ms >= to_ms(since), audit.c.target.startswith(PREFIX, autoescape=True))
        .order_by(audit.c.ts_ms)
    )
    with store.read() as connection:
        changed = [(ts_ms, _read(key, before)) for ts_ms, key, before in connection.execute(query)]
        moved_ms = {alias: moved for alias, _, _, moved in _list_aliases(connection) if moved >= to_ms(since)}
        swapped = [(moved_ms[each.alias], each) for each in _list_arms(connection) if each.alias in moved_ms]
    found = sorted(((ms, arms) for ms, arms in (*changed, *swapped) if arms), key=lambda pair: pair[0])
    return {name: from_ms(ts_ms) for ts_ms, arms in found for name in (arms.live, arms.candidate)}


def _list_aliases(connection: Connection) -> list[tuple[str, str, int, int]]:
    query = select(aliases.c.alias, aliases.c.index_name, aliases.c.version, aliases.c.updated_ms)
    return [(alias, name, version, moved_ms) for alias, name, version, moved_ms in connection.execute(query)]


def _list_arms(connection: Connection) -> list[IndexArms]:
    query = select(flags.c.key, flags.c.definition).where(flags.c.key.startswith(PREFIX, autoescape=True))
    found = (_read(key, definition) for key, definition in connection.execute(query))
    return [arms for arms in found if arms]


def _read(key: str, definition: str | None) -> IndexArms | None:
    """Return the indexes of a stored definition; None for one that cannot be read, which clients do not follow."""
    try:
        return read_arms(key, json.loads(definition or "null"))
    except ValueError:
        return None

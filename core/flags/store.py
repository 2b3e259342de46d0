"""Gateway to the flags of an environment: flagd definitions, each with the version that the next writer has to expect.

Writing functions take the open transaction of `core.audit.acts.changing`, so no change lands without its audit entry.
"""

import json
import threading
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any

from sqlalchemy import Connection, delete, select

from core.audit.settings import move_state_version, save_versioned
from core.audit.trail import _to_json
from core.errors import Conflict, NotFound
from core.flags.definition import FlagDefinition
from quarterdeck.clock import from_ms
from quarterdeck.schema import flags
from quarterdeck.snapshot import read_state_version
from quarterdeck.store import Store

_MOST_KNOWN = 64  # environments whose flags are kept parsed, until the state version moves
_keeping = threading.Lock()


@dataclass(frozen=True)  # without slots, so that the view is made once
class Flag:
    """One flag of one environment: a flagd definition, and the version that the next writer has to expect.

    `definition` is the JSON exactly as it is stored; what it says is asked of `view`.
    """

    environment: str
    key: str
    definition: dict[str, Any]
    version: int
    updated: datetime
    updated_by: str

    @cached_property
    def view(self) -> FlagDefinition:
        """What the definition says."""
        return FlagDefinition(self.definition)


_known: dict[tuple[str, str], tuple[tuple[int, str], tuple[Flag, ...]]] = {}


def list_flags(store: Store, environment: str) -> tuple[Flag, ...]:
    """Return every flag of the environment, by key. They are shared: nobody may change a definition in place."""
    place = (store.name, environment)
    with store.read() as connection:
        version = read_state_version(connection)  # first, so that the flags are at least as new as it
        if (known := _known.get(place)) is not None and known[0] == version:
            return known[1]
        rows = connection.execute(select(flags).where(flags.c.environment == environment).order_by(flags.c.key))
        found = tuple(_flag(row) for row in rows.mappings())
    if version[1]:  # the mark of the store, which it gets with its first flag
        _keep(place, version, found)
    return found


def _keep(place: tuple[str, str], version: tuple[int, str], found: tuple[Flag, ...]) -> None:
    with _keeping:
        _known.pop(place, None)
        _known[place] = (version, found)
        while len(_known) > _MOST_KNOWN:
            _known.pop(next(iter(_known)))


def get_flag(store: Store, environment: str, key: str) -> Flag:
    """Return one flag. Raises NotFound, listing the existing ones."""
    for flag in (known := list_flags(store, environment)):
        if flag.key == key:
            return flag
    names = ", ".join(flag.key for flag in known) or "none"
    raise NotFound(f"flag: no flag {key!r} in {environment}; there are: {names}")


def save_flag(connection: Connection, flag: Flag, *, updated_ms: int) -> None:
    """Save `flag.definition` with optimistic locking. Raises Conflict if the stored version is not `flag.version`."""
    identity = {"environment": flag.environment, "key": flag.key}
    values = {"definition": _to_json(flag.definition), "updated_ms": updated_ms, "updated_by": flag.updated_by}
    move_state_version(connection)  # first: its row lets one writer of flags through at a time
    save_versioned(connection, flags, identity, values, expected_version=flag.version)


def delete_flag(connection: Connection, flag: Flag) -> None:
    """Delete a flag with optimistic locking. Raises Conflict."""
    move_state_version(connection)
    found = connection.execute(
        delete(flags).where(
            flags.c.environment == flag.environment, flags.c.key == flag.key, flags.c.version == flag.version
        )
    )
    if found.rowcount != 1:
        raise Conflict(f"flag {flag.key!r} was changed by somebody else; reload and check it")


def _flag(row: Any) -> Flag:
    return Flag(
        row["environment"], row["key"], json.loads(row["definition"]), row["version"],
        from_ms(row["updated_ms"]), row["updated_by"],
    )  # fmt: skip


def export_flags(store: Store, environment: str) -> dict[str, Any]:
    """Return the environment's flags as a flagd document."""
    return {"flags": {flag.key: flag.definition for flag in list_flags(store, environment)}}

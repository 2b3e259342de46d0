"""Gateway to the settings: named values in the store, each with the version that the next writer has to expect.

Writing functions take the open transaction of `core.audit.acts.changing`, so no change lands without its audit entry.
"""

import json
import uuid
from typing import Any

from sqlalchemy import Connection, Table, insert, select, update

from core.errors import Conflict
from quarterdeck.news import tell_news
from quarterdeck.schema import settings
from quarterdeck.snapshot import STATE_VERSION
from quarterdeck.store import Store


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

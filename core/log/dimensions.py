"""Shell: writes the attributes that services declare into a log in ClickHouse, whose views count them from then on.

The settings of the services decide. A log in SQLite or PostgreSQL needs no copy: its writers read the settings.
"""

from sqlalchemy import Connection, select

from quarterdeck.clickhouse import ClickHouseLog
from quarterdeck.clock import now_ms
from quarterdeck.log import as_log
from quarterdeck.registry import SERVICE_SETTING, read_declared
from quarterdeck.schema import settings
from quarterdeck.store import Store


def declare_dimensions(store: Store) -> int:
    """Tell the log what services declare and it does not know; return of how many. Raises SourceUnavailable."""
    with store.read() as connection:
        return declare_within(store, connection)


def declare_within(store: Store, connection: Connection) -> int:
    """Do the same in a transaction that may have changed the settings."""
    log = as_log(store)
    if not isinstance(log, ClickHouseLog):
        return 0
    log.create_tables()
    found = connection.execute(
        select(settings.c.name, settings.c.value).where(settings.c.name.startswith(SERVICE_SETTING, autoescape=True))
    )
    wanted = {name.removeprefix(SERVICE_SETTING): read_declared(value) for name, value in found}
    known = log.list_declared()
    changed = {
        service: wanted.get(service, ())
        for service in sorted(wanted.keys() | known.keys())
        if wanted.get(service, ()) != known.get(service, ((), 0))[0]
    }
    if changed:
        newest_ms = max((known[service][1] for service in changed if service in known), default=0)
        log.declare(changed, max(now_ms(), newest_ms + 1))
    return len(changed)

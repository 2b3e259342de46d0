"""Gateway to the ids under which the store keeps what belongs to a scope."""

from sqlalchemy import Connection, select

from quarterdeck.schema import scopes
from quarterdeck.scope import Scope


def find_scope_id(connection: Connection, scope: Scope) -> int | None:
    """Return the id of a scope, None where it never reported."""
    c = scopes.c
    found = connection.scalar(select(c.id).where(c.environment == scope.environment, c.service == scope.service))
    return None if found is None else int(found)

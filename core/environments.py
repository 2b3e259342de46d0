"""Gateway to the names of the environments: each has flags of its own, with their own state."""

from sqlalchemy import select, union

from core.control import get_setting
from quarterdeck.schema import flags, tokens
from quarterdeck.store import Store

ENVIRONMENTS = "environments"


def list_environments(store: Store, own: str) -> tuple[str, ...]:
    """Return the deck's `own` environment, then by name those that were added and those with flags or tokens."""
    added, _ = get_setting(store, ENVIRONMENTS)
    with store.read() as connection:
        used = connection.scalars(union(select(flags.c.environment), select(tokens.c.environment))).all()
    return (own, *sorted({*(added or ()), *used} - {own}))

"""Gateway to the names of the environments: each has flags of its own, with their own state."""

from sqlalchemy import select, union

from core.audit.settings import Family, get_setting, setting_key
from core.errors import InvalidInput
from quarterdeck.schema import flags, tokens
from quarterdeck.store import Store


def list_environments(store: Store, own: str) -> tuple[str, ...]:
    """Return the deck's `own` environment, then by name those that were added and those with flags or tokens."""
    added, _ = get_setting(store, setting_key(Family.ENVIRONMENTS))
    with store.read() as connection:
        used = connection.scalars(union(select(flags.c.environment), select(tokens.c.environment))).all()
    return (own, *sorted({*(added or ()), *used} - {own}))


MAX_ENVIRONMENT = 64


def check_environment(name: str, *, field: str = "environment") -> str:
    """Return the name. Raises InvalidInput unless it can be an environment's, in a URL as on a command line."""
    plain = name.isascii() and name[:1].isalnum() and all(letter.isalnum() or letter in "._-" for letter in name)
    if not plain or len(name) > MAX_ENVIRONMENT:
        problem = f"must be 1 to {MAX_ENVIRONMENT} letters, digits, dots, dashes or underscores, not {name[:80]!r}"
        raise InvalidInput(field, problem)
    return name

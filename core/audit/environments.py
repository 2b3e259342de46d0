"""Gateway to the names of the environments. Each has flags of its own, with their own state."""

from sqlalchemy import select, union

from core.audit.settings import Family, get_setting, setting_key
from core.errors import InvalidInput, SourceUnavailable
from quarterdeck.schema import flags, tokens
from quarterdeck.scope import read_aliases
from quarterdeck.store import Store


def list_environments(store: Store, own: str) -> tuple[str, ...]:
    """Return the deck's `own` environment, then, by name, added ones and those with flags or tokens."""
    added, _ = get_setting(store, setting_key(Family.ENVIRONMENTS))
    with store.read() as connection:
        used = connection.scalars(union(select(flags.c.environment), select(tokens.c.environment))).all()
    return (own, *sorted({*(added or ()), *used} - {own}))


def settle_environment(store: Store, name: str) -> str:
    """Return the environment whose flags a name means: what it is an alias of, unless it has flags or tokens itself.

    Those are from before the alias. A store that cannot be read leaves every name as it is.
    """
    meant = read_aliases().get(name.casefold())
    if meant is None:
        return name
    try:
        has_own = store.find_revision() is not None and name in list_environments(store, meant)
    except SourceUnavailable:
        has_own = True
    return name if has_own else meant


MAX_ENVIRONMENT = 64


def check_environment(name: str, *, field: str = "environment") -> str:
    """Return the name. Raises InvalidInput unless it is valid for an environment, in URLs and on command lines."""
    plain = name.isascii() and name[:1].isalnum() and all(letter.isalnum() or letter in "._-" for letter in name)
    if not plain or len(name) > MAX_ENVIRONMENT:
        problem = f"must be 1 to {MAX_ENVIRONMENT} letters, digits, dots, dashes or underscores, not {name[:80]!r}"
        raise InvalidInput(field, problem)
    return name

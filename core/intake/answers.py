"""Gateway to one setting: whose answers are kept. They are text of users, so no service's are unless it says so."""

import json
from collections.abc import Callable

from sqlalchemy import select

from quarterdeck.registry import SERVICE_SETTING
from quarterdeck.schema import settings
from quarterdeck.scope import Scope
from quarterdeck.store import Store

KEEP_ANSWERS = "keep_answers"


def keeps_answers(store: Store) -> Callable[[Scope], bool]:
    """Return whether answers of a scope are kept; each service's setting is read at most once."""
    known: dict[str, bool] = {}

    def keeps(scope: Scope) -> bool:
        if scope.service not in known:
            known[scope.service] = _read(store, scope.service)
        return known[scope.service]

    return keeps


def _read(store: Store, service: str) -> bool:
    with store.read() as connection:
        stored = connection.scalar(select(settings.c.value).where(settings.c.name == f"{SERVICE_SETTING}{service}"))
    try:
        found = json.loads(stored or "{}")
    except ValueError:  # edited by hand
        return False
    return isinstance(found, dict) and found.get(KEEP_ANSWERS) is True

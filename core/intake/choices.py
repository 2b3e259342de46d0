"""Gateway to what a service chose for its spans: whether answers are kept, and what its scores are.

Answers are text of users: they are kept for no service unless it says so.
"""

import json
from collections.abc import Callable
from typing import Any

from sqlalchemy import select

from core.intake.spans import Choices
from quarterdeck.registry import SERVICE_SETTING
from quarterdeck.schema import settings
from quarterdeck.scope import Scope
from quarterdeck.similarity import KINDS
from quarterdeck.store import Store

KEEP_ANSWERS, SCORE_KIND = "keep_answers", "score_kind"


def choices_of(store: Store) -> Callable[[Scope], Choices]:
    """Return what the service of a scope chose; each service's setting is read at most once."""
    known: dict[str, Choices] = {}

    def find(scope: Scope) -> Choices:
        if scope.service not in known:
            known[scope.service] = _read(store, scope.service)
        return known[scope.service]

    return find


def _read(store: Store, service: str) -> Choices:
    with store.read() as connection:
        stored = connection.scalar(select(settings.c.value).where(settings.c.name == f"{SERVICE_SETTING}{service}"))
    try:
        found: Any = json.loads(stored or "{}")
    except ValueError:  # edited by hand
        return Choices()
    if not isinstance(found, dict):
        return Choices()
    kind = found.get(SCORE_KIND)
    return Choices(found.get(KEEP_ANSWERS) is True, kind if kind in KINDS else "")

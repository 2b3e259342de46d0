"""Gateway to what services chose for their spans: whether answers are kept, and what their scores are."""

from collections.abc import Callable
from functools import lru_cache

from core.intake.spans import SpanChoices
from core.log.services import get_service
from quarterdeck.scope import Scope
from quarterdeck.store import Store

_SERVICES_KEPT = 256  # of one request


def choices_of(store: Store) -> Callable[[Scope], SpanChoices]:
    """Return what the service of a scope chose; each service's setting is read at most once."""

    @lru_cache(_SERVICES_KEPT)
    def read(service: str) -> SpanChoices:
        found = get_service(store, service)
        return SpanChoices(found.keep_answers, found.score_kind)

    return lambda scope: read(scope.service)

"""Gateway to what services chose for their rows: what their scores are, and whether answers in traces are kept."""

import time
from collections.abc import Callable
from functools import lru_cache
from threading import Lock
from weakref import WeakKeyDictionary

from core.intake.spans import SpanChoices
from core.log.services import get_service, list_saved_names
from quarterdeck.scope import Scope
from quarterdeck.store import Store

_SERVICES_KEPT = 256  # of one request


def choices_of(store: Store) -> Callable[[Scope], SpanChoices]:
    """Return what the service of a scope chose; each service's setting is read at most once."""
    saved = list_saved_names(store)

    @lru_cache(_SERVICES_KEPT)
    def read(service: str) -> SpanChoices:
        found = get_service(store, service)
        return SpanChoices(found.keep_answers, found.score_kind)

    return lambda scope: read(scope.service) if scope.service in saved else _NOTHING_CHOSEN


def kinds_of(store: Store) -> Callable[[Scope], str]:
    """Return what the scores of a service are where a row does not say it; "" is a cosine.

    For requests of single rows: a process looks at most every five seconds whether a service changed its mind.
    """
    now = time.monotonic()
    with _looking:
        read_at, kinds = _kinds.get(store, (0.0, {}))
        if now - read_at >= _LOOK_AGAIN_S:
            kinds = {name: get_service(store, name).score_kind for name in list_saved_names(store)}
            _kinds[store] = (now, kinds)
    return lambda scope: kinds.get(scope.service, "")


_NOTHING_CHOSEN = SpanChoices()
_LOOK_AGAIN_S = 5.0
_looking = Lock()
_kinds: "WeakKeyDictionary[Store, tuple[float, dict[str, str]]]" = WeakKeyDictionary()

"""Gateway to what services chose for their rows: what their scores are, and whether answers in traces are kept."""

import time
from collections.abc import Callable
from functools import lru_cache
from threading import Lock
from weakref import WeakKeyDictionary

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


def kinds_of(store: Store) -> Callable[[Scope], str]:
    """Return what the scores of a service are where a row does not say it; "" is a cosine.

    For requests of single rows: a process looks at most every five seconds whether a service changed its mind.
    """
    now = time.monotonic()
    with _looking:
        read_at, kinds = _kinds.get(store, (0.0, {}))
        if now - read_at >= _LOOK_AGAIN_S:
            kinds = dict[str, str]()
            _kinds[store] = (now, kinds)

    def read(scope: Scope) -> str:
        if (kind := kinds.get(scope.service)) is None:
            kind = get_service(store, scope.service).score_kind
            if len(kinds) < _SERVICES_KEPT:
                kinds[scope.service] = kind
        return kind

    return read


_LOOK_AGAIN_S = 5.0
_looking = Lock()
_kinds: "WeakKeyDictionary[Store, tuple[float, dict[str, str]]]" = WeakKeyDictionary()

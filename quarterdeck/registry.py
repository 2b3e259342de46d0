"""Gateway to what writers look up in the store: ids of scopes, and which values of a dimension are counted by name.

Answers are cached, because they hardly ever change. A service's declared dimensions are read again every 30 seconds.
"""

import json
import time
from collections import Counter
from collections.abc import Container, Iterable, Mapping, Sequence
from copy import copy
from threading import Lock
from typing import Any
from weakref import WeakKeyDictionary

from sqlalchemy import Connection, select, text

from quarterdeck.clock import now_ms
from quarterdeck.rollups import DOCUMENT
from quarterdeck.schema import (
    MOST_DOCUMENTS,
    MOST_VALUES,
    OTHER,
    dimension_values,
    document_days,
    scopes,
    settings,
)
from quarterdeck.scope import DEFAULT_ENVIRONMENT, DEFAULT_SERVICE, MOST_ENVIRONMENTS, MOST_SERVICES, Scope
from quarterdeck.store import Store

SERVICE_SETTING = "service:"  # and the service's name: its declared dimensions, time zone and links

_RELOAD_S = 30.0
_MOST_KEPT = 2_000
_MOST_DAYS = 64
_Day = tuple[Scope, str, int]


class Registry:
    """What one writer of a store knows. Every method needs the open transaction in which it may write."""

    def __init__(self) -> None:
        self._ids: dict[Scope, int] = {}
        self._names: dict[int, Scope] = {}
        self._known: dict[_Day, set[str]] = {}
        self._declared: dict[str, tuple[float, tuple[str, ...]]] = {}

    def lend(self) -> "Registry":
        """Return a copy for a transaction that may be rolled back without our seeing it."""
        lent = copy(self)
        lent._ids, lent._names, lent._declared = dict(self._ids), dict(self._names), dict(self._declared)
        lent._known = {day: set(values) for day, values in self._known.items() if len(values) <= MOST_VALUES}
        return lent

    def forget(self) -> None:
        """Forget everything: a transaction that wrote it was rolled back, or the store was replaced."""
        self.__init__()  # type: ignore[misc]

    def find_ids(self, connection: Connection, wanted: Iterable[Scope]) -> dict[Scope, int]:
        """Return the ids of these scopes; a new scope is added. Beyond the bounds, names become OTHER."""
        named = list(wanted)
        if all(scope in self._ids for scope in named):
            return {scope: self._ids[scope] for scope in named}
        query = select(scopes.c.environment, scopes.c.service, scopes.c.id)  # a few thousand at most: they are bounded
        stored = {
            Scope(environment, service): int(number) for environment, service, number in connection.execute(query)
        }
        counts = Counter(environment for environment, _ in stored)
        return {scope: self._ids.get(scope) or self._find_id(connection, scope, stored, counts) for scope in named}

    def name_scopes(self, connection: Connection, wanted: Iterable[Scope]) -> dict[Scope, Scope]:
        """Return the names under which the store counts these scopes; see `find_ids`."""
        ids = self.find_ids(connection, wanted)
        if unknown := {scope_id for scope_id in ids.values() if scope_id not in self._names}:
            query = select(scopes.c.id, scopes.c.environment, scopes.c.service).where(scopes.c.id.in_(unknown))
            self._names.update((scope_id, Scope(*names)) for scope_id, *names in connection.execute(query))
        return {scope: self._names[scope_id] for scope, scope_id in ids.items()}

    def admit(self, connection: Connection, scope: Scope, dimension: str, day_ms: int, values: set[str]) -> set[str]:
        """Return which of these values are counted by name on a UTC day: the first ones, up to the bound."""
        known, day = self._known.get((scope, dimension, day_ms)), (scope, dimension, day_ms)
        most = MOST_DOCUMENTS if dimension == DOCUMENT else MOST_VALUES
        if known is not None and (len(known) >= most or values <= known):
            return values & known
        scope_id = self.find_ids(connection, [scope])[scope]
        if len(self._known) >= _MOST_DAYS * 8:
            self._known.clear()
        known = self._known[day] = _read_values(connection, scope_id, dimension, day_ms)
        new = sorted(values - known)[: max(0, most - len(known))]
        if new and dimension != DOCUMENT:  # a document's own rollup names it
            rows = [{"scope_id": scope_id, "dimension": dimension, "day_ms": day_ms, "value": value} for value in new]
            connection.execute(_ADD_VALUES, rows)
        known.update(new)
        return values & known

    def list_declared(self, connection: Connection, services: Iterable[str]) -> dict[str, tuple[str, ...]]:
        """Return the attributes that are dimensions, by service."""
        found = {}
        for service in services:
            read_at, names = self._declared.get(service, (-_RELOAD_S, ()))
            if time.monotonic() - read_at >= _RELOAD_S:
                names = _read_declared(connection, service)
                self._declared[service] = (time.monotonic(), names)
            found[service] = names
        return found

    def find_declared(self, services: Iterable[str]) -> dict[str, tuple[str, ...]] | None:
        """Return the same from memory; None if one of the services has to be read again."""
        now, found = time.monotonic(), {}
        for service in services:
            read_at, found[service] = self._declared.get(service, (-_RELOAD_S, ()))
            if now - read_at >= _RELOAD_S:
                return None
        return found

    def _find_id(self, connection: Connection, scope: Scope, stored: dict[Scope, int], counts: Counter[str]) -> int:
        taken = _bounded(scope, stored, counts)
        if taken not in stored:
            connection.execute(_ADD_SCOPE, {**taken._asdict(), "first_seen_ms": now_ms()})
            stored[taken] = int(connection.execute(_ID_OF, taken._asdict()).scalar_one())
            counts[taken.environment] += 1
        found_id = stored[taken]
        if len(self._ids) < _MOST_KEPT:
            self._ids[scope] = self._ids[taken] = found_id
        return found_id


def registry_of(store: Store) -> Registry:
    """Return the registry of the writers of a store in this process."""
    with _lock:
        return _registries.setdefault(store, Registry())


def read_service(stored: str | None) -> dict[str, Any]:
    """Return the stored settings of a service; nothing if they were edited by hand and cannot be read."""
    try:
        found: Any = json.loads(stored or "{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def read_declared(stored: str | None) -> tuple[str, ...]:
    """Return the attributes that the stored settings of a service declare as dimensions."""
    named = read_service(stored).get("dimensions", ())
    return tuple(name for name in named if isinstance(name, str)) if isinstance(named, Sequence) else ()


_lock = Lock()
_registries: "WeakKeyDictionary[Store, Registry]" = WeakKeyDictionary()
_ID_OF = select(scopes.c.id).where(scopes.c.environment == text(":environment"), scopes.c.service == text(":service"))
_ADD_SCOPE = text(
    "INSERT INTO scopes (environment, service, first_seen_ms) VALUES (:environment, :service, :first_seen_ms) "
    "ON CONFLICT DO NOTHING"
)
_ADD_VALUES = text(
    "INSERT INTO dimension_values (scope_id, dimension, day_ms, value) VALUES (:scope_id, :dimension, :day_ms, :value) "
    "ON CONFLICT DO NOTHING"
)


def _bounded(scope: Scope, stored: Container[Scope], counts: Mapping[str, int]) -> Scope:
    """Return the scope, or OTHER in place of a new name beyond the bounds; `counts` has the services by environment."""
    if scope in stored or scope == (DEFAULT_ENVIRONMENT, DEFAULT_SERVICE):
        return scope
    environment = scope.environment
    if environment not in counts and len(counts.keys() - {OTHER}) >= MOST_ENVIRONMENTS:
        environment = OTHER
    taken = Scope(environment, scope.service)
    is_full = counts.get(environment, 0) >= MOST_SERVICES
    return Scope(environment, OTHER) if is_full and taken not in stored else taken


def _read_values(connection: Connection, scope_id: int, dimension: str, day_ms: int) -> set[str]:
    if dimension == DOCUMENT:
        c = document_days.c
        return set(connection.scalars(select(c.document).where(c.scope_id == scope_id, c.day_ms == day_ms))) - {OTHER}
    v = dimension_values.c
    same = (v.scope_id == scope_id, v.dimension == dimension, v.day_ms == day_ms)
    return set(connection.scalars(select(v.value).where(*same)))


def _read_declared(connection: Connection, service: str) -> tuple[str, ...]:
    stored = connection.scalar(select(settings.c.value).where(settings.c.name == f"{SERVICE_SETTING}{service}"))
    return read_declared(stored)

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
        """Return the ids of these scopes; new ones are added together. Beyond the bounds, names become OTHER."""
        named = dict.fromkeys(wanted)
        if not named.keys() <= self._ids.keys():
            places = self._add(connection, named)
            return {scope: self._ids[places[scope]] for scope in named}
        return {scope: self._ids[scope] for scope in named}

    def name_scopes(self, connection: Connection, wanted: Iterable[Scope]) -> dict[Scope, Scope]:
        """Return the names under which the store counts these scopes; see `find_ids`."""
        return {scope: self._names[scope_id] for scope, scope_id in self.find_ids(connection, wanted).items()}

    def knows(self, scopes: Iterable[Scope]) -> bool:
        """Return whether the store counts all of these scopes by name, as far as is known without looking."""
        return all(scope in self._ids for scope in scopes)

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

    def _add(self, connection: Connection, named: Iterable[Scope]) -> dict[Scope, Scope]:
        """Add scopes that the store has not, as far as its bounds allow; return the name that it has for each."""
        self._read(connection)
        counts = Counter(environment for environment, _ in self._ids)
        places: dict[Scope, Scope] = {}
        known, new = set(self._ids), list[Scope]()
        for scope in named:
            taken = places[scope] = _bounded(scope, known, counts)
            if taken not in known:
                known.add(taken)
                new.append(taken)
                counts[taken.environment] += 1
        if new:
            at = now_ms()
            connection.execute(_ADD_SCOPE, [{**scope._asdict(), "first_seen_ms": at} for scope in sorted(new)])
            self._read(connection)
        return places

    def _read(self, connection: Connection) -> None:
        """Read the ids of all scopes: a few thousand at most, because they are bounded."""
        query = select(scopes.c.environment, scopes.c.service, scopes.c.id)
        self._ids = {
            Scope(environment, service): int(number) for environment, service, number in connection.execute(query)
        }
        self._names = {number: scope for scope, number in self._ids.items()}


def name_scopes(store: Store, connection: Connection, wanted: Iterable[Scope]) -> dict[Scope, Scope]:
    """Return the names under which a store counts scopes, in a transaction whose end the registry does not see."""
    named, registry = list(wanted), registry_of(store)
    return (registry if registry.knows(named) else registry.lend()).name_scopes(connection, named)


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

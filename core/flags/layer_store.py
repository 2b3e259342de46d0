"""Gateway to layers and the holdout: settings of their environment. Which flag has which slice is in the flags alone.

`check_slices` is asked in the transaction that saves a flag, after the state version was moved: its row lets one writer
of flags through at a time, so two changes at one moment cannot both find a slice free.
"""

import json
from typing import Any

from sqlalchemy import Connection, select

from core.audit.settings import Family, Setting, get_setting, list_settings, save_setting, setting_key
from core.errors import NotFound
from core.flags.definition import FlagDefinition
from core.flags.layers import Holdout, Layer, check_disjoint, check_held_out, find_layer
from quarterdeck.clock import from_ms, to_ms
from quarterdeck.schema import flags, settings
from quarterdeck.store import Store


def list_layers(store: Store, environment: str) -> tuple[Layer, ...]:
    """Return the layers of an environment, by name."""
    found = list_settings(store, Family.LAYER, environment)
    return tuple(layer for layer in map(_read_layer, found) if layer is not None)


def get_layer(store: Store, environment: str, name: str) -> Layer:
    """Return one layer. Raises NotFound, listing the existing ones."""
    for layer in (known := list_layers(store, environment)):
        if layer.name == name:
            return layer
    names = ", ".join(each.name for each in known) or "none"
    raise NotFound(f"layer: no layer {name[:80]!r} in {environment}; there are: {names}")


def find_layer_version(store: Store, environment: str, name: str) -> int:
    """Return the version that the next writer of a layer has to expect, also of one that was removed."""
    return get_setting(store, setting_key(Family.LAYER, environment, name)).version


def save_layer(connection: Connection, environment: str, layer: Layer, *, gone: bool = False) -> None:
    """Save or remove a layer, with optimistic locking. Raises Conflict."""
    value = {"name": layer.name, "hash_version": layer.hash_version, "description": layer.description}
    key = setting_key(Family.LAYER, environment, layer.name)
    save_setting(connection, key, None if gone else value, expected_version=layer.version)


def get_holdout(store: Store, environment: str) -> Holdout | None:
    """Return the running holdout of an environment, None where there is none."""
    return _read_holdout(get_setting(store, setting_key(Family.HOLDOUT, environment)))


def save_holdout(connection: Connection, environment: str, holdout: Holdout | None, *, expected_version: int) -> None:
    """Save the running holdout, None for none, with optimistic locking. Raises Conflict."""
    value = None
    if holdout is not None:
        value = {
            "name": holdout.name, "share_pct": holdout.share_pct, "hash_version": holdout.hash_version,
            "since_ms": to_ms(holdout.since) if holdout.since else None,
        }  # fmt: skip
    save_setting(connection, setting_key(Family.HOLDOUT, environment), value, expected_version=expected_version)


def find_holdout_version(store: Store, environment: str) -> int:
    """Return the version that the next writer of the holdout has to expect."""
    return get_setting(store, setting_key(Family.HOLDOUT, environment)).version


def list_definitions(connection: Connection, environment: str, *, space: str = "") -> dict[str, FlagDefinition]:
    """Return the flags of an environment as a transaction sees them, by key; with `space`, those that name it."""
    query = select(flags.c.key, flags.c.definition).where(flags.c.environment == environment).order_by(flags.c.key)
    if space:
        query = query.where(flags.c.definition.contains(f'"{space}/"', autoescape=True))
    return {row.key: FlagDefinition(json.loads(row.definition)) for row in connection.execute(query)}


def check_slices(connection: Connection, environment: str, key: str, definition: FlagDefinition) -> None:
    """Raise Conflict if a flag that was just saved touches users of another one of its layer, or of the holdout."""
    check_held_out(_read_holdout(_get(connection, setting_key(Family.HOLDOUT, environment))), key, definition)
    name = find_layer(definition)
    if name is not None:
        layer = _read_layer(_get(connection, setting_key(Family.LAYER, environment, name)))
        others = list_definitions(connection, environment, space=layer.space) if layer else {}
        check_disjoint(layer, key, definition, others)


def _get(connection: Connection, name: str) -> Setting:
    row = connection.execute(select(settings.c.value, settings.c.version).where(settings.c.name == name)).first()
    return Setting(json.loads(row.value), row.version) if row else Setting(None, 0)


def _read_layer(kept: Setting) -> Layer | None:
    value: dict[str, Any] | None = kept.value
    if not value:
        return None
    return Layer(value["name"], value["hash_version"], value["description"], version=kept.version)


def _read_holdout(kept: Setting) -> Holdout | None:
    value: dict[str, Any] | None = kept.value
    if not value:
        return None
    since = from_ms(value["since_ms"]) if value["since_ms"] is not None else None
    return Holdout(value["name"], value["share_pct"], value["hash_version"], since, kept.version)

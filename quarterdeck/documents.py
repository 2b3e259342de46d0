"""Rule: flagd documents as they arrive: parses text, checks the outer shape, and resolves shared evaluators.

`quarterdeck.validation` decides whether a flag may be saved.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from quarterdeck.errors import InvalidInput

# A thousand flags with twenty references of fifty parts each: far beyond any real document.
_MAX_ADDED_PARTS = 1_000_000
_LEAVES = frozenset({str, int, float, bool, type(None)})


def parse_document(text: str | bytes) -> dict[str, Any]:
    """Return the flagd document in a JSON text. Raises InvalidInput for bad JSON, NaN, or a duplicate name."""
    return check_document(parse_json(text))


def parse_json(text: str | bytes) -> Any:
    """Return what a JSON text holds. Raises InvalidInput for bad JSON, NaN, or a duplicate name in an object."""
    try:
        return json.loads(text, object_pairs_hook=_object, parse_constant=_refuse_constant)
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InvalidInput("definitions", f"not JSON: {error}") from None
    except RecursionError:
        raise InvalidInput("definitions", "nested too deeply") from None


def check_document(definitions: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy of a flagd document. Raises InvalidInput, naming the field, if its outer shape is wrong."""
    if not isinstance(definitions, Mapping):
        raise InvalidInput("definitions", "give a flagd document: an object with `flags`")
    try:
        document: dict[str, Any] = copy_json(definitions)
    except RecursionError:
        raise InvalidInput("definitions", "nested too deeply") from None
    if not isinstance(document.get("flags"), dict):
        raise InvalidInput("flags", "give an object of flag key to definition")
    if not all(isinstance(key, str) for key in document["flags"]):
        raise InvalidInput("flags", "every flag key is text")
    if not isinstance(document.get("$evaluators") or {}, dict):
        raise InvalidInput("$evaluators", "give an object of name to rule")
    check_metadata(document.get("metadata") or {})
    return document


def check_metadata(metadata: Any) -> None:
    """Raise InvalidInput unless metadata is a flat object of text, numbers and booleans."""
    if not isinstance(metadata, Mapping):
        raise InvalidInput("metadata", "give an object")
    for name, value in metadata.items():
        if not isinstance(name, str) or not name:
            raise InvalidInput("metadata", f"the name {name!r} is empty or not text")
        if not isinstance(value, str | int | float):
            raise InvalidInput(f"metadata.{name}", "metadata is flat: give text, a number or a boolean")


def resolve_references(flags: dict[str, Any], evaluators: Mapping[str, Any]) -> dict[str, Any]:
    """Return the flags with each `{"$ref": name}` replaced by that evaluator, as flagd does: in order, one pass each.

    So an evaluator may refer to a later one. A reference to an earlier one, to itself or to nothing stays, and is a
    parse error when it is evaluated. (flagd replaces text; it never finds a name that JSON escapes.) Raises
    InvalidInput if references to references grow beyond a million parts.
    """
    replacing = _Replacing()
    try:
        for name, rule in evaluators.items():
            flags = replacing.run(flags, name, rule)
    except RecursionError:
        raise InvalidInput("$evaluators", "nested too deeply") from None
    return flags


def copy_json(value: Any) -> Any:
    """Return a copy that shares no list or dictionary with `value`. Mappings become dictionaries."""
    if type(value) in _LEAVES:
        return value
    if isinstance(value, dict | Mapping):
        return {name: copy_json(item) for name, item in value.items()}
    if isinstance(value, list):
        return [copy_json(item) for item in value]
    return value


class _Replacing:
    """Replaces references to one evaluator after another, and counts the parts that this adds."""

    def __init__(self) -> None:
        self._left = _MAX_ADDED_PARTS

    def run(self, flags: dict[str, Any], name: str, rule: Any) -> dict[str, Any]:
        size = _count_parts(rule)

        def replace(value: Any) -> Any:
            if isinstance(value, dict):
                if _reference(value) == name:
                    self._left -= size
                    if self._left < 0:
                        raise InvalidInput("$evaluators", f"they add more than {_MAX_ADDED_PARTS:,} parts to the flags")
                    return copy_json(rule)
                return {key: replace(item) for key, item in value.items()}
            return [replace(item) for item in value] if isinstance(value, list) else value

        return {key: replace(definition) for key, definition in flags.items()}


def _reference(value: dict[str, Any]) -> str | None:
    """Return the name in a `{"$ref": name}` as JSON text shows it, or None."""
    name = value.get("$ref") if len(value) == 1 else None
    return json.dumps(name)[1:-1] if isinstance(name, str) else None


def _count_parts(value: Any) -> int:
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return 1 + sum(_count_parts(item) for item in inside)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise InvalidInput("definitions", f"the name {name!r} appears twice in one object")
        found[name] = value
    return found


def _refuse_constant(name: str) -> None:
    raise InvalidInput("definitions", f"{name} is not a JSON number")

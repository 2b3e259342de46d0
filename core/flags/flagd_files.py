"""Rule: reads flagd's own files as people write them, with fields that flagd ignores and with former names."""

from collections.abc import Mapping
from typing import Any

from core.flags.conversion import FLAGD, TARGETING_KEY, Converted, FlagNote
from quarterdeck.documents import check_document
from quarterdeck.shapes import salt
from quarterdeck.validation import FIELDS

_FORMER = "fractionalEvaluation"


def read_flagd(document: Mapping[str, Any]) -> tuple[dict[str, Any], Converted]:
    """Return a flagd document that can be saved, and notes on what was moved, renamed or left out.

    A flag's `description` goes to its metadata. Raises InvalidInput if the outer shape is wrong.
    """
    checked = check_document(document)
    notes: list[FlagNote] = []
    flags = {key: _tidy(key, definition, notes) for key, definition in checked["flags"].items()}
    evaluators = checked.get("$evaluators") or {}
    renamed = {name: _rename(rule) for name, rule in evaluators.items()}
    notes += [FlagNote(f"$evaluators.{name}", _SAID) for name in renamed if renamed[name] != evaluators[name]]
    found = {**checked, "flags": flags, **({"$evaluators": renamed} if renamed else {})}
    return found, Converted(FLAGD, flags, (), tuple(notes))


_SAID = (
    "fractionalEvaluation is called fractional now, and is read so; it hashed in another way, so its users are drawn "
    "anew"
)


def _tidy(key: str, definition: Any, notes: list[FlagNote]) -> Any:
    if not isinstance(definition, dict):
        return definition
    kept = {name: value for name, value in definition.items() if name in FIELDS}
    unknown = {name: value for name, value in definition.items() if name not in FIELDS}
    metadata = kept.get("metadata") or {}
    description = unknown.get("description")
    if isinstance(description, str) and isinstance(metadata, Mapping):
        del unknown["description"]
        if description and "description" not in metadata:
            kept["metadata"] = {**metadata, "description": description}
    notes += [FlagNote(key, f"the field {name!r} was left out: flagd knows no such field") for name in unknown]
    targeting = _rename(kept.get("targeting"))
    if targeting != kept.get("targeting"):
        kept["targeting"] = targeting
        notes.append(FlagNote(key, _SAID))
    return kept


def _rename(logic: Any) -> Any:
    """The same targeting with today's `fractional`. Its first argument was the name of an attribute, not its value."""
    if isinstance(logic, list):
        return [_rename(each) for each in logic]
    if not isinstance(logic, Mapping):
        return logic
    found = {name: _rename(each) for name, each in logic.items()}
    if set(found) != {_FORMER}:
        return found
    arguments = found[_FORMER]
    if not isinstance(arguments, list) or not arguments or not isinstance(arguments[0], str):
        return {"fractional": arguments}
    attribute, *buckets = arguments
    if attribute == TARGETING_KEY:
        return {"fractional": buckets}
    return {"fractional": [{"if": [{"var": attribute}, salt("/", attribute), None]}, *buckets]}

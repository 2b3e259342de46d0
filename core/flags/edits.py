"""Rule: turns what a person set in a flag's form into its new definition, and a definition into the form.

`quarterdeck.definitions` decides which flags have a rollout, weights or rules that a form can hold; all others are
edited as JSON.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from core.errors import InvalidInput
from core.flags.definition import FlagDefinition
from core.flags.upkeep import Details, read_details, set_details
from quarterdeck import definitions
from quarterdeck.documents import parse_document
from quarterdeck.rules import RuleOperator, TargetingRule
from quarterdeck.validation import validate_definition

LISTS = (RuleOperator.ONE_OF, RuleOperator.NONE_OF)
_COMPARED = (
    RuleOperator.EQUALS, RuleOperator.DIFFERS, RuleOperator.LESS, RuleOperator.AT_MOST, RuleOperator.MORE,
    RuleOperator.AT_LEAST,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class RuleText:
    """A rule as a person types it: the value is text, a list has commas."""

    attribute: str
    operator: RuleOperator
    value: str
    serve: str


@dataclass(frozen=True, slots=True)
class Edit:
    """What the form of a flag holds; None where the flag has no such thing. Weights are percent by variant."""

    is_on: bool
    rollout_pct: float | None
    bucket_by: str | None
    weights: tuple[tuple[str, float], ...] | None
    rules: tuple[RuleText, ...] | None
    details: Details


def read_edit(definition: Mapping[str, Any]) -> Edit:
    """Return what the form of this flag shows."""
    said = FlagDefinition(definition)
    rules = None if said.rules is None else tuple(_write_rule(rule) for rule in said.rules)
    weights = tuple(said.weights.items()) or None
    return Edit(said.is_on, said.rollout_pct, said.bucket_by, weights, rules, read_details(said))


def apply_edit(definition: Mapping[str, Any], edit: Edit) -> dict[str, Any]:
    """The flag as the form says; what the form did not touch stays letter by letter. Raises InvalidInput."""
    shown = read_edit(definition)
    changed: dict[str, Any] = dict(definition)
    if edit.details != shown.details:
        changed = set_details(changed, edit.details)
    if edit.bucket_by is not None and edit.bucket_by != shown.bucket_by:
        changed = definitions.set_bucket_by(changed, edit.bucket_by)
    if edit.rollout_pct is not None and edit.rollout_pct != shown.rollout_pct:
        changed = definitions.set_rollout(changed, edit.rollout_pct)
    if edit.weights is not None and edit.weights != shown.weights:
        changed = _apply_weights(changed, edit.weights)
    if edit.rules is not None and edit.rules != shown.rules:
        changed = definitions.set_rules(changed, _read_rules(edit.rules))
    if edit.is_on != shown.is_on:
        changed = definitions.switch_flag(changed, on=edit.is_on)
    return changed


def parse_definition(key: str, text: str) -> dict[str, Any]:
    """The definition in a JSON text, fit to be saved. Raises InvalidInput, naming the field."""
    found: dict[str, Any] = parse_document(f'{{"flags": {{{json.dumps(key)}: {text or "null"}\n}}}}')["flags"][key]
    validate_definition(key, found)
    return found


def parse_value(text: str, operator: RuleOperator) -> Any:
    """The value that a person typed for a rule: a number or true/false where it reads like one, a list at commas.

    Quotes keep text that looks like a number: `"17"`; a list may be JSON too: `["a, b", "c"]`.
    """
    if operator in LISTS:
        if text.strip().startswith("["):
            return _parse_list(text)
        return [_parse_scalar(part) for part in text.split(",") if part.strip()]
    return _parse_scalar(text) if operator in _COMPARED else text.strip()


def write_value(value: Any) -> str:
    """A rule's value as a person types it."""
    if isinstance(value, list | tuple):
        if all(isinstance(item, str | int | float) and "," not in str(item) for item in value):
            return ", ".join(write_value(item) for item in value)
        return json.dumps(list(value), ensure_ascii=False)
    if isinstance(value, str) and isinstance(_parse_scalar(value), str) and _parse_scalar(value) == value:
        return value
    return json.dumps(value, ensure_ascii=False)


def _parse_list(text: str) -> list[Any]:
    try:
        return list(json.loads(text))
    except (ValueError, TypeError, RecursionError):
        raise InvalidInput("rule.value", f"not a list: {text!r}") from None


def _parse_scalar(text: str) -> Any:
    text = text.strip()
    try:
        found = json.loads(text, parse_constant=str)
    except (ValueError, RecursionError):
        return text
    return found if isinstance(found, str | int | float) else text


def _apply_weights(definition: Mapping[str, Any], weights: Sequence[tuple[str, float]]) -> dict[str, Any]:
    """New shares; a name that is no variant yet becomes one, with its name as its value."""
    variants = dict(definition["variants"])
    if any(not isinstance(value, str) for value in variants.values()) and {name for name, _ in weights} - set(variants):
        raise InvalidInput(
            "variants", "a new variant of this flag needs a value of its own: edit the definition itself"
        )
    named = variants | {name: name for name, _ in weights if name not in variants}
    return definitions.set_weights({**definition, "variants": named}, dict(weights))


def _read_rules(texts: Sequence[RuleText]) -> list[TargetingRule]:
    rules = []
    for number, rule in enumerate(texts, start=1):
        value = parse_value(rule.value, rule.operator)
        if value in ("", []):
            raise InvalidInput(f"rule {number}", "give a value to compare with")
        rules.append(TargetingRule(rule.attribute.strip(), rule.operator, value, rule.serve))
    return rules


def _write_rule(rule: TargetingRule) -> RuleText:
    text = write_value(rule.value) if rule.operator in (*LISTS, *_COMPARED) else str(rule.value)
    return RuleText(rule.attribute, rule.operator, text, rule.serve)

"""Rule: a flag's targeting rule as a form edits it (attribute, operator, value, variant), to and from JsonLogic."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from quarterdeck.errors import InvalidInput


class RuleOperator(StrEnum):
    """How a targeting rule compares an attribute of the context with its value."""

    EQUALS = "=="
    DIFFERS = "!="
    LESS = "<"
    AT_MOST = "<="
    MORE = ">"
    AT_LEAST = ">="
    ONE_OF = "in"
    NONE_OF = "not in"
    CONTAINS = "contains"
    STARTS_WITH = "starts_with"
    ENDS_WITH = "ends_with"
    VERSION_EQUALS = "version ="
    VERSION_DIFFERS = "version !="
    VERSION_LESS = "version <"
    VERSION_AT_MOST = "version <="
    VERSION_MORE = "version >"
    VERSION_AT_LEAST = "version >="
    VERSION_SAME_MAJOR = "version ^"
    VERSION_SAME_MINOR = "version ~"


@dataclass(frozen=True, slots=True)
class TargetingRule:
    """Users whose attribute matches get the variant `serve`, before the rollout. The first rule that matches wins."""

    attribute: str
    operator: RuleOperator
    value: Any
    serve: str


def encode_rule(rule: TargetingRule, variants: Mapping[str, Any]) -> dict[str, Any]:
    """Return a rule as JsonLogic. Raises InvalidInput for a rule that cannot work."""
    if not rule.attribute:
        raise InvalidInput("rule.attribute", "name the attribute of the context")
    if rule.serve not in variants:
        raise InvalidInput("rule.serve", f"{rule.serve!r} is not among the variants: {', '.join(variants)}")
    try:
        kind = RuleOperator(rule.operator)
    except ValueError:
        raise InvalidInput("rule.operator", f"unknown operator {rule.operator!r}") from None
    attribute = {"var": rule.attribute}
    if kind in (RuleOperator.ONE_OF, RuleOperator.NONE_OF):
        if not isinstance(rule.value, list | tuple) or not rule.value:
            raise InvalidInput("rule.value", "give a list of values")
        found = {"in": [attribute, list(rule.value)]}
        return found if kind is RuleOperator.ONE_OF else {"!": [found]}
    if kind is RuleOperator.CONTAINS:
        return {"in": [_text_value(rule), attribute]}
    if kind in (RuleOperator.STARTS_WITH, RuleOperator.ENDS_WITH):
        return {kind.value: [attribute, _text_value(rule)]}
    if kind.value.startswith("version "):
        return {"sem_ver": [attribute, kind.value.removeprefix("version "), _text_value(rule)]}
    if not isinstance(rule.value, str | int | float):
        raise InvalidInput("rule.value", f"give text, a number or a boolean, not {rule.value!r}")
    return {kind.value: [attribute, rule.value]}


def decode_rule(test: Any, serve: Any) -> TargetingRule | None:
    """Return the rule that `encode_rule` would write like this; None for a test written by hand."""
    for kind in RuleOperator:
        found = _attribute_and_value(kind, test)
        if found is not None and isinstance(serve, str):
            rule = TargetingRule(found[0], kind, found[1], serve)
            return rule if _is_same(rule, test) else None
    return None


def _text_value(rule: TargetingRule) -> str:
    if not isinstance(rule.value, str) or not rule.value:
        raise InvalidInput("rule.value", f"give text, not {rule.value!r}")
    return rule.value


def _attribute_and_value(kind: RuleOperator, test: Any) -> tuple[str, Any] | None:
    """Return attribute and value from where `encode_rule` puts them for this operator, or None."""
    if kind is RuleOperator.NONE_OF:
        inner = test.get("!") if isinstance(test, dict) else None
        return _attribute_and_value(RuleOperator.ONE_OF, inner[0]) if isinstance(inner, list) and inner else None
    is_version = kind.value.startswith("version ")
    name = "sem_ver" if is_version else "in" if kind is RuleOperator.CONTAINS else kind.value
    arguments = test.get(name) if isinstance(test, dict) else None
    if not isinstance(arguments, list) or len(arguments) != (3 if is_version else 2):
        return None
    if is_version and arguments[1] != kind.value.removeprefix("version "):
        return None
    value, attribute = (arguments[0], arguments[1]) if kind is RuleOperator.CONTAINS else (arguments[-1], arguments[0])
    attribute = attribute.get("var") if isinstance(attribute, dict) and len(attribute) == 1 else None
    return (attribute, value) if isinstance(attribute, str) else None


def _is_same(rule: TargetingRule, test: Any) -> bool:
    try:
        return bool(encode_rule(rule, {rule.serve: None}) == test)
    except InvalidInput:
        return False

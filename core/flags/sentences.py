"""Rule: what a flag does, in sentences: its rules in order, its rollout, and everyone else.

Targeting that was written by hand is followed as far as it has words; a condition without words is shown as JSON.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from core.flags.definition import FlagDefinition
from core.flags.layers import describe_space, is_holdout
from quarterdeck.rules import RuleOperator, TargetingRule, decode_rule
from quarterdeck.shapes import TARGETING_KEY, split_targeting
from quarterdeck.slices import decode_slice

NO_ANSWER = "the default in the caller's code"
_TIME = "$flagd.timestamp"
_LONGEST_JSON = 120
_VERBS = {
    RuleOperator.EQUALS: "is",
    RuleOperator.DIFFERS: "is not",
    RuleOperator.LESS: "is less than",
    RuleOperator.AT_MOST: "is at most",
    RuleOperator.MORE: "is more than",
    RuleOperator.AT_LEAST: "is at least",
    RuleOperator.ONE_OF: "is one of",
    RuleOperator.NONE_OF: "is none of",
    RuleOperator.CONTAINS: "contains",
    RuleOperator.STARTS_WITH: "starts with",
    RuleOperator.ENDS_WITH: "ends with",
    RuleOperator.VERSION_EQUALS: "is version",
    RuleOperator.VERSION_DIFFERS: "is not version",
    RuleOperator.VERSION_LESS: "is a version before",
    RuleOperator.VERSION_AT_MOST: "is a version up to",
    RuleOperator.VERSION_MORE: "is a version after",
    RuleOperator.VERSION_AT_LEAST: "is a version from",
    RuleOperator.VERSION_SAME_MAJOR: "has the major version of",
    RuleOperator.VERSION_SAME_MINOR: "has the minor version of",
}
_TIME_VERBS = {
    RuleOperator.AT_LEAST: "from", RuleOperator.MORE: "after",
    RuleOperator.LESS: "before", RuleOperator.AT_MOST: "until",
}  # fmt: skip


def describe_rules(definition: Mapping[str, Any]) -> tuple[str, ...]:
    """Return what users get, one sentence for each rule and for the rest, in the order of evaluation."""
    said = FlagDefinition(definition)
    rules, rest = split_targeting(definition)
    lines = [f"For users {describe_test(test)}: {_result(said, result)}" for test, result in _pairs(rules)]
    lines += _describe_rest(said, rest, who="Everyone else" if lines else "Everyone")
    if not said.is_on:
        return (f"The flag is off: everyone gets {NO_ANSWER}.", *(f"When it is on: {line}" for line in lines))
    return tuple(lines)


def describe_test(test: Any) -> str:
    """Return a condition as words that follow "users": "whose country is DE"."""
    kept = decode_slice(test)
    if kept is not None:
        outside = f"{(1 - kept.share) * 100:.5g}% of users"
        name = describe_space(kept.space)
        return f"in {name} ({outside})" if is_holdout(kept.space) else f"outside of its part of {name} ({outside})"
    rule = decode_rule(test, "")
    if rule is not None:
        return _describe_rule(rule)
    operator, arguments = _operation(test)
    if operator in ("and", "or") and arguments:
        return f" {operator} ".join(_in_brackets(each) for each in arguments)
    if operator == "!" and len(arguments) == 1:
        return f"other than those {describe_test(arguments[0])}"
    text = json.dumps(test, ensure_ascii=False, default=str)
    return f"who meet {text if len(text) <= _LONGEST_JSON else f'{text[: _LONGEST_JSON - 1]}…'}"


def list_attributes(*definitions: Mapping[str, Any] | None) -> tuple[str, ...]:
    """Return the attributes that targeting asks for besides the user's id, in alphabetical order."""
    found = {name for each in definitions for name in _find_variables((each or {}).get("targeting"))}
    return tuple(sorted(name for name in found if name and name != TARGETING_KEY and not name.startswith("$flagd.")))


def _pairs(rules: Sequence[Any]) -> Iterator[tuple[Any, Any]]:
    return zip(rules[::2], rules[1::2], strict=True)


def _describe_rule(rule: TargetingRule) -> str:
    if rule.attribute == _TIME and rule.operator in _TIME_VERBS and isinstance(rule.value, int):
        moment = datetime.fromtimestamp(rule.value, UTC)
        return f"who ask {_TIME_VERBS[rule.operator]} {moment.day} {moment:%b %Y, %H:%M} UTC"
    if rule.attribute == TARGETING_KEY:
        return f"whose id {_VERBS[rule.operator]} {_say_value(rule.value)}"
    return f"whose {rule.attribute} {_VERBS[rule.operator]} {_say_value(rule.value)}"


def _in_brackets(test: Any) -> str:
    said = describe_test(test)
    return f"({said})" if _operation(test)[0] in ("and", "or") else said


def _say_value(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(_say_value(each) for each in value)
    if isinstance(value, str) and value and value == value.strip() and "," not in value:
        return value
    return json.dumps(value, ensure_ascii=False, default=str)


def _result(said: FlagDefinition, result: Any) -> str:
    """What a targeting result gives, in one phrase."""
    if result is None:
        return said.default_variant or NO_ANSWER
    if isinstance(result, str):
        return result
    buckets = _read_buckets(result)
    if buckets is None:
        return f"what {json.dumps(result, ensure_ascii=False, default=str)[:_LONGEST_JSON]} gives"
    total = sum(weight for _, weight in buckets)
    return ", ".join(f"{_percent(weight, total)} {_result(said, inner)}" for inner, weight in buckets if weight)


def _describe_rest(said: FlagDefinition, rest: Any, *, who: str) -> list[str]:
    buckets = _read_buckets(rest)
    if buckets is None:
        return [f"{who}: {_result(said, rest)}"]
    by = _bucketed_by(rest)
    total = sum(weight for _, weight in buckets)
    given = [(inner, weight) for inner, weight in buckets if weight]
    lines = []
    for inner, weight in given:
        nested = _read_buckets(inner)
        answer = f"split into {_result(said, inner)}" if nested else _result(said, inner)
        if len(given) == 1:
            return [f"{who}: {answer}" + (f", by {by}" if nested else "")]
        lines.append(f"{_percent(weight, total)} of users: {answer}, by {by}")
    return lines


def _percent(weight: float, total: float) -> str:
    return f"{weight * 100 / total:.5g}%"


def _read_buckets(result: Any) -> list[tuple[Any, float]] | None:
    """The results of a `fractional` with their weights; None for anything else."""
    operator, arguments = _operation(result)
    if operator != "fractional" or not arguments:
        return None
    buckets = arguments if isinstance(arguments[0], list) else arguments[1:]
    found = []
    for bucket in buckets:
        weight = bucket[1] if isinstance(bucket, list) and len(bucket) > 1 else 1
        if not isinstance(bucket, list) or not bucket or not isinstance(weight, int | float):
            return None
        found.append((bucket[0], max(0, weight)))
    return found if sum(weight for _, weight in found) else None


def _bucketed_by(result: Any) -> str:
    _, arguments = _operation(result)
    if isinstance(arguments[0], list):
        return "user id"
    names = sorted({name for name in _find_variables(arguments[0]) if not name.startswith("$flagd.")})
    return " and ".join("user id" if name == TARGETING_KEY else name for name in names) or "a fixed value"


def _find_variables(logic: Any) -> Iterator[str]:
    if isinstance(logic, list):
        for each in logic:
            yield from _find_variables(each)
    elif isinstance(logic, Mapping):
        for operator, arguments in logic.items():
            name = arguments[0] if operator == "var" and isinstance(arguments, list) and arguments else arguments
            if operator == "var" and isinstance(name, str):
                yield name
            else:
                yield from _find_variables(arguments)


def _operation(logic: Any) -> tuple[str | None, Sequence[Any]]:
    if not isinstance(logic, Mapping) or len(logic) != 1:
        return None, ()
    operator, arguments = next(iter(logic.items()))
    return operator, arguments if isinstance(arguments, list) else [arguments]

"""Rule: explains to people what a user gets from a flag, and why.

The answer itself always comes from `quarterdeck.flags`; this retraces how targeting arrived at it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from json_logic.builtins import to_bool  # type: ignore[import-untyped]

from quarterdeck.flags import Evaluation, FlagSet
from quarterdeck.hashing import STRING, hash_bucket, interpret, read_hash_version
from quarterdeck.rules import decode_rule


@dataclass(frozen=True, slots=True)
class Explanation:
    """What a user gets, and the steps that led there, one line each."""

    evaluation: Evaluation
    steps: tuple[str, ...]


def explain(key: str, definition: Mapping[str, Any], context: Mapping[str, Any]) -> Explanation:
    """Return what this context gets from this definition, and why. A broken definition is a step, not an error."""
    flags = FlagSet.from_definitions({"flags": {key: definition}})
    found = flags.resolve(key, context)
    problem = flags.problem(key)
    if problem is not None:
        steps = [problem]
    elif found.reason == "DISABLED":
        steps = ["The flag is switched off: every caller gets the default in its code."]
    else:
        steps = _Story(key, context, read_hash_version(definition.get("metadata") or {})).tell(
            definition.get("targeting")
        )
        steps.append(_ending(found))
    return Explanation(found, tuple(steps))


class _Story:
    """Retraces one evaluation. If targeting fails, the story ends there: the evaluation holds the error."""

    def __init__(self, key: str, context: Mapping[str, Any], hash_version: str) -> None:
        self._key = key
        self._hash_version = hash_version
        self._context = dict(context)
        self._steps: list[str] = []

    def tell(self, targeting: Any) -> list[str]:
        try:
            self._follow(targeting or None)
        except Exception as error:  # noqa: BLE001 - targeting may fail in any way; the evaluation carries the error
            self._steps.append(f"Targeting fails: {getattr(error, 'error_message', None) or error}")
        return self._steps

    def _follow(self, logic: Any) -> None:
        operator, arguments = _operation(logic)
        if operator in ("if", "?:"):
            self._follow_rules(arguments)
        elif operator == "fractional" and arguments:
            self._follow_split(arguments)
        elif operator is not None:
            self._steps.append(f"Targeting gives {_shown(self._value(logic))}.")

    def _follow_rules(self, arguments: Sequence[Any]) -> None:
        for place in range(0, len(arguments) - 1, 2):
            test, result = arguments[place : place + 2]
            fits = to_bool(self._value(test))
            rule = f"Rule {place // 2 + 1}, {_described(test, result)},"
            self._steps.append(f"{rule} {'fits' if fits else 'does not fit'}.")
            if fits:
                self._follow(result)
                return
        if len(arguments) % 2:
            self._follow(arguments[-1])

    def _follow_split(self, arguments: Sequence[Any]) -> None:
        is_shorthand = isinstance(arguments[0], list)
        buckets = arguments if is_shorthand else arguments[1:]
        target = self._context.get("targetingKey")
        value: Any = [self._key, target] if is_shorthand else self._value(arguments[0])
        has_no_text = self._hash_version == STRING and not is_shorthand and not (isinstance(value, str) and value)
        if value is None or has_no_text or (is_shorthand and (not isinstance(target, str) or not target)):
            self._steps.append("The context has nothing to choose a bucket by.")
            return
        weights = [max(0, self._value(bucket[1])) if len(bucket) > 1 else 1 for bucket in buckets]
        total = sum(weights)
        hashed = hash_bucket(value, hash_version=self._hash_version)
        end = 0
        for bucket, weight in zip(buckets, weights, strict=True):
            start, end = end, end + weight
            if (hashed * total) >> 32 < end:
                place, lower, upper = hashed / 2**32 * 100, start / total * 100, end / total * 100
                name = "an inner split" if isinstance(bucket[0], Mapping) else _shown(bucket[0])
                self._steps.append(f"Bucket {place:.3f}% falls to {name}, {lower:g}% to {upper:g}%.")
                self._follow(bucket[0])
                return

    def _value(self, logic: Any) -> Any:
        if not isinstance(logic, dict):
            return logic
        return interpret(self._key, logic, self._context, hash_version=self._hash_version)


def _operation(logic: Any) -> tuple[str | None, Sequence[Any]]:
    if not isinstance(logic, Mapping) or len(logic) != 1:
        return None, ()
    operator, arguments = next(iter(logic.items()))
    return operator, arguments if isinstance(arguments, list) else [arguments]


def _described(test: Any, result: Any) -> str:
    rule = decode_rule(test, result if isinstance(result, str) else "")
    if rule is None:
        return json.dumps(test, ensure_ascii=False, default=str)
    return f"{rule.attribute} {rule.operator.value} {json.dumps(rule.value, ensure_ascii=False)}"


def _ending(found: Evaluation) -> str:
    if found.error_code is not None:
        return f"{found.error_code}: {found.error_message}. Every caller gets the default in its code."
    if found.variant is None:
        return "No variant was chosen: every caller gets the default in its code."
    chosen = "The default variant" if found.reason in ("DEFAULT", "STATIC") else "Targeting's result"
    return f"{chosen} is {_shown(found.variant)}, with the value {_shown(found.value)}."


def _shown(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)

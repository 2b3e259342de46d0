"""Rule: decides whether a flag definition may be saved. Stricter than evaluation, which copes with what is stored.

Every problem is an InvalidInput that starts with the field's name.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

from openfeature.contrib.tools.flagd.core.targeting.custom_ops import MAX_WEIGHT_SUM

from quarterdeck.documents import check_document, check_metadata
from quarterdeck.errors import InvalidInput
from quarterdeck.hashing import CBOR, HASH_VERSIONS, read_hash_version

MAX_KEY_LENGTH = 256
# The hash of flags that are new here.
HASH_VERSION = CBOR

FIELDS = {"state", "variants", "defaultVariant", "targeting", "metadata", "source", "selector"}
_STATES = ("ENABLED", "DISABLED")
_MAX_DEPTH = 40
_MAX_NODES = 10_000
_ANY = 10_000
# Operator: fewest and most arguments. Without `log`, which prints to the service's output.
_ARGUMENTS: dict[str, tuple[int, int]] = {
    **dict.fromkeys(("and", "or", "cat", "merge", "missing", "+", "*", "min", "max", "if", "?:"), (1, _ANY)),
    **dict.fromkeys(("==", "!=", "===", "!==", "in", "/", "%", "starts_with", "ends_with", "missing_some"), (2, 2)),
    **dict.fromkeys(("map", "filter", "all", "some", "none"), (2, 2)),
    **dict.fromkeys(("<", "<=", ">", ">="), (2, 3)),
    **dict.fromkeys(("!", "!!"), (1, 1)),
    "-": (1, 2),
    "var": (1, 2),
    "substr": (2, 3),
    "reduce": (2, 3),
    "sem_ver": (3, 3),
    "fractional": (1, _ANY),
}
_YES_OR_NO = {
    "==", "!=", "===", "!==", "<", "<=", ">", ">=", "!", "!!", "in", "starts_with", "ends_with", "sem_ver",
    "all", "some", "none",
}  # fmt: skip
_VERSION_SIGNS = ("=", "!=", "<", "<=", ">", ">=", "^", "~")


def validate_definition(
    key: str, definition: Mapping[str, Any], *, evaluators: Mapping[str, Any] | None = None
) -> None:
    """Raise InvalidInput, naming the field, unless this flag may be saved under this key.

    `evaluators` are the document's `$evaluators`, which targeting may refer to.
    """
    validate_key(key)
    if not isinstance(definition, Mapping):
        raise InvalidInput("definition", "give an object")
    _check_json(definition)
    unknown = sorted(str(name) for name in definition if name not in FIELDS)
    if unknown:
        raise InvalidInput(unknown[0], "flagd knows no such field: put it in metadata")
    if definition.get("state") not in _STATES:
        raise InvalidInput("state", f"give ENABLED or DISABLED, not {definition.get('state')!r}")
    _check_variants(definition.get("variants"))
    _check_default(definition.get("defaultVariant"), definition["variants"])
    _check_metadata(definition.get("metadata", {}))
    targeting = definition.get("targeting")
    if targeting is not None and not isinstance(targeting, Mapping):
        raise InvalidInput("targeting", "give an object with one operator")
    if targeting:
        _Targeting(definition["variants"], evaluators or {}).check(targeting)


def validate_document(definitions: Mapping[str, Any]) -> None:
    """Raise InvalidInput, naming flag and field, unless every flag of this flagd document may be saved."""
    document = check_document(definitions)
    evaluators = document.get("$evaluators") or {}
    for key, definition in document["flags"].items():
        try:
            validate_definition(key, definition, evaluators=evaluators)
        except InvalidInput as error:
            raise InvalidInput(f"flags.{key[:MAX_KEY_LENGTH]}.{error.field}", error.problem) from None


def validate_key(key: Any) -> None:
    """Raise InvalidInput unless `key` can name a flag."""
    if not isinstance(key, str) or not key:
        raise InvalidInput("key", "give the flag a name")
    if len(key) > MAX_KEY_LENGTH:
        raise InvalidInput("key", f"{len(key):,} characters are too many: at most {MAX_KEY_LENGTH}")
    if not _is_clean(key):
        raise InvalidInput("key", f"{key!r} holds control characters")
    if key != key.strip():
        raise InvalidInput("key", f"{key!r} starts or ends with a space")


def _is_clean(text: str) -> bool:
    return not any(unicodedata.category(character) in ("Cc", "Cs") for character in text)


def _check_json(definition: Mapping[str, Any]) -> None:
    try:
        json.dumps(definition, allow_nan=False, default=dict, ensure_ascii=False).encode()
    except (TypeError, ValueError):  # half a character is among the ValueErrors
        raise InvalidInput("definition", "holds something that JSON cannot") from None
    except RecursionError:
        raise InvalidInput("definition", "nested too deeply") from None


def _check_variants(variants: Any) -> None:
    if not isinstance(variants, Mapping) or not variants:
        raise InvalidInput("variants", "give at least one variant")
    for name in variants:
        if not isinstance(name, str) or not name or len(name) > MAX_KEY_LENGTH or not _is_clean(name):
            raise InvalidInput("variants", f"a variant's name is 1 to {MAX_KEY_LENGTH} printable characters")
    kinds = {name: _kind(value) for name, value in variants.items()}
    if "nothing" in kinds.values():
        raise InvalidInput("variants", "a variant needs a value, not null")
    if len(set(kinds.values())) > 1:
        listed = ", ".join(f"{name} is {kind}" for name, kind in kinds.items())
        raise InvalidInput("variants", f"all are of one type, but {listed}")


def _kind(value: Any) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "a boolean"
    if isinstance(value, str):
        return "text"
    return "a number" if isinstance(value, int | float) else "an object"


def _check_default(default: Any, variants: Mapping[str, Any]) -> None:
    if default is not None and _result_name(default) not in variants:
        raise InvalidInput("defaultVariant", f"{default!r} is not among the variants: {', '.join(variants)}")


def _check_metadata(metadata: Any) -> None:
    check_metadata(metadata)
    hashed_by = read_hash_version(metadata)
    if hashed_by not in HASH_VERSIONS:
        problem = f"users are bucketed by {' or '.join(HASH_VERSIONS)} here and by {hashed_by!r} there: they would move"
        raise InvalidInput("metadata.hash_version", problem)


def _result_name(result: Any) -> str:
    return str(result).lower() if isinstance(result, bool) else str(result)


class _Targeting:
    """Walks a flag's targeting: operators must be known, arguments complete, references found, results variants."""

    def __init__(self, variants: Mapping[str, Any], evaluators: Mapping[str, Any]) -> None:
        self._variants = variants
        self._evaluators = evaluators
        self._order = {name: place for place, name in enumerate(evaluators)}
        self._nodes = 0

    def check(self, targeting: Mapping[str, Any]) -> None:
        self._check_logic(targeting, "targeting", 0, ())
        self._check_result(targeting, "targeting")

    def _check_logic(self, logic: Any, field: str, depth: int, inside: tuple[str, ...]) -> None:
        self._nodes += 1
        if depth > _MAX_DEPTH or self._nodes > _MAX_NODES:
            raise InvalidInput("targeting", f"too big: at most {_MAX_DEPTH} levels and {_MAX_NODES:,} parts")
        if isinstance(logic, list):
            for place, item in enumerate(logic):
                self._check_logic(item, f"{field}[{place}]", depth + 1, inside)
        if not isinstance(logic, Mapping):
            return
        operator, arguments = _operation(logic, field)
        if operator == "$ref":
            self._check_reference(logic["$ref"], field, depth, inside)
            return
        _check_arguments(operator, arguments, field)
        for place, argument in enumerate(arguments):
            self._check_logic(argument, f"{field}.{operator}[{place}]", depth + 1, inside)

    def _check_reference(self, name: Any, field: str, depth: int, inside: tuple[str, ...]) -> None:
        if not isinstance(name, str) or name not in self._evaluators:
            raise InvalidInput(field, f"$ref names the evaluator {name!r}, which does not exist")
        if name in inside:
            raise InvalidInput(field, f"$ref runs in a circle: {' -> '.join((*inside, name))}")
        if inside and self._order[name] < self._order[inside[-1]] and not self._reaches(name, inside[-1]):
            raise InvalidInput(field, f"flagd finds no evaluator defined earlier: move {name!r} after {inside[-1]!r}")
        self._check_logic(self._evaluators[name], f"$evaluators.{name}", depth + 1, (*inside, name))

    def _reaches(self, start: str, goal: str) -> bool:
        """Return whether references lead from `start` to `goal`: then a circle is the better message."""
        seen, waiting = set(), [start]
        while waiting:
            name = waiting.pop()
            if name == goal:
                return True
            if name not in seen and name in self._evaluators:
                seen.add(name)
                waiting.extend(_references(self._evaluators[name]))
        return False

    def _check_result(self, logic: Any, field: str) -> None:
        """Literal results must be variants. The result of an expression cannot be known here."""
        if not isinstance(logic, Mapping):
            if logic is not None and _result_name(logic) not in self._variants:
                raise InvalidInput(field, f"{logic!r} is not among the variants: {', '.join(self._variants)}")
            return
        operator, arguments = _operation(logic, field)
        if operator == "$ref":
            self._check_result(self._evaluators[logic["$ref"]], field)
        elif operator in ("if", "?:"):
            for place in _results_of_if(len(arguments)):
                self._check_result(arguments[place], f"{field}.{operator}[{place}]")
        elif operator == "fractional":
            for bucket in _buckets(arguments):
                self._check_result(bucket[0], f"{field}.fractional")
        elif operator in _YES_OR_NO and not {"true", "false"} <= self._variants.keys():
            raise InvalidInput(field, f"{operator!r} gives true or false, which are not variants: put it in an `if`")


def _operation(logic: Mapping[str, Any], field: str) -> tuple[str, Sequence[Any]]:
    if len(logic) != 1:
        raise InvalidInput(field, f"one operator at a time, not {', '.join(map(str, logic)) or 'none'}")
    operator, arguments = next(iter(logic.items()))
    if operator != "$ref" and operator not in _ARGUMENTS:
        raise InvalidInput(field, f"unknown operator {operator!r}; there are {' '.join(_ARGUMENTS)}")
    return operator, arguments if isinstance(arguments, list) else [arguments]


def _check_arguments(operator: str, arguments: Sequence[Any], field: str) -> None:
    fewest, most = _ARGUMENTS[operator]
    if not fewest <= len(arguments) <= most:
        wanted = str(fewest) if fewest == most else f"at least {fewest}" if most == _ANY else f"{fewest} to {most}"
        raise InvalidInput(f"{field}.{operator}", f"takes {wanted} arguments, not {len(arguments)}")
    if operator == "sem_ver" and isinstance(arguments[1], str) and arguments[1] not in _VERSION_SIGNS:
        raise InvalidInput(f"{field}.sem_ver", f"unknown comparison {arguments[1]!r}; there are {_VERSION_SIGNS}")
    if operator == "fractional":
        _check_fractional(arguments, f"{field}.fractional")


def _check_fractional(arguments: Sequence[Any], field: str) -> None:
    buckets = _buckets(arguments)
    if not buckets:
        raise InvalidInput(field, "give at least one [variant, weight]")
    weights = []
    for bucket in buckets:
        if not isinstance(bucket, list) or not 1 <= len(bucket) <= 2:
            raise InvalidInput(field, f"a bucket is [variant] or [variant, weight], not {bucket!r}")
        weights.append(bucket[1] if len(bucket) == 2 else 1)
    fixed = [weight for weight in weights if not isinstance(weight, Mapping)]
    for weight in fixed:
        if isinstance(weight, bool) or not isinstance(weight, int):
            raise InvalidInput(field, f"a weight is a whole number, not {weight!r}; for 0.5 of 100 give 500 of 100000")
        if weight < 0:
            raise InvalidInput(field, f"the weight {weight} is negative")
    if len(fixed) == len(weights) and not any(weights):
        raise InvalidInput(field, "all weights are zero")
    if sum(fixed) > MAX_WEIGHT_SUM:
        raise InvalidInput(field, f"the weights add up to more than {MAX_WEIGHT_SUM:,}")


def _buckets(arguments: Sequence[Any]) -> Sequence[Any]:
    return arguments if arguments and isinstance(arguments[0], list) else arguments[1:]


def _results_of_if(count: int) -> list[int]:
    """Return the indices of an `if`'s arguments that can be its result: every second one, and an odd last one."""
    return [*range(1, count, 2), *([count - 1] if count % 2 else [])]


def _references(logic: Any) -> list[str]:
    if isinstance(logic, list):
        return [name for item in logic for name in _references(item)]
    if not isinstance(logic, Mapping):
        return []
    if isinstance(logic.get("$ref"), str):
        return [logic["$ref"]]
    return [name for item in logic.values() for name in _references(item)]

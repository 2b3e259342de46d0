"""Rule: compiles common shapes of targeting into closures that answer exactly as flagd-core does.

Everything that might differ (scoped operators, clocks, odd weights) is left to flagd-core's interpreter.
"""

from __future__ import annotations

import operator
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple, TypeVar

import mmh3
from json_logic.builtins import (  # type: ignore[import-untyped]
    BUILTINS,
    op_equals,
    op_in,
    op_var,
    to_bool,
    to_string,
)
from openfeature.contrib.tools.flagd.core.targeting import custom_ops

from quarterdeck.hashing import CBOR, STRING, fractional_by_string

Context = dict[str, Any]
Run = Callable[[Context], Any]
Answer = TypeVar("Answer")
# From targeting key to the answer; None if the whole targeting must be evaluated.
Decider = Callable[[Any], Answer | None]

_MAX_DEPTH = 40
_MAX_CACHED_VERSION = 64
_CACHED_VERSIONS = 128
# These read the context, or print. Every other operator depends on its arguments alone.
_NOT_PURE = {"var", "missing", "missing_some", "log"}
_PURE: dict[str, Callable[..., Any]] = {
    **{name: function for name, function in BUILTINS.items() if name not in _NOT_PURE and callable(function)},
    "starts_with": custom_ops.starts_with,
    "ends_with": custom_ops.ends_with,
}
_COMPARE_VERSIONS: dict[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "^": lambda a, b: a.major == b.major,
    "~": lambda a, b: a.major == b.major and a.minor == b.minor,
}


@dataclass(frozen=True, slots=True)
class Rollout:
    """A `fractional` over literal variants, bucketed by the targeting key alone: the fast path of `is_enabled`.

    `heads` gives the bytes to hash before a key of a given length, `limits` the hash below which each variant ends.
    """

    heads: Mapping[int, bytes]
    limits: Sequence[int]
    variants: Sequence[Any]
    accepts_empty_key: bool

    def decider(self, answers: Sequence[Answer | None]) -> Decider[Answer]:
        """Return a function from targeting key to one of `answers`, which holds one for each bucket."""
        heads, limits, accepts_empty_key = self.heads, self.limits, self.accepts_empty_key
        digest = mmh3.hash

        def decide(targeting_key: Any) -> Answer | None:
            if type(targeting_key) is not str or not (targeting_key or accepts_empty_key):
                return None
            try:
                text = targeting_key.encode()
            except UnicodeEncodeError:
                return None
            return answers[bisect_right(limits, digest(heads[len(text)] + text, 0, False))]

        return decide


class Compiled(NamedTuple):
    """A node of targeting as a function of the evaluation context. (A tuple, because a large set has very many.)"""

    run: Run
    is_constant: bool = False
    rollout: Rollout | None = None


class _NotCommon(Exception):
    """This shape is left to flagd-core's interpreter."""


def compile_targeting(key: str, targeting: Any, *, hash_version: str = CBOR) -> Compiled | None:
    """Return the targeting of flag `key` as one function of the context; None if flagd-core should interpret it.

    The context is the caller's dictionary, with `targetingKey` as one of its entries. `$flagd.flagKey` is compiled in.
    """
    if not isinstance(targeting, dict):
        return None
    try:
        return _Compiler(key, hash_version).node(targeting, 0)
    except (_NotCommon, UnicodeEncodeError):
        return None


class _Compiler:
    """Walks one flag's targeting. Every method returns a node that does what json_logic's `apply` would."""

    def __init__(self, key: str, hash_version: str) -> None:
        self._key = key
        self._is_string = hash_version == STRING

    def node(self, logic: Any, depth: int) -> Compiled:
        if depth > _MAX_DEPTH:
            raise _NotCommon
        if isinstance(logic, list):
            return self._list(logic, depth)
        if not isinstance(logic, dict) or len(logic) != 1:
            return _constant(logic)
        name, arguments = next(iter(logic.items()))
        arguments = arguments if isinstance(arguments, list) else [arguments]
        shape = _SHAPES.get(name)
        if shape is not None:
            return shape(self, arguments, depth + 1)
        if name in _PURE:
            return self._pure(_PURE[name], arguments, depth + 1)
        raise _NotCommon

    def _runs(self, nodes: Sequence[Any], depth: int) -> list[Run]:
        return [self.node(node, depth).run for node in nodes]

    def _list(self, items: list[Any], depth: int) -> Compiled:
        if not any(isinstance(item, dict | list) for item in items):
            return _constant(list(items))
        nodes = [self.node(item, depth + 1) for item in items]
        if all(node.is_constant for node in nodes):
            return _constant([node.run({}) for node in nodes])
        runs = [node.run for node in nodes]
        return Compiled(lambda data: [run(data) for run in runs])

    def _pure(self, function: Callable[..., Any], arguments: list[Any], depth: int) -> Compiled:
        runs = self._runs(arguments, depth)
        if len(runs) == 1:
            (only,) = runs
            return Compiled(lambda data: function(None, only(data)))
        if len(runs) == 2:
            left, right = runs
            return Compiled(lambda data: function(None, left(data), right(data)))
        return Compiled(lambda data: function(None, *[run(data) for run in runs]))

    def _if(self, arguments: list[Any], depth: int) -> Compiled:
        runs = self._runs(arguments, depth)
        otherwise = runs.pop() if len(runs) % 2 else _constant(None).run
        choices = list(zip(runs[::2], runs[1::2], strict=True))
        if len(choices) == 1:
            ((test, chosen),) = choices
            return Compiled(lambda data: chosen(data) if _truth(test(data)) else otherwise(data))

        def choose(data: Context) -> Any:
            for test, chosen in choices:
                if _truth(test(data)):
                    return chosen(data)
            return otherwise(data)

        return Compiled(choose)

    def _and(self, arguments: list[Any], depth: int) -> Compiled:
        runs = self._runs(arguments, depth)

        def every(data: Context) -> Any:
            current = None
            for run in runs:
                current = run(data)
                if not _truth(current):
                    return current
            return current

        return Compiled(every)

    def _or(self, arguments: list[Any], depth: int) -> Compiled:
        runs = self._runs(arguments, depth)

        def first(data: Context) -> Any:
            current = None
            for run in runs:
                current = run(data)
                if _truth(current):
                    return current
            return current

        return Compiled(first)

    def _var(self, arguments: list[Any], depth: int) -> Compiled:
        if not 1 <= len(arguments) <= 2 or type(arguments[0]) is not str or not arguments[0]:
            raise _NotCommon
        name = arguments[0]
        fallback = self.node(arguments[1], depth) if len(arguments) == 2 else _constant(None)
        if name == "$flagd.flagKey":
            return _constant(self._key)
        if name.split(".")[0] == "$flagd" or not fallback.is_constant:
            raise _NotCommon
        default = fallback.run({})
        if "." in name:
            return Compiled(lambda data: op_var(data, name, default))
        if default is None:
            return Compiled(lambda data: data.get(name))
        return Compiled(lambda data: default if (value := data.get(name)) is None else value)

    def _equals(self, arguments: list[Any], depth: int) -> Compiled:
        if len(arguments) != 2:
            return self._pure(op_equals, arguments, depth)
        left, right = self._runs(arguments, depth)

        def equals(data: Context) -> Any:
            a, b = left(data), right(data)
            return a == b if type(a) is str and type(b) is str else op_equals(None, a, b)

        return Compiled(equals)

    def _in(self, arguments: list[Any], depth: int) -> Compiled:
        if len(arguments) != 2:
            return self._pure(op_in, arguments, depth)
        needle, haystack = (self.node(argument, depth) for argument in arguments)
        items = haystack.run({}) if haystack.is_constant else None
        if not isinstance(items, list) or not all(type(item) is str for item in items):
            return self._pure(op_in, arguments, depth)
        run, names = needle.run, frozenset(items)

        def contains(data: Context) -> bool:
            value = run(data)
            return value in names if type(value) is str else value in items

        return Compiled(contains)

    def _cat(self, arguments: list[Any], depth: int) -> Compiled:
        runs = self._runs(arguments, depth)
        return Compiled(lambda data: "".join([to_string(run(data)) for run in runs]))

    def _sem_ver(self, arguments: list[Any], depth: int) -> Compiled:
        nodes = [self.node(argument, depth) for argument in arguments]
        if len(nodes) != 3 or not nodes[1].is_constant or not nodes[2].is_constant:
            raise _NotCommon
        sign, wanted = nodes[1].run({}), _version(nodes[2].run({}))
        compare = _COMPARE_VERSIONS.get(sign) if isinstance(sign, str) else None
        if compare is None or wanted is None:
            raise _NotCommon
        run = nodes[0].run

        def matches(value: Any) -> bool | None:
            version = _version(value)
            return None if version is None else compare(version, wanted)

        # Parsing and comparing versions cost more than the rest together, and services run few versions at a time.
        known = lru_cache(maxsize=_CACHED_VERSIONS)(matches)

        def meets(data: Context) -> bool | None:
            value = run(data)
            return known(value) if type(value) is str and len(value) <= _MAX_CACHED_VERSION else matches(value)

        return Compiled(meets)

    def _fractional(self, arguments: list[Any], depth: int) -> Compiled:
        if not arguments:
            raise _NotCommon
        is_shorthand = isinstance(arguments[0], list)
        buckets = arguments if is_shorthand else arguments[1:]
        limits = _limits([_weight(bucket) for bucket in buckets])
        choices = [self.node(bucket[0], depth + 1) for bucket in buckets]
        weights = [bucket[1:] for bucket in buckets]
        heads = self._heads(is_shorthand)
        accepts_empty = not is_shorthand and not self._is_string
        by: Run = _target if is_shorthand else self.node(arguments[0], depth).run
        literals = [choice.run({}) for choice in choices] if all(choice.is_constant for choice in choices) else None

        def pick(data: Context) -> Any:
            value = by(data)
            # flagd-core evaluates the variant of every bucket before it picks one, and fails if any of them fails.
            found = literals if literals is not None else [choice.run(data) for choice in choices]
            if not isinstance(value, str):
                return None if is_shorthand or value is None else self._pick_unusual(data, value, found, weights)
            if not value and not accepts_empty:
                return None
            try:
                text = value.encode()
            except UnicodeEncodeError:
                return None
            return found[bisect_right(limits, mmh3.hash(heads[len(text)] + text, 0, False))]

        is_by_target = is_shorthand or _variable_name(arguments[0]) == "targetingKey"
        if not is_by_target or literals is None:
            return Compiled(pick)
        return Compiled(pick, rollout=Rollout(heads, limits, literals, accepts_empty_key=accepts_empty))

    def _heads(self, is_shorthand: bool) -> dict[int, bytes]:
        """What is hashed before a text: the flag's key for the shorthand, and in CBOR the heads of array and texts."""
        if self._is_string:
            return _SameHead(self._key.encode() if is_shorthand else b"")
        return _Heads(b"\x82" + _text(self._key) if is_shorthand else b"")

    def _pick_unusual(self, data: Context, value: Any, found: list[Any], weights: list[list[int]]) -> Any:
        """Let the interpreter's own operator hash numbers and structures."""
        known = {"targetingKey": data.get("targetingKey"), "$flagd": {"flagKey": self._key}}
        fractional = fractional_by_string if self._is_string else custom_ops.fractional
        return fractional(known, value, *[[pick, *rest] for pick, rest in zip(found, weights, strict=True)])


_SHAPES: dict[str, Callable[[_Compiler, list[Any], int], Compiled]] = {
    "if": _Compiler._if,
    "?:": _Compiler._if,
    "and": _Compiler._and,
    "or": _Compiler._or,
    "var": _Compiler._var,
    "==": _Compiler._equals,
    "in": _Compiler._in,
    "cat": _Compiler._cat,
    "sem_ver": _Compiler._sem_ver,
    "fractional": _Compiler._fractional,
}


class _Heads(dict[int, bytes]):
    """The bytes to hash before a text of n bytes: fixed bytes, then CBOR's head for a text of that length."""

    def __init__(self, fixed: bytes) -> None:
        super().__init__()
        self._fixed = fixed

    def __missing__(self, length: int) -> bytes:
        head = self._fixed + _text_head(length)
        if length < 256:
            self[length] = head
        return head


class _SameHead(dict[int, bytes]):
    """The bytes to hash before a text of any length: texts are hashed as they are."""

    def __init__(self, head: bytes) -> None:
        super().__init__(dict.fromkeys(range(256), head))
        self._head = head

    def __missing__(self, length: int) -> bytes:
        return self._head


def _text_head(length: int) -> bytes:
    """Return the head of CBOR's major type 3 in its shortest form (RFC 8949, 3.1 and 4.2.1)."""
    if length < 24:
        return bytes([0x60 | length])
    for mark, size in ((0x78, 1), (0x79, 2), (0x7A, 4)):
        if length < 1 << 8 * size:
            return bytes([mark]) + length.to_bytes(size, "big")
    return b"\x7b" + length.to_bytes(8, "big")


def _text(value: str) -> bytes:
    encoded = value.encode()
    return _text_head(len(encoded)) + encoded


def _weight(bucket: Any) -> int:
    if not isinstance(bucket, list) or not 1 <= len(bucket) <= 2:
        raise _NotCommon
    weight = bucket[1] if len(bucket) == 2 else 1
    if type(weight) is not int or weight < 0:
        raise _NotCommon
    return weight


def _limits(weights: list[int]) -> tuple[int, ...]:
    """Return the 32-bit hash below which each bucket ends: `(hash * total) >> 32 < end` iff `hash < limit`."""
    total = sum(weights)
    if not 0 < total <= custom_ops.MAX_WEIGHT_SUM:
        raise _NotCommon
    limits, end = [], 0
    for weight in weights:
        end += weight
        limits.append(-(-(end << 32) // total))
    return tuple(limits)


def _variable_name(logic: Any) -> Any:
    """Return the name in `{"var": name}` or `{"var": [name]}`, or None."""
    name = logic.get("var") if isinstance(logic, dict) and len(logic) == 1 else None
    return name[0] if isinstance(name, list) and len(name) == 1 else name


def _target(data: Context) -> Any:
    return data.get("targetingKey")


def _constant(value: Any) -> Compiled:
    return Compiled(lambda _: value, is_constant=True)


def _truth(value: Any) -> bool:
    return value is True or (value is not False and to_bool(value))


def _version(value: Any) -> Any:
    """Return the parsed version, or None if flagd-core's `sem_ver` rejects it."""
    try:
        return custom_ops.normalize_version(value)
    except ValueError:
        return None

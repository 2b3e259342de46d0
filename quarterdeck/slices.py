"""Rule: slices: the users that a flag may touch, where several flags share the users out among themselves.

A slice is one more rule in front of a flag's targeting: users outside of it get a variant of their own. It is a plain
flagd `fractional` over the salt of a space, so every SDK finds the same users.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from quarterdeck.documents import copy_json
from quarterdeck.errors import InvalidInput
from quarterdeck.shapes import (
    OUTSIDE,
    TARGETING_KEY,
    find_on_and_off,
    find_two_buckets,
    is_split,
    list_segments,
    split_targeting,
    with_targeting,
)
from quarterdeck.weights import TOTAL_WEIGHT

_IN, _OUT = "in", "out"


@dataclass(frozen=True, slots=True)
class Slice:
    """Ranges of a space, each from a start up to an end, out of 100,000. Spaces of different names are independent."""

    space: str
    ranges: tuple[tuple[int, int], ...]

    @property
    def share(self) -> float:
        """The share of all users in the slice, 0 to 1."""
        return sum(end - start for start, end in self.ranges) / TOTAL_WEIGHT

    def overlaps(self, other: Slice) -> bool:
        """Return whether some users are in both."""
        pairs = ((one, two) for one in self.ranges for two in other.ranges)
        return self.space == other.space and any(max(one[0], two[0]) < min(one[1], two[1]) for one, two in pairs)


def read_slices(definition: Mapping[str, Any]) -> tuple[Slice, ...]:
    """Return the slices in front of a flag's targeting; empty where it has none.

    >>> flag = {"state": "ENABLED", "variants": {"on": True, "off": False}, "defaultVariant": "on"}
    >>> read_slices(set_slices(flag, [Slice("layer/search", ((0, 20_000),))]))
    (Slice(space='layer/search', ranges=((0, 20000),)),)
    """
    return tuple(each for each, _ in _read(split_targeting(definition)[0]))


def set_slices(definition: Mapping[str, Any], slices: Iterable[Slice]) -> dict[str, Any]:
    """Return the flag for the users in all of these slices; no slice gives it back to everybody.

    The others get the variant `outside`, with the value of those who are off or on blue; from an A/B split they get
    what users get who are not enrolled. Raises InvalidInput for a flag that has no such value.
    """
    changed: dict[str, Any] = copy_json(definition)
    parts, rest = split_targeting(changed)
    own = parts[2 * len(_read(parts)) :]
    changed = _without_outside(with_targeting(changed, own, rest))
    wanted = tuple(slices)
    if not wanted:
        return changed
    changed, outside = _with_outside(changed)
    front = [part for each in wanted for part in (_test(each), outside)]
    return with_targeting(changed, [*front, *own], rest)


def own_rules(parts: Sequence[Any]) -> tuple[list[Any], list[Any]]:
    """Return the rules of a flag in two parts: those that keep its slices, and its own."""
    count = 2 * len(_read(parts))
    return list(parts[:count]), list(parts[count:])


def find_outside(definition: Mapping[str, Any]) -> str | None:
    """Return the variant of the users outside a flag's slices; None where it has no slice."""
    return next((serve for _, serve in _read(split_targeting(definition)[0])), None)


def decode_slice(test: Any) -> Slice | None:
    """Return the slice that a test keeps, None for any other test."""
    try:
        by, *buckets = test["=="][0]["fractional"]
        space = by["if"][1]["cat"][0].removesuffix("/")
        found, start = [], 0
        for label, weight in buckets:
            if label == _IN:
                found.append((start, start + weight))
            start += weight
        decoded = Slice(space, tuple(found))
        return decoded if _test(decoded) == test else None
    except (TypeError, KeyError, IndexError, ValueError, AttributeError):
        return None


def _read(parts: Sequence[Any]) -> list[tuple[Slice, str]]:
    found = []
    for test, serve in zip(parts[::2], parts[1::2], strict=True):
        decoded = decode_slice(test)
        if decoded is None or not isinstance(serve, str):
            break
        found.append((decoded, serve))
    return found


def _test(wanted: Slice) -> dict[str, Any]:
    """The test that is true for users outside the slice. One without an id is outside of nothing: it has no bucket."""
    user = {"var": TARGETING_KEY}
    by = {"if": [user, {"cat": [f"{wanted.space}/", user]}, None]}
    buckets: list[list[Any]] = []
    at = 0
    for start, end in sorted(wanted.ranges):
        buckets += [[_OUT, start - at]] if start > at else []
        buckets.append([_IN, end - start])
        at = end
    buckets += [[_OUT, TOTAL_WEIGHT - at]] if at < TOTAL_WEIGHT else []
    return {"==": [{"fractional": [by, *buckets]}, _OUT]}


def _with_outside(definition: dict[str, Any]) -> tuple[dict[str, Any], str]:
    """The flag with a variant for users outside, and its name."""
    variants = definition["variants"]
    if is_split(definition):
        arms = {name for name, _ in list_segments(definition)}
        for result, _ in find_two_buckets(split_targeting(definition)[1]) or ():
            if isinstance(result, str) and result not in arms:
                return definition, result
    if OUTSIDE in variants:
        raise InvalidInput("variants", f"rename {OUTSIDE!r}: users outside a slice get a variant of this name")
    usual = _find_usual(definition)
    if usual not in variants:
        raise InvalidInput("defaultVariant", "is missing, so users outside the slice would get nothing; name one")
    return {**definition, "variants": {**variants, OUTSIDE: variants[usual]}}, OUTSIDE


def _find_usual(definition: Mapping[str, Any]) -> Any:
    """The variant of users whom the flag does not touch."""
    on_off = find_on_and_off(definition)
    if on_off is not None:
        return on_off[1]
    return "blue" if set(definition["variants"]) == {"blue", "green"} else definition.get("defaultVariant")


def _without_outside(definition: dict[str, Any]) -> dict[str, Any]:
    """The flag without the variant that only users outside got."""
    variants = definition["variants"]
    named = _list_texts(definition.get("targeting"))
    if OUTSIDE not in variants or OUTSIDE in named or definition.get("defaultVariant") == OUTSIDE:
        return definition
    if not any(value == variants[OUTSIDE] for name, value in variants.items() if name != OUTSIDE):
        return definition  # somebody's own variant
    return {**definition, "variants": {name: value for name, value in variants.items() if name != OUTSIDE}}


def _list_texts(logic: Any) -> set[str]:
    if isinstance(logic, str):
        return {logic}
    parts = logic.values() if isinstance(logic, Mapping) else logic if isinstance(logic, list) else ()
    return {text for part in parts for text in _list_texts(part)}

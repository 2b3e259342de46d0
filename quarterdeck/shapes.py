"""Rule: the shapes of targeting that a form can edit: rules in front of a rollout, a canary or an A/B split.

Reads and builds flagd's JSON for `quarterdeck.definitions`, which builds and edits whole flags.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from quarterdeck.errors import InvalidInput

TARGETING_KEY = "targetingKey"
OUTSIDE = "outside"  # the variant of users outside a flag's slices (`quarterdeck.slices`)


def bucket_by_attribute(bucket_by: str) -> list[Any]:
    """Return the leading argument of a `fractional`: none for flagd's shorthand, else the flag's key and the attribute.

    A user without the attribute gets no bucket, instead of sharing one with everyone else who lacks it.
    """
    if bucket_by == TARGETING_KEY:
        return []
    return [{"if": [{"var": bucket_by}, salt("/", bucket_by), None]}]


def salt(text: str, attribute: str) -> dict[str, Any]:
    """Return the text to hash: the flag's key, a text that sets this split apart from others, and the attribute."""
    return {"cat": [{"var": "$flagd.flagKey"}, text, {"var": attribute}]}


def make_fractional(by: Sequence[Any], buckets: Sequence[Any]) -> dict[str, Any]:
    """Return a `fractional` over these buckets; `by` holds its leading argument or nothing."""
    return {"fractional": [*by, *buckets]}


def split_targeting(definition: Mapping[str, Any]) -> tuple[list[Any], Any]:
    """Return the rules as alternating tests and results, and what everyone else gets (None: the default variant)."""
    targeting = definition.get("targeting") or None
    arguments = targeting.get("if") if isinstance(targeting, Mapping) else None
    if not isinstance(arguments, list) or len(arguments) < 2:
        return [], targeting
    if len(arguments) % 2:
        return arguments[:-1], arguments[-1]
    return arguments, None


def with_targeting(definition: dict[str, Any], rules: Sequence[Any], rest: Any) -> dict[str, Any]:
    """Return the flag with this targeting, the reverse of `split_targeting`."""
    targeting = {"if": [*rules, *([] if rest is None else [rest])]} if rules else rest
    kept = {name: value for name, value in definition.items() if name not in ("targeting", "metadata")}
    ending = {"metadata": definition["metadata"]} if "metadata" in definition else {}
    return {**kept, **({"targeting": targeting} if targeting else {}), **ending}


def find_two_buckets(rest: Any) -> list[list[Any]] | None:
    """Return the two [variant, weight] buckets of a plain `fractional`; None for any other shape."""
    arguments = rest.get("fractional") if isinstance(rest, Mapping) else None
    if not isinstance(arguments, list) or not arguments:
        return None
    buckets = arguments if isinstance(arguments[0], list) else arguments[1:]
    if len(buckets) != 2 or not all(isinstance(bucket, list) and len(bucket) == 2 for bucket in buckets):
        return None
    weights = [weight for _, weight in buckets]
    return buckets if all(type(weight) is int and weight >= 0 for weight in weights) and any(weights) else None


def share_out(definition: Mapping[str, Any], result: Any, share: float) -> Iterator[tuple[str, float]]:
    """Yield each variant that a targeting result can give, with its part of the share. Raises InvalidInput."""
    if result is None or isinstance(result, str):
        yield str(definition.get("defaultVariant") if result is None else result), share
        return
    arguments = result.get("fractional") if isinstance(result, Mapping) else None
    if not isinstance(arguments, list) or not arguments:
        raise InvalidInput("targeting", "users are not split by weights alone")
    buckets = arguments if isinstance(arguments[0], list) else arguments[1:]
    plain = all(isinstance(bucket, list) and len(bucket) == 2 and type(bucket[1]) is int for bucket in buckets)
    total = sum(bucket[1] for bucket in buckets) if plain else 0
    if total <= 0 or (
        share < 1 and buckets is arguments
    ):  # both levels would hash alike: the inner shares would be wrong
        raise InvalidInput("targeting", "users are not split by weights alone")
    for inner, weight in buckets:
        yield from share_out(definition, inner, share * weight / total)


def find_on_and_off(definition: Mapping[str, Any]) -> tuple[str, str] | None:
    """Return the names of a boolean flag's variants, on and off; None for any other flag."""
    variants = list_own_variants(definition["variants"])
    names = {value: name for name, value in variants.items() if isinstance(value, bool)}
    return (names[True], names[False]) if len(names) == len(variants) == 2 else None


def list_own_variants(variants: Mapping[str, Any]) -> dict[str, Any]:
    """Return a flag's variants without the one that only users outside its slices get."""
    return {name: value for name, value in variants.items() if name != OUTSIDE or len(variants) < 3}


def find_enrolled_place(definition: Mapping[str, Any], buckets: Sequence[Sequence[Any]]) -> int | None:
    """Return the index of the bucket that is rolled out: on, green, or the one that holds an inner split."""
    on_off = find_on_and_off(definition)
    results = [bucket[0] for bucket in buckets]
    nested = [isinstance(result, Mapping) for result in results]
    wanted = on_off[0] if on_off else "green"
    if any(nested):
        return nested.index(True) if not all(nested) else None
    return results.index(wanted) if wanted in results else None


def find_choice(definition: Mapping[str, Any]) -> dict[str, Any]:
    """Return the inner `fractional` of an A/B split. Raises InvalidInput for any other flag."""
    for bucket in find_two_buckets(split_targeting(definition)[1]) or []:
        if isinstance(bucket[0], dict) and isinstance(bucket[0].get("fractional"), list):
            return bucket[0]
    raise InvalidInput("targeting", "this flag is not an A/B split")


def is_split(definition: Mapping[str, Any]) -> bool:
    """Return whether a flag is an A/B split as `split_flag` builds it."""
    return any(isinstance(bucket[0], dict) for bucket in find_two_buckets(split_targeting(definition)[1]) or [])


def list_segments(definition: Mapping[str, Any]) -> list[tuple[str, int]]:
    """Return the ranges of an A/B split, in order; a variant may own several. Raises InvalidInput."""
    arguments = find_choice(definition)["fractional"]
    buckets = arguments if arguments and isinstance(arguments[0], list) else arguments[1:]
    if not all(len(bucket) == 2 and isinstance(bucket[0], str) and type(bucket[1]) is int for bucket in buckets):
        raise InvalidInput("targeting", "this is not a plain A/B split: edit the definition itself")
    return [(name, weight) for name, weight in buckets]

"""Builds and edits the common shapes of flag: on/off with a rollout and rules, A/B split, canary.

All are plain flagd definitions with whole weights out of 100,000; what they mean is decided in `quarterdeck.flags`,
whether one may be saved in `quarterdeck.validation`.

The kill switch is flagd's own: state DISABLED. Every caller then gets the default in its code, which is what a flagd
or OpenFeature user expects of it, and rules, weights and variants stay, so switching on brings back the same people.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from quarterdeck.documents import check_metadata, copy_json, parse_document, resolve_references
from quarterdeck.errors import InvalidInput
from quarterdeck.rules import Rule, RuleOperator, decode_rule, encode_rule
from quarterdeck.validation import HASH_VERSION, validate_definition, validate_document, validate_key

__all__ = [
    "HASH_VERSION",
    "TOTAL_WEIGHT",
    "Rule",
    "RuleOperator",
    "boolean_flag",
    "canary_flag",
    "copy_json",
    "experiment_variants",
    "parse_document",
    "read_bucket_by",
    "read_rules",
    "read_shares",
    "read_weights",
    "resolve_references",
    "rollout_pct",
    "serve_to_all",
    "set_bucket_by",
    "set_rollout",
    "set_rules",
    "set_weights",
    "split_flag",
    "switch_flag",
    "validate_definition",
    "validate_document",
    "validate_key",
]

TOTAL_WEIGHT = 100_000
_TARGETING_KEY = "targetingKey"


def boolean_flag(
    *,
    on: bool,
    rollout_pct: float = 100.0,
    rules: Iterable[Rule] = (),
    bucket_by: str = _TARGETING_KEY,
    description: str = "",
    metadata: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """An on/off flag for `rollout_pct` percent of users, in steps of 0.001, sticky by the attribute `bucket_by`.

    Below 100% a user without that attribute is off. Raises InvalidInput.
    """
    kept = {"bucket_by": bucket_by} if bucket_by != _TARGETING_KEY else {}
    definition = _definition({"on": True, "off": False}, "on", {}, description, {**kept, **(metadata or {})})
    definition = set_rollout(definition, rollout_pct)
    rules = tuple(rules)
    return switch_flag(set_rules(definition, rules) if rules else definition, on=on)


def canary_flag(
    weight_pct: float = 0.0,
    *,
    bucket_by: str = _TARGETING_KEY,
    description: str = "",
    metadata: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """A canary: `weight_pct` percent of users get green, everyone else and whoever has no key gets blue."""
    green = _weight(weight_pct, "weight_pct")
    targeting = _fractional(_bucketing(bucket_by), [["green", green], ["blue", TOTAL_WEIGHT - green]])
    return _definition({"blue": "blue", "green": "green"}, "blue", targeting, description, metadata)


def split_flag(
    variants: Mapping[str, float],
    enrolled_pct: float = 100.0,
    *,
    outside: str = "off",
    values: Mapping[str, Any] | None = None,
    bucket_by: str = _TARGETING_KEY,
    description: str = "",
    metadata: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """An A/B test: `enrolled_pct` percent of users are shared out over `variants` by weight; the rest get `outside`.

    Who is enrolled and who gets what are hashed apart, so enrolling more moves nobody between variants; change shares
    with `set_weights`. Weights are relative; a variant's value is its name unless `values` says otherwise.
    """
    if not variants:
        raise InvalidInput("variants", "give at least one variant with its weight")
    names = [*variants, *([outside] if outside not in variants else [])]
    shares = _shares(variants)
    choice = _fractional([_salted("/variant/", bucket_by)], [[name, shares[name]] for name in variants])
    enrolled = _weight(enrolled_pct, "enrolled_pct")
    targeting = _fractional(_bucketing(bucket_by), [[choice, enrolled], [outside, TOTAL_WEIGHT - enrolled]])
    chosen = {name: (values or {}).get(name, name) for name in names}
    return _definition(chosen, outside, targeting, description, metadata)


def switch_flag(definition: Mapping[str, Any], *, on: bool) -> dict[str, Any]:
    """The same flag switched on or off. Off is the kill switch: every caller gets the default in its code."""
    return {**copy_json(definition), "state": "ENABLED" if on else "DISABLED"}


def rollout_pct(definition: Mapping[str, Any]) -> float | None:
    """The percentage of users, of those no rule catches, who are on, enrolled or on green; None for other shapes."""
    _, rest = _parts(definition)
    buckets = _two_buckets(rest)
    if buckets is None:
        on = _on_and_off(definition)
        if on is None or isinstance(rest, Mapping):
            return None
        return 100.0 if (rest or definition.get("defaultVariant")) == on[0] else 0.0
    place = _enrolled_place(definition, buckets)
    if place is None:
        return None
    share: float = 100.0 * buckets[place][1] / (buckets[0][1] + buckets[1][1])
    return share


def set_rollout(definition: Mapping[str, Any], pct: float) -> dict[str, Any]:
    """The same flag for `pct` percent of users: growing takes nobody out, shrinking lets nobody in.

    Raises InvalidInput outside 0..100, for steps finer than 0.001, and for targeting that is not a plain rollout.
    """
    weight = _weight(pct, "rollout_pct")
    if rollout_pct(definition) is None:
        raise InvalidInput("targeting", "this is not a plain rollout: edit the definition itself")
    changed: dict[str, Any] = copy_json(definition)
    rules, rest = _parts(changed)
    on_off = _on_and_off(changed)
    if on_off is not None and weight == TOTAL_WEIGHT:
        changed["defaultVariant"] = on_off[0]
        return _with_targeting(changed, rules, None)
    buckets = _two_buckets(rest)
    if buckets is None:
        on, off = on_off or ("", "")
        changed["defaultVariant"] = off
        by = (changed.get("metadata") or {}).get("bucket_by", _TARGETING_KEY)
        rest = _fractional(_bucketing(by), [[on, weight], [off, TOTAL_WEIGHT - weight]])
    else:
        place = _enrolled_place(changed, buckets) or 0
        buckets[place][1:], buckets[1 - place][1:] = [weight], [TOTAL_WEIGHT - weight]
    return _with_targeting(changed, rules, rest)


def read_bucket_by(definition: Mapping[str, Any]) -> str | None:
    """The attribute that a user's bucket sticks to; None where targeting is not a plain rollout or A/B split."""
    if rollout_pct(definition) is None:
        return None
    _, rest = _parts(definition)
    if _two_buckets(rest) is None:
        return str((definition.get("metadata") or {}).get("bucket_by", _TARGETING_KEY))
    by = [] if isinstance(rest["fractional"][0], list) else rest["fractional"][:1]
    if not by:
        return _TARGETING_KEY
    try:
        attribute = by[0]["if"][0]["var"]
    except (TypeError, KeyError, IndexError):
        return None
    return attribute if isinstance(attribute, str) and by == _bucketing(attribute) else None


def set_bucket_by(definition: Mapping[str, Any], attribute: str) -> dict[str, Any]:
    """The same rollout or A/B split, sticky by another attribute: users fall into new buckets. Raises InvalidInput."""
    if read_bucket_by(definition) is None:
        raise InvalidInput("targeting", "this is not a plain rollout: edit the definition itself")
    if not attribute.strip():
        raise InvalidInput("bucket_by", "name the attribute of the context that a user's bucket sticks to")
    changed: dict[str, Any] = copy_json(definition)
    kept = {name: value for name, value in (changed.get("metadata") or {}).items() if name != "bucket_by"}
    changed["metadata"] = kept | ({"bucket_by": attribute} if attribute != _TARGETING_KEY else {})
    rules, rest = _parts(changed)
    buckets = _two_buckets(rest)
    if buckets is None:
        return changed
    for bucket in buckets:
        if isinstance(bucket[0], dict) and "fractional" in bucket[0]:
            inner = bucket[0]["fractional"]
            bucket[0]["fractional"] = [
                _salted("/variant/", attribute),
                *(inner if isinstance(inner[0], list) else inner[1:]),
            ]
    return _with_targeting(changed, rules, _fractional(_bucketing(attribute), buckets))


def read_weights(definition: Mapping[str, Any]) -> dict[str, int]:
    """Each variant's share out of 100,000 of the enrolled users. Raises InvalidInput where it is no A/B split."""
    found = dict.fromkeys((name for name, _ in _segments(definition)), 0)
    for name, weight in _segments(definition):
        found[name] += weight
    return _shares(found)


def read_shares(definition: Mapping[str, Any]) -> dict[str, float]:
    """Each variant's share of the users whom no rule catches, adding up to 1, those of no share too.

    Raises InvalidInput where they are not shared out by weights alone.
    """
    found = dict.fromkeys(definition["variants"], 0.0)
    for variant, share in _share_out(definition, _parts(definition)[1], 1.0):
        if variant not in found:
            raise InvalidInput("targeting", f"{variant!r} is not among the variants")
        found[variant] += share
    return found


def serve_to_all(definition: Mapping[str, Any], variant: str) -> dict[str, Any]:
    """The same flag with `variant` for everybody whom no rule catches: its rollout or A/B split is over."""
    if variant not in definition["variants"]:
        raise InvalidInput("variant", f"{variant!r} is not among the variants")
    changed: dict[str, Any] = copy_json(definition)
    return _with_targeting(changed | {"defaultVariant": variant}, _parts(changed)[0], None)


def experiment_variants(definition: Mapping[str, Any]) -> frozenset[str]:
    """The variants whose users are noted for an experiment; empty where the flag is none. Never raises.

    An A/B split (`split_flag`) is one, with those it shares out. `experiment` in the metadata says it of any other
    flag, with all its variants, or denies it of a split with false. A flag that is switched off is none.
    """
    try:
        told = (definition.get("metadata") or {}).get("experiment")
        if told in (False, "") or definition.get("state") != "ENABLED":
            return frozenset()
        if told is None or _is_split(definition):
            return frozenset(name for name, _ in _segments(definition))
        return frozenset(definition["variants"])
    except (InvalidInput, AttributeError, KeyError, TypeError, ValueError):
        return frozenset()


def set_weights(definition: Mapping[str, Any], weights: Mapping[str, float]) -> dict[str, Any]:
    """The same A/B split with other weights: only as many users move as must, from a shrinking to a growing variant.

    A shrinking variant gives up the ends of its ranges, a growing one takes them over, and every other user stays.
    """
    unknown = [name for name in weights if name not in definition["variants"]]
    if unknown:
        raise InvalidInput("weights", f"{unknown[0]!r} is not among the variants")
    changed: dict[str, Any] = copy_json(definition)
    choice = _choice(changed)
    by = [] if isinstance(choice["fractional"][0], list) else choice["fractional"][:1]
    moved = _move(_rescaled(_segments(changed)), _shares(weights))
    choice["fractional"] = [*by, *([name, weight] for name, weight in moved)]
    return changed


def read_rules(definition: Mapping[str, Any]) -> tuple[Rule, ...] | None:
    """The flag's ordered rules, or None where its targeting is more than rules in front of a rollout."""
    parts, _ = _parts(definition)
    rules = [decode_rule(test, serve) for test, serve in zip(parts[::2], parts[1::2], strict=True)]
    known = tuple(rule for rule in rules if rule is not None)
    return known if len(known) == len(rules) else None


def set_rules(definition: Mapping[str, Any], rules: Iterable[Rule]) -> dict[str, Any]:
    """The same flag with these rules in front of its rollout. Raises InvalidInput for a rule that cannot work."""
    if read_rules(definition) is None:
        raise InvalidInput("targeting", "its rules were written by hand: edit the definition itself")
    changed: dict[str, Any] = copy_json(definition)
    _, rest = _parts(changed)
    parts = [part for rule in rules for part in (encode_rule(rule, changed["variants"]), rule.serve)]
    return _with_targeting(changed, parts, rest)


def _definition(
    variants: Mapping[str, Any],
    default: str,
    targeting: Mapping[str, Any],
    description: str,
    metadata: Mapping[str, Any] | None,
) -> dict[str, Any]:
    described = {"description": description} if description else {}
    kept = {"hash_version": HASH_VERSION, **described, **(metadata or {})}
    check_metadata(kept)
    built = {"state": "ENABLED", "variants": dict(variants), "defaultVariant": default}
    return {**built, **({"targeting": dict(targeting)} if targeting else {}), "metadata": kept}


def _weight(pct: float, field: str) -> int:
    """A percentage as a weight out of 100,000."""
    if isinstance(pct, bool) or not isinstance(pct, int | float) or not 0 <= pct <= 100:
        raise InvalidInput(field, f"give a number from 0 to 100, not {pct!r}")
    weight = round(pct * TOTAL_WEIGHT / 100)
    if abs(weight - pct * TOTAL_WEIGHT / 100) > 1e-6:
        raise InvalidInput(field, f"{pct} is finer than the smallest step, 0.001")
    return weight


def _shares(weights: Mapping[str, float]) -> dict[str, int]:
    """Relative weights as whole shares of 100,000; what rounding leaves over goes to the largest remainders."""
    for name, weight in weights.items():
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not math.isfinite(weight):
            raise InvalidInput("weights", f"the weight of {name!r} is a number, not {weight!r}")
        if weight < 0:
            raise InvalidInput("weights", f"the weight of {name!r} is negative")
    total = math.fsum(weights.values())
    if not total:
        raise InvalidInput("weights", "all weights are zero")
    exact = {name: weight / total * TOTAL_WEIGHT for name, weight in weights.items()}
    shares = {name: math.floor(share) for name, share in exact.items()}
    left = TOTAL_WEIGHT - sum(shares.values())
    for name in sorted(exact, key=lambda name: shares[name] - exact[name])[:left]:
        shares[name] += 1
    return shares


def _bucketing(bucket_by: str) -> list[Any]:
    """The leading argument of a `fractional`: nothing for flagd's shorthand, else the flag's key and the attribute.

    A user without the attribute has no bucket, rather than sharing one with all others who lack it.
    """
    if bucket_by == _TARGETING_KEY:
        return []
    return [{"if": [{"var": bucket_by}, _salted("/", bucket_by), None]}]


def _salted(salt: str, attribute: str) -> dict[str, Any]:
    return {"cat": [{"var": "$flagd.flagKey"}, salt, {"var": attribute}]}


def _fractional(by: Sequence[Any], buckets: Sequence[Any]) -> dict[str, Any]:
    return {"fractional": [*by, *buckets]}


def _parts(definition: Mapping[str, Any]) -> tuple[list[Any], Any]:
    """Targeting as alternating tests and results, and what everyone else gets (None: the default variant)."""
    targeting = definition.get("targeting") or None
    arguments = targeting.get("if") if isinstance(targeting, Mapping) else None
    if not isinstance(arguments, list) or len(arguments) < 2:
        return [], targeting
    if len(arguments) % 2:
        return arguments[:-1], arguments[-1]
    return arguments, None


def _with_targeting(definition: dict[str, Any], rules: Sequence[Any], rest: Any) -> dict[str, Any]:
    targeting = {"if": [*rules, *([] if rest is None else [rest])]} if rules else rest
    kept = {name: value for name, value in definition.items() if name not in ("targeting", "metadata")}
    ending = {"metadata": definition["metadata"]} if "metadata" in definition else {}
    return {**kept, **({"targeting": targeting} if targeting else {}), **ending}


def _two_buckets(rest: Any) -> list[list[Any]] | None:
    """The two [variant, weight] of a plain `fractional`, or None."""
    arguments = rest.get("fractional") if isinstance(rest, Mapping) else None
    if not isinstance(arguments, list) or not arguments:
        return None
    buckets = arguments if isinstance(arguments[0], list) else arguments[1:]
    if len(buckets) != 2 or not all(isinstance(bucket, list) and len(bucket) == 2 for bucket in buckets):
        return None
    weights = [weight for _, weight in buckets]
    return buckets if all(type(weight) is int and weight >= 0 for weight in weights) and any(weights) else None


def _share_out(definition: Mapping[str, Any], result: Any, share: float) -> Iterator[tuple[str, float]]:
    """The variants that a result of targeting stands for, each with its part of the share."""
    if result is None or isinstance(result, str):
        yield str(definition.get("defaultVariant") if result is None else result), share
        return
    arguments = result.get("fractional") if isinstance(result, Mapping) else None
    if not isinstance(arguments, list) or not arguments:
        raise InvalidInput("targeting", "users are not shared out by weights alone")
    buckets = arguments if isinstance(arguments[0], list) else arguments[1:]
    plain = all(isinstance(bucket, list) and len(bucket) == 2 and type(bucket[1]) is int for bucket in buckets)
    total = sum(bucket[1] for bucket in buckets) if plain else 0
    if total <= 0 or (share < 1 and buckets is arguments):  # hashed alike, the inner shares would not be those said
        raise InvalidInput("targeting", "users are not shared out by weights alone")
    for inner, weight in buckets:
        yield from _share_out(definition, inner, share * weight / total)


def _on_and_off(definition: Mapping[str, Any]) -> tuple[str, str] | None:
    """The names of a boolean flag's two variants, on first; None where it is no such flag."""
    names = {value: name for name, value in definition["variants"].items() if isinstance(value, bool)}
    return (names[True], names[False]) if len(names) == len(definition["variants"]) == 2 else None


def _enrolled_place(definition: Mapping[str, Any], buckets: Sequence[Sequence[Any]]) -> int | None:
    """Which of the two buckets is the one that is rolled out: on, the one with variants inside, or green."""
    on_off = _on_and_off(definition)
    results = [bucket[0] for bucket in buckets]
    nested = [isinstance(result, Mapping) for result in results]
    wanted = on_off[0] if on_off else "green"
    if any(nested):
        return nested.index(True) if not all(nested) else None
    return results.index(wanted) if wanted in results else None


def _choice(definition: Mapping[str, Any]) -> dict[str, Any]:
    """The inner `fractional` of an A/B split. Raises InvalidInput where there is none."""
    for bucket in _two_buckets(_parts(definition)[1]) or []:
        if isinstance(bucket[0], dict) and isinstance(bucket[0].get("fractional"), list):
            return bucket[0]
    raise InvalidInput("targeting", "this flag is no A/B split")


def _is_split(definition: Mapping[str, Any]) -> bool:
    return any(isinstance(bucket[0], dict) for bucket in _two_buckets(_parts(definition)[1]) or [])


def _segments(definition: Mapping[str, Any]) -> list[tuple[str, int]]:
    """The ranges of an A/B split in order; a variant may own several."""
    arguments = _choice(definition)["fractional"]
    buckets = arguments if arguments and isinstance(arguments[0], list) else arguments[1:]
    if not all(len(bucket) == 2 and isinstance(bucket[0], str) and type(bucket[1]) is int for bucket in buckets):
        raise InvalidInput("targeting", "this flag is no plain A/B split: edit the definition itself")
    return [(name, weight) for name, weight in buckets]


def _rescaled(segments: Sequence[tuple[str, int]]) -> list[tuple[str, int]]:
    """The same ranges out of 100,000."""
    shares = _shares({str(place): weight for place, (_, weight) in enumerate(segments)})
    return [(name, shares[str(place)]) for place, (name, _) in enumerate(segments)]


def _move(segments: Sequence[tuple[str, int]], wanted: Mapping[str, int]) -> list[tuple[str, int]]:
    """New ranges with the wanted shares, in which only the ends given up by shrinking variants change hands."""
    surplus = {name: -wanted.get(name, 0) for name, _ in segments}
    for name, weight in segments:
        surplus[name] += weight
    freed = [0] * len(segments)
    for place in reversed(range(len(segments))):
        name, weight = segments[place]
        freed[place] = min(weight, max(0, surplus[name]))
        surplus[name] -= freed[place]
    needs = {name: share - sum(w for n, w in segments if n == name) for name, share in wanted.items()}
    moved: list[tuple[str, int]] = []
    for (name, weight), gap in zip(segments, freed, strict=True):
        moved.append((name, weight - gap))
        for taker in needs:
            taken = min(gap, max(0, needs[taker]))
            moved.append((taker, taken))
            needs[taker] -= taken
            gap -= taken
    return _merged(moved)


def _merged(segments: Iterable[tuple[str, int]]) -> list[tuple[str, int]]:
    """The ranges without empty ones, neighbours of one variant joined; a variant of no share stays named at the end."""
    segments = list(segments)
    joined: list[tuple[str, int]] = []
    for name, weight in segments:
        if weight and joined and joined[-1][0] == name:
            joined[-1] = (name, joined[-1][1] + weight)
        elif weight:
            joined.append((name, weight))
    present = {name for name, _ in joined}
    return [*joined, *((name, 0) for name in dict.fromkeys(name for name, _ in segments) if name not in present)]

"""Rule: builds and edits the common kinds of flag: on/off with a rollout and rules, A/B split, canary.

All are plain flagd definitions with whole weights out of 100,000. `quarterdeck.flags` evaluates them and
`quarterdeck.validation` decides whether one may be saved.

The kill switch is flagd's own state DISABLED: every caller gets the default in its code. Rules, weights and variants
stay in the definition, so switching the flag on again serves the same users.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from quarterdeck.documents import check_metadata, copy_json
from quarterdeck.errors import InvalidInput
from quarterdeck.hashing import HASH_VERSIONS
from quarterdeck.rules import TargetingRule, decode_rule, encode_rule
from quarterdeck.shapes import (
    TARGETING_KEY,
    bucket_by_attribute,
    find_choice,
    find_enrolled_place,
    find_on_and_off,
    find_two_buckets,
    is_split,
    list_segments,
    make_fractional,
    salt,
    share_out,
    split_targeting,
    with_targeting,
)
from quarterdeck.slices import find_outside, own_rules
from quarterdeck.validation import HASH_VERSION
from quarterdeck.weights import TOTAL_WEIGHT, move_shares, rescale, to_shares, to_weight

REPORTED = "reported"


def boolean_flag(
    *,
    on: bool,
    rollout_pct: float = 100.0,
    rules: Iterable[TargetingRule] = (),
    bucket_by: str = TARGETING_KEY,
    description: str = "",
    metadata: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return an on/off flag for `rollout_pct` percent of users, in steps of 0.001.

    Users stay in their bucket by the context attribute `bucket_by`; below 100%, a user without it is off.
    Raises InvalidInput.

    >>> flag = boolean_flag(on=True, rollout_pct=20)
    >>> rollout_pct(flag)
    20.0
    """
    kept = {"bucket_by": bucket_by} if bucket_by != TARGETING_KEY else {}
    definition = _definition({"on": True, "off": False}, "on", {}, description, {**kept, **(metadata or {})})
    definition = set_rollout(definition, rollout_pct)
    rules = tuple(rules)
    return switch_flag(set_rules(definition, rules) if rules else definition, on=on)


def canary_flag(
    weight_pct: float = 0.0,
    *,
    bucket_by: str = TARGETING_KEY,
    description: str = "",
    metadata: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return a canary: `weight_pct` percent of users get green; everyone else, and users without a key, get blue."""
    green = to_weight(weight_pct, "weight_pct")
    targeting = make_fractional(bucket_by_attribute(bucket_by), [["green", green], ["blue", TOTAL_WEIGHT - green]])
    return _definition({"blue": "blue", "green": "green"}, "blue", targeting, description, metadata)


def split_flag(
    variants: Mapping[str, float],
    enrolled_pct: float = 100.0,
    *,
    outside: str = "off",
    values: Mapping[str, Any] | None = None,
    bucket_by: str = TARGETING_KEY,
    description: str = "",
    metadata: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return an A/B test: `enrolled_pct` percent of users are split over `variants` by weight; the rest get `outside`.

    Enrollment and variant are hashed separately, so enrolling more users moves nobody between variants. Weights are
    relative; change them with `set_weights`. A variant's value is its name unless `values` gives another.
    Raises InvalidInput.
    """
    if not variants:
        raise InvalidInput("variants", "give at least one variant with its weight")
    names = [*variants, *([outside] if outside not in variants else [])]
    shares = to_shares(variants)
    choice = make_fractional([salt("/variant/", bucket_by)], [[name, shares[name]] for name in variants])
    enrolled = to_weight(enrolled_pct, "enrolled_pct")
    targeting = make_fractional(
        bucket_by_attribute(bucket_by), [[choice, enrolled], [outside, TOTAL_WEIGHT - enrolled]]
    )
    chosen = {name: (values or {}).get(name, name) for name in names}
    return _definition(chosen, outside, targeting, description, metadata)


def switch_flag(definition: Mapping[str, Any], *, on: bool) -> dict[str, Any]:
    """Return the flag switched on or off. Off is the kill switch: every caller gets the default in its code."""
    return {**copy_json(definition), "state": "ENABLED" if on else "DISABLED"}


def rollout_pct(definition: Mapping[str, Any]) -> float | None:
    """Return the percentage of users outside all rules who are on, enrolled or on green; None for other shapes."""
    _, rest = split_targeting(definition)
    buckets = find_two_buckets(rest)
    if buckets is None:
        on = find_on_and_off(definition)
        if on is None or isinstance(rest, Mapping):
            return None
        return 100.0 if (rest or definition.get("defaultVariant")) == on[0] else 0.0
    place = find_enrolled_place(definition, buckets)
    if place is None:
        return None
    share: float = 100.0 * buckets[place][1] / (buckets[0][1] + buckets[1][1])
    return share


def set_rollout(definition: Mapping[str, Any], pct: float) -> dict[str, Any]:
    """Return the flag for `pct` percent of users. Growing removes nobody, shrinking adds nobody.

    Raises InvalidInput outside 0 to 100, for steps finer than 0.001, and for targeting that is not a plain rollout.
    """
    weight = to_weight(pct, "rollout_pct")
    if rollout_pct(definition) is None:
        raise InvalidInput("targeting", "this is not a plain rollout: edit the definition itself")
    changed: dict[str, Any] = copy_json(definition)
    rules, rest = split_targeting(changed)
    on_off = find_on_and_off(changed)
    if on_off is not None and weight == TOTAL_WEIGHT:
        changed["defaultVariant"] = on_off[0]
        return with_targeting(changed, rules, None)
    buckets = find_two_buckets(rest)
    if buckets is None:
        on, off = on_off or ("", "")
        changed["defaultVariant"] = off
        by = (changed.get("metadata") or {}).get("bucket_by", TARGETING_KEY)
        rest = make_fractional(bucket_by_attribute(by), [[on, weight], [off, TOTAL_WEIGHT - weight]])
    else:
        place = find_enrolled_place(changed, buckets) or 0
        buckets[place][1:], buckets[1 - place][1:] = [weight], [TOTAL_WEIGHT - weight]
    return with_targeting(changed, rules, rest)


def read_bucket_by(definition: Mapping[str, Any]) -> str | None:
    """Return the attribute that users are bucketed by; None if targeting is not a plain rollout or A/B split."""
    if rollout_pct(definition) is None:
        return None
    _, rest = split_targeting(definition)
    if find_two_buckets(rest) is None:
        return str((definition.get("metadata") or {}).get("bucket_by", TARGETING_KEY))
    by = [] if isinstance(rest["fractional"][0], list) else rest["fractional"][:1]
    if not by:
        return TARGETING_KEY
    try:
        attribute = by[0]["if"][0]["var"]
    except (TypeError, KeyError, IndexError):
        return None
    return attribute if isinstance(attribute, str) and by == bucket_by_attribute(attribute) else None


def set_bucket_by(definition: Mapping[str, Any], attribute: str) -> dict[str, Any]:
    """Return the rollout or A/B split bucketed by another attribute: users get new buckets. Raises InvalidInput."""
    if read_bucket_by(definition) is None:
        raise InvalidInput("targeting", "this is not a plain rollout: edit the definition itself")
    if not attribute.strip():
        raise InvalidInput("bucket_by", "name the context attribute that users are bucketed by")
    changed: dict[str, Any] = copy_json(definition)
    kept = {name: value for name, value in (changed.get("metadata") or {}).items() if name != "bucket_by"}
    changed["metadata"] = kept | ({"bucket_by": attribute} if attribute != TARGETING_KEY else {})
    rules, rest = split_targeting(changed)
    buckets = find_two_buckets(rest)
    if buckets is None:
        return changed
    for bucket in buckets:
        if isinstance(bucket[0], dict) and "fractional" in bucket[0]:
            inner = bucket[0]["fractional"]
            bucket[0]["fractional"] = [
                salt("/variant/", attribute),
                *(inner if isinstance(inner[0], list) else inner[1:]),
            ]
    return with_targeting(changed, rules, make_fractional(bucket_by_attribute(attribute), buckets))


def set_hash_version(definition: Mapping[str, Any], hash_version: str) -> dict[str, Any]:
    """Return the flag bucketing users by another of flagd's hashes: they get new buckets. Raises InvalidInput.

    >>> set_hash_version(canary_flag(20), "fractional-v2")["metadata"]["hash_version"]
    'fractional-v2'
    """
    if hash_version not in HASH_VERSIONS:
        raise InvalidInput("hash_version", f"give {' or '.join(HASH_VERSIONS)}, not {hash_version!r}")
    changed: dict[str, Any] = copy_json(definition)
    changed["metadata"] = {**(changed.get("metadata") or {}), "hash_version": hash_version}
    return changed


def read_weights(definition: Mapping[str, Any]) -> dict[str, int]:
    """Return each variant's share of the enrolled users, out of 100,000. Raises InvalidInput for other flags."""
    found = dict.fromkeys((name for name, _ in list_segments(definition)), 0)
    for name, weight in list_segments(definition):
        found[name] += weight
    return to_shares(found)


def read_shares(definition: Mapping[str, Any]) -> dict[str, float]:
    """Return each variant's share, 0 to 1, of the users outside all rules; variants that serve nobody have share 0.

    Raises InvalidInput if those users are not split by weights alone.
    """
    found = dict.fromkeys(definition["variants"], 0.0)
    for variant, share in share_out(definition, split_targeting(definition)[1], 1.0):
        if variant not in found:
            raise InvalidInput("targeting", f"{variant!r} is not among the variants")
        found[variant] += share
    return found


def serve_to_all(definition: Mapping[str, Any], variant: str) -> dict[str, Any]:
    """Return the flag serving `variant` to everyone outside all rules, which ends its rollout or A/B split."""
    if variant not in definition["variants"]:
        raise InvalidInput("variant", f"{variant!r} is not among the variants")
    changed: dict[str, Any] = copy_json(definition)
    return with_targeting(changed | {"defaultVariant": variant}, split_targeting(changed)[0], None)


def experiment_variants(definition: Mapping[str, Any]) -> frozenset[str]:
    """Return the variants whose exposures clients record; empty if the flag is not an experiment. Never raises.

    An A/B split (`split_flag`) is an experiment over the variants that it splits users over. `experiment` in the
    metadata makes any other flag one, over all its variants; false excludes a split. A disabled flag is never one.
    Users outside the flag's slices are no part of it.
    """
    try:
        told = (definition.get("metadata") or {}).get("experiment")
        if told in (False, "") or definition.get("state") != "ENABLED":
            return frozenset()
        if told is None or is_split(definition):
            return frozenset(name for name, _ in list_segments(definition))
        return frozenset(definition["variants"]) - {find_outside(definition)}
    except (InvalidInput, AttributeError, KeyError, TypeError, ValueError):
        return frozenset()


def counts_reports_only(definition: Any) -> bool:
    """Return whether a user counts as exposed once a service says so (metadata `exposure: reported`), not when asked.

    For flags that are evaluated earlier than users see what they got, or for users who may never see it. Never raises:
    a definition that cannot be read says nothing.
    """
    metadata = definition.get("metadata") if isinstance(definition, Mapping) else None
    return isinstance(metadata, Mapping) and metadata.get("exposure") == REPORTED


def set_weights(definition: Mapping[str, Any], weights: Mapping[str, float]) -> dict[str, Any]:
    """Return the A/B split with other weights. Only users who must move do, from shrinking to growing variants.

    A shrinking variant gives up the ends of its ranges to growing ones; every other user stays. Raises InvalidInput.
    """
    unknown = [name for name in weights if name not in definition["variants"]]
    if unknown:
        raise InvalidInput("weights", f"{unknown[0]!r} is not among the variants")
    changed: dict[str, Any] = copy_json(definition)
    choice = find_choice(changed)
    by = [] if isinstance(choice["fractional"][0], list) else choice["fractional"][:1]
    moved = move_shares(rescale(list_segments(changed)), to_shares(weights))
    choice["fractional"] = [*by, *([name, weight] for name, weight in moved)]
    return changed


def read_rules(definition: Mapping[str, Any]) -> tuple[TargetingRule, ...] | None:
    """Return the flag's own rules, in order; None if its targeting is more than rules in front of a rollout."""
    _, parts = own_rules(split_targeting(definition)[0])
    rules = [decode_rule(test, serve) for test, serve in zip(parts[::2], parts[1::2], strict=True)]
    known = tuple(rule for rule in rules if rule is not None)
    return known if len(known) == len(rules) else None


def set_rules(definition: Mapping[str, Any], rules: Iterable[TargetingRule]) -> dict[str, Any]:
    """Return the flag with these rules in front of its rollout. Raises InvalidInput for a rule that cannot work."""
    if read_rules(definition) is None:
        raise InvalidInput("targeting", "its rules were written by hand: edit the definition itself")
    changed: dict[str, Any] = copy_json(definition)
    front, rest = split_targeting(changed)
    parts = [part for rule in rules for part in (encode_rule(rule, changed["variants"]), rule.serve)]
    return with_targeting(changed, [*own_rules(front)[0], *parts], rest)


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

"""Rule: reads PostHog's feature flags: the list of its API, and the answer of its local evaluation.

The distinct id is the targeting key, and a person's property an attribute of the same name.
"""

from collections.abc import Mapping
from typing import Any

from core.flags.conditions import (
    NoCounterpart,
    all_of,
    any_of,
    compare_numbers,
    is_given,
    is_one_of,
    lacks_case,
    matches_pattern,
    negate,
    spell,
)
from core.flags.conversion import (
    OUTSIDE,
    TARGETING_KEY,
    Converted,
    Importer,
    TargetingStep,
    convert_each,
    make_definition,
    read_share,
    split_between,
)

_NUMBERS = {"gt": ">", "gte": ">=", "lt": "<", "lte": "<="}


def recognize_posthog(export: Any) -> bool:
    """Whether a file lists flags that have filters with groups."""
    listed = _list_flags(export)
    return bool(listed) and all(isinstance(each, Mapping) and "key" in each and "filters" in each for each in listed)


def convert_posthog(export: Any, environment: str) -> Converted:  # noqa: ARG001 - PostHog's flags have none
    """Return the flags of an export."""
    found = {str(each["key"]): each for each in _list_flags(export)}
    return convert_each("PostHog", found, lambda _, flag, notes: _convert(flag, notes))


def _list_flags(export: Any) -> list[Any]:
    listed = export if isinstance(export, list) else None
    if isinstance(export, Mapping):
        listed = export.get("results", export.get("flags"))
        if listed is None and "filters" in export:
            listed = [export]
    return listed if isinstance(listed, list) else []


def _convert(flag: Mapping[str, Any], notes: list[str]) -> dict[str, Any]:
    if flag.get("deleted"):
        raise NoCounterpart("it is deleted there")
    filters = flag["filters"] or {}
    if filters.get("aggregation_group_type_index") is not None:
        raise NoCounterpart("it is for groups of persons; flagd knows one user")
    if filters.get("holdout_groups") or filters.get("holdout") or filters.get("super_groups"):
        raise NoCounterpart("it has a holdout or an early access list")
    listed = (filters.get("multivariate") or {}).get("variants") or []
    shares = [(str(each["key"]), float(each["rollout_percentage"])) for each in listed]
    if listed and not 99.9 <= sum(share for _, share in shares) <= 100.1:
        raise NoCounterpart("the shares of its variants do not add up to 100")
    split = split_between(shares, "variants") if listed else (("on", 1),)
    if any((filters.get("payloads") or {}).values()):
        notes.append("its payloads were left out")
    if flag.get("ensure_experience_continuity"):
        notes.append("persons do not keep their variant when they log in")
    if listed:
        notes.append(f"whom it leaves out get the text {OUTSIDE!r} here and false there")
    names = {key for key, _ in shares}
    # As there, groups that force a variant come first.
    groups = sorted(filters.get("groups") or (), key=lambda each: each.get("variant") not in names)
    steps = []
    for group in groups:
        if group.get("aggregation_group_type_index") is not None:
            raise NoCounterpart("it is for groups of persons; flagd knows one user")
        test = all_of([_property(each, notes) for each in group.get("properties") or ()])
        share = group.get("rollout_percentage")
        weight = read_share(100 if share is None else share, whole=100, what="rollout_percentage")
        forced = group.get("variant")
        gives = ((str(forced), 1),) if forced in names else split
        steps.append(TargetingStep(test, weight, TARGETING_KEY, gives))
    variants: dict[str, Any] = {key: key for key, _ in shares} | {OUTSIDE: OUTSIDE} if listed else {
        "on": True, "off": False}  # fmt: skip
    description = {"description": flag["name"]} if flag.get("name") else {}
    return make_definition(
        variants, OUTSIDE if listed else "off", steps, on=bool(flag.get("active", True)), metadata=description
    )


def _property(condition: Mapping[str, Any], notes: list[str]) -> Any:
    kind, name = condition.get("type", "person"), str(condition["key"])
    if kind != "person":
        raise NoCounterpart(f"it asks for a {kind}; flagd knows one user and its attributes")
    test = _match(condition, {"var": TARGETING_KEY if name == "distinct_id" else name}, name, notes)
    return negate(test) if condition.get("negation") else test


def _match(condition: Mapping[str, Any], attribute: Any, name: str, notes: list[str]) -> Any:
    operator, value = condition.get("operator") or "exact", condition.get("value")
    values = value if isinstance(value, list) else [value]
    if operator in ("exact", "is_not"):
        if not all(map(lacks_case, values)):
            notes.append(f"{name!r} is compared with its case here; PostHog ignores it")
        found = is_one_of(attribute, spell(values))
        return found if operator == "exact" else negate(found)
    if operator in ("icontains", "not_icontains"):
        if not all(map(lacks_case, values)):
            raise NoCounterpart(f"the condition on {name!r} ignores case; flagd does not")
        found = any_of([{"in": [str(each), {"cat": [attribute]}]} for each in values])
        return all_of([is_given(attribute), found]) if operator == "icontains" else negate(found)
    if operator in ("is_set", "is_not_set"):
        return is_given(attribute) if operator == "is_set" else negate(is_given(attribute))
    if operator in ("regex", "not_regex"):
        found = matches_pattern(attribute, str(value))
        return found if operator == "regex" else negate(found)
    if operator in _NUMBERS:
        try:
            return compare_numbers(attribute, _NUMBERS[operator], value)
        except (TypeError, ValueError):
            return all_of([is_given(attribute), {_NUMBERS[operator]: [attribute, str(value)]}])
    raise NoCounterpart(f"the operator {operator!r} on {name!r} has no equivalent in flagd")


POSTHOG = Importer("PostHog", recognize_posthog, convert_posthog)

"""Rule: reads GrowthBook's features: its SDK's document, and its REST API's list.

As in GrowthBook, the first rule that matches and whose share includes the user decides; `id` is the targeting key.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from core.errors import InvalidInput
from core.flags.conversion import (
    ALWAYS,
    TARGETING_KEY,
    Converted,
    NoCounterpart,
    TargetingStep,
    all_of,
    any_of,
    convert_each,
    describe_kind,
    make_definition,
    read_share,
)

_UNKNOWN_PARTS = {
    "namespace": "it is in a namespace",
    "filters": "it is in a namespace",
    "ranges": "its users are given as ranges of the hash",
    "range": "its users are given as a range of the hash",
    "parentConditions": "it depends on another flag; flagd's flags do not",
}
_COMPARISONS = {"$eq": "==", "$ne": "!=", "$lt": "<", "$lte": "<=", "$gt": ">", "$gte": ">="}
_VERSIONS = {"$veq": "=", "$vne": "!=", "$vlt": "<", "$vlte": "<=", "$vgt": ">", "$vgte": ">="}


def convert_growthbook(export: Mapping[str, Any], environment: str) -> Converted:
    """Return the flags of an export; of a list of features, as they are in the environment of that name.

    Raises InvalidInput where no feature of a list has that environment.
    """
    groups = export.get("savedGroups") or {}
    if isinstance(export["features"], Mapping):
        features = {str(key): feature for key, feature in export["features"].items()}
        return convert_each("GrowthBook", features, lambda feature: _convert(feature, True, groups))
    listed = {str(each["id"]): (each.get("environments") or {}).get(environment) for each in export["features"]}
    if listed and not any(listed.values()):
        names = sorted({name for each in export["features"] for name in each.get("environments") or {}})
        raise InvalidInput("environment", f"the export holds {', '.join(names)}; name one of them with --environment")
    return convert_each("GrowthBook", listed, lambda here: _convert_listed(here, groups))


def _convert_listed(here: Mapping[str, Any] | None, groups: Mapping[str, Any]) -> dict[str, Any]:
    """A feature of the REST API: what the SDK gets of it is among its fields, as text."""
    if here is None:
        raise NoCounterpart("it is not in this environment")
    try:
        definition = json.loads(here["definition"])
    except (KeyError, TypeError, ValueError):
        raise NoCounterpart("it comes without its `definition`; take the SDK endpoint's document") from None
    return _convert(definition, bool(here.get("enabled")), groups)


def _convert(feature: Mapping[str, Any], on: bool, groups: Mapping[str, Any]) -> dict[str, Any]:
    default = feature.get("defaultValue")
    if default is None:
        raise NoCounterpart("its default value is null")
    rules = [rule for rule in feature.get("rules") or () if rule.get("enabled", True)]
    values = [default, *(value for rule in rules for value in _values_of(rule))]
    names = _name_values(values)
    steps = [_step(number, rule, names, groups) for number, rule in enumerate(rules, 1)]
    variants = {names[_mark(value)]: value for value in values}
    return make_definition(variants, names[_mark(default)], steps, on=on, metadata={})


def _values_of(rule: Mapping[str, Any]) -> list[Any]:
    return list(rule["variations"]) if "variations" in rule else [rule["force"]] if "force" in rule else []


def _name_values(values: Sequence[Any]) -> dict[str, str]:
    """A variant's name for each value: on and off, the text or number itself, or a count."""
    kind = describe_kind(values)
    if kind == "boolean":
        return {_mark(True): "on", _mark(False): "off"}
    marks = list(dict.fromkeys(_mark(value) for value in values))
    texts = {_mark(value): str(value) for value in values}
    if kind == "object" or not all(0 < len(text) <= 64 and text.isprintable() for text in texts.values()):
        return {mark: f"variant-{number}" for number, mark in enumerate(marks)}
    return texts


def _step(number: int, rule: Mapping[str, Any], names: Mapping[str, str], groups: Mapping[str, Any]) -> TargetingStep:
    for part, problem in _UNKNOWN_PARTS.items():
        if rule.get(part):
            raise NoCounterpart(f"rule {number}: {problem}")
    attribute = rule.get("hashAttribute") or "id"
    by = TARGETING_KEY if attribute == "id" else attribute
    weight = read_share(rule.get("coverage", 1), whole=1, what=f"rule {number}: coverage")
    try:
        test = _condition(rule.get("condition") or {}, groups)
    except NoCounterpart as error:
        raise NoCounterpart(f"rule {number}: {error}") from None
    if "variations" in rule:
        variations = rule["variations"]
        shares = rule.get("weights") or [1 / len(variations)] * len(variations)
        if len(shares) != len(variations):
            raise NoCounterpart(f"rule {number}: {len(variations)} variations have {len(shares)} weights")
        weights = [read_share(share, whole=1, what=f"rule {number}: weights") for share in shares]
        return TargetingStep(test, weight, by, _merge([names[_mark(value)] for value in variations], weights))
    if "force" not in rule:
        raise NoCounterpart(f"rule {number}: it forces no value and has no variations")
    return TargetingStep(test, weight, by, ((names[_mark(rule["force"])], 1),))


def _merge(names: Sequence[str], weights: Sequence[int]) -> tuple[tuple[str, int], ...]:
    """Variations of one value are one variant."""
    merged: dict[str, int] = {}
    for name, weight in zip(names, weights, strict=True):
        merged[name] = merged.get(name, 0) + weight
    return tuple(merged.items())


def _condition(condition: Mapping[str, Any], groups: Mapping[str, Any]) -> Any:
    tests = []
    for name, wanted in condition.items():
        if name == "$and":
            tests.append(all_of([_condition(each, groups) for each in wanted]))
        elif name in ("$or", "$nor"):
            found = any_of([_condition(each, groups) for each in wanted]) if wanted else ALWAYS
            tests.append(found if name == "$or" else {"!": [found]})
        elif name == "$not":
            tests.append({"!": [_condition(wanted, groups)]})
        else:
            tests.append(_compare(name, wanted, groups))
    return all_of(tests)


def _compare(name: str, wanted: Any, groups: Mapping[str, Any]) -> Any:
    attribute = {"var": TARGETING_KEY if name == "id" else name}
    operators = isinstance(wanted, Mapping) and wanted and all(str(each).startswith("$") for each in wanted)
    if operators:
        return all_of([_operation(attribute, operator, value, name, groups) for operator, value in wanted.items()])
    if isinstance(wanted, Mapping | list):
        raise NoCounterpart(f"{name!r} is compared with a structure")
    return {"===" if wanted is None else "==": [attribute, wanted]}


def _operation(attribute: Any, operator: str, value: Any, name: str, groups: Mapping[str, Any]) -> Any:
    if operator in _COMPARISONS and not isinstance(value, Mapping | list):
        strict = "=" if value is None and operator in ("$eq", "$ne") else ""
        return {_COMPARISONS[operator] + strict: [attribute, value]}
    if operator in _VERSIONS:
        return {"sem_ver": [attribute, _VERSIONS[operator], str(value)]}
    if operator in ("$in", "$nin"):
        found = {"in": [attribute, list(value)]}
        return found if operator == "$in" else {"!": [found]}
    if operator in ("$inGroup", "$notInGroup"):
        if value not in groups:
            raise NoCounterpart(f"the saved group {value!r} is not in the export")
        found = {"in": [attribute, list(groups[value])]}
        return found if operator == "$inGroup" else {"!": [found]}
    if operator == "$exists":
        return {"!==" if value else "===": [attribute, None]}  # 0 is loosely nothing
    if operator == "$not":
        return {"!": [_compare(name, value, groups)]}
    raise NoCounterpart(f"{operator} on {name!r} has no counterpart in flagd")


def _mark(value: Any) -> str:
    """What tells values apart: 1 from true, and objects by what is in them."""
    return json.dumps(value, sort_keys=True)

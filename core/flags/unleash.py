"""Rule: reads Unleash's exports: of one environment, of the whole state, and what its client API returns.

As in Unleash, any strategy that matches lets a user in; `userId` is the targeting key.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
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
from quarterdeck.weights import TOTAL_WEIGHT

OUTSIDE = "disabled"  # what Unleash calls the variant of who is not let in
_STICKINESS = {"default": TARGETING_KEY, "userId": TARGETING_KEY}
_GRADUAL = {"gradualRolloutUserId": TARGETING_KEY, "gradualRolloutSessionId": "sessionId"}
_LISTED = {
    "userWithId": ("userIds", TARGETING_KEY),
    "remoteAddress": ("IPs", "remoteAddress"),
    "applicationHostname": ("hostNames", "hostname"),
}
_NUMBERS = {"NUM_EQ": "==", "NUM_GT": ">", "NUM_GTE": ">=", "NUM_LT": "<", "NUM_LTE": "<="}
_VERSIONS = {"SEMVER_EQ": "=", "SEMVER_GT": ">", "SEMVER_GTE": ">=", "SEMVER_LT": "<", "SEMVER_LTE": "<="}
_TEXTS = {"STR_STARTS_WITH": "starts_with", "STR_ENDS_WITH": "ends_with"}
_DATES = {"DATE_AFTER": ">", "DATE_BEFORE": "<"}


def convert_unleash(export: Mapping[str, Any], environment: str) -> Converted:
    """Return the flags of an export. Of several environments in it, the one of that name is read, or the only one.

    Raises InvalidInput where there are several and none of that name.
    """
    chosen = _choose_environment(export, environment)
    segments = {segment.get("id"): segment for segment in export.get("segments") or ()}
    found = {str(feature.get("name")): feature for feature in export["features"]}
    return convert_each("Unleash", found, lambda feature: _convert(_gather(export, feature, chosen), segments))


def _choose_environment(export: Mapping[str, Any], wanted: str) -> str | None:
    """The environment to read, or None where the export is of one alone."""
    strategies = export.get("featureStrategies") or ()
    named = {each.get("environment") for each in strategies} | {
        each.get("environment") for each in export.get("featureEnvironments") or ()
    }
    names = sorted(name for name in named if name)
    if len(names) <= 1 or wanted in names:
        return wanted if wanted in names else next(iter(names), None)
    raise InvalidInput("environment", f"the export holds {', '.join(names)}; name one of them with --environment")


def _gather(export: Mapping[str, Any], feature: Mapping[str, Any], environment: str | None) -> dict[str, Any]:
    """A feature with its strategies, variants and switch, wherever the export keeps them."""
    name = feature["name"]
    if "strategies" in feature:  # the client API's document
        return dict(feature)

    def belongs(each: Mapping[str, Any]) -> bool:
        return each.get("featureName") == name and each.get("environment") in (None, environment)

    strategies = [each for each in export.get("featureStrategies") or () if belongs(each)]
    here: Mapping[str, Any] = next((each for each in export.get("featureEnvironments") or () if belongs(each)), {})
    of_strategies: dict[Any, list[Any]] = {}
    for link in export.get("featureStrategySegments") or ():
        of_strategies.setdefault(link.get("featureStrategyId"), []).append(link.get("segmentId"))
    depends = any(each.get("feature") == name for each in export.get("dependencies") or ())
    return {
        **feature,
        "enabled": bool(here.get("enabled")),
        "variants": here.get("variants") or feature.get("variants") or [],
        "strategies": [
            {"segments": of_strategies.get(each.get("id"), []), **each}
            for each in sorted(strategies, key=lambda each: each.get("sortOrder") or 0)
        ],
        "dependencies": depends or feature.get("dependencies"),
    }


def _convert(feature: Mapping[str, Any], segments: Mapping[Any, Any]) -> dict[str, Any]:
    if feature.get("archived") or feature.get("archivedAt"):
        raise NoCounterpart("it is archived there")
    if feature.get("dependencies"):
        raise NoCounterpart("it depends on another flag; flagd's flags do not")
    strategies = [each for each in feature["strategies"] if not each.get("disabled")]
    given = next((each["variants"] for each in strategies if each.get("variants")), feature.get("variants") or [])
    steps = [_step(each, feature, segments) for each in strategies]
    if not feature["strategies"]:
        steps = [_entry(ALWAYS, TOTAL_WEIGHT, TARGETING_KEY, given)]
    if given and any(step.gives == (("on", 1),) for step in steps):
        raise NoCounterpart("some of its strategies have variants and others have none")
    variants = _values(given, strategies, feature) if given else {"on": True, "off": False}
    description = {"description": feature["description"]} if feature.get("description") else {}
    return make_definition(
        variants, OUTSIDE if given else "off", steps, on=bool(feature.get("enabled")), metadata=description
    )


def _values(
    given: Sequence[Mapping[str, Any]], strategies: Sequence[Mapping[str, Any]], feature: Mapping[str, Any]
) -> dict[str, Any]:
    """The variants' values: their payloads, or their names where none has one."""
    every = [*given, *(each for strategy in strategies for each in strategy.get("variants") or ())]
    every += feature.get("variants") or []
    payloads = {each["name"]: each.get("payload") for each in every}
    if not any(payloads.values()):
        return {name: name for name in [*payloads, OUTSIDE]}
    if not all(payloads.values()):
        raise NoCounterpart("some variants have a payload and others have none")
    values = {name: _payload(payload) for name, payload in payloads.items() if payload}
    nothing = {"text": OUTSIDE, "number": 0, "object": {}}[describe_kind(list(values.values()))]
    return {**values, OUTSIDE: nothing}


def _payload(payload: Mapping[str, Any]) -> Any:
    value = payload["value"]
    if payload.get("type") == "number":
        return float(value) if "." in str(value) else int(value)
    if payload.get("type") == "json":
        found = json.loads(value)
        if not isinstance(found, dict | list):
            raise NoCounterpart("a variant's JSON payload is neither an object nor a list")
        return found
    return str(value)


def _step(strategy: Mapping[str, Any], feature: Mapping[str, Any], segments: Mapping[Any, Any]) -> TargetingStep:
    name, parameters = strategy.get("name") or strategy["strategyName"], strategy.get("parameters") or {}
    constraints = list(strategy.get("constraints") or ())
    for number in strategy.get("segments") or ():
        segment = segments.get(number) or {}
        if "constraints" not in segment:
            raise NoCounterpart(f"the constraints of segment {segment.get('name') or number!r} are not in the export")
        constraints += segment["constraints"]
    tests = [_constraint(each) for each in constraints]
    weight, by = TOTAL_WEIGHT, TARGETING_KEY
    if name == "flexibleRollout":
        weight = read_share(parameters.get("rollout", 100), whole=100, what="rollout")
        by = _sticky(parameters.get("stickiness") or "default", is_whole=weight == TOTAL_WEIGHT)
    elif name in _GRADUAL:
        weight, by = read_share(parameters.get("percentage"), whole=100, what="percentage"), _GRADUAL[name]
    elif name in _LISTED:
        parameter, attribute = _LISTED[name]
        listed = [each.strip() for each in str(parameters.get(parameter) or "").split(",") if each.strip()]
        tests.append({"in": [{"var": attribute}, listed]} if listed else {"!": [True]})
    elif name != "default":
        raise NoCounterpart(f"the strategy {name!r} is unknown here")
    return _entry(all_of(tests), weight, by, strategy.get("variants") or feature.get("variants") or [])


def _entry(test: Any, weight: int, by: str, variants: Sequence[Mapping[str, Any]]) -> TargetingStep:
    if any(each.get("overrides") for each in variants):
        raise NoCounterpart("a variant has overrides for single users")
    gives = tuple((each["name"], int(each["weight"])) for each in variants) or (("on", 1),)
    return TargetingStep(test, weight, by, gives)


def _sticky(stickiness: str, *, is_whole: bool) -> str:
    if stickiness == "random" and not is_whole:
        raise NoCounterpart("its rollout is drawn anew for each request (stickiness random); flagd keeps users")
    return TARGETING_KEY if stickiness == "random" else _STICKINESS.get(stickiness, stickiness)


def _constraint(constraint: Mapping[str, Any]) -> Any:
    test = _test(constraint, str(constraint["operator"]))
    return {"!": [test]} if constraint.get("inverted") else test


def _test(constraint: Mapping[str, Any], operator: str) -> Any:
    name = str(constraint["contextName"])
    attribute = {"var": _STICKINESS.get(name, name)}
    values = list(constraint.get("values") or ())
    if operator in ("IN", "NOT_IN"):
        found = {"in": [attribute, values]}
        return found if operator == "IN" else {"!": [found]}
    if operator in _TEXTS or operator == "STR_CONTAINS":
        if constraint.get("caseInsensitive"):
            raise NoCounterpart(f"the constraint on {name!r} ignores capitals; flagd does not")
        if not values:
            return {"!": [True]}
        if operator == "STR_CONTAINS":
            return any_of([{"in": [value, attribute]} for value in values])
        return any_of([{_TEXTS[operator]: [attribute, value]} for value in values])
    if operator in _VERSIONS:
        return {"sem_ver": [attribute, _VERSIONS[operator], str(constraint["value"])]}
    if operator in _NUMBERS:
        value = float(constraint["value"])
        compared = {_NUMBERS[operator]: [attribute, int(value) if value.is_integer() else value]}
        return {"and": [{"!==": [attribute, None]}, compared]}  # nothing is 0 to flagd, and no number to Unleash
    if operator in _DATES:
        if name != "currentTime":
            raise NoCounterpart(f"the constraint on {name!r} compares dates; flagd knows the present alone")
        moment = datetime.fromisoformat(constraint["value"])
        return {_DATES[operator]: [{"var": "$flagd.timestamp"}, int(moment.timestamp())]}
    raise NoCounterpart(f"the operator {operator} of the constraint on {name!r} has no counterpart in flagd")

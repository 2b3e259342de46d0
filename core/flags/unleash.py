"""Rule: reads Unleash's exports: of one environment, of the whole state, and what its client API returns.

As in Unleash, any strategy that matches lets a user in; `userId` is the targeting key.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from core.flags.conditions import (
    ALWAYS,
    NEVER,
    NoCounterpart,
    all_of,
    any_of,
    compare_numbers,
    compare_versions,
    is_given,
    is_in_networks,
    is_since,
    lacks_case,
    matches_pattern,
    negate,
    read_moment,
)
from core.flags.conversion import (
    OUTSIDE,
    TARGETING_KEY,
    Converted,
    Importer,
    TargetingStep,
    choose_environment,
    convert_each,
    describe_kind,
    make_definition,
    read_share,
    salt_apart,
    split_between,
    to_all,
    when_outcome,
)
from quarterdeck.weights import TOTAL_WEIGHT

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


def recognize_unleash(export: Any) -> bool:
    """Whether a file is one of Unleash's: its features are a list, and none has GrowthBook's environments."""
    listed = export.get("features") if isinstance(export, Mapping) else None
    return isinstance(listed, list) and not any(isinstance(each, Mapping) and "environments" in each for each in listed)


def convert_unleash(export: Mapping[str, Any], environment: str) -> Converted:
    """Return the flags of an export. Of several environments, reads the one with this name, or the only one.

    Raises InvalidInput if there are several and none has this name.
    """
    chosen = _choose_environment(export, environment)
    segments = {segment.get("id"): segment for segment in export.get("segments") or ()}
    found = {str(feature.get("name")): feature for feature in export["features"]}

    def gather(name: str) -> dict[str, Any] | None:
        return _gather(export, found[name], chosen) if name in found else None

    def convert(_: str, feature: Mapping[str, Any], notes: list[str]) -> dict[str, Any]:
        return _Feature(_gather(export, feature, chosen), segments, notes).convert(gather)

    return convert_each("Unleash", found, convert)


def _choose_environment(export: Mapping[str, Any], wanted: str) -> str | None:
    """The environment to read, or None if the export has only one."""
    strategies = export.get("featureStrategies") or ()
    named = {each.get("environment") for each in strategies} | {
        each.get("environment") for each in export.get("featureEnvironments") or ()
    }
    names = sorted(name for name in named if name)
    return None if not names else choose_environment(names, wanted)


def _gather(export: Mapping[str, Any], feature: Mapping[str, Any], environment: str | None) -> dict[str, Any]:
    """A feature with its strategies, variants and switch, wherever the export has them."""
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
    return {
        **feature,
        "enabled": bool(here.get("enabled")),
        "variants": here.get("variants") or feature.get("variants") or [],
        "strategies": [
            {"segments": of_strategies.get(each.get("id"), []), **each}
            for each in sorted(strategies, key=lambda each: each.get("sortOrder") or 0)
        ],
        "dependencies": _gather_dependencies(export, name) or feature.get("dependencies"),
    }


def _gather_dependencies(export: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    """The dependencies of a feature in an export, which lists them by feature."""
    found: list[Mapping[str, Any]] = []
    for each in export.get("dependencies") or ():
        if each.get("feature") == name:
            found += each["dependencies"] if "dependencies" in each else [{**each, "feature": each.get("dependsOn")}]
    return found


class _Feature:
    """One feature on its way to flagd, with the segments of the export and the notes about it."""

    def __init__(self, feature: Mapping[str, Any], segments: Mapping[Any, Any], notes: list[str]) -> None:
        self._feature = feature
        self._segments = segments
        self._notes = notes

    def convert(self, gather: Callable[[str], Mapping[str, Any] | None]) -> dict[str, Any]:
        feature = self._feature
        if feature.get("archived") or feature.get("archivedAt"):
            raise NoCounterpart("it is archived there")
        steps, given = self._list_steps()
        gate = all_of([self._parent_test(each, gather) for each in feature.get("dependencies") or ()])
        if gate == NEVER:
            steps = []
        elif gate is not ALWAYS:
            steps = [replace(step, test=all_of([gate, step.test])) for step in steps]
        variants = _values(given, feature["strategies"], feature) if given else {"on": True, "off": False}
        description = {"description": feature["description"]} if feature.get("description") else {}
        return make_definition(
            variants, OUTSIDE if given else "off", steps, on=bool(feature.get("enabled")), metadata=description
        )

    def _list_steps(self) -> tuple[list[TargetingStep], Sequence[Mapping[str, Any]]]:
        """The steps, and the variants that they give; without variants they give "on"."""
        feature = self._feature
        strategies = [each for each in feature["strategies"] if not each.get("disabled")]
        given = next((each["variants"] for each in strategies if each.get("variants")), feature.get("variants") or [])
        told = [(step, _group(each, feature)) for each in strategies for step in self._steps_of(each)]
        steps = salt_apart([step for step, _ in told], [group for _, group in told])
        if not feature["strategies"]:
            steps = _entries(ALWAYS, TOTAL_WEIGHT, TARGETING_KEY, given)
        if given and any(step.gives == (("on", 1),) for step in steps):
            raise NoCounterpart("some of its strategies have variants and others have none")
        return steps, given

    def _parent_test(self, dependency: Mapping[str, Any], gather: Callable[[str], Mapping[str, Any] | None]) -> Any:
        """Whether a user passes a feature that this one depends on, whose rules are copied for that."""
        name = str(dependency["feature"])
        self._notes.append(f"it depends on {name} there; a copy of the rules of {name} as they are now stands in it")
        parent = gather(name)
        wants_on = dependency.get("enabled", True) is not False
        if parent is None or parent.get("dependencies"):  # of a chain, Unleash evaluates none
            return NEVER
        if not parent.get("enabled"):
            return NEVER if wants_on else ALWAYS
        steps, _ = _Feature(parent, self._segments, self._notes)._list_steps()
        if not wants_on:
            return when_outcome(steps, None, lambda variant: variant is None)
        listed = dependency.get("variants") or ()
        if not listed:
            return when_outcome([to_all(each.test, "on") if each.weight == TOTAL_WEIGHT else each for each in steps],
                                None, lambda variant: variant is not None)  # fmt: skip
        # A feature without variants has Unleash's variant "disabled", on as it is.
        return when_outcome(steps, None, lambda variant: (OUTSIDE if variant == "on" else variant) in listed)

    def _steps_of(self, strategy: Mapping[str, Any]) -> list[TargetingStep]:
        name = strategy.get("name") or strategy["strategyName"]
        parameters = strategy.get("parameters") or {}
        tests = [self._constraint(each) for each in self._list_constraints(strategy)]
        weight, by = TOTAL_WEIGHT, TARGETING_KEY
        if name == "flexibleRollout":
            weight = read_share(parameters.get("rollout", 100), whole=100, what="rollout")
            stickiness = parameters.get("stickiness") or "default"
            by = self._sticky(stickiness, weight)
            if weight == TOTAL_WEIGHT and stickiness not in ("default", "random"):
                tests.append(is_given({"var": by}))
        elif name in _GRADUAL:
            weight, by = read_share(parameters.get("percentage"), whole=100, what="percentage"), _GRADUAL[name]
            if weight == TOTAL_WEIGHT:
                tests.append(is_given({"var": by}))
        elif name == "gradualRolloutRandom":
            weight = read_share(parameters.get("percentage"), whole=100, what="percentage")
            self._sticky("random", weight)
        elif name in _LISTED:
            parameter, attribute = _LISTED[name]
            listed = [each.strip() for each in str(parameters.get(parameter) or "").split(",") if each.strip()]
            tests.append(_is_listed(name, {"var": attribute}, listed))
        elif name != "default":
            raise NoCounterpart(f"the strategy {name!r} is unknown")
        given = strategy.get("variants") or self._feature.get("variants") or []
        return _entries(all_of(tests), weight, by, given)

    def _list_constraints(self, strategy: Mapping[str, Any]) -> list[Mapping[str, Any]]:
        constraints = list(strategy.get("constraints") or ())
        for number in strategy.get("segments") or ():
            segment = self._segments.get(number) or {}
            if "constraints" not in segment:
                name = segment.get("name") or number
                raise NoCounterpart(f"the constraints of segment {name!r} are not in the export")
            constraints += segment["constraints"]
        return constraints

    def _sticky(self, stickiness: str, weight: int) -> str:
        if stickiness == "random" and 0 < weight < TOTAL_WEIGHT:
            raise NoCounterpart(
                "its rollout is random for each request (stickiness random); flagd assigns users for good"
            )
        if stickiness == "default" and 0 < weight < TOTAL_WEIGHT:
            self._notes.append("users without a targeting key are outside its rollout; Unleash draws them at random")
        return TARGETING_KEY if stickiness == "random" else _STICKINESS.get(stickiness, stickiness)

    def _constraint(self, constraint: Mapping[str, Any]) -> Any:
        test = _test(constraint, str(constraint["operator"]))
        return negate(test) if constraint.get("inverted") else test


def _values(
    given: Sequence[Mapping[str, Any]], strategies: Sequence[Mapping[str, Any]], feature: Mapping[str, Any]
) -> dict[str, Any]:
    """The variants' values: their payloads, or their names if none has one."""
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


def _group(strategy: Mapping[str, Any], feature: Mapping[str, Any]) -> str:
    """What a strategy's share is hashed with."""
    return str((strategy.get("parameters") or {}).get("groupId") or feature["name"])


def _is_listed(strategy: str, attribute: Any, listed: Sequence[str]) -> Any:
    if not listed:
        return NEVER
    if strategy == "remoteAddress" and any("/" in each for each in listed):
        return is_in_networks(attribute, listed)
    return {"in": [attribute, list(listed)]}


def _entries(test: Any, weight: int, by: str, variants: Sequence[Mapping[str, Any]]) -> list[TargetingStep]:
    """The steps of a strategy: the users whom a variant overrides first, then everybody by weight."""
    if not variants:
        return [TargetingStep(test, weight, by, (("on", 1),))]
    steps = []
    for variant in variants:
        for override in variant.get("overrides") or ():
            if weight < TOTAL_WEIGHT:
                raise NoCounterpart("a variant has overrides for single users within a percentage")
            name = str(override["contextName"])
            listed = {"in": [{"var": _STICKINESS.get(name, name)}, list(override.get("values") or ())]}
            steps.append(to_all(all_of([test, listed]), variant["name"]))
    sticky = next((each["stickiness"] for each in variants if each.get("stickiness")), "default")
    if len(variants) > 1 and sticky == "random":
        raise NoCounterpart("its variants are drawn at random for each request; flagd assigns users for good")
    chosen_by = by if sticky == "default" else _STICKINESS.get(sticky, sticky)
    if len(variants) > 1 and chosen_by != by and weight < TOTAL_WEIGHT:
        raise NoCounterpart(f"its rollout sticks to {by} and its variants to {chosen_by}; flagd hashes one of them")
    gives = split_between([(each["name"], each["weight"]) for each in variants], "its variants")
    return [*steps, TargetingStep(test, weight, chosen_by if len(gives) > 1 else by, gives)]


def _test(constraint: Mapping[str, Any], operator: str) -> Any:
    name = str(constraint["contextName"])
    attribute = {"var": _STICKINESS.get(name, name)}
    values = list(constraint.get("values") or ())
    if operator in ("IN", "NOT_IN"):
        found = {"in": [attribute, values]}
        return found if operator == "IN" else negate(found)
    if operator in _TEXTS or operator == "STR_CONTAINS":
        if constraint.get("caseInsensitive") and not all(map(lacks_case, values)):
            raise NoCounterpart(f"the constraint on {name!r} ignores case; flagd does not")
        if operator == "STR_CONTAINS":
            return any_of([{"in": [value, attribute]} for value in values])
        return any_of([{_TEXTS[operator]: [attribute, value]} for value in values])
    if operator in _VERSIONS:
        return compare_versions(attribute, _VERSIONS[operator], constraint["value"], leading_v=False, partial=False)
    if operator in _NUMBERS:
        return compare_numbers(attribute, _NUMBERS[operator], constraint["value"])
    if operator in ("DATE_AFTER", "DATE_BEFORE"):
        if name != "currentTime":
            raise NoCounterpart(f"the constraint on {name!r} compares dates; flagd only knows the current time")
        reached = is_since(read_moment(constraint["value"]))
        return reached if operator == "DATE_AFTER" else negate(reached)
    if operator == "REGEX" and not constraint.get("caseInsensitive"):
        return matches_pattern(attribute, str(constraint["value"]))
    if operator == "IN_CIDR":
        return is_in_networks(attribute, [str(value) for value in values])
    raise NoCounterpart(f"the operator {operator} of the constraint on {name!r} has no equivalent in flagd")


UNLEASH = Importer("Unleash", recognize_unleash, convert_unleash)

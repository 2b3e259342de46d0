"""Rule: reads Flagsmith's environment document, which its SDKs evaluate locally, and their evaluation context.

The identity's identifier is the targeting key, and a trait an attribute. A feature with a value gives the value; one
without is on or off.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from core.flags.conditions import (
    ALWAYS,
    NoCounterpart,
    all_of,
    any_of,
    compare_versions,
    is_given,
    is_one_of,
    matches_pattern,
    negate,
    spell,
)
from core.flags.conversion import (
    TARGETING_KEY,
    Converted,
    Importer,
    TargetingStep,
    convert_each,
    is_in_share,
    make_definition,
    name_values,
    read_share,
    split_between,
    to_all,
)
from quarterdeck.weights import TOTAL_WEIGHT

_ORDERS = {"GREATER_THAN": ">", "LESS_THAN": "<", "GREATER_THAN_INCLUSIVE": ">=", "LESS_THAN_INCLUSIVE": "<="}
_VERSIONS = {**_ORDERS, "EQUAL": "=", "NOT_EQUAL": "!="}
_SEMVER = ":semver"


def recognize_flagsmith(export: Any) -> bool:
    """Whether a file has states of features, as an environment document has them."""
    if _is_context(export):
        return True
    states = export.get("feature_states") if isinstance(export, Mapping) else export
    return isinstance(states, list) and bool(states) and all(
        isinstance(each, Mapping) and isinstance(each.get("feature"), Mapping) for each in states
    )  # fmt: skip


def convert_flagsmith(export: Any, environment: str) -> Converted:  # noqa: ARG001 - a file has one
    """Return the features of an environment document, or of the API's list of states, which has no segments."""
    if _is_context(export):
        export = _read_context(export.get("context", export))
    if isinstance(export, list):
        export = {"feature_states": export}
    segments = (export.get("project") or {}).get("segments") or ()
    identities = export.get("identity_overrides") or ()
    found = {str(each["feature"]["name"]): each for each in export["feature_states"]}

    def convert(name: str, state: Mapping[str, Any], notes: list[str]) -> dict[str, Any]:
        return _convert(state, _list_overrides(name, segments, identities), notes)

    return convert_each("Flagsmith", found, convert)


def _is_context(export: Any) -> bool:
    """Whether a file is the newer form, in which an evaluation is given to the SDKs."""
    context = export.get("context", export) if isinstance(export, Mapping) else None
    return isinstance(context, Mapping) and "environment" in context and isinstance(context.get("features"), Mapping)


def _read_context(context: Mapping[str, Any]) -> dict[str, Any]:
    """An evaluation context in the form of an environment document."""
    segments = [{**segment, "id": segment.get("key"), "feature_states": [_read_feature(each) for each in
                segment.get("overrides") or ()]} for segment in (context.get("segments") or {}).values()]  # fmt: skip
    states = [_read_feature(each) for each in context["features"].values()]
    return {"feature_states": states, "project": {"segments": segments}}


def _read_feature(feature: Mapping[str, Any]) -> dict[str, Any]:
    ranked = sorted(feature.get("variants") or (), key=lambda each: each.get("priority") or 0)
    several = [{"percentage_allocation": each["weight"], "multivariate_feature_option": {"value": each["value"]}}
               for each in ranked]  # fmt: skip
    return {"feature": {"name": feature["name"]}, "enabled": feature["enabled"],
            "feature_state_value": feature.get("value"), "multivariate_feature_state_values": several,
            "feature_segment": {"priority": feature.get("priority")}}  # fmt: skip


def _list_overrides(
    name: str, segments: Sequence[Mapping[str, Any]], identities: Sequence[Mapping[str, Any]]
) -> list[tuple[Any, Mapping[str, Any]]]:
    """Who gets another state of a feature: identities first, then segments by priority. A segment is not read yet."""
    found: list[tuple[Any, Mapping[str, Any]]] = [
        (is_one_of({"var": TARGETING_KEY}, [identity["identifier"]]), state)
        for identity in identities for state in identity.get("identity_features") or ()
        if state["feature"]["name"] == name
    ]  # fmt: skip
    ranked = [(segment, state) for segment in segments for state in segment.get("feature_states") or ()
              if state["feature"]["name"] == name]  # fmt: skip
    ranked.sort(key=lambda each: (each[1].get("feature_segment") or {}).get("priority") or 0)
    return [*found, *ranked]


def _convert(
    state: Mapping[str, Any], overrides: Sequence[tuple[Any, Mapping[str, Any]]], notes: list[str]
) -> dict[str, Any]:
    told = [(_who(who), each) for who, each in overrides]
    states = [state, *(each for _, each in told)]
    has_values = any(_values_of(each) for each in states)
    if not has_values:
        names = {True: "on", False: "off"}
        steps = [to_all(test, names[bool(each["enabled"])]) for test, each in told]
        on = bool(state["enabled"])
        default = names[on]
        return make_definition({"on": True, "off": False}, default, steps, on=on or bool(steps), metadata={})
    if any(bool(each["enabled"]) != bool(state["enabled"]) for each in states):
        raise NoCounterpart(
            "it has a value, and is on for some users and off for others; a flag of flagd has one state"
        )
    notes.append("it gives its value; whether it is on there is the state of the flag here")
    given = [value for each in states for value in _values_of(each)]
    if len(given) < len(states):
        raise NoCounterpart("some of its states have a value and others have none")
    names_of = dict(zip(map(repr, given), name_values(given), strict=True))
    variants = {names_of[repr(value)]: value for value in given}
    steps = [_value_step(test, each, names_of) for test, each in told]
    last = _value_step(ALWAYS, state, names_of)
    return make_definition(
        variants, names_of[repr(state["feature_state_value"])], [*steps, last], on=bool(state["enabled"]), metadata={}
    )


def _values_of(state: Mapping[str, Any]) -> list[Any]:
    """The control value and the multivariate ones; none where there is no control value."""
    several = [each["multivariate_feature_option"]["value"] for each in _list_several(state)]
    value = state.get("feature_state_value")
    if value in (None, ""):
        if several:
            raise NoCounterpart("it has several values, but no control value")
        return []
    return [value, *several]


def _list_several(state: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """The values that somebody gets besides the control value."""
    return [
        each for each in state.get("multivariate_feature_state_values") or () if float(each["percentage_allocation"])
    ]


def _value_step(test: Any, state: Mapping[str, Any], names: Mapping[str, str]) -> TargetingStep:
    shares = [(names[repr(each["multivariate_feature_option"]["value"])], float(each["percentage_allocation"]))
              for each in _list_several(state)]  # fmt: skip
    left = 100 - sum(share for _, share in shares)
    if left < -0.01:
        raise NoCounterpart("the shares of its values add up to more than 100")
    shares.append((names[repr(state["feature_state_value"])], max(0.0, left)))
    return TargetingStep(test, TOTAL_WEIGHT, TARGETING_KEY, split_between(shares, "values"))


def _who(who: Any) -> Any:
    """The test for an override, which is for a segment where it has rules."""
    return _segment_test(who) if "rules" in who else who


def _segment_test(segment: Mapping[str, Any]) -> Any:
    rules = segment.get("rules") or ()
    if not rules:
        return negate(ALWAYS)
    return all_of([_rule_test(each, segment) for each in rules])


def _rule_test(rule: Mapping[str, Any], segment: Mapping[str, Any]) -> Any:
    tests = [_condition(each, segment) for each in rule.get("conditions") or ()]
    tests_of_all = all_of(tests) if rule["type"] == "ALL" else any_of(tests) if tests else ALWAYS
    if rule["type"] == "NONE":
        tests_of_all = negate(any_of(tests)) if tests else ALWAYS
    elif rule["type"] not in ("ALL", "ANY"):
        raise NoCounterpart(f"a rule of the segment {segment.get('name')!r} is of the unknown type {rule['type']!r}")
    return all_of([tests_of_all, *(_rule_test(each, segment) for each in rule.get("rules") or ())])


def _condition(condition: Mapping[str, Any], segment: Mapping[str, Any]) -> Any:
    operator = condition["operator"]
    name = str(condition.get("property_") or condition.get("property") or "")
    value = condition.get("value")
    if operator == "PERCENTAGE_SPLIT":
        if name not in ("", "$.identity.key", "$.identity.identifier"):
            raise NoCounterpart(f"it shares users out by {name!r}")
        weight = read_share(value, whole=100, what="percentage split")
        return is_in_share(f"segment/{segment.get('id')}", weight)
    if name.startswith("$"):
        if name not in ("$.identity.identifier", "$.identity.key"):
            raise NoCounterpart(f"it asks for {name!r}; flagd knows the user and its attributes")
        name = TARGETING_KEY
    attribute = {"var": name}
    if operator in ("IS_SET", "IS_NOT_SET"):
        return is_given(attribute) if operator == "IS_SET" else negate(is_given(attribute))
    # Who lacks the trait meets no condition, not even a negative one.
    return all_of([is_given(attribute), _compare(attribute, operator, str(value), name)])


def _compare(attribute: Any, operator: str, value: str, name: str) -> Any:
    if value.endswith(_SEMVER) and operator in _VERSIONS:
        return compare_versions(attribute, _VERSIONS[operator], value.removesuffix(_SEMVER), leading_v=False)
    if operator in ("EQUAL", "NOT_EQUAL"):
        found = is_one_of(attribute, spell([value]))
        return found if operator == "EQUAL" else negate(found)
    if operator == "IN":
        return is_one_of(attribute, spell([each.strip() for each in value.split(",")]))
    if operator in _ORDERS:
        (first, *numbers) = spell([value])
        return {_ORDERS[operator]: [attribute, numbers[0] if numbers else first]}
    if operator in ("CONTAINS", "NOT_CONTAINS"):
        found = {"in": [value, attribute]}
        return found if operator == "CONTAINS" else negate(found)
    if operator == "REGEX":
        return matches_pattern(attribute, value if value.startswith("^") else f"^(?:{value})")
    if operator == "MODULO":
        divisor, remainder = value.split("|")
        return {"==": [{"%": [attribute, float(divisor)]}, float(remainder)]}
    raise NoCounterpart(f"the operator {operator!r} on {name!r} has no equivalent in flagd")


FLAGSMITH = Importer("Flagsmith", recognize_flagsmith, convert_flagsmith)

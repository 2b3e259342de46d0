"""Rule: reads Flipt's exports, YAML or JSON, of one namespace or several documents of them.

The entity id is the targeting key. A variant flag gives the key of a variant; a boolean flag's rollouts come before
its own switch.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from core.errors import InvalidInput
from core.flags.conditions import (
    ALWAYS,
    NoCounterpart,
    all_of,
    any_of,
    compare_numbers,
    is_given,
    is_one_of,
    negate,
)
from core.flags.conversion import (
    TARGETING_KEY,
    Converted,
    Importer,
    TargetingStep,
    convert_each,
    make_definition,
    read_share,
    split_between,
    to_all,
)
from quarterdeck.weights import TOTAL_WEIGHT

_NUMBERS = {"eq": "==", "neq": "!=", "lt": "<", "lte": "<=", "gt": ">", "gte": ">="}


def recognize_flipt(export: Any) -> bool:
    """Whether a file, or each document in it, lists flags with keys, as Flipt's export does."""
    documents = export if isinstance(export, list) else [export]
    mappings = bool(documents) and all(isinstance(each, Mapping) and _may_be(each) for each in documents)
    return mappings and any(_is_document(each) for each in documents)


def _may_be(document: Mapping[str, Any]) -> bool:
    """Whether a document can be one of several: a namespace may be without flags."""
    return _is_document(document) or (bool({"version", "namespace"} & set(document)) and not document.get("flags"))


def _is_document(document: Mapping[str, Any]) -> bool:
    flags = document.get("flags")
    if not isinstance(flags, list) or "results" in document:
        return False
    known = all(isinstance(each, Mapping) and "key" in each and "filters" not in each for each in flags)
    return known and ("version" in document or "namespace" in document or "segments" in document)


def convert_flipt(export: Any, environment: str) -> Converted:
    """Return the flags of an export; of several namespaces, of the one with the environment's name, or `default`."""
    documents = {_namespace(each): each for each in (export if isinstance(export, list) else [export])}
    chosen = next((name for name in (environment, "default") if name in documents), next(iter(documents)))
    if len(documents) > 1 and chosen not in (environment, "default"):
        raise InvalidInput("environment", f"the export has {', '.join(documents)}; choose one with --environment")
    document = documents[chosen]
    segments = {each["key"]: each for each in document.get("segments") or ()}
    found = {str(each["key"]): each for each in document.get("flags") or ()}

    def convert(_: str, flag: Mapping[str, Any], notes: list[str]) -> dict[str, Any]:
        is_boolean = str(flag.get("type", "VARIANT_FLAG_TYPE")).startswith("BOOLEAN")
        return (_convert_boolean if is_boolean else _convert_variants)(flag, segments, notes)

    return convert_each("Flipt", found, convert)


def _namespace(document: Mapping[str, Any]) -> str:
    named = document.get("namespace") or "default"
    return str(named["key"] if isinstance(named, Mapping) else named)


def _convert_boolean(
    flag: Mapping[str, Any],
    segments: Mapping[str, Any],
    notes: list[str],  # noqa: ARG001 - as for variants
) -> dict[str, Any]:
    names = {True: "on", False: "off"}
    steps = []
    default = names[bool(flag.get("enabled"))]
    for rollout in flag.get("rollouts") or ():
        if rollout.get("segment"):
            segment = rollout["segment"]
            steps.append(to_all(_segments_test(segment, segments), names[bool(segment.get("value"))]))
        elif rollout.get("threshold"):
            threshold = rollout["threshold"]
            weight = read_share(threshold.get("percentage", 0), whole=100, what="threshold")
            steps.append(TargetingStep(ALWAYS, weight, TARGETING_KEY, ((names[bool(threshold.get("value"))], 1),)))
        else:
            raise NoCounterpart("a rollout is neither for a segment nor a threshold")
    return make_definition({"on": True, "off": False}, default, steps, on=True, metadata=_describe(flag))


def _convert_variants(flag: Mapping[str, Any], segments: Mapping[str, Any], notes: list[str]) -> dict[str, Any]:
    variants = {str(each["key"]): str(each["key"]) for each in flag.get("variants") or ()}
    if not variants:
        raise NoCounterpart("it has no variants")
    if any(each.get("attachment") for each in flag["variants"]):
        notes.append("the attachments of its variants were left out: it gives their keys")
    default = next((str(each["key"]) for each in flag["variants"] if each.get("default")), None)
    steps = []
    for rule in sorted(flag.get("rules") or (), key=lambda each: each.get("rank") or 0):
        test = _segments_test(rule, segments)
        distributions = rule.get("distributions") or ()
        if not distributions:
            raise NoCounterpart("a rule has no distribution; flagd needs a variant")
        for each in distributions:
            if str(each["variant"]) not in variants:
                raise NoCounterpart(f"a rule gives {each['variant']!r}, which is not among its variants")
        total = sum(float(each["rollout"]) for each in distributions)
        if not 99.9 <= total <= 100.1:
            raise NoCounterpart(f"the distributions of a rule add up to {total:g}, not 100")
        gives = split_between([(str(each["variant"]), float(each["rollout"])) for each in distributions], "rollout")
        steps.append(TargetingStep(test, TOTAL_WEIGHT, TARGETING_KEY, gives))
    on = bool(flag.get("enabled"))
    return make_definition(variants, default, steps, on=on, metadata=_describe(flag))


def _describe(flag: Mapping[str, Any]) -> dict[str, Any]:
    return {"description": str(flag["description"])} if flag.get("description") else {}


def _segments_test(holder: Mapping[str, Any], segments: Mapping[str, Any]) -> Any:
    """The test for the segments that a rule or rollout names, in any of the forms that Flipt's exports have had."""
    named = holder.get("segment", holder.get("segments", holder))
    operator = holder.get("operator", holder.get("segment_operator", ""))
    if isinstance(named, Mapping):
        operator = named.get("operator", named.get("segment_operator", operator))
        named = named.get("keys") or named.get("segments") or named.get("key")
    keys = [named] if isinstance(named, str) else list(named or ())
    if not keys:
        raise NoCounterpart("a rule names no segment")
    tests = [_segment_test(str(key), segments) for key in keys]
    return all_of(tests) if str(operator).startswith("AND") else any_of(tests)


def _segment_test(key: str, segments: Mapping[str, Any]) -> Any:
    if key not in segments:
        raise NoCounterpart(f"the segment {key!r} is not in the export")
    tests = [_constraint(each) for each in segments[key].get("constraints") or ()]
    if not tests:
        return ALWAYS
    is_any = str(segments[key].get("match_type", "ALL_MATCH_TYPE")).startswith("ANY")
    return any_of(tests) if is_any else all_of(tests)


def _constraint(constraint: Mapping[str, Any]) -> Any:
    kind = str(constraint.get("type", "")).split("_")[0]
    operator, value = constraint["operator"], constraint.get("value")
    attribute = {"var": TARGETING_KEY if kind == "ENTITY" else constraint["property"]}
    if operator in ("present", "notpresent"):
        return is_given(attribute) if operator == "present" else negate(is_given(attribute))
    if kind in ("STRING", "ENTITY"):
        return _text_test(attribute, operator, value)
    if kind == "BOOLEAN":
        # The context of an entity is text; a boolean of OpenFeature's is one as well.
        wanted = operator == "true"
        return is_one_of(attribute, [wanted, "true" if wanted else "false"])
    if kind == "NUMBER":
        if operator in ("isoneof", "isnotoneof"):
            found = any_of([compare_numbers(attribute, "==", each) for each in _list(value)])
            return found if operator == "isoneof" else all_of([is_given(attribute), negate(found)])
        return compare_numbers(attribute, _NUMBERS[operator], value)
    raise NoCounterpart(f"the constraint on {constraint.get('property')!r} compares dates; flagd cannot")


def _text_test(attribute: Any, operator: str, value: Any) -> Any:
    text = "" if value is None else str(value)
    if operator in ("eq", "neq"):
        return {"==" if operator == "eq" else "!=": [attribute, text]}
    if operator in ("empty", "notempty"):
        empty = {"or": [{"===": [attribute, None]}, {"===": [attribute, ""]}]}
        return empty if operator == "empty" else negate(empty)
    if operator in ("prefix", "suffix"):
        return {"starts_with" if operator == "prefix" else "ends_with": [attribute, text]}
    if operator in ("contains", "notcontains"):
        found = {"in": [text, attribute]}
        return found if operator == "contains" else negate(found)
    if operator in ("isoneof", "isnotoneof"):
        found = is_one_of(attribute, _list(value))
        return found if operator == "isoneof" else negate(found)
    raise NoCounterpart(f"the operator {operator!r} has no equivalent in flagd")


def _list(value: Any) -> Sequence[Any]:
    found = json.loads(value) if isinstance(value, str) else value
    if not isinstance(found, list):
        raise NoCounterpart(f"{value!r} is no list")
    return found


FLIPT = Importer("Flipt", recognize_flipt, convert_flipt)

"""Rule: reads GO Feature Flag's files, YAML or JSON. `go_queries` reads the queries of their rules."""

from collections.abc import Mapping
from typing import Any

from core.flags.conditions import ALWAYS, NoCounterpart, all_of, is_since, negate, read_moment
from core.flags.conversion import (
    TARGETING_KEY,
    Converted,
    Importer,
    TargetingStep,
    convert_each,
    describe_kind,
    make_definition,
    split_between,
    to_all,
)
from core.flags.go_queries import read_query
from quarterdeck.weights import TOTAL_WEIGHT


def recognize_go_feature_flag(export: Any) -> bool:
    """Whether a file has flags by name, each with variations by name and a default rule."""
    if not isinstance(export, Mapping) or not export:
        return False
    return all(isinstance(each, Mapping) and isinstance(each.get("variations"), Mapping) and "defaultRule" in each
               for each in export.values())  # fmt: skip


def convert_go_feature_flag(export: Mapping[str, Any], environment: str) -> Converted:  # noqa: ARG001 - none there
    """Return the flags of a file."""
    found = {str(key): flag for key, flag in export.items()}
    return convert_each("GO Feature Flag", found, lambda _, flag, notes: _convert(flag, notes))


def _convert(flag: Mapping[str, Any], notes: list[str]) -> dict[str, Any]:
    for part in ("scheduledRollout",):
        if flag.get(part):
            raise NoCounterpart(f"it changes by itself ({part}); flagd's flags do not")
    variants = {str(name): value for name, value in flag["variations"].items()}
    describe_kind(list(variants.values()))
    by = str(flag.get("bucketingKey") or TARGETING_KEY)
    steps = []
    for number, rule in enumerate(flag.get("targeting") or (), 1):
        if rule.get("disable"):
            continue
        try:
            steps.append(_step(read_query(rule.get("query") or ""), rule, by))
        except NoCounterpart as error:
            raise NoCounterpart(f"rule {rule.get('name') or number}: {error}") from None
    last = _step(ALWAYS, flag["defaultRule"], by)
    metadata = {name: value for name, value in (flag.get("metadata") or {}).items()
                if isinstance(value, str | int | float)}  # fmt: skip
    if len(metadata) < len(flag.get("metadata") or {}):
        notes.append("metadata that is no text, number or boolean was left out")
    metadata.pop("hash_version", None)
    if len(last.gives) > 1:
        steps.append(last)
    gate = _experimentation(flag.get("experimentation") or {})
    on = not flag.get("disable")
    return make_definition(variants, last.gives[0][0], steps, on=on, metadata=metadata, gate=gate)


def _step(test: Any, rule: Mapping[str, Any], by: str) -> TargetingStep:
    if rule.get("progressiveRollout"):
        raise NoCounterpart("its percentage grows by itself (progressiveRollout); flagd's flags do not")
    if rule.get("percentage"):
        shares = [(str(name), float(share)) for name, share in rule["percentage"].items()]
        gives = split_between(shares, "percentage")
        return TargetingStep(test, TOTAL_WEIGHT, by, gives)
    return to_all(test, str(rule["variation"]))


def _experimentation(window: Mapping[str, Any]) -> Any:
    """The test for the time of an experiment; outside it, everybody gets the default in the code."""
    tests = [is_since(read_moment(window["start"]))] if window.get("start") else []
    tests += [negate(is_since(read_moment(window["end"])))] if window.get("end") else []
    return all_of(tests)


GO_FEATURE_FLAG = Importer("GO Feature Flag", recognize_go_feature_flag, convert_go_feature_flag)

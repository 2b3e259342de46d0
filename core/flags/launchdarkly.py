"""Rule: reads LaunchDarkly's flags: the file that its SDKs and Relay Proxy hold, and the list of its REST API.

The user context's `key` is the targeting key. As there: off, then prerequisites, targets, rules, fallthrough.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from operator import eq
from typing import Any

from core.errors import InvalidInput
from core.flags.conditions import (
    ALWAYS,
    NEVER,
    NoCounterpart,
    all_of,
    any_of,
    compare_versions,
    is_given,
    is_one_of,
    matches_pattern,
    negate,
    shares_one_of,
)
from core.flags.conversion import (
    TARGETING_KEY,
    Converted,
    Importer,
    TargetingStep,
    choose_environment,
    convert_each,
    is_in_share,
    make_definition,
    name_values,
    split_between,
    to_all,
    when_outcome,
)
from quarterdeck.weights import TOTAL_WEIGHT

_TEXTS = {"startsWith": "starts_with", "endsWith": "ends_with"}
_NUMBERS = {"lessThan": "<", "lessThanOrEqual": "<=", "greaterThan": ">", "greaterThanOrEqual": ">="}
_VERSIONS = {"semVerEqual": "=", "semVerLessThan": "<", "semVerGreaterThan": ">"}
_ITEM = {"var": ""}


def recognize_launchdarkly(export: Any) -> bool:
    """Whether a file has flags with variations, as the SDKs and the REST API give them."""
    if not isinstance(export, Mapping):
        return False
    flags, items = export.get("flags"), export.get("items")
    if isinstance(flags, Mapping):
        listed = [each for each in flags.values() if isinstance(each, Mapping)]
        known = any("variations" in each and "allocations" not in each for each in listed)
        return known and not any("variants" in each for each in listed)
    if isinstance(export.get("flagValues"), Mapping):
        return True
    return isinstance(items, list) and any(isinstance(each, Mapping) and "variations" in each for each in items)


def convert_launchdarkly(export: Mapping[str, Any], environment: str) -> Converted:
    """Return the flags of an export; of the REST API's list, as in the environment with this name, or the only one."""
    flags = dict(export.get("flags") or {})
    for key, value in (export.get("flagValues") or {}).items():
        flags[key] = {"on": True, "variations": [value], "fallthrough": {"variation": 0}}
    if "items" in export:
        names = sorted({name for each in export["items"] for name in each.get("environments") or {}})
        if not names:
            raise InvalidInput("environment", "the list has no environments; ask the REST API with summary=0")
        chosen = choose_environment(names, environment)
        flags = {str(each.get("key")): _read_listed(each, chosen) for each in export["items"]}
    segments = export.get("segments") or {}

    def convert(key: str, _: Any, notes: list[str]) -> dict[str, Any]:
        return _Flag(key, flags, segments, notes).convert()

    return convert_each("LaunchDarkly", flags, convert)


def _read_listed(item: Mapping[str, Any], environment: str) -> dict[str, Any]:
    """A flag of the REST API in the form that the SDKs have."""
    here = (item.get("environments") or {}).get(environment)
    if here is None:
        return {"missing": "it is not in this environment"}
    values = [each["value"] for each in item["variations"]]
    return {"description": item.get("description"), "archived": item.get("archived"), **here, "variations": values}


class _Flag:
    """One flag on its way to flagd, with the flags and segments that it may name and the notes about it."""

    def __init__(
        self, key: str, flags: Mapping[str, Any], segments: Mapping[str, Any], notes: list[str],
        above: tuple[str, ...] = (),
    ) -> None:  # fmt: skip
        self._flag: Mapping[str, Any] = flags[key]
        self._flags = flags
        self._segments = segments
        self._notes = notes
        self._above = (*above, key)
        self._names: list[str] = []

    def convert(self) -> dict[str, Any]:
        flag = self._flag
        steps, default = self.read()
        variants = dict(zip(self._names, flag["variations"], strict=True))
        off = flag.get("offVariation")
        if off is not None and flag["variations"][off] is not False:
            self._notes.append(f"off, it gave {flag['variations'][off]!r} there; here the default in the code counts")
        description = {"description": flag["description"]} if flag.get("description") else {}
        return make_definition(variants, default, steps, on=bool(flag.get("on")), metadata=description)

    def read(self) -> tuple[list[TargetingStep], str | None]:
        """The steps of the flag while it is on, and the variant of everybody else, None for no variant."""
        flag = self._flag
        if flag.get("missing"):
            raise NoCounterpart(flag["missing"])
        if flag.get("deleted") or flag.get("archived"):
            raise NoCounterpart("it is archived there")
        if flag.get("migration"):
            raise NoCounterpart("it is a migration flag of several stages")
        self._names = name_values(flag["variations"])
        steps = self._list_prerequisites()
        for target in (*(flag.get("targets") or ()), *(flag.get("contextTargets") or ())):
            if target.get("contextKind", "user") != "user":
                raise NoCounterpart(f"it targets contexts of the kind {target['contextKind']!r}; flagd knows one user")
            if target.get("values"):
                listed = is_one_of({"var": TARGETING_KEY}, target["values"])
                steps.append(to_all(listed, self._names[target["variation"]]))
        for number, rule in enumerate(flag.get("rules") or (), 1):
            try:
                tests = [self._clause(each, ()) for each in rule.get("clauses") or ()]
                steps.append(self._outcome(all_of(tests), rule))
            except NoCounterpart as error:
                raise NoCounterpart(f"rule {number}: {error}") from None
        rest = flag.get("fallthrough") or {}
        if "rollout" not in rest and rest.get("variation") is None:
            return steps, None
        last = self._outcome(ALWAYS, rest)
        if len(last.gives) == 1:
            return steps, last.gives[0][0]
        # A name for who has nothing to be split by: LaunchDarkly gives them the first variation.
        return [*steps, last], self._names[rest["rollout"]["variations"][0]["variation"]]

    def _list_prerequisites(self) -> list[TargetingStep]:
        """Steps in front, which give who fails a prerequisite the variation of a flag that is off."""
        tests = []
        for each in self._flag.get("prerequisites") or ():
            key = each["key"]
            if key in self._above or key not in self._flags:
                raise NoCounterpart(f"it depends on {key!r}, which is missing or depends on it")
            self._notes.append(f"it depends on {key} there; a copy of the rules of {key} as they are now stands in it")
            parent = _Flag(key, self._flags, self._segments, self._notes, self._above)
            steps, default = parent.read()
            wanted = parent._names[each["variation"]]
            is_on = bool(parent._flag.get("on"))
            tests.append(when_outcome(steps, default, partial(eq, wanted)) if is_on else NEVER)
        passed = all_of(tests)
        off = self._flag.get("offVariation")
        if passed is ALWAYS:
            return []
        if off is None:
            raise NoCounterpart("it depends on another flag, and has no variation for who fails that")
        return [to_all(negate(passed), self._names[off])]

    def _outcome(self, test: Any, served: Mapping[str, Any]) -> TargetingStep:
        if served.get("variation") is not None:
            return to_all(test, self._names[served["variation"]])
        rollout = served["rollout"]
        if rollout.get("contextKind", "user") != "user":
            raise NoCounterpart(f"it shares out contexts of the kind {rollout['contextKind']!r}; flagd knows one user")
        by = _attribute_name(rollout.get("bucketBy") or "key")
        if by != TARGETING_KEY:
            self._notes.append(f"users without {by!r} get the default variant; LaunchDarkly gives them the first one")
        shares = [(self._names[each["variation"]], each["weight"]) for each in rollout["variations"]]
        return TargetingStep(test, TOTAL_WEIGHT, by, split_between(shares, "rollout"))

    def _clause(self, clause: Mapping[str, Any], above: tuple[str, ...]) -> Any:
        operator, values = clause["op"], list(clause.get("values") or ())
        if operator == "segmentMatch":
            found = any_of([self._segment(str(each), above) for each in values])
            return negate(found) if clause.get("negate") else found
        if clause.get("contextKind", "user") != "user":
            raise NoCounterpart(f"it asks for contexts of the kind {clause['contextKind']!r}; flagd knows one user")
        name = _attribute_name(clause["attribute"])
        if name == "kind":
            raise NoCounterpart("it asks for the kind of a context; flagd knows one user")
        attribute = {"var": name}
        found = self._match(attribute, operator, values, name)
        # Who lacks the attribute matches neither a clause nor its opposite.
        return all_of([is_given(attribute), negate(found)]) if clause.get("negate") else found

    def _match(self, attribute: Any, operator: str, values: Sequence[Any], name: str) -> Any:
        if operator == "in":
            if any(isinstance(each, Mapping | list) for each in values):
                raise NoCounterpart(f"{name!r} is compared with a structure")
            return is_one_of(attribute, values) if name == TARGETING_KEY else shares_one_of(attribute, values)
        if name == TARGETING_KEY:
            return any_of([_compare(attribute, operator, value, name) for value in values])
        inner = any_of([_compare(_ITEM, operator, value, name) for value in values])
        return NEVER if inner == NEVER else {"some": [{"merge": [attribute]}, inner]}

    def _segment(self, key: str, above: tuple[str, ...]) -> Any:
        segment = self._segments.get(key)
        if segment is None or segment.get("unbounded"):
            raise NoCounterpart(f"the users of segment {key!r} are not in the export")
        if key in above:
            raise NoCounterpart(f"the segment {key!r} contains itself")
        for part in ("includedContexts", "excludedContexts"):
            if any(each.get("contextKind", "user") != "user" for each in segment.get(part) or ()):
                raise NoCounterpart(f"the segment {key!r} holds contexts of other kinds; flagd knows one user")
        user = {"var": TARGETING_KEY}
        included, excluded = ([*(segment.get(part) or ()),
                               *(user for each in segment.get(f"{part}Contexts") or () for user in each["values"])]
                              for part in ("included", "excluded"))  # fmt: skip
        rules = []
        for rule in segment.get("rules") or ():
            tests = [self._clause(each, (*above, key)) for each in rule.get("clauses") or ()]
            if rule.get("rolloutContextKind", "user") != "user":
                raise NoCounterpart(f"the segment {key!r} shares out contexts of another kind; flagd knows one user")
            if rule.get("weight") is not None:
                by = _attribute_name(rule.get("bucketBy") or "key")
                tests.append(is_in_share(f"segment/{key}", int(rule["weight"]), by))
            rules.append(all_of(tests))
        matched = all_of([negate(is_one_of(user, excluded)), any_of(rules)])
        return any_of([is_one_of(user, included), matched])


def _attribute_name(reference: str) -> str:
    """The name of an attribute, which may be a path with slashes, in flagd's form."""
    name = reference
    if reference.startswith("/"):
        name = ".".join(part.replace("~1", "/").replace("~0", "~") for part in reference[1:].split("/"))
    return TARGETING_KEY if name == "key" else name


def _compare(attribute: Any, operator: str, value: Any, name: str) -> Any:
    if operator in _TEXTS:
        return {_TEXTS[operator]: [attribute, str(value)]}
    if operator == "contains":
        return {"in": [str(value), attribute]}
    if operator == "matches":
        return matches_pattern(attribute, str(value))
    if operator in _NUMBERS:
        if isinstance(value, bool) or not isinstance(value, int | float):
            return NEVER
        return all_of([{"===": [{"+": [attribute]}, attribute]}, {_NUMBERS[operator]: [attribute, value]}])
    if operator in _VERSIONS:
        return compare_versions(attribute, _VERSIONS[operator], value, leading_v=False)
    raise NoCounterpart(f"the operator {operator!r} on {name!r} has no equivalent in flagd")


LAUNCHDARKLY = Importer("LaunchDarkly", recognize_launchdarkly, convert_launchdarkly)

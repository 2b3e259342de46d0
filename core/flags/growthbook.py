"""Rule: reads GrowthBook's features: its SDK's document, and its REST API's list.

As in GrowthBook, the first rule that matches and whose share includes the user decides; `id` is the targeting key.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from core.errors import InvalidInput
from core.flags.conditions import ALWAYS, NEVER, NoCounterpart, all_of, any_of, is_since, negate, read_moment
from core.flags.conversion import (
    TARGETING_KEY,
    Converted,
    Importer,
    TargetingStep,
    convert_each,
    describe_kind,
    make_definition,
    read_share,
    salt_apart,
    split_between,
    when_outcome,
)
from core.flags.definition import say_state
from core.flags.growthbook_conditions import Conditions
from quarterdeck.flags import FlagSet
from quarterdeck.weights import TOTAL_WEIGHT

_UNKNOWN_PARTS = {
    "namespace": "it is in a namespace",
    "filters": "it is in a namespace",
    "ranges": "its users are given as ranges of the hash",
    "range": "its users are given as a range of the hash",
    "url": "it is for certain addresses of pages",
    "urlPatterns": "it is for certain addresses of pages",
    "groups": "it is for groups that the application names",
}
_HASH_VERSIONS = (None, 1, 2)


def recognize_growthbook(export: Any) -> bool:
    """Whether a file is one of GrowthBook's: features by key with rules and values, or a list with environments."""
    found = export.get("features") if isinstance(export, Mapping) else None
    if isinstance(found, list):
        return any(isinstance(each, Mapping) and "environments" in each and "id" in each for each in found)
    return isinstance(found, Mapping) and "environment" not in export


def convert_growthbook(export: Mapping[str, Any], environment: str) -> Converted:
    """Return the flags of an export; from a list of features, as in the environment with this name.

    Raises InvalidInput if no feature of a list has that environment.
    """
    groups = export.get("savedGroups") or {}
    if isinstance(export["features"], Mapping):
        features = {str(key): (feature, True) for key, feature in export["features"].items()}
        return _convert_all(features, groups)
    listed = {str(each["id"]): (each.get("environments") or {}).get(environment) for each in export["features"]}
    if listed and not any(listed.values()):
        names = sorted({name for each in export["features"] for name in each.get("environments") or {}})
        raise InvalidInput("environment", f"the export has {', '.join(names)}; choose one with --environment")
    return _convert_all({key: _read_listed(here) for key, here in listed.items()}, groups)


def _convert_all(features: Mapping[str, tuple[Any, bool | str]], groups: Mapping[str, Any]) -> Converted:
    def convert(key: str, _: Any, notes: list[str]) -> dict[str, Any]:
        return _Feature(key, features, groups, notes).convert()

    return convert_each("GrowthBook", features, convert)


def _read_listed(here: Mapping[str, Any] | None) -> tuple[Any, bool | str]:
    """A feature of the REST API and whether it is on, or why it cannot be read; its SDK form is in a field, as text."""
    if here is None:
        return None, "it is not in this environment"
    try:
        return json.loads(here["definition"]), bool(here.get("enabled"))
    except (KeyError, TypeError, ValueError):
        return None, "it comes without its `definition`; take the SDK endpoint's document"


class _Feature:
    """One feature on its way to flagd, with the other features that it may depend on and the notes about it."""

    def __init__(
        self, key: str, features: Mapping[str, tuple[Any, bool | str]], groups: Mapping[str, Any], notes: list[str],
        above: tuple[str, ...] = (),
    ) -> None:  # fmt: skip
        self._key = key
        self._features = features
        self._groups = groups
        self._notes = notes
        self._above = (*above, key)
        self._conditions = Conditions(groups, notes)
        self._gates: list[Any] = []

    def convert(self) -> dict[str, Any]:
        feature, on = self._features[self._key]
        if isinstance(on, str):
            raise NoCounterpart(on)
        variants, default, steps = self._read(feature)
        metadata = {"description": feature["description"]} if isinstance(feature.get("description"), str) else {}
        gate = all_of(self._gates)
        return make_definition(variants, default, steps, on=on, metadata=metadata, gate=gate)

    def _read(self, feature: Mapping[str, Any]) -> tuple[dict[str, Any], str | None, list[TargetingStep]]:
        """The variants, the default one or None where GrowthBook gives null, and the steps."""
        default = feature.get("defaultValue")
        rules = [
            (number, rule) for number, rule in enumerate(feature.get("rules") or (), 1) if rule.get("enabled", True)
        ]
        given = [value for _, rule in rules for value in _values_of(rule)]
        values = given if default is None else [default, *given]
        names = _name_values(values) if values else {}
        steps: list[TargetingStep] = []
        seeds: list[str] = []
        for number, rule in rules:
            try:
                parents = self._parents_test(rule, is_first=not steps)
                if _values_of(rule):
                    steps.append(self._step(rule, parents, names))
                    is_forced = rule.get("force") is not None
                    seeds.append(str(rule.get("seed") or ("" if is_forced else rule.get("key")) or self._key))
            except NoCounterpart as error:
                raise NoCounterpart(f"rule {number}: {error}") from None
        steps = salt_apart(steps, seeds)
        if default is None:
            self._notes.append("its default value is null there: where no rule decides, the default in the code counts")
        # flagd asks for a variant even of a flag that never gives one.
        variants = {names[_mark(value)]: value for value in values} or {"on": True, "off": False}
        return variants, None if default is None else names[_mark(default)], steps

    def _parents_test(self, rule: Mapping[str, Any], *, is_first: bool) -> Any:
        """The test for the features that a rule depends on; those that gate the whole feature become its gates."""
        tests = []
        for parent in rule.get("parentConditions") or ():
            test = self._parent_test(parent)
            if not parent.get("gate"):
                tests.append(test)
            elif not is_first:
                raise NoCounterpart("another flag gates it behind rules that come first")
            elif test is not ALWAYS:
                self._gates.append(test)
        return all_of(tests)

    def _step(self, rule: Mapping[str, Any], parents: Any, names: Mapping[str, str]) -> TargetingStep:
        for part, problem in _UNKNOWN_PARTS.items():
            if rule.get(part):
                raise NoCounterpart(problem)
        attribute = rule.get("hashAttribute") or "id"
        by = TARGETING_KEY if attribute == "id" else attribute
        weight = read_share(rule.get("coverage", 1), whole=1, what="coverage")
        test = all_of([parents, self._conditions.read(rule.get("condition") or {}), _schedule(rule)])
        is_known_hash = rule.get("hashVersion") in _HASH_VERSIONS
        if "force" in rule and rule["force"] is not None:  # as in GrowthBook, before variations
            if rule.get("coverage") is not None:
                test = all_of([test, {"!!": [{"var": by}]} if weight == TOTAL_WEIGHT else ALWAYS])
                test = test if is_known_hash else NEVER
            return TargetingStep(test, weight, by, ((names[_mark(rule["force"])], 1),))
        variations = rule["variations"]
        if len(variations) < 2 or not is_known_hash or rule.get("active") is False:
            return TargetingStep(NEVER, weight, by, ((names[_mark(variations[0])], 1),))
        if not rule.get("weights"):
            raise NoCounterpart("its variations have no weights; GrowthBook's own exports carry them, so add them")
        if len(rule["weights"]) != len(variations):
            raise NoCounterpart(f"{len(variations)} variations have {len(rule['weights'])} weights")
        shares = [read_share(share, whole=1, what="weights") for share in rule["weights"]]
        if not 0.99 <= sum(rule["weights"]) <= 1.01:
            raise NoCounterpart(f"its weights add up to {sum(rule['weights']):g}, not 1")
        served = [(names[_mark(each)], share) for at, (each, share) in enumerate(zip(variations, shares, strict=True))
                  if not _passes_on(rule, at)]  # fmt: skip
        kept = sum(share for _, share in served)
        if not kept:
            return TargetingStep(NEVER, weight, by, ((names[_mark(variations[0])], 1),))
        weight = weight if len(served) == len(shares) else round(weight * kept / sum(shares))
        gives = split_between(served, "weights")
        if len(gives) == 1:
            test = all_of([test, {"!!": [{"var": by}]}])
        return TargetingStep(test, weight, by, gives)

    def _parent_test(self, parent: Mapping[str, Any]) -> Any:
        """Whether a user passes the feature that a rule depends on, whose rules are copied for that."""
        key, condition = str(parent["id"]), parent.get("condition") or {}
        if key in self._above:
            raise NoCounterpart(f"it depends on itself through {key!r}")
        self._notes.append(f"it depends on {key} there; a copy of the rules of {key} as they are now stands in it")
        found = self._features.get(key)
        return self._ask(None, condition) if found is None else self._copy(key, found, condition)

    def _copy(self, key: str, found: tuple[Any, bool | str], condition: Mapping[str, Any]) -> Any:
        feature, on = found
        if on is not True:
            raise NoCounterpart(f"it depends on {key!r}, which is {on or 'off'}")
        parent = _Feature(key, self._features, self._groups, self._notes, self._above)
        variants, default, steps = parent._read(feature)
        test = when_outcome(
            steps, default,
            lambda variant: self._ask(None if variant is None else variants[variant], condition) is ALWAYS,
        )  # fmt: skip
        closed = self._ask(None, condition)
        for gate in parent._gates:
            test = all_of([gate, test]) if closed is NEVER else {"if": [gate, test, True]}
        return test

    def _ask(self, value: Any, condition: Mapping[str, Any]) -> Any:
        """ALWAYS or NEVER: whether a value of a parent meets the condition."""
        test = Conditions(self._groups, self._notes).read(condition)
        if test is ALWAYS:
            return ALWAYS
        asked = {
            "state": say_state(on=True),
            "variants": {"yes": True, "no": False},
            "targeting": {"if": [test, "yes", "no"]},
        }
        found = FlagSet.from_definitions({"flags": {"asked": asked}}).resolve("asked", {"value": value})
        return ALWAYS if found.value else NEVER


def _schedule(rule: Mapping[str, Any]) -> Any:
    """The test for the times at which a scheduled rule is on. Before its first entry it is as that one changes it."""
    given = rule.get("scheduleRules") or ()
    simple = rule.get("schedule") or {}
    if simple and not given:
        given = [{"timestamp": simple.get("startDate"), "enabled": True},
                 {"timestamp": simple.get("endDate"), "enabled": False}]  # fmt: skip
    dated = [(read_moment(each["timestamp"]), bool(each["enabled"])) for each in given if each.get("timestamp")]
    if rule.get("rampScheduleId") or rule.get("scheduleType") == "ramp":
        raise NoCounterpart("its percentage grows by a schedule; flagd's flags do not")
    if not dated:
        return ALWAYS
    dated.sort(key=lambda each: is_since(each[0])[">="][1])
    test: Any = NEVER if dated[0][1] else ALWAYS
    for moment, enabled in dated:
        reached = is_since(moment)
        test = any_of([reached, test]) if enabled else all_of([negate(reached), test])
    return test


def _passes_on(rule: Mapping[str, Any], at: int) -> bool:
    """Whether users of a variation go on to the next rules, as those outside a holdout do."""
    meta = rule.get("meta") or ()
    return at < len(meta) and bool((meta[at] or {}).get("passthrough"))


def _values_of(rule: Mapping[str, Any]) -> list[Any]:
    if rule.get("force") is not None:
        return [rule["force"]]
    return list(rule.get("variations") or ())


def _name_values(values: Sequence[Any]) -> dict[str, str]:
    """A variant name for each value: on and off, the text or number itself, or a counter."""
    kind = describe_kind(values)
    if kind == "boolean":
        return {_mark(True): "on", _mark(False): "off"}
    marks = list(dict.fromkeys(_mark(value) for value in values))
    texts = {_mark(value): str(value) for value in values}
    if kind == "object" or not all(0 < len(text) <= 64 and text.isprintable() for text in texts.values()):
        return {mark: f"variant-{number}" for number, mark in enumerate(marks)}
    return texts


def _mark(value: Any) -> str:
    """A key that distinguishes values: 1 from true, and objects by content."""
    return json.dumps(value, sort_keys=True)


GROWTHBOOK = Importer("GrowthBook", recognize_growthbook, convert_growthbook)

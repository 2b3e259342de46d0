"""Rule: reads ConfigCat's config JSON of version 6, as its SDKs download it and its API exports it.

The user's Identifier is the targeting key; other attributes keep their names, such as Email and Country.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from core.flags.conditions import (
    ALWAYS,
    LOWEST_VERSION,
    NEVER,
    NoCounterpart,
    all_of,
    any_of,
    compare_versions,
    is_given,
    is_one_of,
    negate,
    spell,
)
from core.flags.conversion import (
    TARGETING_KEY,
    Converted,
    Importer,
    TargetingStep,
    convert_each,
    make_definition,
    name_values,
    split_between,
    to_all,
    when_outcome,
)
from quarterdeck.weights import TOTAL_WEIGHT

# Comparators by their numbers in the format.
_HASHED = {*range(16, 18), *range(20, 28)}
_VERSIONS = {6: "<", 7: "<=", 8: ">", 9: ">="}
_NUMBERS = {10: "==", 11: "!=", 12: "<", 13: "<=", 14: ">", 15: ">="}
_NEGATIVE = {1: 0, 3: 2, 5: 4, 29: 28, 31: 30, 33: 32, 35: 34}


def recognize_configcat(export: Any) -> bool:
    """Whether a file has settings `f` whose values are typed, as version 6 has them."""
    found = export.get("f") if isinstance(export, Mapping) else None
    return isinstance(found, Mapping) and all(isinstance(each, Mapping) and "v" in each for each in found.values())


def convert_configcat(export: Mapping[str, Any], environment: str) -> Converted:  # noqa: ARG001 - a file has one
    """Return the flags and settings of a config."""
    settings, segments = export["f"], export.get("s") or ()

    def convert(key: str, _: Any, notes: list[str]) -> dict[str, Any]:
        return _Setting(key, settings, segments, notes).convert()

    return convert_each("ConfigCat", settings, convert)


class _Setting:
    """One setting on its way to flagd, with the settings and segments that it may name and the notes about it."""

    def __init__(
        self, key: str, settings: Mapping[str, Any], segments: Sequence[Any], notes: list[str],
        above: tuple[str, ...] = (),
    ) -> None:  # fmt: skip
        self._setting: Mapping[str, Any] = settings[key]
        self._settings = settings
        self._segments = segments
        self._notes = notes
        self._above = (*above, key)

    def convert(self) -> dict[str, Any]:
        variants, default, steps = self.read()
        return make_definition(variants, default, steps, on=True, metadata={})

    def read(self) -> tuple[dict[str, Any], str, list[TargetingStep]]:
        """The variants, the default one and the steps."""
        setting = self._setting
        if not isinstance(setting["v"], Mapping):
            raise NoCounterpart("it is of version 5 of the format; export version 6")
        served = [setting["v"], *(each["v"] for each in _list_served(setting))]
        values = [_read_value(each) for each in served]
        names = name_values(values)
        name_of = {_mark(given): name for given, name in zip(served, names, strict=True)}
        by = _attribute_name(setting.get("a") or "Identifier")
        steps = []
        for number, rule in enumerate(setting.get("r") or (), 1):
            try:
                test = all_of([self._condition(each) for each in rule.get("c") or ()])
            except NoCounterpart as error:
                raise NoCounterpart(f"rule {number}: {error}") from None
            if rule.get("s"):
                steps.append(to_all(test, name_of[_mark(rule["s"]["v"])]))
            else:
                steps.append(self._split(test, by, rule["p"], name_of))
        if setting.get("p"):
            steps.append(self._split(ALWAYS, by, setting["p"], name_of))
        return dict(zip(names, values, strict=True)), names[0], steps

    def _split(
        self, test: Any, by: str, options: Sequence[Mapping[str, Any]], names: Mapping[str, str]
    ) -> TargetingStep:
        if sum(each["p"] for each in options) != 100:
            raise NoCounterpart("its percentages do not add up to 100")
        gives = split_between([(names[_mark(each["v"])], each["p"]) for each in options], "percentages")
        if len(gives) == 1:
            test = all_of([test, {"!!": [{"var": by}]}])
        return TargetingStep(test, TOTAL_WEIGHT, by, gives)

    def _condition(self, condition: Mapping[str, Any]) -> Any:
        if "u" in condition:
            return _compare_user(condition["u"], self._notes)
        if "s" in condition:
            named = condition["s"]
            segment = self._segments[named["s"]]
            test = all_of([_compare_user(each, self._notes) for each in segment.get("r") or ()])
            return test if named.get("c", 0) == 0 else negate(test)
        if "p" in condition:
            return self._parent_test(condition["p"])
        raise NoCounterpart("a condition is of an unknown kind")

    def _parent_test(self, condition: Mapping[str, Any]) -> Any:
        key = condition["f"]
        if key in self._above or key not in self._settings:
            raise NoCounterpart(f"it depends on {key!r}, which is missing or depends on it")
        self._notes.append(f"it depends on {key} there; a copy of the rules of {key} as they are now stands in it")
        parent = _Setting(key, self._settings, self._segments, self._notes, self._above)
        variants, default, steps = parent.read()
        wanted = _read_value(condition["v"])
        is_equal = condition.get("c", 0) == 0
        return when_outcome(
            steps, default, lambda name: name is not None and (variants[name] == wanted) is is_equal
        )  # fmt: skip


def _list_served(setting: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Everything in a setting that serves a value."""
    found = list(setting.get("p") or ())
    for rule in setting.get("r") or ():
        found += [rule["s"]] if rule.get("s") else list(rule.get("p") or ())
    return found


def _read_value(value: Mapping[str, Any]) -> Any:
    """The value in one of the fields for booleans, text, whole numbers and others."""
    return next(value[kind] for kind in ("b", "s", "i", "d") if kind in value)


def _mark(value: Mapping[str, Any]) -> str:
    return f"{type(_read_value(value)).__name__} {_read_value(value)}"


def _attribute_name(name: str) -> str:
    return TARGETING_KEY if name == "Identifier" else name


def _compare_user(condition: Mapping[str, Any], notes: list[str]) -> Any:
    name, comparator = condition["a"], condition["c"]
    attribute = {"var": _attribute_name(name)}
    if comparator in _HASHED:
        raise NoCounterpart(f"the texts that {name!r} is compared with are hashed; use a comparator in plain text")
    if comparator in _NEGATIVE:  # who lacks the attribute meets no condition
        found = _compare(attribute, {**condition, "c": _NEGATIVE[comparator]}, notes)
        readable = (
            [_version(attribute, ">=", LOWEST_VERSION)] if comparator == 5 else []
        )  # what is no version meets neither
        return all_of([is_given(attribute), *readable, negate(found)])
    return _compare(attribute, condition, notes)


def _compare(attribute: Any, condition: Mapping[str, Any], notes: list[str]) -> Any:
    comparator, name, listed = condition["c"], condition["a"], list(condition.get("l") or ())
    if comparator == 0:
        return is_one_of(attribute, spell(listed))
    if comparator == 2:
        return any_of([{"in": [each, attribute]} for each in listed])
    if comparator == 4:
        return any_of([_version(attribute, "=", each) for each in listed])
    if comparator in _VERSIONS:
        return _version(attribute, _VERSIONS[comparator], condition["s"])
    if comparator in _NUMBERS:
        number = {"===": [{"+": [attribute]}, {"*": [attribute, 1]}]}  # text that spells no number is none
        return all_of([is_given(attribute), number, {_NUMBERS[comparator]: [attribute, condition["d"]]}])
    if comparator in (18, 19):
        notes.append(f"{name!r} is compared as a number of seconds; ConfigCat also takes dates")
        return all_of([is_given(attribute), {"<" if comparator == 18 else ">": [attribute, condition["d"]]}])
    if comparator == 28:
        return {"==": [attribute, condition["s"]]}
    if comparator in (30, 32):
        operator = "starts_with" if comparator == 30 else "ends_with"
        return any_of([{operator: [attribute, each]} for each in listed])
    if comparator == 34:
        return {"some": [attribute, {"in": [{"var": ""}, listed]}]} if listed else NEVER
    raise NoCounterpart(f"the comparator {comparator} on {name!r} is unknown")


def _version(attribute: Any, sign: str, wanted: str) -> Any:
    return compare_versions(attribute, sign, wanted.strip(), leading_v=False, partial=False)


CONFIGCAT = Importer("ConfigCat", recognize_configcat, convert_configcat)

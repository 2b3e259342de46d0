"""Rule: GrowthBook's conditions on attributes as JsonLogic. `growthbook` reads the features that carry them."""

import re
from collections.abc import Mapping
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
    is_text,
    lacks_case,
    matches_pattern,
    negate,
    shares_one_of,
)
from core.flags.conversion import TARGETING_KEY

_ORDERS = {"$lt": "<", "$lte": "<=", "$gt": ">", "$gte": ">="}
_VERSIONS = {"$veq": "=", "$vlt": "<", "$vlte": "<=", "$vgt": ">", "$vgte": ">="}
_OPPOSITES = {"$vne": "$veq", "$nin": "$in", "$nini": "$ini", "$notInGroup": "$inGroup", "$notRegex": "$regex",
              "$notRegexi": "$regexi", "$ne": "$eq"}  # fmt: skip


class Conditions:
    """Reads conditions with the saved groups of an export, and notes what means something slightly different here."""

    def __init__(self, groups: Mapping[str, Any], notes: list[str]) -> None:
        self._groups = groups
        self._notes = notes

    def read(self, condition: Mapping[str, Any], inside: str | None = None) -> Any:
        """Return the test for a condition; `inside` an element of a list, names belong to the element.

        Raises NoCounterpart.
        """
        tests = []
        for name, wanted in condition.items():
            if name == "$and":
                tests.append(all_of([self.read(each, inside) for each in wanted]))
            elif name in ("$or", "$nor"):
                found = any_of([self.read(each, inside) for each in wanted]) if wanted else ALWAYS
                tests.append(found if name == "$or" else negate(found))
            elif name == "$not":
                tests.append(negate(self.read(wanted, inside)))
            else:
                known = TARGETING_KEY if name == "id" and inside is None else name
                tests.append(self._compare({"var": known}, wanted, name))
        return all_of(tests)

    def _compare(self, attribute: Any, wanted: Any, name: str) -> Any:
        if _is_operators(wanted):
            return all_of([self._operation(attribute, each, value, name) for each, value in wanted.items()])
        if isinstance(wanted, Mapping | list):
            raise NoCounterpart(f"{name!r} is compared with a structure")
        return _equals(attribute, wanted)

    def _operation(self, attribute: Any, operator: str, value: Any, name: str) -> Any:
        if operator in ("$in", "$nin", "$ini", "$nini", "$all", "$alli") and not isinstance(value, list):
            return NEVER
        if operator in _OPPOSITES:
            return negate(self._operation(attribute, _OPPOSITES[operator], value, name))
        if operator in _VERSIONS:
            if not re.match(r"v?\d+\.\d+\.\d+", str(value)):
                raise NoCounterpart(f"{operator} on {name!r}: {value!r} is no whole semantic version")
            self._notes.append(f"{name!r} is compared as a semantic version; other versions match nothing")
            known = {"if": [attribute, attribute, LOWEST_VERSION]}
            test = compare_versions(known, _VERSIONS[operator], value)
            if operator == "$veq" and "-" in value:  # GrowthBook splits at dots and dashes alike
                test = any_of([test, {"===": [attribute, value.replace("-", ".", 1)]}])
            return test
        if operator == "$eq" and not isinstance(value, Mapping | list):
            return _equals(attribute, value)
        if operator in _ORDERS and isinstance(value, str | int | float):
            guard = [is_given(attribute)] if isinstance(value, str) else []
            return all_of([*guard, {_ORDERS[operator]: [attribute, value]}])
        if operator in ("$in", "$ini", "$inGroup"):
            return self._is_in(attribute, operator, value, name)
        if operator in ("$regex", "$regexi"):
            if operator == "$regexi" and not lacks_case(value):
                raise NoCounterpart(f"$regexi on {name!r} ignores case; flagd does not")
            try:
                return matches_pattern(attribute, str(value))
            except NoCounterpart as error:
                raise NoCounterpart(f"$regex on {name!r}: {error}") from None
        if operator == "$exists":
            return is_given(attribute) if value else {"===": [attribute, None]}  # 0 loosely equals null
        if operator == "$not":
            return negate(self._compare(attribute, value, name))
        if operator == "$elemMatch":
            return {"some": [attribute, self._matches_element(value, name)]}
        if operator in ("$all", "$alli"):
            return self._has_all(attribute, operator, value, name)
        if operator == "$size":
            return self._has_size(attribute, value, name)
        if operator == "$type" and value in _TYPES:
            return _TYPES[value](attribute)
        raise NoCounterpart(f"{operator} on {name!r} has no equivalent in flagd")

    def _is_in(self, attribute: Any, operator: str, value: Any, name: str) -> Any:
        if operator == "$inGroup":
            if value not in self._groups:
                raise NoCounterpart(f"the saved group {value!r} is not in the export")
            value = self._groups[value]
        if any(isinstance(each, Mapping | list) for each in value):
            raise NoCounterpart(f"{name!r} is compared with a structure")
        if operator == "$ini" and not all(map(lacks_case, value)):
            raise NoCounterpart(f"$ini on {name!r} ignores case; flagd does not")
        if attribute == {"var": TARGETING_KEY}:
            return {"in": [attribute, list(value)]} if value else NEVER
        return shares_one_of(attribute, value)

    def _matches_element(self, wanted: Any, name: str) -> Any:
        if _is_operators(wanted):
            return self._compare({"var": ""}, wanted, name)
        return self.read(wanted, name)

    def _has_all(self, attribute: Any, operator: str, wanted: Any, name: str) -> Any:
        if not wanted:
            raise NoCounterpart(f"{operator} on {name!r} wants nothing")
        if operator == "$alli" and not all(map(lacks_case, wanted)):
            raise NoCounterpart(f"$alli on {name!r} ignores case; flagd does not")
        return all_of([{"some": [attribute, self._compare({"var": ""}, each, name)]} for each in wanted])

    def _has_size(self, attribute: Any, wanted: Any, name: str) -> Any:
        size = {"reduce": [attribute, {"+": [{"var": "accumulator"}, 1]}, 0]}
        return all_of([_is_list(attribute), self._compare(size, wanted, name)])


def _is_operators(wanted: Any) -> bool:
    return isinstance(wanted, Mapping) and all(str(each).startswith("$") for each in wanted) and bool(wanted)


def _equals(attribute: Any, wanted: Any) -> Any:
    """Equality as GrowthBook means it: text equals the number that it spells, but nothing missing equals false or 0."""
    if wanted is None or isinstance(wanted, bool):
        return {"===": [attribute, wanted]}
    equal = {"==": [attribute, wanted]}
    return equal if wanted else all_of([is_given(attribute), equal])


def _is_list(attribute: Any) -> Any:
    return {"or": [{"all": [attribute, True]}, {"===": [attribute, []]}]}


def _is_boolean(attribute: Any) -> Any:
    return {"and": [negate(is_text(attribute)), {"in": [{"cat": [attribute]}, ["true", "false", "True", "False"]]}]}


def _is_object(attribute: Any) -> Any:
    return {"and": [negate(is_text(attribute)), {"===": [{"cat": [attribute]}, "[object Object]"]}]}


_TYPES = {
    "string": is_text,
    "null": lambda attribute: {"===": [attribute, None]},
    "boolean": _is_boolean,
    "number": lambda attribute: {"and": [negate(_is_boolean(attribute)), {"===": [{"+": [attribute]}, attribute]}]},
    "object": _is_object,
}

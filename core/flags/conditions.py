"""Rule: conditions of other tools as JsonLogic that means the same: lists, types, patterns, addresses, times.

Raises NoCounterpart for what flagd cannot express; the importers share these.
"""

import ipaddress
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

NEVER: Any = {"!": [True]}
ALWAYS: Any = True
LOWEST_VERSION = "0.0.0-0"
_MOST_PREFIXES = 128
_LITERAL = re.compile(r"(?:[^\\.^$*+?()\[\]{}|]|\\[^\w\s])*")
_IS_ITEM = {"var": ""}


class NoCounterpart(Exception):
    """flagd has no equivalent."""


def all_of(tests: Sequence[Any]) -> Any:
    """Return the test that holds if all of these hold."""
    real = [test for test in tests if test is not ALWAYS]
    return ALWAYS if not real else real[0] if len(real) == 1 else {"and": real}


def any_of(tests: Sequence[Any]) -> Any:
    """Return the test that holds if any of these holds."""
    if any(test is ALWAYS for test in tests):
        return ALWAYS
    return NEVER if not tests else tests[0] if len(tests) == 1 else {"or": list(tests)}


def negate(test: Any) -> Any:
    """Return the test that holds if this one does not."""
    if test is ALWAYS:
        return NEVER
    return ALWAYS if test == NEVER else {"!": [test]}


def is_given(attribute: Any) -> Any:
    """The test for an attribute that is there, even as 0, false or empty text."""
    return {"!==": [attribute, None]}


def is_text(attribute: Any) -> Any:
    """The test for an attribute that is text."""
    return {"===": [{"cat": [attribute]}, attribute]}


def is_one_of(attribute: Any, values: Sequence[Any]) -> Any:
    """The test for a single value among these; a list among them is never one."""
    return {"in": [attribute, list(values)]} if values else NEVER


def shares_one_of(attribute: Any, values: Sequence[Any]) -> Any:
    """The test for a value among these, or a list that holds one of them."""
    return {"some": [{"merge": [attribute]}, {"in": [_IS_ITEM, list(values)]}]} if values else NEVER


def spell(values: Sequence[Any]) -> list[Any]:
    """The values as text and as the number or boolean that the text stands for: some tools compare either."""
    found: list[Any] = []
    for value in values:
        text = str(value).lower() if isinstance(value, bool) else str(value)
        found.append(text)
        if text.lower() in ("true", "false"):
            found.append(text.lower() == "true")
        elif re.fullmatch(r"-?\d{1,15}", text):
            found.append(int(text))
        elif re.fullmatch(r"-?\d{1,15}\.\d{1,15}", text):
            found.append(float(text))
    return list({(type(each), each): each for each in found}.values())


def lacks_case(text: Any) -> bool:
    """Whether upper and lower case are the same for this value."""
    return not isinstance(text, str) or text.lower() == text.upper()


def matches_pattern(attribute: Any, pattern: str) -> Any:
    """The test for a regular expression that is only texts, anchors and alternatives. Raises NoCounterpart."""
    grouped = re.fullmatch(r"(\^?)\((?:\?:)?([^()?^$]*)\)(\$?)", pattern)
    start, inner, end = grouped.groups() if grouped else ("", pattern, "")
    parts = [f"{start}{each}{end}" for each in _alternatives(inner)]
    return any_of([_matches_one(attribute, each, pattern) for each in parts])


def _alternatives(pattern: str) -> list[str]:
    return re.split(r"(?<!\\)\|", pattern)


def _matches_one(attribute: Any, part: str, whole: str) -> Any:
    starts = part.startswith("^")
    ends = part.endswith("$") and not part.endswith("\\$")
    inner = part[1 if starts else 0 : len(part) - 1 if ends else None]
    inner = inner if starts else inner.removeprefix(".*")
    inner = inner if ends or inner.endswith("\\.*") else inner.removesuffix(".*")
    if not _LITERAL.fullmatch(inner):
        raise NoCounterpart(f"the regular expression {whole!r} has no equivalent in flagd")
    text = re.sub(r"\\(.)", r"\1", inner)
    if starts and ends:
        return {"===": [attribute, text]}
    if starts or ends:
        return {"starts_with" if starts else "ends_with": [attribute, text]}
    return {"and": [is_text(attribute), {"in": [text, attribute]}]}


def is_in_networks(attribute: Any, networks: Sequence[str]) -> Any:
    """The test for an IPv4 address in one of these networks or equal to one; what is no address matches nobody.

    Raises NoCounterpart for IPv6, whose addresses have several spellings.
    """
    addresses: list[str] = []
    prefixes: list[str] = []
    for text in networks:
        try:
            network = ipaddress.ip_network(text.strip(), strict=False)
        except ValueError:
            continue
        if network.version == 6:
            raise NoCounterpart(f"{text.strip()} is IPv6, whose addresses have several spellings; flagd compares text")
        whole = network.prefixlen // 8
        fixed = str(network.network_address).split(".")
        if network.prefixlen == 32:
            addresses.append(str(network.network_address))
        elif not network.prefixlen % 8:
            prefixes.append("".join(f"{part}." for part in fixed[:whole]))
        else:
            first, count = int(fixed[whole]), 1 << 8 - network.prefixlen % 8
            ending = "" if whole == 3 else "."
            found = ["".join(f"{part}." for part in fixed[:whole]) + f"{first + n}{ending}" for n in range(count)]
            (addresses if whole == 3 else prefixes).extend(found)
    if len(prefixes) > _MOST_PREFIXES:
        raise NoCounterpart(f"its networks need more than {_MOST_PREFIXES} comparisons in flagd")
    tests = [is_one_of(attribute, addresses)] if addresses else []
    return any_of([*tests, *({"starts_with": [attribute, prefix]} for prefix in prefixes)])


def is_since(moment: datetime) -> Any:
    """The test for now being at or after a moment. A moment without a zone is UTC."""
    known = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return {">=": [{"var": "$flagd.timestamp"}, int(known.timestamp())]}


def read_moment(value: Any) -> datetime:
    """Return a moment given as ISO 8601 text or by YAML. Raises NoCounterpart."""
    if isinstance(value, datetime):
        return value
    try:
        return datetime.fromisoformat(str(value))
    except ValueError:
        raise NoCounterpart(f"{value!r} is no ISO 8601 time") from None


def compare_versions(attribute: Any, sign: str, wanted: Any, *, leading_v: bool = True, partial: bool = True) -> Any:
    """The test of a semantic version; without `leading_v`, "v1.2.3" is none, and without `partial`, "1.2" is none.

    Raises NoCounterpart.
    """
    text = str(wanted)
    if not re.fullmatch(r"[vV]?\d+(\.\d+){0,2}([-+][0-9A-Za-z.+-]+)?", text):
        raise NoCounterpart(f"{text!r} is no semantic version")
    test = {"sem_ver": [attribute, sign, text]}
    if leading_v:
        return test
    tests = [test, *(negate({"starts_with": [attribute, letter]}) for letter in "vV")]
    if not partial:  # "1.2" with ".0" is one, but "1.2.3" is none with it unless the end is a label
        longer = {"sem_ver": [{"cat": [attribute, ".0"]}, ">=", LOWEST_VERSION]}
        tests.append(any_of([negate(longer), {"in": ["-", attribute]}, {"in": ["+", attribute]}]))
    return all_of(tests)


def compare_numbers(attribute: Any, sign: str, wanted: Any) -> Any:
    """The test of a number; an attribute that is missing, which flagd takes for 0, does not meet it."""
    value = float(wanted)
    whole = int(value) if value.is_integer() else value
    return {"and": [is_given(attribute), {sign: [attribute, whole]}]}

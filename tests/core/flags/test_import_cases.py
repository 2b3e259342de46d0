"""Further cases in the spirit of the tools' own suites: each evaluates the same here, or is left out with a reason."""

from typing import Any

import pytest

from tests.core.flags.test_imports import Read, clause, ld, read_ld

NEVER_GIVEN: dict[str, Any] = {}


def unleash(operator: str, *values: str, name: str = "x", **more: Any) -> Read:
    constraint = {"contextName": name, "operator": operator, "values": list(values)} | more
    strategy = {"name": "default", "parameters": {}, "constraints": [constraint]}
    return Read({"version": 1, "features": [{"name": "f", "enabled": True, "strategies": [strategy]}]})


def growthbook(*rules: dict[str, Any], default: Any = False) -> Read:
    return Read({"features": {"f": {"defaultValue": default, "rules": list(rules)}}})


def configcat(comparator: int, wanted: Any, name: str = "x") -> Read:
    field = "l" if isinstance(wanted, list) else "d" if isinstance(wanted, float) else "s"
    condition = {"u": {"a": name, "c": comparator, field: wanted}}
    rule = {"c": [condition], "s": {"v": {"b": True}}}
    return Read({"p": {}, "f": {"f": {"t": 0, "v": {"b": False}, "r": [rule]}}})


def posthog(operator: str, value: Any, **more: Any) -> Read:
    condition = {"key": "x", "type": "person", "operator": operator, "value": value} | more
    group = {"properties": [condition], "rollout_percentage": 100}
    return Read({"flags": [{"key": "f", "active": True, "filters": {"groups": [group]}}]})


def goff(rule: dict[str, Any] | None = None, **more: Any) -> Read:
    targeting = [rule] if rule else []
    flag = {"variations": {"A": True, "B": False}, "targeting": targeting, "defaultRule": {"variation": "B"}}
    return Read({"f": flag | more})


VERSIONS = ("1.2.4", "1.2.3", "1.2.3-rc.1", "1.3", "v1.3.0", "abc", "")


@pytest.mark.parametrize(
    ("read", "given", "expected"),
    [
        (unleash("SEMVER_GT", value="1.2.3"), VERSIONS, "1.2.4"),
        (unleash("SEMVER_LT", value="1.2.3"), VERSIONS, "1.2.3-rc.1"),
        (unleash("SEMVER_GT", value="1.2.3", inverted=True), VERSIONS, "1.2.3 1.2.3-rc.1 1.3 v1.3.0 abc "),
        (unleash("STR_STARTS_WITH", "123", caseInsensitive=True), ("1234", "12", "x123"), "1234"),
        (unleash("STR_CONTAINS", "b", inverted=True), ("abc", "xyz"), "xyz"),
        (unleash("IN_CIDR", "10.0.0.0/9", "192.168.1.7"), ("10.127.3.4", "10.128.0.1", "192.168.1.7", "192.168.1.70"),
         "10.127.3.4 192.168.1.7"),
        (unleash("IN_CIDR", "10.0.0.0/9", inverted=True), ("10.127.3.4", "10.128.0.1", "x"), "10.128.0.1 x"),
        (unleash("NUM_GTE", value="5"), ("5", "4.9", "6", "abc"), "5 6"),
        (unleash("NUM_EQ", value="5", inverted=True), ("5", "5.0", "6", "abc"), "6 abc"),
        (growthbook({"condition": {"x": {"$vgt": "1.2.3"}}, "force": True}), ("1.2.4", "1.2.3", "1.10.0"),
         "1.2.4 1.10.0"),
        (growthbook({"condition": {"x": {"$veq": "1.2.3-4"}}, "force": True}), ("1.2.3-4", "1.2.3.4", "1.2.3"),
         "1.2.3-4 1.2.3.4"),
        (growthbook({"condition": {"x": {"$vne": "1.2.3-4"}}, "force": True}), ("1.2.3-4", "1.2.3.4", "1.2"), "1.2"),
        (growthbook({"condition": {"x": {"$not": {"$regex": "^a"}}}, "force": True}), ("ab", "b"), "b"),
        (growthbook({"force": True, "coverage": 1, "hashVersion": 99, "hashAttribute": "x"}), ("u",), None),
        (growthbook({"force": True, "coverage": 1, "hashVersion": 2, "hashAttribute": "x"}), ("u",), "u"),
        (configcat(5, ["1.0.0"]), ("1.0.0", "2.0.0", "2.0", "abc", "v3.0.0", "1.0.0-beta"), "2.0.0 1.0.0-beta"),
        (configcat(4, ["1.0.0", "1.1.0"]), ("1.0.0", "1.1.0", "1.0", "x"), "1.0.0 1.1.0"),
        (configcat(11, 5.0), ("5", "6", "five"), "6"),
        (configcat(3, ["@x.org"]), ("a@x.org", "a@y.org"), "a@y.org"),
        (posthog("not_regex", "^admin@"), ("admin@x", "me@x"), "me@x"),
        (posthog("exact", ["5", "6"], negation=True), ("5", "7"), "7"),
        (goff({"query": 'x sw "a" and not (x ew "z")', "variation": "A"}), ("ab", "az", "b"), "ab"),
        (goff({"query": 'x in ["a", "b"] or x eq "c"', "variation": "A"}), ("a", "c", "d"), "a c"),
    ],
)  # fmt: skip
def test_a_case_of_another_tool_evaluates_the_same(read: Read, given: tuple[str, ...], expected: str | None) -> None:
    found = [each for each in given if read.ask("f", x=each)]
    assert found == ([] if expected is None else expected.split(" "))


@pytest.mark.parametrize(
    ("read", "is_met"),
    [
        (unleash("SEMVER_GT", value="1.2.3"), False),
        (unleash("STR_CONTAINS", "b", inverted=True), True),
        (unleash("NUM_GTE", value="-1"), False),
        (configcat(5, ["1.0.0"]), False),
        (configcat(11, 5.0), False),
        (posthog("is_not_set", None), True),
        (goff({"query": 'x ne "a"', "variation": "A"}), False),
        (unleash("DATE_AFTER", name="currentTime", value="2020-01-01T00:00:00Z"), True),
        (unleash("DATE_BEFORE", name="currentTime", value="2020-01-01T00:00:00Z"), False),
        (unleash("DATE_BEFORE", name="currentTime", value="2020-01-01T00:00:00Z", inverted=True), True),
    ],
)
def test_who_lacks_the_attribute_meets_what_they_meet_there(read: Read, is_met: bool) -> None:
    assert read.ask("f", **NEVER_GIVEN) is is_met


SEGMENT = {"key": "s", "included": [], "excluded": [], "rules": [{"clauses": [], "weight": 50_000,
           "rolloutContextKind": "org"}]}  # fmt: skip
PROGRESSIVE = {"progressiveRollout": {"initial": {"variation": "B", "percentage": 0, "date": "2020-01-01T00:00:00Z"},
               "end": {"variation": "A", "percentage": 100, "date": "2021-01-01T00:00:00Z"}}}  # fmt: skip
RANGED = {"variations": [True, False], "weights": [0.5, 0.5]}


@pytest.mark.parametrize(
    ("read", "words"),
    [
        (unleash("STR_CONTAINS", "Ab", caseInsensitive=True), "ignores case"),
        (unleash("STR_STARTS_WITH", "Ab", caseInsensitive=True, inverted=True), "ignores case"),
        (unleash("DATE_AFTER", name="born", value="2020-01-01T00:00:00Z"), "compares dates"),
        (unleash("IN_CIDR", "2001:db8::/32"), "is IPv6"),
        (growthbook(RANGED | {"namespace": ["pricing", 0, 0.5]}), "it is in a namespace"),
        (growthbook(RANGED | {"filters": [{"seed": "s", "ranges": [[0, 0.5]]}]}), "it is in a namespace"),
        (growthbook(RANGED | {"ranges": [[0, 0.5], [0.5, 1]]}), "ranges of the hash"),
        (growthbook({"force": True, "range": [0, 0.5]}), "a range of the hash"),
        (growthbook({"force": True, "scheduleType": "ramp"}), "grows by a schedule"),
        (configcat(16, ["0a1b"]), "are hashed"),
        (configcat(26, ["0a1b"]), "are hashed"),
        (posthog("exact", ["acme"], type="group", group_type_index=0), "it asks for a group"),
        (posthog("icontains", "Ab"), "ignores case"),
        (posthog("is_date_before", "-1d"), "has no equivalent"),
        (Read({"flags": [{"key": "f", "active": True, "filters": {"groups": [
            {"properties": [], "rollout_percentage": 100, "aggregation_group_type_index": 0}]}}]}),
         "for groups of persons"),
        (goff(PROGRESSIVE | {"query": 'x eq "a"'}), "grows by itself (progressiveRollout)"),
        (goff(None, defaultRule=PROGRESSIVE), "grows by itself (progressiveRollout)"),
        (goff(None, scheduledRollout=[{"date": "2020-01-01T00:00:00Z"}]), "changes by itself (scheduledRollout)"),
        (read_ld({"s": SEGMENT}, f=ld(rules=[{"clauses": [clause("", "segmentMatch", "s")], "variation": 1}])),
         "shares out contexts of another kind"),
        (read_ld(f=ld(rules=[{"clauses": [clause("x", "before", "2020-01-01")], "variation": 1}])),
         "has no equivalent"),
    ],
)  # fmt: skip
def test_what_flagd_cannot_express_is_left_out_by_name(read: Read, words: str) -> None:
    assert words in read.refusal("f")


def test_a_holdout_of_growthbook_passes_its_other_users_on() -> None:
    holdout = {"key": "h", "variations": [1, 2], "weights": [0.1, 0.9], "meta": [{}, {"passthrough": True}]}
    read = growthbook(holdout, {"force": 5}, default=0)
    assert read.share("f", 1) == pytest.approx(0.1, abs=0.02)
    assert read.share("f", 5) == pytest.approx(0.9, abs=0.02)


def test_a_version_in_parts_is_one_for_launchdarkly_alone() -> None:
    read = read_ld(f=ld(rules=[{"clauses": [clause("x", "semVerEqual", "2.0.0")], "variation": 1}]))
    assert [read.ask("f", x=each) for each in ("2.0.0", "2.0", "2", "v2.0.0")] == [False, False, False, True]

"""Exports of LaunchDarkly, Flipt, PostHog, ConfigCat, Flagsmith and GO Feature Flag, and flagd's own odd files."""

import json
import re
import textwrap
from typing import Any

import pytest

from core.audit.acts import Act
from core.errors import InvalidInput
from core.flags.conversion import Converted
from core.flags.exports import IMPORTERS, read_export
from core.flags.operations import import_flags
from core.flags.store import list_flags
from quarterdeck.definitions import rollout_pct
from quarterdeck.flags import FlagSet

ME = Act("ada", "because")
USERS = [f"user-{number}" for number in range(4_000)]


class Read:
    """An export that was read: its flags can be asked."""

    def __init__(self, export: Any, environment: str = "production") -> None:
        text = export if isinstance(export, str) else json.dumps(export)
        self.document, self.converted = read_export(textwrap.dedent(text), environment)
        self.flags = FlagSet.from_definitions(self.document)

    def ask(self, key: str, user: str = "u1", **context: Any) -> Any:
        found = self.flags.resolve(key, {"targetingKey": user, **context})
        assert found.error_code is None, found
        return found.value

    def share(self, key: str, value: Any, **context: Any) -> float:
        return sum(self.ask(key, user, **context) == value for user in USERS) / len(USERS)

    def refusal(self, key: str) -> str:
        (reason,) = [each.reason for each in self.converted.refused if each.key == key]
        assert key not in self.document["flags"]
        return reason

    def notes(self, key: str) -> str:
        return "; ".join(each.text for each in self.converted.notes if each.key == key)


def ld(**more: Any) -> dict[str, Any]:
    return {"key": "f", "on": True, "version": 4, "salt": "abc", "variations": [True, False], "offVariation": 1,
            "fallthrough": {"variation": 0}, "targets": [], "rules": [], "prerequisites": []} | more  # fmt: skip


def clause(attribute: str, op: str, *values: Any, **more: Any) -> dict[str, Any]:
    return {"attribute": attribute, "op": op, "values": list(values), "negate": False} | more


def read_ld(segments: dict[str, Any] | None = None, **flags: dict[str, Any]) -> Read:
    return Read({"flags": flags, "segments": segments or {}})


@pytest.mark.deep
def test_launchdarklys_targets_rules_and_fallthrough_come_in_order():
    rollout = {"variations": [{"variation": 0, "weight": 25_000}, {"variation": 1, "weight": 75_000}]}
    read = read_ld(
        f=ld(
            targets=[{"values": ["ann"], "variation": 1}],
            rules=[{"clauses": [clause("country", "in", "DE", "FR"), clause("plan", "in", "free", negate=True)],
                    "variation": 0}],
            fallthrough={"rollout": rollout},
        )
    )  # fmt: skip
    assert read.converted.source == "LaunchDarkly"
    assert (read.ask("f", "ann", country="DE", plan="pro"), read.ask("f", country="DE", plan="pro")) == (False, True)
    assert read.share("f", True, country="DE", plan="free") == read.share("f", True, country="DE")
    assert abs(read.share("f", True) - 0.25) < 0.03
    assert read.converted.are_drawn_anew


@pytest.mark.parametrize(
    ("given", "fits", "does_not"),
    [
        (clause("email", "endsWith", "@x.org"), {"email": "a@x.org"}, {"email": "a@y.org"}),
        (clause("email", "startsWith", "a"), {"email": "a@x.org"}, {}),
        (clause("email", "contains", "+beta"), {"email": "a+beta@x"}, {"email": "a"}),
        (clause("email", "matches", r"^.*@x\.org$"), {"email": "a@x.org"}, {"email": "a@xxorg"}),
        (clause("groups", "in", "staff"), {"groups": ["a", "staff"]}, {"groups": ["a"]}),
        (clause("groups", "in", "staff", negate=True), {"groups": ["a"]}, {}),
        (clause("age", "lessThan", 18), {"age": 17}, {}),
        (clause("age", "greaterThanOrEqual", 18), {"age": 18}, {"age": "18"}),
        (clause("v", "semVerGreaterThan", "1.2.0"), {"v": "1.10.0"}, {"v": "1.2.0"}),
        (clause("/address/city", "in", "Bonn"), {"address": {"city": "Bonn"}}, {"address": {}}),
        (clause("key", "in", "u1"), {}, {"user": "u2"}),
    ],
    ids=lambda value: f"{value.get('attribute', '')} {value.get('op', '')}" if isinstance(value, dict) else "",
)
def test_each_operator_of_launchdarkly_means_the_same(given, fits, does_not):
    if given["op"] == "matches":
        given = given | {"values": [r"@x\.org$"]}
    flag = ld(rules=[{"clauses": [given], "variation": 0}], fallthrough={"variation": 1})
    read = read_ld(f=flag)
    assert (read.ask("f", **fits), read.ask("f", **does_not)) == (True, False)


def test_launchdarklys_segments_and_prerequisites_are_copied():
    segments = {
        "beta": {"key": "beta", "included": ["bob"], "excluded": ["eve"],
                 "rules": [{"clauses": [clause("email", "endsWith", "@x.org")]}]},
    }  # fmt: skip
    inside = [{"clauses": [clause("", "segmentMatch", "beta")], "variation": 0}]
    read = read_ld(
        segments,
        parent=ld(rules=inside, fallthrough={"variation": 1}),
        f=ld(prerequisites=[{"key": "parent", "variation": 0}]),
        dark=ld(prerequisites=[{"key": "off", "variation": 0}]),
        off=ld(on=False),
        half=ld(fallthrough={"rollout": {"variations": [{"variation": 0, "weight": 50_000},
                                                        {"variation": 1, "weight": 50_000}]}}),
        child=ld(prerequisites=[{"key": "half", "variation": 0}]),
    )  # fmt: skip
    for user, email, wanted in [
        ("bob", "", True),
        ("eve", "e@x.org", False),
        ("al", "a@x.org", True),
        ("al", "", False),
    ]:
        assert read.ask("f", user, email=email) is read.ask("parent", user, email=email) is wanted
    assert read.ask("dark") is False
    assert "a copy of the rules of parent" in read.notes("f")
    assert "another flag's percentage" in read.refusal("child")
    assert read.document["flags"]["off"]["state"] == "DISABLED"


@pytest.mark.parametrize(
    ("flag", "words"),
    [
        (ld(variations=[1, "a"]), "several types"),
        (ld(deleted=True), "archived"),
        (ld(rules=[{"clauses": [clause("born", "before", 0)], "variation": 0}]), "rule 1: the operator 'before'"),
        (ld(rules=[{"clauses": [clause("", "segmentMatch", "x")], "variation": 0}]), "segment 'x' are not in"),
        (ld(rules=[{"clauses": [clause("a", "in", 1, contextKind="org")], "variation": 0}]), "kind 'org'"),
        (ld(prerequisites=[{"key": "f", "variation": 0}]), "depends on 'f'"),
        (ld(variations="x"), "not in LaunchDarkly's format"),
    ],
)
def test_what_flagd_cannot_express_of_launchdarkly_is_refused(flag, words):
    assert re.search(words, read_ld(f=flag, good=ld()).refusal("f"))


def test_a_list_of_launchdarklys_rest_api_is_read_for_one_environment():
    here = {"on": True, "targets": [], "rules": [], "fallthrough": {"variation": 0}, "offVariation": 1}
    item = {"key": "f", "kind": "boolean", "description": "Rerank", "archived": False,
            "variations": [{"_id": "1", "value": True}, {"_id": "2", "value": False}],
            "environments": {"production": here, "test": here | {"on": False}}}  # fmt: skip
    read = Read({"items": [item], "totalCount": 1})
    assert (read.ask("f"), read.document["flags"]["f"]["metadata"]["description"]) == (True, "Rerank")
    assert Read({"items": [item]}, "test").document["flags"]["f"]["state"] == "DISABLED"
    with pytest.raises(InvalidInput, match="the export has production, test; choose one"):
        Read({"items": [item]}, "staging")
    assert Read({"flagValues": {"limit": 7}}).ask("limit") == 7


FLIPT = """
version: "1.4"
namespace: default
flags:
- key: theme
  name: Theme
  type: VARIANT_FLAG_TYPE
  description: What it looks like
  enabled: true
  variants:
  - key: light
    default: true
  - key: dark
    attachment: {contrast: 2}
  rules:
  - segment: germans
    distributions:
    - {variant: light, rollout: 30}
    - {variant: dark, rollout: 70}
  - segments: [germans, staff]
    operator: OR_SEGMENT_OPERATOR
    distributions:
    - {variant: dark, rollout: 100}
- key: search
  type: BOOLEAN_FLAG_TYPE
  enabled: false
  rollouts:
  - segment: {key: staff, value: true}
  - threshold: {percentage: 20, value: true}
- key: dated
  type: BOOLEAN_FLAG_TYPE
  enabled: true
  rollouts:
  - segment: {key: young, value: true}
segments:
- key: germans
  match_type: ALL_MATCH_TYPE
  constraints:
  - {type: STRING_COMPARISON_TYPE, property: country, operator: eq, value: DE}
  - {type: NUMBER_COMPARISON_TYPE, property: age, operator: gte, value: "18"}
- key: staff
  match_type: ANY_MATCH_TYPE
  constraints:
  - {type: STRING_COMPARISON_TYPE, property: email, operator: suffix, value: "@x.org"}
  - {type: ENTITY_ID_COMPARISON_TYPE, property: entity, operator: isoneof, value: '["ann", "bob"]'}
- key: young
  match_type: ALL_MATCH_TYPE
  constraints:
  - {type: DATETIME_COMPARISON_TYPE, property: born, operator: gt, value: "2000-01-01"}
"""


def test_flipts_yaml_is_read():
    read = Read(FLIPT)
    assert read.converted.source == "Flipt"
    assert (read.ask("theme"), read.ask("theme", "ann")) == ("light", "dark")
    assert abs(read.share("theme", "dark", country="DE", age=20) - 0.7) < 0.03
    assert (read.ask("search", "ann"), read.ask("search", email="a@x.org")) == (True, True)
    assert abs(read.share("search", True) - 0.2) < 0.03
    assert "attachments" in read.notes("theme")
    assert read.document["flags"]["theme"]["metadata"]["description"] == "What it looks like"
    assert "compares dates" in read.refusal("dated")


def test_flipts_namespace_is_the_environments_or_the_default_one():
    text = FLIPT + "---" + FLIPT.replace("namespace: default", "namespace: {key: staging}").replace("false", "true")
    assert Read(text).ask("search", "u9") is not None
    assert Read(text, "staging").share("search", True) == 1
    assert Read(text, "production").share("search", True) < 0.3
    flag = {"key": "f", "type": "BOOLEAN_FLAG_TYPE", "enabled": True}
    lines = [{"version": "1.4", "namespace": {"key": "default"}}, {"namespace": {"key": "staging"}, "flags": [flag]}]
    assert Read("\n".join(map(json.dumps, lines)), "staging").ask("f") is True


def posthog(**more: Any) -> dict[str, Any]:
    return {"id": 1, "key": "f", "name": "Rerank", "active": True, "deleted": False,
            "filters": {"groups": [], "multivariate": None, "payloads": {}}} | more  # fmt: skip


def group(share: float | None = 100, variant: str | None = None, **properties: Any) -> dict[str, Any]:
    listed = [{"key": key, "type": "person", **value} for key, value in properties.items()]
    return {"properties": listed, "rollout_percentage": share, "variant": variant}


def test_posthogs_groups_are_alternatives_that_share_one_draw():
    filters = {"groups": [group(50, plan={"operator": "exact", "value": ["pro"]}), group(20)]}
    read = Read({"count": 1, "next": None, "results": [posthog(filters=filters)]})
    assert read.converted.source == "PostHog"
    assert abs(read.share("f", True) - 0.2) < 0.03
    assert abs(read.share("f", True, plan="pro") - 0.5) < 0.04  # not 0.6: a user of the 20% is one of the 50%
    assert "ignores it" in read.notes("f")


def test_posthogs_variants_conditions_and_local_evaluation_are_read():
    variants = [{"key": "control", "rollout_percentage": 50}, {"key": "test", "rollout_percentage": 50}]
    filters = {
        "groups": [group(None, age={"operator": "gt", "value": "18"}, email={"operator": "is_set", "value": "is_set"}),
                   group(100, "test", distinct_id={"operator": "exact", "value": "ann"})],
        "multivariate": {"variants": variants}, "payloads": {"test": "{}"},
    }  # fmt: skip
    read = Read({"flags": [posthog(filters=filters)], "group_type_mapping": {}, "cohorts": {}})
    assert (read.ask("f"), read.ask("f", "ann", age=20, email="a")) == ("disabled", "test")
    assert abs(read.share("f", "test", age=20, email="a") - 0.5) < 0.04
    assert "payloads were left out" in read.notes("f")


@pytest.mark.parametrize(
    ("filters", "words"),
    [
        ({"groups": [group(a={"type": "cohort", "value": 3})]}, "asks for a cohort"),
        ({"groups": [group(a={"operator": "icontains", "value": "x"})]}, "ignores case"),
        ({"groups": [group(a={"operator": "is_date_before", "value": "-7d"})]}, "'is_date_before'"),
        ({"groups": [group()], "aggregation_group_type_index": 0}, "groups of persons"),
        ({"groups": [group(120)]}, "120 is not a share"),
    ],
)
def test_what_flagd_cannot_express_of_posthog_is_refused(filters, words):
    assert words in Read({"results": [posthog(filters=filters)]}).refusal("f")


def configcat(**settings: dict[str, Any]) -> dict[str, Any]:
    return {"p": {"u": "https://cdn-global.configcat.com", "r": 0, "s": "salt"},
            "s": [{"n": "Staff", "r": [{"a": "Email", "c": 32, "l": ["@x.org"]}]}], "f": settings}  # fmt: skip


def rule(value: bool, *conditions: dict[str, Any]) -> dict[str, Any]:
    return {"c": list(conditions), "s": {"v": {"b": value}, "i": "1"}}


def test_configcats_rules_segments_percentages_and_prerequisites_are_read():
    user = {"u": {"a": "Country", "c": 0, "l": ["DE"]}}
    read = Read(
        configcat(
            parent={"t": 0, "v": {"b": False}, "r": [rule(True, user)]},
            f={"t": 0, "v": {"b": False}, "r": [rule(True, {"s": {"s": 0, "c": 0}}),
                                               rule(False, {"s": {"s": 0, "c": 1}}, user)],
               "p": [{"p": 30, "v": {"b": True}}, {"p": 70, "v": {"b": False}}]},
            child={"t": 1, "v": {"s": "no"}, "r": [{"c": [{"p": {"f": "parent", "c": 0, "v": {"b": True}}}],
                                                    "s": {"v": {"s": "yes"}}}]},
            size={"t": 2, "v": {"i": 10}, "r": [{"c": [{"u": {"a": "Age", "c": 15, "d": 18}}], "s": {"v": {"i": 20}}}]},
            hashed={"t": 0, "v": {"b": False}, "r": [rule(True, {"u": {"a": "Email", "c": 16, "l": ["ab12"]}})]},
        )
    )  # fmt: skip
    assert read.converted.source == "ConfigCat"
    assert (read.ask("f", Email="a@x.org"), read.ask("f", Email="b", Country="DE")) == (True, False)
    assert abs(read.share("f", True) - 0.3) < 0.03
    assert (read.ask("child", Country="DE"), read.ask("child")) == ("yes", "no")
    assert (read.ask("size", Age=18), read.ask("size", Age="x"), read.ask("size")) == (20, 10, 10)
    assert "are hashed" in read.refusal("hashed")


@pytest.mark.parametrize(
    ("comparator", "wanted", "fits", "does_not"),
    [
        (1, {"l": ["DE"]}, "FR", "DE"), (2, {"l": ["x"]}, "axb", "ab"), (3, {"l": ["x"]}, "ab", "axb"),
        (4, {"l": ["1.0.0", "2.0.0"]}, "2.0.0", "3.0.0"), (8, {"s": "1.2.0"}, "1.10.0", "1.1.0"),
        (11, {"d": 5}, 6, 5), (28, {"s": "x"}, "x", "y"), (29, {"s": "x"}, "y", "x"), (30, {"l": ["a"]}, "ab", "ba"),
        (33, {"l": ["a"]}, "ab", "ba"), (34, {"l": ["a"]}, ["b", "a"], ["b"]), (35, {"l": ["a"]}, ["b"], ["a"]),
    ],
)  # fmt: skip
def test_each_comparator_of_configcat_means_the_same(comparator, wanted, fits, does_not):
    condition = {"u": {"a": "x", "c": comparator, **wanted}}
    read = Read(configcat(f={"t": 0, "v": {"b": False}, "r": [rule(True, condition)]}))
    assert (read.ask("f", x=fits), read.ask("f", x=does_not), read.ask("f")) == (True, False, False)


def state(name: str, enabled: bool, value: Any = None, *several: tuple[Any, float], **more: Any) -> dict[str, Any]:
    return {"feature": {"id": 1, "name": name, "type": "STANDARD"}, "enabled": enabled, "feature_state_value": value,
            "multivariate_feature_state_values": [
                {"id": 1, "percentage_allocation": share, "multivariate_feature_option": {"value": each}}
                for each, share in several]} | more  # fmt: skip


def test_flagsmiths_environment_document_is_read():
    condition = {"operator": "EQUAL", "property_": "plan", "value": "pro"}
    segments = [
        {"id": 1, "name": "pro", "rules": [{"type": "ALL", "conditions": [], "rules": [
            {"type": "ANY", "conditions": [condition, condition | {"value": "7"}], "rules": []}]}],
         "feature_states": [state("f", True), state("text", True, "loud")]},
        {"id": 2, "name": "tenth", "rules": [{"type": "ALL", "conditions": [
            {"operator": "PERCENTAGE_SPLIT", "property_": None, "value": "10"}], "rules": []}],
         "feature_states": [state("g", True)]},
    ]  # fmt: skip
    read = Read(
        {
            "id": 1, "api_key": "k", "project": {"id": 1, "segments": segments},
            "feature_states": [state("f", False), state("g", False), state("text", True, "plain"),
                               state("ab", True, "a", ("b", 30.0)), state("mixed", True, "a")],
            "identity_overrides": [
                {"identifier": "eve", "identity_features": [state("f", False), state("mixed", False)]}],
        }
    )  # fmt: skip
    assert read.converted.source == "Flagsmith"
    assert [read.ask("f"), read.ask("f", plan="pro"), read.ask("f", plan=7), read.ask("f", "eve", plan="pro")] == [
        False, True, True, False,
    ]  # fmt: skip
    assert abs(read.share("g", True) - 0.1) < 0.02
    assert (read.ask("text"), read.ask("text", plan="pro")) == ("plain", "loud")
    assert abs(read.share("ab", "b") - 0.3) < 0.03
    assert "on for some users and off for others" in read.refusal("mixed")


def test_flagsmiths_evaluation_context_is_read_as_well():
    segment = {"key": "1", "name": "pro", "rules": [{"type": "ALL", "conditions": [
        {"operator": "IN", "property": "plan", "value": "pro,team"}], "rules": []}],
        "overrides": [{"name": "f", "key": "1", "enabled": True, "value": "", "priority": 1}]}  # fmt: skip
    features = {
        "f": {"name": "f", "key": "1", "enabled": False, "value": ""},
        "ab": {"name": "ab", "key": "2", "enabled": True, "value": "a",
               "variants": [{"value": "b", "weight": 40, "priority": 1}, {"value": 7, "weight": 0, "priority": 2}]},
    }  # fmt: skip
    read = Read({"environment": {"key": "k"}, "features": features, "segments": {"1": segment}})
    assert (read.converted.source, read.ask("f"), read.ask("f", plan="team")) == ("Flagsmith", False, True)
    assert abs(read.share("ab", "b") - 0.4) < 0.03


GOFF = """
search:
  variations:
    A: false
    B: true
  targeting:
  - name: staff
    query: email ew "@x.org" and (plan eq "pro" or not (beta pr))
    variation: B
  - query: '{"==": [{"var": "key"}, "ann"]}'
    percentage: {A: 0, B: 100}
  defaultRule:
    percentage: {A: 80, B: 20}
  metadata: {description: Search, owners: [a]}
window:
  variations: {on: yes-please, off: no-thanks}
  defaultRule: {variation: on}
  experimentation: {start: 2020-01-01T00:00:00Z, end: 2021-01-01T00:00:00Z}
growing:
  variations: {A: 1, B: 2}
  defaultRule:
    progressiveRollout: {initial: {variation: A}, end: {variation: B}}
dark:
  variations: {A: 1, B: 2}
  defaultRule: {variation: A}
  disable: true
"""


def test_go_feature_flags_yaml_is_read():
    read = Read(GOFF.replace("{on: yes-please, off: no-thanks}", '{"on": yes-please, "off": no-thanks}').replace(
        "variation: on}", 'variation: "on"}'))  # fmt: skip
    assert read.converted.source == "GO Feature Flag"
    assert read.ask("search", email="a@x.org", plan="pro") is read.ask("search", "ann") is True
    assert read.ask("search", email="a@x.org") is True
    assert abs(read.share("search", True, email="a@x.org", plan="free", beta=1) - 0.2) < 0.03
    assert read.ask("window") is None
    assert "progressiveRollout" in read.refusal("growing")
    assert read.document["flags"]["dark"]["state"] == "DISABLED"
    assert read.document["flags"]["search"]["metadata"]["description"] == "Search"
    assert "metadata" in read.notes("search")


@pytest.mark.parametrize(
    ("query", "fits", "does_not"),
    [
        ('country in ["DE", "FR"]', {"country": "FR"}, {}),
        ("age >= 18", {"age": 18}, {}), ("age lt 18", {"age": 3}, {}),
        ('name co "nn"', {"name": "ann"}, {"name": "bob"}), ('name ne "bob"', {"name": "ann"}, {}),
        ('key == "u1"', {}, {"user": "u2"}), ("v gt 1.2.0", {"v": "1.10.0"}, {"v": "1.1.0"}),
        ('a eq true or b sw "x"', {"b": "xy"}, {"a": False}), ("not (a eq 1)", {"a": 2}, {"a": 1}),
    ],
)  # fmt: skip
def test_each_query_of_go_feature_flag_means_the_same(query, fits, does_not):
    rule = {"query": query, "variation": "B"}
    read = Read({"f": {"variations": {"A": False, "B": True}, "targeting": [rule], "defaultRule": {"variation": "A"}}})
    assert (read.ask("f", **fits), read.ask("f", **does_not)) == (True, False)


@pytest.mark.parametrize("query", ["a eq", "a likes 1", "(a eq 1", "a eq 1 b", "a in 5", "a eq §", "{", "a eq b"])
def test_a_query_that_is_not_understood_is_refused(query):
    rule = {"query": query, "variation": "B"}
    read = Read({"f": {"variations": {"A": False, "B": True}, "targeting": [rule], "defaultRule": {"variation": "A"}}})
    assert "rule 1: its query" in read.refusal("f")


def test_further_fields_of_flagd_files_are_moved_or_named(store):
    flag = {"state": "ENABLED", "variants": {"off": 0, "10sec": 10_000}, "defaultVariant": "off"}
    read = Read({"flags": {"slow": flag | {"description": "images load slowly", "owner": "ann", "$note": 1}}})
    assert import_flags(store, read.document, ME) == ("slow",)
    assert list_flags(store, "production")[0].definition["metadata"] == {"description": "images load slowly"}
    assert [each.text for each in read.converted.notes] == [
        f"the field {name!r} was left out: flagd knows no such field" for name in ("owner", "$note")
    ]


def test_the_former_name_of_fractional_is_read_as_it_was_meant():
    flag = {"state": "ENABLED", "variants": {"red": "#f00", "blue": "#00f"}, "defaultVariant": "red"}
    buckets = [["red", 50], ["blue", 50]]
    read = Read({
        "flags": {
            "by-user": flag | {"targeting": {"fractionalEvaluation": ["targetingKey", *buckets]}},
            "by-email": flag | {"targeting": {"if": [{"var": "email"}, {"fractionalEvaluation": ["email", *buckets]}]}},
            "plain": flag,
        }
    })  # fmt: skip
    assert abs(read.share("by-user", "#f00") - 0.5) < 0.04
    emails = [read.ask("by-email", email=f"{user}@x.org") for user in USERS]
    assert abs(emails.count("#f00") / len(emails) - 0.5) < 0.04
    assert "is called fractional now" in read.notes("by-email")
    assert (rollout_pct(read.document["flags"]["by-user"]), read.notes("plain")) == (None, "")


def test_growthbooks_schedule_decides_when_a_rule_is_on():
    past, future = "2020-01-01T00:00:00.000Z", "2999-01-01T00:00:00.000Z"
    for start, end, wanted in [
        (past, future, 1),
        (past, past, 0),
        (future, None, 0),
        (None, future, 1),
        (None, past, 0),
    ]:
        entries = [{"timestamp": start, "enabled": True}, {"timestamp": end, "enabled": False}]
        for given in ({"scheduleRules": entries}, {"schedule": {"startDate": start, "endDate": end}}):
            rules = [{"force": 1, **given}]
            assert Read({"features": {"f": {"defaultValue": 0, "rules": rules}}}).ask("f") == wanted


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"feature_gates": []}', "a file of Statsig, which is not read"),
        ('{"flags": {"f": {"allocations": [], "variations": {}}}}', "a file of Eppo"),
        ('{"hello": 1}', "an export of Unleash, GrowthBook, LaunchDarkly, PostHog, Flipt, Flagsmith, ConfigCat, GO"),
        ("just text", "no YAML of flags"),
        ("a: &x [1]\nb: *x", "has aliases"),
        ("a: [", "neither JSON nor YAML"),
    ],
)
def test_a_file_that_is_not_read_is_told_what_it_is(text, words):
    with pytest.raises(InvalidInput, match=re.escape(words)):
        read_export(text, "production")


@pytest.mark.parametrize("importer", IMPORTERS, ids=[each.name for each in IMPORTERS])
def test_no_importer_fails_on_a_file_of_another_shape(importer):
    odd: list[Any] = [None, 5, "x", [], {}, [1], [{}], {"flags": 5}, {"flags": []}, {"flags": [5]}, {"features": None},
                      {"items": [5]}, {"f": 5}, {"f": {"a": 5}}, {"results": [5]}, {"feature_states": [5]}]  # fmt: skip
    for export in odd:
        if importer.recognizes(export):
            assert isinstance(importer.convert(export, "production"), Converted)

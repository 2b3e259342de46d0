"""Exports of Unleash and GrowthBook in their own formats: what becomes of each flag, what is skipped and why."""

import json
import re
from typing import Any

import pytest

from core.audit.acts import Act
from core.errors import InvalidInput
from core.flags.exports import read_export
from core.flags.operations import import_flags
from core.flags.store import list_flags
from quarterdeck.definitions import experiment_variants, read_rules, read_weights, rollout_pct
from quarterdeck.flags import FlagSet

ME = Act("ada", "because")
ANY_CASE = {"caseInsensitive": True}
USERS = [f"user-{number}" for number in range(4_000)]


def feature(name: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "description": None, "type": "release", "project": "default", "stale": False,
            "impressionData": False, "archived": False} | more  # fmt: skip


def strategy(name: str, rollout: str = "100", **more: Any) -> dict[str, Any]:
    return {
        "name": "flexibleRollout", "id": f"id-{name}-{rollout}", "featureName": name, "title": None,
        "parameters": {"groupId": name, "rollout": rollout, "stickiness": "default"},
        "constraints": [], "variants": [], "disabled": False, "segments": [],
    } | more  # fmt: skip


def constraint(name: str, operator: str, *values: str, **more: Any) -> dict[str, Any]:
    return {"contextName": name, "operator": operator, "values": list(values), "inverted": False,
            "caseInsensitive": False} | more  # fmt: skip


def enabled(name: str, on: bool = True, **more: Any) -> dict[str, Any]:
    return {"enabled": on, "featureName": name, "environment": "production", "variants": [], "name": name} | more


def unleash(*strategies: dict[str, Any], name: str = "flag", **more: Any) -> str:
    return json.dumps(
        {"features": [feature(name)], "featureStrategies": list(strategies), "featureEnvironments": [enabled(name)],
         "contextFields": [], "featureTags": [], "segments": [], "tagTypes": []} | more
    )  # fmt: skip


def growthbook(*rules: dict[str, Any], default: Any = False, **more: Any) -> str:
    payload = {"status": 200, "features": {"flag": {"defaultValue": default, "rules": list(rules)}}, "experiments": []}
    return json.dumps(payload | {"dateUpdated": "2026-03-01T10:00:00.000Z"} | more)


def convert(text: str, environment: str = "production") -> dict[str, Any]:
    document, converted = read_export(text, environment)
    assert [each.reason for each in converted.refused] == []
    return document["flags"]["flag"]


def refusal(text: str) -> str:
    document, converted = read_export(text, "production")
    assert "flag" not in document["flags"]
    (refused,) = converted.refused
    assert refused.key == "flag"
    assert "\n" not in refused.reason
    return refused.reason


def ask(definition: dict[str, Any], user: str = "u1", **context: Any) -> Any:
    return FlagSet.from_definitions({"flags": {"flag": definition}}).resolve("flag", {"targetingKey": user, **context})


def share(definition: dict[str, Any], variant: str, **context: Any) -> float:
    flags = FlagSet.from_definitions({"flags": {"flag": definition}})
    found = [flags.resolve("flag", {"targetingKey": user, **context}).variant for user in USERS]
    return found.count(variant) / len(found)


def test_an_unleash_rollout_is_a_rollout_that_the_panel_can_move():
    definition = convert(unleash(strategy("flag", "35")))
    assert (rollout_pct(definition), definition["state"]) == (35, "ENABLED")
    assert abs(share(definition, "on") - 0.35) < 0.031
    assert convert(unleash(strategy("flag")))["defaultVariant"] == "on"


def test_an_unleash_flag_that_is_off_there_is_off_here():
    off = convert(unleash(strategy("flag"), featureEnvironments=[enabled("flag", on=False)]))
    assert (off["state"], ask(off).reason) == ("DISABLED", "DISABLED")


def test_constraints_of_a_rollout_become_rules_in_front_of_it():
    definition = convert(
        unleash(
            strategy(
                "flag", "50",
                constraints=[constraint("country", "IN", "DE", "FR"), constraint("plan", "NOT_IN", "free")],
            )
        )
    )  # fmt: skip
    assert rollout_pct(definition) == 50
    assert [(rule.attribute, str(rule.operator), rule.serve) for rule in read_rules(definition)] == [
        ("country", "not in", "off"), ("plan", "in", "off"),
    ]  # fmt: skip
    assert abs(share(definition, "on", country="DE", plan="pro") - 0.5) < 0.032
    assert share(definition, "on", country="US", plan="pro") == share(definition, "on", plan="pro") == 0
    assert share(definition, "on", country="DE", plan="free") == 0
    assert share(definition, "on", country="DE") > 0.4


def test_any_strategy_that_fits_lets_a_user_in():
    definition = convert(
        unleash(
            strategy("flag", constraints=[constraint("userId", "IN", "5", "10")], sortOrder=2),
            strategy("flag", "20", sortOrder=1, constraints=[constraint("country", "IN", "DE")]),
            strategy("flag", disabled=True, constraints=[]),
        )
    )
    assert ask(definition, "5").value is True
    assert ask(definition, "6").value is False
    assert abs(share(definition, "on", country="DE") - 0.2) < 0.026


@pytest.mark.parametrize(
    ("given", "fits", "does_not"),
    [
        (constraint("email", "STR_ENDS_WITH", "@x.org", "@y.org"), {"email": "a@y.org"}, {"email": "a@z.org"}),
        (constraint("email", "STR_CONTAINS", "adm"), {"email": "admin@x"}, {}),
        (constraint("email", "STR_STARTS_WITH", "adm"), {"email": "admin@x"}, {}),
        (constraint("age", "NUM_LT", value="18"), {"age": 17}, {}),
        (constraint("age", "NUM_GTE", value="18.5"), {"age": 18.5}, {"age": 18}),
        (constraint("v", "SEMVER_GT", value="1.2.0"), {"v": "1.3.0"}, {"v": "1.2.0"}),
        (constraint("country", "IN", "DE", inverted=True), {"country": "FR"}, {"country": "DE"}),
        (constraint("currentTime", "DATE_AFTER", value="2020-01-01T00:00:00.000Z"), {}, None),
        (constraint("currentTime", "DATE_BEFORE", value="2020-01-01T00:00:00.000Z"), None, {}),
    ],
    ids=lambda value: value.get("operator") if isinstance(value, dict) and "operator" in value else "",
)
def test_each_operator_of_unleash_means_the_same(given, fits, does_not):
    definition = convert(unleash(strategy("flag", constraints=[given])))
    if fits is not None:
        assert ask(definition, **fits).value is True
    if does_not is not None:
        assert ask(definition, **does_not).value is False


def test_older_strategies_are_read_too():
    listed = strategy("flag", parameters={"userIds": "ann, bob"}) | {"name": "userWithId"}
    gradual = strategy("flag", parameters={"percentage": "10", "groupId": "flag"}) | {"name": "gradualRolloutUserId"}
    definition = convert(unleash(listed, gradual))
    assert ask(definition, "bob").value is True
    assert abs(share(definition, "on") - 0.1) < 0.02
    assert convert(unleash(strategy("flag", parameters={}) | {"name": "default"}))["defaultVariant"] == "on"


def test_variants_of_unleash_are_an_ab_test_with_values_of_their_payloads():
    variants = [
        {"name": "short", "weight": 250, "weightType": "fix", "stickiness": "default",
         "payload": {"type": "string", "value": "Be brief."}},
        {"name": "long", "weight": 750, "weightType": "variable", "stickiness": "default",
         "payload": {"type": "string", "value": "Explain."}},
    ]  # fmt: skip
    definition = convert(unleash(strategy("flag", "40", variants=variants)))
    assert definition["variants"] == {"short": "Be brief.", "long": "Explain.", "disabled": "disabled"}
    assert (rollout_pct(definition), read_weights(definition)) == (40, {"short": 25_000, "long": 75_000})
    assert experiment_variants(definition) == {"short", "long"}
    assert abs(share(definition, "disabled") - 0.6) < 0.032
    numbers = [{"name": "few", "weight": 1000, "payload": {"type": "number", "value": "3"}}]
    assert convert(unleash(strategy("flag", variants=numbers)))["variants"] == {"few": 3, "disabled": 0}


def test_the_whole_state_of_unleash_is_read_for_one_environment():
    state = {
        "version": 4, "strategies": [], "projects": [], "features": [feature("flag", description="Rerank the hits")],
        "featureStrategies": [
            {"id": "s1", "featureName": "flag", "projectId": "default", "environment": "development",
             "strategyName": "flexibleRollout", "name": "flexibleRollout", "constraints": [], "sortOrder": 0,
             "parameters": {"rollout": "100", "stickiness": "default", "groupId": "flag"}},
            {"id": "s2", "featureName": "flag", "projectId": "default", "environment": "production",
             "name": "flexibleRollout", "constraints": [], "sortOrder": 0,
             "parameters": {"rollout": "5", "stickiness": "sessionId", "groupId": "flag"}},
        ],
        "featureEnvironments": [
            {"featureName": "flag", "environment": "development", "enabled": True, "variants": []},
            {"featureName": "flag", "environment": "production", "enabled": True, "variants": []},
        ],
        "segments": [{"id": 1, "name": "staff", "constraints": [constraint("email", "STR_ENDS_WITH", "@x.org")]}],
        "featureStrategySegments": [{"featureStrategyId": "s1", "segmentId": 1}],
    }  # fmt: skip
    text = json.dumps(state)
    definition = convert(text)
    assert rollout_pct(definition) == 5
    assert definition["metadata"]["description"] == "Rerank the hits"
    assert abs(sum(ask(definition, sessionId=user).value for user in USERS) / len(USERS) - 0.05) < 0.015
    development = convert(text, "development")
    assert (ask(development, email="a@x.org").value, ask(development, email="a@y.org").value) == (True, False)
    with pytest.raises(InvalidInput, match="environment: the export has development, production; choose one"):
        read_export(text, "staging")


def test_the_older_name_of_a_strategy_is_understood():
    row = {"id": "s1", "featureName": "flag", "environment": "production", "strategyName": "flexibleRollout",
           "constraints": [], "sortOrder": 0, "parameters": {"rollout": "5", "stickiness": "default"}}  # fmt: skip
    assert rollout_pct(convert(unleash(row))) == 5


def test_what_unleashs_client_api_gives_is_read_with_its_segments():
    document = {
        "version": 2,
        "features": [
            {"name": "flag", "type": "release", "enabled": True, "project": "default", "stale": False, "variants": [],
             "strategies": [{"name": "default", "constraints": [], "parameters": {}, "segments": [7]}]},
        ],
        "segments": [{"id": 7, "name": "germany", "constraints": [constraint("country", "IN", "DE")]}],
        "query": {"environment": "production"},
    }  # fmt: skip
    definition = convert(json.dumps(document))
    assert (ask(definition, country="DE").value, ask(definition, country="FR").value) == (True, False)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (unleash(strategy("flag", "20", parameters={"rollout": "20", "stickiness": "random"})), "stickiness random"),
        (unleash(strategy("flag", constraints=[constraint("x", "STR_CONTAINS", "a", **ANY_CASE)])), "ignores case"),
        (unleash(strategy("flag", constraints=[constraint("x", "REGEX", value="a+")])), "regular expression 'a\\+'"),
        (unleash(strategy("flag", constraints=[constraint("born", "DATE_AFTER", value="2020-01-01")])), "'born'"),
        (unleash(strategy("flag", segments=[3]), segments=[{"id": 3, "name": "staff"}]), "segment 'staff' are not in"),
        (unleash(strategy("flag") | {"name": "moonPhase"}), "strategy 'moonPhase' is unknown"),
        (unleash(strategy("flag", "150")), "rollout: '150' is not a share"),
        (unleash(strategy("flag", "x")), "rollout: 'x' is not a share"),
        (unleash(strategy("flag"), features=[feature("flag", archived=True)]), "archived"),
        (
            unleash(strategy("flag"), strategy("up", "20"),
                features=[feature("flag"), feature("up", strategies=[strategy("up", "20")], enabled=True)],
                    dependencies=[{"feature": "flag", "dependencies": [{"feature": "up"}]}]),
            "another flag.s percentage",
        ),
        (
            unleash(
                strategy("flag", "50", variants=[{"name": "a", "weight": 1, "overrides": [{"contextName": "userId"}]}])
            ),
            "overrides",
        ),
        (unleash(strategy("flag", variants=[{"name": "a", "weight": 1}]), strategy("flag")), "some of its strategies"),
        (unleash({"featureName": "flag"}), "not in Unleash's format"),
        (growthbook({"force": True, "condition": {"email": {"$regex": "@x.*y"}}}), r"rule 1: \$regex on 'email'"),
        (growthbook({"force": True, "namespace": ["n", 0, 0.5]}), "rule 1: it is in a namespace"),
        (growthbook({"force": True, "parentConditions": [{"id": "flag"}]}), "depends on itself"),
        (growthbook({"force": True}, {"variations": [True, False], "weights": [1]}), "rule 2: 2 variations have 1"),
        (growthbook({"force": True, "coverage": 2}), "rule 1: coverage: 2 is not a share"),
        (growthbook({"force": "a"}), "several types"),
        (growthbook({"force": True, "condition": {"id": {"$inGroup": "vips"}}}), "saved group 'vips' is not in"),
        (growthbook("no rule"), "not in GrowthBook's format"),
    ],
)  # fmt: skip
def test_what_has_no_counterpart_is_left_out_with_its_reason(text, words):
    assert re.search(words, refusal(text))


def test_a_flag_without_a_name_is_left_out_and_the_others_are_taken():
    text = json.dumps({"features": [{"strategies": []}, strategy("flag") | {"name": "flag", "strategies": []}]})
    _, converted = read_export(text, "production")
    assert [(each.key, each.reason) for each in converted.refused] == [
        ("None", "it is not in Unleash's format: KeyError 'name'")
    ]
    assert set(converted.flags) == {"flag"}


def test_a_rollout_of_growthbook_is_a_rollout():
    rule = {"id": "fr_1", "force": True, "coverage": 0.2, "hashAttribute": "id", "seed": "flag", "hashVersion": 2}
    definition = convert(growthbook(rule))
    assert rollout_pct(definition) == 20
    assert abs(share(definition, "on") - 0.2) < 0.026


@pytest.mark.deep
def test_the_first_rule_of_growthbook_that_fits_and_includes_a_user_decides():
    definition = convert(
        growthbook(
            {"condition": {"country": {"$in": ["DE", "FR"]}, "plan": "pro"}, "force": "short"},
            {"condition": {"beta": True}, "force": "long", "coverage": 0.5, "hashAttribute": "id"},
            {"variations": ["short", "long", "short"], "weights": [0.25, 0.5, 0.25], "coverage": 0.4, "key": "exp",
             "hashAttribute": "company", "meta": [{"key": "0"}, {"key": "1"}, {"key": "2"}]},
            default="standard",
        )
    )  # fmt: skip
    assert definition["variants"] == {"standard": "standard", "short": "short", "long": "long"}
    assert ask(definition, country="DE", plan="pro").value == "short"
    assert ask(definition, country="DE").value == "standard"
    assert abs(share(definition, "long", beta=True) - 0.5) < 0.032
    found = [ask(definition, company=user).value for user in USERS]
    assert abs(found.count("standard") / len(found) - 0.6) < 0.031
    assert abs(found.count("long") / (len(found) - found.count("standard")) - 0.5) < 0.05


@pytest.mark.parametrize(
    ("condition", "fits", "does_not"),
    [
        ({"id": "u1"}, {}, {"user": "u2"}),
        ({"id": {"$nin": ["u2"]}}, {}, {"user": "u2"}),
        ({"age": {"$gte": 18, "$lt": 30}}, {"age": 20}, {"age": 30}),
        ({"account.plan": {"$eq": "team"}}, {"account": {"plan": "team"}}, {"account": {}}),
        ({"v": {"$vgt": "1.2.0"}}, {"v": "1.10.0"}, {"v": "1.1.0"}),
        ({"$or": [{"a": 1}, {"b": {"$ne": 2}}]}, {"b": 3}, {"b": 2}),
        ({"$nor": [{"a": 1}, {"b": 2}]}, {}, {"b": 2}),
        ({"$not": {"a": 1}}, {"a": 2}, {"a": 1}),
        ({"a": {"$not": {"$in": [1, 2]}}}, {"a": 3}, {"a": 2}),
        ({"a": {"$exists": True}}, {"a": 0}, {}),
        ({"a": {"$exists": False}}, {}, {"a": 0}),
        ({"id": {"$inGroup": "vips"}}, {}, {"user": "u2"}),
        ({"$and": [{"a": 1}, {"b": {"$notInGroup": "vips"}}]}, {"a": 1}, {"a": 1, "b": "u1"}),
    ],
    ids=str,
)
def test_each_condition_of_growthbook_means_the_same(condition, fits, does_not):
    definition = convert(growthbook({"condition": condition, "force": True}, savedGroups={"vips": ["u1"]}))
    assert ask(definition, **fits).value is True
    assert ask(definition, **does_not).value is False


def test_values_of_growthbook_keep_their_type():
    assert convert(growthbook({"force": 20}, default=10))["variants"] == {"10": 10, "20": 20}
    objects = convert(growthbook({"force": {"k": 2}}, default={"k": 1}))
    assert objects["variants"] == {"variant-0": {"k": 1}, "variant-1": {"k": 2}}
    assert ask(objects).value == {"k": 2}
    assert ask(convert(growthbook(default="x"))).reason == "STATIC"


def test_a_list_of_growthbooks_rest_api_is_read_for_one_environment():
    definition = json.dumps({"defaultValue": False, "rules": [{"force": True, "coverage": 0.1}]})
    listed = {
        "features": [
            {"id": "flag", "valueType": "boolean", "defaultValue": "false", "environments": {
                "production": {"enabled": True, "defaultValue": "false", "rules": [], "definition": definition},
                "dev": {"enabled": False, "defaultValue": "false", "rules": [], "definition": definition}}},
        ],
        "limit": 10, "offset": 0, "count": 1, "total": 1, "hasMore": False, "nextOffset": None,
    }  # fmt: skip
    text = json.dumps(listed)
    assert rollout_pct(convert(text)) == 10
    assert convert(text, "dev")["state"] == "DISABLED"
    with pytest.raises(InvalidInput, match="environment: the export has dev, production"):
        read_export(text, "staging")


def test_what_was_converted_is_stored_and_what_was_not_does_not_stop_it(store):
    text = unleash(
        strategy("good", "10"), strategy("bad", constraints=[constraint("x", "REGEX", value="a.")]),
        features=[feature("good"), feature("bad")], featureEnvironments=[enabled("good"), enabled("bad")],
    )  # fmt: skip
    document, converted = read_export(text, "production")
    assert import_flags(store, document, ME) == ("good",)
    assert [flag.key for flag in list_flags(store, "production")] == ["good"]
    assert [each.key for each in converted.refused] == ["bad"]


@pytest.mark.parametrize(
    "text", ["[]", "{}", "5", '{"features": 5}', "{", '{"flags": []}', '{"flags": {}, "flags": {}}']
)
def test_a_file_that_is_no_export_is_refused(text):
    with pytest.raises(InvalidInput):
        read_export(text, "production")


def test_a_circle_of_references_is_refused_as_one_on_import(store):
    flag = {
        "state": "ENABLED",
        "variants": {"a": "A"},
        "defaultVariant": "a",
        "targeting": {"if": [{"$ref": "x"}, "a"]},
    }
    document = {"flags": {"flag": flag}, "$evaluators": {"x": {"!": [{"$ref": "y"}]}, "y": {"!": [{"$ref": "x"}]}}}
    with pytest.raises(InvalidInput, match=r"\$ref runs in a circle: x -> y -> x"):
        import_flags(store, document, ME)
    assert list_flags(store, "production") == ()

"""Flags: the table of cases, agreement with flagd-core, sticky buckets, builders, and what is refused before saving."""

import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import pytest

from core.config import PROJECT
from quarterdeck.compiled import compile_targeting
from quarterdeck.definitions import (
    boolean_flag,
    canary_flag,
    read_rules,
    read_weights,
    rollout_pct,
    set_rollout,
    set_rules,
    set_weights,
    split_flag,
    switch_flag,
)
from quarterdeck.documents import parse_document
from quarterdeck.errors import InvalidInput, NotFound
from quarterdeck.flags import Evaluation, FlagSet
from quarterdeck.rules import RuleOperator, TargetingRule
from quarterdeck.validation import HASH_VERSION, validate_definition, validate_document
from tests.flag_generator import find_differences, flagd_answer, load_flagd, make_cases, our_answer

CASES = json.loads((PROJECT / "tests" / "flag_cases.json").read_text(encoding="utf-8"))
USERS = [f"user-{number}" for number in range(5_000)]
BOOLEAN = {"state": "ENABLED", "variants": {"on": True, "off": False}, "defaultVariant": "off"}
TEXT = {"state": "ENABLED", "variants": {"a": "A", "b": "B"}, "defaultVariant": "a"}


@pytest.fixture(autouse=True)
def _quiet_flagd() -> Iterator[None]:
    """flagd-core reports odd contexts as errors; thousands of them are meant here."""
    logger = logging.getLogger("openfeature.contrib")
    logger.disabled = True
    yield
    logger.disabled = False


def flag_set(definition: Any, **rest: Any) -> FlagSet:
    return FlagSet.from_definitions({"flags": {"flag": definition}, **rest})


def variants_of(definition: dict[str, Any]) -> dict[str, str | None]:
    flags = flag_set(definition)
    return {user: flags.resolve("flag", {"targetingKey": user}).variant for user in USERS}


def targeting(logic: Any) -> dict[str, Any]:
    return {**TEXT, "targeting": logic}


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_case_resolves_as_the_table_says(case: dict[str, Any]) -> None:
    flags = flag_set(case["definition"], **{"$evaluators": case.get("evaluators", {})})
    found = flags.evaluate(case["key"], case["default"], case["context"])
    wanted = Evaluation(case["value"], case["variant"], case["reason"], case["error_code"])
    assert (found.value, found.variant, found.reason, found.error_code) == (
        wanted.value,
        wanted.variant,
        wanted.reason,
        wanted.error_code,
    )
    assert type(found.value) is type(wanted.value)
    assert (found.error_message is not None) == (found.error_code is not None)


def test_generated_flags_resolve_as_flagd_core_resolves_them() -> None:
    pairs = int(os.environ.get("QUARTERDECK_FLAG_PAIRS", "6000"))
    seed = int(os.environ.get("QUARTERDECK_FLAG_SEED", "20260101"))
    asked, differences = 0, []
    for case in make_cases(seed, pairs):
        asked += len(case.contexts)
        differences += find_differences(case)
    print(f"{asked:,} pairs, seed {seed}: {len(differences)} differ")
    assert asked >= pairs
    assert differences == []


def test_generator_reaches_compiled_and_interpreted_targeting_and_every_reason() -> None:
    compiled, seen = [], set()
    for case in make_cases(3, 3_000):
        flags = FlagSet.from_definitions(case.document)
        for definition in case.document["flags"].values():
            if definition.get("targeting"):
                compiled.append(compile_targeting(case.key, definition["targeting"]) is not None)
        for context, default in zip(case.contexts, case.defaults, strict=True):
            found = flags.evaluate(case.key, default, context)
            seen.add(found.error_code or found.reason)
    assert 0.5 < sum(compiled) / len(compiled) < 0.95
    assert seen == {
        "STATIC", "TARGETING_MATCH", "DEFAULT", "DISABLED", "FLAG_NOT_FOUND", "PARSE_ERROR", "TYPE_MISMATCH", "GENERAL",
    }  # fmt: skip


@pytest.mark.parametrize(
    "definition",
    [
        boolean_flag(on=True, rollout_pct=20),
        boolean_flag(on=True, rollout_pct=20, bucket_by="account"),
        boolean_flag(on=True, rules=[TargetingRule("country", RuleOperator.ONE_OF, ["DE"], "off")]),
        boolean_flag(on=True, rollout_pct=5, rules=[TargetingRule("v", RuleOperator.VERSION_LESS, "2.0", "on")]),
        canary_flag(5),
        split_flag({"a": 1, "b": 1}, 50),
    ],
)
def test_common_shapes_are_compiled(definition: dict[str, Any]) -> None:
    assert compile_targeting("flag", definition["targeting"]) is not None


@pytest.mark.parametrize("logic", [{"map": [[1], {"var": ""}]}, {"nope": []}, {"var": "$flagd.timestamp"}, ["a"]])
def test_uncommon_shapes_are_left_to_flagd_core(logic: Any) -> None:
    assert compile_targeting("flag", logic) is None


# Buckets are a promise to users: these were computed once, and an upgrade that changes them moves everybody.
@pytest.mark.parametrize(("user", "enters_at_pct"), [("ann", 9.8), ("bob", 81.8), ("jürgen", 48.9), ("x" * 300, 23.9)])
def test_user_enters_a_rollout_where_it_always_did(user: str, enters_at_pct: float) -> None:
    context = {"targetingKey": user}
    steps = [flag_set(boolean_flag(on=True, rollout_pct=pct)) for pct in (enters_at_pct, round(enters_at_pct + 0.1, 1))]
    assert [flags.is_enabled("flag", user) for flags in steps] == [False, True]
    assert [flags.evaluate("flag", False, context).value for flags in steps] == [False, True]


@pytest.mark.parametrize("length", [1, 23, 24, 255, 256, 65_535, 65_536])
def test_key_of_any_length_lands_in_flagd_s_bucket(length: int) -> None:
    document = {"flags": {"flag": {**TEXT, "targeting": {"fractional": [["a", 1], ["b", 1], ["a", 1], ["b", 1]]}}}}
    core, flags = load_flagd(document), FlagSet.from_definitions(document)
    for letter in "abcdefgh":
        context = {"targetingKey": letter * length}
        assert our_answer(flags.evaluate("flag", "", context)) == flagd_answer(core, "flag", "", context)


def test_built_flags_name_the_hash_that_chose_their_users() -> None:
    for built in (boolean_flag(on=True), canary_flag(5), split_flag({"a": 1, "b": 1})):
        assert built["metadata"]["hash_version"] == HASH_VERSION == "fractional-v3"


def test_growing_a_rollout_moves_nobody_out() -> None:
    inside: set[str] = set()
    for pct in (0, 0.1, 1, 5, 20, 50, 99.9, 100):
        flags = flag_set(boolean_flag(on=True, rollout_pct=pct))
        now = {user for user in USERS if flags.is_enabled("flag", user)}
        assert inside <= now
        inside = now
    assert inside == set(USERS)


def test_rollout_of_a_fifth_reaches_a_fifth() -> None:
    flags = flag_set(boolean_flag(on=True, rollout_pct=20))
    # Four standard errors of a share of 0.2 among 5,000.
    assert abs(sum(flags.is_enabled("flag", user) for user in USERS) / len(USERS) - 0.2) < 0.0227


def test_two_flags_of_one_share_choose_different_users() -> None:
    document = {"flags": {key: boolean_flag(on=True, rollout_pct=50) for key in ("one", "two")}}
    flags = FlagSet.from_definitions(document)
    both = sum(flags.is_enabled("one", user) and flags.is_enabled("two", user) for user in USERS)
    assert abs(both / len(USERS) - 0.25) < 0.0245


def test_another_process_gives_every_user_the_same_answer() -> None:
    script = (
        "import json,sys; from quarterdeck.flags import FlagSet; d, users = json.load(sys.stdin);"
        "flags = FlagSet.from_definitions(d); print(json.dumps([flags.is_enabled('flag', user) for user in users]))"
    )
    document = {"flags": {"flag": boolean_flag(on=True, rollout_pct=20)}}
    answer = subprocess.run(
        [sys.executable, "-c", script],
        input=json.dumps([document, USERS[:500]]),
        capture_output=True,
        text=True,
        check=True,
        cwd=PROJECT,
        env={**os.environ, "PYTHONHASHSEED": "7"},
    )
    flags = FlagSet.from_definitions(document)
    assert json.loads(answer.stdout) == [flags.is_enabled("flag", user) for user in USERS[:500]]


def test_enrolling_more_users_moves_nobody_between_variants() -> None:
    few, many = (variants_of(split_flag({"a": 1, "b": 1, "c": 1}, pct)) for pct in (20, 60))
    assert all(many[user] == variant for user, variant in few.items() if variant != "off")
    assert sum(variant != "off" for variant in many.values()) > sum(variant != "off" for variant in few.values())


def test_who_is_enrolled_says_nothing_about_the_variant() -> None:
    found = list(variants_of(split_flag({"a": 1, "b": 1}, 10)).values())
    share = found.count("a") / (found.count("a") + found.count("b"))
    assert abs(share - 0.5) < 0.09


@pytest.mark.parametrize("grown", ["a", "b", "c"])
def test_growing_one_variant_moves_users_only_into_it(grown: str) -> None:
    before = split_flag({"a": 1, "b": 1, "c": 1}, 80)
    after = set_weights(before, {"a": 1, "b": 1, "c": 1, grown: 2})
    was, now = variants_of(before), variants_of(after)
    moved = {(was[user], now[user]) for user in USERS if was[user] != now[user]}
    assert moved == {(other, grown) for other in {"a", "b", "c"} - {grown}}
    assert read_weights(after) == {name: 50_000 if name == grown else 25_000 for name in ("a", "b", "c")}


def test_weights_that_come_back_bring_back_the_shares_and_stay_valid() -> None:
    definition = split_flag({"a": 50, "b": 50}, 100)
    for weights in ({"a": 80, "b": 20}, {"a": 1, "b": 0}, {"a": 50, "b": 50}):
        definition = set_weights(definition, weights)
        validate_definition("flag", definition)
    assert read_weights(definition) == {"a": 50_000, "b": 50_000}
    found = list(variants_of(definition).values())
    assert abs(found.count("a") / len(found) - 0.5) < 0.03


def test_rounded_weights_add_up() -> None:
    assert read_weights(split_flag({"a": 1, "b": 1, "c": 1})) == {"a": 33_334, "b": 33_333, "c": 33_333}


@pytest.mark.parametrize("pct", [0, 0.001, 5, 33.333, 99.999, 100])
@pytest.mark.parametrize(
    "built",
    [
        boolean_flag(on=True, rollout_pct=7),
        boolean_flag(on=True),
        boolean_flag(on=True, rules=[TargetingRule("country", RuleOperator.EQUALS, "DE", "off")]),
        boolean_flag(on=True, rollout_pct=50, bucket_by="account"),
        canary_flag(7),
        split_flag({"a": 1, "b": 2}, 7),
    ],
)
def test_rollout_that_is_set_is_the_rollout_that_is_read(built: dict[str, Any], pct: float) -> None:
    changed = set_rollout(built, pct)
    validate_definition("flag", changed)
    assert rollout_pct(changed) == pytest.approx(pct)
    assert read_rules(changed) == read_rules(built)


def test_rollout_there_and_back_keeps_its_bucketing_attribute() -> None:
    built = boolean_flag(on=True, rollout_pct=30, bucket_by="account")
    assert set_rollout(set_rollout(built, 100), 30) == built


def test_full_rollout_is_static_and_covers_users_without_a_key() -> None:
    found = flag_set(boolean_flag(on=True)).evaluate("flag", False, {})
    assert (found.value, found.reason) == (True, "STATIC")


def test_rollout_of_other_shapes_is_unknown_and_not_changed() -> None:
    plain = targeting({"fractional": [["a", 1], ["b", 1], ["a", 1]]})
    assert rollout_pct(plain) is None
    with pytest.raises(InvalidInput, match="targeting: this is not a plain rollout"):
        set_rollout(plain, 5)


@pytest.mark.parametrize("pct", [-1, 100.5, float("nan"), True, "20", None, 0.0005])
def test_rollout_outside_its_range_or_step_is_refused(pct: Any) -> None:
    with pytest.raises(InvalidInput, match=r"^rollout_pct"):
        boolean_flag(on=True, rollout_pct=pct)
    with pytest.raises(InvalidInput, match=r"^rollout_pct"):
        set_rollout(boolean_flag(on=True), pct)
    with pytest.raises(InvalidInput, match=r"^weight_pct"):
        canary_flag(pct)
    with pytest.raises(InvalidInput, match=r"^enrolled_pct"):
        split_flag({"a": 1}, pct)


@pytest.mark.parametrize("weight", [-1, float("inf"), True, "1", None])
def test_split_with_a_weight_that_is_none_is_refused(weight: Any) -> None:
    with pytest.raises(InvalidInput, match=r"^weights: the weight of 'b'"):
        split_flag({"a": 1, "b": weight})


def test_split_without_any_weight_is_refused() -> None:
    with pytest.raises(InvalidInput, match="all weights are zero"):
        split_flag({"a": 0, "b": 0})


def test_kill_switch_gives_every_caller_the_default_in_its_code() -> None:
    built = boolean_flag(on=True, rollout_pct=20)
    killed = flag_set(switch_flag(built, on=False))
    assert killed.evaluate("flag", True, {"targetingKey": "ann"}).reason == "DISABLED"
    assert not any(killed.is_enabled("flag", user) for user in USERS)
    assert killed.is_enabled("flag", "ann", default=True)
    assert switch_flag(switch_flag(built, on=False), on=True) == built


RULES = [
    TargetingRule("country", RuleOperator.EQUALS, "DE", "on"),
    TargetingRule("country", RuleOperator.DIFFERS, "DE", "off"),
    TargetingRule("age", RuleOperator.LESS, 18, "off"),
    TargetingRule("age", RuleOperator.AT_MOST, 18, "off"),
    TargetingRule("age", RuleOperator.MORE, 18, "on"),
    TargetingRule("age", RuleOperator.AT_LEAST, 18.5, "on"),
    TargetingRule("country", RuleOperator.ONE_OF, ["DE", "FR"], "on"),
    TargetingRule("country", RuleOperator.NONE_OF, ["DE", "FR"], "off"),
    TargetingRule("email", RuleOperator.CONTAINS, "@", "on"),
    TargetingRule("email", RuleOperator.STARTS_WITH, "ann", "on"),
    TargetingRule("user.email", RuleOperator.ENDS_WITH, ".com", "on"),
    TargetingRule("version", RuleOperator.VERSION_EQUALS, "1.0.0", "on"),
    TargetingRule("version", RuleOperator.VERSION_SAME_MAJOR, "1.0.0", "on"),
    TargetingRule("beta", RuleOperator.EQUALS, True, "on"),
]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: f"{rule.operator} {rule.value}")
def test_rule_that_is_set_is_the_rule_that_is_read(rule: TargetingRule) -> None:
    built = set_rules(boolean_flag(on=True, rollout_pct=10), [rule, RULES[0]])
    validate_definition("flag", built)
    assert read_rules(built) == (rule, RULES[0])
    assert set_rules(built, []) == boolean_flag(on=True, rollout_pct=10)


@pytest.mark.parametrize(
    ("rule", "fits", "does_not"),
    [
        (TargetingRule("x", RuleOperator.NONE_OF, ["DE"], "on"), "US", "DE"),
        (TargetingRule("x", RuleOperator.CONTAINS, "@", "on"), "a@b", "ab"),
        (TargetingRule("x", RuleOperator.VERSION_AT_LEAST, "2.0", "on"), "2.0.0", "1.9"),
        (TargetingRule("x", RuleOperator.MORE, 5, "on"), 6, 5),
        (TargetingRule("x", RuleOperator.ENDS_WITH, "z", "on"), "xyz", "zy"),
    ],
)
def test_rule_decides_ahead_of_the_rollout(rule: TargetingRule, fits: Any, does_not: Any) -> None:
    flags = flag_set(boolean_flag(on=True, rollout_pct=0, rules=[rule]))
    assert flags.is_enabled("flag", "ann", {"x": fits})
    assert not flags.is_enabled("flag", "ann", {"x": does_not})


@pytest.mark.parametrize(
    ("rule", "field"),
    [
        (TargetingRule("", RuleOperator.EQUALS, "DE", "on"), "rule.attribute"),
        (TargetingRule("country", "matches", "DE", "on"), "rule.operator"),
        (TargetingRule("country", RuleOperator.ONE_OF, "DE", "on"), "rule.value"),
        (TargetingRule("country", RuleOperator.STARTS_WITH, 5, "on"), "rule.value"),
        (TargetingRule("country", RuleOperator.EQUALS, {"a": 1}, "on"), "rule.value"),
        (TargetingRule("country", RuleOperator.EQUALS, "DE", "red"), "rule.serve"),
    ],
)
def test_rule_that_cannot_work_is_refused(rule: TargetingRule, field: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        boolean_flag(on=True, rules=[rule])
    assert refused.value.field == field


def test_hand_written_targeting_has_no_rules_to_edit() -> None:
    written = targeting({"if": [{"and": [True, {"var": "x"}]}, "a", "b"]})
    assert read_rules(written) is None
    with pytest.raises(InvalidInput, match="written by hand"):
        set_rules(written, [])


def test_a_broken_flag_fails_alone() -> None:
    document = {"flags": {"good": BOOLEAN | {"defaultVariant": "on"}, "bad": {"state": "ENABLED"}, "worse": 5}}
    flags = FlagSet.from_definitions(document)
    assert flags.is_enabled("good", "ann")
    assert [flags.evaluate(key, "code").error_code for key in ("bad", "worse")] == ["PARSE_ERROR", "PARSE_ERROR"]
    assert flags.problem("good") is None
    assert "variants" in flags.problem("bad")


@pytest.mark.parametrize(
    ("document", "field"),
    [
        ([], "definitions"),
        ({}, "flags"),
        ({"flags": []}, "flags"),
        ({"flags": {5: BOOLEAN}}, "flags"),
        ({"flags": {}, "$evaluators": ["x"]}, "$evaluators"),
        ({"flags": {}, "metadata": {"a": {}}}, "metadata.a"),
        ({"flags": {}, "metadata": {"": 1}}, "metadata"),
    ],
)
def test_document_of_the_wrong_shape_is_refused(document: Any, field: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        FlagSet.from_definitions(document)
    assert refused.value.field == field


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"flags": {"a": {}, "a": {}}}', "'a' appears twice"),
        ('{"flags": ', "not JSON"),
        ('{"flags": {"a": NaN}}', "NaN"),
        ("[" * 100_000, "nested too deeply"),
    ],
)
def test_text_that_is_no_clean_document_is_refused(text: str, words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        parse_document(text)


def test_what_was_given_or_returned_can_change_without_changing_the_set() -> None:
    given = {"flags": {"flag": {**TEXT, "variants": {"a": {"k": [1]}}}}}
    flags = FlagSet.from_definitions(given)
    given["flags"]["flag"]["variants"]["a"]["k"].append(2)
    flags.evaluate("flag", {}).value["k"].append(3)
    flags.definition("flag")["variants"].clear()
    flags.definitions()["flags"].clear()
    assert flags.evaluate("flag", {}).value == {"k": [1]}
    assert flags.definition("flag")["variants"] == {"a": {"k": [1]}}
    assert flags.keys() == ("flag",)


def test_definition_of_an_unknown_flag_is_not_found() -> None:
    with pytest.raises(NotFound, match="'nobody'"):
        flag_set(TEXT).definition("nobody")


def test_metadata_of_the_flag_wins_over_that_of_the_set() -> None:
    flags = flag_set({**TEXT, "metadata": {"owner": "search"}}, metadata={"owner": "platform", "region": "eu"})
    assert flags.evaluate("flag", "").flag_metadata == {"owner": "search", "region": "eu"}


def test_threads_that_ask_a_fresh_set_at_once_agree() -> None:
    document = {"flags": {"plain": boolean_flag(on=True, rollout_pct=50), "ruled": boolean_flag(on=True, rules=RULES)}}
    alone = FlagSet.from_definitions(document)
    wanted = [(alone.is_enabled(key, user), alone.resolve(key)) for key in document["flags"] for user in USERS[:200]]
    shared, start = FlagSet.from_definitions(document), Barrier(8)

    def ask() -> list[Any]:
        start.wait()
        return [
            (shared.is_enabled(key, user), shared.resolve(key)) for key in document["flags"] for user in USERS[:200]
        ]

    with ThreadPoolExecutor(8) as pool:
        assert [asked.result() for asked in [pool.submit(ask) for _ in range(8)]] == [wanted] * 8


class Hostile(dict[str, Any]):
    """A context that fails when it is read."""

    def get(self, *_: Any) -> Any:
        raise RuntimeError("no")

    def keys(self) -> Any:
        raise RuntimeError("no")

    __iter__ = keys


@pytest.mark.parametrize("context", [5, "text", ["a"], Hostile(a=1), {"country": object()}, {5: 5}])
@pytest.mark.parametrize("key", ["flag", "unknown", "", None, 5, ["a"]])
def test_evaluation_never_raises(key: Any, context: Any) -> None:
    flags = flag_set(boolean_flag(on=True, rollout_pct=0, rules=[TargetingRule("country", RuleOperator.MORE, 1, "on")]))
    assert flags.evaluate(key, False, context).value is False
    assert flags.is_enabled(key, "ann", context) is False
    assert flags.resolve(key, context).value in (None, False)


def test_context_that_is_no_mapping_is_an_invalid_context() -> None:
    found = flag_set(boolean_flag(on=True, rollout_pct=5)).evaluate("flag", False, "ann")
    assert (found.reason, found.error_code) == ("ERROR", "INVALID_CONTEXT")


def test_resolve_gives_a_value_of_whatever_type() -> None:
    assert flag_set(BOOLEAN).resolve("flag") == Evaluation(False, "off", "STATIC")
    assert flag_set(TEXT).resolve("flag") == Evaluation("A", "a", "STATIC")
    assert flag_set(TEXT).resolve("nobody").error_code == "FLAG_NOT_FOUND"


def test_built_flags_are_fit_to_be_saved() -> None:
    document = {
        "flags": {
            "plain": boolean_flag(on=False, description="Answers with citations", metadata={"owner": "search"}),
            "ruled": boolean_flag(on=True, rollout_pct=5, rules=RULES),
            "canary": canary_flag(25, bucket_by="account"),
            "test": split_flag({"control": 9, "new": 1}, 30, values={"control": 1, "new": 2, "off": 0}),
        }
    }
    validate_document(document)
    assert FlagSet.from_definitions(document).definitions() == document


@pytest.mark.parametrize(
    ("key", "words"),
    [("", "a name"), (None, "a name"), ("k" * 10_000, "10,000 characters"), ("a\nb", "control"), (" a", "a space")],
)
def test_key_that_cannot_name_a_flag_is_refused(key: Any, words: str) -> None:
    with pytest.raises(InvalidInput, match=f"^key: .*{words}"):
        validate_definition(key, TEXT)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"state": "PAUSED"}, "state"),
        ({"state": None}, "state"),
        ({"variants": {}}, "variants"),
        ({"variants": ["a"]}, "variants"),
        ({"variants": {"a": 1, "b": "x"}}, "variants"),
        ({"variants": {"a": 1, "b": True}}, "variants"),
        ({"variants": {"a": None}}, "variants"),
        ({"variants": {"": "A", "a": "A"}}, "variants"),
        ({"variants": {"a": float("nan")}}, "definition"),
        ({"variants": {"a": {1, 2}}}, "definition"),
        ({"variants": {"a": "\ud800"}}, "definition"),
        ({"defaultVariant": "red"}, "defaultVariant"),
        ({"defaultVariant": 5}, "defaultVariant"),
        ({"metadata": "x"}, "metadata"),
        ({"metadata": {"owner": {"team": "search"}}}, "metadata.owner"),
        ({"metadata": {"owner": None}}, "metadata.owner"),
        ({"metadata": {"hash_version": "fractional-v1"}}, "metadata.hash_version"),
        ({"metadata": {"hash_version": 3}}, "metadata.hash_version"),
        ({"description": "text"}, "description"),
        ({"targeting": ["a"]}, "targeting"),
    ],
)
def test_field_that_is_wrong_is_named(change: dict[str, Any], field: str) -> None:
    validate_definition("flag", TEXT)
    with pytest.raises(InvalidInput) as refused:
        validate_definition("flag", TEXT | change)
    assert refused.value.field == field


@pytest.mark.parametrize(
    ("logic", "words"),
    [
        ({"fractional": [["a", -1], ["b", 1]]}, "-1 is negative"),
        ({"fractional": [["a", 0], ["b", 0]]}, "all weights are zero"),
        ({"fractional": [["a", "5"]]}, "whole number"),
        ({"fractional": [["a", 0.5]]}, "500 of 100000"),
        ({"fractional": [["a", True]]}, "whole number"),
        ({"fractional": [["a", None]]}, "whole number"),
        ({"fractional": [["a", 2**31]]}, "add up to more"),
        ({"fractional": [["a", 1, 2]]}, "a bucket is"),
        ({"fractional": [{"var": "x"}]}, "at least one"),
        ({"fractional": [["red", 1]]}, "'red' is not among the variants"),
        ({"matches": ["a"]}, "unknown operator 'matches'"),
        ({"if": [{"and": [{"regex": 1}]}, "a"]}, "unknown operator 'regex'"),
        ({"if": [{"log": "x"}, "a"]}, "unknown operator 'log'"),
        ({"if": [{"==": [1]}, "a"]}, "takes 2 arguments, not 1"),
        ({"if": [{"sem_ver": [{"var": "v"}, "=>", "1"]}, "a"]}, "unknown comparison '=>'"),
        ({"if": [True, "a"], "or": [1]}, "one operator at a time"),
        ({"if": [True, "red"]}, "'red' is not among the variants"),
        ({"if": [True, "a", 7]}, "7 is not among the variants"),
        ({"==": [{"var": "x"}, 1]}, "put it in an `if`"),
        ({"if": [{"$ref": "nobody"}, "a"]}, "'nobody', which does not exist"),
    ],
)
def test_targeting_that_cannot_work_is_refused(logic: Any, words: str) -> None:
    with pytest.raises(InvalidInput, match=words) as refused:
        validate_definition("flag", targeting(logic))
    assert refused.value.field.startswith("targeting")


def test_references_in_a_circle_backwards_or_missing_are_refused() -> None:
    logic = targeting({"if": [{"$ref": "first"}, "a", "b"]})
    good = {"first": {"!": [{"$ref": "second"}]}, "second": {"var": "x"}}
    validate_definition("flag", logic, evaluators=good)
    circle = {"first": {"!": [{"$ref": "second"}]}, "second": {"!": [{"$ref": "first"}]}}
    with pytest.raises(InvalidInput, match="circle: first -> second -> first"):
        validate_definition("flag", logic, evaluators=circle)
    with pytest.raises(InvalidInput, match="circle: first -> first"):
        validate_definition("flag", logic, evaluators={"first": {"$ref": "first"}})
    with pytest.raises(InvalidInput, match="move 'second' after 'first'"):
        validate_definition("flag", logic, evaluators=dict(reversed(good.items())))


def test_references_resolve_as_far_as_flagd_resolves_them() -> None:
    logic = targeting({"if": [{"$ref": "first"}, "a", "b"]})
    good = {"first": {"!": [{"$ref": "second"}]}, "second": {"var": "x"}}
    assert flag_set(logic, **{"$evaluators": good}).evaluate("flag", "", {"x": True}).value == "B"
    backwards = dict(reversed(good.items()))
    assert flag_set(logic, **{"$evaluators": backwards}).evaluate("flag", "", {}).error_code == "PARSE_ERROR"


def test_evaluator_beyond_ascii_is_resolved() -> None:
    evaluators = {"is_munich": {"==": [{"var": "city"}, "München \\ Süd"]}}
    flags = flag_set(targeting({"if": [{"$ref": "is_munich"}, "b"]}), **{"$evaluators": evaluators})
    assert flags.evaluate("flag", "", {"city": "München \\ Süd"}).value == "B"


def test_targeting_too_deep_or_too_wide_is_refused() -> None:
    deep: Any = {"var": "x"}
    for _ in range(60):
        deep = {"!": [deep]}
    with pytest.raises(InvalidInput, match="too big"):
        validate_definition("flag", targeting({"if": [deep, "a"]}))
    doubling = {f"e{n}": {"and": [{"$ref": f"e{n + 1}"}, {"$ref": f"e{n + 1}"}]} for n in range(30)}
    with pytest.raises(InvalidInput, match="too big"):
        validate_definition(
            "flag", targeting({"if": [{"$ref": "e0"}, "a"]}), evaluators=doubling | {"e30": {"var": "x"}}
        )


@pytest.mark.deep
def test_references_that_grow_beyond_measure_are_refused_in_time() -> None:
    doubling: dict[str, Any] = {f"e{n}": [{"$ref": f"e{n + 1}"}, {"$ref": f"e{n + 1}"}] for n in range(40)}
    with pytest.raises(InvalidInput, match="add more than"):
        flag_set(targeting({"if": [{"$ref": "e0"}, "a"]}), **{"$evaluators": doubling})


def test_document_complaint_names_the_flag_and_the_field() -> None:
    with pytest.raises(InvalidInput) as refused:
        validate_document({"flags": {"good": TEXT, "bad": {**TEXT, "state": "off"}}})
    assert refused.value.field == "flags.bad.state"

"""The form of a flag: what it shows, what it makes of a definition, and that what it did not touch stays."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest

from core.audit.jsondiff import diff_states
from core.errors import InvalidInput
from core.flags.definition import FlagDefinition
from core.flags.edits import RuleText, apply_edit, parse_definition, parse_value, read_edit, write_value
from core.flags.impact import Impact, measure_impact, must_type_name
from core.flags.upkeep import Details, Use, find_staleness, read_details, set_details, split_tags
from quarterdeck.definitions import (
    boolean_flag,
    canary_flag,
    read_bucket_by,
    read_rules,
    read_weights,
    rollout_pct,
    set_bucket_by,
    split_flag,
    switch_flag,
)
from quarterdeck.flags import FlagSet
from quarterdeck.rules import RuleOperator, TargetingRule
from tests.flag_generator import make_cases

USERS = [f"user-{number}" for number in range(4_000)]
NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
RULED = boolean_flag(on=True, rollout_pct=20, rules=[TargetingRule("plan", RuleOperator.EQUALS, "pro", "on")])
SPLIT = split_flag({"a": 50, "b": 30, "c": 20}, 80)


def variants_of(definition, users=USERS):
    flags = FlagSet.from_definitions({"flags": {"flag": definition}})
    return [flags.resolve("flag", {"targetingKey": user}).variant for user in users]


def test_a_form_that_nobody_touched_leaves_every_generated_flag_letter_by_letter():
    for case in make_cases(11, 300):
        for definition in case.document["flags"].values():
            if isinstance(definition.get("variants"), dict) and "state" in definition:
                assert apply_edit(definition, read_edit(definition)) == definition


@pytest.mark.parametrize("definition", [RULED, SPLIT, canary_flag(5), boolean_flag(on=False, bucket_by="team")])
def test_a_form_that_nobody_touched_leaves_the_decks_own_flags_as_they_are(definition):
    assert apply_edit(definition, read_edit(definition)) == definition


def test_a_rollout_goes_down_to_a_thousandth_of_a_percent():
    wanted = apply_edit(RULED, replace(read_edit(RULED), rollout_pct=0.001))
    assert rollout_pct(wanted) == 0.001
    with pytest.raises(InvalidInput, match=r"finer than the smallest step, 0\.001"):
        apply_edit(RULED, replace(read_edit(RULED), rollout_pct=0.0001))


def test_growing_one_variant_in_the_form_moves_nobody_between_the_others():
    wanted = apply_edit(SPLIT, replace(read_edit(SPLIT), weights=(("a", 70.0), ("b", 18.0), ("c", 12.0))))
    moved = {(was, now) for was, now in zip(variants_of(SPLIT), variants_of(wanted), strict=True) if was != now}
    assert moved == {("b", "a"), ("c", "a")}
    assert read_weights(wanted) == {"a": 70_000, "b": 18_000, "c": 12_000}


def test_a_new_variant_takes_its_share_from_the_others_and_moves_nobody_between_them():
    weights = (("a", 45.0), ("b", 27.0), ("c", 18.0), ("d", 10.0))
    wanted = apply_edit(SPLIT, replace(read_edit(SPLIT), weights=weights))
    moved = {(was, now) for was, now in zip(variants_of(SPLIT), variants_of(wanted), strict=True) if was != now}
    assert moved == {("a", "d"), ("b", "d"), ("c", "d")}
    assert wanted["variants"]["d"] == "d"


@pytest.mark.parametrize(
    ("weights", "field"),
    [
        ((("a", -1.0), ("b", 1.0)), "'a' is negative"),
        ((("a", float("nan")), ("b", 1.0)), "'a' is a number"),
        ((("a", 0.0), ("b", 0.0), ("c", 0.0)), "all weights are zero"),
    ],
)
def test_weights_that_cannot_be_are_refused_with_the_fields_name(weights, field):
    with pytest.raises(InvalidInput, match=f"^weights: .*{field}"):
        apply_edit(SPLIT, replace(read_edit(SPLIT), weights=weights))


def test_rules_keep_their_order_and_their_types():
    rules = (
        RuleText("country", RuleOperator.ONE_OF, "DE, AT", "off"),
        RuleText("age", RuleOperator.AT_LEAST, "18", "on"),
        RuleText("zip", RuleOperator.EQUALS, '"17"', "on"),
        RuleText("beta", RuleOperator.EQUALS, "true", "on"),
        RuleText("version", RuleOperator.VERSION_AT_LEAST, "2.1.0", "on"),
    )
    wanted = apply_edit(RULED, replace(read_edit(RULED), rules=rules))
    assert [rule.value for rule in read_rules(wanted)] == [["DE", "AT"], 18, "17", True, "2.1.0"]
    assert read_edit(wanted).rules == rules


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (RuleText("", RuleOperator.EQUALS, "x", "on"), "rule.attribute"),
        (RuleText("plan", RuleOperator.EQUALS, " ", "on"), "rule 1: give a value"),
        (RuleText("plan", RuleOperator.ONE_OF, " , ", "on"), "rule 1: give a value"),
        (RuleText("plan", RuleOperator.EQUALS, "x", "maybe"), "rule.serve"),
        (RuleText("plan", "is like", "x", "on"), "rule.operator: unknown operator"),
        (RuleText("plan", RuleOperator.ONE_OF, "[1", "on"), "rule.value: not a list"),
    ],
)
def test_a_rule_that_cannot_work_is_refused_with_the_fields_name(rule, message):
    with pytest.raises(InvalidInput, match=message):
        apply_edit(RULED, replace(read_edit(RULED), rules=(rule,)))


@pytest.mark.parametrize("value", ["DE", "17", "a, b", "true", "", " x", 17, 1.5, True, ["a", "b"], ["a, b", 1], ['"']])
def test_what_is_written_for_a_person_is_read_back_the_same(value):
    operator = RuleOperator.ONE_OF if isinstance(value, list) else RuleOperator.EQUALS
    assert parse_value(write_value(value), operator) == value


def test_sticking_to_another_attribute_puts_users_into_new_buckets_and_changes_no_share():
    for definition in (boolean_flag(on=True, rollout_pct=20), canary_flag(20), SPLIT):
        changed = set_bucket_by(definition, "team")
        assert (read_bucket_by(definition), read_bucket_by(changed)) == ("targetingKey", "team")
        assert rollout_pct(changed) == rollout_pct(definition)
        assert (
            set_bucket_by(changed, "targetingKey")["targeting"]
            == set_bucket_by(definition, "targetingKey")["targeting"]
        )
        flags = FlagSet.from_definitions({"flags": {"flag": changed}})
        first = {flags.resolve("flag", {"targetingKey": user, "team": "red"}).variant for user in USERS[:200]}
        assert len(first) == 1
    assert set_bucket_by(canary_flag(20), "team")["targeting"] == canary_flag(20, bucket_by="team")["targeting"]
    assert (
        set_bucket_by(SPLIT, "team")["targeting"]
        == split_flag({"a": 50, "b": 30, "c": 20}, 80, bucket_by="team")["targeting"]
    )


def test_a_definition_typed_as_json_is_read_as_a_saved_one_would_be():
    assert parse_definition("flag", '{"state": "ENABLED", "variants": {"a": 1}}')["variants"] == {"a": 1}
    for text, field in (
        ("", "definition"),
        ('{"state": "ENABLED", "state": "DISABLED", "variants": {"a": 1}}', "'state' appears twice"),
        ('{"state": "MAYBE", "variants": {"a": 1}}', "^state"),
        ('{}}, "other": {', "definitions: not JSON|state"),
    ):
        with pytest.raises(InvalidInput, match=field):
            parse_definition("flag", text)


def test_impact_is_the_growth_of_the_rollout_and_a_switched_off_flag_answers_the_usual_default():
    five, twenty = boolean_flag(on=True, rollout_pct=5), boolean_flag(on=True, rollout_pct=20)
    off = switch_flag(twenty, on=False)
    assert measure_impact("flag", five, twenty, USERS).share == pytest.approx(0.15, abs=0.023)
    assert measure_impact("flag", twenty, off, USERS).share == pytest.approx(0.20, abs=0.026)
    assert measure_impact("flag", twenty, None, USERS) == measure_impact("flag", None, twenty, USERS)
    assert measure_impact("flag", twenty, twenty, USERS).changed == 0
    assert measure_impact("flag", canary_flag(100), switch_flag(canary_flag(100), on=False), USERS).share == 1
    assert measure_impact("flag", SPLIT, switch_flag(SPLIT, on=False), USERS).share == pytest.approx(0.8, abs=0.026)


def test_without_known_users_made_up_ones_are_asked_and_the_impact_says_so():
    impact = measure_impact("flag", boolean_flag(on=False), boolean_flag(on=True), ())
    assert (impact.asked, impact.share, impact.are_made_up) == (2_000, 1.0, True)


@pytest.mark.parametrize(
    ("environment", "changed", "must"),
    [("production", 51, True), ("production", 50, False), ("staging", 100, False)],
)
def test_the_name_is_typed_where_more_than_half_of_productions_users_get_another_answer(environment, changed, must):
    assert must_type_name(environment, Impact(100, changed)) is must


def test_a_diff_shows_the_changed_lines_and_not_two_walls():
    diff = diff_states(RULED, switch_flag(RULED, on=False))
    assert [line for line in diff.splitlines() if line[0] in "+-"] == [
        '-  "state": "ENABLED",',
        '+  "state": "DISABLED",',
    ]
    assert len(diff.splitlines()) <= 7
    rolled = diff_states(RULED, apply_edit(RULED, replace(read_edit(RULED), rollout_pct=30)))
    assert [line.strip() for line in rolled.splitlines() if line[0] in "+-"] == [
        '-      {"fractional": [["on", 20000], ["off", 80000]]}',
        '+      {"fractional": [["on", 30000], ["off", 70000]]}',
    ]
    assert diff_states(RULED, dict(reversed(RULED.items()))) == ""
    assert diff_states(None, {"a": 1}) == '+{\n+  "a": 1\n+}'
    assert diff_states({"a": 1}, None) == '-{\n-  "a": 1\n-}'


def test_details_are_kept_in_the_metadata_and_all_else_there_stays():
    details = Details("what for", "ada", ("rag", "search"), date(2026, 7, 1))
    changed = set_details(RULED, details)
    assert read_details(FlagDefinition(changed)) == details
    assert changed["metadata"]["hash_version"] == RULED["metadata"]["hash_version"]
    assert set_details(changed, Details()) == RULED
    assert split_tags(" b, a ,,b") == ("a", "b")
    with pytest.raises(InvalidInput, match="^owner: "):
        set_details(RULED, Details(owner="x" * 2_001))


FULL = boolean_flag(on=True)


@pytest.mark.parametrize(
    ("definition", "age_days", "use", "reasons"),
    [
        (FULL, 30, Use(NOW, True), ("at 100% for 30 days",)),
        (FULL, 29, Use(NOW, True), ()),
        (boolean_flag(on=False), 300, Use(NOW, True), ()),
        (boolean_flag(on=True, rollout_pct=99), 300, Use(NOW, True), ()),
        (RULED, 300, Use(NOW - timedelta(days=14), True), ("not evaluated for 14 days",)),
        (RULED, 13, Use(None, True), ()),
        (RULED, 14, Use(None, True), ("not evaluated for 14 days",)),
        (RULED, 300, Use(None, False), ()),
        (set_details(RULED, Details(expires=date(2026, 5, 31))), 1, Use(), ("expired on 31 May 2026",)),
        (set_details(RULED, Details(expires=date(2026, 6, 1))), 1, Use(), ()),
        (boolean_flag(on=True, metadata={"permanent": True}), 300, Use(None, True), ()),
    ],
)
def test_a_flag_is_stale_when_it_has_outlived_its_purpose(definition, age_days, use, reasons):
    said = FlagDefinition(definition)
    assert find_staleness(said, updated=NOW - timedelta(days=age_days), use=use, now=NOW) == reasons

"""Flags in sentences, and what a user gets from all of them."""

from typing import Any

import pytest

from core.flags.answers import answer_all
from core.flags.sentences import describe_rules, describe_test, list_attributes
from quarterdeck.definitions import boolean_flag, canary_flag, split_flag
from quarterdeck.rules import RuleOperator, TargetingRule

GERMANS = TargetingRule("country", RuleOperator.EQUALS, "DE", "on")
OLD_OR_NEW = {"or": [{">": [{"var": "age"}, 3]}, {"<": [{"var": "age"}, 1]}]}
STAFF = TargetingRule("email", RuleOperator.ENDS_WITH, "@example.org", "off")


@pytest.mark.parametrize(
    ("definition", "sentences"),
    [
        (
            boolean_flag(on=True, rollout_pct=20, rules=[GERMANS, STAFF]),
            (
                "For users whose country is DE: on",
                "For users whose email ends with @example.org: off",
                "20% of users: on, by user id",
                "80% of users: off, by user id",
            ),
        ),
        (boolean_flag(on=True, rollout_pct=20), ("20% of users: on, by user id", "80% of users: off, by user id")),
        (boolean_flag(on=True), ("Everyone: on",)),
        (
            boolean_flag(on=True, rules=[STAFF]),
            ("For users whose email ends with @example.org: off", "Everyone else: on"),
        ),
        (
            boolean_flag(on=True, rollout_pct=12.345, bucket_by="tenant"),
            ("12.345% of users: on, by tenant", "87.655% of users: off, by tenant"),
        ),
        (canary_flag(5), ("5% of users: green, by user id", "95% of users: blue, by user id")),
        (
            split_flag({"control": 1, "treatment": 3}, 40),
            (
                "40% of users: split into 25% control, 75% treatment, by user id",
                "60% of users: off, by user id",
            ),
        ),
        (split_flag({"a": 1, "b": 1}), ("Everyone: split into 50% a, 50% b, by user id",)),
        (
            boolean_flag(on=False),
            ("The flag is off: everyone gets the default in the caller's code.", "When it is on: Everyone: on"),
        ),
    ],
)  # fmt: skip
def test_a_flag_reads_as_sentences_in_the_order_of_evaluation(
    definition: dict[str, Any], sentences: tuple[str, ...]
) -> None:
    assert describe_rules(definition) == sentences


@pytest.mark.parametrize(
    ("test", "said"),
    [
        ({"in": [{"var": "country"}, ["DE", "AT"]]}, "whose country is one of DE, AT"),
        ({"!": [{"in": [{"var": "country"}, ["DE"]]}]}, "whose country is none of DE"),
        ({"in": ["beta", {"var": "groups"}]}, "whose groups contains beta"),
        ({"sem_ver": [{"var": "app"}, ">=", "2.1.0"]}, "whose app is a version from 2.1.0"),
        ({"==": [{"var": "targetingKey"}, "u1"]}, "whose id is u1"),
        ({"==": [{"var": "note"}, ""]}, 'whose note is ""'),
        ({">=": [{"var": "$flagd.timestamp"}, 1_798_797_600]}, "who ask from 1 Jan 2027, 10:00 UTC"),
        (
            {"and": [{"==": [{"var": "plan"}, "pro"]}, OLD_OR_NEW]},
            "whose plan is pro and (whose age is more than 3 or whose age is less than 1)",
        ),
        ({"!": [{"==": [{"var": "plan"}, "pro"]}]}, "other than those whose plan is pro"),
        ({"some": [{"var": "tags"}, True]}, 'who meet {"some": [{"var": "tags"}, true]}'),
    ],
)  # fmt: skip
def test_conditions_have_words_and_those_without_are_shown_as_they_are(test: Any, said: str) -> None:
    assert describe_test(test) == said


def test_every_operator_has_words() -> None:
    for operator in RuleOperator:
        value: Any = ["1.0.0"] if operator in (RuleOperator.ONE_OF, RuleOperator.NONE_OF) else "1.0.0"
        rule = TargetingRule("app", operator, value, "on")
        first = describe_rules(boolean_flag(on=True, rules=[rule]))[0]
        assert first.startswith("For users whose app ") and first.endswith(" 1.0.0: on"), operator


def test_targeting_written_by_hand_is_followed_where_it_has_words() -> None:
    by_hand = {
        "state": "ENABLED", "variants": {"a": 1, "b": 2}, "defaultVariant": "b",
        "targeting": {"if": [{"==": [{"var": "plan"}, "pro"]}, {"fractional": [["a", 1], ["b", 3]]}]},
    }  # fmt: skip
    assert describe_rules(by_hand) == ("For users whose plan is pro: 25% a, 75% b", "Everyone else: b")


def test_the_attributes_of_a_flag_are_those_its_targeting_asks_for() -> None:
    flag = boolean_flag(on=True, rollout_pct=20, rules=[GERMANS, STAFF], bucket_by="tenant")
    assert list_attributes(flag, None) == ("country", "email", "tenant")
    assert list_attributes(boolean_flag(on=True, rollout_pct=20)) == ()


def test_a_user_is_told_what_every_flag_gives_and_why() -> None:
    flags = {
        "by_rule": boolean_flag(on=True, rollout_pct=0, rules=[STAFF, GERMANS]),
        "killed": boolean_flag(on=False),
        "plain": boolean_flag(on=True),
        "rolling": boolean_flag(on=True, rollout_pct=100 - 0.001),
    }
    by_rule, killed, plain, rolling = answer_all(flags, {"targetingKey": "u1", "country": "DE"})
    assert (by_rule.key, by_rule.variant, by_rule.value) == ("by_rule", "on", True)
    assert by_rule.why == 'Rule 2, country == "DE", fits.'
    assert (killed.variant, killed.value) == (None, None)
    assert killed.why == "The flag is switched off: every caller gets the default in its code."
    assert (plain.variant, plain.why) == ("on", 'The default variant is "on", with the value true.')
    assert rolling.variant == "on" and 'falls to "on", 0% to 99.999%.' in rolling.why

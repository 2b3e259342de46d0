"""Previews of a flag: why a user gets an answer, and how many users a change reaches."""

from typing import Any

import pytest

from quarterdeck.definitions import boolean_flag, split_flag, switch_flag
from quarterdeck.preview import explain
from quarterdeck.rules import RuleOperator, TargetingRule
from tests.flag_generator import make_cases

RULED = boolean_flag(
    on=True,
    rollout_pct=20,
    rules=[
        TargetingRule("country", RuleOperator.ONE_OF, ["DE"], "off"),
        TargetingRule("plan", RuleOperator.EQUALS, "pro", "on"),
    ],
)


def test_rule_that_fits_is_named_after_those_that_do_not() -> None:
    told = explain("flag", RULED, {"targetingKey": "ann", "plan": "pro"})
    assert told.evaluation.value is True
    assert told.steps == (
        'Rule 1, country in ["DE"], does not fit.',
        'Rule 2, plan == "pro", fits.',
        'Targeting\'s result is "on", with the value true.',
    )


def test_bucket_is_told_where_no_rule_fits() -> None:
    told = explain("flag", RULED, {"targetingKey": "ann"})
    assert told.steps[2:] == (
        'Bucket 9.880% falls to "on", 0% to 20%.',
        'Targeting\'s result is "on", with the value true.',
    )


def test_both_buckets_of_an_experiment_are_told() -> None:
    told = explain("flag", split_flag({"a": 1, "b": 1}, 50), {"targetingKey": "ann"})
    assert told.steps[0] == "Bucket 9.880% falls to an inner split, 0% to 50%."
    assert f'falls to "{told.evaluation.variant}"' in told.steps[1]


@pytest.mark.parametrize(
    ("definition", "context", "words"),
    [
        (switch_flag(RULED, on=False), {"targetingKey": "ann"}, "switched off"),
        (boolean_flag(on=True, rollout_pct=5), {}, "nothing to choose a bucket by"),
        (boolean_flag(on=True), {}, 'The default variant is "on"'),
        ({"state": "PAUSED", "variants": {"a": 1}}, {}, "'state'"),
        ({**boolean_flag(on=True), "targeting": {"nope": []}}, {}, "Unrecognized operation"),
    ],
)
def test_answer_without_a_match_is_told_too(definition: dict[str, Any], context: dict[str, Any], words: str) -> None:
    assert any(words in step for step in explain("flag", definition, context).steps)


def test_every_generated_flag_has_a_story_and_the_answer_of_the_rule() -> None:
    for case in make_cases(5, 1_500):
        ((key, definition),) = case.document["flags"].items()
        for context in case.contexts:
            told = explain(key, definition, context or {})
            assert told.steps
            falls = [step for step in told.steps if " falls to " in step]
            if falls and falls[-1] == told.steps[-2] and told.evaluation.reason == "TARGETING_MATCH":
                # Names like 1 or true are written as JSON in the story and as text in the answer.
                assert f'falls to "{told.evaluation.variant}"'.replace('"', "") in falls[-1].replace('"', "")

"""The view of a definition answers for every kind of flag, changes nothing, and does its work once."""

import pickle
from typing import Any

import pytest

from core.errors import InvalidInput
from core.flags import definition as module
from core.flags.canary_plan import read_plan
from core.flags.definition import FlagDefinition, set_metadata
from quarterdeck.definitions import boolean_flag, canary_flag, split_flag, switch_flag
from quarterdeck.rules import RuleOperator, TargetingRule

PLANNED = {"canary_steps": "5% for 24h, 100%"}
RULE = TargetingRule("plan", RuleOperator.EQUALS, "pro", "on")
BY_HAND = {
    "state": "ENABLED", "variants": {"a": 1, "b": 2, "c": 3}, "defaultVariant": "c",
    "targeting": {"if": [{"!": [{"var": "mail"}]}, "a", "b"]},
}  # fmt: skip


@pytest.mark.parametrize(
    ("definition", "is_on", "rollout_pct", "share_pct", "is_partly_on"),
    [
        (boolean_flag(on=True), True, 100, 100, False),
        (boolean_flag(on=True, rollout_pct=20), True, 20, 20, True),
        (boolean_flag(on=False, rollout_pct=20), False, 20, 0, False),
        (canary_flag(5), True, 5, 5, True),
        (split_flag({"a": 3, "b": 1}, 40), True, 40, 40, True),
        (BY_HAND, True, None, None, False),
        (switch_flag(BY_HAND, on=False), False, None, 0, False),
        ({}, False, None, 0, False),
    ],
)
def test_a_flags_share_is_its_rollout_while_it_is_on(
    definition: dict[str, Any], is_on: bool, rollout_pct: float | None, share_pct: float | None, is_partly_on: bool
) -> None:
    said = FlagDefinition(definition)
    assert said.is_on is is_on
    assert (said.rollout_pct, said.share_pct, said.is_partly_on) == (rollout_pct, share_pct, is_partly_on)


def test_rules_weights_and_stickiness_are_told_where_there_are_any() -> None:
    ruled = FlagDefinition(boolean_flag(on=True, rollout_pct=20, rules=[RULE], bucket_by="team"))
    assert (ruled.rules, ruled.bucket_by, ruled.weights, ruled.default_variant) == ((RULE,), "team", {}, "off")
    split = FlagDefinition(split_flag({"a": 3, "b": 1}, 40))
    assert (split.rules, split.bucket_by, split.weights) == ((), "targetingKey", {"a": 75.0, "b": 25.0})
    by_hand = FlagDefinition(BY_HAND)
    assert (by_hand.rules, by_hand.bucket_by, by_hand.weights) == (None, None, {})
    nothing = FlagDefinition({})
    assert (nothing.variants, nothing.rules, nothing.bucket_by, nothing.weights, nothing.plan) == (
        {},
        (),
        None,
        {},
        None,
    )


def test_what_the_metadata_says_is_read_from_it_alone() -> None:
    metadata = {"prompt_version": "v3", "experiment": "longer answers"}
    said = FlagDefinition(boolean_flag(on=True, metadata=metadata))
    assert (said.prompt_version, said.experiment) == ("v3", "longer answers")
    silent = FlagDefinition({**BY_HAND, "metadata": None})
    assert (silent.metadata, silent.prompt_version, silent.experiment) == ({}, None, None)


def test_two_definitions_serve_alike_whatever_is_written_about_them() -> None:
    flag = boolean_flag(on=True, rollout_pct=20)
    assert FlagDefinition(flag).served == FlagDefinition(set_metadata(flag, {"owner": "ada"})).served
    assert FlagDefinition(flag).served != FlagDefinition(switch_flag(flag, on=False)).served


def test_an_entry_of_the_metadata_is_set_or_taken_out_and_all_else_stays() -> None:
    flag = {**BY_HAND, "metadata": {"team": "search", "owner": "ada"}, "$comment": "unknown to us"}
    assert set_metadata(flag, {"owner": None, "tags": "rag"}) == {**flag, "metadata": {"team": "search", "tags": "rag"}}
    assert flag["metadata"] == {"team": "search", "owner": "ada"}


def test_nobody_changes_a_definition_through_its_view() -> None:
    said = FlagDefinition(canary_flag(5))
    for part in (said.metadata, said.variants):
        with pytest.raises(TypeError, match="does not support item assignment"):
            part["green"] = "red"  # type: ignore[index]


def test_the_plan_is_read_once_and_a_wrong_one_whenever_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    read = []
    monkeypatch.setattr(module, "read_plan", lambda *given, **named: read.append(1) or read_plan(*given, **named))
    said = FlagDefinition(canary_flag(5, metadata=PLANNED))
    assert said.plan is said.plan
    assert len(read) == 1
    wrong = FlagDefinition(canary_flag(5, metadata={"canary_steps": "5%"}))
    for _ in range(2):
        with pytest.raises(InvalidInput, match=r"metadata\.canary_steps"):
            wrong.plan  # noqa: B018


def test_a_view_goes_through_a_cache_that_pickles_it() -> None:
    said = FlagDefinition(canary_flag(5, metadata=PLANNED))
    assert said.plan is not None
    assert pickle.loads(pickle.dumps(said)) == said

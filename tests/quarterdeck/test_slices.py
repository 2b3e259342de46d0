"""Slices in front of targeting: they survive every edit, mean the same to flagd, and come off without a trace."""

import pytest

from core.flags.fleet import make_fleet_document
from quarterdeck.definitions import (
    boolean_flag,
    canary_flag,
    counts_reports_only,
    experiment_variants,
    read_rules,
    rollout_pct,
    serve_to_all,
    set_bucket_by,
    set_hash_version,
    set_rollout,
    set_rules,
    set_weights,
    split_flag,
)
from quarterdeck.errors import InvalidInput
from quarterdeck.flags import FlagSet
from quarterdeck.hashing import CBOR, HASH_VERSIONS, interpret
from quarterdeck.rules import RuleOperator, TargetingRule
from quarterdeck.slices import Slice, find_outside, read_slices, set_slices
from quarterdeck.validation import validate_definition

FIRST, SECOND = Slice("layer/answers", ((0, 20_000), (50_000, 70_000))), Slice("holdout/2026q4", ((0, 95_000),))
RULE = TargetingRule("plan", RuleOperator.EQUALS, "beta", "on")
KINDS = {
    "rollout": boolean_flag(on=True, rollout_pct=50),
    "full": boolean_flag(on=True),
    "canary": canary_flag(20),
    "split": split_flag({"a": 1, "b": 1}),
    "small split": split_flag({"a": 1, "b": 1}, 30, outside="a"),
    "by account": boolean_flag(on=True, rollout_pct=50, bucket_by="account"),
    "with rules": set_rules(boolean_flag(on=True, rollout_pct=50), [RULE]),
    "old hash": set_hash_version(canary_flag(20), "fractional-v2"),
}
USERS = [f"user-{number}" for number in range(2_000)]


@pytest.mark.parametrize("kind", KINDS)
def test_slices_are_read_as_they_were_set_and_leave_no_trace(kind: str) -> None:
    sliced = set_slices(KINDS[kind], [FIRST, SECOND])
    validate_definition("flag", sliced)
    assert read_slices(sliced) == (FIRST, SECOND)
    assert set_slices(sliced, [SECOND]) == set_slices(KINDS[kind], [SECOND])
    assert set_slices(sliced, []) == KINDS[kind]
    assert rollout_pct(sliced) == rollout_pct(KINDS[kind])
    assert read_rules(sliced) == read_rules(KINDS[kind])
    assert find_outside(KINDS[kind]) is None


@pytest.mark.parametrize("kind", KINDS)
def test_flagds_interpreter_gives_every_user_the_same(kind: str) -> None:
    sliced = set_slices(KINDS[kind], [FIRST, SECOND])
    hash_version = sliced["metadata"].get("hash_version", CBOR)
    flags = FlagSet.from_definitions({"flags": {"flag": sliced}})
    for number, user in enumerate([*USERS, "", "用户-7", None]):
        context = {"targetingKey": user, "plan": "beta" if number % 3 else "free", "account": number}
        expected = interpret("flag", sliced["targeting"], context, hash_version=hash_version)
        found = flags.resolve("flag", context).variant
        assert found == (sliced["defaultVariant"] if expected is None else expected), user


@pytest.mark.parametrize("kind", KINDS)
def test_users_inside_get_what_they_got_and_the_others_the_variant_outside(kind: str) -> None:
    sliced = set_slices(KINDS[kind], [FIRST, SECOND])
    before, after = (FlagSet.from_definitions({"flags": {"flag": each}}) for each in (KINDS[kind], sliced))
    outside, moved = find_outside(sliced), 0
    for user in USERS:
        context = {"targetingKey": user, "account": user}
        was, found = before.resolve("flag", context), after.resolve("flag", context)
        assert found.variant in (was.variant, outside)
        moved += found.variant == outside
    assert moved / len(USERS) == pytest.approx(1 - 0.4 * 0.95, abs=0.25 if kind == "small split" else 0.04)


def test_forms_edit_what_stands_behind_the_slices() -> None:
    sliced = set_slices(KINDS["rollout"], [FIRST])
    for changed in (
        set_rollout(sliced, 70), set_rollout(sliced, 100), set_rules(sliced, [RULE]), set_bucket_by(sliced, "account"),
        serve_to_all(sliced, "on"), set_weights(set_slices(KINDS["split"], [FIRST]), {"a": 3, "b": 1}),
    ):  # fmt: skip
        assert read_slices(changed) == (FIRST,)
        validate_definition("flag", changed)
    assert read_rules(set_rules(sliced, [RULE])) == (RULE,)


def test_nobody_outside_is_recorded_as_exposed() -> None:
    for kind in ("rollout", "canary", "split"):
        told = {**KINDS[kind], "metadata": {**KINDS[kind]["metadata"], "experiment": "a test"}}
        assert experiment_variants(set_slices(told, [FIRST])) == experiment_variants(told)
    assert not counts_reports_only(KINDS["split"])


def test_slices_of_one_space_overlap_where_their_ranges_do() -> None:
    assert FIRST.overlaps(Slice("layer/answers", ((60_000, 80_000),)))
    assert not FIRST.overlaps(Slice("layer/answers", ((20_000, 50_000), (70_000, 100_000))))
    assert not FIRST.overlaps(Slice("layer/other", ((0, 100_000),)))
    assert FIRST.share == 0.4


def test_a_variant_called_outside_and_a_missing_default_are_told() -> None:
    text = {"state": "ENABLED", "variants": {"x": "x", "y": "y", "outside": "z"}, "defaultVariant": "x"}
    with pytest.raises(InvalidInput, match="^variants: rename 'outside'"):
        set_slices(text, [FIRST])
    with pytest.raises(InvalidInput, match="^defaultVariant: is missing"):
        set_slices({"state": "ENABLED", "variants": {"x": "x", "y": "y"}}, [FIRST])


@pytest.mark.parametrize("hash_version", HASH_VERSIONS)
def test_fleets_of_either_hash_get_flags_with_slices(hash_version: str) -> None:
    flag = set_slices(set_hash_version(KINDS["canary"], hash_version), [FIRST])
    assert set(make_fleet_document({"flag": flag}, hash_version).flags) == {"flag"}

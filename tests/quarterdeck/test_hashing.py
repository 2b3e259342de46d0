"""Both of flagd's hashes: who lands where is what flagd's own evaluators said, and every way to ask agrees."""

from typing import Any

import pytest

from core.flags.impact import measure_impact
from quarterdeck.buckets import check_bucketing, find_bucketing_problem
from quarterdeck.definitions import boolean_flag, canary_flag, set_hash_version, split_flag
from quarterdeck.errors import InvalidInput
from quarterdeck.flags import FlagSet
from quarterdeck.hashing import CBOR, HASH_VERSIONS, STRING, fractional_by_string, interpret
from quarterdeck.preview import explain
from tests.flag_generator import make_cases

CONTEXTS = [
    {"targetingKey": f"user-{n}", "account": n * 37, "email": f"user-{n}@example.com", "beta": n % 3 == 0}
    for n in range(60)
]
BY_ACCOUNT = {"if": [{"var": "account"}, {"cat": [{"var": "$flagd.flagKey"}, "/", {"var": "account"}]}, None]}
INNER = {"fractional": [{"cat": [{"var": "$flagd.flagKey"}, "/variant/", {"var": "targetingKey"}]},
                        ["on", 1], ["off", 2], ["c", 1]]}  # fmt: skip
# What openfeature-flagd-core 1.0.0 (Python) and @openfeature/flagd-core 4.0.1 (JavaScript) both answered.
BY_STRING = [
    ("rollout", [["on", 20000], ["off", 80000]], "011000011110001010000100000000010010000010000011010000000100"),
    ("by", [BY_ACCOUNT, ["on", 50], ["off", 50]], "-11111000011101100110011000011001110011001000100110001101110"),
    ("nested", [[INNER, 60000], ["c", -5], ["off", 40000]],
     "00010010100c000001000010010c00100000c0000c01c00000000c100100"),
    ("weights", [{"var": "email"}, ["on", {"if": [{"var": "beta"}, 90, 10]}], ["off"], ["c", 50]],
     "1ccccc11c1c11cc1cccc11cc11cccc1c01ccccc1cc1cccccccc1ccccc1cc"),
]  # fmt: skip


def flag(arguments: list[Any], hash_version: str) -> dict[str, Any]:
    return {"state": "ENABLED", "variants": {"on": "1", "off": "0", "c": "c"},
            "targeting": {"fractional": arguments}, "metadata": {"hash_version": hash_version}}  # fmt: skip


@pytest.mark.parametrize(("key", "arguments", "wanted"), BY_STRING, ids=[case[0] for case in BY_STRING])
def test_the_older_hash_puts_users_where_the_other_sdks_do(key, arguments, wanted):
    flags = FlagSet.from_definitions({"flags": {key: flag(arguments, STRING)}})
    assert "".join(flags.evaluate(key, "-", context).value for context in CONTEXTS) == wanted
    newer = FlagSet.from_definitions({"flags": {key: flag(arguments, CBOR)}})
    assert "".join(newer.evaluate(key, "-", context).value for context in CONTEXTS) != wanted


@pytest.mark.parametrize("user", ["ann", "jürgen-😀", "x" * 300, "", None, 7])
@pytest.mark.parametrize("hash_version", HASH_VERSIONS)
def test_is_enabled_and_evaluate_agree_for_either_hash(user, hash_version):
    definition = set_hash_version(boolean_flag(on=True, rollout_pct=50), hash_version)
    flags = FlagSet.from_definitions({"flags": {"f": definition}})
    slow = interpret("f", definition["targeting"], {"targetingKey": user}, hash_version=hash_version)
    assert flags.is_enabled("f", user) is flags.evaluate("f", False, {"targetingKey": user}).value is (slow == "on")


@pytest.mark.deep
def test_compiled_targeting_answers_as_the_interpreter_does_with_the_older_hash():
    asked = 0
    for case in make_cases(7, 6_000):
        targeting = case.document["flags"].get(case.key, {}).get("targeting")
        if not isinstance(targeting, dict) or "fractional" not in str(targeting) or "$ref" in str(targeting):
            continue
        definition = {"state": "ENABLED", "variants": {"x": "x"}, "targeting": targeting}
        flags = FlagSet.from_definitions({"flags": {case.key: definition}, "metadata": {"hash_version": STRING}})
        for context in case.contexts:
            try:
                slow = interpret(case.key, targeting, context or {}, hash_version=STRING)
            except (TypeError, ValueError, AttributeError, ArithmeticError, ReferenceError):
                continue
            found = flags.resolve(case.key, context or {})
            asked += 1
            if slow is None:
                assert (found.variant, found.reason) == (None, "DEFAULT")
            elif str(slow) == "x":
                assert found.variant == "x"
            else:
                assert found.error_code == "GENERAL"
    assert asked > 500


def test_what_the_older_hash_cannot_hash_gets_no_variant():
    buckets = [["a", 1], ["b", 1]]
    data = {"targetingKey": "ann", "$flagd": {"flagKey": "f"}}
    assert fractional_by_string(data, "ann", *buckets) in ("a", "b")
    for by in ("", 7, 2.5, None, True, "\ud800"):
        assert fractional_by_string(data, by, *buckets) is None
    assert fractional_by_string(data) is None
    assert fractional_by_string({"targetingKey": 7}, *buckets) is None
    assert fractional_by_string(data, ["a", 1.5], ["b", 1]) is None
    assert fractional_by_string(data, ["a", 2**31], ["b", 1]) is None
    assert fractional_by_string(data, ["a", 0], ["b", -1]) is None


def test_moving_a_flag_to_the_other_hash_is_measured_by_who_moves():
    before = boolean_flag(on=True, rollout_pct=20)
    impact = measure_impact("f", before, set_hash_version(before, STRING), [f"user-{n}" for n in range(2_000)])
    assert 0.28 < impact.share < 0.36  # 2 * 0.2 * 0.8: membership is drawn anew
    whole = boolean_flag(on=True)
    assert measure_impact("f", whole, set_hash_version(whole, STRING), ["ann", "bob"]).changed == 0
    with pytest.raises(InvalidInput, match="hash_version: give fractional-v2 or fractional-v3"):
        set_hash_version(before, "fractional-v1")


def test_a_flag_of_an_unknown_hash_answers_with_the_codes_default_and_says_why():
    unknown = canary_flag(50) | {"metadata": {"hash_version": "fractional-v1"}}
    found = FlagSet.from_definitions({"flags": {"f": unknown}}).evaluate("f", "blue", {"targetingKey": "ann"})
    assert (found.value, found.error_code) == ("blue", "GENERAL")
    assert "'fractional-v1' is unknown" in (found.error_message or "")
    with pytest.raises(InvalidInput, match="hash_version"):
        check_bucketing(unknown)
    plain = boolean_flag(on=True) | {"metadata": {"hash_version": "fractional-v1"}}
    assert FlagSet.from_definitions({"flags": {"f": plain}}).is_enabled("f", "ann")


@pytest.mark.parametrize("hash_version", HASH_VERSIONS)
def test_the_explanation_tells_the_bucket_of_the_flags_own_hash(hash_version):
    assert find_bucketing_problem(hash_version) is None
    definition = set_hash_version(split_flag({"a": 1, "b": 1}, enrolled_pct=70), hash_version)
    for number in range(30):
        told = explain("f", definition, {"targetingKey": f"user-{number}"})
        assert told.evaluation.variant is not None
        falls = [step for step in told.steps if step.startswith("Bucket")]
        assert f"falls to {'an inner split' if len(falls) == 2 else chr(34) + told.evaluation.variant}" in falls[0]
        assert f'falls to "{told.evaluation.variant}"' in falls[-1]

"""The document for a fleet of one hash: what it holds, what it leaves out and why."""

import pytest

from core.errors import InvalidInput
from core.flags.fleet import make_fleet_document, read_bucketing
from quarterdeck.definitions import boolean_flag, canary_flag, set_hash_version, split_flag
from quarterdeck.flags import FlagSet
from quarterdeck.hashing import CBOR, STRING

PLAIN = boolean_flag(on=True)
NEWER = canary_flag(20)
OLDER = set_hash_version(NEWER, STRING)
USERS = [f"user-{number}" for number in range(300)]


def test_a_flag_of_the_other_hash_is_left_out_with_its_reason():
    definitions = {"plain": PLAIN, "newer": NEWER, "older": OLDER}
    cbor, string = (make_fleet_document(definitions, version) for version in (CBOR, STRING))
    assert list(cbor.flags) == ["newer", "plain"]
    assert list(string.flags) == ["older", "plain"]
    assert (list(cbor.left_out), list(string.left_out)) == (["older"], ["newer"])
    assert (
        "buckets users by fractional-v3, and this document is for fleets of fractional-v2" in string.left_out["newer"]
    )
    assert cbor.to_json()["leftOut"] == cbor.left_out
    assert make_fleet_document({"plain": PLAIN}, STRING).to_json() == {"flags": {"plain": PLAIN}}


def test_a_flag_whose_key_the_sdks_hash_differently_is_left_out():
    assert "rename it in ASCII" in make_fleet_document({"größe": OLDER}, STRING).left_out["größe"]
    assert make_fleet_document({"größe": NEWER}, CBOR).left_out == {}
    assert make_fleet_document({"größe": PLAIN}, STRING).left_out == {}


def test_a_damaged_definition_stays_where_it_is_and_an_unknown_hash_does_not():
    unknown = canary_flag(50) | {"metadata": {"hash_version": "fractional-v9"}}
    document = make_fleet_document({"damaged": "not JSON", "unknown": unknown}, CBOR)
    assert (document.flags, list(document.left_out)) == ({"damaged": "not JSON"}, ["unknown"])


@pytest.mark.parametrize("attribute", ["targetingKey", "account"])
def test_no_fractional_of_the_older_hash_is_asked_to_bucket_by_nothing(attribute):
    flags = {
        "split": set_hash_version(split_flag({"a": 1, "b": 2}, 60, bucket_by=attribute), STRING),
        "bare": OLDER | {"targeting": {"fractional": [{"var": attribute}, ["blue", 1], ["green", 1]]}},
    }
    given = make_fleet_document(flags, STRING).flags
    assert '{"if": [{"var": "' in str(given).replace("'", '"')
    before, after = FlagSet.from_definitions({"flags": flags}), FlagSet.from_definitions({"flags": given})
    contexts = [{"targetingKey": user, "account": user[-2:]} for user in USERS]
    contexts += [{"targetingKey": "ann"}, {"targetingKey": "ann", "account": ""}, {}, {"account": 0}, {"account": 7}]
    for key in flags:
        for context in contexts:
            assert after.resolve(key, context) == before.resolve(key, context)


def test_a_bucketing_is_called_by_its_name():
    assert (read_bucketing("string"), read_bucketing("cbor")) == (STRING, CBOR)
    with pytest.raises(InvalidInput, match="bucketing: give string or cbor, not 'v2'"):
        read_bucketing("v2")

from datetime import UTC, datetime, timedelta

import pytest

from core.indexes.retention import Swap, decide_retention, former_indexes

NOW = datetime(2026, 3, 10, 12, tzinfo=UTC)


def days_ago(days):
    return NOW - timedelta(days=days)


def history(*names, rollbacks=()):
    """One swap a day, the last a day ago."""
    pairs = list(zip([None, *names], names, strict=False))
    return [
        Swap(days_ago(len(names) - at), old, new, is_rollback=at in rollbacks) for at, (old, new) in enumerate(pairs)
    ]


@pytest.mark.parametrize(
    ("swaps", "former"),
    [
        ([], ()),
        (history("v1"), ()),
        (history("v1", "v2", "v3"), ("v2", "v1")),
        (history("v1", "v2", "v3", "v2", rollbacks=[3]), ("v1",)),
        (history("v1", "v2", "v3", "v2", "v1", rollbacks=[3, 4]), ()),
        (history("v1", "v2", "v1"), ("v2",)),
        (history("v1", "v2", "v3", "v1", rollbacks=[3]), ()),
        (history("v1", "v2", "v1", "v3", rollbacks=[2]), ("v1",)),
        (history("v1", "v2", "v9", rollbacks=[2]), ("v2", "v1")),
    ],
)
def test_a_rollback_takes_a_swap_back_and_a_second_one_goes_further(swaps, former):
    assert former_indexes(swaps) == former


def test_old_indexes_go_and_live_former_last_and_young_ones_stay():
    built = {f"v{n}": days_ago(20 - n) for n in range(1, 9)} | {"fresh": NOW - timedelta(minutes=5)}
    decided = decide_retention(built, ["v8"], [history("v6", "v7", "v8")], now=NOW, keep=2)
    assert decided.removable == ("v1", "v2", "v3", "v4", "v5", "v6")
    assert {kept.name: kept.reason for kept in decided.kept} == {
        "v8": "live", "v7": "an alias can be rolled back to it", "fresh": "one of the last 2",
    }  # fmt: skip


def test_nothing_that_was_live_within_the_grace_period_goes_even_if_it_is_old():
    swaps = [
        Swap(days_ago(9), None, "v1"), Swap(NOW - timedelta(minutes=30), "v1", "v2"),
        Swap(NOW - timedelta(minutes=20), "v2", "v3"), Swap(NOW - timedelta(minutes=10), "v3", "v4"),
    ]  # fmt: skip
    built = {name: days_ago(9) for name in ("v1", "v2", "v3", "v4")}
    assert decide_retention(built, ["v4"], [swaps], now=NOW, keep=0).removable == ()
    later = decide_retention(built, ["v4"], [swaps], now=NOW + timedelta(minutes=45), keep=0)
    assert later.removable == ("v1", "v2")


def test_the_index_of_every_alias_stays_and_so_does_what_each_can_go_back_to():
    built = {name: days_ago(30) for name in ("a", "b", "c", "d", "e")}
    decided = decide_retention(
        built, ["b", "d"], [history("a", "b"), history("c", "d")], now=NOW + timedelta(days=5), keep=0
    )
    assert decided.removable == ("e",)


def test_a_former_index_that_is_gone_makes_room_for_the_one_before():
    built = {"v1": days_ago(30), "v3": days_ago(28)}
    decided = decide_retention(built, ["v3"], [history("v1", "v2", "v3")], now=NOW + timedelta(days=5), keep=0)
    assert decided.removable == ()

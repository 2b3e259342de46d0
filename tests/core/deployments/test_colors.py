"""The two colors of a service: which action is allowed when, with literal values."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from core.deployments.colors import (
    Color,
    Deployment,
    ReleaseRun,
    describe_deployment,
    is_due,
    plan_rollback,
    plan_start,
    plan_switch,
    plan_teardown,
    take_back,
)
from core.errors import Conflict, InvalidInput, NotFound

NOW = datetime(2026, 11, 25, 14, 0, tzinfo=UTC)
KEEP = timedelta(minutes=30)
NEW = Deployment("answers", "production")
ON_BLUE = replace(NEW, live=Color.BLUE, since=NOW, blue=ReleaseRun("1.0", NOW))
BOTH = replace(ON_BLUE, green=ReleaseRun("1.1", NOW))


def switched() -> Deployment:
    return replace(plan_switch(BOTH, now=NOW, keep=KEEP), settled=True)


def test_the_first_release_starts_in_blue_and_the_next_in_the_color_without_traffic() -> None:
    assert plan_start(NEW, "1.0", now=NOW).blue == ReleaseRun("1.0", NOW)
    assert plan_start(ON_BLUE, "1.1", now=NOW) == BOTH


def test_starting_the_release_that_waits_already_changes_nothing() -> None:
    assert plan_start(BOTH, "1.1", now=NOW + KEEP) is BOTH


def test_a_release_that_waits_gives_way_to_another_one() -> None:
    assert plan_start(BOTH, "1.2", now=NOW).green == ReleaseRun("1.2", NOW)


@pytest.mark.parametrize("release", ["", " 1", "1 2", "a\nb", "x" * 101, "../etc", "a/b", "-x", "1\x00"])
def test_a_release_that_is_no_single_plain_word_is_refused(release: str) -> None:
    with pytest.raises(InvalidInput, match=r"^release: "):
        plan_start(ON_BLUE, release, now=NOW)


def test_a_switch_turns_the_traffic_and_keeps_the_former_color_for_the_way_back() -> None:
    found = plan_switch(BOTH, now=NOW, keep=KEEP)
    assert (found.live, found.settled, found.can_roll_back) == (Color.GREEN, False, True)
    assert found.kept_until == NOW + KEEP
    assert found.blue == BOTH.blue


def test_the_first_switch_leaves_nothing_to_go_back_to() -> None:
    found = plan_switch(plan_start(NEW, "1.0", now=NOW), now=NOW, keep=KEEP)
    assert (found.live, found.can_roll_back, found.kept_until) == (Color.BLUE, False, None)
    with pytest.raises(NotFound, match="nothing to roll back to"):
        plan_rollback(found, now=NOW, keep=KEEP)


def test_a_switch_without_a_second_release_is_refused() -> None:
    with pytest.raises(NotFound, match="nothing runs in green"):
        plan_switch(ON_BLUE, now=NOW, keep=KEEP)


def test_a_switch_that_is_run_again_does_not_undo_itself() -> None:
    with pytest.raises(Conflict, match=r"green \(1.1\) is already live and blue \(1.0\) is the one it replaced"):
        plan_switch(switched(), now=NOW, keep=KEEP)


def test_a_rollback_goes_back_once_and_the_release_can_be_switched_to_again() -> None:
    back = replace(plan_rollback(switched(), now=NOW, keep=KEEP), settled=True)
    assert (back.live, back.can_roll_back) == (Color.BLUE, False)
    with pytest.raises(NotFound):
        plan_rollback(back, now=NOW, keep=KEEP)
    assert plan_switch(back, now=NOW, keep=KEEP).live == Color.GREEN


def test_a_color_that_is_kept_takes_no_other_release_until_its_time_is_over() -> None:
    with pytest.raises(Conflict, match=r"blue \(1.0\) is kept until 14:30 UTC"):
        plan_start(switched(), "1.2", now=NOW + KEEP - timedelta(seconds=1))
    assert plan_start(switched(), "1.2", now=NOW + KEEP).blue == ReleaseRun("1.2", NOW + KEEP)


def test_a_release_that_was_rolled_back_gives_way_to_its_fix_at_once() -> None:
    back = plan_rollback(switched(), now=NOW, keep=KEEP)
    assert plan_start(back, "1.1.1", now=NOW).green == ReleaseRun("1.1.1", NOW)


def test_a_kept_color_is_taken_down_early_only_when_told_so() -> None:
    with pytest.raises(Conflict, match="kept until 14:30"):
        plan_teardown(switched(), now=NOW)
    for found in (plan_teardown(switched(), now=NOW, early=True), plan_teardown(switched(), now=NOW + KEEP)):
        assert (found.blue, found.live, found.can_roll_back) == (None, Color.GREEN, False)
    with pytest.raises(NotFound):
        plan_teardown(ON_BLUE, now=NOW)


def test_what_was_kept_is_due_when_its_time_is_over_and_not_before() -> None:
    assert not is_due(switched(), NOW + KEEP - timedelta(seconds=1))
    assert is_due(switched(), NOW + KEEP)
    assert not is_due(BOTH, NOW + 10 * KEEP)


def test_a_switch_that_is_taken_back_leaves_it_as_it_was_before() -> None:
    assert replace(take_back(plan_switch(BOTH, now=NOW, keep=KEEP), now=NOW), settled=True) == BOTH
    back = take_back(plan_rollback(switched(), now=NOW, keep=KEEP), now=NOW)
    assert (back.live, back.can_roll_back) == (Color.GREEN, True)
    first = plan_switch(plan_start(NEW, "1.0", now=NOW), now=NOW, keep=KEEP)
    assert take_back(first, now=NOW).live is None


def test_the_sentence_says_which_color_since_when_and_what_the_other_is_for() -> None:
    later = NOW + timedelta(minutes=2)
    assert describe_deployment(NEW, now=later) == "answers has no live color yet."
    assert "blue (1.0) waits for the switch" in describe_deployment(plan_start(NEW, "1.0", now=NOW), now=later)
    assert describe_deployment(ON_BLUE, now=later) == (
        "answers runs on blue (1.0) since 25 Nov 2026, 14:00 UTC; green is free for the next release."
    )
    assert describe_deployment(BOTH, now=later).endswith("green (1.1) runs without traffic.")
    assert describe_deployment(switched(), now=later).endswith("kept for a rollback for 28 more minutes.")
    assert "was interrupted" in describe_deployment(replace(switched(), settled=False), now=later)

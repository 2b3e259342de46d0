"""Live figures are compared on common days alone, and their interval takes a user's questions as one."""

import numpy as np
import pytest

from core.log.values import UserRow
from core.prompts.live import compare_live

DAY = 86_400_000


def row(day: int, version: str, user: str | None, scores: list[float]) -> UserRow:
    return UserRow(
        day * DAY + 3_600_000, version, user, len(scores), len(scores), sum(scores), 0, 0.0, 0, 0.0, 0, 0.0, 0, 0.0
    )


def compare(rows: list[UserRow]):
    return compare_live(rows, "v3", "v2", day_of=lambda ms: ms // DAY)


def test_days_on_which_one_version_answered_alone_are_left_out() -> None:
    rows = [row(0, "v2", f"old{number}", [0.9]) for number in range(500)]
    for number in range(60):
        rows += [row(1, "v2", f"a{number}", [0.4]), row(1, "v3", f"b{number}", [0.5])]
        rows += [row(2, "v2", f"c{number}", [0.2])] if number < 30 else []
        rows += [row(2, "v3", f"d{number}", [0.3])]
    (found,) = compare(rows)
    assert (found.figure, found.days, found.users) == ("score", 2, 210)
    assert (found.difference, found.low, found.high) == (pytest.approx(0.1),) * 3


def test_a_mix_of_days_is_no_difference() -> None:
    """v3 grows while scores fall: its plain mean is far lower, and on each day there is no difference."""
    rng = np.random.default_rng(3)
    rows = []
    for day, users in enumerate(((90, 10), (50, 50), (10, 90))):
        for version, count in zip(("v2", "v3"), users, strict=True):
            rows += [
                row(day, version, f"{version}{day}-{at}", [0.8 - 0.2 * day + rng.normal(0, 0.1)]) for at in range(count)
            ]
    (found,) = compare(rows)
    assert found.low < 0 < found.high
    assert found.high - found.low < 0.1


def test_few_users_and_no_common_day_give_nothing() -> None:
    assert compare([row(0, version, f"{version}{at}", [0.5]) for version in ("v2", "v3") for at in range(29)]) == ()
    apart = [row(day, version, f"{version}{at}", [0.5]) for day, version in enumerate(("v2", "v3")) for at in range(90)]
    assert compare(apart) == ()


@pytest.mark.deep
def test_the_interval_holds_its_promise_however_much_a_user_asks() -> None:
    wrong = 0
    for seed in range(400):
        rng = np.random.default_rng(seed)
        rows = []
        for at in range(160):
            level, version = rng.normal(0.5, 0.1), ("v2", "v3")[at % 2]
            for day in range(3):
                asked = int(rng.integers(0, 12))
                rows += [row(day, version, f"u{at}", list(level + rng.normal(0, 0.05, asked)))] if asked else []
        (found,) = compare(rows)
        wrong += not found.low <= 0 <= found.high
    assert 0.02 < wrong / 400 < 0.085

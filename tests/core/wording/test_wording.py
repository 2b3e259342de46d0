"""One rounding and one way to count, for every sentence."""

import pytest

from core.wording.counts import count_of, say_names
from core.wording.scores import say_change, say_interval, say_size, subtract


@pytest.mark.parametrize(
    ("count", "said"), [(0, "0 cases"), (1, "1 case"), (2, "2 cases"), (12_345, "12,345 cases")]
)  # fmt: skip
def test_one_case_and_two_cases(count: int, said: str) -> None:
    assert count_of(count, "case") == said


def test_at_most_three_names_are_said() -> None:
    assert say_names(["a", "b", "c"]) == "a, b, c"
    assert say_names([f"flag_{at}" for at in range(53)]) == "flag_0, flag_1, flag_2 and 50 more"


def test_differences_have_two_decimals_unless_these_would_hide_them() -> None:
    assert [say_size(size) for size in (-0.108, 0.01, 0.008, 0.0)] == ["0.11", "0.01", "0.008", "0.000"]
    assert [say_change(size) for size in (0.1, -0.004, 0.0)] == ["+0.10", "-0.004", "0.00"]


@pytest.mark.parametrize(
    ("effect", "said"),
    [
        ((-0.002, -0.0104, 0.009), "-0.002 (-0.010 to +0.009)"),
        ((-0.1, -0.12, -0.08), "-0.10 (-0.12 to -0.08)"),
        ((0.004, -0.05, 0.06), "0.00 (-0.05 to +0.06)"),
        ((0.0004, -0.0004, 0.003), "0.000 (0.000 to +0.003)"),
        ((0.03, 0.03, 0.03), "+0.03 (+0.03 to +0.03)"),
        ((0.004, 0.004, 0.004), "+0.004 (+0.004 to +0.004)"),
    ],
)
def test_an_effect_and_its_interval_have_the_same_decimals(effect: tuple[float, ...], said: str) -> None:
    assert say_interval(*effect) == said


def test_a_fall_is_the_difference_of_the_two_means_as_shown() -> None:
    assert subtract(0.584, 0.476) == 0.1  # 0.58 - 0.48, though the means differ by 0.108
    assert subtract(0.5781, 0.5757) == 0.002

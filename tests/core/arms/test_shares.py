"""The exact bounds of a share hold at every time at once, for values of any kind, and find what is plain from a few."""

import numpy as np
import pytest

from core.arms.shares import bound_share_above, bound_share_below
from core.errors import InvalidInput


def test_both_bounds_hold_the_share_of_the_sample_between_them() -> None:
    low, high = bound_share_below(30, 100, 0.05), bound_share_above(30, 100, 0.05)
    assert low == pytest.approx(0.171, abs=0.005)
    assert low < 0.3 < high
    assert bound_share_below(3_000, 10_000, 0.05) == pytest.approx(0.285, abs=0.005)
    assert (bound_share_below(0, 0, 0.05), bound_share_above(0, 0, 0.05)) == (0, 1)
    assert bound_share_below(0, 50, 0.05) == 0


def test_a_few_users_who_all_fail_are_enough_and_two_are_not() -> None:
    assert bound_share_below(6, 6, 0.001) > 0.2
    assert bound_share_below(2, 2, 0.001) < 0.1


@pytest.mark.deep
@pytest.mark.parametrize("is_fraction", [False, True])
def test_the_bound_is_wrong_at_any_of_many_looks_in_at_most_alpha_of_the_runs(is_fraction: bool) -> None:
    wrong = 0
    for seed in range(400):
        rng = np.random.default_rng(seed)
        values = rng.beta(0.3, 0.7, 400) if is_fraction else rng.random(400) < 0.3
        sums = np.cumsum(values)
        wrong += any(bound_share_below(float(sums[n - 1]), n, 0.1) > 0.3 for n in range(5, 400, 5))
    assert wrong / 400 < 0.1
    assert is_fraction or wrong  # exact for values of 0 and 1, wider than needed for others


def test_a_wrong_alpha_is_named() -> None:
    with pytest.raises(InvalidInput, match="alpha"):
        bound_share_below(1, 2, 0.0)

"""The always-valid interval is the published one, and gives the number of users that an effect takes."""

import math
import random

import pytest
from scipy import stats

from core.arms.sequential import (
    Difference,
    Moments,
    compare_moments,
    compare_shares,
    find_users_needed,
    find_visible_effect,
    half_width,
)
from core.errors import InvalidInput


@pytest.mark.parametrize(("n_c", "n_s", "alpha"), [(50, 950, 0.05), (2_500, 2_500, 0.05), (10_000, 90_000, 0.0125)])
def test_the_interval_is_the_formula_of_the_paper(n_c: int, n_s: int, alpha: float) -> None:
    s_c, s_s, n = 0.2, 0.18, n_c + n_s
    squared = s_c**2 / n_c + s_s**2 / n_s
    rho = math.sqrt((-2 * math.log(2 * alpha) + math.log(1 - 2 * math.log(2 * alpha))) / 5_000)
    inner = 2 * (n * rho**2 + 1) / (n * rho) ** 2 * math.log(1 + math.sqrt(n * rho**2 + 1) / (2 * alpha))
    assert half_width(math.sqrt(squared), n, alpha) == pytest.approx(math.sqrt(squared * n * inner), rel=1e-12)


def test_the_price_of_looking_all_the_time_is_a_wider_interval_than_one_look_needs() -> None:
    assert 1.645 < half_width(1.0, 5_000) < 3
    assert half_width(1.0, 5_000) < half_width(1.0, 100)
    assert half_width(1.0, 5_000) < half_width(1.0, 5_000, 0.01)


@pytest.mark.parametrize("alpha", [0.0, 0.5, -1.0, float("nan")])
def test_an_alpha_that_is_none_is_refused(alpha: float) -> None:
    with pytest.raises(InvalidInput, match="^alpha: must be above 0 and below 0.5"):
        half_width(1.0, 100, alpha)


def test_under_thirty_users_an_arm_nothing_is_said() -> None:
    assert compare_moments(Moments(29, 0.7, 0.01), Moments(1_000, 0.6, 0.01)) is None
    assert compare_moments(Moments(30, 0.7, 0.01), Moments(30, 0.6, 0.01)) is not None


def test_a_small_arm_that_seems_to_vary_less_is_not_trusted_for_it() -> None:
    found = compare_moments(Moments(10_000, 0.01, 0.005), Moments(100, 0.0, 0.0))
    assert found is not None
    assert found.error == pytest.approx(math.sqrt(0.005 / 10_000 + 0.005 / 100), rel=0.02)
    floored = compare_moments(Moments(10_000, 0.0, 0.0), Moments(100, 0.0, 0.0), least_variance=0.02)
    assert floored is not None
    assert floored.error == pytest.approx(math.sqrt(0.02 / 10_000 + 0.02 / 100))


def test_the_users_needed_are_the_fewest_whose_interval_shows_the_effect() -> None:
    now = Difference(0.0, 0.01, 2_000)
    needed = find_users_needed(now, 0.015)
    assert needed is not None
    for users, shown in ((needed, True), (needed - 1, False)):
        error = 0.01 * math.sqrt(2_000 / users)
        assert (half_width(error, users) + 0.8416 * error <= 0.015) is shown
    assert find_users_needed(now, 0.0) is None
    assert find_users_needed(Difference(0.0, 0.0, 60), 0.1) == 60


def test_the_visible_effect_is_the_one_for_which_the_users_there_are_just_do() -> None:
    now = Difference(0.004, 0.01, 3_000)
    assert find_users_needed(now, find_visible_effect(now) + 1e-9) == 3_000


def test_an_effect_of_the_visible_size_is_seen_in_four_cases_of_five() -> None:
    rng, now = random.Random(3), Difference(0.0, 0.01, 5_000)
    effect = find_visible_effect(now)
    seen = sum(rng.gauss(effect, now.error) - now.half_width() > 0 for _ in range(4_000))
    assert 0.78 < seen / 4_000 < 0.82


def test_users_shared_out_as_wanted_are_no_mismatch() -> None:
    p = compare_shares({"blue": 9_480, "green": 520}, {"blue": 95, "green": 5})
    assert p == pytest.approx(stats.chisquare([9_480, 520], [9_500, 500]).pvalue, rel=1e-9)
    assert p > 0.3


def test_lost_users_are_a_mismatch() -> None:
    p = compare_shares({"blue": 9_600, "green": 400}, {"blue": 95, "green": 5})
    assert p is not None
    assert p < 0.001


@pytest.mark.parametrize("seed", range(4))
def test_more_than_two_variants_are_judged_as_scipy_does(seed: int) -> None:
    rng = random.Random(seed)
    arms = "abcdefg"[: 3 + seed]
    users = {arm: rng.randrange(80, 120) for arm in arms}
    expected = [sum(users.values()) / len(arms)] * len(arms)
    p = compare_shares(users, dict.fromkeys(arms, 1.0))
    assert p == pytest.approx(stats.chisquare(list(users.values()), expected).pvalue, rel=1e-9)


def test_too_few_users_are_no_mismatch_and_users_of_no_weight_are_one() -> None:
    assert compare_shares({"blue": 40, "green": 0}, {"blue": 95, "green": 5}) is None
    assert compare_shares({"blue": 40, "green": 1}, {"blue": 100, "green": 0}) == 0.0

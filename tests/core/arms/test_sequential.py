"""The always-valid interval is the published one, and gives the number of users that an effect takes."""

import math
import random

import numpy as np
import pytest

from core.arms.sequential import (
    Covariate,
    Difference,
    Moments,
    adjust_moments,
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
    assert compare_shares({"blue": 9_480, "green": 520}, {"blue": 95, "green": 5}) == 1.0


def test_lost_users_are_a_mismatch() -> None:
    p = compare_shares({"blue": 9_600, "green": 400}, {"blue": 95, "green": 5})
    assert p is not None
    assert p < 0.001


def test_the_evidence_is_that_of_a_dirichlet_prior_around_the_shares() -> None:
    """By its formula for one user after another: the factor of each is its predictive share over the expected one."""
    shares, drawn = {"a": 0.5, "b": 0.3, "c": 0.2}, "aaabacaaabaacaaaaaaabaaaacaaaaaaabaaaa"
    evidence = []
    for k in (10.0, 100.0, 1_000.0, 10_000.0):
        seen, product = dict.fromkeys(shares, 0), 1.0
        for number, arm in enumerate(drawn):
            product *= (seen[arm] + k * shares[arm]) / (number + k) / shares[arm]
            seen[arm] += 1
        evidence.append(product)
    p = compare_shares({arm: drawn.count(arm) for arm in shares}, shares)
    assert p == pytest.approx(1 / (sum(evidence) / len(evidence)), rel=1e-9)


def test_a_split_that_is_checked_all_the_time_is_rarely_called_wrong_by_chance() -> None:
    rng, called = np.random.default_rng(7), 0
    for _ in range(400):
        green = np.cumsum(rng.random(4_000) < 0.05)
        called += any(
            (compare_shares({"blue": n - int(green[n - 1]), "green": int(green[n - 1])}, {"blue": 95, "green": 5}) or 0)
            < 0.01
            for n in range(50, 4_000, 50)
        )
    assert called / 400 <= 0.02  # at most 1% expected; the chi-square test calls several times as many


def test_no_users_are_no_mismatch_and_users_of_no_weight_are_one() -> None:
    assert compare_shares({"blue": 0, "green": 0}, {"blue": 95, "green": 5}) is None
    assert compare_shares({"blue": 40, "green": 0}, {"blue": 95, "green": 5}) == pytest.approx(0.5, abs=0.5)
    assert compare_shares({"blue": 40, "green": 1}, {"blue": 100, "green": 0}) == 0.0


def draw_arm(
    rng: np.random.Generator, users: int, *, shift: float = 0.0, asks: float = 0.0, tied: float = 0.9
) -> Moments:
    """An arm whose users' values follow, up to noise, what was known of them."""
    known = rng.normal(asks, 0.1, users)
    values = 0.7 + shift + tied * known + rng.normal(0, 0.03, users)
    both = np.cov(known, values)
    covariate = Covariate(float(known.mean()), float(both[0, 0]), float(both[0, 1]))
    return Moments(users, float(values.mean()), float(both[1, 1]), covariate)


def test_what_was_known_of_the_users_is_taken_out_of_their_spread_and_not_out_of_the_difference() -> None:
    rng = np.random.default_rng(1)
    first, second = draw_arm(rng, 400), draw_arm(rng, 400, shift=0.02)
    one, other = adjust_moments(first, second)
    assert one.variance == pytest.approx(0.03**2, rel=0.2)
    assert other.mean - one.mean == pytest.approx(0.02, abs=0.006)
    before, after = compare_moments(first, second), compare_moments(one, other)
    assert before
    assert after
    assert after.error < 0.4 * before.error


def test_a_covariate_that_says_nothing_changes_next_to_nothing() -> None:
    rng = np.random.default_rng(2)
    first, second = draw_arm(rng, 400, tied=0.0), draw_arm(rng, 400, tied=0.0)
    for before, after in zip((first, second), adjust_moments(first, second), strict=True):
        assert after.mean == pytest.approx(before.mean, abs=0.002)
        assert after.variance == pytest.approx(before.variance, rel=0.02)


def test_arms_whose_users_ask_other_questions_and_small_arms_are_not_adjusted() -> None:
    rng = np.random.default_rng(3)
    other_questions = draw_arm(rng, 400), draw_arm(rng, 400, asks=0.1)
    few = draw_arm(rng, 99), draw_arm(rng, 400)
    unknown = draw_arm(rng, 400), Moments(400, 0.7, 0.01)
    for pair in (other_questions, few, unknown):
        assert adjust_moments(*pair) == pair


def test_equal_arms_are_seldom_told_apart_at_any_look_after_adjusting() -> None:
    false = 0
    for seed in range(300):
        rng = np.random.default_rng(seed)
        known = rng.normal(0, 0.1, (2, 1_000))
        values = known + rng.normal(0, 0.05, (2, 1_000))
        for users in range(100, 1_001, 100):
            arms = []
            for at in (0, 1):
                x, y = known[at, :users], values[at, :users]
                both = np.cov(x, y)
                covariate = Covariate(float(x.mean()), float(both[0, 0]), float(both[0, 1]))
                arms.append(Moments(users, float(y.mean()), float(both[1, 1]), covariate))
            found = compare_moments(*adjust_moments(*arms))
            assert found
            if abs(found.estimate) > found.half_width(0.025):
                false += 1
                break
    assert false / 300 <= 0.05

"""Moments of any metric: the delta method by its formula, percentiles by theory, and that nothing is told too early."""

import math
from dataclasses import replace

import numpy as np
import pytest

from benchmarks.own_metrics import KINDS, LIFTS, METRICS, run_once
from core.arms.arms import Arm, Metric
from core.arms.comparisons import Margin, compare_arms
from core.arms.own import UserSums, find_usual, measure_arm, measure_percentile
from core.arms.sequential import LEAST_USERS, Moments, adjust_moments, compare_moments
from core.metrics.definition import MetricDefinition, MetricSource, Statistic

MEAN = MetricDefinition("stars", MetricSource.SCORE, Statistic.MEAN, "stars")
RATIO = MetricDefinition("cost per question", MetricSource.COST, Statistic.RATIO, per="questions")
RESOLVED = MetricDefinition("resolved", MetricSource.EVENT, Statistic.SHARE, "resolved")


def sums(counts: list[float], totals: list[float], below: list[float] | None = None) -> UserSums:
    return UserSums(np.array(counts), np.array(totals), np.array(below or [0.0] * len(counts)))


def test_a_mean_is_one_of_users_and_a_share_of_an_event_counts_all_of_them() -> None:
    assert measure_arm(MEAN, sums([2, 1, 0], [6.0, 5.0, 0.0])) == Moments(2, 4.0, 2.0)
    found = measure_arm(RESOLVED, sums([2, 0, 1, 0], [2.0, 0.0, 1.0, 0.0]))
    assert found is not None
    assert (found.users, found.mean, found.variance) == (4, 0.5, pytest.approx(1 / 3))
    assert measure_arm(MEAN, sums([0], [0.0])) is None


def test_a_ratio_has_the_variance_of_the_delta_method() -> None:
    rng = np.random.default_rng(1)
    below = rng.integers(1, 20, 500).astype(float)
    totals = below * 0.3 + rng.normal(0, 1, 500)
    found = measure_arm(RATIO, UserSums(below, totals, below))
    assert found is not None
    ratio, n = totals.sum() / below.sum(), len(below)
    cov = np.cov(totals, below)
    delta = (cov[0, 0] - 2 * ratio * cov[0, 1] + ratio**2 * cov[1, 1]) / below.mean() ** 2
    assert (found.users, found.mean, found.variance) == (n, pytest.approx(ratio), pytest.approx(delta))


def test_there_is_no_ratio_while_its_denominator_is_uncertain() -> None:
    few = UserSums(np.ones(40), np.ones(40), np.array([100.0] + [0.0] * 39))
    assert measure_arm(RATIO, few) is None
    assert measure_arm(RATIO, UserSums(np.ones(40), np.ones(40), np.zeros(40))) is None


def test_a_percentile_has_the_error_of_theory_and_a_larger_one_where_users_repeat_themselves() -> None:
    rng = np.random.default_rng(2)
    numbers = rng.normal(0, 1, 20_000)
    found = measure_percentile(numbers, np.arange(20_000), 90)
    assert found is not None
    density = math.exp(-(1.2816**2) / 2) / math.sqrt(2 * math.pi)
    assert found.mean == pytest.approx(1.2816, abs=0.05)
    assert math.sqrt(found.variance / found.users) == pytest.approx(math.sqrt(0.09 / 20_000) / density, rel=0.15)
    repeated = measure_percentile(np.repeat(numbers[:2_000], 10), np.repeat(np.arange(2_000), 10), 90)
    assert repeated is not None
    assert repeated.users == 2_000
    assert repeated.variance / repeated.users > 5 * found.variance / found.users


def test_there_is_no_percentile_of_a_thin_tail_or_of_few_users() -> None:
    numbers = np.random.default_rng(3).normal(0, 1, 200)
    assert measure_percentile(numbers, np.arange(200), 95) is None
    assert measure_percentile(numbers, np.arange(200), 50) is not None
    assert measure_percentile(numbers, np.arange(200) % (LEAST_USERS - 1), 50) is None
    assert measure_percentile(np.zeros(0), np.zeros(0, dtype=np.int64), 50) is None


@pytest.mark.parametrize("metric", [MEAN, RATIO], ids=str)
def test_what_users_did_before_narrows_the_interval_and_moves_nothing_without_reason(metric: MetricDefinition) -> None:
    rng = np.random.default_rng(4)
    arms, earlier = [], []
    for _ in range(2):
        level, asked = rng.normal(10, 3, 2_000), rng.integers(1, 6, 2_000).astype(float)
        arms.append(UserSums(asked, level * asked + rng.normal(0, 1, 2_000), asked))
        earlier.append(UserSums(asked, level * asked + rng.normal(0, 1, 2_000), asked))
    usual = find_usual(metric, earlier)
    with_past = [measure_arm(metric, now, past, usual=usual) for now, past in zip(arms, earlier, strict=True)]
    first, second = (each for each in with_past if each is not None)
    plain, adjusted = compare_moments(first, second), compare_moments(*adjust_moments(first, second))
    assert plain is not None
    assert adjusted is not None
    assert adjusted.error < 0.6 * plain.error
    assert abs(adjusted.estimate) < 3 * adjusted.error


def test_an_event_that_nobody_lacked_is_not_called_safe_at_once() -> None:
    """A share of 100% has no variance so far, which must not make a small margin look kept."""
    whole = Arm(users=40, moments={RESOLVED: Moments(40, 1.0, 0.0)})
    (found,) = compare_arms(whole, whole, [Margin(RESOLVED, 0.02)], alpha=0.05)
    assert not found.is_safe
    assert not found.is_worse


@pytest.mark.deep
@pytest.mark.parametrize("kind", list(KINDS))
def test_equal_arms_are_seldom_called_different(kind: str) -> None:
    calls = sum(run_once(kind, np.random.default_rng([9, run]), 300, 0.0) for run in range(40))
    assert calls <= 6  # 40 runs at 5%: more than 6 come by chance once in 200 times
    assert set(METRICS) | {"percentile 50", "percentile 95"} == set(KINDS) >= set(LIFTS)


def test_a_metric_that_has_no_numbers_yet_keeps_its_part_of_the_false_alarms() -> None:
    early = Arm(100, 100, moments={Metric.SCORE: Moments(100, 0.7, 0.01)})
    margins = [Margin(Metric.SCORE, 0.03), Margin(RESOLVED, 0.02)]
    (found,) = compare_arms(early, early, margins, alpha=0.04)
    assert found.alpha == pytest.approx(0.02)
    late = replace(early, moments={**early.moments, RESOLVED: Moments(100, 0.5, 0.25)})
    assert [each.alpha for each in compare_arms(late, late, margins, alpha=0.04)] == pytest.approx([0.02, 0.02])

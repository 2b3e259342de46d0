"""A judge's mean, corrected by labels: against literal figures, and its interval against known worlds."""

import numpy as np
import pytest

from benchmarks.ppi import WORLDS
from core.reviews.corrected import FEWEST_LABELS, FEWEST_TWO_VALUED, MeanStatus, correct_mean


def test_without_enough_labels_it_says_how_many_are_needed() -> None:
    few = correct_mean([1.0, 0.5] * 10, [0.9, 0.4] * 10, [0.7] * 500)
    assert (few.status, few.labels, few.judged, few.needed) == (MeanStatus.TOO_FEW_LABELS, 20, 520, FEWEST_LABELS)
    assert (few.mean, few.low, few.label_mean) == (None, None, 0.75)
    assert few.judge_mean == pytest.approx((20 * 0.65 + 500 * 0.7) / 520)
    two = correct_mean([1.0, 0.0] * 20, [1.0, 0.0] * 20, [1.0] * 500)
    assert (two.status, two.needed) == (MeanStatus.TOO_FEW_LABELS, FEWEST_TWO_VALUED)
    assert correct_mean([], [], []).status is MeanStatus.NOTHING_JUDGED
    with pytest.raises(ValueError, match="2 labels for 1"):
        correct_mean([1.0, 0.0], [1.0], [])


def test_the_estimate_is_that_of_the_formula() -> None:
    rng = np.random.default_rng(3)
    y, f, others = rng.random(40), rng.random(40), rng.random(400)
    f = 0.5 * f + 0.5 * y
    found = correct_mean(y.tolist(), f.tolist(), others.tolist())
    tuned = np.cov(y, f)[0, 1] / ((1 + 40 / 400) * f.var(ddof=1))
    assert found.weight == pytest.approx(tuned)
    assert found.mean == pytest.approx(y.mean() + tuned * (others.mean() - f.mean()))
    assert found.low is not None
    assert found.high is not None
    assert found.low < (found.mean or 0) < found.high


def test_a_judge_that_shifts_every_score_is_corrected() -> None:
    rng = np.random.default_rng(5)
    truth = np.clip(rng.normal(0.6, 0.15, 3_050), 0, 1)
    judged = np.clip(truth + 0.25 + rng.normal(0, 0.02, 3_050), 0, 1)
    found = correct_mean(truth[:50].tolist(), judged[:50].tolist(), judged[50:].tolist())
    assert found.judge_mean is not None
    assert found.judge_mean > 0.8
    assert found.mean == pytest.approx(0.6, abs=0.02)
    assert (found.standard_error or 1) < 0.6 * (found.label_error or 0)


def test_a_useless_or_inverted_judge_does_not_mislead() -> None:
    rng = np.random.default_rng(7)
    y = rng.random(60)
    inverted = correct_mean(y.tolist(), (1 - y).tolist(), rng.random(600).tolist())
    assert inverted.weight == 0.0
    assert inverted.mean == pytest.approx(float(y.mean()))
    constant = correct_mean(y.tolist(), [0.5] * 60, [0.5] * 600)
    assert constant.weight == 0.0
    assert constant.correlation is None
    assert (constant.standard_error or 0) >= (constant.label_error or 1)


@pytest.mark.parametrize("name", ["three steps, a judge of sentences", "yes or no, 80% yes"])
def test_intervals_hold_the_truth_as_often_as_they_say(name: str) -> None:
    draw, truth = WORLDS[name]
    rng = np.random.default_rng(20)
    inside, errors, label_errors = 0, 0.0, 0.0
    for _ in range(400):
        y, f = draw(rng, 3_030)
        found = correct_mean(y[:30], f[:30], f[30:])
        assert found.low is not None
        assert found.high is not None
        inside += found.low <= truth <= found.high
        errors, label_errors = errors + (found.standard_error or 0), label_errors + (found.label_error or 0)
    assert 0.92 <= inside / 400 <= 0.98
    assert errors <= 0.8 * label_errors

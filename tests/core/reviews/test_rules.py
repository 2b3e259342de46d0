"""Drawing questions and measuring agreement: the same seed, the same sample; alpha by literal figures."""

import pytest

from core.errors import InvalidInput
from core.reviews.drawing import draw, draw_evenly, fraction_of
from core.reviews.reliability import ReliabilityStatus, measure_reliability

KEYS = [f"q-{number}" for number in range(1_000)]


def test_a_seed_draws_the_same_and_another_one_others() -> None:
    assert draw(KEYS, 30, seed=1) == draw(list(reversed(KEYS)), 30, seed=1)
    assert len(set(draw(KEYS, 30, seed=1)) & set(draw(KEYS, 30, seed=2))) < 10
    assert set(draw(KEYS, 10, seed=1)) < set(draw(KEYS, 30, seed=1))
    assert len(draw(KEYS[:5], 30, seed=1)) == 5
    for size in (0, 1_001):
        with pytest.raises(InvalidInput, match="size"):
            draw(KEYS, size, seed=1)


def test_the_hash_is_spread_evenly() -> None:
    below = sum(fraction_of(key, seed=0) < 0.2 for key in KEYS)
    assert 150 < below < 250


def test_topics_take_turns_and_no_question_comes_twice() -> None:
    groups = {"a": KEYS[:500], "b": KEYS[500:503], "c": [], "d": KEYS[:10]}
    drawn = draw_evenly(groups, 12, seed=4)
    assert len(set(drawn)) == len(drawn) == 12
    assert set(KEYS[500:503]) <= set(drawn)


def test_alpha_is_that_of_krippendorffs_example() -> None:
    """The data of Krippendorff 2011, section E: four observers, twelve units, interval alpha 0.849."""
    rows = [
        (1, 2, 3, 3, 2, 1, 4, 1, 2, None, None, None),
        (1, 2, 3, 3, 2, 2, 4, 1, 2, 5, None, 3),
        (None, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, None),
        (1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, None),
    ]
    units = [
        {str(observer): float(value) for observer, row in enumerate(rows) if (value := row[unit]) is not None}
        for unit in range(12)
    ]
    found = measure_reliability(units)
    assert (found.status, found.shared) == (ReliabilityStatus.OK, 11)
    assert found.alpha == pytest.approx(0.849, abs=0.001)
    assert found.low is not None
    assert found.high is not None
    assert found.low < 0.849 < found.high <= 1.0


def test_too_few_shared_questions_and_equal_labels_have_no_alpha() -> None:
    few = measure_reliability([{"ada": 1.0, "bob": 0.0}] * 9 + [{"ada": 1.0}] * 50)
    assert (few.status, few.shared, few.same) == (ReliabilityStatus.TOO_FEW, 9, 0.0)
    equal = measure_reliability([{"ada": 1.0, "bob": 1.0}] * 30)
    assert (equal.status, equal.alpha, equal.same) == (ReliabilityStatus.NO_VARIANCE, None, 1.0)


def test_perfect_agreement_is_one_and_chance_is_near_zero() -> None:
    same = [{"ada": float(n % 2), "bob": float(n % 2)} for n in range(40)]
    assert measure_reliability(same).alpha == pytest.approx(1.0)
    mixed = [{"ada": float(n % 2), "bob": float(n // 2 % 2)} for n in range(40)]
    assert abs(measure_reliability(mixed).alpha or 1.0) < 0.1

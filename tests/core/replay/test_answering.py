"""The rules of answers: means over what is answered, paired shifts, and what another week may show."""

import numpy as np
import pytest

from core.replay.answering import AnswerOutcome, AnswerRun, compare_answers, estimate_metric
from core.replay.sampling import DrawnQuestion, thin_questions

RUN = AnswerRun("qa-v2", "qa-v3", "extractive", "offline v1")


def ask(count: int, topic: str = "") -> dict[int, DrawnQuestion]:
    return {at: DrawnQuestion(f"q{at}", topic, 1, 1.0, 1.0, 0.5) for at in range(count)}


def outcome(place: int, faithfulness: float | None, cost_usd: float = 0.01) -> AnswerOutcome:
    return AnswerOutcome(place, faithfulness is None, faithfulness or 0.0, 0.5, cost_usd, 10.0 + place)


def test_a_refusal_has_no_faithfulness_as_in_production() -> None:
    live = [outcome(0, 0.5), outcome(1, 1.0), outcome(2, None)]
    candidate = [outcome(0, 1.0, 0.02), outcome(1, None, 0.02), outcome(2, None, 0.02)]
    found = compare_answers(RUN, ask(3), live, candidate, labels={})
    assert found
    assert (found.faithfulness.live, found.faithfulness.candidate) == (0.75, 1.0)
    assert (found.refused.live, found.refused.candidate) == (pytest.approx(1 / 3), pytest.approx(2 / 3))
    assert (found.live_cost_usd, found.candidate_cost_usd) == (pytest.approx(0.01), pytest.approx(0.02))
    assert found.live_latency_ms == 11
    assert found.by_place == {0: (0.5, 1.0), 1: (1.0, None), 2: (None, None)}
    assert [each.distinct for each in found.topics] == [1]


def test_only_what_both_sides_answered_is_compared() -> None:
    found = compare_answers(
        RUN, ask(3), [outcome(0, 1.0), outcome(1, 1.0)], [outcome(1, 0.0), outcome(2, 1.0)], labels={}
    )
    assert found
    assert (found.compared, found.faithfulness.candidate) == (1, 0.0)
    assert (found.faithfulness.shift.low, found.faithfulness.low, found.faithfulness.high) == (-1, 0, 1)
    assert compare_answers(RUN, ask(2), [outcome(0, 1.0)], [outcome(1, 1.0)], labels={}) is None


def test_a_fall_is_shown_and_no_change_shows_none() -> None:
    rng = np.random.default_rng(4)
    fell = [outcome(at, float(rng.random() < 0.5)) for at in range(100)]
    live = [outcome(at, 1.0) for at in range(100)]
    found = compare_answers(RUN, ask(100, "t-1"), live, fell, labels={"t-1": "rings"})
    assert found
    assert found.faithfulness.shift.is_fall
    assert [(each.label, each.verdict) for each in found.topics] == [("rings", "loses")]
    same = compare_answers(RUN, ask(100), fell, fell, labels={})
    assert same
    assert (same.faithfulness.shift.value, same.faithfulness.shift.is_fall) == (0, False)
    assert compare_answers(RUN, ask(100), live, live, labels={}).faithfulness.low == pytest.approx(0.97)  # 3 / n


def test_the_interval_of_a_shift_covers_the_truth_in_95_of_100() -> None:
    rng, covered = np.random.default_rng(6), 0
    for _ in range(1_000):
        base = rng.random(80)
        counted = [(rng.random(80) < 0.8).astype(float) for _ in range(2)]
        values = [(base + rng.random(80)) / 2, (base + rng.random(80)) / 2 + 0.05]
        shift = estimate_metric(rng.integers(1, 6, 80).astype(float), counted, values).shift
        covered += shift.low <= 0.05 <= shift.high
    assert 925 <= covered <= 975


def test_a_part_of_the_questions_is_drawn_by_weight_the_same_for_a_seed() -> None:
    drawn = [DrawnQuestion(f"q{at}", f"t-{at % 3}", at + 1, at + 1.0, 1.0, 0.5) for at in range(300)]
    part = thin_questions(drawn, size=60, seed=5)
    assert part == thin_questions(drawn, size=60, seed=5)
    assert sum(each.weight for each in part.values()) == pytest.approx(sum(each.weight for each in drawn))
    assert all(drawn[at].text == each.text for at, each in part.items())
    assert np.mean(list(part)) > 170  # those asked more often are drawn more often
    assert thin_questions(drawn, size=300, seed=5) == dict(enumerate(drawn))

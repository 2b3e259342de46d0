"""What a question is expected to score comes from earlier rows of its text and its user, and from nothing else."""

import pytest

from core.arms.expectations import Expectation
from core.log.values import AskedBy


def test_nothing_is_expected_of_what_is_unknown() -> None:
    assert Expectation().expect([AskedBy("a", "What is new?", 2, 1.0)]) == {"a": (2, 0.0)}


def test_a_text_is_expected_to_score_as_before_whoever_asks_and_however_it_is_spelled() -> None:
    found = Expectation()
    found.learn([AskedBy("a", "easy", 99, 99.0), AskedBy(None, "hard", 99, 0.0)])
    expected = found.expect(
        [AskedBy("b", " EASY ", 1, 0.3), AskedBy("c", "hard", 2, 0.3), AskedBy(None, "hard", 1, 0.3)]
    )
    assert expected == {"b": (1, pytest.approx(0.495)), "c": (2, pytest.approx(-0.99))}


def test_a_text_seen_once_is_believed_by_half() -> None:
    found = Expectation()
    found.learn([AskedBy("a", "once", 1, 1.0), AskedBy("a", "often", 9_999, 0.0)])
    assert found.expect([AskedBy("b", "once", 1, 0.0)])["b"][1] == pytest.approx(0.5, abs=0.001)


def test_what_a_users_texts_leave_over_is_the_users() -> None:
    past = [AskedBy(user, "q", 3, 3 * score) for user, score in (("high", 0.9), ("low", 0.5))]
    found = Expectation()
    found.learn(past)
    found.learn_users(past)
    expected = found.expect([AskedBy(user, "q", 1, 0.0) for user in ("high", "low", "new")])
    assert [expected[user][1] for user in ("high", "low", "new")] == pytest.approx([0.1, -0.1, 0.0])

"""The gate of a prompt: enough answers, as faithful, not refused more often, not much dearer."""

from dataclasses import replace

import pytest

from core.errors import InvalidInput
from core.replay.answering import compare_answers
from core.replay.gate import check_replay, parse_replay_thresholds
from tests.core.replay.test_answering import RUN, ask, outcome
from tests.core.replay.test_comparison import compare, draw, hit


def check(live: list, candidate: list, thresholds: str = "") -> dict[str, bool]:
    count = len(live)
    sides = ([outcome(at, value, 0.01) for at, value in enumerate(live)],
             [outcome(at, value, 0.012) for at, value in enumerate(candidate)])  # fmt: skip
    answers = compare_answers(RUN, ask(count), *sides, labels={})
    found = replace(compare(draw(*[0.5] * count), [hit(0.5, 0.5)] * count), answers=answers)
    report = check_replay(found, parse_replay_thresholds(thresholds))
    return {each.name: each.passed for each in report.checks}


def test_a_prompt_that_is_as_good_passes_and_each_fall_is_named() -> None:
    good = check([1.0] * 40, [1.0] * 40)
    assert all(good.values())
    assert {"enough answers", "faithfulness", "refusals", "cost of an answer"} <= good.keys()
    assert not check([1.0] * 40, [0.0, 1.0] * 20)["faithfulness"]
    assert not check([1.0] * 40, [None, 1.0] * 20)["refusals"]
    assert not check([1.0] * 20, [1.0] * 20)["enough answers"]
    assert not check([1.0] * 40, [1.0] * 40, "replay: {cost_rise: 0.1}")["cost of an answer"]
    assert check([1.0] * 40, [0.0, 1.0] * 20, "replay: {faithfulness_drop: 0.6}")["faithfulness"]


def test_thresholds_of_answers_have_their_ranges() -> None:
    assert parse_replay_thresholds("replay: {cost_rise: 3, answers: 5}").cost_rise == 3
    with pytest.raises(InvalidInput, match="gates.yaml, faithfulness_drop: must be a number from 0 to 1, not 3"):
        parse_replay_thresholds("replay: {faithfulness_drop: 3}")
    with pytest.raises(InvalidInput, match="gates.yaml, answers: must be a whole number"):
        parse_replay_thresholds("replay: {answers: 0.5}")

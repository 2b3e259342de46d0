"""Means without cases: who is ahead, and that it proves nothing."""

import math

from core.prompts.decisions import Candidate, WinnerRule
from core.prompts.means import decide_by_means

PER_COST = WinnerRule.FAITHFULNESS_PER_COST


def mean(label: str, faithfulness: float, cost: float = math.nan) -> Candidate:
    return Candidate(label, label, {"mean": faithfulness}, cost)


def test_the_leader_is_named_and_no_winner() -> None:
    found = decide_by_means([mean("v1", 0.78, 0.0021), mean("v2", 0.935, 0.00212)], rule=PER_COST, cases=40)
    assert (found.winner, found.leader and found.leader.label, found.cases) == (None, "v2", 40)
    assert found.reason.startswith(
        "v2 is ahead by its mean alone over 40 cases: v2 0.94 at $0.00212 a query against v1 0.78 at $0.00210 a query"
    )
    assert "means without a table of cases prove nothing" in found.reason


def test_the_rule_decides_who_is_ahead() -> None:
    dear, cheap = mean("dear", 0.9, 0.004), mean("cheap", 0.8, 0.001)
    for rule, ceiling, leader in (
        (PER_COST, None, "cheap"),
        (WinnerRule.FAITHFULNESS, None, "dear"),
        (WinnerRule.FAITHFULNESS_UNDER_CEILING, 0.002, "cheap"),
    ):
        found = decide_by_means([dear, cheap], rule=rule, ceiling_usd=ceiling).leader
        assert found is not None
        assert found.label == leader


def test_equal_means_have_no_leader_and_a_ceiling_below_all_has_nobody() -> None:
    tied = decide_by_means([mean("v1", 0.9), mean("v2", 0.9)], rule=WinnerRule.FAITHFULNESS)
    assert (tied.leader, tied.reason.startswith("No version is ahead by the means alone")) == (None, True)
    none = decide_by_means([mean("v1", 0.9, 0.1)], rule=WinnerRule.FAITHFULNESS_UNDER_CEILING, ceiling_usd=0.01)
    assert none.reason == "No run costs less than $0.0100 a query."

"""Who wins among evaluated prompts: literal scores, exact numbers, and a pair for each verdict."""

import math
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.errors import InvalidInput
from core.prompts.decisions import (
    Candidate,
    Interval,
    Point,
    WinnerRule,
    bootstrap_interval,
    decide_winner,
    pareto_front,
    smallest_visible_difference,
)

PER_COST, UNDER_CEILING = WinnerRule.FAITHFULNESS_PER_COST, WinnerRule.FAITHFULNESS_UNDER_CEILING


def candidate(label, scores, cost=0.001, **options):
    return Candidate(f"run-{label}", label, {f"c{n:02}": s for n, s in enumerate(scores, 1)}, cost, **options)


def test_a_clear_difference_names_a_winner():
    good, poor = candidate("v2", [1.0] * 18 + [0.5] * 2), candidate("v1", [0.5, 0.7] * 10)
    decision = decide_winner([poor, good], rule=UNDER_CEILING, ceiling_usd=0.01)
    assert decision.winner is decision.leader is good
    assert decision.rival is poor
    assert decision.difference == pytest.approx(0.35)
    assert 0.2 < decision.interval.low < 0.35 < decision.interval.high < 0.45
    assert (decision.wins, decision.losses, decision.ties, decision.cases) == (18, 1, 1, 20)
    assert decision.reason.startswith(
        "v2 wins by faithfulness under a cost ceiling: v2 0.95 at $0.0010 against v1 0.60"
    )


@settings(max_examples=40, deadline=None)
@given(scores=st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=6, max_size=40))
def test_the_difference_in_a_sentence_is_that_of_its_two_means(scores):
    pair = [candidate(label, [each[at] for each in scores]) for at, label in enumerate(("v1", "v2"))]
    decision = decide_winner(pair, rule=UNDER_CEILING, ceiling_usd=0.01)
    said = re.search(r"v\d (\d\.\d+) at \S+ against v\d (\d\.\d+) at \S+ difference ([+-]\d\.\d+) ", decision.reason)
    assert said, decision.reason
    assert float(said[1]) - float(said[2]) == pytest.approx(float(said[3]), abs=1e-9)
    low, high = map(float, re.findall(r"interval (-?\d\.\d+) to (-?\d\.\d+)", decision.reason)[0])
    assert low <= float(said[3]) <= high
    better, worse, equal = map(int, re.findall(r"(?:better in|worse in|equal in) (\d+)", decision.reason))
    assert better + worse + equal == len(scores)


def test_a_small_noisy_difference_names_no_winner_and_says_what_could_be_shown():
    one = candidate("v2", [1.0, 0.5] * 10)
    two = candidate("v1", [0.5, 1.0] * 9 + [0.9, 0.5])
    decision = decide_winner([one, two], rule=UNDER_CEILING, ceiling_usd=0.01)
    assert decision.winner is None
    assert decision.leader is one
    assert decision.interval.low < 0 < decision.interval.high
    size = f"{decision.smallest_difference:.2f}"
    assert (
        f"No clear winner yet by faithfulness under a cost ceiling: 20 cases can only show a difference of {size}"
        in (decision.reason)
    )


def test_per_cost_the_cheaper_wins_at_equal_faithfulness():
    cheap, dear = candidate("v3", [0.9] * 10, 0.0003), candidate("v2", [0.9] * 10, 0.0004)
    decision = decide_winner([dear, cheap], rule=PER_COST)
    assert decision.winner is cheap
    assert decision.difference == pytest.approx(0.9 - 0.9 * 0.75)
    assert (decision.wins, decision.losses, decision.ties) == (0, 0, 10)
    assert "as faithful as v2 (0.90, all 10 cases equal) at 25% lower cost, $0.000300 a query" in decision.reason


def test_under_a_ceiling_equal_scores_have_no_winner_but_the_cheaper_leads():
    cheap, dear = candidate("v3", [0.9] * 10, 0.0003), candidate("v2", [0.9] * 10, 0.0004)
    decision = decide_winner([dear, cheap], rule=UNDER_CEILING, ceiling_usd=1.0)
    assert (decision.winner, decision.leader, decision.smallest_difference) == (None, cheap, 0.0)
    assert "all 10 cases score the same under both" in decision.reason


def test_the_rule_changes_the_winner():
    thrifty, thorough = candidate("thrifty", [0.7] * 12, 0.001), candidate("thorough", [0.95] * 12, 0.002)
    assert decide_winner([thrifty, thorough], rule=PER_COST).winner is thrifty
    assert decide_winner([thrifty, thorough], rule=UNDER_CEILING, ceiling_usd=0.002).winner is thorough
    assert decide_winner([thrifty, thorough], rule=UNDER_CEILING, ceiling_usd=0.0015).winner is thrifty


def test_a_ceiling_below_all_costs_leaves_nobody():
    decision = decide_winner([candidate("v1", [0.9] * 6, 0.02)], rule=UNDER_CEILING, ceiling_usd=0.01)
    assert (decision.winner, decision.leader) == (None, None)
    assert decision.reason == "No run costs less than $0.0100 a query; the cheapest, v1, costs $0.0200."


@pytest.mark.parametrize(("cases", "wins"), [(5, False), (6, True)])
def test_fewer_than_six_cases_name_no_winner(cases, wins):
    decision = decide_winner([candidate("a", [1.0] * cases), candidate("b", [0.0] * cases)], rule=PER_COST)
    assert (decision.winner is not None) is wins
    assert ("5 cases are too few" in decision.reason) is not wins


def test_one_case_has_no_interval_and_no_winner():
    decision = decide_winner([candidate("a", [1.0]), candidate("b", [0.0])], rule=PER_COST)
    assert (decision.winner, decision.interval) == (None, None)


def test_one_run_alone_wins_nothing():
    decision = decide_winner([candidate("v1", [1.0] * 20)], rule=PER_COST)
    assert (decision.winner, decision.leader.label) == (None, "v1")
    assert decide_winner([], rule=PER_COST).reason == "There are no runs to compare."


def test_runs_over_different_cases_are_not_compared():
    decision = decide_winner([candidate("a", [1.0] * 20), candidate("b", [0.0] * 18)], rule=PER_COST)
    assert (decision.comparable, decision.winner, decision.leader) == (False, None, None)
    assert decision.reason.startswith("Not comparable: 2 cases only in a, 0 only in b.")


def test_equal_case_ids_with_different_content_are_not_compared():
    one, two = (candidate(name, [1.0] * 9, dataset_digest=name) for name in "ab")
    assert not decide_winner([one, two], rule=PER_COST).comparable
    assert decide_winner([one, candidate("c", [0.0] * 9, dataset_digest="a")], rule=PER_COST).comparable


def test_each_of_several_rivals_must_be_beaten():
    best = candidate("best", [1.0, 0.9] * 10)
    near, far = candidate("near", [0.9, 1.0] * 9 + [1.0, 0.8]), candidate("far", [0.1, 0.2] * 10)
    assert decide_winner([best, far], rule=PER_COST).winner is best
    against_both = decide_winner([far, best, near], rule=PER_COST)
    assert (against_both.winner, against_both.rival) == (None, near)


def test_more_rivals_do_not_make_the_test_stricter():
    best, near = candidate("best", [0.9, 0.8] * 20), candidate("near", [0.85, 0.75, 0.85, 0.85] * 10)
    crowd = [candidate(f"far-{number}", [0.2, 0.1] * 20) for number in range(7)]
    alone, among_many = (decide_winner([best, near, *others], rule=PER_COST) for others in ((), crowd))
    assert alone.winner is among_many.winner is best
    assert among_many.interval == alone.interval


def test_the_verdict_is_the_same_each_time():
    runs = [candidate("a", [1.0, 0.2] * 10), candidate("b", [0.4, 0.6] * 10)]
    assert decide_winner(runs, rule=PER_COST) == decide_winner(runs, rule=PER_COST)


def test_the_interval_holds_its_promise_on_small_samples():
    rng = np.random.default_rng(7)
    samples = rng.normal(0.1, 0.2, size=(300, 12))
    covered = sum(i.low <= 0.1 <= i.high for i in map(bootstrap_interval, samples.tolist()))
    assert 0.92 <= covered / 300 <= 0.98


def test_equal_prompts_seldom_get_a_winner():
    rng = np.random.default_rng(11)
    named = 0
    for _ in range(200):
        one, two = (candidate(name, rng.choice([0.0, 0.5, 1.0], 20).tolist()) for name in "ab")
        named += decide_winner([one, two], rule=UNDER_CEILING, ceiling_usd=1.0).winner is not None
    assert named / 200 <= 0.08


def test_the_smallest_difference_shrinks_with_the_root_of_the_cases():
    few, many = [0.0, 0.2] * 50, [0.0, 0.2] * 200
    assert smallest_visible_difference(few) / smallest_visible_difference(many) == pytest.approx(2.0, rel=0.02)
    # 20 cases, sd 0.1: (2.0930 + 0.8610) * 0.1026 / sqrt(20), from t tables with 19 degrees of freedom
    assert smallest_visible_difference([0.0, 0.2] * 10) == pytest.approx(2.954 * 0.102598 / math.sqrt(20), abs=1e-4)


def test_the_interval_of_equal_differences_is_a_point():
    assert bootstrap_interval([0.25] * 8) == Interval(0.25, 0.25)
    with pytest.raises(InvalidInput, match="at least 2"):
        bootstrap_interval([0.25])


@pytest.mark.parametrize(
    ("runs", "options", "message"),
    [
        ([candidate("a", [1.2])], {"rule": PER_COST}, "a, case c01: must be 0 to 1"),
        ([candidate("a", [math.nan])], {"rule": PER_COST}, "must be 0 to 1"),
        ([candidate("a", [])], {"rule": PER_COST}, "no scored case"),
        ([candidate("a", [1.0], 0.0)], {"rule": PER_COST}, "cost_usd_mean"),
        ([candidate("a", [1.0], math.nan)], {"rule": UNDER_CEILING, "ceiling_usd": 1.0}, "cost_usd_mean"),
        ([candidate("a", [1.0])], {"rule": UNDER_CEILING}, "is needed for"),
        ([candidate("a", [1.0])], {"rule": PER_COST, "ceiling_usd": 1.0}, "cannot be used with"),
        ([candidate("a", [1.0])], {"rule": UNDER_CEILING, "ceiling_usd": -1.0}, "more than 0"),
    ],
)
def test_wrong_input_is_named(runs, options, message):
    with pytest.raises(InvalidInput, match=message):
        decide_winner(runs, **options)


def test_the_front_holds_what_no_other_beats():
    points = [
        Point("cheap", 0.1, 0.5),
        Point("worse", 0.2, 0.4),
        Point("same price", 0.1, 0.3),
        Point("good", 0.3, 0.9),
        Point("twin", 0.3, 0.9),
        Point("dear", 0.4, 0.9),
    ]
    assert [point.run_id for point in pareto_front(points)] == ["cheap", "good", "twin"]
    assert pareto_front([]) == ()

import pytest

from core.errors import InvalidInput
from core.indexes.probes import (
    GoldenQuery,
    Hit,
    ProbeLimits,
    ProbeReport,
    check_count,
    check_golden,
    check_passages,
    check_recall,
    check_scores,
)

LIMITS = ProbeLimits(top_k=2)


def hits(*found):
    return [Hit(f"{text}.md", text, score) for text, score in found]


def test_an_index_with_fewer_chunks_than_registered_is_not_complete():
    assert check_count(10, 10).passed
    assert not check_count(9, 10).passed
    assert not check_count(0, 0).passed


def test_passages_that_do_not_find_themselves_show_swapped_vectors():
    assert check_passages(["a", "b"], [hits(("a", 1.0)), hits(("B", 1.0), ("b", 0.9999))]).passed
    broken = check_passages(["a", "b"], [hits(("b", 0.4)), hits(("a", 0.4))])
    assert (broken.passed, broken.measured, broken.reason) == (
        False,
        0.0,
        "0 of 2 passages are found by their own text",
    )
    assert not check_passages(["a"], [hits(("b", 1.0))]).passed
    assert not check_passages(["a"], [[]]).passed


def test_a_golden_set_passes_when_enough_queries_find_a_document_in_the_top_k():
    golden = [GoldenQuery("q1", ("a.md",)), GoldenQuery("q2", ("x.md", "b.md"))]
    check, missed = check_golden(golden, [hits(("a", 0.9)), hits(("c", 0.8), ("b", 0.7))], LIMITS)
    assert (check.passed, check.measured, missed) == (True, 1.0, ())
    check, missed = check_golden(golden, [hits(("a", 0.9)), hits(("c", 0.8), ("d", 0.7), ("b", 0.6))], LIMITS)
    assert (check.passed, check.measured, missed) == (False, 0.5, (golden[1],))
    assert (
        "1 of 2 golden queries find their document in the top 2 (90% required); one that does not: 'q2'" in check.reason
    )


def test_a_golden_document_is_found_under_a_longer_path_but_not_under_a_longer_name():
    golden = [GoldenQuery("q", ("ring.md",))]
    assert check_golden(golden, [[Hit("corpus/ring.md", "", 1.0)]], LIMITS)[0].passed
    assert not check_golden(golden, [[Hit("corpus/spring.md", "", 1.0)]], LIMITS)[0].passed


def test_recall_counts_what_both_hold_and_lets_better_passages_take_their_place():
    live = [hits(("a", 0.8), ("b", 0.7))]
    better = [hits(("new", 0.9), ("a", 0.8))]
    assert check_recall(live, better, {"a", "b", "new"}, LIMITS).measured == 1.0
    removed = [hits(("b", 0.7), ("c", 0.1))]
    assert check_recall(live, removed, {"b", "c"}, LIMITS).measured == 1.0
    lost = [hits(("b", 0.7), ("c", 0.1))]
    check = check_recall(live, lost, {"a", "b", "c"}, LIMITS)
    assert (check.passed, check.measured) == (False, 0.5)
    nothing = check_recall(live, lost, {"c"}, LIMITS)
    assert (nothing.passed, nothing.measured) == (True, None)


def test_the_mean_score_of_recent_queries_must_hold():
    live = [hits(("a", 0.8)), hits(("b", 0.6))]
    assert check_scores(live, [hits(("a", 0.79)), hits(("b", 0.58))], LIMITS).passed
    fallen = check_scores(live, [hits(("a", 0.8)), []], LIMITS)
    assert (fallen.passed, fallen.reason) == (False, "the mean score of recent questions goes from 0.70 to 0.40")


def test_a_report_passes_when_all_of_it_does_and_says_why_not():
    good, bad = check_count(3, 3), check_count(2, 3)
    assert ProbeReport("i", (good,)).passed
    assert ProbeReport("i", (good,)).summary == "passed: complete"
    assert not ProbeReport("i", (good, bad)).passed
    assert ProbeReport("i", (good, bad)).summary == "failed: 2 of 3 chunks are there"


@pytest.mark.parametrize("limit", [{"top_k": 0}, {"recall": 1.1}, {"golden_share": -0.1}, {"score_drop": 2}])
def test_limits_outside_their_range_are_refused(limit):
    with pytest.raises(InvalidInput, match=next(iter(limit))):
        ProbeLimits(**limit)

"""Two runs side by side, case by case: literal results, literal sides."""

from core.prompts.pairs import Side, count_sides, pair_cases
from core.tracking.cases import CaseResult


def case(case_id: str, faithfulness: float, *, question: str = "", error: str = "") -> CaseResult:
    return CaseResult(
        case_id, question or f"{case_id}?", True, "So.", False, faithfulness, 0.5, True, True, (), (), (), 1, 1, 0.1,
        None, error,
    )  # fmt: skip


def test_each_case_says_who_did_better_the_largest_difference_first() -> None:
    first = [case("a", 1.0), case("b", 0.5), case("c", 0.25)]
    second = [case("c", 1.0), case("b", 0.5), case("a", 0.75)]
    pairs = pair_cases(first, second)
    assert [(pair.first.case_id, pair.side, pair.difference) for pair in pairs] == [
        ("c", Side.SECOND, -0.75), ("a", Side.FIRST, 0.25), ("b", Side.TIE, 0.0),
    ]  # fmt: skip
    assert count_sides(pairs) == {Side.FIRST: 1, Side.SECOND: 1, Side.TIE: 1}


def test_a_case_that_only_one_of_them_judged_is_in_no_pair() -> None:
    first, second = [case("a", 1.0), case("b", 1.0)], [case("a", 0.0, error="timed out"), case("c", 1.0)]
    assert pair_cases(first, second) == ()
    assert count_sides(()) == {Side.FIRST: 0, Side.SECOND: 0, Side.TIE: 0}

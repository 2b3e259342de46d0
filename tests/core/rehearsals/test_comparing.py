"""The rule: which questions a rollback would change, counted from what both sides answered, and never made up."""

from core.rehearsals.comparing import Rehearsal, Rehearsed, SideAnswer, compare_sides, describe_rehearsal
from core.replay.shifts import ReplayShift


def side(**means: float) -> dict[str, SideAnswer]:
    return {text: SideAnswer(text, 10, mean) for text, mean in means.items()}


def compare(now: dict[str, SideAnswer], back: dict[str, SideAnswer], metric: Rehearsed = Rehearsed.SCORE) -> Rehearsal:
    return compare_sides(now, back, metric=metric, back_to="blue", basis="the questions that both answered")


def test_each_question_is_compared_with_itself() -> None:
    found = compare(side(a=0.8, b=0.5, c=0.6, d=0.9), side(a=0.6, b=0.7, c=0.605, e=0.1))
    assert (found.asked, found.known, found.worse, found.better, found.mean) == (4, 3, 1, 1, None)
    assert [(each.text, each.now, each.back) for each in found.named] == [("a", 0.8, 0.6), ("b", 0.5, 0.7)]
    assert describe_rehearsal(found) == (
        "If rolled back to blue now: 1 question would get worse, 1 better, and 1 would stay alike, by their score. "
        "For 1 more nothing can be told: blue did not answer them. This rests on the questions that both answered."
    )


def test_without_evidence_there_is_no_number() -> None:
    said = describe_rehearsal(compare(side(a=0.8, b=0.7), side(c=0.6)))
    assert said == (
        "If rolled back to blue now: cannot tell, because none of the 2 questions that it answered was answered by "
        "blue too."
    )
    assert "no question was answered yet" in describe_rehearsal(compare({}, side(c=0.6)))


def test_the_mean_is_told_from_30_questions_on() -> None:
    now = {str(at): SideAnswer(str(at), 1, 0.7) for at in range(30)}
    back = {str(at): SideAnswer(str(at), 1, 0.6 + at / 1000) for at in range(30)}
    assert compare(dict(list(now.items())[:29]), back).mean is None
    found = compare(now, back)
    assert found.mean is not None
    assert found.mean.low < found.mean.value < found.mean.high < 0


def test_a_judgment_has_to_move_further_than_a_score() -> None:
    assert compare(side(a=0.80), side(a=0.77)).worse == 1
    assert compare(side(a=0.80), side(a=0.77), Rehearsed.FAITHFULNESS).worse == 0


def test_the_mean_change_has_three_decimals_only_where_two_would_hide_it() -> None:
    clear = Rehearsal("v1", Rehearsed.SCORE, 40, 40, 30, 0, ReplayShift(-0.1, -0.12, -0.08), "the log")
    assert "would change by -0.10 (-0.12 to -0.08)." in describe_rehearsal(clear)
    small = Rehearsal("v1", Rehearsed.SCORE, 40, 40, 30, 0, ReplayShift(-0.004, -0.012, 0.004), "the log")
    assert "would change by -0.004 (-0.012 to +0.004)." in describe_rehearsal(small)

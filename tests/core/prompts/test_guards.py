"""Who may win at all: literal candidates, and a pair for each guard."""

from core.prompts.decisions import Candidate, WinnerRule
from core.prompts.guards import admit_candidates

PER_COST, ALONE = WinnerRule.FAITHFULNESS_PER_COST, WinnerRule.FAITHFULNESS


def candidate(label: str, faithfulness: float, *, wrong: int | None = 0, cases: int = 20) -> Candidate:
    """A candidate with that faithfulness in all cases, that is wrong in its first decisions to refuse."""
    names = [f"c{n:02}" for n in range(cases)]
    refusals = {} if wrong is None else {name: at >= wrong for at, name in enumerate(names)}
    return Candidate(label, label, dict.fromkeys(names, faithfulness), 0.001, refusals=refusals)


def admitted(*candidates: Candidate, rule: WinnerRule = ALONE, **options: object) -> list[str]:
    found = admit_candidates(candidates, rule=rule, **options)  # type: ignore[arg-type]
    assert len(found.admitted) + len(found.reasons) == len(candidates)
    return [each.label for each in found.admitted]


def test_a_candidate_that_refuses_worse_than_production_by_more_than_the_margin_may_not_win() -> None:
    live, within, beyond = candidate("v1", 0.8), candidate("v2", 0.9, wrong=1), candidate("v3", 0.99, wrong=2)
    assert admitted(beyond, within, live, production="v1") == ["v2", "v1"]
    said = admit_candidates([beyond, live], rule=ALONE, production="v1").refusing[0]
    assert said == (
        "v3 cannot win: it refuses or answers rightly in 90% of the cases, v1 in production in 100% (margin 5%)"
    )


def test_production_itself_and_runs_that_do_not_tell_are_not_held_to_it() -> None:
    assert admitted(candidate("v2", 0.9), candidate("v1", 0.8, wrong=9), production="v1") == ["v2", "v1"]
    assert admitted(candidate("v2", 0.9, wrong=None), candidate("v1", 0.8), production="v1") == ["v2", "v1"]


def test_without_production_only_a_sure_difference_counts() -> None:
    assert admitted(candidate("v2", 0.9, wrong=12), candidate("v1", 0.8)) == ["v1"]
    assert admitted(candidate("v2", 0.9, wrong=2), candidate("v1", 0.8)) == ["v2", "v1"]


def test_per_cost_a_candidate_below_the_floor_may_not_win() -> None:
    poor, fair, good = candidate("poor", 0.45), candidate("fair", 0.7), candidate("good", 0.9)
    assert admitted(poor, fair, good, rule=PER_COST) == ["fair", "good"]
    assert admitted(poor, fair, good, rule=PER_COST, production="good") == ["good"]
    assert admitted(poor, fair, good, rule=PER_COST, floor=0.4) == ["poor", "fair", "good"]
    assert admitted(poor, fair, good) == ["poor", "fair", "good"]


def test_production_over_other_cases_is_compared_over_those_that_both_have() -> None:
    live = candidate("v1", 0.8, cases=10)
    assert admitted(candidate("v2", 0.9, wrong=1), candidate("v3", 0.9), elsewhere=live) == ["v3"]
    few = candidate("v1", 0.8, cases=5)
    assert admitted(candidate("v2", 0.9, wrong=1), candidate("v3", 0.9), elsewhere=few) == ["v2", "v3"]

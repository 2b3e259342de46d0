"""Rule: who may win at all: versions that refuse worse than production, or fall below the floor, are left out.

`decisions.py` decides among the others.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from core.prompts.decisions import MINIMUM_CASES, Candidate, WinnerRule, bootstrap_interval

REFUSAL_MARGIN = 0.05  # of the cases
FLOOR = 0.5  # of mean faithfulness, under the rule per cost
FLOOR_MARGIN = 0.10  # by which a cheaper version may be less faithful than production
_EXACT = 1e-9


@dataclass(frozen=True, slots=True)
class Admission:
    """The candidates that may win; `refusing` and `unfaithful` say in one sentence each who may not, and why."""

    admitted: tuple[Candidate, ...]
    refusing: tuple[str, ...] = ()
    unfaithful: tuple[str, ...] = ()

    @property
    def reasons(self) -> tuple[str, ...]:
        """Who was left out, and why."""
        return self.refusing + self.unfaithful


def admit_candidates(
    candidates: Sequence[Candidate],
    *,
    rule: WinnerRule,
    production: str | None = None,
    floor: float | None = None,
    elsewhere: Candidate | None = None,
) -> Admission:
    """Return the candidates that may win; `production` is the id of production's run, if it takes part.

    `elsewhere` is production's run over other cases, if it does not take part: the refusals are then compared over the
    cases that both have, if these are at least 6.

    A candidate that decides rightly whether to refuse in a smaller share of the shared cases than production, by more
    than 5 percentage points, may not win. Without production, neither may one that is surely worse by that much than
    another: the 95% interval of the difference (`bootstrap_interval`) lies below 0. Runs that do not tell right
    refusals from wrong ones are not held to it.

    Under the rule per cost, a candidate needs a mean faithfulness of at least `floor`; by default 0.5, or 0.10 below
    production's where that is higher. Production itself is never left out for its refusals.
    """
    live = next((each for each in candidates if each.run_id == production), None)
    refusing, unfaithful = [], []
    admitted = []
    lowest = _floor(live, floor) if rule is WinnerRule.FAITHFULNESS_PER_COST else 0.0
    for each in candidates:
        if problem := _refuses_worse(each, candidates, live or _shared_enough(each, elsewhere)):
            refusing.append(problem)
        elif each.faithfulness < lowest - _EXACT:
            unfaithful.append(
                f"{each.label} cannot win: its faithfulness, {each.faithfulness:.2f}, is below the floor, {lowest:.2f}"
            )
        else:
            admitted.append(each)
    return Admission(tuple(admitted), tuple(refusing), tuple(unfaithful))


def _floor(live: Candidate | None, floor: float | None) -> float:
    if floor is not None:
        return floor
    return max(FLOOR, live.faithfulness - FLOOR_MARGIN) if live else FLOOR


def _shared_enough(each: Candidate, other: Candidate | None) -> Candidate | None:
    return other if other and len(each.refusals.keys() & other.refusals.keys()) >= MINIMUM_CASES else None


def _refuses_worse(each: Candidate, candidates: Sequence[Candidate], live: Candidate | None) -> str:
    rivals = [live] if live else [other for other in candidates if other is not each]
    for rival in rivals:
        both = [case for case in each.refusals if case in rival.refusals]
        if rival is each or not both:
            continue
        differences = [float(each.refusals[case]) - float(rival.refusals[case]) for case in both]
        mean = sum(differences) / len(differences)
        if mean < -REFUSAL_MARGIN - _EXACT and (live or _surely_negative(differences)):
            own, others = (sum(one.refusals[case] for case in both) / len(both) for one in (each, rival))
            who = f"{rival.label} in production" if live else rival.label
            return (
                f"{each.label} cannot win: it refuses or answers rightly in {own:.0%} of the cases, {who} in "
                f"{others:.0%} (margin {REFUSAL_MARGIN:.0%})"
            )
    return ""


def _surely_negative(differences: Sequence[float]) -> bool:
    return len(differences) > 1 and bootstrap_interval(differences).high < 0

"""Rule: compares two runs case by case: where the first was better, where the second.

`decisions.py` decides which is better overall.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from core.tracking.cases import CaseResult

_TIE = 1e-9


class Side(StrEnum):
    """Who did better in one case."""

    FIRST = "first"
    SECOND = "second"
    TIE = "tie"


@dataclass(frozen=True, slots=True)
class CasePair:
    """What two runs made of the same case."""

    first: CaseResult
    second: CaseResult

    @property
    def difference(self) -> float:
        """The faithfulness of the first less that of the second."""
        return self.first.faithfulness - self.second.faithfulness

    @property
    def side(self) -> Side:
        """Who was more faithful."""
        if abs(self.difference) < _TIE:
            return Side.TIE
        return Side.FIRST if self.difference > 0 else Side.SECOND


def pair_cases(first: Sequence[CaseResult], second: Sequence[CaseResult]) -> tuple[CasePair, ...]:
    """Return the cases that both runs judged, those with the largest difference first, else in the first's order."""
    others = _judged(second)
    pairs = [CasePair(case, others[case_id]) for case_id, case in _judged(first).items() if case_id in others]
    return tuple(sorted(pairs, key=lambda pair: -abs(pair.difference)))


def count_sides(pairs: Sequence[CasePair]) -> Mapping[Side, int]:
    """Return in how many cases each side did better."""
    counts = Counter(pair.side for pair in pairs)
    return {side: counts[side] for side in Side}


def list_shared_cases(runs: Sequence[Sequence[CaseResult]]) -> tuple[str, ...]:
    """Return the ids of the cases that every run judged, with the same question and the same right to refuse."""
    if not runs:
        return ()
    judged = [_judged(cases) for cases in runs]
    return tuple(
        case_id
        for case_id, case in judged[0].items()
        if all(
            (other := others.get(case_id)) is not None
            and (other.question, other.answerable) == (case.question, case.answerable)
            for others in judged[1:]
        )
    )


def _judged(cases: Sequence[CaseResult]) -> dict[str, CaseResult]:
    return {case.case_id: case for case in cases if not case.error}

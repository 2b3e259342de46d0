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
    """The results of two runs for the same case."""

    first: CaseResult
    second: CaseResult

    @property
    def difference(self) -> float:
        """The first run's faithfulness minus the second's."""
        return self.first.faithfulness - self.second.faithfulness

    @property
    def side(self) -> Side:
        """Which run was more faithful."""
        if abs(self.difference) < _TIE:
            return Side.TIE
        return Side.FIRST if self.difference > 0 else Side.SECOND


def pair_cases(first: Sequence[CaseResult], second: Sequence[CaseResult]) -> tuple[CasePair, ...]:
    """Return the cases that both runs judged, largest difference first, ties in the first run's order."""
    others = identify_cases(second)
    pairs = [CasePair(case, others[key]) for key, case in identify_cases(first).items() if key in others]
    return tuple(sorted(pairs, key=lambda pair: -abs(pair.difference)))


def count_sides(pairs: Sequence[CasePair]) -> Mapping[Side, int]:
    """Return in how many cases each side did better."""
    counts = Counter(pair.side for pair in pairs)
    return {side: counts[side] for side in Side}


def identify_cases(cases: Sequence[CaseResult]) -> dict[str, CaseResult]:
    """Return the judged cases by what is asked, so that runs of any convention can be set side by side.

    The id of a case tells questions apart that occur twice, and cases without a question.
    """
    judged = [case for case in cases if not case.error]
    often = Counter(" ".join(case.question.split()) for case in judged)
    found = {}
    for case in judged:
        asked = " ".join(case.question.split())
        key = asked if asked and often[asked] == 1 else f"{asked}\0{case.case_id}"
        found[key if case.answerable else f"{key}\0refuse"] = case
    return found

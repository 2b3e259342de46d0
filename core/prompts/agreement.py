"""Rule: how far a judge can be trusted. Compares its verdicts with labeled rows.

`calibration.py` asks the judge.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from core.errors import InvalidInput


class Skill(StrEnum):
    """What a judge has to decide; also the suffix of the file with the labeled rows."""

    FAITHFULNESS = "faithfulness"
    RELEVANCY = "relevancy"
    REFUSAL = "refusal"


# Skill -> the label's field, the field that is judged, and the fields it is judged against.
_FIELDS: Mapping[Skill, tuple[str, str, tuple[str, ...]]] = {
    Skill.FAITHFULNESS: ("supported", "sentence", ("context",)),
    Skill.RELEVANCY: ("relevant", "answer", ("question",)),
    Skill.REFUSAL: ("refused", "answer", ()),
}


@dataclass(frozen=True, slots=True)
class Labeled:
    """A text labeled by a person: whether it is supported by `context`, answers `question`, or refuses."""

    row_id: str
    text: str
    label: bool
    context: str = ""
    question: str = ""
    kind: str = ""


@dataclass(frozen=True, slots=True)
class JudgeVerdict:
    """A judge's verdict on one row; `problem` says why there is none."""

    row: Labeled
    judged: bool = False
    problem: str = ""

    @property
    def agrees(self) -> bool:
        """Whether judge and person agree; a missing verdict counts as disagreement."""
        return not self.problem and self.judged is self.row.label


@dataclass(frozen=True, slots=True)
class Agreement:
    """One judge on one labeled set."""

    judge: str
    skill: Skill
    verdicts: tuple[JudgeVerdict, ...]

    @property
    def share(self) -> float:
        """The share of rows on which judge and label agree, 0 to 1."""
        return sum(verdict.agrees for verdict in self.verdicts) / len(self.verdicts)

    @property
    def wrong(self) -> tuple[JudgeVerdict, ...]:
        """The rows on which they disagree, including those without a verdict."""
        return tuple(verdict for verdict in self.verdicts if not verdict.agrees)

    @property
    def too_kind(self) -> int:
        """How many rows the judge accepts against the label; these inflate a score."""
        return sum(not verdict.problem and verdict.judged and not verdict.row.label for verdict in self.verdicts)

    @property
    def too_strict(self) -> int:
        """How many rows the judge rejects against the label."""
        return sum(not verdict.problem and not verdict.judged and verdict.row.label for verdict in self.verdicts)

    @property
    def unjudged(self) -> int:
        """How many rows got no verdict."""
        return sum(bool(verdict.problem) for verdict in self.verdicts)


def parse_labeled(text: str, skill: Skill, *, source: str) -> tuple[Labeled, ...]:
    """Return the rows of a JSON Lines text. Raises InvalidInput, naming the line and the field."""
    label, judged, given = _FIELDS[skill]
    wanted: dict[str, type] = {"id": str, label: bool, judged: str, **dict.fromkeys(given, str)}
    rows = []
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            row = _parse_row(line, wanted, f"{source} line {number}")
            by = {name: row[name] for name in given}
            rows.append(Labeled(row["id"], row[judged], row[label], kind=str(row.get("kind", "")), **by))
    if not rows:
        raise InvalidInput(source, "has no labeled rows")
    return tuple(rows)


def describe_agreement(found: Agreement) -> str:
    """Return the agreement of judge and labels, and the direction of the errors, in one line."""
    total, missed = len(found.verdicts), len(found.wrong)
    said = f"{found.skill}, {found.judge}: agrees with {found.share:.1%} of {total} labeled cases"
    if not missed:
        return said
    ways = {"too kind": found.too_kind, "too strict": found.too_strict, "no verdict": found.unjudged}
    return f"{said}; {', '.join(f'{count} {way}' for way, count in ways.items() if count)}"


def say_verdicts(wrong: Sequence[JudgeVerdict]) -> list[str]:
    """Return one line per row on which judge and label differ."""
    return [
        f"{verdict.row.row_id}{f' ({verdict.row.kind})' if verdict.row.kind else ''}: "
        f"labeled {_word(verdict.row.label)}, {verdict.problem or f'judged {_word(verdict.judged)}'}: "
        f"{' '.join(verdict.row.text.split())}"
        for verdict in wrong
    ]


def _parse_row(line: str, wanted: Mapping[str, type], source: str) -> Mapping[str, Any]:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise InvalidInput(source, f"is not JSON: {error.msg}") from error
    if not isinstance(row, dict):
        raise InvalidInput(source, f"must be a JSON object, not {type(row).__name__}")
    for name, kind in wanted.items():
        if not isinstance(row.get(name), kind) or row[name] == "":
            raise InvalidInput(f"{source}, field {name}", f"must be a {kind.__name__} and not be empty")
    return row


def _word(answer: bool) -> str:
    return "yes" if answer else "no"

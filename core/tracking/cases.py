"""Rule: evaluation cases: one question with what a good answer needs, and its result in one run.

Text in, values out: a JSONL file of cases, and the per-case table that every evaluation keeps beside its metrics.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from core.errors import InvalidInput
from core.safety.letters import check_letters

_FIELDS = {"id": str, "question": str, "expected_documents": list, "reference_answer": str, "answerable": bool}


@dataclass(frozen=True, slots=True)
class Case:
    """One question of the test set. `answerable` is False if the documents lack the answer, so refusing is right."""

    id: str
    question: str
    expected_documents: tuple[str, ...]
    reference_answer: str
    answerable: bool


@dataclass(frozen=True, slots=True)
class CaseResult:
    """The result of one prompt on one case. Scores are 0 to 1.

    `sentences` are those of the answer; `supported` says for each whether the retrieved context supports it.
    `retrieval_hit` is True if an expected document was retrieved, None if the case expects none. `error` says in one
    line why there is no answer or no verdict; the scores are then a meaningless 0.
    """

    case_id: str
    question: str
    answerable: bool
    answer: str
    refused: bool
    faithfulness: float
    relevancy: float
    refusal_correct: bool
    retrieval_hit: bool | None
    documents: tuple[str, ...]
    sentences: tuple[str, ...]
    supported: tuple[bool, ...]
    input_tokens: int
    output_tokens: int
    cost_usd: float
    latency_ms: float | None
    error: str = ""


def parse_cases(text: str, *, source: str = "cases") -> tuple[Case, ...]:
    """Return the cases of a JSONL text, one object per line; empty lines are skipped.

    Raises InvalidInput with source, line and field for anything missing, unknown, empty, duplicate or of the wrong
    type.
    """
    cases: list[Case] = []
    seen: dict[str, int] = {}
    lines = text.removeprefix("\ufeff").split("\n")  # a question may hold other line separators
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        where = f"{source} line {number}"
        case = _parse_case(line, where)
        if case.id in seen:
            raise InvalidInput(f"{where}, field id", f"{case.id!r} was already used in line {seen[case.id]}")
        seen[case.id] = number
        cases.append(case)
    if not cases:
        raise InvalidInput(source, "has no cases; write one JSON object per line")
    return tuple(cases)


def dataset_digest(cases: Sequence[Case]) -> str:
    """Return 16 hexadecimal digits that change with the content of any case, but not with their order."""
    lines = sorted(json.dumps(asdict(case), sort_keys=True, ensure_ascii=False) for case in cases)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def render_case_results(results: Sequence[CaseResult]) -> str:
    """Return the per-case table as JSON, saved with an evaluation run as `cases.json`."""
    return json.dumps([asdict(result) for result in results], ensure_ascii=False, indent=1)


def parse_case_results(text: str, *, source: str = "cases.json") -> tuple[CaseResult, ...]:
    """Return the per-case table written by `render_case_results`. Raises InvalidInput for anything else."""
    names = {field.name for field in fields(CaseResult)}
    try:
        rows = json.loads(text)
        for row in rows:
            if set(row) | {"error"} != names:  # older tables have no errors
                raise InvalidInput(source, f"has other fields than this version: {sorted(names ^ set(row))}")
        return tuple(CaseResult(**{key: _frozen(value) for key, value in row.items()}) for row in rows)
    except (json.JSONDecodeError, TypeError) as error:
        raise InvalidInput(source, f"is not a table of case results: {error}") from error


def _parse_case(line: str, where: str) -> Case:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise InvalidInput(where, f"is not JSON: {error.msg} at column {error.colno}") from error
    except RecursionError as error:
        raise InvalidInput(where, "is nested too deeply") from error
    check_letters(row, where)
    if not isinstance(row, dict):
        raise InvalidInput(where, f"must be a JSON object, not {type(row).__name__}")
    if unknown := sorted(set(row) - set(_FIELDS)):
        raise InvalidInput(f"{where}, field {unknown[0]}", f"is unknown; the fields are: {', '.join(_FIELDS)}")
    for name, kind in _FIELDS.items():
        _check_field(f"{where}, field {name}", row.get(name), kind)
    if not all(isinstance(document, str) and document for document in row["expected_documents"]):
        raise InvalidInput(f"{where}, field expected_documents", "must be a list of document names")
    if row["answerable"] and not row["expected_documents"]:
        raise InvalidInput(f"{where}, field expected_documents", "is empty, but the case is answerable")
    return Case(
        row["id"], row["question"], tuple(row["expected_documents"]), row["reference_answer"], row["answerable"]
    )


def _check_field(where: str, value: object, kind: type) -> None:
    if value is None:
        raise InvalidInput(where, "is missing")
    if not isinstance(value, kind):
        raise InvalidInput(where, f"must be of type {kind.__name__}, not {type(value).__name__}")
    if isinstance(value, str) and not value.strip():
        raise InvalidInput(where, "is empty")


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value

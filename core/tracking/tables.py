"""Rule: reads cases of any convention: tables of `mlflow.evaluate` and others, and traces of `mlflow.genai.evaluate`.

Text and values in, cases out. The deck's own table is in `cases.py`.
"""

import hashlib
import json
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from core.errors import InvalidInput
from core.tracking.cases import CaseResult, parse_case_results
from core.tracking.conventions import matches_cost, matches_score, score_of

QUESTIONS = ("question", "query", "inputs", "input", "user_input", "request", "prompt", "messages")
ANSWERS = ("outputs", "output", "answer", "response", "prediction", "predictions", "actual_output")
IDS = ("case_id", "id", "test_id", "question_id", "request_id")
COSTS = ("cost_usd", "cost", "total_cost", "cost_per_query_usd")
REFUSALS = ("refusal_correct", "refusal_accuracy")
_NAMES_OF_CASES = frozenset((*QUESTIONS, *IDS)) - {"prompt", "messages"}
_OF_MANY = re.compile(r"mean|avg|average|min|max|median|p\d\d", re.IGNORECASE)
# Under which names a case keeps its judgments in an object of their own.
_NESTED = ("scores", "metrics", "assessments", "evaluation", "judgments")
_NO_SCORE = "has no score"
_YES = {"yes": 1.0, "true": 1.0, "pass": 1.0, "passed": 1.0, "no": 0.0, "false": 0.0, "fail": 0.0, "failed": 0.0}


@dataclass(frozen=True, slots=True)
class CaseTable:
    """The cases of one run. `has_refusals` says whether the run tells right refusals from wrong ones.

    Figures of a case that the run does not report are NaN.
    """

    cases: tuple[CaseResult, ...]
    has_refusals: bool = False
    source: str = ""

    @property
    def highest(self) -> float:
        """The highest score of a case, which tells the scale; 0 without scores."""
        return max((case.faithfulness for case in self.cases if not case.error), default=0.0)


@dataclass(frozen=True, slots=True)
class AssessedTrace:
    """One trace of an evaluation: its inputs as JSON, and its assessments by name, as JSON values."""

    trace_id: str
    inputs: str
    answer: str
    scores: Mapping[str, Any]
    cost_usd: float | None = None
    latency_ms: float | None = None


def parse_table(text: str, scores: Sequence[str], *, source: str, is_guess: bool = False) -> CaseTable:
    """Return the cases of a table in any common shape, or of the deck's own. Raises InvalidInput for anything else.

    `scores` are the names that the faithfulness of a case may have. Of a file that may be anything (`is_guess`), a
    table of means is not taken for cases: its rows need a question or an id, and a score of their own.
    """
    try:
        told = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidInput(source, f"is not JSON: {error}") from error
    if own := _read_own(told, text, source=source):
        return own
    rows = _list_rows(told, scores)
    if rows is None:
        raise InvalidInput(source, "is no table of cases")
    rows = [_flatten(row) for row in rows]
    names = list(dict.fromkeys(name for row in rows for name in row))
    if not any(find_score(name, scores) for name in names):
        raise InvalidInput(
            source, f"has no column of {' or '.join(scores[:3])}; its columns are {', '.join(names[:12])}"
        )
    if is_guess and not _is_of_cases(names, scores):
        raise InvalidInput(source, "has no row for each case")
    return _table([_read_row(row, scores) for row in rows], names, source)


def _is_of_cases(names: Sequence[str], scores: Sequence[str]) -> bool:
    judged = [name for name in names if find_score(name, scores)]
    is_named = any(name.lower() in _NAMES_OF_CASES for name in names)
    return is_named and not all(_OF_MANY.search(name) for name in judged)


def _read_own(told: Any, text: str, *, source: str) -> CaseTable | None:
    """The deck's own table; None for any other one. A case whose score is no number has none."""
    if not (isinstance(told, list) and told and isinstance(told[0], dict)):
        return None
    if not told[0].keys() >= {"case_id", "refusal_correct"}:
        return None
    try:
        cases = parse_case_results(text, source=source)
    except InvalidInput:
        return None
    judged = (case if to_score(case.faithfulness) is not None else _without_score(case) for case in cases)
    return CaseTable(tuple(judged), has_refusals=True, source=source)


def _without_score(case: CaseResult) -> CaseResult:
    return replace(case, faithfulness=0.0, error=case.error or _NO_SCORE)


def _list_rows(told: Any, scores: Sequence[str]) -> list[dict[str, Any]] | None:
    """The rows of a table in any of the shapes that pandas and others write; None for what is no table."""
    if isinstance(told, list):
        return told if all(isinstance(row, dict) for row in told) else None
    if not isinstance(told, dict):
        return None
    if isinstance(told.get("columns"), list) and isinstance(told.get("data"), list):
        names = [str(name) for name in told["columns"]]
        return [dict(zip(names, row, strict=False)) for row in told["data"] if isinstance(row, list)]
    if any(find_score(str(name), scores) for name in told):
        return _list_columns(told)
    by_id = [{"id": name, **row} for name, row in told.items() if isinstance(row, dict)]
    if len(by_id) == len(told) and any(name.lower() in QUESTIONS for row in by_id for name in row):
        return by_id
    inside = (rows for rows in map(_as_rows, told.values()) if rows)
    return next((rows for rows in inside if any(find_score(name, scores) for name in _flatten(rows[0]))), None)


def _list_columns(told: Mapping[str, Any]) -> list[dict[str, Any]] | None:
    """The rows of a table that is written by columns, each a list or an object by row."""
    columns = {name: list(cells.values()) if isinstance(cells, dict) else cells for name, cells in told.items()}
    columns = {name: cells for name, cells in columns.items() if isinstance(cells, list)}
    if len({len(cells) for cells in columns.values()}) != 1:
        return None
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _as_rows(value: Any) -> list[dict[str, Any]]:
    return value if isinstance(value, list) and all(isinstance(row, dict) for row in value) else []


def _flatten(row: Mapping[str, Any]) -> dict[str, Any]:
    """The row with the judgments that it keeps in an object of their own."""
    nested = [row[name] for name in row if name.lower() in _NESTED and isinstance(row[name], dict)]
    return {**{name: value for each in nested for name, value in each.items()}, **row}


def read_traces(traces: Sequence[AssessedTrace], scores: Sequence[str], *, source: str) -> CaseTable:
    """Return the cases of assessed traces. Raises InvalidInput if no trace has such a score."""
    rows = []
    for trace in sorted(traces, key=lambda each: each.trace_id):
        told = _load(trace.inputs)
        asked: dict[str, Any] = told if isinstance(told, dict) else {"inputs": trace.inputs}
        cost = trace.cost_usd if trace.cost_usd is not None else _cost(trace.scores)
        row = {**asked, "outputs": trace.answer, **trace.scores, "cost_usd": cost, "latency_ms": trace.latency_ms}
        rows.append((row, trace.inputs))
    names = list(dict.fromkeys(name for row, _ in rows for name in row))
    assessed = [name for each in traces for name in each.scores]
    if not any(find_score(name, scores) for name in assessed):
        found = ", ".join(list(dict.fromkeys(assessed))[:12]) or "none"
        raise InvalidInput(source, f"have no assessment of {' or '.join(scores[:3])}; there are: {found}")
    return _table([_read_row(row, scores, whole=whole) for row, whole in rows], names, source)


def find_score(name: str, scores: Sequence[str]) -> str:
    """Return which of the scores a column holds, "" for none: `faithfulness/v1/score` holds `faithfulness`."""
    exact = next((score for score in scores if _is_exact(name, score)), "")
    return exact or next((score for score in scores if matches_score(name, score)), "")


def rescale(tables: Sequence[CaseTable]) -> tuple[tuple[CaseTable, ...], float]:
    """Return the tables with scores of 0 to 1, and the highest score of their scale.

    The scale is inferred from all tables together, so that a run of poor answers is not taken for one of perfect ones:
    1, 5 (from 1, as MLflow's judges grade), 10 or 100.
    """
    highest = max((table.highest for table in tables), default=0.0)
    scale = find_scale(highest)
    lowest = min((case.faithfulness for table in tables for case in table.cases if not case.error), default=1.0)
    return tuple(
        replace(table, cases=tuple(_scaled(case, scale, lowest) for case in table.cases)) for table in tables
    ), scale


def find_scale(highest: float) -> float:
    """Return the scale that a highest score tells: 1, 5, 10 or 100; 1 if it is on none of them."""
    return next((float(top) for top in (1, 5, 10, 100) if highest <= top + 1e-9), 1.0)


def rescale_mean(value: float, scale: float, *, lowest: float = 1.0) -> float:
    """Return a mean on that scale as 0 to 1."""
    return min(1.0, (value - 1) / 4 if scale == 5 and lowest >= 1 else value / scale)


def _scaled(case: CaseResult, scale: float, lowest: float) -> CaseResult:
    return case if case.error else replace(case, faithfulness=rescale_mean(case.faithfulness, scale, lowest=lowest))


def _table(rows: Sequence[tuple[CaseResult, str]], names: Sequence[str], source: str) -> CaseTable:
    """Give each case an id that is the same in every run over the same questions."""
    often = Counter(case.question for case, _ in rows)
    seen: Counter[str] = Counter()
    cases = []
    for case, whole in rows:
        asked = case.question if often[case.question] == 1 else whole or case.question
        seen[asked] += 1
        case_id = case.case_id or hashlib.sha256(asked.encode()).hexdigest()[:8]
        repeated = f"-{seen[asked]}" if seen[asked] > 1 else ""
        cases.append(replace(case, case_id=f"{case_id}{repeated}", question=asked))
    return CaseTable(tuple(cases), any(score_of(name).lower() in REFUSALS for name in names), source)


def _read_row(row: Mapping[str, Any], scores: Sequence[str], *, whole: str = "") -> tuple[CaseResult, str]:
    score = _score(row, scores)
    question = _text(_first(row, QUESTIONS))
    if not question:  # no usual name: all that is neither an answer nor a judgment
        asked = {name: value for name, value in row.items() if name not in ANSWERS and "/" not in name}
        question = whole or json.dumps({k: v for k, v in asked.items() if isinstance(v, str)}, sort_keys=True)
    right = to_score(_first(row, REFUSALS))
    latency = _number(row, ("latency_ms",))
    case = CaseResult(
        case_id=_text(_first(row, IDS)), question=question, answerable=True, answer=_text(_first(row, ANSWERS)),
        refused=row.get("refused") is True, faithfulness=score if score is not None else 0.0, relevancy=math.nan,
        refusal_correct=right is None or right >= 0.5, retrieval_hit=None, documents=(), sentences=(), supported=(),
        input_tokens=0, output_tokens=0, cost_usd=_cost(row, math.nan), latency_ms=latency,
        error="" if score is not None else _NO_SCORE,
    )  # fmt: skip
    return case, whole or json.dumps(row.get("inputs", question), sort_keys=True, default=str)


def _score(row: Mapping[str, Any], scores: Sequence[str]) -> float | None:
    """The first of the scores that this row has, in the order of the names."""
    found: dict[str, float] = {}
    for name, value in row.items():
        wanted, score = find_score(name, scores), to_score(value)
        if wanted and score is not None and (wanted not in found or _is_exact(name, wanted)):
            found[wanted] = score
    return next((found[name] for name in scores if name in found), None)


def _is_exact(name: str, score: str) -> bool:
    return score_of(name).lower().replace(" ", "_") == score.lower()


def to_score(value: object) -> float | None:
    """Return a judgment as a number: yes, true and pass are 1; None for what is no judgment.

    >>> to_score("yes"), to_score(0.5), to_score({"score": 0.5, "reason": "so"}), to_score(None), to_score("unclear")
    (1.0, 0.5, 0.5, None, None)
    """
    if isinstance(value, dict):
        return to_score(_first(value, ("score", "value")))
    if isinstance(value, bool):
        return float(value)
    if isinstance(value, int | float):
        return float(value) if math.isfinite(value) and value >= 0 else None
    if isinstance(value, str):
        try:
            return to_score(float(value))
        except ValueError:
            return _YES.get(value.strip().lower())
    return None


def _number(row: Mapping[str, Any], names: Sequence[str], otherwise: Any = None) -> Any:
    value = _first(row, names)
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if is_number and value >= 0 else otherwise


def _cost(row: Mapping[str, Any], otherwise: Any = None) -> Any:
    return _number(row, (*COSTS, *(name.lower() for name in row if matches_cost(name))), otherwise)


def _first(row: Mapping[str, Any], names: Sequence[str]) -> Any:
    lower = {name.lower(): name for name in row}
    return next((row[lower[name]] for name in names if row.get(lower.get(name, "")) not in (None, "")), None)


def _text(value: object) -> str:
    """A cell as text; an object with a question in it is that question."""
    if isinstance(value, dict):
        return _text(_first(value, QUESTIONS)) or json.dumps(value, sort_keys=True, ensure_ascii=False)
    if isinstance(value, list):
        said = [each.get("content") for each in value if isinstance(each, dict) and each.get("role") == "user"]
        return str(said[-1]) if said else json.dumps(value, ensure_ascii=False)
    if isinstance(value, str) and value[:1] in "{[" and not isinstance(told := _load(value), str):
        return _text(told)
    return "" if value is None else " ".join(str(value).split())


def _load(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text

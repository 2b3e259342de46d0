"""Rule: reads scores from records (JSON, Parquet) or cells of text (CSV), from spans, and from MLflow's assessments.

`quarterdeck.scores` says what a score is. Every record is either a score or refused with its number, field and problem.
"""

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from core.errors import InvalidInput
from core.intake.notes import Judgement
from core.intake.rows import UNKNOWN_FIELD, RefusedRow, ScopeBinder, TimeReader
from quarterdeck.clock import DAY_MS, now_ms, to_ms
from quarterdeck.redaction import Redactor
from quarterdeck.scope import Scope, make_scope
from quarterdeck.scores import FOR_ANY_SERVICE, MAX_COMMENT_CHARACTERS, Score, check_score

SCORE_FIELDS = ("retrieval_id", "name", "value", "comment", "source", "ts", "service", "environment")
REQUIRED_FIELDS = ("retrieval_id", "name", "value")

_NAMES = frozenset(SCORE_FIELDS)
_SOURCES = {"HUMAN": "reviewer", "LLM_JUDGE": "judge", "AI_JUDGE": "judge", "LLM": "judge", "CODE": "code"}
_RESULT = re.compile(
    r"(trace\.)?(annotation|evaluation)s\.(\d{1,4})\.\2\.(name|score|label|explanation|annotator_kind)"
)
_GEN_AI = {
    "name": "gen_ai.evaluation.name", "score": "gen_ai.evaluation.score.value",
    "label": "gen_ai.evaluation.score.label", "explanation": "gen_ai.evaluation.explanation",
}  # fmt: skip
_WORDS = {"yes": 1.0, "no": 0.0, "true": 1.0, "false": 0.0, "pass": 1.0, "fail": 0.0}


@dataclass(frozen=True, slots=True)
class PlacedScore:
    """A score, its number in the request or file, whose it is, and which rows it may belong to."""

    number: int
    score: Score
    scope: Scope
    pending: int = FOR_ANY_SERVICE

    @property
    def row(self) -> dict[str, Any]:
        """The score as the store takes it."""
        return {**self.score._asdict(), **self.scope._asdict(), "pending": self.pending}


@dataclass(frozen=True, slots=True)
class ParsedScores:
    """The parsed records: every one is either a score or refused."""

    scores: tuple[PlacedScore, ...]
    refused: tuple[RefusedRow, ...]


def parse_scores(
    records: Iterable[object],
    *,
    read_time: TimeReader,
    redact: Redactor,
    bind: ScopeBinder = lambda named: make_scope(*named),
    pending: int = FOR_ANY_SERVICE,
    first: int = 0,
) -> ParsedScores:
    """Return the scores of records, and the refused records, numbered from `first`. Comments are redacted.

    A record that is an InvalidInput was already refused by its source.
    """
    found, refused = [], []
    for number, record in enumerate(records, first):
        try:
            if isinstance(record, InvalidInput):
                raise record
            score, scope = _parse(record, read_time, redact, bind)
            found.append(PlacedScore(number, score, scope, pending))
        except InvalidInput as error:
            refused.append(RefusedRow(number, error.field, error.problem))
    return ParsedScores(tuple(found), tuple(refused))


def read_cells(cells: Mapping[str, str]) -> dict[str, Any]:
    """Return the record of a row of text: empty cells are None, and the value is a number if it looks like one."""
    record: dict[str, Any] = {field: text or None for field, text in cells.items()}
    try:
        record["value"] = float((cells.get("value") or "").replace("_", "no"))
    except ValueError:
        return record  # refused with the text that was given
    return record


def read_assessments(
    assessments: Iterable[Any], retrieval_id: str, *, redact: Redactor
) -> tuple[tuple[Score, ...], tuple[InvalidInput, ...]]:
    """Return the scores that the assessments of an MLflow trace give to one row, and what is wrong with the others.

    Takes MLflow's objects or their JSON. Expectations and assessments that a newer one overrides are left out. The
    source is `reviewer`, `judge` or `code`; yes and no, pass and fail, true and false are 1 and 0.
    """
    scores, refused = [], []
    for found in assessments:
        given = _to_mapping(found)
        if given.get("valid") is False or "feedback" not in given:
            continue
        try:
            scores.append(_read_assessment(given, retrieval_id, redact))
        except InvalidInput as error:
            refused.append(error)
    return tuple(scores), tuple(refused)


def judge_span(
    attributes: Mapping[str, Any], events: Iterable[tuple[str, Mapping[str, Any]]], *, redact: Redactor
) -> tuple[tuple[Judgement, ...], tuple[InvalidInput, ...]]:
    """Return what a span says of quality, and what is wrong with the rest of it.

    Understood are OpenInference's annotations and evaluations (of the span and of its trace), its evaluator spans with
    a score in their metadata, and OpenTelemetry's event `gen_ai.evaluation.result` (or its attributes on the span).
    """
    given = [*_list_flat(attributes)]
    for name, event in (*events, ("gen_ai.evaluation.result", attributes)):
        if name == "gen_ai.evaluation.result" and event.get("gen_ai.evaluation.name") is not None:
            given.append(({field: event.get(key) for field, key in _GEN_AI.items()}, False))
    if str(attributes.get("openinference.span.kind", "")).upper() == "EVALUATOR":
        metadata = {key: value for key, value in _read_metadata(attributes).items() if value is not None}
        if "score" in metadata:
            given.append(({"name": metadata.get("evaluator_name"), "annotator_kind": "LLM", **metadata}, True))
    found, refused = [], []
    for result, of_trace in given:
        try:
            found.append(_read_result(result, redact)._replace(of_trace=of_trace))
        except InvalidInput as error:
            refused.append(error)
    return tuple(found), tuple(refused)


def _parse(record: object, read_time: TimeReader, redact: Redactor, bind: ScopeBinder) -> tuple[Score, Scope]:
    if not isinstance(record, Mapping):
        raise InvalidInput("row", "must be an object with retrieval_id, name and value")
    if unknown := record.keys() - _NAMES:
        raise InvalidInput(min(map(str, unknown)), f"{UNKNOWN_FIELD} a score; there are: {', '.join(SCORE_FIELDS)}")
    for field in REQUIRED_FIELDS:
        if record.get(field) is None:
            raise InvalidInput(field, "is missing")
    scope = bind((record.get("environment"), record.get("service")))
    source = record.get("source")
    ts = read_time(record.get("ts"))
    if ts.tzinfo is None:
        raise InvalidInput("ts", "must be a time with a time zone")
    if to_ms(ts) > now_ms() + DAY_MS:
        raise InvalidInput("ts", "lies more than a day ahead; no later score could replace this one")
    score = check_score(
        record["retrieval_id"], record["name"], record["value"], comment=_redacted(record.get("comment"), redact),
        source="user" if source is None else source, ts_ms=to_ms(ts),
    )  # fmt: skip
    return score, scope


def _list_flat(attributes: Mapping[str, Any]) -> list[tuple[dict[str, Any], bool]]:
    """Return OpenInference's results, which are written as one attribute a field, and whether they are of the trace."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for key, value in attributes.items():
        if match := _RESULT.fullmatch(key):
            found.setdefault((match[1] or "", f"{match[2]}.{match[3]}"), {})[match[4]] = value
    results: list[tuple[dict[str, Any], bool]] = []
    for (prefix, _), result in found.items():
        if (result, bool(prefix)) not in results:  # both forms may carry the same
            results.append((result, bool(prefix)))
    return results


def _read_result(result: Mapping[str, Any], redact: Redactor) -> Judgement:
    kind = result.get("annotator_kind")
    value = result.get("score")
    score = check_score(
        "-", result.get("name"), _as_number(result.get("label")) if value is None else value,
        comment=_redacted(result.get("explanation"), redact),
        source="judge" if kind is None else _SOURCES.get(str(kind).upper(), "user"),
    )  # fmt: skip
    return Judgement(score.name, score.value, score.source, score.comment)


def _read_metadata(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the metadata of a span: a JSON object, or one attribute a field."""
    given = attributes.get("metadata")
    try:
        whole = json.loads(given) if isinstance(given, str) else given
    except ValueError:
        whole = None
    flat = {key.removeprefix("metadata."): value for key, value in attributes.items() if key.startswith("metadata.")}
    return {**(whole if isinstance(whole, Mapping) else {}), **flat}


def _read_assessment(given: Mapping[str, Any], retrieval_id: str, redact: Redactor) -> Score:
    source = _to_mapping(given.get("source"))
    kind = str(getattr(source.get("source_type"), "value", source.get("source_type") or ""))
    feedback = given["feedback"]
    value = feedback.get("value") if isinstance(feedback, Mapping) else getattr(feedback, "value", feedback)
    return check_score(
        retrieval_id, given.get("assessment_name") or given.get("name"), _as_number(value),
        comment=_redacted(given.get("rationale"), redact), source=_SOURCES.get(kind.upper(), "user"),
        ts_ms=_read_ms(given.get("last_update_time_ms") or given.get("last_update_time")),
    )  # fmt: skip


def _to_mapping(found: Any) -> Mapping[str, Any]:
    """Return the JSON of one of MLflow's objects."""
    if found is None:
        return {}
    if isinstance(found, Mapping):
        return found
    for name in ("to_dictionary", "to_dict"):
        convert: Callable[[], Mapping[str, Any]] | None = getattr(found, name, None)
        if convert is not None:
            return convert()
    raise InvalidInput("assessment", f"is not an assessment of MLflow's but {type(found).__name__}")


def _read_ms(given: Any) -> int | None:
    from datetime import datetime

    if isinstance(given, int) and not isinstance(given, bool):
        return given
    try:
        return to_ms(datetime.fromisoformat(given)) if isinstance(given, str) else None
    except ValueError:
        return None


def _as_number(value: Any) -> Any:
    """Return the number behind a word such as yes; anything else as it is."""
    return _WORDS.get(value.strip().casefold(), value) if isinstance(value, str) else value


def _redacted(comment: Any, redact: Redactor) -> Any:
    if not isinstance(comment, str):
        return comment
    return redact(comment[:MAX_COMMENT_CHARACTERS].encode("utf-8", "replace").decode())

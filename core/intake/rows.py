"""Rule: reads retrievals from rows, which are records with typed values; `records.py` makes those of files.

A row is either a retrieval or refused with its number, field and problem. None is repaired or lost.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from core.errors import InvalidInput
from core.intake.times import from_iso, in_range
from quarterdeck.clock import from_ms
from quarterdeck.redaction import Redactor
from quarterdeck.retrieval import MAX_QUERY_CHARACTERS, Retrieval
from quarterdeck.scope import Scope, make_scope

FIELDS = (
    "ts", "query", "score", "score_kind", "documents", "error", "session_id", "user_id", "service", "environment",
    "arm", "prompt_version", "index_version", "model", "latency_ms", "cost_usd", "tokens", "faithfulness", "feedback",
    "attributes", "answer", "trace_id", "span_id", "retrieval_id", "weight",
)  # fmt: skip

NUMBERS = frozenset({"score", "latency_ms", "cost_usd", "tokens", "faithfulness", "feedback"})

_FIELD_NAMES = frozenset(FIELDS)
_FIRST_MILLISECOND, _TOO_LARGE = 1e11, 1e14  # what a posted number may be: milliseconds from 1973 to 5138

TimeReader = Callable[[object], datetime]
ScopeBinder = Callable[[tuple[Any, Any]], Scope]
KindOf = Callable[[Scope], str]

UNKNOWN_FIELD = "is not a field of"  # begins the problem of a row with a field that does not exist


@dataclass(frozen=True, slots=True)
class RefusedRow:
    """A row that is not a retrieval: its number, the wrong field, and why."""

    row: int
    field: str
    problem: str


@dataclass(frozen=True, slots=True)
class Parsed:
    """The parsed rows: every row is either a retrieval or refused."""

    retrievals: tuple[Retrieval, ...]
    refused: tuple[RefusedRow, ...]


def parse_rows(
    rows: Iterable[object], read: Callable[[object], Retrieval], *, first: int = 0, strict: bool = False
) -> Parsed:
    """Return the retrievals that `read` makes of the rows, and the refused rows, numbered from `first`.

    A row that is an InvalidInput was already refused by its source. `strict` stops at the first refused row.
    """
    retrievals: list[Retrieval] = []
    refused: list[RefusedRow] = []
    for number, row in enumerate(rows, first):
        try:
            if isinstance(row, InvalidInput):
                raise row
            retrievals.append(read(row))
        except InvalidInput as error:
            refused.append(RefusedRow(number, error.field, error.problem))
            if strict:
                break
    return Parsed(tuple(retrievals), tuple(refused))


def parse_record(
    record: object,
    *,
    read_time: TimeReader,
    redact: Redactor,
    bind: ScopeBinder = lambda named: make_scope(*named),
    kind_of: KindOf = lambda _scope: "",
) -> Retrieval:
    """Return the retrieval of one record of typed values, with redacted texts. Raises InvalidInput with the field.

    `bind` returns its scope from the environment and the service that it names; `kind_of` what the scores of a service
    are where a row does not say it.
    """
    if not isinstance(record, Mapping):
        raise InvalidInput("row", "must be an object with a query")
    if unknown := record.keys() - _FIELD_NAMES:
        raise InvalidInput(min(map(str, unknown)), f"{UNKNOWN_FIELD} a retrieval; there are: {', '.join(FIELDS)}")
    if "query" not in record:
        raise InvalidInput("query", "is missing")
    fields = {name: value for name, value in record.items() if name not in ("service", "environment")}
    scope = bind((record.get("environment"), record.get("service")))
    if fields.get("score_kind") is None and (kind := kind_of(scope)):
        fields["score_kind"] = kind
    ts = read_time(record.get("ts"))
    for field in ("answer", "error"):  # what a search failed with may repeat the question
        if isinstance(text := record.get(field), str):
            fields[field] = _redacted(field, text, redact)
    query = record["query"]
    if isinstance(query, str) and len(query) <= MAX_QUERY_CHARACTERS:  # the retrieval refuses the others
        query = _redacted("query", query, redact)
    return Retrieval(**{**fields, "ts": ts, "query": query, "scope": scope})


def read_api_time(value: object, *, now: datetime) -> datetime:
    """Return the time of a posted row: ISO text with a zone, or integer milliseconds; `now` if it has none."""
    if value is None:
        return now
    if isinstance(value, str):
        return in_range(from_iso(value), value)
    if isinstance(value, bool) or not isinstance(value, int) or not _FIRST_MILLISECOND <= value < _TOO_LARGE:
        raise InvalidInput("ts", f"must be an ISO time with a zone or integer milliseconds, not {value!r}")
    return in_range(from_ms(value), value)


def _redacted(field: str, text: str, redact: Redactor) -> str:
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise InvalidInput(field, "contains text that is not valid Unicode") from error
    return redact(text)

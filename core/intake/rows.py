"""Rule: reads retrievals from rows: records with typed values (JSON, Parquet), or cells of text (CSV).

A row is either a retrieval or refused with its number, field and problem. None is repaired or lost.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from typing import Any

from core.errors import InvalidInput
from quarterdeck.clock import from_ms
from quarterdeck.redaction import Redactor
from quarterdeck.retrieval import LATEST, MAX_ANSWER_CHARACTERS, MAX_QUERY_CHARACTERS, Retrieval
from quarterdeck.scope import Scope, make_scope

FIELDS = (
    "ts", "query", "score", "score_kind", "documents", "error", "session_id", "user_id", "service", "environment",
    "arm", "prompt_version", "index_version", "model", "latency_ms", "cost_usd", "tokens", "faithfulness", "feedback",
    "attributes", "answer", "trace_id", "span_id", "retrieval_id", "weight",
)  # fmt: skip
NUMBERS = frozenset({"score", "latency_ms", "cost_usd", "tokens", "faithfulness", "feedback"})

_FIELD_NAMES = frozenset(FIELDS)
_EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)
# Numbers below this are epoch seconds (1973 to 5138); from here to the next limit, milliseconds.
_FIRST_SECOND, _FIRST_MILLISECOND, _TOO_LARGE = 1e8, 1e11, 1e14

TimeReader = Callable[[object], datetime]
ScopeBinder = Callable[[tuple[Any, Any]], Scope]


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
    record: object, *, read_time: TimeReader, redact: Redactor, bind: ScopeBinder = lambda named: make_scope(*named)
) -> Retrieval:
    """Return the retrieval of one record of typed values, with redacted texts. Raises InvalidInput with the field.

    `bind` returns its scope from the environment and the service that it names.
    """
    if not isinstance(record, Mapping):
        raise InvalidInput("row", "must be an object with a query")
    if unknown := record.keys() - _FIELD_NAMES:
        raise InvalidInput(min(map(str, unknown)), f"is not a field of a retrieval; there are: {', '.join(FIELDS)}")
    if "query" not in record:
        raise InvalidInput("query", "is missing")
    fields = {name: value for name, value in record.items() if name not in ("service", "environment")}
    scope = bind((record.get("environment"), record.get("service")))
    fields["ts"] = read_time(record.get("ts"))
    fields["query"] = _redacted(record["query"], redact)
    if record.get("answer") is not None:
        fields["answer"] = _redacted(record["answer"], redact, field="answer", longest=MAX_ANSWER_CHARACTERS)
    return Retrieval(**fields, scope=scope)


def parse_cells(cells: Mapping[str, str], *, read_time: TimeReader, redact: Redactor) -> Retrieval:
    """Return the retrieval of one row of text by field. Empty cells mean None; an empty score, an empty hit list."""
    record: dict[str, object] = {}
    for field, text in cells.items():
        if field in NUMBERS:
            record[field] = _number(field, text)
        else:
            record[field] = text if text or field == "query" else None
    return parse_record(record, read_time=read_time, redact=redact)


def read_api_time(value: object, *, now: datetime) -> datetime:
    """Return the time of a posted row: ISO text with a zone, or integer milliseconds; `now` if it has none."""
    if value is None:
        return now
    if isinstance(value, str):
        return _in_range(_from_iso(value), value)
    if isinstance(value, bool) or not isinstance(value, int) or not _FIRST_MILLISECOND <= value < _TOO_LARGE:
        raise InvalidInput("ts", f"must be an ISO time with a zone or integer milliseconds, not {value!r}")
    return _in_range(from_ms(value), value)


class FileTimes:
    """Reads the times of a file: ISO text, epoch seconds or milliseconds, times. `assumed` counts guesses.

    Times without a zone are read in `zone`, or in UTC if that is None.
    """

    def __init__(self, zone: tzinfo | None = None) -> None:
        self._zone = zone
        self.assumed: Counter[str] = Counter()

    def __call__(self, value: object) -> datetime:
        if isinstance(value, str):
            text = value.strip()
            value = float(text) if text.isascii() and text.replace(".", "", 1).isdigit() else _from_iso(text)
        if isinstance(value, datetime):
            return _in_range(value if value.tzinfo else self._with_zone(value), value)
        if value is None or isinstance(value, bool) or not isinstance(value, int | float):
            raise InvalidInput("ts", "is missing" if value is None else f"must be a time, not {value!r}")
        return _in_range(self._from_epoch(value), value)

    def notes(self) -> tuple[str, ...]:
        """Return the assumptions made about times, one line per kind."""
        return tuple(f"ts: {count:,} {kind}" for kind, count in sorted(self.assumed.items()))

    def _from_epoch(self, value: float) -> datetime:
        if not _FIRST_SECOND <= value < _TOO_LARGE:
            raise InvalidInput("ts", f"must be an ISO time, or seconds or milliseconds since 1970, not {value!r}")
        in_seconds = value < _FIRST_MILLISECOND
        self.assumed[f"numbers read as {'seconds' if in_seconds else 'milliseconds'} since 1970"] += 1
        return from_ms(round(value * 1000) if in_seconds else round(value))

    def _with_zone(self, value: datetime) -> datetime:
        if self._zone is None:
            self.assumed["times without a zone read as UTC; use --timezone for another"] += 1
        return value.replace(tzinfo=self._zone or UTC)


def _from_iso(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text)
    except ValueError as error:
        raise InvalidInput("ts", f"must be an ISO time, not {_shortened(text)}" if text else "is empty") from error


def _in_range(ts: datetime, given: object) -> datetime:
    if ts.tzinfo and not _EARLIEST <= ts < LATEST:
        raise InvalidInput("ts", f"must be between 1970 and 2100, not {_shortened(given)}")
    return ts


def _number(field: str, text: str) -> float | None:
    if not text.strip():
        return None
    try:
        return float(text.replace("_", "no"))  # Python would read 0_5 as a number
    except ValueError as error:
        raise InvalidInput(field, f"must be a number, not {_shortened(text)}") from error


def _redacted(text: object, redact: Redactor, *, field: str = "query", longest: int = MAX_QUERY_CHARACTERS) -> object:
    """Redact a text that can be stored; wrong types and lengths are left to the retrieval's own checks."""
    if not isinstance(text, str) or (len(text) > longest and field == "query"):
        return text
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise InvalidInput(field, "contains text that is not valid Unicode") from error
    return redact(text[:longest])


def _shortened(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."

"""Rule: the retrieval, one user query and how well the index covered it: a value and its checks."""

import math
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from quarterdeck.clock import to_ms
from quarterdeck.errors import InvalidInput

MAX_QUERY_CHARACTERS = 8_192
MAX_LABEL_CHARACTERS = 256
COLUMNS = (
    "ts_ms", "query", "score", "session_id", "arm", "prompt_version", "index_version",
    "latency_ms", "cost_usd", "faithfulness", "feedback",
)  # fmt: skip
_NUMBERS = ("score", "latency_ms", "cost_usd", "faithfulness", "feedback")
LATEST = datetime(2100, 1, 1, tzinfo=UTC)  # a time outside 1970 to 2100 is a wrong unit, not a time
_LATEST_MS = 4_102_444_800_000  # the same

# A retrieval as the log stores it: checked fields in the order of COLUMNS.
Row = tuple[
    int, str, float | None, str | None, str | None, str | None, str | None,
    float | None, float | None, float | None, float | None,
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Retrieval:
    """One user query and the similarity of its best hit.

    `ts` is a time with a time zone, from 1970 to 2099. `score` is 0 to 1, None if the search found nothing or failed.
    `arm` is blue or green, or an experiment's variant. `latency_ms` and `cost_usd` are 0 or more, `faithfulness` is
    0 to 1, `feedback` -1 to 1. `row` holds the fields as the log stores them. Raises InvalidInput, naming the field.

    >>> retrieval = Retrieval(datetime(2026, 3, 1, 12, tzinfo=UTC), "what is an mbuf", 0.78, session_id="s-17")
    >>> retrieval.score, retrieval.arm
    (0.78, None)
    >>> Retrieval(datetime(2026, 3, 1, tzinfo=UTC), "what is an mbuf", 1.2)
    Traceback (most recent call last):
    quarterdeck.errors.InvalidInput: score: must be a number between 0 and 1, not 1.2
    """

    ts: datetime
    query: str
    score: float | None
    session_id: str | None = None
    arm: str | None = None
    prompt_version: str | None = None
    index_version: str | None = None
    latency_ms: float | None = None
    cost_usd: float | None = None
    faithfulness: float | None = None
    feedback: float | None = None
    row: Row = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        row = check_row(
            (
                ts_to_ms(self.ts), self.query, self.score, self.session_id, self.arm, self.prompt_version,
                self.index_version, self.latency_ms, self.cost_usd, self.faithfulness, self.feedback,
            )
        )  # fmt: skip
        for name, value in zip(_NUMBERS, (row[2], *row[7:]), strict=True):
            object.__setattr__(self, name, value)  # whole numbers become floats: SQLite takes none beyond 64 bits
        object.__setattr__(self, "row", row)

    @property
    def ts_ms(self) -> int:
        """The time in milliseconds since 1970-01-01 UTC.

        >>> Retrieval(datetime(2026, 3, 1, 12, tzinfo=UTC), "what is an mbuf", 0.78).ts_ms
        1772366400000
        """
        return self.row[0]


def check_row(row: Row) -> Row:
    """Return the row with its numbers as floats. Raises InvalidInput, naming the field.

    One expression recognizes an ordinary row; only the others are checked field by field.
    """
    ts_ms, query, score, session, arm, prompt, index, latency_ms, cost_usd, faithfulness, feedback = row
    try:
        usual = (
            type(query) is str and 0 < len(query) <= MAX_QUERY_CHARACTERS and query.isprintable() and query.strip()
            and (score is None or (type(score) is float and 0.0 <= score <= 1.0))
            and (session is None or (type(session) is str and session.isprintable() and 0 < len(session) <= 256))
            and arm in _known_labels and prompt in _known_labels and index in _known_labels
            and (latency_ms is None or (type(latency_ms) is float and 0.0 <= latency_ms < math.inf))
            and cost_usd is None and faithfulness is None and feedback is None and 0 <= ts_ms < _LATEST_MS
        )  # fmt: skip
    except TypeError:  # a label that cannot be hashed
        usual = False
    return row if usual else _check_fields(row)


def ts_to_ms(ts: Any) -> int:
    """Return the time of a retrieval in milliseconds. Raises InvalidInput unless it has a time zone."""
    if not isinstance(ts, datetime) or ts.tzinfo is None:
        raise InvalidInput("ts", f"must be a time with a time zone, not {ts!r}")
    return to_ms(ts)


_MOST_KNOWN_LABELS = 10_000
_known_labels: set[str | None] = {None}


def _check_fields(row: Row) -> Row:
    ts_ms, query, score, session, arm, prompt, index, latency_ms, cost_usd, faithfulness, feedback = row
    if not 0 <= ts_ms < _LATEST_MS:
        raise InvalidInput("ts", "must be between the years 1970 and 2100")
    _check_query(query)
    score = _check_number("score", score, 0.0, 1.0)
    _check_label("session_id", session)
    labels = {"arm": arm, "prompt_version": prompt, "index_version": index}
    for name, label in labels.items():
        _check_label(name, label)
    if len(_known_labels) < _MOST_KNOWN_LABELS:
        _known_labels.update(labels.values())
    return (
        ts_ms, query, score, session, arm, prompt, index,
        _check_number("latency_ms", latency_ms, 0.0, math.inf),
        _check_number("cost_usd", cost_usd, 0.0, math.inf),
        _check_number("faithfulness", faithfulness, 0.0, 1.0),
        _check_number("feedback", feedback, -1.0, 1.0),
    )  # fmt: skip


def _check_query(query: object) -> None:
    if not isinstance(query, str):
        raise InvalidInput("query", f"must be text, not {type(query).__name__}")
    if not query.strip():
        raise InvalidInput("query", "is empty; log what the user asked")
    if len(query) > MAX_QUERY_CHARACTERS:
        raise InvalidInput("query", f"has {len(query):,} characters; the most is {MAX_QUERY_CHARACTERS:,}")
    if "\x00" in query:
        raise InvalidInput("query", "holds a null character; remove it")
    if any("\ud800" <= character <= "\udfff" for character in query):
        raise InvalidInput("query", "holds half a surrogate pair; send whole characters")


def _check_label(field: str, value: object) -> None:
    if value is None:
        return
    if not isinstance(value, str):
        raise InvalidInput(field, f"must be text, not {type(value).__name__}")
    if not value or len(value) > MAX_LABEL_CHARACTERS or not value.isprintable():
        raise InvalidInput(field, f"must be 1 to {MAX_LABEL_CHARACTERS} printable characters")


def _check_number(field: str, value: object, low: float, high: float) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidInput(field, f"must be a number, not {type(value).__name__}")
    if not math.isfinite(value) or not low <= value <= high:
        allowed = f"between {low:g} and {high:g}" if high < math.inf else "zero or more"
        raise InvalidInput(field, f"must be a number {allowed}, not {value!r}")
    return float(value)

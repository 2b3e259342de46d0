"""The retrieval: one user query and how well the index covered it. A value and its checks, nothing stored."""

import math
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from quarterdeck.clock import to_ms
from quarterdeck.errors import InvalidInput
from quarterdeck.schema import EMPTY_BIN, HISTOGRAM_BINS

MAX_QUERY_CHARACTERS = 8_192
MAX_LABEL_CHARACTERS = 256
COLUMNS = (
    "ts_ms", "query", "score", "session_id", "arm", "prompt_version", "index_version",
    "latency_ms", "cost_usd", "faithfulness", "feedback",
)  # fmt: skip
_NUMBERS = ("score", "latency_ms", "cost_usd", "faithfulness", "feedback")
_LAST_MS = 4_102_444_800_000  # 2100-01-01: what lies outside of 1970 to 2100 is a wrong unit, not a time

# A retrieval as the log stores it: its fields in the order of COLUMNS, checked.
Row = tuple[
    int, str, float | None, str | None, str | None, str | None, str | None,
    float | None, float | None, float | None, float | None,
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Retrieval:
    """One user query and its top-1 similarity.

    `score` is 0 to 1, or None when the search found nothing at all. `ts` is an aware time. `arm` is blue or green, or
    an experiment's variant. `faithfulness` is 0 to 1, `feedback` -1 to 1. Raises InvalidInput, naming the field.
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

    def __post_init__(self) -> None:
        checked = check_row(self.row)
        for name, value in zip(_NUMBERS, (checked[2], *checked[7:]), strict=True):
            object.__setattr__(self, name, value)  # a whole number is kept as a float: SQLite takes none past 64 bits

    @property
    def ts_ms(self) -> int:
        """The time in milliseconds since the epoch."""
        return ts_to_ms(self.ts)

    @property
    def row(self) -> Row:
        """The fields as the log stores them."""
        return (
            self.ts_ms, self.query, self.score, self.session_id, self.arm, self.prompt_version, self.index_version,
            self.latency_ms, self.cost_usd, self.faithfulness, self.feedback,
        )  # fmt: skip


def check_row(row: Row) -> Row:
    """Return the row, numbers as floats. Raises InvalidInput, naming the field.

    Nearly every row is of the usual kind, which one expression tells; only the others are looked at field by field.
    """
    ts_ms, query, score, session, arm, prompt, index, latency_ms, cost_usd, faithfulness, feedback = row
    try:
        usual = (
            type(query) is str and 0 < len(query) <= MAX_QUERY_CHARACTERS and query.isprintable() and query.strip()
            and (score is None or (type(score) is float and 0.0 <= score <= 1.0))
            and (session is None or (type(session) is str and session.isprintable() and 0 < len(session) <= 256))
            and arm in _known_labels and prompt in _known_labels and index in _known_labels
            and (latency_ms is None or (type(latency_ms) is float and 0.0 <= latency_ms < math.inf))
            and cost_usd is None and faithfulness is None and feedback is None and 0 <= ts_ms < _LAST_MS
        )  # fmt: skip
    except TypeError:  # a label that cannot be hashed
        usual = False
    return row if usual else _check_fields(row)


def ts_to_ms(ts: Any) -> int:
    """Return the time of a retrieval in milliseconds. Raises InvalidInput unless it is an aware time."""
    if not isinstance(ts, datetime) or ts.tzinfo is None:
        raise InvalidInput("ts", f"must be a time with a zone, not {ts!r}")
    return to_ms(ts)


def score_bin(score: float | None) -> int:
    """Return the histogram bin of a score: 0 to 49, or -1 for an empty hit list."""
    return EMPTY_BIN if score is None else min(HISTOGRAM_BINS - 1, int(score * HISTOGRAM_BINS))


_MOST_KNOWN_LABELS = 10_000
_known_labels: set[str | None] = {None}


def _check_fields(row: Row) -> Row:
    ts_ms, query, score, session, arm, prompt, index, latency_ms, cost_usd, faithfulness, feedback = row
    if not 0 <= ts_ms < _LAST_MS:
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

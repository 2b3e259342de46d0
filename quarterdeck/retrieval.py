"""Rule: the retrieval, one user query and how well the index covered it: a value and its checks."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from quarterdeck.clock import to_ms
from quarterdeck.errors import InvalidInput
from quarterdeck.hits import Hits, best_score, dump_attributes, dump_hits, read_attributes, read_documents
from quarterdeck.ids import name_of, new_id
from quarterdeck.scope import DEFAULT_SCOPE, Scope
from quarterdeck.similarity import COSINE, check_kind, is_number, to_similarity

MAX_QUERY_CHARACTERS = 8_192
MAX_ANSWER_CHARACTERS = 32_768
MAX_LABEL_CHARACTERS = 256
STATES = ("scored", "unscored", "empty", "failed")
SCORED, UNSCORED, EMPTY, FAILED = range(4)
COLUMNS = (
    "ts_ms", "query", "score", "session_id", "arm", "prompt_version", "index_version",
    "latency_ms", "cost_usd", "faithfulness", "feedback",
    "retrieval_id", "user_id", "model", "raw_score", "score_kind", "state", "documents", "attributes",
    "trace_id", "span_id", "answer", "tokens", "weight",
)  # fmt: skip
# The parts of a row with a retention of their own: their column, and what is there once they are removed.
FORGETTABLE = {"answers": ("answer", "NULL"), "documents": ("documents", "NULL"), "text": ("query", "''")}
LABELS = ("session_id", "arm", "prompt_version", "index_version", "user_id", "model", "trace_id", "span_id")
LATEST = datetime(2100, 1, 1, tzinfo=UTC)  # a time outside 1970 to 2100 is a wrong unit, not a time
_LATEST_MS = 4_102_444_800_000  # the same

# A retrieval as writers take it: checked values in the order of COLUMNS, and its scope. `score` is the similarity,
# `raw_score` the retriever's own number if it is another one. `documents` is Hits, `attributes` a dict.
Row = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Retrieval:
    """One user query and how well the index covered it.

    - `ts`: a time with a time zone, from 1970 to 2099.
    - `score`: the retriever's own number for its best hit; `score_kind` is one of `quarterdeck.similarity.KINDS`
      (a cosine by default). Without one, the best of `documents` is taken.
    - `documents`: the hits in order, each an id, an (id, score) or an object with `id` and `score`; 20 are kept.
      An empty list means that the search found nothing. `error`: the search failed.
    - `arm` is blue or green, or an experiment's variant. `latency_ms`, `cost_usd` and `tokens` are 0 or more,
      `faithfulness` is 0 to 1, `feedback` -1 to 1.
    - `attributes`: up to 32 further names and values. `weight`: how many questions this one stands for.

    `row` holds the fields as the log takes them. Raises InvalidInput, naming the field.

    >>> retrieval = Retrieval(datetime(2026, 3, 1, 12, tzinfo=UTC), "what is an mbuf", 0.78, session_id="s-17")
    >>> retrieval.score, retrieval.state, retrieval.arm
    (0.78, 'scored', None)
    >>> hits = [("docs/mbuf.md", 0.4), ("docs/ring.md", 0.3)]
    >>> Retrieval(datetime(2026, 3, 1, tzinfo=UTC), "what is an mbuf", documents=hits).similarity
    0.4
    """

    ts: datetime
    query: str
    score: float | None = None
    session_id: str | None = None
    arm: str | None = None
    prompt_version: str | None = None
    index_version: str | None = None
    latency_ms: float | None = None
    cost_usd: float | None = None
    faithfulness: float | None = None
    feedback: float | None = None
    retrieval_id: str | None = None
    user_id: str | None = None
    model: str | None = None
    score_kind: str | None = None
    documents: Sequence[Any] | None = None
    attributes: Mapping[str, Any] | None = None
    error: object = None
    trace_id: str | None = None
    span_id: str | None = None
    answer: str | None = None
    tokens: float | None = None
    weight: int | None = None
    scope: Scope = DEFAULT_SCOPE
    row: Row = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        row = make_row(
            ts_to_ms(self.ts), self.query, self.score, self.session_id, self.arm, self.prompt_version,
            self.index_version, self.latency_ms, self.cost_usd, self.faithfulness, self.feedback,
            self.retrieval_id, self.user_id, self.model, self.score_kind, self.documents, self.attributes, self.error,
            self.trace_id, self.span_id, self.answer, self.tokens, self.weight, self.scope,
        )  # fmt: skip
        for name, place in _REWRITTEN.items():
            object.__setattr__(self, name, row[place])  # whole numbers become floats: SQLite takes none beyond 64 bits
        if row[14] is not None or row[2] is not None:
            object.__setattr__(self, "score", row[2] if row[14] is None else row[14])
        object.__setattr__(self, "row", row)

    @property
    def ts_ms(self) -> int:
        """The time in milliseconds since 1970-01-01 UTC.

        >>> Retrieval(datetime(2026, 3, 1, 12, tzinfo=UTC), "what is an mbuf", 0.78).ts_ms
        1772366400000
        """
        return int(self.row[0])

    @property
    def name(self) -> str:
        """The id that the log stores: `retrieval_id`, or one that was made for it.

        >>> Retrieval(datetime(2026, 3, 1, tzinfo=UTC), "q", 0.25, retrieval_id="q-1").name
        'q-1'
        """
        return str(self.row[_NAME])

    @property
    def similarity(self) -> float | None:
        """The score as a similarity between 0 and 1; None if there is none, or its kind needs a learned map.

        >>> Retrieval(datetime(2026, 3, 1, tzinfo=UTC), "q", 0.25, score_kind="cosine_distance").similarity
        0.75
        """
        found: float | None = self.row[2]
        return found

    @property
    def state(self) -> str:
        """One of STATES: scored, unscored (hits without a number), empty (no hits), failed.

        >>> Retrieval(datetime(2026, 3, 1, tzinfo=UTC), "q", documents=["docs/mbuf.md"]).state
        'unscored'
        """
        return STATES[self.row[16]]


_REWRITTEN = {
    name: COLUMNS.index(name) for name in (*LABELS, "latency_ms", "cost_usd", "faithfulness", "feedback", "tokens")
}


def make_row(
    ts_ms: int, query: Any, score: Any, session: Any, arm: Any, prompt: Any, index: Any,
    latency_ms: Any, cost_usd: Any, faithfulness: Any, feedback: Any,
    retrieval_id: Any, user: Any, model: Any, kind: Any, documents: Any, attributes: Any, error: Any,
    trace_id: Any, span_id: Any, answer: Any, tokens: Any, weight: Any, scope: Scope,
) -> Row:  # fmt: skip
    """Return the checked row of these values. Raises InvalidInput, naming the field.

    One expression recognizes an ordinary row; only the others are checked field by field.
    """
    try:
        usual = (
            type(query) is str and 0 < len(query) <= MAX_QUERY_CHARACTERS and query.isprintable() and query.strip()
            and (score is None or (type(score) is float and 0.0 <= score <= 1.0))
            and (session is None or (type(session) is str and session.isprintable() and 0 < len(session) <= 256))
            and (user is None or (type(user) is str and user.isprintable() and 0 < len(user) <= 256))
            and arm in _known_labels and prompt in _known_labels and index in _known_labels and model in _known_labels
            and (latency_ms is None or (type(latency_ms) is float and 0.0 <= latency_ms < math.inf))
            and cost_usd is None and faithfulness is None and feedback is None
            and kind is None and error is None and retrieval_id is None
            and trace_id is None and span_id is None and answer is None and tokens is None and 0 <= ts_ms < _LATEST_MS
            and (weight is None or (type(weight) is int and 1 < weight <= 1_000_000))
        )  # fmt: skip
    except TypeError:  # a label that cannot be hashed
        usual = False
    if usual and documents is None and attributes is None:
        return (
            ts_ms, query, score, session, arm, prompt, index, latency_ms, None, None, None,
            new_id(ts_ms), user, model, None, None, EMPTY if score is None else SCORED, None, None,
            None, None, None, None, weight, scope,
        )  # fmt: skip
    if usual and score is not None:
        hits = None if documents is None else read_documents(documents)
        return (
            ts_ms, query, score, session, arm, prompt, index, latency_ms, None, None, None,
            new_id(ts_ms), user, model, None, None, SCORED, hits, read_attributes(attributes),
            None, None, None, None, weight, scope,
        )  # fmt: skip
    if not 0 <= ts_ms < _LATEST_MS:
        raise InvalidInput("ts", "must be between the years 1970 and 2100")
    _check_query(query)
    hits = None if documents is None else read_documents(documents)
    kind = check_kind(kind)
    similarity, raw, state = _read_score(score, kind, hits, error)
    labels = [
        _check_label(name, label)
        for name, label in zip(LABELS, (session, arm, prompt, index, user, model, trace_id, span_id), strict=True)
    ]
    session, arm, prompt, index, user, model, trace_id, span_id = labels
    if len(_known_labels) < _MOST_KNOWN_LABELS:
        _known_labels.update((arm, prompt, index, model))
    noted = read_attributes(attributes)
    if state == FAILED and not isinstance(error, bool):
        noted = {**(read_attributes({"error": str(error)}) or {}), **(noted or {})}
    return (
        ts_ms, query, similarity, session, arm, prompt, index,
        _check_number("latency_ms", latency_ms, 0.0, math.inf), _check_number("cost_usd", cost_usd, 0.0, math.inf),
        _check_number("faithfulness", faithfulness, 0.0, 1.0), _check_number("feedback", feedback, -1.0, 1.0),
        _check_label("retrieval_id", retrieval_id) or new_id(ts_ms), user, model, raw,
        None if kind == COSINE else kind, state, hits, noted, trace_id, span_id, _check_answer(answer),
        _check_number("tokens", tokens, 0.0, math.inf), _check_weight(weight), scope,
    )  # fmt: skip


def check_redacted(field: str, text: object) -> str:
    """Return what a redactor made of a text if the log can store it. Raises InvalidInput."""
    if not isinstance(text, str):
        raise InvalidInput(field, f"must be text after it is redacted, not {type(text).__name__}")
    _check_text(field, text)
    return text


def to_columns(row: Row) -> Row:
    """Return a row with its hits and attributes as the JSON that databases store; the scope stays at its end."""
    if row[_HITS] is None and row[_NOTED] is None:
        return row
    hits = None if row[_HITS] is None else dump_hits(row[_HITS])
    noted = None if row[_NOTED] is None else dump_attributes(row[_NOTED])
    return (*row[:_HITS], hits, noted, *row[_NOTED + 1 :])


_NAME = COLUMNS.index("retrieval_id")
_HITS, _NOTED = (COLUMNS.index(name) for name in ("documents", "attributes"))


def ts_to_ms(ts: Any) -> int:
    """Return the time of a retrieval in milliseconds. Raises InvalidInput unless it has a time zone."""
    if not isinstance(ts, datetime) or ts.tzinfo is None:
        raise InvalidInput("ts", f"must be a time with a time zone, not {ts!r}")
    return to_ms(ts)


_MOST_KNOWN_LABELS = 10_000
_known_labels: set[str | None] = {None}


def _read_score(score: Any, kind: str, hits: Hits | None, error: object) -> tuple[float | None, float | None, int]:
    """Return similarity, the retriever's own number if it is another one, and the state."""
    if error is not None and error is not False:
        return None, None, FAILED
    if score is None and hits:
        score = best_score(hits, kind)
    if score is None:
        return None, None, UNSCORED if hits else EMPTY
    if not is_number(score):
        what = repr(score) if isinstance(score, float) else type(score).__name__
        raise InvalidInput("score", f"must be a finite number, not {what}")
    raw = float(score)
    similarity = to_similarity(raw, kind)
    return similarity, None if raw == similarity else raw, SCORED


def _check_query(query: object) -> None:
    if not isinstance(query, str):
        raise InvalidInput("query", f"must be text, not {type(query).__name__}")
    if not query.strip():
        raise InvalidInput("query", "is empty; log what the user asked")
    if len(query) > MAX_QUERY_CHARACTERS:
        raise InvalidInput("query", f"has {len(query):,} characters; the most is {MAX_QUERY_CHARACTERS:,}")
    _check_text("query", query)


def _check_answer(answer: object) -> str | None:
    if answer is None:
        return None
    if not isinstance(answer, str):
        raise InvalidInput("answer", f"must be text, not {type(answer).__name__}")
    _check_text("answer", answer)
    return answer[:MAX_ANSWER_CHARACTERS]


def _check_text(field: str, text: str) -> None:
    if "\x00" in text:
        raise InvalidInput(field, "holds a null character; remove it")
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise InvalidInput(field, "holds half a surrogate pair; send whole characters")


def _check_label(field: str, value: object) -> str | None:
    if value is None:
        return None
    value = name_of(value)
    if not isinstance(value, str):
        raise InvalidInput(field, f"must be text, not {type(value).__name__}")
    if not value or len(value) > MAX_LABEL_CHARACTERS or not value.isprintable():
        raise InvalidInput(field, f"must be 1 to {MAX_LABEL_CHARACTERS} printable characters")
    return value


def _check_number(field: str, value: object, low: float, high: float) -> float | None:
    if value is None:
        return None
    if not is_number(value):
        what = repr(value) if isinstance(value, float) else type(value).__name__
        raise InvalidInput(field, f"must be a number, not {what}")
    number = float(value)  # type: ignore[arg-type]
    if not low - 1e-6 <= number <= high + 1e-6:  # single precision rounds beyond the bounds
        allowed = f"between {low:g} and {high:g}" if high < math.inf else "zero or more"
        raise InvalidInput(field, f"must be a number {allowed}, not {value!r}")
    return min(high, max(low, number))


def _check_weight(weight: object) -> int | None:
    if weight is None:
        return None
    if isinstance(weight, bool) or not isinstance(weight, int) or not 1 <= weight <= 1_000_000:
        raise InvalidInput("weight", f"must be a whole number from 1 to 1,000,000, not {weight!r}")
    return weight if weight > 1 else None

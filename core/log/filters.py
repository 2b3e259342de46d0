"""Rule: which questions of the log are wanted, in which order, and a question as pages and exports show it.

`questions.py` reads them; `sql_rows.py` and `clickhouse_rows.py` turn a filter into statements.
"""

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from operator import itemgetter
from typing import Any, NamedTuple

from core.errors import InvalidInput
from core.safety.letters import check_letters
from quarterdeck.clock import from_ms
from quarterdeck.retrieval import EMPTY, SCORED, STATES
from quarterdeck.scope import EVERYTHING, Scope
from quarterdeck.similarity import COSINE

ANSWERABILITY, OWN_SOURCE = "answerability", "quarterdeck"  # the score by which the deck judges a question
MOST_SEARCHED = 1_000  # characters of the words that are searched for
MOST_SORTED = 10_000  # questions among which those of the lowest score are found
LABELS = ("arm", "prompt_version", "index_version", "model")
# What a reader selects of each row, in this order, before its environment and service.
ROW_COLUMNS = (
    "ts_ms", "retrieval_id", "query", "score", "raw_score", "score_kind", "answerability", "state", "session_id",
    "user_id", "arm", "prompt_version", "index_version", "model", "documents", "attributes", "trace_id", "span_id",
    "answer", "latency_ms", "cost_usd", "tokens", "feedback", "faithfulness", "weight",
)  # fmt: skip
SCORE_COLUMN = ROW_COLUMNS.index("score")


_CURSOR = re.compile(r"(?:(?P<score>[-+.e\d]{1,30})_)?(?P<ts_ms>\d{1,15})\.(?P<key>.+)", re.ASCII | re.DOTALL)


class Order(StrEnum):
    """In which order questions are listed.

    LOWEST begins with the lowest similarity among the newest MOST_SORTED that match and have one; of equal ones, the
    newest is first.
    """

    NEWEST = "newest"
    OLDEST = "oldest"
    LOWEST = "lowest"


class Cursor(NamedTuple):
    """Where a page of questions ended: the time of its last row, and its key among rows of that time.

    `score` is that row's similarity where the questions are listed by it.
    """

    ts_ms: int
    key: str
    score: float | None = None

    def __str__(self) -> str:
        return f"{'' if self.score is None else f'{self.score!r}_'}{self.ts_ms}.{self.key}"


def read_cursor(text: str, order: Order = Order.NEWEST) -> Cursor:
    """Return the cursor that `str` wrote for a page in this order. Raises InvalidInput.

    >>> read_cursor("1772366400000.17")
    Cursor(ts_ms=1772366400000, key='17', score=None)
    """
    found = _CURSOR.fullmatch(text)
    try:
        score = float(found["score"]) if found and found["score"] else None
    except ValueError:
        found = None
    if found is None or (order is Order.LOWEST) is (score is None):
        raise InvalidInput("cursor", f"must be one that a page of questions gave, not {text[:40]!r}")
    return Cursor(int(found["ts_ms"]), found["key"], score)


Scored = tuple[float, int, Any]  # a row's similarity, its time, and its key


def pick_lowest(rows: Iterable[Scored], limit: int, after: Scored | None) -> list[Scored]:
    """Return the rows with the lowest scores, the newest of equal ones first, those after one.

    >>> pick_lowest([(0.4, 7, 1), (0.2, 8, 2), (0.4, 9, 3)], 2, None)
    [(0.2, 8, 2), (0.4, 9, 3)]
    """
    ordered = sorted(sorted(rows, key=itemgetter(1, 2), reverse=True), key=itemgetter(0))
    if after is not None:
        score, *place = after
        ordered = [row for row in ordered if row[0] > score or (row[0] == score and row[1:] < tuple(place))]
    return ordered[:limit]


@dataclass(frozen=True, slots=True)
class QuestionFilter:
    """Which questions are wanted; everything that is given has to hold, and by default all do.

    `below` is a bound of the similarity, which questions without one never meet; `bounds` are pairs of an embedding
    model and the bound of its scores instead. `search` are words, each of which has
    to begin a word of the text, in any case. `texts` are exact spellings, of a topic for example; an empty tuple
    matches nothing, None everything. `documents` and `attributes` have to be among the row's own; an attribute's value
    is given as text. `labels` are pairs of one of LABELS and its value, "" for rows without one. `score_name` is the
    name of a score that the question has, its own or a later one, and `score_below` a bound of it. `judged` are the ids
    of questions that have it, where the log lies elsewhere than the scores that came later.
    """

    scope: Scope = EVERYTHING
    start_ms: int | None = None
    end_ms: int | None = None
    states: tuple[str, ...] = ()
    below: float | None = None
    bounds: tuple[tuple[str, float], ...] = ()
    search: str = ""
    texts: tuple[str, ...] | None = None
    retrieval_id: str = ""
    session_id: str = ""
    user_id: str = ""
    documents: tuple[str, ...] = ()
    labels: tuple[tuple[str, str], ...] = ()
    attributes: tuple[tuple[str, str], ...] = ()
    score_name: str = ""
    score_below: float | None = None
    judged: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for state in self.states:
            if state not in STATES:
                raise InvalidInput("state", f"must be one of {', '.join(STATES)}, not {state[:40]!r}")
        for name, _ in self.labels:
            if name not in LABELS:
                raise InvalidInput("label", f"must be one of {', '.join(LABELS)}, not {name[:40]!r}")
        if len(self.search) > MOST_SEARCHED:
            raise InvalidInput("text", f"must be at most {MOST_SEARCHED:,} characters")
        ids = (self.search, self.retrieval_id, self.session_id, self.user_id, self.score_name)
        check_letters((ids, self.documents, self.labels, self.attributes), "filter")

    @property
    def places(self) -> tuple[int, ...]:
        """The wanted states as the log stores them."""
        return tuple(STATES.index(state) for state in self.states)

    @property
    def fragments(self) -> tuple[tuple[str, tuple[str, ...]], ...]:
        """Columns of JSON, each with pieces of text of which the stored JSON has to hold one.

        A quotation mark inside a stored text is escaped, so no text can look like one of these pieces.
        """
        hits = (("documents", (f"[{_dump(document)},",)) for document in self.documents)
        noted = (("attributes", tuple(_list_pieces(name, value))) for name, value in self.attributes)
        return (*hits, *noted)


class LoggedHit(NamedTuple):
    """A document behind a question: its id, the retriever's own number, and its rank from 1."""

    id: str
    score: float | None
    rank: int


class GivenScore(NamedTuple):
    """A later judgment of a question: its name, value, who gave it, and a comment."""

    name: str
    value: float
    source: str
    comment: str


@dataclass(frozen=True, slots=True)
class LoggedQuestion:
    """One row of the log. `score` is the retriever's own number, of the kind `score_kind`; `similarity` is 0 to 1.

    `answerability` is the probability that the index answered it, 0 to 1, and `finding` why it scores low: a
    `core.coverage.answerability.CoverageFinding`, "" if it does not. Both are the deck's own judgment.
    """

    retrieval_id: str
    ts: datetime
    query: str
    score: float | None
    score_kind: str
    similarity: float | None
    answerability: float | None
    state: str
    session_id: str | None
    user_id: str | None
    service: str
    environment: str
    arm: str | None
    prompt_version: str | None
    index_version: str | None
    model: str | None
    documents: tuple[LoggedHit, ...]
    attributes: dict[str, Any]
    trace_id: str | None
    span_id: str | None
    answer: str | None
    latency_ms: float | None
    cost_usd: float | None
    tokens: float | None
    feedback: float | None
    faithfulness: float | None
    weight: int
    scores: tuple[GivenScore, ...] = ()
    finding: str = ""

    def with_scores(self, scores: Iterable[GivenScore]) -> "LoggedQuestion":
        """Return the question with the scores that came later, and with the deck's own judgment apart from them."""
        given = tuple(scores)
        own = next((each for each in given if (each.name, each.source) == (ANSWERABILITY, OWN_SOURCE)), None)
        if own is None:
            return replace(self, scores=given)
        others = tuple(each for each in given if each is not own)
        return replace(self, scores=others, answerability=own.value, finding=own.comment)


@dataclass(frozen=True, slots=True)
class QuestionPage:
    """Some questions in their order; `following` is where the next page begins, None after the last one."""

    questions: tuple[LoggedQuestion, ...]
    following: Cursor | None


class FoundRow(NamedTuple):
    """A row as a reader found it: its cursor, and the values of ROW_COLUMNS, environment and service."""

    cursor: Cursor
    values: Sequence[Any]


def read_question(row: FoundRow) -> LoggedQuestion:
    """Return the question of a row; one of an earlier release is named by the row's key, and has its state derived."""
    *values, environment, service = row.values
    found = dict(zip(ROW_COLUMNS, values, strict=True))
    similarity, raw, state = found.pop("score"), found.pop("raw_score"), found.pop("state")
    if state is None:
        state = EMPTY if similarity is None else SCORED
    hits = json.loads(found.pop("documents") or "[]")
    return LoggedQuestion(
        retrieval_id=found.pop("retrieval_id") or f"r{row.cursor.key}",
        ts=from_ms(found.pop("ts_ms")),
        score=similarity if raw is None else raw,
        score_kind=found.pop("score_kind") or COSINE,
        similarity=similarity,
        state=STATES[state],
        service=service,
        environment=environment,
        documents=tuple(LoggedHit(name, score, rank) for rank, (name, score) in enumerate(hits, 1)),
        attributes=json.loads(found.pop("attributes") or "{}"),
        weight=found.pop("weight") or 1,
        **found,
    )


def _list_pieces(name: str, value: str) -> Iterable[str]:
    """Yield the JSON of an attribute with this value, as text, and as the number or truth value that it may be."""
    written = {_dump(value)}
    try:
        plain = json.loads(value)
        number = float(plain) if isinstance(plain, int | float) else None
    except (ValueError, OverflowError, RecursionError):
        plain = number = None
    if number is not None:
        written |= {_dump(plain)} if isinstance(plain, bool) else {_dump(plain), _dump(number)}
    for each in sorted(written):
        for end in ",}":
            yield f"{_dump(name)}:{each}{end}"


def _dump(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)

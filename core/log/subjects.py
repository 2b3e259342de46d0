"""Gateway to everything that the log and the reports of clients hold about one user or one session.

`core.erasure` removes it. Rollups hold counts without any text or user, and stay.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Connection, Table, and_, delete, func, not_, or_, select, update

from core.errors import InvalidInput
from core.log.filters import ROW_COLUMNS, QuestionFilter
from core.log.readers import open_reader
from core.log.values import normalize_query
from quarterdeck.retrieval import MAX_LABEL_CHARACTERS
from quarterdeck.schema import (
    flag_exposures,
    intake,
    judged_answers,
    review_items,
    review_labels,
    scores,
    trace_spans,
    tracked_events,
)
from quarterdeck.store import Store

_PAGE = 5_000
_SLICE = 500


@dataclass(frozen=True, slots=True)
class DataSubject:
    """A user or a session, by its id: exactly one of them. Raises InvalidInput."""

    user_id: str = ""
    session_id: str = ""

    def __post_init__(self) -> None:
        if bool(self.user_id) == bool(self.session_id):
            raise InvalidInput("user", "give either a user or a session")
        if len(self.id) > MAX_LABEL_CHARACTERS:
            raise InvalidInput(self.column.removesuffix("_id"), f"must be at most {MAX_LABEL_CHARACTERS} characters")

    @property
    def id(self) -> str:
        """The user's or the session's id."""
        return self.user_id or self.session_id

    @property
    def column(self) -> str:
        """The column of the log that holds it."""
        return "user_id" if self.user_id else "session_id"

    @property
    def rows(self) -> QuestionFilter:
        """The filter of its rows."""
        return QuestionFilter(user_id=self.user_id, session_id=self.session_id)


class Traces(NamedTuple):
    """What the rows of a data subject refer to: their number and texts (normalized); ids and traces by environment."""

    rows: int
    retrieval_ids: frozenset[tuple[str, str]]
    texts: frozenset[str]
    trace_ids: frozenset[tuple[str, str]]


def find_traces(store: Store, subject: DataSubject) -> Traces:
    """Return what the rows of a data subject refer to. Raises SourceUnavailable."""
    rows = [(row.values[-2], *(row.values[place] for place in _PLACES)) for row in _list_rows(store, subject)]
    return Traces(
        len(rows),
        frozenset((environment, name) for environment, name, _, _ in rows if name),
        frozenset(normalize_query(text) for _, _, text, _ in rows),
        frozenset((environment, trace) for environment, _, _, trace in rows if trace),
    )


def list_own_texts(store: Store, subject: DataSubject, texts: frozenset[str]) -> list[str]:
    """Return those of some normalized texts that no row of anybody else has."""
    others = {
        normalize_query(text)
        for text in open_reader(store).list_texts_of_others(subject.column, subject.id, sorted(texts))
    }
    return sorted(texts - others)


def count_reports(store: Store, subject: DataSubject, traces: Traces) -> dict[str, int]:
    """Return how many scores, exposures, events, spans, refused examples, places in review queues, labels of
    reviewers and judgments there are."""
    with store.read() as connection:
        return {
            name: sum(
                int(connection.scalar(select(func.count()).select_from(table).where(which)) or 0)
                for which in _slices(table, subject, traces)
            )
            for name, table in _TABLES.items()
        }


def delete_everything(store: Store, connection: Connection, subject: DataSubject, traces: Traces) -> None:
    """Delete the rows of a data subject and everything that `count_reports` counts; of an example, only its text.

    A log in another database deletes its rows before this returns.
    """
    for name, table in _TABLES.items():
        for which in _slices(table, subject, traces):
            change: Any = update(table).values(example="") if name == "examples" else delete(table)
            connection.execute(change.where(which))
    open_reader(store).delete_matching(subject.rows, connection)


_TABLES: dict[str, Table] = {
    "scores": scores, "exposures": flag_exposures, "events": tracked_events, "spans": trace_spans, "examples": intake,
    "reviews": review_items, "labels": review_labels, "judgments": judged_answers,
}  # fmt: skip
_BY_QUESTION = (scores, review_items, review_labels, judged_answers)
_PLACES = tuple(ROW_COLUMNS.index(name) for name in ("retrieval_id", "query", "trace_id"))


def _list_rows(store: Store, subject: DataSubject) -> Iterator[Any]:
    reader, after = open_reader(store), None
    while rows := reader.list_rows(subject.rows, _PAGE, after):
        yield from rows
        after = rows[-1].cursor


def _slices(table: Table, subject: DataSubject, traces: Traces) -> Iterator[ColumnElement[bool]]:
    """Yield the conditions of what belongs to a data subject in a table; no row meets two of them."""
    if any(table is each for each in _BY_QUESTION):
        yield from _in_slices(table.c.environment, table.c.retrieval_id, traces.retrieval_ids)
    elif table is trace_spans:
        c = trace_spans.c
        named = or_(*(c.body.contains(text, autoescape=True) for text in _spell(subject.id)))
        senders = frozenset(("", trace) for _, trace in traces.trace_ids)  # without a token
        yield named
        for others in _in_slices(c.environment, c.trace_id, traces.trace_ids | senders):
            yield and_(not_(named), others)
    elif table is intake:
        yield intake.c.example.contains(subject.id, autoescape=True)
    else:
        yield table.c.targeting_key == subject.id


def _in_slices(environment: Any, column: Any, values: frozenset[tuple[str, str]]) -> Iterator[ColumnElement[bool]]:
    """Yield the conditions of values in their environments, some hundred at a time."""
    for name, pairs in groupby(sorted(values), key=itemgetter(0)):
        ordered = [value for _, value in pairs]
        for start in range(0, len(ordered), _SLICE):
            yield and_(environment == name, column.in_(ordered[start : start + _SLICE]))


def _spell(name: str) -> set[str]:
    """Return an id as JSON may hold it."""
    return {json.dumps(name), json.dumps(name, ensure_ascii=False)}

"""Gateway to the rows of a retrieval log in SQLite or PostgreSQL that meet a filter, newest first.

Each scope is read in the order of its index, so that a page of a log of millions of rows costs what the page holds.
"""

from collections.abc import Iterable, Mapping, Sequence
from heapq import nlargest

from sqlalchemy import ColumnElement, Connection, String, and_, cast, func, literal_column, or_, select

from core.log.filters import ROW_COLUMNS, Cursor, FoundRow, QuestionFilter
from quarterdeck.retrieval import EMPTY, SCORED
from quarterdeck.schema import LOW_SCORE_CEILING, retrievals
from quarterdeck.scope import Scope

_SLICE = 500


def list_rows(
    connection: Connection, scopes: Mapping[int, Scope], wanted: QuestionFilter, limit: int, after: Cursor | None
) -> list[FoundRow]:
    """Return the first rows after a cursor, at most `limit`, of the scopes with these ids."""
    c = retrievals.c
    conditions = list_conditions(connection.dialect.name, wanted)
    if after is not None:
        key = int(after.key) if after.key.isdigit() else 0
        conditions.append(and_(c.ts_ms <= after.ts_ms, or_(c.ts_ms < after.ts_ms, c.id < key)))
    places: list[tuple[int, int]] = []
    for scope_id in scopes:
        query = select(c.ts_ms, c.id).where(c.scope_id == scope_id, *conditions)
        newest = query.order_by(c.ts_ms.desc(), c.id.desc()).limit(limit)
        places += [(ts_ms, row_id) for ts_ms, row_id in connection.execute(newest)]
    return list(_read_rows(connection, scopes, nlargest(limit, places)))


def list_conditions(dialect: str, wanted: QuestionFilter) -> list[ColumnElement[bool]]:
    """Return the conditions of a filter on a row, apart from its scope."""
    c, found = retrievals.c, list[ColumnElement[bool]]()
    if wanted.start_ms is not None:
        found.append(c.ts_ms >= wanted.start_ms)
    if wanted.end_ms is not None:
        found.append(c.ts_ms < wanted.end_ms)
    if wanted.states:
        found.append(func.coalesce(c.state, literal_column(_STATE_OF_FORMER)).in_(wanted.places))
    if wanted.below is not None:
        found.append(c.score < wanted.below)
        if wanted.below <= LOW_SCORE_CEILING:
            found.append(c.score < literal_column(str(LOW_SCORE_CEILING)))  # worded like the partial index
    if wanted.search:
        found.append(_contains(dialect, wanted.search))
    if wanted.texts is not None:
        found.append(c.query.in_(wanted.texts))
    if wanted.retrieval_id:
        found.append(_is_named(wanted.retrieval_id))
    found += [c[name] == value for name in ("session_id", "user_id") if (value := getattr(wanted, name))]
    found += [func.coalesce(c[name], "") == value for name, value in wanted.labels]
    position = func.instr if dialect == "sqlite" else func.strpos
    found += [or_(*(position(c[name], piece) > 0 for piece in pieces)) for name, pieces in wanted.fragments]
    return found


def list_texts_of_others(connection: Connection, column: str, value: str, texts: Sequence[str]) -> list[str]:
    """Return the queries that are among `texts` in lower case, of rows with another value of a column or none."""
    c, found = retrievals.c, list[str]()
    for start in range(0, len(texts), _SLICE):
        same = func.lower(func.trim(c.query)).in_(texts[start : start + _SLICE])
        query = select(c.query).where(same, c[column].is_distinct_from(value)).distinct()
        found += connection.scalars(query)
    return found


_STATE_OF_FORMER = f"CASE WHEN score IS NULL THEN {EMPTY} ELSE {SCORED} END"


def _contains(dialect: str, text: str) -> ColumnElement[bool]:
    """Return the condition that a query contains a text in any case. SQLite knows the case of ASCII letters only."""
    if dialect != "sqlite":
        return retrievals.c.query.icontains(text, autoescape=True)
    spellings = {text} if text.isascii() else {text, text.lower(), text.upper(), text.capitalize()}
    return or_(*(retrievals.c.query.contains(each, autoescape=True) for each in sorted(spellings)))


def _is_named(name: str) -> ColumnElement[bool]:
    """Return the condition that a row has this id; one of an earlier release is named by its key."""
    c = retrievals.c
    if name[:1] == "r" and name[1:].isascii() and name[1:].isdigit() and len(name) < 19:
        return or_(c.retrieval_id == name, and_(c.id == int(name[1:]), c.retrieval_id.is_(None)))
    return c.retrieval_id == name


def _read_rows(
    connection: Connection, scopes: Mapping[int, Scope], places: list[tuple[int, int]]
) -> Iterable[FoundRow]:
    c = retrievals.c
    columns = [c[name] for name in ROW_COLUMNS]
    for start in range(0, len(places), _SLICE):
        ids = [row_id for _, row_id in places[start : start + _SLICE]]
        query = select(cast(c.id, String), *columns, c.scope_id).where(c.id.in_(ids))
        for key, *values, scope_id in connection.execute(query.order_by(c.ts_ms.desc(), c.id.desc())):
            yield FoundRow(Cursor(values[0], key), (*values, *scopes[scope_id]))

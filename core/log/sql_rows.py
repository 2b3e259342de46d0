"""Gateway to the rows of a retrieval log in SQLite or PostgreSQL that meet a filter, in an order.

A filter with terms is looked up in the search index (`sql_search.py`). Without, each scope is read in the order of its
index by time, so that a page of a log of millions of rows costs what the page holds.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from heapq import nlargest, nsmallest
from typing import Any

from sqlalchemy import ColumnElement, Connection, String, and_, cast, func, literal_column, or_, select

from core.log.filters import (
    MOST_SORTED,
    ROW_COLUMNS,
    SCORE_COLUMN,
    Cursor,
    FoundRow,
    Order,
    QuestionFilter,
    pick_lowest,
)
from core.log.search_terms import SearchTerms, holds_words, split_words
from core.log.sql_search import Wanted, find_places
from quarterdeck.retrieval import EMPTY, SCORED
from quarterdeck.schema import LOW_SCORE_CEILING, METRICS, retrievals, scopes, scores
from quarterdeck.scope import Scope
from quarterdeck.store import fetch_many

_SLICE = 500
_LONGEST_KEY = 18  # digits of a row number


def list_rows(
    connection: Connection,
    named: Mapping[int, Scope],
    wanted: QuestionFilter,
    limit: int,
    after: Cursor | None,
    order: Order,
) -> list[FoundRow]:
    """Return the first rows after a cursor, at most `limit`, of the scopes with these ids."""
    if order is Order.LOWEST:
        ids = _list_lowest(connection, named, wanted, limit=limit, after=after)
    else:
        places = _list_places(connection, named, wanted, limit=limit, after=after, is_newest=order is Order.NEWEST)
        ids = [row_id for _, row_id in places]
    return list(_read_rows(connection, named, ids, with_score=order is Order.LOWEST))


def count_rows(connection: Connection, scopes: Iterable[int], wanted: QuestionFilter, most: int) -> int:
    """Return how many rows meet a filter, `most` where it is that many or more."""
    return len(_list_places(connection, scopes, wanted, limit=most, after=None))


def _list_places(
    connection: Connection,
    scope_ids: Iterable[int],
    wanted: QuestionFilter,
    *,
    limit: int,
    after: Cursor | None,
    is_newest: bool = True,
    further: Sequence[ColumnElement[bool]] = (),
) -> list[tuple[int, int]]:
    """Return time and number of the newest or oldest rows that meet a filter and further conditions."""
    c = retrievals.c
    conditions = [*list_conditions(connection, wanted), *further]
    start_ms, end_ms = wanted.start_ms, wanted.end_ms
    if after is not None and is_newest:
        conditions.append(and_(c.ts_ms <= after.ts_ms, or_(c.ts_ms < after.ts_ms, c.id < _read_key(after))))
        end_ms = min(after.ts_ms + 1, end_ms or after.ts_ms + 1)
    elif after is not None:
        conditions.append(and_(c.ts_ms >= after.ts_ms, or_(c.ts_ms > after.ts_ms, c.id > _read_key(after))))
        start_ms = max(after.ts_ms, start_ms or after.ts_ms)
    places: list[tuple[int, int]] = []
    for scope_id in scope_ids:
        rows = Wanted(scope_id, SearchTerms.of_filter(scope_id, wanted), conditions, is_newest)
        found = None
        if not rows.terms.is_empty and not wanted.retrieval_id:
            found = find_places(connection, rows, limit=limit, start_ms=start_ms, end_ms=end_ms)
        if found is None:
            found = [(ts_ms, number) for ts_ms, number in fetch_many(connection, rows.first((), limit))]
        places += found
    return nlargest(limit, places) if is_newest else nsmallest(limit, places)


def _list_lowest(
    connection: Connection, scope_ids: Iterable[int], wanted: QuestionFilter, *, limit: int, after: Cursor | None
) -> list[int]:
    """Return the numbers of the rows with the lowest similarity among the newest MOST_SORTED."""
    c, found = retrievals.c, list[tuple[float, int, int]]()
    has_score = [c.score.is_not(None)]
    places = _list_places(connection, scope_ids, wanted, limit=MOST_SORTED, after=None, further=has_score)
    for start in range(0, len(places), _SLICE):
        query = select(c.score, c.ts_ms, c.id).where(c.id.in_([row_id for _, row_id in places[start : start + _SLICE]]))
        found += [(score, ts_ms, row_id) for score, ts_ms, row_id in fetch_many(connection, query)]
    last = None if after is None or after.score is None else (after.score, after.ts_ms, _read_key(after))
    return [row_id for *_, row_id in pick_lowest(found, limit, last)]


def _read_key(cursor: Cursor) -> int:
    return int(cursor.key) if cursor.key.isdecimal() and len(cursor.key) <= _LONGEST_KEY else 0


def list_conditions(connection: Connection, wanted: QuestionFilter) -> list[ColumnElement[bool]]:
    """Return the conditions of a filter on a row, apart from its scope, for statements of this connection."""
    c, found, dialect = retrievals.c, list[ColumnElement[bool]](), connection.dialect.name
    if wanted.start_ms is not None:
        found.append(c.ts_ms >= wanted.start_ms)
    if wanted.end_ms is not None:
        found.append(c.ts_ms < wanted.end_ms)
    if wanted.states:
        found.append(func.coalesce(c.state, literal_column(_STATE_OF_FORMER)).in_(wanted.places))
    if wanted.below is not None:
        found += list_low(wanted.below, dict(wanted.bounds))
    if wanted.search:
        found += _hold_words(connection, wanted.search)
    if wanted.texts is not None:
        found.append(c.query.in_(wanted.texts))
    if wanted.retrieval_id:
        found.append(_is_named(wanted.retrieval_id))
    found += [c[name] == value for name in ("session_id", "user_id") if (value := getattr(wanted, name))]
    found += [func.coalesce(c[name], "") == value for name, value in wanted.labels]
    position = func.instr if dialect == "sqlite" else func.strpos
    found += [or_(*(position(c[name], piece) > 0 for piece in pieces)) for name, pieces in wanted.fragments]
    if wanted.score_name:
        found.append(_is_judged(wanted.score_name, wanted.score_below))
    return found


def list_low(below: float | None, bounds: Mapping[str, float | None]) -> list[ColumnElement[bool]]:
    """Return the conditions of a low score, worded like the partial index if that applies; None is any score.

    Scores of the embedding models in `bounds` have bounds of their own.
    """
    c = retrievals.c
    if not bounds:
        low = _is_below(below)
    else:
        model = func.coalesce(c.model, "")
        parts = [and_(model == name, _is_below(bound)) for name, bound in bounds.items()]
        low = or_(*parts, and_(model.not_in(list(bounds)), _is_below(below)))
    limits = [below, *bounds.values()]
    if any(limit is None or limit > LOW_SCORE_CEILING for limit in limits):
        return [low]
    return [low, c.score < literal_column(str(LOW_SCORE_CEILING))]


def list_texts_of_others(connection: Connection, column: str, value: str, texts: Sequence[str]) -> list[str]:
    """Return the queries that are among `texts` in lower case, of rows with another value of a column or none."""
    c, found = retrievals.c, list[str]()
    for start in range(0, len(texts), _SLICE):
        same = func.lower(func.trim(c.query)).in_(texts[start : start + _SLICE])
        query = select(c.query).where(same, c[column].is_distinct_from(value)).distinct()
        found += connection.scalars(query)
    return found


def _is_below(limit: float | None) -> ColumnElement[bool]:
    return retrievals.c.score.is_not(None) if limit is None else retrievals.c.score < limit


_STATE_OF_FORMER = f"CASE WHEN score IS NULL THEN {EMPTY} ELSE {SCORED} END"


def _hold_words(connection: Connection, search: str) -> list[ColumnElement[bool]]:
    """Return the conditions that a query holds the words of a search; see `search_terms.holds_words`."""
    query, words = retrievals.c.query, split_words(search)
    if not words:
        return [query.contains(search, autoescape=True)]
    if connection.dialect.name == "sqlite":
        driver: Any = connection.connection.driver_connection
        driver.create_function("holds_words", 2, holds_words, deterministic=True)
        plain = [query.contains(word, autoescape=True) for word in words if word.isascii()]  # rules out most, fast
        return [*plain, func.holds_words(query, search) == 1]
    return [query.regexp_match(f"(^|[^[:alnum:]]){re.escape(word)}", flags="i") for word in words]


def _is_judged(name: str, below: float | None) -> ColumnElement[bool]:
    """Return the condition that a row has a score of this name, its own or one that came later."""
    c, s = retrievals.c, scores.c
    same = (s.retrieval_id == c.retrieval_id, s.name == name, s.environment == _environment_of(c.scope_id))
    later = select(s.value).where(*same, *([] if below is None else [s.value < below])).exists()
    if name not in METRICS:
        return later
    return or_(c[name].is_not(None) if below is None else c[name] < below, later)


def _environment_of(scope_id: ColumnElement[int]) -> ColumnElement[str]:
    found = select(scopes.c.environment).where(scopes.c.id == scope_id)
    return found.correlate(retrievals).scalar_subquery()  # of the row, not of any row


def _is_named(name: str) -> ColumnElement[bool]:
    """Return the condition that a row has this id; one of an earlier release is named by its key."""
    c = retrievals.c
    if name[:1] == "r" and name[1:].isascii() and name[1:].isdigit() and len(name) < 19:
        return or_(c.retrieval_id == name, and_(c.id == int(name[1:]), c.retrieval_id.is_(None)))
    return c.retrieval_id == name


def _read_rows(
    connection: Connection, named: Mapping[int, Scope], ids: Sequence[int], *, with_score: bool
) -> Iterable[FoundRow]:
    """Return the rows with these numbers, in their order."""
    c, found = retrievals.c, dict[str, FoundRow]()
    columns = [c[name] for name in ROW_COLUMNS]
    for start in range(0, len(ids), _SLICE):
        query = select(cast(c.id, String), *columns, c.scope_id).where(c.id.in_(ids[start : start + _SLICE]))
        for key, *values, scope_id in fetch_many(connection, query, exact=True):
            cursor = Cursor(values[0], key, values[SCORE_COLUMN] if with_score else None)
            found[key] = FoundRow(cursor, (*values, *named[scope_id]))
    return (found[key] for each in ids if (key := str(each)) in found)

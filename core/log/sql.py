"""Gateway to a retrieval log in SQLite or PostgreSQL: the statements that read it."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, and_, case, collate, func, literal, select

from core.log.calendars import Calendar
from core.log.document_rows import sum_documents
from core.log.ends import find_ends
from core.log.filters import Cursor, FoundRow, Order, QuestionFilter
from core.log.sql_rows import count_rows, list_conditions, list_low, list_rows, list_texts_of_others
from core.log.values import (
    LIVE_FIGURES,
    TREND_WEEKS,
    USER_SUMS,
    AskedBy,
    AskedRow,
    DailyScores,
    LiveFigures,
    UserRow,
    read_live_figures,
    trend_start_ms,
)
from quarterdeck.clock import DAY_MS, HOUR_MS, WEEK_MS, from_ms
from quarterdeck.log import SqlLog
from quarterdeck.schema import SUMS, document_days, retrievals, rollups, scopes
from quarterdeck.scope import Scope
from quarterdeck.store import Store, fetch_many


class SqlLogReader:
    """Reads days from the rollups and low-scoring queries from their index."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def list_scopes(self) -> Sequence[Scope]:
        """Return the scopes that have rows or rollups."""
        c = scopes.c
        has_rows = select(rollups.c.scope_id).where(rollups.c.scope_id == c.id).exists()
        query = select(c.environment, c.service).where(has_rows).order_by(c.environment, c.service)
        with self._store.read() as connection:
            return [Scope(*row) for row in connection.execute(query)]

    def list_days(
        self, scope: Scope, dimension: str, value: str | None, start_ms: int, end_ms: int, calendar: Calendar
    ) -> list[tuple[str, DailyScores]]:
        """Return the days with rows for one value of a dimension, or for all its values, each with its value."""
        c = rollups.c
        day = _day(calendar, start_ms, end_ms)
        query = (
            select(c.value, day, *(func.sum(c[name]) for name in SUMS))
            .where(_within(c.scope_id, scope), c.dimension == dimension, c.start_ms >= start_ms, c.start_ms < end_ms)
            .group_by(c.value, day)
            .order_by(day)
        )
        if value is not None:
            query = query.where(c.value == value)
        with self._store.read() as connection:
            return [(found, DailyScores.of_sums(at, sums)) for found, at, *sums in connection.execute(query)]

    def list_day_counts(
        self, scope: Scope, start_ms: int, end_ms: int, calendar: Calendar
    ) -> list[tuple[date, int, float]]:
        """Return each day's number of questions, in any state, and the sum of its scores."""
        c = rollups.c
        day = _day(calendar, start_ms, end_ms)
        questions = c.n + c.unmapped + c.unscored + c.empty + c.failed
        query = (
            select(day, func.sum(questions), func.sum(c.total))
            .where(_within(c.scope_id, scope), c.dimension == "", c.start_ms >= start_ms, c.start_ms < end_ms)
            .group_by(day)
        )
        with self._store.read() as connection:
            return [(from_ms(at).date(), int(n), float(total)) for at, n, total in connection.execute(query)]

    def list_asked_by(self, scope: Scope, start_ms: int, end_ms: int, *, hourly: bool = False) -> list[AskedBy]:
        """Return how often each user (else session) asked each text that has a score, per hour or in total."""
        c = retrievals.c
        hour = [c.ts_ms - c.ts_ms % HOUR_MS] if hourly else []
        user, weight = func.coalesce(c.user_id, c.session_id), func.coalesce(c.weight, 1)
        query = (
            select(user, c.query, func.sum(weight), func.sum(weight * c.score), *hour)
            .where(_within(c.scope_id, scope), c.ts_ms >= start_ms, c.ts_ms < end_ms, c.score.is_not(None))
            .group_by(user, c.query, *hour)
        )
        with self._store.read() as connection:
            found = fetch_many(connection, query)
            return [AskedBy(user, text, int(n), float(total), *start) for user, text, n, total, *start in found]

    def list_asked(
        self,
        scope: Scope,
        start_ms: int,
        end_ms: int,
        below: float | None,
        limit: int,
        bounds: Mapping[str, float | None] | None = None,
    ) -> Iterable[AskedRow]:
        """Return the distinct texts with a score (under `below`), the most asked in the window first.

        Includes texts of earlier weeks, because another spelling of them may be asked in the window.
        """
        c = retrievals.c
        inside = case((c.ts_ms >= start_ms, 1), else_=0)
        weeks_ago = (end_ms - 1 - c.ts_ms) // WEEK_MS
        asked = func.sum(inside)
        by_model = [] if bounds is None else [func.coalesce(c.model, "")]
        query = (
            select(
                c.query,
                asked,
                func.sum(inside * c.score),
                *(func.sum(case((weeks_ago == ago, 1), else_=0)) for ago in reversed(range(TREND_WEEKS))),
                *by_model,
            )
            .where(
                _within(c.scope_id, scope),
                c.ts_ms >= trend_start_ms(start_ms, end_ms),
                c.ts_ms < end_ms,
                c.query != "",  # its text was removed
                *list_low(below, bounds or {}),
            )
            .group_by(c.query, *by_model)
            .order_by(
                asked.desc(), func.count().desc(), c.query if self._store.dialect == "sqlite" else collate(c.query, "C")
            )
            .limit(limit)
        )
        with self._store.read() as connection:
            return [
                AskedRow(text, int(n), total, tuple(int(week) for week in more[:TREND_WEEKS]), *more[TREND_WEEKS:])
                for text, n, total, *more in fetch_many(connection, query)
            ]

    def list_live(self, scope: Scope, dimension: str, start_ms: int, end_ms: int, most: int) -> list[LiveFigures]:
        """Return the figures of each value of a dimension over the newest `most` rows of a window."""
        c = retrievals.c
        newest = (
            select(c[dimension], *(c[name] for name in LIVE_FIGURES))
            .where(_within(c.scope_id, scope), c.ts_ms >= start_ms, c.ts_ms < end_ms)
            .order_by(c.ts_ms.desc())
            .limit(most)
            .subquery()
        )
        sums = [part(newest.c[name]) for name in LIVE_FIGURES for part in (func.count, func.avg)]
        query = select(newest.c[dimension], func.count(), *sums).group_by(newest.c[dimension])
        with self._store.read() as connection:
            return [read_live_figures(tuple(row)) for row in connection.execute(query)]

    def find_newest(self, scope: Scope, start_ms: int, end_ms: int, most: int) -> int:
        """Return the time of the oldest of the newest `most` rows of a window; its start if it has fewer."""
        c = retrievals.c
        query = (
            select(c.ts_ms)
            .where(_within(c.scope_id, scope), c.ts_ms >= start_ms, c.ts_ms < end_ms)
            .order_by(c.ts_ms.desc())
            .limit(1)
            .offset(most - 1)
        )
        with self._store.read() as connection:
            return int(connection.scalar(query) or start_ms)

    def list_user_sums(
        self, scope: Scope, dimension: str, values: Sequence[str], start_ms: int, end_ms: int, *, hourly: bool
    ) -> list[UserRow]:
        """Return the sums of each user's rows for each value, per hour or over the whole period."""
        c = retrievals.c
        start = c.ts_ms - c.ts_ms % HOUR_MS if hourly else literal(start_ms)
        value = c[dimension] if dimension else literal("")
        user = func.coalesce(c.user_id, c.session_id)
        sums = [column for name in USER_SUMS for column in (func.count(c[name]), func.coalesce(func.sum(c[name]), 0.0))]
        query = (
            select(start.label("start_ms"), value, user.label("user"), func.count(), *sums)
            .where(_within(c.scope_id, scope), c.ts_ms >= start_ms, c.ts_ms < end_ms)
            .group_by(*([start] if hourly else []), *([value] if dimension else []), user)
        )
        if dimension:
            query = query.where(value.in_(values))
        with self._store.read() as connection:
            return [UserRow._make(row) for row in fetch_many(connection, query)]

    def count_rows(self, scope: Scope, dimension: str, values: Sequence[str], start_ms: int, end_ms: int) -> int:
        """Return how many questions with these values there are in whole hours, from the rollup."""
        c = rollups.c
        questions = c.n + c.unmapped + c.unscored + c.empty + c.failed
        query = select(func.coalesce(func.sum(questions), 0)).where(
            _within(c.scope_id, scope), c.dimension == dimension, c.start_ms >= start_ms, c.start_ms < end_ms
        )
        if dimension:
            query = query.where(c.value.in_(values))
        with self._store.read() as connection:
            return int(connection.scalar(query) or 0)

    def list_recent_users(self, scope: Scope, since_ms: int, limit: int) -> list[str]:
        """Return the distinct users of the newest rows since a time."""
        c = retrievals.c
        user = func.coalesce(c.user_id, c.session_id).label("user")
        newest = (
            select(user)
            .where(_within(c.scope_id, scope), c.ts_ms >= since_ms)
            .order_by(c.ts_ms.desc())
            .limit(limit)
            .subquery()
        )
        query = select(newest.c.user).where(newest.c.user.is_not(None)).distinct()
        with self._store.read() as connection:
            return list(connection.scalars(query))

    def list_recent_attributes(self, scope: Scope, since_ms: int, limit: int) -> list[tuple[str, str]]:
        """Return user and attributes (JSON) of the newest rows since a time that have both, newest first."""
        c = retrievals.c
        user = func.coalesce(c.user_id, c.session_id).label("user")
        query = (
            select(user, c.attributes)
            .where(_within(c.scope_id, scope), c.ts_ms >= since_ms)
            .order_by(c.ts_ms.desc())
            .limit(limit)
        )
        with self._store.read() as connection:
            return [(row.user, row.attributes) for row in connection.execute(query) if row.user and row.attributes]

    def list_document_sums(self, scope: Scope, start_ms: int, end_ms: int) -> Sequence[Sequence[Any]]:
        """Return each document of a window of whole UTC days, the start of its last day, and its DOCUMENT_SUMS."""
        with self._store.read() as connection:
            within = _within(document_days.c.scope_id, scope)
            return sum_documents(connection, within, start_ms, end_ms, is_one=all(scope))

    def list_rows(
        self, wanted: QuestionFilter, limit: int, after: Cursor | None, order: Order = Order.NEWEST
    ) -> list[FoundRow]:
        """Return the first rows that meet a filter, those after a cursor."""
        named = _ids(wanted.scope).add_columns(scopes.c.environment, scopes.c.service)
        with self._store.read() as connection:
            found = {scope_id: Scope(*names) for scope_id, *names in connection.execute(named)}
            return list_rows(connection, found, wanted, limit, after, order)

    def count_matching(self, wanted: QuestionFilter, most: int | None = None) -> int:
        """Return how many rows meet a filter; with `most`, counting ends there."""
        with self._store.read() as connection:
            if most is not None:
                return count_rows(connection, list(connection.scalars(_ids(wanted.scope))), wanted, most)
            conditions = list_conditions(connection, wanted)
            query = select(func.count()).where(_within(retrievals.c.scope_id, wanted.scope), *conditions)
            return int(connection.scalar(query) or 0)

    def list_newest_texts(self, scope: Scope, most_rows: int, limit: int) -> Iterable[str]:
        """Return distinct texts of the newest rows, most_rows of them, in no order, at most `limit`."""
        c = retrievals.c
        newest = select(c.query).where(_within(c.scope_id, scope), c.query != "").order_by(c.ts_ms.desc())
        query = select(newest.limit(most_rows).subquery().c.query).distinct().limit(limit)
        with self._store.read() as connection:
            return [text for (text,) in fetch_many(connection, query)]

    def list_texts_of_others(self, column: str, value: str, texts: Sequence[str]) -> list[str]:
        """Return the queries that are among `texts` in lower case, of rows with another value of a column or none."""
        with self._store.read() as connection:
            return list_texts_of_others(connection, column, value, texts)

    def delete_matching(self, wanted: QuestionFilter, within: Connection) -> None:
        """Delete the rows that meet a filter, in a transaction of this store or one of its own."""
        kept = _within(retrievals.c.scope_id, wanted.scope)
        SqlLog(self._store).delete(and_(kept, *list_conditions(within, wanted)), within)

    def span(self, scope: Scope) -> tuple[int, int] | None:
        """Return the times of the first and the last row."""
        c = retrievals.c
        with self._store.read() as connection:
            found = [
                find_ends(connection, c.ts_ms, c.scope_id == scope_id) for scope_id in connection.scalars(_ids(scope))
            ]
        ends = [ms for pair in found if pair for ms in pair]
        return (min(ends), max(ends)) if ends else None


def _day(calendar: Calendar, start_ms: int, end_ms: int) -> ColumnElement[int]:
    """Return the start of an hour's day, as if its zone were UTC."""
    c, steps = rollups.c, calendar.steps_within(start_ms, end_ms)
    offset = (
        steps[-1][1] if len(steps) == 1 else case(*((c.start_ms >= at, ms) for at, ms in steps), else_=steps[-1][1])
    )
    local = c.start_ms + offset
    return local - local % DAY_MS


def _ids(scope: Scope) -> Select[int]:
    """Return the query for the ids of a scope; an empty name stands for all."""
    query = select(scopes.c.id)
    for column, name in zip((scopes.c.environment, scopes.c.service), scope, strict=True):
        if name:
            query = query.where(column == name)
    return query


def _within(scope_id: ColumnElement[int], scope: Scope) -> ColumnElement[bool]:
    if all(scope):
        return scope_id == _ids(scope).scalar_subquery()
    return scope_id.in_(_ids(scope))

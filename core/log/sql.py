"""Gateway to a retrieval log in SQLite or PostgreSQL: the statements that read it."""

from collections.abc import Iterable, Mapping, Sequence

from sqlalchemy import ColumnElement, case, collate, func, literal, literal_column, select

from core.log.values import (
    LIVE_FIGURES,
    TREND_WEEKS,
    USER_SUMS,
    AskedRow,
    DailyScores,
    LiveFigures,
    UserRow,
    read_live_figures,
    trend_start_ms,
)
from quarterdeck.clock import DAY_MS, HOUR_MS, WEEK_MS
from quarterdeck.schema import BINS, EMPTY_BIN, HISTOGRAM_BINS, LOW_SCORE_CEILING, ROLLUPS, daily, retrievals
from quarterdeck.store import Store, fetch_many

_SUMS = ("n", "total", "total_squares")


class SqlLogReader:
    """Reads days from the rollups and low-scoring queries from their index."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def list_days(self, dimension: str, value: str | None, start_ms: int, end_ms: int) -> list[tuple[str, DailyScores]]:
        """Return the days with scores for one value of a dimension, or for all its values, each with its value.

        The dimension "" is all traffic.
        """
        c = daily.c
        query = select(c.value, c.start_ms, *(c[name] for name in (*_SUMS, *BINS))).where(
            c.dimension == dimension, c.start_ms >= start_ms, c.start_ms < end_ms, c.n > 0
        )
        if value is not None:
            query = query.where(c.value == value)
        with self._store.read() as connection:
            return [
                (found, DailyScores.starting_at(day, n, total, squares, tuple(histogram)))
                for found, day, n, total, squares, *histogram in connection.execute(query.order_by(c.start_ms))
            ]

    def list_crossed_days(self, segment: Mapping[str, str], start_ms: int, end_ms: int) -> list[DailyScores]:
        """Return the days of the rows that have all these values, one per dimension."""
        c = ROLLUPS[DAY_MS].c
        keys = (c.start_ms, c.bin)
        query = (
            select(*keys, *(func.sum(c[name]) for name in _SUMS))
            .where(c.bin != EMPTY_BIN, c.start_ms >= start_ms, c.start_ms < end_ms)
            .where(*(c[dimension] == value for dimension, value in segment.items()))
            .group_by(*keys)
        )
        days: dict[int, dict[int, tuple[int, float, float]]] = {}
        with self._store.read() as connection:
            for day, number, n, total, squares in connection.execute(query):
                days.setdefault(day, {})[number] = (int(n), total, squares)
        return [_sum_bins(day, bins) for day, bins in sorted(days.items())]

    def list_asked(self, start_ms: int, end_ms: int, below: float | None, limit: int) -> Iterable[AskedRow]:
        """Return the distinct texts with a score (under `below`), the most asked in the window first.

        Includes texts of earlier weeks, because another spelling of them may be asked in the window.
        """
        c = retrievals.c
        inside = case((c.ts_ms >= start_ms, 1), else_=0)
        weeks_ago = (end_ms - 1 - c.ts_ms) // WEEK_MS
        asked = func.sum(inside)
        query = (
            select(
                c.query,
                asked,
                func.sum(inside * c.score),
                *(func.sum(case((weeks_ago == ago, 1), else_=0)) for ago in reversed(range(TREND_WEEKS))),
            )
            .where(c.ts_ms >= trend_start_ms(start_ms, end_ms), c.ts_ms < end_ms, *_low(below))
            .group_by(c.query)
            .order_by(
                asked.desc(), func.count().desc(), c.query if self._store.dialect == "sqlite" else collate(c.query, "C")
            )
            .limit(limit)
        )
        with self._store.read() as connection:
            return [
                AskedRow(text, int(n), total, tuple(int(week) for week in weeks))
                for text, n, total, *weeks in fetch_many(connection, query)
            ]

    def list_live(self, dimension: str, start_ms: int, end_ms: int, most: int) -> list[LiveFigures]:
        """Return the figures of each value of a dimension over the newest `most` rows of a window."""
        c = retrievals.c
        newest = (
            select(c[dimension], *(c[name] for name in LIVE_FIGURES))
            .where(c.ts_ms >= start_ms, c.ts_ms < end_ms)
            .order_by(c.ts_ms.desc())
            .limit(most)
            .subquery()
        )
        sums = [part(newest.c[name]) for name in LIVE_FIGURES for part in (func.count, func.avg)]
        query = select(newest.c[dimension], func.count(), *sums).group_by(newest.c[dimension])
        with self._store.read() as connection:
            return [read_live_figures(tuple(row)) for row in connection.execute(query)]

    def count(self, start_ms: int, end_ms: int) -> tuple[int, int]:
        """Return how many queries of a window have a score, and how many found nothing."""
        sums = [func.coalesce(func.sum(column), 0) for column in (daily.c.n, daily.c.empty)]
        query = select(*sums).where(daily.c.dimension == "", daily.c.start_ms >= start_ms, daily.c.start_ms < end_ms)
        with self._store.read() as connection:
            scored, empty = connection.execute(query).one()
        return int(scored), int(empty)

    def list_user_sums(
        self, dimension: str, values: Sequence[str], start_ms: int, end_ms: int, *, hourly: bool
    ) -> list[UserRow]:
        """Return the sums of each user's rows for each value, per hour or over the whole period."""
        c = retrievals.c
        start = c.ts_ms - c.ts_ms % HOUR_MS if hourly else literal(start_ms)
        value = c[dimension] if dimension else literal("")
        sums = [column for name in USER_SUMS for column in (func.count(c[name]), func.coalesce(func.sum(c[name]), 0.0))]
        query = (
            select(start.label("start_ms"), value, c.session_id, func.count(), *sums)
            .where(c.ts_ms >= start_ms, c.ts_ms < end_ms)
            .group_by(*([start] if hourly else []), *([value] if dimension else []), c.session_id)
        )
        if dimension:
            query = query.where(value.in_(values))
        with self._store.read() as connection:
            return [UserRow._make(row) for row in fetch_many(connection, query)]

    def count_rows(self, dimension: str, values: Sequence[str], start_ms: int, end_ms: int) -> int:
        """Return how many rows with these values there are in whole hours, from the rollup."""
        c = ROLLUPS[HOUR_MS].c
        query = select(func.coalesce(func.sum(c.n), 0)).where(c.start_ms >= start_ms, c.start_ms < end_ms)
        if dimension:
            query = query.where(c[dimension].in_(values))
        with self._store.read() as connection:
            return int(connection.scalar(query) or 0)

    def list_recent_users(self, since_ms: int, limit: int) -> list[str]:
        """Return the distinct session ids of the newest rows since a time."""
        c = retrievals.c
        newest = select(c.session_id).where(c.ts_ms >= since_ms).order_by(c.ts_ms.desc()).limit(limit).subquery()
        query = select(newest.c.session_id).where(newest.c.session_id.is_not(None)).distinct()
        with self._store.read() as connection:
            return list(connection.scalars(query))

    def span(self) -> tuple[int, int] | None:
        """Return the times of the first and the last row."""
        ends = [select(end(retrievals.c.ts_ms)).scalar_subquery() for end in (func.min, func.max)]
        with self._store.read() as connection:
            first, last = connection.execute(select(*ends)).one()
        return None if first is None else (first, last)


def _low(below: float | None) -> list[ColumnElement[bool]]:
    """Return the condition of a low score, worded like the partial index if that applies."""
    if below is None:
        return [retrievals.c.score.is_not(None)]
    low = [retrievals.c.score < below]
    if below <= LOW_SCORE_CEILING:
        low.append(retrievals.c.score < literal_column(str(LOW_SCORE_CEILING)))
    return low


def _sum_bins(day: int, bins: Mapping[int, tuple[int, float, float]]) -> DailyScores:
    n, total, squares = (sum(parts) for parts in zip(*bins.values(), strict=True))
    histogram = tuple(bins[number][0] if number in bins else 0 for number in range(HISTOGRAM_BINS))
    return DailyScores.starting_at(day, int(n), total, squares, histogram)

"""Gateway to a retrieval log in ClickHouse: the statements that read it."""

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

from sqlalchemy import Connection

from core.log.calendars import Calendar
from core.log.clickhouse_rows import list_conditions, list_rows, word_low
from core.log.filters import Cursor, FoundRow, Order, QuestionFilter
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
from quarterdeck.clickhouse import ClickHouseLog
from quarterdeck.clickhouse_tables import DOCUMENT_TABLE, ROLLUP_TABLE
from quarterdeck.clock import DAY_MS, HOUR_MS, WEEK_MS, from_ms
from quarterdeck.schema import DOCUMENT_SUMS, SUMS
from quarterdeck.scope import Scope

_INSIDE = "start_ms >= {start:Int64} AND start_ms < {end:Int64}"
_USER = "ifNull(user_id, session_id)"


class ClickHouseLogReader:
    """Reads days from the rollup of the materialized view, and low-scoring queries from the rows, ordered by time."""

    def __init__(self, log: ClickHouseLog) -> None:
        self._log = log
        self._hours = f"{log.database}.{ROLLUP_TABLE}"
        self._rows = f"{log.database}.retrievals"

    def list_scopes(self) -> Sequence[Scope]:
        """Return the scopes that have rows or rollups."""
        found = self._log.query(  # one that was merged into another has sums that add up to nothing
            f"SELECT environment, service FROM {self._hours} WHERE dimension = '' GROUP BY environment, service "
            "HAVING sum(n + unmapped + unscored + empty + failed) != 0 ORDER BY environment, service"
        )
        return [Scope(*row) for row in found]

    def list_days(
        self, scope: Scope, dimension: str, value: str | None, start_ms: int, end_ms: int, calendar: Calendar
    ) -> list[tuple[str, DailyScores]]:
        """Return the days with rows for one value of a dimension, or for all its values, each with its value."""
        sums = ", ".join(f"sum({name})" for name in SUMS)
        kept = "" if value is None else " AND value = {value:String}"
        found = self._log.query(
            f"SELECT value, {_day(calendar, start_ms, end_ms)} AS day, {sums} FROM {self._hours} "
            f"WHERE {_within(scope)} AND dimension = {{dimension:String}} AND {_INSIDE}{kept} GROUP BY value, day "
            "ORDER BY day",
            start=start_ms, end=end_ms, dimension=dimension, value=value or "", **_names(scope),
        )  # fmt: skip
        return [(str(name), DailyScores.of_sums(day, numbers)) for name, day, *numbers in found]

    def list_day_counts(
        self, scope: Scope, start_ms: int, end_ms: int, calendar: Calendar
    ) -> list[tuple[date, int, float]]:
        """Return each day's number of questions, in any state, and the sum of its scores."""
        found = self._log.query(
            f"SELECT {_day(calendar, start_ms, end_ms)} AS day, sum(n + unmapped + unscored + empty + failed), "
            f"sum(total) FROM {self._hours} WHERE {_within(scope)} AND dimension = '' AND {_INSIDE} GROUP BY day",
            start=start_ms, end=end_ms, **_names(scope),
        )  # fmt: skip
        return [(from_ms(day).date(), int(n), float(total)) for day, n, total in found]

    def list_asked_by(self, scope: Scope, start_ms: int, end_ms: int, *, hourly: bool = False) -> list[AskedBy]:
        """Return how often each user (else session) asked each text that has a score, per hour or in total."""
        hour = f", intDiv(ts_ms, {HOUR_MS}) * {HOUR_MS} AS start_ms" if hourly else ""
        weight = "toUInt64(ifNull(weight, 1))"
        found = self._log.query(
            f"SELECT {_USER} AS user, query, sum({weight}), sum({weight} * score){hour} FROM {self._rows} "
            f"WHERE {_within(scope)} AND ts_ms >= {{start:Int64}} AND ts_ms < {{end:Int64}} AND score IS NOT NULL "
            f"GROUP BY user, query{', start_ms' if hourly else ''}",
            start=start_ms, end=end_ms, **_names(scope),
        )  # fmt: skip
        return [AskedBy(user, text, int(n), float(total), *start) for user, text, n, total, *start in found]

    def list_asked(
        self,
        scope: Scope,
        start_ms: int,
        end_ms: int,
        below: float | None,
        limit: int,
        bounds: Mapping[str, float | None] | None = None,
    ) -> list[AskedRow]:
        """Return the distinct texts with a score (under `below`), the most asked in the window first.

        Includes texts of earlier weeks, because another spelling of them may be asked in the window.
        """
        ago = f"intDiv({{end:Int64}} - 1 - ts_ms, {WEEK_MS})"
        low, values = word_low(below, bounds or {})
        model = "''" if bounds is None else "ifNull(toString(model), '')"
        weeks = ", ".join(f"countIf({ago} = {week})" for week in reversed(range(TREND_WEEKS)))
        found = self._log.query(
            "SELECT query, countIf(ts_ms >= {start:Int64}) AS asked, sumIf(ifNull(score, 0), ts_ms >= {start:Int64}), "
            f"{weeks}, {model} AS by_model FROM {self._rows} WHERE {_within(scope)} AND ts_ms >= {{since:Int64}} "
            f"AND ts_ms < {{end:Int64}} AND query != '' AND {low} GROUP BY query, by_model "
            "ORDER BY asked DESC, count() DESC, query LIMIT {most:Int64}",
            start=start_ms, end=end_ms, since=trend_start_ms(start_ms, end_ms), most=limit, **_names(scope),
            **values,
        )  # fmt: skip
        return [AskedRow(text, n, total, tuple(counts), name) for text, n, total, *counts, name in found]

    def list_live(self, scope: Scope, dimension: str, start_ms: int, end_ms: int, most: int) -> list[LiveFigures]:
        """Return the figures of each value of a dimension over the newest `most` rows of a window."""
        sums = ", ".join(f"count({name}), avg({name})" for name in LIVE_FIGURES)
        found = self._log.query(
            f"SELECT value, count(), {sums} FROM (SELECT toString({dimension}) AS value, {', '.join(LIVE_FIGURES)} "
            f"FROM {self._rows} WHERE {_within(scope)} AND ts_ms >= {{start:Int64}} AND ts_ms < {{end:Int64}} "
            "ORDER BY ts_ms DESC LIMIT {most:Int64}) GROUP BY value",
            start=start_ms, end=end_ms, most=most, **_names(scope),
        )  # fmt: skip
        return [read_live_figures(row) for row in found]

    def find_newest(self, scope: Scope, start_ms: int, end_ms: int, most: int) -> int:
        """Return the time of the oldest of the newest `most` rows of a window; its start if it has fewer."""
        found = self._log.query(
            f"SELECT ts_ms FROM {self._rows} WHERE {_within(scope)} AND ts_ms >= {{start:Int64}} "
            "AND ts_ms < {end:Int64} ORDER BY ts_ms DESC LIMIT 1 OFFSET {before:Int64}",
            start=start_ms, end=end_ms, before=most - 1, **_names(scope),
        )  # fmt: skip
        return next((int(ts_ms) for (ts_ms,) in found), start_ms)

    def list_user_sums(
        self, scope: Scope, dimension: str, values: Sequence[str], start_ms: int, end_ms: int, *, hourly: bool
    ) -> list[UserRow]:
        """Return the sums of each user's rows for each value, per hour or over the whole period."""
        start = f"intDiv(ts_ms, {HOUR_MS}) * {HOUR_MS}" if hourly else "{start:Int64}"
        sums = ", ".join(f"count({name}), ifNull(sum({name}), 0)" for name in USER_SUMS)
        value, kept = (f"toString({dimension})", _kept(dimension)) if dimension else ("''", "")
        found = self._log.query(
            f"SELECT {start} AS start_ms, {value} AS value, {_USER} AS user, count(), {sums} FROM {self._rows} "
            f"WHERE {_within(scope)} AND ts_ms >= {{start:Int64}} AND ts_ms < {{end:Int64}}{kept} "
            "GROUP BY start_ms, value, user",
            start=start_ms, end=end_ms, values=list(values), **_names(scope),
        )  # fmt: skip
        return [UserRow._make(row) for row in found]

    def count_rows(self, scope: Scope, dimension: str, values: Sequence[str], start_ms: int, end_ms: int) -> int:
        """Return how many questions with these values there are in whole hours, from the rollup."""
        ((found,),) = self._log.query(
            f"SELECT sum(n + unmapped + unscored + empty + failed) FROM {self._hours} WHERE {_within(scope)} "
            f"AND dimension = {{dimension:String}} AND {_INSIDE}{_kept('value') if dimension else ''}",
            start=start_ms, end=end_ms, dimension=dimension, values=list(values), **_names(scope),
        )  # fmt: skip
        return int(found)

    def list_recent_users(self, scope: Scope, since_ms: int, limit: int) -> list[str]:
        """Return the distinct users of the newest rows since a time."""
        found = self._log.query(
            f"SELECT DISTINCT user FROM (SELECT {_USER} AS user FROM {self._rows} WHERE {_within(scope)} "
            "AND ts_ms >= {start:Int64} ORDER BY ts_ms DESC LIMIT {most:Int64}) WHERE user IS NOT NULL",
            start=since_ms, most=limit, **_names(scope),
        )  # fmt: skip
        return [str(user) for (user,) in found]

    def list_recent_attributes(self, scope: Scope, since_ms: int, limit: int) -> list[tuple[str, str]]:
        """Return user and attributes (JSON) of the newest rows since a time that have both, newest first."""
        found = self._log.query(
            f"SELECT {_USER} AS user, attributes FROM {self._rows} WHERE {_within(scope)} "
            "AND ts_ms >= {start:Int64} ORDER BY ts_ms DESC LIMIT {most:Int64}",
            start=since_ms, most=limit, **_names(scope),
        )  # fmt: skip
        return [(str(user), str(noted)) for user, noted in found if user and noted]

    def list_document_sums(self, scope: Scope, start_ms: int, end_ms: int) -> Sequence[Sequence[Any]]:
        """Return each document of a window of whole UTC days, the start of its last day, and its DOCUMENT_SUMS."""
        return self._log.query(
            f"SELECT document, max(day_ms), {', '.join(f'sum({name})' for name in DOCUMENT_SUMS)} "
            f"FROM {self._log.database}.{DOCUMENT_TABLE} WHERE {_within(scope)} "
            "AND day_ms >= {start:Int64} AND day_ms < {end:Int64} GROUP BY document",
            start=start_ms, end=end_ms, **_names(scope),
        )  # fmt: skip

    def list_rows(
        self, wanted: QuestionFilter, limit: int, after: Cursor | None, order: Order = Order.NEWEST
    ) -> list[FoundRow]:
        """Return the first rows that meet a filter, those after a cursor."""
        return list_rows(self._log, wanted, limit, after, order)

    def count_matching(self, wanted: QuestionFilter, most: int | None = None) -> int:
        """Return how many rows meet a filter; with `most`, counting ends there."""
        conditions, values = list_conditions(wanted)
        bound = "" if most is None else f" LIMIT {most:d}"
        rows = f"SELECT 1 FROM {self._rows} WHERE {' AND '.join(conditions) or '1'}{bound}"
        return int(self._log.query(f"SELECT count() FROM ({rows})", **values)[0][0])

    def list_newest_texts(self, scope: Scope, most_rows: int, limit: int) -> list[str]:
        """Return distinct texts of the newest rows, most_rows of them, in no order, at most `limit`."""
        found = self._log.query(
            f"SELECT DISTINCT query FROM (SELECT query FROM {self._rows} WHERE {_within(scope)} AND query != '' "
            "ORDER BY ts_ms DESC LIMIT {rows:Int64}) LIMIT {most:Int64}",
            rows=most_rows, most=limit, **_names(scope),
        )  # fmt: skip
        return [str(text) for (text,) in found]

    def list_texts_of_others(self, column: str, value: str, texts: Sequence[str]) -> list[str]:
        """Return the queries that are among `texts` in lower case, of rows with another value of a column or none."""
        found = self._log.query(
            f"SELECT DISTINCT query FROM {self._rows} WHERE has({{texts:Array(String)}}, lowerUTF8(trimBoth(query))) "
            f"AND ifNull({column}, '') != {{value:String}}",
            texts=list(texts), value=value,
        )  # fmt: skip
        return [str(text) for (text,) in found]

    def delete_matching(self, wanted: QuestionFilter, within: Connection) -> None:  # noqa: ARG002 - another database
        """Delete the rows that meet a filter, at once."""
        conditions, values = list_conditions(wanted)
        self._log.delete(" AND ".join(conditions) or "1", **values)

    def span(self, scope: Scope) -> tuple[int, int] | None:
        """Return the times of the first and the last row."""
        ((rows, first, last),) = self._log.query(
            f"SELECT count(), min(ts_ms), max(ts_ms) FROM {self._rows} WHERE {_within(scope)}", **_names(scope)
        )
        return (first, last) if rows else None


def _day(calendar: Calendar, start_ms: int, end_ms: int) -> str:
    """Return the start of an hour's day, as if its zone were UTC."""
    steps = calendar.steps_within(start_ms, end_ms)
    before = "".join(f"start_ms >= {at}, {ms}, " for at, ms in steps[:-1])
    offset = f"multiIf({before}{steps[-1][1]})" if before else str(steps[-1][1])
    return f"intDiv(start_ms + {offset}, {DAY_MS}) * {DAY_MS}"


def _within(scope: Scope) -> str:
    named = [f"{name} = {{scope_{name}:String}}" for name, value in scope._asdict().items() if value]
    return " AND ".join(named) or "1"


def _names(scope: Scope) -> dict[str, Any]:
    return {f"scope_{name}": value for name, value in scope._asdict().items() if value}


def _kept(column: str) -> str:
    return f" AND {column} IN {{values:Array(String)}}"

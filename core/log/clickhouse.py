"""Gateway to a retrieval log in ClickHouse: the statements that read it."""

from collections.abc import Mapping, Sequence
from typing import Any

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
from quarterdeck.clickhouse import ROLLUP_TABLES, ClickHouseLog
from quarterdeck.clock import DAY_MS, HOUR_MS, WEEK_MS
from quarterdeck.schema import EMPTY_BIN, HISTOGRAM_BINS

_INSIDE = "start_ms >= {start:Int64} AND start_ms < {end:Int64}"


class ClickHouseLogReader:
    """Reads days from the rollups of the materialized views, and low-scoring queries from the rows, ordered by time."""

    def __init__(self, log: ClickHouseLog) -> None:
        self._log = log
        self._days = f"{log.database}.{ROLLUP_TABLES[DAY_MS]}"
        self._rows = f"{log.database}.retrievals"

    def list_days(self, dimension: str, value: str | None, start_ms: int, end_ms: int) -> list[tuple[str, DailyScores]]:
        """Return the days with scores for one value of a dimension, or for all its values, each with its value.

        The dimension "" is all traffic.
        """
        kept = {} if value is None else {dimension: value}
        return self._list_days(f"toString({dimension})" if dimension else "''", kept, start_ms, end_ms)

    def list_crossed_days(self, segment: Mapping[str, str], start_ms: int, end_ms: int) -> list[DailyScores]:
        """Return the days of the rows that have all these values, one per dimension."""
        return [day for _, day in self._list_days("''", segment, start_ms, end_ms)]

    def list_asked(self, start_ms: int, end_ms: int, below: float | None, limit: int) -> list[AskedRow]:
        """Return the distinct texts with a score (under `below`), the most asked in the window first.

        Includes texts of earlier weeks, because another spelling of them may be asked in the window.
        """
        ago = f"intDiv({{end:Int64}} - 1 - ts_ms, {WEEK_MS})"
        low = "score IS NOT NULL" if below is None else "score < {below:Float64}"
        weeks = ", ".join(f"countIf({ago} = {week})" for week in reversed(range(TREND_WEEKS)))
        found = self._log.query(
            "SELECT query, countIf(ts_ms >= {start:Int64}) AS asked, sumIf(ifNull(score, 0), ts_ms >= {start:Int64}), "
            f"{weeks} FROM {self._rows} WHERE ts_ms >= {{since:Int64}} AND ts_ms < {{end:Int64}} "
            f"AND {low} GROUP BY query ORDER BY asked DESC, count() DESC, query LIMIT {{most:Int64}}",
            start=start_ms, end=end_ms, since=trend_start_ms(start_ms, end_ms), most=limit,
            **({} if below is None else {"below": below}),
        )  # fmt: skip
        return [AskedRow(text, n, total, tuple(counts)) for text, n, total, *counts in found]

    def list_live(self, dimension: str, start_ms: int, end_ms: int, most: int) -> list[LiveFigures]:
        """Return the figures of each value of a dimension over the newest `most` rows of a window."""
        sums = ", ".join(f"count({name}), avg({name})" for name in LIVE_FIGURES)
        found = self._log.query(
            f"SELECT value, count(), {sums} FROM (SELECT toString({dimension}) AS value, {', '.join(LIVE_FIGURES)} "
            f"FROM {self._rows} WHERE ts_ms >= {{start:Int64}} AND ts_ms < {{end:Int64}} ORDER BY ts_ms DESC "
            "LIMIT {most:Int64}) GROUP BY value",
            start=start_ms, end=end_ms, most=most,
        )  # fmt: skip
        return [read_live_figures(row) for row in found]

    def count(self, start_ms: int, end_ms: int) -> tuple[int, int]:
        """Return how many queries of a window have a score, and how many found nothing."""
        ((scored, empty),) = self._log.query(
            f"SELECT sumIf(n, bin != {EMPTY_BIN}), sumIf(n, bin = {EMPTY_BIN}) FROM {self._days} WHERE {_INSIDE}",
            start=start_ms, end=end_ms,
        )  # fmt: skip
        return int(scored), int(empty)

    def list_user_sums(
        self, dimension: str, values: Sequence[str], start_ms: int, end_ms: int, *, hourly: bool
    ) -> list[UserRow]:
        """Return the sums of each user's rows for each value, per hour or over the whole period."""
        start = f"intDiv(ts_ms, {HOUR_MS}) * {HOUR_MS}" if hourly else "{start:Int64}"
        sums = ", ".join(f"count({name}), ifNull(sum({name}), 0)" for name in USER_SUMS)
        value, kept = (f"toString({dimension})", _kept(dimension)) if dimension else ("''", "")
        found = self._log.query(
            f"SELECT {start} AS start_ms, {value} AS value, session_id, count(), {sums} FROM {self._rows} "
            f"WHERE ts_ms >= {{start:Int64}} AND ts_ms < {{end:Int64}}{kept} GROUP BY start_ms, value, session_id",
            start=start_ms, end=end_ms, values=list(values),
        )  # fmt: skip
        return [UserRow._make(row) for row in found]

    def count_rows(self, dimension: str, values: Sequence[str], start_ms: int, end_ms: int) -> int:
        """Return how many rows with these values there are in whole hours, from the rollup."""
        ((found,),) = self._log.query(
            f"SELECT sum(n) FROM {self._log.database}.{ROLLUP_TABLES[HOUR_MS]} "
            f"WHERE {_INSIDE}{_kept(dimension) if dimension else ''}",
            start=start_ms, end=end_ms, values=list(values),
        )  # fmt: skip
        return int(found)

    def list_recent_users(self, since_ms: int, limit: int) -> list[str]:
        """Return the distinct session ids of the newest rows since a time."""
        found = self._log.query(
            f"SELECT DISTINCT session_id FROM (SELECT session_id FROM {self._rows} WHERE ts_ms >= {{start:Int64}} "
            "ORDER BY ts_ms DESC LIMIT {most:Int64}) WHERE session_id IS NOT NULL",
            start=since_ms, most=limit,
        )  # fmt: skip
        return [str(session_id) for (session_id,) in found]

    def span(self) -> tuple[int, int] | None:
        """Return the times of the first and the last row."""
        ((rows, first, last),) = self._log.query(f"SELECT count(), min(ts_ms), max(ts_ms) FROM {self._rows}")
        return (first, last) if rows else None

    def _list_days(
        self, value: str, kept: Mapping[str, str], start_ms: int, end_ms: int
    ) -> list[tuple[str, DailyScores]]:
        conditions = "".join(f" AND {name} = {{kept_{name}:String}}" for name in kept)
        given: dict[str, Any] = {f"kept_{name}": wanted for name, wanted in kept.items()}
        found = self._log.query(
            "SELECT value, start_ms, sum(count), sum(scores), sum(squares), groupArray(bin), groupArray(count) FROM ("
            f"SELECT {value} AS value, start_ms, bin, sum(n) AS count, sum(total) AS scores, "
            f"sum(total_squares) AS squares FROM {self._days} WHERE bin != {EMPTY_BIN} AND {_INSIDE}{conditions} "
            "GROUP BY value, start_ms, bin) GROUP BY value, start_ms ORDER BY start_ms",
            start=start_ms, end=end_ms, **given,
        )  # fmt: skip
        return [
            (name, DailyScores.starting_at(day, n, total, squares, _spread(bins, counts)))
            for name, day, n, total, squares, bins, counts in found
        ]


def _kept(dimension: str) -> str:
    return f" AND {dimension} IN {{values:Array(String)}}"


def _spread(bins: list[int], counts: list[int]) -> tuple[int, ...]:
    histogram = [0] * HISTOGRAM_BINS
    for number, n in zip(bins, counts, strict=True):
        histogram[number] = n
    return tuple(histogram)

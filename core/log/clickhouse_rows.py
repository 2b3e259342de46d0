"""Gateway to the rows of a retrieval log in ClickHouse that meet a filter, in an order."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

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
from core.log.search_terms import split_words
from quarterdeck.clickhouse import ClickHouseLog
from quarterdeck.clock import DAY_MS
from quarterdeck.retrieval import EMPTY, SCORED
from quarterdeck.schema import METRICS

# Rows have no number of their own: those of one time are ordered by their id, or by a hash where they have none.
_HASH = "lower(hex(cityHash64(ts_ms, query, ifNull(session_id, ''))))"
_KEY = f"ifNull(retrieval_id, {_HASH})"
_FIRST_WINDOW_MS, _GROWTH = DAY_MS, 4


def list_rows(
    log: ClickHouseLog, wanted: QuestionFilter, limit: int, after: Cursor | None, order: Order
) -> list[FoundRow]:
    """Return the first rows after a cursor, at most `limit`."""
    if order is Order.LOWEST:
        return _list_lowest(log, wanted, limit, after)
    query = _Query(wanted, ", ".join((*ROW_COLUMNS, "environment, service")), is_newest=order is Order.NEWEST)
    found = _list_first(log, query, limit, after)
    return [FoundRow(Cursor(values[0], key), values) for key, *values in found]


class _Query(NamedTuple):
    """What is selected of which rows, and whether the newest come first or the oldest."""

    wanted: QuestionFilter
    columns: str
    is_newest: bool = True
    further: str = "1"


def _list_first(log: ClickHouseLog, query: _Query, limit: int, after: Cursor | None) -> list[Sequence[Any]]:
    """Return key and columns of the first rows after a cursor.

    Windows that grow away from it are read until there are enough: the newest ones are mostly in the first.
    """
    ((start_ms, last_ms),) = _select(log, query.wanted, "min(ts_ms), max(ts_ms)")
    end_ms = last_ms + 1
    if after is not None and query.is_newest:
        end_ms = min(after.ts_ms + 1, end_ms)
    elif after is not None:
        start_ms = max(after.ts_ms, start_ms)
    size_ms, found = _FIRST_WINDOW_MS, list[Sequence[Any]]()
    while len(found) < limit and end_ms > start_ms:
        if query.is_newest:
            first_ms, ends_ms, end_ms = max(end_ms - size_ms, start_ms), end_ms, end_ms - size_ms
        else:
            first_ms, ends_ms, start_ms = start_ms, min(start_ms + size_ms, end_ms), start_ms + size_ms
        inside = query._replace(wanted=replace(query.wanted, start_ms=first_ms, end_ms=ends_ms))
        found += _list_inside(log, inside, limit - len(found), after)
        size_ms *= _GROWTH
    return found


def _list_lowest(log: ClickHouseLog, wanted: QuestionFilter, limit: int, after: Cursor | None) -> list[FoundRow]:
    """Return the rows with the lowest similarity among the newest MOST_SORTED: their keys are found first."""
    newest = _list_first(log, _Query(wanted, "ts_ms, score", further="score IS NOT NULL"), MOST_SORTED, None)
    last = None if after is None or after.score is None else (after.score, after.ts_ms, after.key)
    lowest = pick_lowest(((score, ts_ms, key) for key, ts_ms, score in newest), limit, last)
    conditions, values = list_conditions(wanted)
    found = log.query(
        f"SELECT {_KEY} AS row_key, {', '.join(ROW_COLUMNS)}, environment, service FROM {log.database}.retrievals "
        f"WHERE {' AND '.join(conditions) or '1'} AND has({{times:Array(Int64)}}, ts_ms) "
        f"AND has({{keys:Array(String)}}, {_KEY})",
        times=[ts_ms for _, ts_ms, _ in lowest], keys=[key for *_, key in lowest], **values,
    )  # fmt: skip
    rows = {(row[SCORE_COLUMN], row[0], key): row for key, *row in found}
    return [FoundRow(Cursor(each[1], each[2], each[0]), rows[each]) for each in lowest if each in rows]


def _select(log: ClickHouseLog, wanted: QuestionFilter, what: str) -> Sequence[Sequence[Any]]:
    """Return some figures of all rows of a filter's scope and time."""
    conditions, values = list_conditions(
        QuestionFilter(scope=wanted.scope, start_ms=wanted.start_ms, end_ms=wanted.end_ms)
    )
    where = " AND ".join(conditions) or "1"
    return log.query(f"SELECT {what} FROM {log.database}.retrievals WHERE {where}", **values)


def _list_inside(log: ClickHouseLog, query: _Query, limit: int, after: Cursor | None) -> Sequence[Sequence[Any]]:
    conditions, values = list_conditions(query.wanted)
    sign, order = ("<", " DESC") if query.is_newest else (">", "")
    if after is not None:
        conditions.append(f"ts_ms {sign}= {{at:Int64}} AND (ts_ms {sign} {{at:Int64}} OR {_KEY} {sign} {{key:String}})")
        values |= {"at": after.ts_ms, "key": after.key}
    return log.query(
        f"SELECT {_KEY} AS row_key, {query.columns} FROM {log.database}.retrievals "
        f"WHERE {' AND '.join([*conditions, query.further])} ORDER BY ts_ms{order}, row_key{order} "
        "LIMIT {most:Int64}",
        most=limit, **values,
    )  # fmt: skip


def list_conditions(wanted: QuestionFilter) -> tuple[list[str], dict[str, Any]]:
    """Return the conditions of a filter, and the values of their parameters."""
    found: list[str] = []
    values: dict[str, Any] = {}

    def add(condition: str, kind: str, value: Any) -> None:
        name = f"filter_{len(values)}"
        values[name] = value
        found.append(condition.replace("?", f"{{{name}:{kind}}}"))

    for name, value in wanted.scope._asdict().items():
        if value:
            add(f"{name} = ?", "String", value)
    if wanted.start_ms is not None:
        add("ts_ms >= ?", "Int64", wanted.start_ms)
    if wanted.end_ms is not None:
        add("ts_ms < ?", "Int64", wanted.end_ms)
    if wanted.states:
        former = f"if(isNull(score), {EMPTY}, {SCORED})"
        add(f"has(?, toInt64(ifNull(state, {former})))", "Array(Int64)", list(wanted.places))
    if wanted.below is not None:
        condition, numbers = word_low(wanted.below, dict(wanted.bounds))
        found.append(condition)
        values |= numbers
    if wanted.search:
        for condition, value in _hold_words(wanted.search):
            add(condition, "String", value)
    if wanted.texts is not None:
        add("has(?, query)", "Array(String)", list(wanted.texts))
    if wanted.retrieval_id:
        add(f"ifNull(retrieval_id, concat('r', {_HASH})) = ?", "String", wanted.retrieval_id)
    for name in ("session_id", "user_id"):
        if value := getattr(wanted, name):
            add(f"{name} = ?", "String", value)
    for name, value in wanted.labels:
        add(f"ifNull(toString({name}), '') = ?", "String", value)
    for name, pieces in wanted.fragments:
        add(f"arrayExists(piece -> position(ifNull({name}, ''), piece) > 0, ?)", "Array(String)", list(pieces))
    if wanted.score_name:
        own = f"{wanted.score_name} IS NOT NULL" if wanted.score_name in METRICS else "0"
        if own != "0" and wanted.score_below is not None:
            own = f"ifNull({wanted.score_name}, inf) < {wanted.score_below!r}"
        add(f"({own} OR has(?, ifNull(retrieval_id, '')))", "Array(String)", list(wanted.judged))
    return found, values


def word_low(below: float | None, bounds: Mapping[str, float | None]) -> tuple[str, dict[str, Any]]:
    """Return the condition of a low score, None being any, and its parameters; models in `bounds` have their own."""
    low, values = _word_bound("below", below)
    if not bounds:
        return low, values
    model, parts = "ifNull(toString(model), '')", []
    for at, (name, bound) in enumerate(bounds.items()):
        condition, more = _word_bound(f"bound_{at}", bound)
        parts.append(f"({model} = {{model_{at}:String}} AND {condition})")
        values |= more | {f"model_{at}": name}
    others = f"({model} NOT IN ({', '.join(f'{{model_{at}:String}}' for at in range(len(bounds)))}) AND {low})"
    return f"({' OR '.join([*parts, others])})", values


def _word_bound(name: str, bound: float | None) -> tuple[str, dict[str, Any]]:
    return ("score IS NOT NULL", {}) if bound is None else (f"score < {{{name}:Float64}}", {name: bound})


def _hold_words(search: str) -> list[tuple[str, str]]:
    """Return the conditions that a query holds the words of a search; see `search_terms.holds_words`."""
    words = split_words(search)
    if not words:
        return [("position(query, ?) > 0", search)]
    parts = [("positionCaseInsensitiveUTF8(query, ?) > 0", word) for word in words]  # rules out most, fast
    return parts + [("match(query, ?)", f"(?i)(^|[^\\pL\\pN]){re.escape(word)}") for word in words]

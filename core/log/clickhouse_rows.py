"""Gateway to the rows of a retrieval log in ClickHouse that meet a filter, newest first."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from core.log.filters import ROW_COLUMNS, Cursor, FoundRow, QuestionFilter
from core.log.search_terms import split_words
from quarterdeck.clickhouse import ClickHouseLog
from quarterdeck.clock import DAY_MS
from quarterdeck.retrieval import EMPTY, SCORED
from quarterdeck.schema import METRICS

# Rows have no number of their own: those of one time are ordered by their id, or by a hash where they have none.
_HASH = "lower(hex(cityHash64(ts_ms, query, ifNull(session_id, ''))))"
_KEY = f"ifNull(retrieval_id, {_HASH})"
_FIRST_WINDOW_MS, _GROWTH = DAY_MS, 4


def list_rows(log: ClickHouseLog, wanted: QuestionFilter, limit: int, after: Cursor | None) -> list[FoundRow]:
    """Return the first rows after a cursor, at most `limit`.

    Windows that grow backwards are read until there are enough: the newest ones are mostly in the first.
    """
    ((first_ms, last_ms),) = _select(log, wanted, "min(ts_ms), max(ts_ms)")
    end_ms = last_ms + 1 if after is None else min(after.ts_ms, last_ms) + 1
    size_ms, found = _FIRST_WINDOW_MS, list[FoundRow]()
    while len(found) < limit and end_ms > first_ms:
        inside = replace(wanted, start_ms=max(end_ms - size_ms, wanted.start_ms or 0), end_ms=end_ms)
        found += _list_inside(log, inside, limit - len(found), after)
        end_ms, size_ms = end_ms - size_ms, size_ms * _GROWTH
    return found


def _select(log: ClickHouseLog, wanted: QuestionFilter, what: str) -> Sequence[Sequence[Any]]:
    """Return some figures of all rows of a filter's scope and time."""
    conditions, values = list_conditions(
        QuestionFilter(scope=wanted.scope, start_ms=wanted.start_ms, end_ms=wanted.end_ms)
    )
    where = " AND ".join(conditions) or "1"
    return log.query(f"SELECT {what} FROM {log.database}.retrievals WHERE {where}", **values)


def _list_inside(log: ClickHouseLog, wanted: QuestionFilter, limit: int, after: Cursor | None) -> list[FoundRow]:
    conditions, values = list_conditions(wanted)
    if after is not None:
        conditions.append(f"ts_ms <= {{at:Int64}} AND (ts_ms < {{at:Int64}} OR {_KEY} < {{key:String}})")
        values |= {"at": after.ts_ms, "key": after.key}
    found = log.query(
        f"SELECT {_KEY} AS row_key, {', '.join(ROW_COLUMNS)}, environment, service FROM {log.database}.retrievals "
        f"WHERE {' AND '.join(conditions) or '1'} ORDER BY ts_ms DESC, row_key DESC LIMIT {{most:Int64}}",
        most=limit, **values,
    )  # fmt: skip
    return [FoundRow(Cursor(values[0], key), values) for key, *values in found]


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

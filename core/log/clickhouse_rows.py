"""Gateway to the rows of a retrieval log in ClickHouse that meet a filter, newest first."""

from typing import Any

from core.log.filters import ROW_COLUMNS, Cursor, FoundRow, QuestionFilter
from quarterdeck.clickhouse import ClickHouseLog
from quarterdeck.retrieval import EMPTY, SCORED

# Rows have no number of their own: those of one time are ordered by their id, or by a hash where they have none.
_HASH = "lower(hex(cityHash64(ts_ms, query, ifNull(session_id, ''))))"
_KEY = f"ifNull(retrieval_id, {_HASH})"


def list_rows(log: ClickHouseLog, wanted: QuestionFilter, limit: int, after: Cursor | None) -> list[FoundRow]:
    """Return the first rows after a cursor, at most `limit`."""
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
        add("score < ?", "Float64", wanted.below)
    if wanted.search:
        add("positionCaseInsensitiveUTF8(query, ?) > 0", "String", wanted.search)
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
    return found, values

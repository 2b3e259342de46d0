"""Rule: the tables and materialized views of a retrieval log in ClickHouse, as statements.

The views do for every inserted row what `quarterdeck.rollups` does for the rows of a writer: by hour and value of a
dimension, also of the attributes that services declare, and by document. Values are not bounded here.
"""

from collections.abc import Mapping

from quarterdeck.clock import DAY_MS, HOUR_MS
from quarterdeck.schema import DIMENSIONS, DOCUMENT_SUMS, HISTOGRAM_BINS, SUMS, TENTHS
from quarterdeck.scope import DEFAULT_SCOPE

ROLLUP_TABLE = "rollups_by_hour"
DOCUMENT_TABLE = "document_days"
DECLARED_TABLE = "declared_dimensions"
VIEWS_VERSION = 1  # with every change of a view's SELECT one more: a log keeps the newest version that it has met
_LABEL, _NUMBER, _TEXT = "LowCardinality(Nullable(String))", "Nullable(Float64)", "Nullable(String)"
_ROW_TYPES = {
    "ts_ms": "Int64", "query": "String", "score": _NUMBER, "session_id": _TEXT, "arm": _LABEL,
    "prompt_version": _LABEL, "index_version": _LABEL, "latency_ms": _NUMBER, "cost_usd": _NUMBER,
    "faithfulness": _NUMBER, "feedback": _NUMBER, "retrieval_id": _TEXT, "user_id": _TEXT, "model": _LABEL,
    "raw_score": _NUMBER, "score_kind": _LABEL, "state": "Nullable(UInt8)", "documents": _TEXT, "attributes": _TEXT,
    "trace_id": _TEXT, "span_id": _TEXT, "answer": _TEXT, "tokens": _NUMBER, "weight": "Nullable(UInt32)",
    "answerability": _NUMBER, "mark": "Nullable(UInt8)",
    "environment": f"LowCardinality(String) DEFAULT '{DEFAULT_SCOPE.environment}'",
    "service": f"LowCardinality(String) DEFAULT '{DEFAULT_SCOPE.service}'",
}  # fmt: skip
_NEW_COLUMNS = frozenset(list(_ROW_TYPES)[list(_ROW_TYPES).index("retrieval_id") :])
_SERIES = (
    "environment LowCardinality(String), service LowCardinality(String), dimension LowCardinality(String), value String"
)


def make_ddl(database: str, cluster: str = "") -> list[str]:
    """Return the statements that create whatever is missing: database, rows, rollups and their views."""
    on = on_cluster(cluster)
    replicated = "Replicated" if cluster else ""
    # Views are fed block by block: every table recognizes a batch that is sent again by its token.
    once = "" if cluster else " SETTINGS non_replicated_deduplication_window = 1000"
    return [
        f"CREATE DATABASE IF NOT EXISTS {database}{on}",
        f"CREATE TABLE IF NOT EXISTS {database}.retrievals{on} "
        f"({_list_columns(_ROW_TYPES)}) ENGINE = {replicated}MergeTree "
        f"PARTITION BY toYYYYMM(fromUnixTimestamp64Milli(ts_ms, 'UTC')) ORDER BY (environment, service, ts_ms){once}",
        *(
            f"ALTER TABLE {database}.retrievals{on} ADD COLUMN IF NOT EXISTS {name} {kind}"
            for name, kind in _ROW_TYPES.items()
            if name in _NEW_COLUMNS
        ),
        f"CREATE TABLE IF NOT EXISTS {database}.{ROLLUP_TABLE}{on} ({_SERIES}, start_ms Int64, "
        f"{_list_columns({name: 'Float64' if 'total' in name else 'UInt64' for name in SUMS})}) "
        f"ENGINE = {replicated}SummingMergeTree(({', '.join(SUMS)})) "
        f"ORDER BY (environment, service, dimension, value, start_ms){once}",
        f"CREATE TABLE IF NOT EXISTS {database}.{DECLARED_TABLE}{on} (service String, names Array(String), "
        f"declared_ms Int64) ENGINE = {replicated}ReplacingMergeTree(declared_ms) ORDER BY service",
        f"CREATE TABLE IF NOT EXISTS {database}.{DOCUMENT_TABLE}{on} (environment LowCardinality(String), "
        "service LowCardinality(String), day_ms Int64, document String, "
        f"{_list_columns({name: 'Float64' if name == 'score_total' else 'Int64' for name in DOCUMENT_SUMS})}) "
        f"ENGINE = {replicated}SummingMergeTree(({', '.join(DOCUMENT_SUMS)})) "
        f"ORDER BY (environment, service, day_ms, document){once}",
        *(
            f"CREATE MATERIALIZED VIEW IF NOT EXISTS {database}.{name}{on} TO {database}.{_TARGETS[name]} AS {select} "
            f"COMMENT '{VIEWS_VERSION}'"
            for name, select in list_views(database).items()
        ),
    ]


def list_views(database: str) -> dict[str, str]:
    """Return the SELECT of each materialized view, by its name."""
    rows = f"{database}.retrievals"
    selects = (select_sums(rows), select_declared_sums(rows, f"{database}.{DECLARED_TABLE}"), select_documents(rows))
    return dict(zip(_TARGETS, selects, strict=True))


def select_sums(rows: str) -> str:
    """Return the SELECT that counts rows by hour, for all of a scope and for each value of a built-in dimension."""
    series = ", ".join(["('', '')", *(f"('{name}', ifNull(toString({name}), ''))" for name in DIMENSIONS)])
    return _sum_series(
        f"SELECT environment, service, each.1 AS dimension, each.2 AS value, start_ms, score, weight, given_state, bin "
        f"FROM (SELECT environment, service, {_COUNTED}, arrayJoin([{series}]) AS each FROM {rows})"
    )


def select_declared_sums(rows: str, declared: str) -> str:
    """Return the SELECT that counts rows by hour for each value of the attributes that their service declares."""
    newest = f"SELECT service, argMax(names, declared_ms) AS names FROM {declared} GROUP BY service"
    return _sum_series(
        f"SELECT environment, service, dimension, {ATTRIBUTE_VALUE} AS value, start_ms, score, weight, given_state, "
        f"bin FROM (SELECT *, JSONExtractRaw(noted, dimension) AS raw FROM (SELECT environment, service, {_COUNTED}, "
        f"ifNull(attributes, '') AS noted, arrayJoin(names) AS dimension FROM {rows} AS logged "
        f"INNER JOIN ({newest}) AS declared USING (service)))"
    )


def select_documents(rows: str) -> str:
    """Return the SELECT that counts documents by day, as `rollups` does."""
    sums = (
        "sum(questions)", "sumIf(questions, place = 1)", "sum(questions * place)", "sumIf(questions, has_cosine)",
        "sumIf(questions * ifNull(hit.2, 0), has_cosine)", "sumIf(questions, is_bad)",
        *(f"sumIf(questions, tenth = {place})" for place in range(len(TENTHS))),
    )  # fmt: skip
    named = ", ".join(f"{what} AS {name}" for what, name in zip(sums, DOCUMENT_SUMS, strict=True))
    return (
        f"SELECT environment, service, day_ms, hit.1 AS document, {named} FROM (SELECT environment, service, "
        f"intDiv(ts_ms, {DAY_MS}) * {DAY_MS} AS day_ms, toInt64(ifNull(weight, 1)) AS questions, hit, place, "
        "isNull(score_kind) AND isNotNull(hit.2) AS has_cosine, ifNull(feedback, 0) < 0 AS is_bad, "
        f"if(isNull(score), -1, least({len(TENTHS) - 1}, toInt16(floor(ifNull(score, 0) * {len(TENTHS)})))) AS tenth "
        "FROM (SELECT environment, service, ts_ms, weight, score, score_kind, feedback, "
        f"JSONExtract(ifNull(documents, ''), 'Array(Tuple(String, Nullable(Float64)))') AS hits FROM {rows}) "
        "ARRAY JOIN hits AS hit, arrayEnumerate(hits) AS place) GROUP BY environment, service, day_ms, document"
    )


def on_cluster(cluster: str) -> str:
    """Return the clause that runs a statement on all hosts of a cluster."""
    return f" ON CLUSTER {cluster}" if cluster else ""


_TARGETS = {
    f"{ROLLUP_TABLE}_view": ROLLUP_TABLE,
    f"{ROLLUP_TABLE}_declared_view": ROLLUP_TABLE,
    f"{DOCUMENT_TABLE}_view": DOCUMENT_TABLE,
}
_COUNTED = (
    f"intDiv(ts_ms, {HOUR_MS}) * {HOUR_MS} AS start_ms, score, weight, "
    "ifNull(state, if(isNull(score), 2, 0)) AS given_state, "
    f"least({HISTOGRAM_BINS - 1}, toInt16(floor(ifNull(score, 0) * {HISTOGRAM_BINS}))) AS bin"
)
# An attribute as Python writes it: rows of one service may be counted in SQL too.
ATTRIBUTE_VALUE = (
    "multiIf(startsWith(raw, '\"'), JSONExtractString(raw), raw = 'true', 'True', raw = 'false', 'False', "
    "raw = 'null', '', match(raw, '^-?[0-9]+$') AND JSONType(noted, dimension) = 'Double', concat(raw, '.0'), raw)"
)


def _sum_series(rows: str) -> str:
    weight = "toUInt64(ifNull(weight, 1))"
    scored = "isNotNull(score)"
    states = (f"sumIf({weight}, NOT {scored} AND given_state = {place})" for place in range(4))
    bins = (f"sumIf({weight}, {scored} AND bin = {place})" for place in range(HISTOGRAM_BINS))
    sums = (
        f"sumIf({weight}, {scored})", f"countIf({scored})", f"sum({weight} * ifNull(score, 0))",
        f"sum({weight} * ifNull(score, 0) * ifNull(score, 0))", *states, *bins,
    )  # fmt: skip
    named = ", ".join(f"{what} AS {name}" for what, name in zip(sums, SUMS, strict=True))
    return (
        f"SELECT environment, service, dimension, value, start_ms, {named} FROM ({rows}) "
        "GROUP BY environment, service, dimension, value, start_ms"
    )


def _list_columns(types: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {kind}" for name, kind in types.items())

"""Gateway to the numbers behind metrics, from the rows of the log and from what clients report: by user, arm and hour.

Later scores and events are in the store, whatever holds the log. Reading takes no lock that a writer waits for. Rows
from before ids were stored have no later scores here.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Select, Text, and_, case, cast, func, literal, or_, select
from sqlalchemy.dialects.postgresql import JSONB

from core.errors import InvalidInput
from core.log.named_rows import NamedRow, find_rows
from core.metrics.definition import ERROR, QUESTIONS, USERS, VALUES, MetricDefinition, MetricSource, Statistic
from quarterdeck.clickhouse import ClickHouseLog
from quarterdeck.clickhouse_tables import ATTRIBUTE_VALUE
from quarterdeck.clock import DAY_MS, HOUR_MS
from quarterdeck.log import RetrievalLog, SqlLog, as_log
from quarterdeck.retrieval import STATES
from quarterdeck.schema import DIMENSIONS, retrievals, scopes, scores, tracked_events
from quarterdeck.scope import Scope
from quarterdeck.store import Store, fetch_many

_COLUMNS = {MetricSource.SIMILARITY: "score", MetricSource.LATENCY: "latency_ms", MetricSource.COST: "cost_usd",
            MetricSource.TOKENS: "tokens"}  # fmt: skip
_ON_THE_ROW = ("feedback", "faithfulness")  # scores that a row may come with; a later one replaces the row's own
_QUESTION = "question"


@dataclass(frozen=True, slots=True)
class MetricPart:
    """Numbers of one kind: those above or below the line of a ratio, or all that a metric has."""

    source: str
    of: str = ""
    at_least: float | None = None


@dataclass(frozen=True, slots=True)
class RowsRead:
    """Whose numbers are read: of a scope (an empty name stands for all), from `start_ms` to before `end_ms`.

    If `dimension` is named, only rows with one of the `values` count, or all if there are none.
    """

    scope: Scope
    start_ms: int
    end_ms: int
    dimension: str = ""
    values: tuple[str, ...] = ()


class ValueSum(NamedTuple):
    """How many numbers a user has in an hour, and their sum; `value` is that of the dimension, "" for an event."""

    start_ms: int
    value: str
    user: str | None
    n: int
    total: float


class UserNumber(NamedTuple):
    """One number of a user."""

    start_ms: int
    value: str
    user: str | None
    number: float


def split_metric(metric: MetricDefinition) -> tuple[MetricPart, MetricPart | None]:
    """Return the numbers that a metric is made of, and those that a ratio is divided by.

    The second is None where the numbers themselves are counted, or the users.
    """
    part = MetricPart(str(metric.source), metric.of, metric.at_least)
    if metric.statistic is not Statistic.RATIO or metric.per in (VALUES, USERS):
        return part, None
    if metric.per == QUESTIONS:
        return part, MetricPart(_QUESTION)
    return part, MetricPart(str(MetricSource.EVENT), metric.per)


def list_questions_asked(store: Store, rows: RowsRead) -> list[ValueSum]:
    """Return how many questions each user asked in each hour. Raises SourceUnavailable."""
    return list_value_sums(store, MetricPart(_QUESTION), rows)


def list_value_sums(store: Store, part: MetricPart, rows: RowsRead) -> list[ValueSum]:
    """Return count and sum of each user's numbers, by hour and value of the dimension. Raises SourceUnavailable.

    Of a state, and with `at_least`, the sum is of ones: the questions in it, the numbers that are high enough.
    """
    if part.source == MetricSource.EVENT:
        return [ValueSum(at, "", user or None, int(n), float(total))
                for at, user, n, total in _list_events(store, part, rows, grouped=True)]  # fmt: skip
    if _is_later(store, part):
        return _add_up(_list_scores_elsewhere(store, part, rows))
    log = as_log(store)
    if isinstance(log, ClickHouseLog):
        return [ValueSum._make(row) for row in _list_clickhouse(log, part, rows, grouped=True)]
    with _hold_rows(log).read() as connection:
        found = fetch_many(connection, _select_rows(part, rows, grouped=True, dialect=connection.dialect.name))
        return [ValueSum(at, value, user, int(n), float(total or 0)) for at, value, user, n, total in found]


def list_numbers(store: Store, part: MetricPart, rows: RowsRead) -> Iterable[UserNumber]:
    """Return every single number, as `list_value_sums` adds them up: percentiles need them."""
    if part.source == MetricSource.EVENT:
        return [UserNumber(at, "", user or None, float(number))
                for at, user, number in _list_events(store, part, rows, grouped=False)]  # fmt: skip
    if _is_later(store, part):
        return _list_scores_elsewhere(store, part, rows)
    log = as_log(store)
    if isinstance(log, ClickHouseLog):
        return [UserNumber._make(row) for row in _list_clickhouse(log, part, rows, grouped=False)]
    with _hold_rows(log).read() as connection:
        found = fetch_many(connection, _select_rows(part, rows, grouped=False, dialect=connection.dialect.name))
        return [UserNumber(at, value, user, float(number)) for at, value, user, number in found]


def _is_later(store: Store, part: MetricPart) -> bool:
    """Whether these are scores in a store that does not hold the rows."""
    log = as_log(store)
    return part.source == MetricSource.SCORE and not (isinstance(log, SqlLog) and log.store is store)


def _hold_rows(log: RetrievalLog) -> Store:
    if not isinstance(log, SqlLog):
        raise InvalidInput("log", f"{type(log).__name__} cannot be read in core/metrics/values.py")
    return log.store


def _number(part: MetricPart, score: ColumnElement[Any]) -> ColumnElement[Any]:
    """The number of a row; NULL where it has none."""
    c = retrievals.c
    if part.source == _QUESTION:
        return literal(1.0)
    if part.source == MetricSource.STATE and part.of == ERROR:
        return case((c.score.is_(None), 1.0), else_=0.0)
    if part.source == MetricSource.STATE:
        place = STATES.index(part.of)
        state = func.coalesce(c.state, case((c.score.is_(None), STATES.index("empty")), else_=0))
        return case((state == place, 1.0), else_=0.0)
    number = score if part.source == MetricSource.SCORE else c[_COLUMNS[MetricSource(part.source)]]
    if part.at_least is None:
        return number
    return case((number >= part.at_least, 1.0), (number.is_not(None), 0.0))


def _value_of(dimension: str, dialect: str) -> ColumnElement[Any]:
    """The value of a dimension; that of a declared attribute as Python writes it, because the rollups hold it so."""
    c = retrievals.c
    if not dimension:
        return literal("")
    if dimension in DIMENSIONS:
        return func.coalesce(c[dimension], "")
    kind: ColumnElement[Any]
    text: ColumnElement[Any]
    if dialect == "postgresql":
        document, name = cast(c.attributes, JSONB), literal(dimension, Text)
        kind, text = func.jsonb_typeof(document.op("->")(name)), document.op("->>")(name)
        is_true, is_false = and_(kind == "boolean", text == "true"), and_(kind == "boolean", text == "false")
    else:
        path = "$." + json.dumps(dimension, ensure_ascii=False)
        kind, text = func.json_type(c.attributes, path), cast(func.json_extract(c.attributes, path), Text)
        is_true, is_false = and_(kind == "true"), and_(kind == "false")
    return case((is_true, "True"), (is_false, "False"), else_=func.coalesce(text, ""))


def _select_rows(part: MetricPart, rows: RowsRead, *, grouped: bool, dialect: str) -> Select[Any]:
    c, s = retrievals.c, scopes.c
    is_joined = part.source == MetricSource.SCORE and part.of not in _ON_THE_ROW
    given: ColumnElement[Any] = scores.c.applied if is_joined else c[part.of] if part.of in _ON_THE_ROW else c.score
    number = _number(part, given)
    hour = c.ts_ms - c.ts_ms % HOUR_MS
    value = _value_of(rows.dimension, dialect)
    user = func.coalesce(c.user_id, c.session_id)
    found: list[Any] = [func.count(number), func.coalesce(func.sum(number), 0.0)] if grouped else [number]
    own = select(s.id).where(*_of_scope(s, rows.scope))
    query = select(hour.label("hour"), value, user, *found).where(
        c.scope_id.in_(own), c.ts_ms >= rows.start_ms, c.ts_ms < rows.end_ms, number.is_not(None)
    )
    if is_joined:
        query = query.join(scopes, s.id == c.scope_id).join(scores, _belongs(part.of))
    if rows.dimension and rows.values:
        query = query.where(value.in_(rows.values))
    return query.group_by(hour, *([value] if rows.dimension else []), user) if grouped else query


def _belongs(name: str) -> ColumnElement[bool]:
    """A score belongs to a row of its environment: to that of its own service, else to any (see `core.log.scores`)."""
    c, given, s = retrievals.c, scores.c, scopes.c
    other, of_other = retrievals.alias(), scopes.alias()
    own = (
        select(literal(1))
        .select_from(other)
        .join(of_other, of_other.c.id == other.c.scope_id)
        .where(other.c.retrieval_id == given.retrieval_id, of_other.c.environment == given.environment)
        .where(of_other.c.service == given.service)
        .correlate(scores)
        .exists()
    )
    same = given.service == s.service
    return and_(
        given.retrieval_id == c.retrieval_id, given.environment == s.environment, given.name == name,
        given.applied.is_not(None), or_(same, ~own),
    )  # fmt: skip


def _of_scope(c: Any, scope: Scope) -> list[ColumnElement[bool]]:
    return [c[name] == value for name, value in scope._asdict().items() if value]


def _list_events(store: Store, part: MetricPart, rows: RowsRead, *, grouped: bool) -> list[Any]:
    c = tracked_events.c
    hour, number = c.ts_ms - c.ts_ms % HOUR_MS, func.coalesce(c.value, 1.0)
    kept = [] if part.at_least is None else [number >= part.at_least]
    found = [func.count(), func.sum(number)] if grouped else [number]
    query = select(hour.label("hour"), c.targeting_key, *found).where(
        c.event == part.of, c.ts_ms >= rows.start_ms, c.ts_ms < rows.end_ms, *_of_scope(c, rows.scope), *kept
    )
    with store.read() as connection:
        return list(fetch_many(connection, query.group_by(hour, c.targeting_key) if grouped else query))


def _list_scores_elsewhere(store: Store, part: MetricPart, rows: RowsRead) -> list[UserNumber]:
    """Join later scores with rows of another database, which are found by their ids."""
    c = scores.c
    environment = [c.environment == rows.scope.environment] if rows.scope.environment else []
    query = select(c.retrieval_id, c.environment, c.service, c.applied).where(
        c.name == part.of, c.applied.is_not(None), c.ts_ms >= rows.start_ms - DAY_MS, *environment
    )
    with store.read() as connection:
        given = list(fetch_many(connection, query))
    by_name: dict[str, list[NamedRow]] = defaultdict(list)
    for row in find_rows(store, {name for name, *_ in given}):
        by_name[row.name].append(row)
    found, replaced = [], set[tuple[str, Scope]]()
    for name, in_environment, service, number in given:
        near = [row for row in by_name[name] if row.scope.environment == in_environment]
        own = [row for row in near if row.scope.service == service] or near
        for row in own[:1]:
            replaced.add((name, row.scope))
            found += _keep(row, float(number), part, rows)
    if part.of in _ON_THE_ROW:
        found += _list_row_scores(store, part, rows, replaced)
    return found


def _keep(row: NamedRow, number: float, part: MetricPart, rows: RowsRead) -> list[UserNumber]:
    value = row.values[DIMENSIONS.index(_check(rows.dimension))] if rows.dimension else ""
    inside = rows.start_ms <= row.ts_ms < rows.end_ms and (not rows.scope.service or row.scope == rows.scope)
    if not inside or (rows.dimension and rows.values and value not in rows.values):
        return []
    number = number if part.at_least is None else float(number >= part.at_least)
    return [UserNumber(row.ts_ms - row.ts_ms % HOUR_MS, value, row.user, number)]


def _list_row_scores(
    store: Store, part: MetricPart, rows: RowsRead, replaced: set[tuple[str, Scope]]
) -> list[UserNumber]:
    """The numbers that the rows came with, without those that a later score replaced."""
    log = as_log(store)
    if isinstance(log, ClickHouseLog):
        found: Iterable[Any] = _list_clickhouse(log, part, rows, grouped=False, named=True)
    else:
        c, s = retrievals.c, scopes.c
        with _hold_rows(log).read() as connection:
            query = _select_rows(part, rows, grouped=False, dialect=connection.dialect.name)
            query = query.add_columns(c.retrieval_id, s.environment, s.service)
            found = list(fetch_many(connection, query.join(scopes, s.id == c.scope_id)))
    return [
        UserNumber(at, value or "", user, float(number))
        for at, value, user, number, name, environment, service in found
        if (name, Scope(environment, service)) not in replaced
    ]


def _list_clickhouse(
    log: ClickHouseLog, part: MetricPart, rows: RowsRead, *, grouped: bool, named: bool = False
) -> Sequence[Any]:
    number = _write_number(part)
    value, noted = f"ifNull(toString({rows.dimension}), '')" if rows.dimension else "''", ""
    if rows.dimension and rows.dimension not in DIMENSIONS:
        value = ATTRIBUTE_VALUE
        noted = ", ifNull(attributes, '') AS noted, {dimension:String} AS dimension"
        noted += ", JSONExtractRaw(noted, dimension) AS raw"
    kept = " AND each IN {values:Array(String)}" if rows.dimension and rows.values else ""
    scope = "".join(f" AND {name} = {{scope_{name}:String}}" for name, of in rows.scope._asdict().items() if of)
    found = "count(number), sum(assumeNotNull(number))" if grouped else "assumeNotNull(number)"
    found += ", retrieval_id, environment, service" if named else ""
    return log.query(
        f"SELECT intDiv(ts_ms, {HOUR_MS}) * {HOUR_MS} AS hour, {value} AS each, ifNull(user_id, session_id) AS user, "
        f"{found} FROM (SELECT *, {number} AS number{noted} FROM {log.database}.retrievals "
        f"WHERE ts_ms >= {{start:Int64}} AND ts_ms < {{end:Int64}}{scope}) WHERE number IS NOT NULL{kept}"
        + (" GROUP BY hour, each, user" if grouped else ""),
        start=rows.start_ms, end=rows.end_ms, values=list(rows.values), at_least=part.at_least or 0.0,
        dimension=rows.dimension,
        **{f"scope_{name}": of for name, of in rows.scope._asdict().items() if of},
    )  # fmt: skip


def _write_number(part: MetricPart) -> str:
    if part.source == _QUESTION:
        return "1.0"
    if part.source == MetricSource.STATE and part.of == ERROR:
        return "toFloat64(score IS NULL)"
    if part.source == MetricSource.STATE:
        empty = STATES.index("empty")
        return f"toFloat64(ifNull(state, if(score IS NULL, {empty}, 0)) = {STATES.index(part.of)})"
    column = part.of if part.source == MetricSource.SCORE else _COLUMNS[MetricSource(part.source)]
    return (
        column if part.at_least is None else f"if({column} IS NULL, NULL, toFloat64({column} >= {{at_least:Float64}}))"
    )


def _add_up(numbers: Iterable[UserNumber]) -> list[ValueSum]:
    sums: dict[tuple[int, str, str | None], list[float]] = defaultdict(lambda: [0, 0.0])
    for each in numbers:
        known = sums[each[:3]]
        known[0], known[1] = known[0] + 1, known[1] + each.number
    return [ValueSum(*key, int(n), total) for key, (n, total) in sums.items()]


def _check(dimension: str) -> str:
    if dimension not in DIMENSIONS:
        raise InvalidInput(
            "segment", f"of scores that came later to a log elsewhere must be one of {', '.join(DIMENSIONS)}, not "
            f"{dimension[:40]!r}"
        )  # fmt: skip
    return dimension

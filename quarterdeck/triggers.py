"""Creates the store's schema, with the triggers that keep it complete whoever writes to it.

One counts the rows of earlier clients and of other programs in the rollups; the others make the deck look a changed or
deleted row up in the log again, instead of in its search index.
"""

from sqlalchemy import Connection

from quarterdeck.clock import DAY_MS, HOUR_MS
from quarterdeck.schema import (
    COUNTED_BY_WRITER,
    DIMENSIONS,
    EMPTY_BIN,
    HISTOGRAM_BINS,
    LOW_SCORE_CEILING,
    METRICS,
    MOST_VALUES,
    OTHER,
    REVISION,
    ROLLUP_LOCK,
    SEARCH_SLICE,
    add_first_scope,
    alembic_version,
    metadata,
    metric_sums,
    rollups,
    upsert,
)

ROLL_UP = "retrievals_roll_up"  # counts rows in the rollups
_SEARCHED = (  # what changes the terms of a row
    "query", "scope_id", "session_id", "user_id", *DIMENSIONS, "state", "documents", "attributes",
)  # fmt: skip
_SEARCH_TRIGGERS = {"retrievals_deleted": "DELETE", "retrievals_changed": f"UPDATE OF {', '.join(_SEARCHED)}"}
TRIGGERS = frozenset({ROLL_UP, *_SEARCH_TRIGGERS})
_FORGET_SLICE = f"DELETE FROM search_slices WHERE slice = OLD.id / {SEARCH_SLICE}"


def create_schema(connection: Connection) -> None:
    """Create every table, index and trigger that is missing, and record the schema's revision."""
    metadata.create_all(connection)
    add_first_scope(connection)
    make_triggers(connection)
    connection.execute(alembic_version.insert().values(version_num=REVISION))


def make_triggers(connection: Connection) -> None:
    """Create this release's triggers, replacing older ones, and the index that SQLAlchemy's metadata cannot express."""
    _execute(connection, _indexes_and_triggers(connection.dialect.name))


def _execute(connection: Connection, statements: list[str]) -> None:
    for statement in statements:
        connection.exec_driver_sql(statement, execution_options={"no_parameters": True})  # a % is a % here


def _indexes_and_triggers(dialect: str) -> list[str]:
    if dialect == "sqlite":
        return [
            # A covering index: with the query in it, the coverage page never reads the rows. PostgreSQL's index entries
            # are too small for long queries; it reads the rows, which are stored in the order of time.
            "DROP INDEX IF EXISTS retrievals_low",
            "CREATE INDEX retrievals_low ON retrievals (scope_id, ts_ms, query, score) "
            f"WHERE score < {LOW_SCORE_CEILING}",
            f"DROP TRIGGER IF EXISTS {ROLL_UP}",
            f"CREATE TRIGGER {ROLL_UP} AFTER INSERT ON retrievals WHEN NEW.rolled_up < {COUNTED_BY_WRITER} "
            f"BEGIN {_add_new_row('CAST(NEW.score * {} AS INTEGER)', 'MIN')} END",
            *(
                statement
                for name, event in _SEARCH_TRIGGERS.items()
                for statement in (
                    f"DROP TRIGGER IF EXISTS {name}",
                    f"CREATE TRIGGER {name} AFTER {event} ON retrievals BEGIN {_FORGET_SLICE}; END",
                )
            ),
        ]
    return [
        f"CREATE OR REPLACE FUNCTION {ROLL_UP}() RETURNS trigger AS $$ BEGIN "
        f"PERFORM pg_advisory_xact_lock({ROLLUP_LOCK}); "
        f"{_add_new_row('FLOOR(NEW.score * {})::int', 'LEAST')} RETURN NULL; END $$ LANGUAGE plpgsql",
        f"CREATE OR REPLACE TRIGGER {ROLL_UP} AFTER INSERT ON retrievals FOR EACH ROW "
        f"WHEN (NEW.rolled_up < {COUNTED_BY_WRITER}) EXECUTE FUNCTION {ROLL_UP}()",
        "CREATE OR REPLACE FUNCTION retrievals_forget_slice() RETURNS trigger AS $$ BEGIN "
        f"{_FORGET_SLICE}; RETURN NULL; END $$ LANGUAGE plpgsql",
        *(
            f"CREATE OR REPLACE TRIGGER {name} AFTER {event} ON retrievals FOR EACH ROW "
            "EXECUTE FUNCTION retrievals_forget_slice()"
            for name, event in _SEARCH_TRIGGERS.items()
        ),
    ]


def _add_new_row(bin_sql: str, least: str) -> str:
    """Return the statements that add a row of an earlier client, or of another program, to the rollups."""
    hour, day = (f"NEW.ts_ms - NEW.ts_ms % {period_ms}" for period_ms in (HOUR_MS, DAY_MS))
    number = (
        f"CASE WHEN NEW.score IS NULL THEN {EMPTY_BIN} "
        f"ELSE {least}({HISTOGRAM_BINS - 1}, {bin_sql.format(HISTOGRAM_BINS)}) END"
    )
    state = "COALESCE(NEW.state, CASE WHEN NEW.score IS NULL THEN 2 ELSE 0 END)"
    states = [f"CASE WHEN NEW.score IS NULL AND {state} = {place} THEN 1 ELSE 0 END" for place in range(4)]
    scored = "CASE WHEN NEW.score IS NULL THEN 0 ELSE 1 END"
    bins = [f"CASE WHEN b = {place} THEN 1 ELSE 0 END" for place in range(HISTOGRAM_BINS)]
    sums = [scored, scored, "COALESCE(NEW.score, 0)", "COALESCE(NEW.score * NEW.score, 0)", *states, *bins]
    values = " UNION ALL ".join(
        f"SELECT '{name}' AS dimension, COALESCE(NEW.{name}, '') AS value" for name in DIMENSIONS
    )
    is_counted = "v.scope_id = NEW.scope_id AND v.dimension = s.dimension AND v.day_ms = "
    admit = (
        "INSERT INTO dimension_values (scope_id, dimension, day_ms, value) "
        f"SELECT NEW.scope_id, s.dimension, {day}, s.value FROM ({values}) AS s WHERE s.value <> '' AND "
        f"(SELECT COUNT(*) FROM dimension_values AS v WHERE {is_counted}{day}) < {MOST_VALUES} "
        "ON CONFLICT DO NOTHING"
    )
    series = (
        "(SELECT '' AS dimension, '' AS value UNION ALL SELECT s.dimension, "
        "CASE WHEN s.value = '' OR EXISTS (SELECT 1 FROM "
        f"dimension_values AS v WHERE {is_counted}{day} AND v.value = s.value) THEN s.value ELSE '{OTHER}' END "
        f"FROM ({values}) AS s) AS series"
    )
    numbers = " UNION ALL ".join(f"SELECT '{name}' AS metric, NEW.{name} AS number" for name in METRICS)
    added = [
        admit,
        upsert(
            rollups,
            f"SELECT NEW.scope_id, series.dimension, series.value, {hour}, {', '.join(sums)} "
            f"FROM {series}, (SELECT {number} AS b) AS bins WHERE true",
        ),
        upsert(
            metric_sums,
            f"SELECT NEW.scope_id, series.dimension, series.value, metric, {hour}, 1, number, number * number "
            f"FROM {series}, ({numbers}) AS numbers WHERE number IS NOT NULL",
        ),
    ]
    return " ".join(f"{statement};" for statement in added)

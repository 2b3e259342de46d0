"""The shared store's tables, and the triggers that keep the rollups complete whoever inserts a row.

Only the schema lives here; `store.py` and the deck's gateways read and write it.
Times are integer milliseconds since the epoch, UTC. Money is in USD. Scores and shares are 0 to 1.
"""

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Double,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    text,
)

from quarterdeck.clock import DAY_MS, HOUR_MS

REVISION = "0003"  # a later one that still serves clients of this one is named 0004_serves_0003
HISTOGRAM_BINS = 50
EMPTY_BIN = -1
ROLLUP_LOCK = 0x726F6C6C  # "roll": PostgreSQL's advisory lock while a writer updates the rollups
DIMENSIONS = ("arm", "prompt_version", "index_version")
LOW_SCORE_CEILING = 0.6  # scores below it are indexed with their query, for the coverage page

metadata = MetaData()
_ROW_ID = BigInteger().with_variant(Integer, "sqlite")

alembic_version = Table("alembic_version", metadata, Column("version_num", String(32), primary_key=True))

# One user query and the similarity of its best hit. `score` is null if the search found nothing or failed.
# `rolled_up` is 1 on rows whose writer updated the rollups itself; triggers do it for all others.
retrievals = Table(
    "retrievals",
    metadata,
    Column("id", _ROW_ID, primary_key=True, autoincrement=True),
    Column("ts_ms", BigInteger, nullable=False),
    Column("query", Text, nullable=False),
    Column("score", Double),
    Column("session_id", Text),
    Column("arm", Text),
    Column("prompt_version", Text),
    Column("index_version", Text),
    Column("latency_ms", Double),
    Column("cost_usd", Double),
    Column("faithfulness", Double),
    Column("feedback", Double),
    Column("rolled_up", Integer, nullable=False, server_default="0"),
    Index("retrievals_by_time", "ts_ms", "score"),
)


# Each batch updates the same few rows: free space on their page lets PostgreSQL update in place (HOT).
_OFTEN_UPDATED = {"fillfactor": 40}


def _rollup(name: str) -> Table:
    return Table(
        name,
        metadata,
        Column("start_ms", BigInteger, primary_key=True),
        Column("arm", Text, primary_key=True),
        Column("prompt_version", Text, primary_key=True),
        Column("index_version", Text, primary_key=True),
        Column("bin", Integer, primary_key=True),
        Column("n", BigInteger, nullable=False),
        Column("total", Double, nullable=False),
        Column("total_squares", Double, nullable=False),
        sqlite_with_rowid=False,
        postgresql_with=_OFTEN_UPDATED,
    )


# Counts, sums and sums of squares by period, segment ("" if none was given) and score bin (-1: no hits).
ROLLUPS = {HOUR_MS: _rollup("rollups_hour"), DAY_MS: _rollup("rollups_day")}

BINS = tuple(f"b{number:02}" for number in range(HISTOGRAM_BINS))

# What the drift page reads: one row per day for all traffic (dimension and value "") and for each value of a dimension,
# with the histogram in columns. A year is then a few thousand rows instead of hundreds of thousands.
daily = Table(
    "rollups_daily",
    metadata,
    Column("dimension", String(32), primary_key=True),
    Column("value", Text, primary_key=True),
    Column("start_ms", BigInteger, primary_key=True),
    Column("n", BigInteger, nullable=False),
    Column("total", Double, nullable=False),
    Column("total_squares", Double, nullable=False),
    Column("empty", BigInteger, nullable=False),
    *(Column(name, BigInteger, nullable=False) for name in BINS),
    sqlite_with_rowid=False,
    postgresql_with=_OFTEN_UPDATED,
)

flags = Table(
    "flags",
    metadata,
    Column("environment", String(64), primary_key=True),
    Column("key", String(256), primary_key=True),
    Column("definition", Text, nullable=False),
    Column("version", Integer, nullable=False),
    Column("updated_ms", BigInteger, nullable=False),
    Column("updated_by", Text, nullable=False),
)

# Small named values as JSON, each with a version for optimistic locking.
settings = Table(
    "settings",
    metadata,
    Column("name", String(256), primary_key=True),
    Column("value", Text, nullable=False),
    Column("version", Integer, nullable=False),
)

audit = Table(
    "audit",
    metadata,
    Column("id", _ROW_ID, primary_key=True, autoincrement=True),
    Column("ts_ms", BigInteger, nullable=False),
    Column("environment", String(64), nullable=False),
    Column("actor", Text, nullable=False),
    Column("action", String(64), nullable=False),
    Column("target", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("before", Text),
    Column("after", Text),
    Column("previous_hash", String(64), nullable=False),
    Column("hash", String(64), nullable=False),
    UniqueConstraint("previous_hash", name="audit_chain_is_a_line"),
)

indexes = Table(
    "indexes",
    metadata,
    Column("name", String(256), primary_key=True),
    Column("location", Text, nullable=False),
    Column("corpus_version", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("chunks", Integer, nullable=False),
    Column("built_ms", BigInteger, nullable=False),
    Column("built_by", Text, nullable=False),
    Column("chunking", Text, nullable=False, server_default=""),
    Column("state", String(16), nullable=False, server_default="ready"),
)

aliases = Table(
    "aliases",
    metadata,
    Column("alias", String(256), primary_key=True),
    Column("index_name", String(256), nullable=False),
    Column("version", Integer, nullable=False),
    Column("updated_ms", BigInteger, nullable=False),
    Column("updated_by", Text, nullable=False),
)

vectors = Table(
    "vectors",
    metadata,
    Column("model", String(256), primary_key=True),
    Column("query_hash", LargeBinary(16), primary_key=True),
    Column("vector", LargeBinary, nullable=False),
    sqlite_with_rowid=False,
)


# Coverage gaps seen so far, so that a gap keeps its id, and what was decided about each.
topics = Table(
    "topics",
    metadata,
    Column("topic_id", String(64), primary_key=True),
    Column("label", Text, nullable=False),
    Column("model", String(256), nullable=False),
    Column("centroid", LargeBinary, nullable=False),
    Column("first_seen_ms", BigInteger, nullable=False),
    Column("last_seen_ms", BigInteger, nullable=False),
    Column("state", String(16), nullable=False),
    Column("owner", Text, nullable=False),
    Column("note", Text, nullable=False),
    Column("version", Integer, nullable=False),
)

# What was taken in and must not be taken in twice: a request's idempotency key or a trace's id, by its source.
# `digest` is of the request's body, `answer` the response. Whoever adds keys removes old ones.
ingest_keys = Table(
    "ingest_keys",
    metadata,
    Column("source", String(64), primary_key=True),
    Column("key", String(256), primary_key=True),
    Column("digest", String(64), nullable=False),
    Column("answer", Text, nullable=False),
    Column("created_ms", BigInteger, nullable=False),
    Index("ingest_keys_by_age", "source", "created_ms"),
    sqlite_with_rowid=False,
)

# Leases: who runs what only one of several servers may run. `beat` moves at each renewal; `renewed_ms` is for people.
leases = Table(
    "leases",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("holder", Text, nullable=False),
    Column("beat", BigInteger, nullable=False),
    Column("renewed_ms", BigInteger, nullable=False),
)

# How often flags were evaluated, counted by the clients. `variant` is "" if callers got the default in their code.
flag_evaluations = Table(
    "flag_evaluations",
    metadata,
    Column("environment", String(64), primary_key=True),
    Column("flag", String(256), primary_key=True),
    Column("hour_ms", BigInteger, primary_key=True),
    Column("variant", String(256), primary_key=True),
    Column("n", BigInteger, nullable=False),
    sqlite_with_rowid=False,
    postgresql_with=_OFTEN_UPDATED,
)

# Exposures: who got which variant of an A/B test, and when first. A user with two variants has two rows.
flag_exposures = Table(
    "flag_exposures",
    metadata,
    Column("environment", String(64), primary_key=True),
    Column("flag", String(256), primary_key=True),
    Column("targeting_key", String(256), primary_key=True),
    Column("variant", String(256), primary_key=True),
    Column("first_seen_ms", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)

# Events that services reported by tracking. `attributes` is a JSON object.
tracked_events = Table(
    "tracked_events",
    metadata,
    Column("id", _ROW_ID, primary_key=True, autoincrement=True),
    Column("environment", String(64), nullable=False),
    Column("event", String(256), nullable=False),
    Column("ts_ms", BigInteger, nullable=False),
    Column("targeting_key", String(256), nullable=False),
    Column("value", Double),
    Column("attributes", Text, nullable=False),
    Index("tracked_events_by_time", "environment", "event", "ts_ms"),
)

# Bearer tokens of the HTTP API. Only the SHA-256 of the secret is stored. `scopes` are words separated by spaces.
tokens = Table(
    "tokens",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("digest", String(64), nullable=False, unique=True),
    Column("hint", String(16), nullable=False),
    Column("scopes", Text, nullable=False),
    Column("environment", String(64), nullable=False),
    Column("created_ms", BigInteger, nullable=False),
    Column("created_by", Text, nullable=False),
    Column("expires_ms", BigInteger),
    Column("revoked_ms", BigInteger),
)

# Planned changes of flags; `body` holds the steps as JSON. At most one open schedule per flag.
schedules = Table(
    "schedules",
    metadata,
    Column("id", _ROW_ID, primary_key=True, autoincrement=True),
    Column("environment", String(64), nullable=False),
    Column("flag", String(256), nullable=False),
    Column("state", String(16), nullable=False),
    Column("body", Text, nullable=False),
    Column("version", Integer, nullable=False),
    Index("schedules_by_flag", "environment", "flag"),
    Index(
        "one_open_schedule_a_flag",
        "environment",
        "flag",
        unique=True,
        sqlite_where=text("state IN ('waiting', 'paused')"),
        postgresql_where=text("state IN ('waiting', 'paused')"),
    ),
)

# Sessions that were ended before they expired, each by a hash of its token.
ended_sessions = Table(
    "ended_sessions",
    metadata,
    Column("session", String(64), primary_key=True),
    Column("ended_ms", BigInteger, nullable=False),
)


def create_schema(connection: Connection) -> None:
    """Create every table, index and trigger that is missing, and record the schema's revision."""
    metadata.create_all(connection)
    make_triggers(connection)
    connection.execute(alembic_version.insert().values(version_num=REVISION))


def make_triggers(connection: Connection) -> None:
    """Create this release's triggers, replacing older ones, and the index that SQLAlchemy's metadata cannot express."""
    _execute(connection, _indexes_and_triggers(connection.dialect.name))


def _execute(connection: Connection, statements: list[str]) -> None:
    for statement in statements:
        connection.exec_driver_sql(statement, execution_options={"no_parameters": True})  # a % is a % here


def upsert_rollup(table: str, values: str) -> str:
    """Return the SQL that adds `values` (a VALUES list or a SELECT, in column order) to the rollup `table`."""
    return _upsert(metadata.tables[table], values)


def upsert_daily(values: str) -> str:
    """Return the SQL that adds `values` (a VALUES list or a SELECT, in column order) to the daily rollup."""
    return _upsert(daily, values)


def upsert_evaluations(values: str) -> str:
    """Return the SQL that adds `values` (a VALUES list, in column order) to the counts of flag evaluations."""
    return _upsert(flag_evaluations, values)


def _upsert(table: Table, values: str) -> str:
    keys = [column.name for column in table.primary_key]
    sums = [column.name for column in table.columns if not column.primary_key]
    return (
        f"INSERT INTO {table.name} ({', '.join([*keys, *sums])}) {values} ON CONFLICT ({', '.join(keys)}) DO UPDATE "
        f"SET {', '.join(f'{name} = {table.name}.{name} + excluded.{name}' for name in sums)}"
    )


def _indexes_and_triggers(dialect: str) -> list[str]:
    if dialect == "sqlite":
        return [
            # A covering index: with the query in it, the coverage page never reads the rows. PostgreSQL's index entries
            # are too small for long queries; it reads the rows, which are stored in the order of time.
            "CREATE INDEX IF NOT EXISTS retrievals_low ON retrievals (ts_ms, query, score) "
            f"WHERE score < {LOW_SCORE_CEILING}",
            "DROP TRIGGER IF EXISTS retrievals_roll_up",
            "CREATE TRIGGER retrievals_roll_up AFTER INSERT ON retrievals WHEN NEW.rolled_up = 0 BEGIN "
            f"{_add_new_row('CAST(NEW.score * {} AS INTEGER)', 'MIN')} END",
        ]
    return [
        "CREATE OR REPLACE FUNCTION retrievals_roll_up() RETURNS trigger AS $$ BEGIN "
        f"PERFORM pg_advisory_xact_lock({ROLLUP_LOCK}); "
        f"{_add_new_row('FLOOR(NEW.score * {})::int', 'LEAST')} RETURN NULL; END $$ LANGUAGE plpgsql",
        "CREATE OR REPLACE TRIGGER retrievals_roll_up AFTER INSERT ON retrievals FOR EACH ROW "
        "WHEN (NEW.rolled_up = 0) EXECUTE FUNCTION retrievals_roll_up()",
    ]


def _add_new_row(bin_sql: str, least: str) -> str:
    bin_number = (
        f"CASE WHEN NEW.score IS NULL THEN {EMPTY_BIN} "
        f"ELSE {least}({HISTOGRAM_BINS - 1}, {bin_sql.format(HISTOGRAM_BINS)}) END"
    )
    sums = "COALESCE(NEW.score, 0), COALESCE(NEW.score * NEW.score, 0)"
    segment = ", ".join(f"COALESCE(NEW.{dimension}, '')" for dimension in DIMENSIONS)
    added = [
        upsert_rollup(table.name, f"VALUES (NEW.ts_ms - NEW.ts_ms % {period_ms}, {segment}, {bin_number}, 1, {sums})")
        for period_ms, table in ROLLUPS.items()
    ]
    series = " UNION ALL ".join(f"SELECT '{name}', COALESCE(NEW.{name}, '')" for name in DIMENSIONS)
    day = f"NEW.ts_ms - NEW.ts_ms % {DAY_MS}"
    counts = ", ".join(f"CASE WHEN b = {number} THEN 1 ELSE 0 END" for number in range(HISTOGRAM_BINS))
    added.append(
        upsert_daily(
            f"SELECT s.dimension, s.value, {day}, CASE WHEN b = {EMPTY_BIN} THEN 0 ELSE 1 END, {sums}, "
            f"CASE WHEN b = {EMPTY_BIN} THEN 1 ELSE 0 END, {counts} "
            f"FROM (SELECT '' AS dimension, '' AS value UNION ALL {series}) AS s, (SELECT {bin_number} AS b) AS bins "
            "WHERE true"
        )
    )
    return " ".join(f"{statement};" for statement in added)

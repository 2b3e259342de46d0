"""The record: scopes, documents, attributes, states and later scores; rollups by scope and by one dimension at a time.

The new rollups are filled from the former ones, whose tables stay for clients of 0003 to write to. Sums of latency and
the other numbers of old rows are filled by `core.store.backfill`, which can be interrupted.
"""

import sqlalchemy as sa
from alembic import op

from core.store.backfill import begin_backfill
from quarterdeck import schema
from quarterdeck.clock import DAY_MS

revision = "0004_serves_0003"
down_revision = "0003"

_BINS = 50
_DIMENSIONS = ("arm", "prompt_version", "index_version")
_NEW_TABLES = (
    "scopes", "rollups", "days", "metric_sums", "metric_bins", "dimension_values", "document_days",
    "document_packs", "scores", "score_maps", "intake", "trace_spans", "search_slices", "search_packs",
)  # fmt: skip


def upgrade() -> None:
    """Add tables and columns, and fill the new rollups."""
    connection = op.get_bind()
    schema.metadata.create_all(connection, [schema.metadata.tables[name] for name in _NEW_TABLES])
    schema.add_first_scope(connection)
    _add_columns()
    op.drop_index("retrievals_by_time", "retrievals")
    op.create_index("retrievals_by_scope", "retrievals", ["scope_id", "ts_ms", "score"])
    named = sa.text("retrieval_id IS NOT NULL")
    op.create_index(
        "retrievals_by_name", "retrievals", ["retrieval_id", "scope_id"],
        unique=True, sqlite_where=named, postgresql_where=named,
    )  # fmt: skip
    for statement in (*_name_values(), *_fill_rollups()):
        connection.exec_driver_sql(statement, execution_options={"no_parameters": True})
    for table in ("rollups_hour", "rollups_day", "rollups_daily"):
        op.execute(f"DELETE FROM {table}")
    begin_backfill(connection)


def _add_columns() -> None:
    first = sa.text(str(schema.FIRST_SCOPE))
    op.add_column("retrievals", sa.Column("scope_id", sa.Integer, nullable=False, server_default=first))
    texts = (
        "retrieval_id",
        "user_id",
        "model",
        "score_kind",
        "documents",
        "attributes",
        "trace_id",
        "span_id",
        "answer",
    )
    for name in texts:
        op.add_column("retrievals", sa.Column(name, sa.Text))
    for name in ("raw_score", "tokens", "answerability"):
        op.add_column("retrievals", sa.Column(name, sa.Double))
    for name in ("state", "weight"):
        op.add_column("retrievals", sa.Column(name, sa.Integer))
    for table in ("flag_exposures", "tracked_events"):
        op.add_column(table, sa.Column("service", sa.String(128), nullable=False, server_default="default"))
    op.add_column("tokens", sa.Column("services", sa.Text, nullable=False, server_default=""))
    op.add_column("topics", sa.Column("scope_id", sa.Integer, nullable=False, server_default=first))


def _name_values() -> list[str]:
    """Name the values that are counted by name on each day: the most frequent ones."""
    day = f"start_ms - start_ms % {DAY_MS}"
    return [
        "INSERT INTO dimension_values (scope_id, dimension, day_ms, value) "
        f"SELECT {schema.FIRST_SCOPE}, '{name}', day_ms, value FROM (SELECT {day} AS day_ms, {name} AS value, "
        f"ROW_NUMBER() OVER (PARTITION BY {day} ORDER BY SUM(n) DESC, {name}) AS place "
        f"FROM rollups_hour WHERE {name} <> '' GROUP BY {day}, {name}) AS ranked WHERE place <= {schema.MOST_VALUES}"
        for name in _DIMENSIONS
    ]


def _fill_rollups() -> list[str]:
    scored, empty = (f"SUM(CASE WHEN bin {sign} 0 THEN n ELSE 0 END)" for sign in (">=", "<"))
    bins = (f"SUM(CASE WHEN bin = {number} THEN n ELSE 0 END)" for number in range(_BINS))
    sums = ", ".join([scored, scored, "SUM(total)", "SUM(total_squares)", "0", "0", empty, "0", *bins])
    series = [("''", "''"), ("'model'", "''"), *((f"'{name}'", _bounded(name)) for name in _DIMENSIONS)]
    columns = ", ".join(("scope_id", "dimension", "value", "start_ms", *schema.SUMS))
    return [
        f"INSERT INTO rollups ({columns}) SELECT {schema.FIRST_SCOPE}, {dimension}, {value}, h.start_ms, {sums} "
        "FROM rollups_hour AS h GROUP BY 1, 2, 3, 4"
        for dimension, value in series
    ]


def _bounded(name: str) -> str:
    is_named = (
        f"SELECT 1 FROM dimension_values AS v WHERE v.scope_id = {schema.FIRST_SCOPE} AND v.dimension = '{name}' "
        f"AND v.day_ms = h.start_ms - h.start_ms % {DAY_MS} AND v.value = h.{name}"
    )
    return f"CASE WHEN h.{name} = '' OR EXISTS ({is_named}) THEN h.{name} ELSE '{schema.OTHER}' END"

"""Daily rollups for the pages, and by which rule an index was cut into chunks."""

import sqlalchemy as sa
from alembic import op

from quarterdeck.clock import DAY_MS
from quarterdeck.schema import DIMENSIONS, EMPTY_BIN, HISTOGRAM_BINS, ROLLUPS, upsert_daily

revision = "0002"
down_revision = "0001"

_BINS = [f"b{number:02}" for number in range(50)]


def upgrade() -> None:
    """Fill the daily rollup from the rollup by day, and add the column."""
    op.create_table(
        "rollups_daily",
        sa.Column("dimension", sa.String(32), primary_key=True),
        sa.Column("value", sa.Text, primary_key=True),
        sa.Column("start_ms", sa.BigInteger, primary_key=True),
        sa.Column("n", sa.BigInteger, nullable=False),
        *(sa.Column(name, sa.Double, nullable=False) for name in ("total", "total_squares")),
        *(sa.Column(name, sa.BigInteger, nullable=False) for name in ("empty", *_BINS)),
        sqlite_with_rowid=False,
        postgresql_with={"fillfactor": 40},
    )
    op.add_column("indexes", sa.Column("chunking", sa.Text, nullable=False, server_default=""))
    for statement in _fill_daily():
        op.get_bind().exec_driver_sql(statement, execution_options={"no_parameters": True})


def _fill_daily() -> list[str]:
    counts = ", ".join(f"SUM(CASE WHEN bin = {number} THEN n ELSE 0 END)" for number in range(HISTOGRAM_BINS))
    scored = f"SUM(CASE WHEN bin = {EMPTY_BIN} THEN 0 ELSE n END)"
    empty = f"SUM(CASE WHEN bin = {EMPTY_BIN} THEN n ELSE 0 END)"
    series = [("''", "''"), *((f"'{name}'", name) for name in DIMENSIONS)]
    return [
        upsert_daily(
            f"SELECT {dimension}, {value}, start_ms, {scored}, SUM(total), SUM(total_squares), {empty}, {counts} "
            f"FROM {ROLLUPS[DAY_MS].name} WHERE true GROUP BY 1, 2, 3"
        )
        for dimension, value in series
    ]

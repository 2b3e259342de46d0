"""Daily rollups for the pages, and by which rule an index was cut into chunks."""

import sqlalchemy as sa
from alembic import op

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
    counts = ", ".join(f"SUM(CASE WHEN bin = {number} THEN n ELSE 0 END)" for number in range(len(_BINS)))
    scored, empty = (f"SUM(CASE WHEN bin {sign} 0 THEN n ELSE 0 END)" for sign in (">=", "<"))
    series = [("''", "''"), *((f"'{name}'", name) for name in ("arm", "prompt_version", "index_version"))]
    columns = ", ".join(("dimension", "value", "start_ms", "n", "total", "total_squares", "empty", *_BINS))
    return [
        f"INSERT INTO rollups_daily ({columns}) SELECT {dimension}, {value}, start_ms, {scored}, SUM(total), "
        f"SUM(total_squares), {empty}, {counts} FROM rollups_day GROUP BY 1, 2, 3"
        for dimension, value in series
    ]

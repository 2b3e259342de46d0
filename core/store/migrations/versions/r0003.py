"""Tables of flags in use, schedules, tokens, sessions and leases."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

_OFTEN_UPDATED = {"fillfactor": 40}


def upgrade() -> None:
    """Create the tables."""
    row_id = sa.BigInteger().with_variant(sa.Integer, "sqlite")
    op.create_table(
        "leases",
        sa.Column("name", sa.String(64), primary_key=True),
        sa.Column("holder", sa.Text, nullable=False),
        sa.Column("beat", sa.BigInteger, nullable=False),
        sa.Column("renewed_ms", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "flag_evaluations",
        sa.Column("environment", sa.String(64), primary_key=True),
        sa.Column("flag", sa.String(256), primary_key=True),
        sa.Column("hour_ms", sa.BigInteger, primary_key=True),
        sa.Column("variant", sa.String(256), primary_key=True),
        sa.Column("n", sa.BigInteger, nullable=False),
        sqlite_with_rowid=False,
        postgresql_with=_OFTEN_UPDATED,
    )
    op.create_table(
        "flag_exposures",
        sa.Column("environment", sa.String(64), primary_key=True),
        sa.Column("flag", sa.String(256), primary_key=True),
        sa.Column("targeting_key", sa.String(256), primary_key=True),
        sa.Column("variant", sa.String(256), primary_key=True),
        sa.Column("first_seen_ms", sa.BigInteger, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "tracked_events",
        sa.Column("id", row_id, primary_key=True, autoincrement=True),
        sa.Column("environment", sa.String(64), nullable=False),
        sa.Column("event", sa.String(256), nullable=False),
        sa.Column("ts_ms", sa.BigInteger, nullable=False),
        sa.Column("targeting_key", sa.String(256), nullable=False),
        sa.Column("value", sa.Double),
        sa.Column("attributes", sa.Text, nullable=False),
    )
    op.create_index("tracked_events_by_time", "tracked_events", ["environment", "event", "ts_ms"])
    op.create_table(
        "tokens",
        sa.Column("name", sa.String(64), primary_key=True),
        sa.Column("digest", sa.String(64), nullable=False, unique=True),
        sa.Column("hint", sa.String(16), nullable=False),
        sa.Column("scopes", sa.Text, nullable=False),
        sa.Column("environment", sa.String(64), nullable=False),
        sa.Column("created_ms", sa.BigInteger, nullable=False),
        sa.Column("created_by", sa.Text, nullable=False),
        sa.Column("expires_ms", sa.BigInteger),
        sa.Column("revoked_ms", sa.BigInteger),
    )
    op.create_table(
        "schedules",
        sa.Column("id", row_id, primary_key=True, autoincrement=True),
        sa.Column("environment", sa.String(64), nullable=False),
        sa.Column("flag", sa.String(256), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("body", sa.Text, nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
    )
    op.create_index("schedules_by_flag", "schedules", ["environment", "flag"])
    is_open = sa.text("state IN ('waiting', 'paused')")
    op.create_index(
        "one_open_schedule_a_flag", "schedules", ["environment", "flag"],
        unique=True, sqlite_where=is_open, postgresql_where=is_open,
    )  # fmt: skip
    op.create_table(
        "ended_sessions",
        sa.Column("session", sa.String(64), primary_key=True),
        sa.Column("ended_ms", sa.BigInteger, nullable=False),
    )

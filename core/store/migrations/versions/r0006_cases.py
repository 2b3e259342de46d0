"""Sets of evaluation cases, with their history."""

from alembic import op

from quarterdeck import schema

revision = "0006cases_serves_0003"
down_revision = "0005_serves_0003"


def upgrade() -> None:
    """Add the tables."""
    schema.metadata.create_all(op.get_bind(), [schema.case_sets, schema.cases, schema.case_history])

"""Changes that other systems report get a table of their own."""

from alembic import op

from quarterdeck import schema

revision = "0005_serves_0003"
down_revision = "0004_serves_0003"


def upgrade() -> None:
    """Add the table."""
    schema.metadata.create_all(op.get_bind(), [schema.outside_changes])

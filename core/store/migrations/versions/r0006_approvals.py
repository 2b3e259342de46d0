"""Change requests, and the people for whom tokens act."""

from alembic import op

from quarterdeck import schema

revision = "0006approvals_serves_0003"
down_revision = "0005_serves_0003"


def upgrade() -> None:
    """Add the tables."""
    schema.metadata.create_all(op.get_bind(), [schema.change_requests, schema.token_owners])

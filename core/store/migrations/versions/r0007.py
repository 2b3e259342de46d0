"""Change requests say whether an assistant proposed them, and whether a verified person asked."""

import sqlalchemy as sa
from alembic import op

revision = "0007_serves_0003"
down_revision = "0006_serves_0003"


def upgrade() -> None:
    """Add the columns, unless the revision before made the table just now."""
    known = {column["name"] for column in sa.inspect(op.get_bind()).get_columns("change_requests")}
    if "assistant" not in known:
        op.add_column("change_requests", sa.Column("assistant", sa.Text, nullable=False, server_default=""))
        op.add_column("change_requests", sa.Column("origin", sa.String(16), nullable=False, server_default="person"))

"""Change requests say whether an assistant proposed them, and whether a verified person asked."""

from alembic import op
from sqlalchemy import inspect

from quarterdeck import schema

revision = "0007_serves_0003"
down_revision = "0006_serves_0003"


def upgrade() -> None:
    """Add the columns, unless the table was made just now by the revision before."""
    known = {column["name"] for column in inspect(op.get_bind()).get_columns(schema.change_requests.name)}
    for name in ("assistant", "origin"):
        if name not in known:
            op.add_column(schema.change_requests.name, schema.change_requests.c[name].copy())

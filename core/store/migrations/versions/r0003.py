"""What 0.1.0 is released with. Until then a new table needs no revision: every one that is missing is made here.

With the release this becomes a list of `op.create_table`, so that it makes for ever what 0.1.0 had.
"""

from alembic import op

from quarterdeck.schema import metadata

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Create the missing tables."""
    metadata.create_all(op.get_bind())

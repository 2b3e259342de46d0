"""The first schema. Stores were made by `create_schema` then as now, so there is nothing to do."""

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Do nothing; the chain begins at this revision."""

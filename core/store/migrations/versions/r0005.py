"""Changes that other systems report, and the search index of questions; packed documents also hold their last day."""

from alembic import op

from quarterdeck import schema

revision = "0005_serves_0003"
down_revision = "0004_serves_0003"


def upgrade() -> None:
    """Add the tables, and forget the packs without a last day: the deck packs them again."""
    new = [schema.outside_changes, schema.search_slices, schema.search_packs]
    schema.metadata.create_all(op.get_bind(), new)
    op.execute("DELETE FROM document_packs")

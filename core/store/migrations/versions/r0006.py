"""Evaluation cases with their history; review queues, judged answers, and questions that are out of a topic."""

from alembic import op

from quarterdeck import schema

revision = "0006_serves_0003"
down_revision = "0005_serves_0003"


def upgrade() -> None:
    """Add the tables."""
    new = [
        schema.case_sets,
        schema.cases,
        schema.case_history,
        schema.review_queues,
        schema.review_items,
        schema.review_labels,
        schema.judged_answers,
        schema.topic_exclusions,
    ]
    schema.metadata.create_all(op.get_bind(), new)

"""Cases and their history, reviews, judged answers, questions out of a topic, change requests, whose tokens are."""

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
        schema.change_requests,
        schema.token_owners,
    ]
    schema.metadata.create_all(op.get_bind(), new)

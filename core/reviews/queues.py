"""Gateway to review queues: their questions, who is to label them, and the labels."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Connection, and_, delete, func, insert, select, update

from core.audit.permissions import fold_name
from core.reviews.tasks import ReviewRule, ReviewTask
from quarterdeck.clock import from_ms
from quarterdeck.schema import review_items, review_labels, review_queues
from quarterdeck.scope import Scope
from quarterdeck.store import Store


class ReviewItem(NamedTuple):
    """A question of a queue; `asked_ms` is when it was asked."""

    retrieval_id: str
    asked_ms: int


class ReviewLabel(NamedTuple):
    """What a reviewer said about a question; the value is None for one that was skipped."""

    retrieval_id: str
    reviewer: str
    value: float | None
    note: str


class TaskLabel(NamedTuple):
    """A label of a question, whichever queue it is in."""

    retrieval_id: str
    reviewer: str
    value: float


@dataclass(frozen=True, slots=True)
class ReviewQueue:
    """Questions that reviewers are asked about; `closed` is None while it is open."""

    queue_id: int
    scope: Scope
    name: str
    task: ReviewTask
    rule: ReviewRule
    reviewers: tuple[str, ...]
    created: datetime
    created_by: str
    closed: datetime | None

    def has_reviewer(self, name: str) -> bool:
        """Whether somebody is one of its reviewers; names are compared as those of roles."""
        return fold_name(name) in {fold_name(each) for each in self.reviewers}


def list_queues(store: Store, scope: Scope) -> tuple[ReviewQueue, ...]:
    """Return the queues of a scope, open ones first, the newest first. Raises SourceUnavailable."""
    c = review_queues.c
    query = select(review_queues).where(c.environment == scope.environment, c.service == scope.service)
    with store.read() as connection:
        found = [_read_queue(row) for row in connection.execute(query.order_by(c.id.desc())).mappings()]
    return tuple(sorted(found, key=lambda queue: queue.closed is not None))


def list_items(store: Store, queue_id: int) -> tuple[ReviewItem, ...]:
    """Return the questions of a queue in their order."""
    c = review_items.c
    query = select(c.retrieval_id, c.asked_ms).where(c.queue_id == queue_id).order_by(c.place)
    with store.read() as connection:
        return tuple(ReviewItem(*row) for row in connection.execute(query))


def list_labels(store: Store, queue_id: int) -> tuple[ReviewLabel, ...]:
    """Return the labels of a queue, the oldest first."""
    c = review_labels.c
    query = select(c.retrieval_id, c.reviewer, c.value, c.note).where(c.queue_id == queue_id).order_by(c.labeled_ms)
    with store.read() as connection:
        return tuple(ReviewLabel(*row) for row in connection.execute(query))


def list_task_labels(
    store: Store, scope: Scope, task: ReviewTask, *, start_ms: int, end_ms: int, rule: ReviewRule | None = None
) -> tuple[TaskLabel, ...]:
    """Return the labels of all queues of a task (and a rule) for questions that were asked in a time."""
    q, i, k = review_queues.c, review_items.c, review_labels.c
    joined = review_labels.join(review_queues, q.id == k.queue_id).join(
        review_items, and_(i.queue_id == k.queue_id, i.retrieval_id == k.retrieval_id)
    )
    where: list[ColumnElement[bool]] = [
        q.environment == scope.environment, q.service == scope.service, q.task == str(task), k.value.is_not(None),
        i.asked_ms >= start_ms, i.asked_ms < end_ms,
    ]  # fmt: skip
    if rule is not None:
        where.append(q.rule == str(rule))
    with store.read() as connection:
        found = connection.execute(select(k.retrieval_id, k.reviewer, k.value).select_from(joined).where(*where))
        return tuple(TaskLabel(*row) for row in found)


def list_waiting(store: Store, scope: Scope, tasks: Iterable[ReviewTask]) -> tuple[ReviewItem, ...]:
    """Return the questions in the open queues of these tasks."""
    q, i = review_queues.c, review_items.c
    query = (
        select(i.retrieval_id, i.asked_ms)
        .join(review_queues, q.id == i.queue_id)
        .where(q.environment == scope.environment, q.service == scope.service, q.closed_ms.is_(None))
        .where(q.task.in_([str(task) for task in tasks]))
    )
    with store.read() as connection:
        return tuple(ReviewItem(*row) for row in connection.execute(query))


def add_queue(connection: Connection, values: dict[str, Any], items: Sequence[ReviewItem]) -> int:
    """Add a queue with its questions; return its number. `values` are the columns of the queue."""
    listed = {**values, "reviewers": json.dumps(list(values["reviewers"]), ensure_ascii=False)}
    queue_id = int(connection.execute(insert(review_queues).values(listed).returning(review_queues.c.id)).scalar_one())
    rows = [
        {"queue_id": queue_id, "place": place, "environment": values["environment"], **item._asdict()}
        for place, item in enumerate(items)
    ]
    connection.execute(insert(review_items), rows)
    return queue_id


def is_name_taken(connection: Connection, scope: Scope, name: str) -> bool:
    """Whether a queue of a scope has this name."""
    c = review_queues.c
    same = (c.environment == scope.environment, c.service == scope.service, c.name == name)
    return bool(connection.scalar(select(func.count()).where(*same)))


def save_label(connection: Connection, queue: ReviewQueue, label: ReviewLabel, *, at_ms: int) -> float | None:
    """Save a label in place of the reviewer's former one; return that one's value."""
    c = review_labels.c
    same = (c.queue_id == queue.queue_id, c.retrieval_id == label.retrieval_id, c.reviewer == label.reviewer)
    former = connection.scalar(select(c.value).where(*same))
    connection.execute(delete(review_labels).where(*same))
    row = {**label._asdict(), "queue_id": queue.queue_id, "environment": queue.scope.environment, "labeled_ms": at_ms}
    connection.execute(insert(review_labels).values(row))
    return None if former is None else float(former)


def list_values(connection: Connection, queue: ReviewQueue, retrieval_id: str) -> tuple[float, ...]:
    """Return every label of a question under the task of a queue, in all queues of the environment."""
    q, k = review_queues.c, review_labels.c
    query = (
        select(k.value)
        .join(review_queues, q.id == k.queue_id)
        .where(k.environment == queue.scope.environment, k.retrieval_id == retrieval_id, k.value.is_not(None))
        .where(q.task == str(queue.task))
    )
    return tuple(float(value) for value in connection.scalars(query))


def has_item(connection: Connection, queue_id: int, retrieval_id: str) -> bool:
    """Whether a question is in a queue."""
    c = review_items.c
    return bool(connection.scalar(select(func.count()).where(c.queue_id == queue_id, c.retrieval_id == retrieval_id)))


def is_open(connection: Connection, queue_id: int) -> bool:
    """Whether a queue is open; on PostgreSQL nobody closes it before the transaction ends."""
    c = review_queues.c
    row = select(c.id).where(c.id == queue_id, c.closed_ms.is_(None)).with_for_update()
    return connection.scalar(row) is not None


def close(connection: Connection, queue_id: int, *, at_ms: int) -> bool:
    """Close a queue; False where it is not open."""
    c = review_queues.c
    closing = update(review_queues).where(c.id == queue_id, c.closed_ms.is_(None)).values(closed_ms=at_ms)
    return connection.execute(closing).rowcount == 1


def _read_queue(row: Any) -> ReviewQueue:
    return ReviewQueue(
        row["id"], Scope(row["environment"], row["service"]), row["name"], ReviewTask(row["task"]),
        ReviewRule(row["rule"]), tuple(json.loads(row["reviewers"])), from_ms(row["created_ms"]), row["created_by"],
        None if row["closed_ms"] is None else from_ms(row["closed_ms"]),
    )  # fmt: skip

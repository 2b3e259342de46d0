"""Shell: what people do with review queues, each with its audit entry: begin one, label a question, close a queue."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from core.audit.actions import Action
from core.audit.acts import MAX_TEXT, Act, changing, require
from core.audit.permissions import is_name, may_read_questions
from core.errors import Conflict, Forbidden, InvalidInput, NotFound
from core.questions.operations import REVIEWER
from core.reviews.drawing import check_size
from core.reviews.queues import (
    ReviewItem,
    ReviewLabel,
    ReviewQueue,
    add_queue,
    close,
    has_item,
    is_name_taken,
    is_open,
    list_values,
    save_label,
)
from core.reviews.tasks import CHOICES, ReviewRule, ReviewTask
from core.safety.letters import check_letters
from quarterdeck.exposures import store_scores
from quarterdeck.scope import Scope
from quarterdeck.scores import check_score
from quarterdeck.store import Store

MOST_REVIEWERS = 20
_LONGEST_NAME = 80


@dataclass(frozen=True, slots=True)
class QueueDraft:
    """A queue that is to begin. Raises InvalidInput, naming the field."""

    scope: Scope
    name: str
    task: ReviewTask
    rule: ReviewRule
    reviewers: tuple[str, ...]

    def __post_init__(self) -> None:
        if not is_name(self.name) or len(self.name) > _LONGEST_NAME:
            raise InvalidInput("name", f"must be 1 to {_LONGEST_NAME} printable characters, without spaces at the ends")
        if not 0 < len(self.reviewers) <= MOST_REVIEWERS or not all(map(is_name, self.reviewers)):
            raise InvalidInput("reviewers", f"must be 1 to {MOST_REVIEWERS} names as people sign in")


def create_queue(store: Store, draft: QueueDraft, items: Sequence[ReviewItem], by: Act) -> int:
    """Begin a review queue; return the audit entry.

    Raises InvalidInput for no question or too many, Conflict for a name that is taken, and Forbidden for somebody who
    may not read questions.
    """
    distinct = list({item.retrieval_id: item for item in items}.values())
    if not distinct:
        raise InvalidInput("questions", "no question was found to review")
    check_size(len(distinct))
    by = _check_reader(by, draft.scope, Action.REVIEW_CREATE)
    with changing(store, by) as change:
        if is_name_taken(change.connection, draft.scope, draft.name):
            raise Conflict(f"there is a review queue {draft.name!r} already; choose another name")
        values = {
            **draft.scope._asdict(), "name": draft.name, "task": str(draft.task), "rule": str(draft.rule),
            "reviewers": draft.reviewers, "created_ms": change.at_ms, "created_by": by.actor,
        }  # fmt: skip
        number = add_queue(change.connection, values, distinct)
        after = {
            "queue": number, "task": str(draft.task), "rule": str(draft.rule), "reviewers": list(draft.reviewers),
            "questions": len(distinct),
        }  # fmt: skip
        change.record(Action.REVIEW_CREATE, draft.name, None, after)
    return change.entry_id


def label_question(
    store: Store, queue: ReviewQueue, retrieval_id: str, value: float | None, by: Act, *, note: str = ""
) -> int:
    """Save what the actor says about a question of a queue; return the audit entry. None skips it.

    The question gets a score of the source `reviewer`: the mean over the labels of all reviewers. Labeling it again
    replaces the actor's label; skipping does not take it back. Raises InvalidInput for that and for a label that the
    task does not have, Conflict for a queue that is closed, NotFound for a question that is not in it, and Forbidden
    for somebody who is not one of its reviewers.
    """
    if value is not None and value not in {choice.value for choice in CHOICES[queue.task]}:
        raise InvalidInput("label", f"must be one of {', '.join(f'{each.value:g}' for each in CHOICES[queue.task])}")
    if len(note) > MAX_TEXT or "\x00" in note:
        raise InvalidInput("note", f"must be at most {MAX_TEXT:,} characters, without null characters")
    check_letters(note, "note")
    by = _check_reader(by, queue.scope, Action.REVIEW_LABEL)
    if not queue.has_reviewer(by.actor):
        raise Forbidden(f"{by.actor!r} is not a reviewer of {queue.name!r}: {', '.join(queue.reviewers)}")
    with changing(store, by) as change:
        if not is_open(change.connection, queue.queue_id):
            raise Conflict(f"the review queue {queue.name!r} is closed")
        if not has_item(change.connection, queue.queue_id, retrieval_id):
            raise NotFound(f"question: {retrieval_id!r} is not in the queue {queue.name!r}")
        label = ReviewLabel(retrieval_id, by.actor, value, note)
        former = save_label(change.connection, queue, label, at_ms=change.at_ms)
        if value is None and former is not None:  # its score counts already
            raise InvalidInput("label", "is given already, and skipping does not take it back; choose another one")
        values = list_values(change.connection, queue, retrieval_id)
        if values:
            score = _make_score(queue, retrieval_id, values, note, change.at_ms)
            store_scores(change.connection, [score])
        before = None if former is None else {"question": retrieval_id, str(queue.task): former}
        change.record(Action.REVIEW_LABEL, queue.name, before, {"question": retrieval_id, str(queue.task): value})
    return change.entry_id


def close_queue(store: Store, queue: ReviewQueue, by: Act) -> int:
    """Close a queue: nobody labels its questions any more; return the audit entry. Raises Conflict."""
    with changing(store, replace(by, environment=queue.scope.environment)) as change:
        if not close(change.connection, queue.queue_id, at_ms=change.at_ms):
            raise Conflict(f"the review queue {queue.name!r} is closed already")
        change.record(Action.REVIEW_CLOSE, queue.name, {"queue": queue.queue_id}, None)
    return change.entry_id


def _make_score(
    queue: ReviewQueue, retrieval_id: str, values: Sequence[float], note: str, at_ms: int
) -> dict[str, object]:
    said = "" if len(values) == 1 else f"mean of {len(values)} labels"
    comment = ": ".join(part for part in (said, note) if part)
    score = check_score(
        retrieval_id, str(queue.task), sum(values) / len(values), comment=comment, source=REVIEWER, ts_ms=at_ms
    )
    return {**score._asdict(), **queue.scope._asdict()}


def _check_reader(by: Act, scope: Scope, action: Action) -> Act:
    """Return the act in the scope's environment. Raises Forbidden for who may not do it or read its questions."""
    require(replace(by, environment=scope.environment), action)
    if not may_read_questions(by.roles, scope.environment):
        raise Forbidden(f"your role does not include reading questions in {scope.environment}")
    return replace(by, environment=scope.environment)

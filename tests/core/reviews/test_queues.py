"""Review queues: begun, labeled and closed with audit entries; labels become scores of the source reviewer."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest

from core.audit.acts import Act
from core.audit.permissions import Role, Roles
from core.audit.trail import AuditFilter, list_audit
from core.drift.present import LowScores
from core.errors import Conflict, Forbidden, InvalidInput, NotFound
from core.log.filters import QuestionFilter
from core.log.questions import list_page
from core.log.retrievals import Window
from core.log.scores import apply_scores
from core.questions.operations import judge_questions
from core.reviews.operations import QueueDraft, close_queue, create_queue, label_question
from core.reviews.queues import ReviewItem, ReviewQueue, list_items, list_queues
from core.reviews.report import report_queue
from core.reviews.sampling import ReviewSample, draw_items
from core.reviews.tasks import ReviewRule, ReviewTask
from quarterdeck.clock import now_ms, to_ms
from quarterdeck.exposures import store_scores
from quarterdeck.recorder import append_retrievals
from quarterdeck.retrieval import Retrieval
from quarterdeck.scope import Scope
from quarterdeck.store import Store

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
ANSWERS = Scope("production", "answers")
ADA, BOB = Act("ada", "review"), Act("Bob", "review")
WINDOW = Window(date(2026, 2, 25), date(2026, 3, 1))


def write(store: Store, count: int = 12) -> None:
    rows = [
        Retrieval(
            NOON - timedelta(minutes=n), f"question {n}", 0.2 + n / 20, retrieval_id=f"q-{n}", scope=ANSWERS,
            answer=None if n == 0 else f"Answer {n}.", feedback=-1.0 if n == 3 else None,
        )
        for n in range(count)
    ]  # fmt: skip
    append_retrievals(store, rows)


def begin(
    store: Store, names: Sequence[str] = ("q-1", "q-2"), *, rule: ReviewRule = ReviewRule.SELECTION
) -> ReviewQueue:
    draft = QueueDraft(ANSWERS, f"week 9 {rule}", ReviewTask.FAITHFULNESS, rule, ("ada", "bob"))
    create_queue(store, draft, [ReviewItem(name, to_ms(NOON)) for name in names], ADA)
    return list_queues(store, ANSWERS)[0]


def scores_of(store: Store, name: str) -> list[tuple[str, float, str, str]]:
    return [tuple(score) for score in list_page(store, QuestionFilter(retrieval_id=name)).questions[0].scores]


def test_labels_of_two_reviewers_become_one_score_with_their_mean(store: Store) -> None:
    write(store)
    queue = begin(store)
    assert [item.retrieval_id for item in list_items(store, queue.queue_id)] == ["q-1", "q-2"]
    assert report_queue(store, queue).find_next("ada") == "q-1"
    label_question(store, queue, "q-1", 1.0, ADA, note="all of it")
    assert scores_of(store, "q-1") == [("faithfulness", 1.0, "reviewer", "all of it")]
    entry = label_question(store, queue, "q-1", 0.5, BOB)
    assert scores_of(store, "q-1") == [("faithfulness", 0.75, "reviewer", "mean of 2 labels")]
    label_question(store, queue, "q-1", 0.0, ADA)
    assert scores_of(store, "q-1") == [("faithfulness", 0.25, "reviewer", "mean of 2 labels")]
    assert apply_scores(store, now_ms=now_ms()).applied == 1
    progress = report_queue(store, queue)
    assert (progress.find_next("ada"), progress.find_former("ada"), progress.given) == (
        "q-2",
        "q-1",
        {"ada": 1, "Bob": 1},
    )
    told = next(each for each in list_audit(store, AuditFilter(action="review.label")) if each.entry_id == entry)
    assert (told.actor, told.target, told.environment) == ("Bob", queue.name, "production")
    assert told.after == {"question": "q-1", "faithfulness": 0.5}


def test_skipping_does_not_take_a_label_back(store: Store) -> None:
    queue = begin(store)
    label_question(store, queue, "q-1", 1.0, ADA)
    with pytest.raises(InvalidInput, match="skipping does not take it back"):
        label_question(store, queue, "q-1", None, ADA)
    (label,) = report_queue(store, queue).labels
    assert (label.retrieval_id, label.value) == ("q-1", 1.0)


def test_a_skipped_question_is_done_and_gets_no_score(store: Store) -> None:
    write(store)
    queue = begin(store)
    label_question(store, queue, "q-1", None, ADA)
    assert report_queue(store, queue).find_next("ada") == "q-2"
    assert scores_of(store, "q-1") == []


@pytest.mark.deep
def test_wrong_labels_strangers_and_closed_queues_are_refused(store: Store) -> None:
    write(store)
    queue = begin(store)
    with pytest.raises(InvalidInput, match="label"):
        label_question(store, queue, "q-1", -1.0, ADA)
    with pytest.raises(InvalidInput, match="note: holds half"):
        label_question(store, queue, "q-1", 1.0, ADA, note="\ud800")
    with pytest.raises(NotFound, match="not in the queue"):
        label_question(store, queue, "q-9", 1.0, ADA)
    with pytest.raises(Forbidden, match="not a reviewer"):
        label_question(store, queue, "q-1", 1.0, Act("eve", "try"))
    blind = Roles((("production", Role.EDITOR),), ())
    with pytest.raises(Forbidden, match="reading questions"):
        label_question(store, queue, "q-1", 1.0, replace(ADA, roles=blind))
    with pytest.raises(Conflict, match="already"):
        begin(store)
    close_queue(store, queue, ADA)
    closed = list_queues(store, ANSWERS)[0]
    assert closed.closed is not None
    for change in (
        lambda: label_question(store, closed, "q-1", 1.0, ADA),
        lambda: label_question(store, queue, "q-1", 1.0, ADA),  # as a page saw it that was opened before
        lambda: close_queue(store, closed, ADA),
    ):
        with pytest.raises(Conflict, match="closed"):
            change()
    assert scores_of(store, "q-1") == []


@pytest.mark.sqlite_only(reason="a rule")
def test_a_queue_needs_a_name_reviewers_and_questions(store: Store) -> None:
    for name, reviewers in (("", ("ada",)), (" x", ("ada",)), ("x", ()), ("x", ("a\nb",)), ("x", ("a",) * 21)):
        with pytest.raises(InvalidInput):
            QueueDraft(ANSWERS, name, ReviewTask.FEEDBACK, ReviewRule.RANDOM, reviewers)
    draft = QueueDraft(ANSWERS, "x", ReviewTask.FEEDBACK, ReviewRule.RANDOM, ("ada",))
    with pytest.raises(InvalidInput, match="no question"):
        create_queue(store, draft, [], ADA)


def draw(store: Store, rule: ReviewRule, size: int = 5) -> set[str]:
    sample = ReviewSample(ReviewTask.FAITHFULNESS, rule, size, seed=3)
    return {item.retrieval_id for item in draw_items(store, ANSWERS, WINDOW, sample, low=LowScores(0.4))}


def test_rules_find_their_questions(store: Store) -> None:
    write(store)
    assert draw(store, ReviewRule.RANDOM) == draw(store, ReviewRule.RANDOM)
    assert len(draw(store, ReviewRule.RANDOM)) == 5
    assert "q-0" not in draw(store, ReviewRule.RANDOM, 50)  # it has no answer
    assert draw(store, ReviewRule.LOW, 50) == {"q-1", "q-2", "q-3"}
    assert draw(store, ReviewRule.DISAGREEMENT) == set()
    given = {"name": "faithfulness", "source": "judge", "comment": "", "ts_ms": 1, **ANSWERS._asdict()}
    with store.begin() as connection:
        store_scores(connection, [{**given, "retrieval_id": f"q-{n}", "value": 0.9} for n in (3, 4)])
    assert draw(store, ReviewRule.DISAGREEMENT) == {"q-3"}
    page = list_page(store, QuestionFilter(retrieval_id="q-3"))
    judge_questions(store, page.questions, 1.0, ADA)
    assert draw(store, ReviewRule.DISAGREEMENT) == {"q-3"}  # a reviewer is no user
    with pytest.raises(InvalidInput, match="topics"):
        draw(store, ReviewRule.TOPIC)

"""The questions page on a small store: Review and Quality, topics, likeness, selection, and who may not read it."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from app.panels.questions.resources import load_page
from core.audit.acts import Act
from core.audit.trail import AuditFilter, list_audit
from core.embedding.embed import DEFAULT_MODEL
from core.embedding.vectors import VectorCache
from core.reviews.judged import JudgedAnswer, save_judged
from core.reviews.operations import QueueDraft, create_queue, label_question
from core.reviews.queues import ReviewItem, list_items, list_labels, list_queues
from core.reviews.tasks import ReviewRule, ReviewTask
from quarterdeck.clock import to_ms
from quarterdeck.recorder import append_retrievals
from quarterdeck.retrieval import Retrieval
from quarterdeck.scope import Scope
from quarterdeck.store import Store
from tests.pages.opening import (
    HOSTILE,
    assert_shown_as_text,
    click_table,
    only_error,
    open_page,
    shown_text,
    text_of,
    verdict,
)

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("clean_streamlit")]
ANSWERS = Scope("production", "answers")
NOON = datetime.now(UTC) - timedelta(hours=1)


@pytest.fixture
def filled(empty_url: str) -> Iterator[Store]:
    """A store with 80 answers of a service, the newest of them hostile."""
    store = Store(empty_url)
    append_retrievals(store, [
        Retrieval(
            NOON - timedelta(minutes=n), HOSTILE if n == 0 else f"question {n}", 0.5, retrieval_id=f"q-{n}",
            scope=ANSWERS, answer=HOSTILE if n == 0 else f"Answer {n}.", latency_ms=100.0 + n, cost_usd=0.001,
            tokens=50, feedback=1.0 if n % 2 else -1.0, prompt_version="v1" if n < 40 else "v2",
            documents=[("a.md", 0.5)],
        )
        for n in range(80)
    ])  # fmt: skip
    yield store
    store.close()


def click(app: AppTest, label: str) -> AppTest:
    """Click the button with this label."""
    found = next(button for button in app.button if button.label == label).click().run()
    assert not found.exception
    return found


def begin(store: Store, count: int, *, rule: ReviewRule = ReviewRule.SELECTION) -> None:
    items = [ReviewItem(f"q-{n}", to_ms(NOON - timedelta(minutes=n))) for n in range(count)]
    draft = QueueDraft(ANSWERS, "week 9", ReviewTask.FAITHFULNESS, rule, ("tester", "ada"))
    create_queue(store, draft, items, Act("ada", "begin"))


@pytest.mark.deep
def test_a_selected_question_stays_selected_when_others_come_in(filled: Store) -> None:
    app = click_table(open_page("questions"), {"rows": [3], "columns": [], "cells": []})
    assert "**question 3**" in [each.value for each in app.markdown]
    for number in (1, 2):
        late = Retrieval(NOON + timedelta(minutes=number), f"late {number}", 0.9, scope=ANSWERS)
        append_retrievals(filled, [late])
        load_page.clear()
        app.run()
        shown = list(app.dataframe[0].value["question"])
        assert (shown[0], shown[3 + number]) == (f"late {number}", "question 3")
        assert "**question 3**" in [each.value for each in app.markdown]
    app = click_table(app, {"rows": [], "columns": [], "cells": []})
    assert "**question 3**" not in [each.value for each in app.markdown]


@pytest.mark.deep
def test_questions_like_one_are_listed(filled: Store) -> None:
    texts = [f"question {n}" for n in range(1, 80)]
    rows = np.eye(3, dtype=np.float32)[[0 if n in (5, 9) else 1 for n in range(1, 80)]]
    VectorCache(filled).save_vectors(DEFAULT_MODEL, texts, rows)
    app = open_page("questions", like="q-5")
    assert verdict(app) == "2 of 80 questions of the last 30 days are most like “question 5”."
    assert list(app.dataframe[0].value["question"]) == ["question 5", "question 9"]
    assert "Compared with 79 of the newest 80 distinct questions" in shown_text(app)
    assert "like: there is no question 'gone'" in only_error(open_page("questions", like="gone"))


@pytest.mark.deep
def test_a_queue_begins_by_a_rule_from_the_page(filled: Store) -> None:
    app = open_page("questions", show="Review")
    assert verdict(app) == "No question waits for a review."
    app.text_input(key="review_new_name").set_value("week 9")
    app.number_input(key="review_new_size").set_value(20)
    app.text_input(key="review_new_reviewers").set_value("tester, ada , tester")
    app = click(app, "Begin")
    assert verdict(app) == "20 of 20 questions wait for your label."
    (queue,) = list_queues(filled, ANSWERS)
    assert (queue.name, queue.task, queue.rule, queue.reviewers) == (
        "week 9", ReviewTask.FAITHFULNESS, ReviewRule.RANDOM, ("tester", "ada"),
    )  # fmt: skip
    assert len(list_items(filled, queue.queue_id)) == 20
    app.text_input(key="review_new_name").set_value("week 9")
    app = click(app, "Begin")
    assert "Nothing was changed" in app.error[0].value


def test_selected_questions_are_sent_and_labeled_one_after_another(filled: Store) -> None:
    begin(filled, 3)
    app = open_page("questions", show="Review")
    assert_shown_as_text(app)
    assert "alert" in shown_text(app)
    app = click(app, "Yes")
    assert verdict(app) == "2 of 3 questions wait for your label."
    app.text_input(key="review-note-q-1").set_value("half of it")
    app = click(app, "Partly")
    app = click(app, "Back")
    assert "Your label: Partly." in shown_text(app)
    app = click(click(app, "No"), "Skip")
    assert verdict(app) == "You have labeled all 3 questions."
    (queue,) = list_queues(filled, ANSWERS)
    found = {label.retrieval_id: (label.value, label.reviewer) for label in list_labels(filled, queue.queue_id)}
    assert found == {"q-0": (1.0, "tester"), "q-1": (0.0, "tester"), "q-2": (None, "tester")}
    assert len(list_audit(filled, AuditFilter(action="review.label"))) == 4
    app = click(app, "Close this queue")
    assert "This queue is closed." in shown_text(app)


@pytest.mark.deep
def test_agreement_of_two_reviewers_is_shown(filled: Store) -> None:
    begin(filled, 12)
    (queue,) = list_queues(filled, ANSWERS)
    for n in range(12):
        for name, value in (("tester", float(n % 2)), ("ada", 1.0 - n % 2 if n < 2 else float(n % 2))):
            label_question(filled, queue, f"q-{n}", value, Act(name, "review"))
    told = shown_text(open_page("questions", show="Review"))
    assert "Krippendorff's alpha 0.68" in told
    assert "over 12 questions that two or more labeled; 83% of pairs are equal." in told


@pytest.mark.deep
def test_who_may_not_read_questions_reviews_none_but_sees_the_numbers(
    filled: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin(filled, 3)
    monkeypatch.setattr("app.panels.questions.reviews.may_read_questions", lambda _environment: False)
    app = open_page("questions", show="Review")
    assert "does not include reading questions" in shown_text(app)
    assert "question 1" not in shown_text(app)
    assert not any(button.label == "Yes" for button in app.button)


@pytest.mark.deep
def test_quality_adds_up_the_rollups_by_day_and_segment(filled: Store) -> None:
    app = open_page("questions", show="Quality", days="7d")
    told = verdict(app)
    assert told.startswith("In the last 7 days half of the answers took up to 1")
    assert "a question cost $0.0010" in told
    tables = [table.value for table in app.dataframe]
    segments = next(table for table in tables if "segment" in table.columns)
    assert list(segments["segment"]) == ["v1", "v2"]
    assert list(segments["timed"]) == [40, 40]
    assert all(
        abs(value - middle) / middle < 0.06
        for value, middle in zip(segments["median, ms"], (119.5, 159.5), strict=True)
    )
    assert "No answer was judged yet." in shown_text(app)


@pytest.mark.deep
def test_quality_shows_the_corrected_mean_with_its_interval(filled: Store) -> None:
    values = [(n % 5) / 5 for n in range(80)]
    save_judged(filled, ANSWERS, [
        JudgedAnswer(f"q-{n}", "faithfulness", to_ms(NOON - timedelta(minutes=n)), "offline v1", value, "", 0.0, True)
        for n, value in enumerate(values)
    ], at_ms=to_ms(NOON))  # fmt: skip
    begin(filled, 35, rule=ReviewRule.RANDOM)
    (queue,) = list_queues(filled, ANSWERS)
    for n in range(35):
        label_question(filled, queue, f"q-{n}", 1.0 if values[n] > 0.5 else 0.0, Act("ada", "review"))
    app = open_page("questions", show="Quality")
    (row,) = next(table.value for table in app.dataframe if "corrected mean" in table.value.columns).to_dict("records")
    assert (row["what"], row["judge"], row["judged"], row["labels"]) == ("faithfulness", "offline v1", 80, 35)
    assert 0 <= row["from"] < row["corrected mean"] < row["to"] <= 1
    assert "reviewers would say" in text_of(shown_text(app))


@pytest.mark.deep
def test_the_topic_of_a_question_is_shown_filtered_left_and_joined_again(
    empty_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from app.panels.questions.resources import get_topics

    monkeypatch.setenv("QUARTERDECK_LOW_SCORE", "0.6")
    store = Store(empty_url)
    texts = [f"{word} number {n}" for word in ("vpp", "mount") for n in range(12)]
    append_retrievals(store, [
        Retrieval(NOON - timedelta(minutes=n), text, 0.2, retrieval_id=f"q-{n}", scope=ANSWERS)
        for n, text in enumerate(texts)
    ])  # fmt: skip
    rows = np.random.default_rng(1).normal(0, 0.02, (24, 384))
    rows[:12, 0] += 1
    rows[12:, 1] += 1
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    VectorCache(store).save_vectors(DEFAULT_MODEL, texts, rows.astype(np.float32))
    window = (ANSWERS, NOON.date(), 30)
    open_page("questions")
    assert get_topics().wait(window, 60).value is not None
    app = open_page("questions", question="q-3")
    shown = app.dataframe[0].value
    assert len(set(shown["topic"])) == 2
    topic_id = next(name for name in app.selectbox(key="questions_topic").options if name)
    assert topic_id
    app = click(app, "Not this topic")
    assert app.success[0].value.endswith("The question is out of the topic.")
    after = get_topics().wait(window, 60).value
    assert after is not None
    assert set(after.by_text) == {text for text in texts if text != "vpp number 3"}
    (entry,) = list_audit(store, AuditFilter(action="topic.exclude"))
    assert entry.after == {"question": "q-3"}
    app = app.run()
    assert list(app.dataframe[0].value["topic"])[3] == ""
    app = click(app, "Put it back into its topic")
    again = get_topics().wait(window, 60).value
    assert again is not None
    assert "vpp number 3" in again.by_text
    store.close()

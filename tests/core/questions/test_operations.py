"""Judging answers and saving views: stored with their audit entry, or not at all."""

from datetime import UTC, datetime

import pytest

from core.audit.acts import Act
from core.audit.permissions import Role, Roles
from core.audit.trail import AuditFilter, list_audit
from core.errors import Forbidden, InvalidInput, NotFound
from core.log.filters import LoggedQuestion, QuestionFilter
from core.log.questions import list_page
from core.log.scores import apply_scores
from core.questions.operations import BAD, GOOD, delete_view, judge_questions, save_view
from core.questions.views import MOST_VIEWS, SavedView, list_views
from quarterdeck.clock import now_ms
from quarterdeck.recorder import append_retrievals
from quarterdeck.retrieval import Retrieval
from quarterdeck.scope import Scope
from quarterdeck.store import Store

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
ADA = Act("ada", "read them")


def write(store: Store, *scopes: Scope) -> tuple[LoggedQuestion, ...]:
    rows = [
        Retrieval(NOON, f"q {number}", 0.5, retrieval_id=f"q-{number}", scope=scope)
        for number, scope in enumerate(scopes)
    ]
    append_retrievals(store, rows)
    return list_page(store, QuestionFilter()).questions


def test_a_judgement_is_a_score_of_a_reviewer_and_reaches_the_row(store: Store) -> None:
    questions = write(store, Scope("production", "answers"), Scope("production", "search"))
    entry = judge_questions(store, questions, BAD, ADA, note="invented")
    assert apply_scores(store, now_ms=now_ms()).applied == 2
    for found in list_page(store, QuestionFilter()).questions:
        assert [tuple(score) for score in found.scores] == [("feedback", -1.0, "reviewer", "invented")]
        assert found.feedback == -1.0
    (told,) = list_audit(store, AuditFilter(), limit=5)
    assert (told.entry_id, told.actor, told.target) == (entry, "ada", "2 questions")
    assert told.after == {"feedback": -1.0, "questions": [each.retrieval_id for each in questions]}
    judge_questions(store, questions[:1], GOOD, ADA)
    again = list_page(store, QuestionFilter(retrieval_id=questions[0].retrieval_id)).questions[0]
    assert [score.value for score in again.scores] == [1.0]


def test_questions_of_two_environments_and_none_are_refused(store: Store) -> None:
    questions = write(store, Scope("production", "answers"), Scope("staging", "answers"))
    for wrong in ((), questions):
        with pytest.raises(InvalidInput, match="one environment"):
            judge_questions(store, wrong, BAD, ADA)


def test_a_viewer_judges_nothing_and_an_editor_only_in_their_environment(store: Store) -> None:
    questions = write(store, Scope("production", "answers"))
    editor = Roles((("staging", Role.EDITOR),), ("staging",))
    for roles in (Roles((("production", Role.VIEWER),)), editor):
        with pytest.raises(Forbidden):
            judge_questions(store, questions, BAD, Act("eve", "try", roles=roles))
    assert list_page(store, QuestionFilter()).questions[0].scores == ()


def test_a_view_is_saved_replaced_and_deleted_by_its_name(store: Store) -> None:
    save_view(store, SavedView("low", (("low", "1"),)), ADA)
    save_view(store, SavedView("Empty", (("state", "empty"), ("state", "failed"))), ADA)
    save_view(store, SavedView("low", (("low", "1"), ("text", "vpp"))), ADA)
    views = list_views(store, "production").views
    assert [(view.name, len(view.filters)) for view in views] == [("Empty", 2), ("low", 2)]
    assert list_views(store, "staging").views == ()
    delete_view(store, "low", ADA)
    assert [view.name for view in list_views(store, "production").views] == ["Empty"]
    with pytest.raises(NotFound, match="no view 'low'"):
        delete_view(store, "low", ADA)
    assert [str(entry.action) for entry in list_audit(store, AuditFilter(), limit=9)] == [
        "view.delete", "view.save", "view.save", "view.save",
    ]  # fmt: skip
    told = list_audit(store, AuditFilter(), limit=2)[1].after
    assert told == {"filters": [["low", "1"], ["text", "(not kept)"]]}  # the trail holds nobody's words for ever


@pytest.mark.sqlite_only(reason="a rule")
def test_names_and_numbers_of_views_are_bounded(store: Store) -> None:
    for name in ("", " a", "x" * 81, "a\nb"):
        with pytest.raises(InvalidInput, match="name"):
            SavedView(name, ())
    with pytest.raises(InvalidInput, match="filters: holds half"):
        SavedView("half", (("text", "\ud800"),))
    for number in range(MOST_VIEWS):
        save_view(store, SavedView(f"v{number}", ()), ADA)
    with pytest.raises(InvalidInput, match="at most 100"):
        save_view(store, SavedView("one more", ()), ADA)

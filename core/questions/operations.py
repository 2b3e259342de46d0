"""Shell: what people do with questions, each with its audit entry: judge an answer, save and delete a view."""

from collections.abc import Sequence
from dataclasses import replace

from sqlalchemy import Connection

from core.audit.actions import Action
from core.audit.acts import Act, changing
from core.audit.settings import save_setting
from core.errors import InvalidInput, NotFound
from core.log.filters import LoggedQuestion
from core.questions.views import MOST_VIEWS, SavedView, list_views, views_key
from quarterdeck.exposures import store_scores
from quarterdeck.scores import check_score
from quarterdeck.store import Store

REVIEWER = "reviewer"  # the source of scores that people give here
JUDGEMENT = "feedback"
GOOD, BAD = 1.0, -1.0


def judge_questions(store: Store, questions: Sequence[LoggedQuestion], value: float, by: Act, *, note: str = "") -> int:
    """Give answers the same feedback as a reviewer, with a note; return the audit entry.

    A later judgement replaces an earlier one of a reviewer. The server adds the scores to the rollups within seconds.
    Raises InvalidInput for no question, and for questions of several environments.
    """
    places = {question.environment for question in questions}
    if len(places) != 1:
        raise InvalidInput("questions", "choose questions of one environment")
    with changing(store, replace(by, environment=places.pop())) as change:
        scores = [
            check_score(each.retrieval_id, JUDGEMENT, value, comment=note, source=REVIEWER, ts_ms=change.at_ms)
            for each in questions
        ]
        named = [
            {**score._asdict(), "environment": question.environment, "service": question.service}
            for question, score in zip(questions, scores, strict=True)
        ]
        store_scores(change.connection, named)
        ids = [question.retrieval_id for question in questions]
        target = ids[0] if len(ids) == 1 else f"{len(ids)} questions"
        change.record(Action.QUESTION_JUDGE, target, None, {JUDGEMENT: value, "questions": ids})
    return change.entry_id


def save_view(store: Store, view: SavedView, by: Act) -> int:
    """Save a view under its name, replacing one of that name; return the audit entry. Raises InvalidInput."""
    known = list_views(store, by.environment)
    former = next((each for each in known.views if each.name == view.name), None)
    others = [each for each in known.views if each.name != view.name]
    if len(others) >= MOST_VIEWS:
        raise InvalidInput("name", f"an environment has at most {MOST_VIEWS} views; delete one first")
    with changing(store, by) as change:
        _save(change.connection, by.environment, [*others, view], known.version)
        change.record(Action.VIEW_SAVE, view.name, former, view)
    return change.entry_id


def delete_view(store: Store, name: str, by: Act) -> int:
    """Delete a view; return the audit entry. Raises NotFound."""
    known = list_views(store, by.environment)
    former = next((each for each in known.views if each.name == name), None)
    if former is None:
        raise NotFound(f"view: there is no view {name!r}")
    with changing(store, by) as change:
        _save(change.connection, by.environment, [each for each in known.views if each != former], known.version)
        change.record(Action.VIEW_DELETE, name, former, None)
    return change.entry_id


def _save(connection: Connection, environment: str, views: Sequence[SavedView], version: int) -> None:
    value = [[view.name, [list(pair) for pair in view.filters]] for view in views]
    save_setting(connection, views_key(environment), value, expected_version=version)

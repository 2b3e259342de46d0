"""Erasing a user or a session: nothing of theirs is left in any kind of log, and nothing of anybody else is touched."""

import hashlib
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import Connection, func, insert, select

from core.audit.acts import Act
from core.audit.permissions import Grant, Role, combine_grants
from core.audit.settings import Family, get_setting, save_setting, setting_key
from core.audit.trail import AuditFilter, list_audit
from core.cases.cases import CaseSource
from core.cases.operations import NewCase, add_cases
from core.cases.store import find_set
from core.coverage.exclusions import save_exclusion
from core.embedding.vectors import VectorCache
from core.erasure import Erasure, erase, preview_erasure
from core.errors import Forbidden, InvalidInput
from core.log.filters import QuestionFilter
from core.log.questions import list_page
from core.log.retrievals import list_days
from core.log.subjects import DataSubject
from core.questions.operations import save_view
from core.questions.views import SavedView, list_views
from quarterdeck.exposures import store_scores
from quarterdeck.log import as_log
from quarterdeck.recorder import append_retrievals
from quarterdeck.retrieval import Retrieval
from quarterdeck.schema import (
    flag_exposures,
    intake,
    judged_answers,
    review_items,
    review_labels,
    scores,
    topic_exclusions,
    topics,
    trace_spans,
    tracked_events,
    vectors,
)
from quarterdeck.scope import Scope
from quarterdeck.store import Store
from tests.app.commands.running import Run, only_line
from tests.backends import BACKENDS, copy_empty_store, make_url

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
ACT = Act("tester", "erasure request")
ADA = "ada@example.org"
VIEWS = {
    "hers": ("user", ADA), "her attribute": ("attribute", f"customer={ADA}"), "one of hers": ("id", "q-1"),
    "her words": ("text", "My own  question"), "bob": ("user", "bob"), "shared": ("text", "shared question"),
}  # fmt: skip


@pytest.fixture(params=BACKENDS)
def full(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """A store with a log of each kind: two rows of ada in two environments, and two of others."""
    url = copy_empty_store() if request.param == "postgresql" else f"sqlite:///{tmp_path}/deck.db"
    log_url = make_url("clickhouse", tmp_path) if request.param == "clickhouse" else None
    store = Store(url, create=True, log_url=log_url)
    fill(store)
    yield store
    as_log(store).close()
    store.close()


def fill(store: Store) -> None:
    rows = [
        Retrieval(NOON, "my own question", 0.5, user_id=ADA, session_id="s-1", retrieval_id="q-1", trace_id="t-1"),
        Retrieval(NOON, "Shared  question", 0.5, user_id=ADA, retrieval_id="q-2", scope=Scope("staging", "answers")),
        Retrieval(NOON, "shared question", 0.4, user_id="bob", session_id="s-2", retrieval_id="q-3", trace_id="t-3"),
        Retrieval(NOON, "nobody's", 0.4, retrieval_id="q-4"),
    ]
    append_retrievals(store, rows)
    asked = [("Reworded", CaseSource("production", "default", "q-1")), ("my OWN question", CaseSource()),
             ("shared question", CaseSource("production", "default", "q-3"))]  # fmt: skip
    new = [NewCase(text, (), "A refusal is right.", answerable=False, source=source) for text, source in asked]
    add_cases(store, "qa", new, ACT)
    for name, pair in VIEWS.items():
        save_view(store, SavedView(name, (("low", "1"), pair)), ACT)
    VectorCache(store).save_vectors("m", [row.query for row in rows], np.eye(4, dtype=np.float32))
    given = {"name": "feedback", "source": "user", "value": 1.0, "comment": "", "ts_ms": 1}
    scope = {"environment": "production", "service": "default"}
    seen = {"environment": "production", "flag": "f", "variant": "on", "first_seen_ms": 1}
    event = {"environment": "production", "event": "buy", "ts_ms": 1, "attributes": "{}"}
    counted = {**scope, "source": "client", "hour_ms": 0, "n": 1, "last_ms": 1}
    with store.begin() as connection:
        store_scores(connection, [{**given, **scope, "retrieval_id": name} for name in ("q-1", "q-2", "q-3")])
        store_scores(connection, [{**given, "environment": "staging", "service": "answers", "retrieval_id": "q-2"}])
        connection.execute(insert(flag_exposures), [{**seen, "targeting_key": key} for key in (ADA, "bob", "s-1")])
        connection.execute(insert(tracked_events), [{**event, "targeting_key": key} for key in (ADA, ADA, "bob")])
        spans = [("t-1", "{}"), ("t-3", "{}"), ("t-9", json.dumps({"user": ADA}))]
        connection.execute(
            insert(trace_spans), [{"trace_id": t, "span_id": "1", "body": body, "received_ms": 1} for t, body in spans]
        )
        predicted = {"queries": [{"text": "My own question", "live_score": 0.5}, {"text": "nobody's"}]}
        save_setting(connection, setting_key(Family.PREDICTION, "v2"), predicted, expected_version=0)
        named = {"model": "m", "centroid": b"", "first_seen_ms": 1, "last_seen_ms": 1, "state": "open", "owner": "",
                 "note": "", "version": 1}  # fmt: skip
        titles = [("t-1", "My own question"), ("t-2", "nobody's")]
        connection.execute(insert(topics), [{**named, "topic_id": at, "label": label} for at, label in titles])
        examples = [("score", f"score: is wrong | {{'user_id': '{ADA}'}}"), ("ts", "ts: is missing")]
        connection.execute(insert(intake), [{**counted, "reason": r, "example": text} for r, text in examples])
        fill_reviews(connection)


def fill_reviews(connection: Connection) -> None:
    """Put a question of ada and one of somebody else into a review queue, label and judge them, and take both out."""
    here = {"environment": "production", "retrieval_id": "q-1"}
    item, label = {**here, "queue_id": 1, "asked_ms": 1}, {**here, "queue_id": 1, "reviewer": "eve", "labeled_ms": 1}
    judged = {**here, "service": "default", "name": "relevancy", "asked_ms": 1, "judge": "j", "problem": "",
              "cost_usd": 0.0, "drawn": 1, "judged_ms": 1}  # fmt: skip
    for place, name in enumerate(("q-1", "q-3")):
        own = {"retrieval_id": name}
        connection.execute(insert(review_items).values({**item, **own, "place": place}))
        connection.execute(insert(review_labels).values({**label, **own, "value": 1.0, "note": "it says ada"}))
        connection.execute(insert(judged_answers).values({**judged, **own, "value": 0.5}))
    for text in ("my own question", "shared question"):
        save_exclusion(connection, "t-1", text, actor="eve", at_ms=1)


def texts(store: Store) -> set[str]:
    return {each.query for each in list_page(store, QuestionFilter()).questions}


def test_a_user_is_erased_everywhere_and_nobody_else_is(full: Store) -> None:
    of_texts = {"vectors": 1, "predictions": 1, "topics": 1, "exclusions": 1, "cases": 2, "views": 4}
    of_reviews = {"reviews": 1, "labels": 1, "judgments": 1}
    expected = Erasure(rows=2, scores=2, exposures=1, events=2, spans=2, examples=1, **of_reviews, **of_texts)
    counted = [(day.day, day.questions) for day in list_days(full)]
    assert preview_erasure(full, DataSubject(user_id=ADA)) == expected
    assert len(texts(full)) == 4
    assert erase(full, DataSubject(user_id=ADA), ACT) == expected
    assert texts(full) == {"shared question", "nobody's"}
    with full.read() as connection:
        left = connection.execute(select(scores.c.environment, scores.c.retrieval_id).order_by(scores.c.retrieval_id))
        assert list(map(tuple, left)) == [("production", "q-2"), ("production", "q-3")]  # q-2 is of another environment
        assert sorted(connection.scalars(select(flag_exposures.c.targeting_key))) == ["bob", "s-1"]
        assert list(connection.scalars(select(tracked_events.c.targeting_key))) == ["bob"]
        assert list(connection.scalars(select(trace_spans.c.trace_id))) == ["t-3"]
        assert sorted(connection.scalars(select(intake.c.example))) == ["", "ts: is missing"]
        assert connection.scalar(select(func.count()).select_from(vectors)) == 2
        for table in (review_items, review_labels, judged_answers):
            assert list(connection.scalars(select(table.c.retrieval_id))) == ["q-3"]
        assert connection.scalar(select(func.count()).select_from(topic_exclusions)) == 1
        assert list(connection.scalars(select(topics.c.label).order_by(topics.c.topic_id))) == ["", "nobody's"]
    assert get_setting(full, setting_key(Family.PREDICTION, "v2")).value == {
        "queries": [{"text": "", "live_score": 0.5}, {"text": "nobody's"}]
    }
    assert [each.id for each in find_set(full, "qa").cases] == ["c03"]  # of q-1, and with ada's own text
    assert [view.name for view in list_views(full, "production").views] == ["bob", "shared"]
    assert not any(ADA in str((entry.before, entry.after)) for entry in list_audit(full))
    assert preview_erasure(full, DataSubject(user_id=ADA)).total == 0
    assert [(day.day, day.questions) for day in list_days(full)] == counted


def test_a_session_is_erased_alone(full: Store) -> None:
    assert erase(full, DataSubject(session_id="s-1"), ACT).rows == 1
    assert texts(full) == {"Shared  question", "shared question", "nobody's"}


def test_the_trail_holds_a_hash_and_no_name(store: Store) -> None:
    fill(store)
    erase(store, DataSubject(user_id=ADA), ACT)
    (entry,) = list_audit(store, AuditFilter(action="log.erase"))
    assert entry.target == f"sha256:{hashlib.sha256(ADA.encode()).hexdigest()}"
    assert entry.before is not None
    assert (entry.before["rows"], entry.after) == (2, None)
    assert ADA not in repr(entry)


def test_an_editor_may_not_erase(store: Store) -> None:
    fill(store)
    roles = combine_grants([Grant("eve", Role.EDITOR)], "eve")
    with pytest.raises(Forbidden, match="requires the role admin everywhere"):
        erase(store, DataSubject(user_id=ADA), Act("eve", "because", roles=roles))
    assert len(texts(store)) == 4


def test_the_command_shows_the_counts_before_it_erases(store: Store, url: str, quarterdeck: Run) -> None:
    fill(store)
    shown = quarterdeck("erase", "--user", ADA, "--database", url)
    assert "nothing is erased yet" in shown.out
    assert len(texts(store)) == 4
    done = quarterdeck("erase", "--user", ADA, "--yes", "--database", url, "--json").json
    assert (done["rows"], done["erased"], done["sha256"]) == (2, True, hashlib.sha256(ADA.encode()).hexdigest())
    assert len(texts(store)) == 2
    assert "give either" in only_line(quarterdeck("erase", "--database", url), 2)


@pytest.mark.parametrize("ids", [{}, {"user_id": "a", "session_id": "b"}, {"user_id": "a" * 300}])
def test_an_erasure_names_one_user_or_one_session(ids: dict[str, str]) -> None:
    with pytest.raises(InvalidInput):
        DataSubject(**ids)

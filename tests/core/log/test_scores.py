"""Later scores: added to the rollups of their rows once, whatever the order; those without a row are dropped."""

from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import insert, select

from core.log.filters import QuestionFilter
from core.log.questions import list_page
from core.log.scores import MOST_NAMES, WAITS_MS, AppliedScores, admit_names, apply_scores
from quarterdeck.clock import DAY_MS, HOUR_MS, to_ms
from quarterdeck.exposures import store_scores
from quarterdeck.log import as_log
from quarterdeck.recorder import append_retrievals
from quarterdeck.retrieval import Retrieval
from quarterdeck.rollups import bin_of
from quarterdeck.schema import document_days, intake, metric_bins, metric_sums, retrievals, scopes, scores, settings
from quarterdeck.scope import Scope
from quarterdeck.scores import FOR_OWN_SERVICE
from quarterdeck.store import Store
from tests.backends import make_url

TS = datetime(2026, 3, 1, 12, 30, tzinfo=UTC)
NOW_MS = to_ms(TS)


def log(store: Store, name: str | None = "q-1", **fields: Any) -> None:
    append_retrievals(store, [Retrieval(TS, "what is an mbuf", 0.7, retrieval_id=name, **fields)])


def judge(store: Store, value: float, name: str = "feedback", **other: Any) -> None:
    row = {
        "retrieval_id": "q-1", "name": name, "source": "user", "value": value, "comment": "", "ts_ms": NOW_MS,
        "environment": "production", "service": "default", "received_ms": NOW_MS, **other,
    }  # fmt: skip
    with store.begin() as connection:
        store_scores(connection, [row])


def apply(store: Store, after_ms: int = 0) -> AppliedScores:
    return apply_scores(store, now_ms=NOW_MS + after_ms)


def read_sums(store: Store, dimension: str = "", metric: str = "feedback") -> dict[str, tuple]:
    c = metric_sums.c
    query = select(c.value, c.n, c.total, c.total_squares).where(c.dimension == dimension, c.metric == metric)
    with store.read() as connection:
        return {value: tuple(sums) for value, *sums in connection.execute(query)}


def read_bins(store: Store, metric: str = "feedback") -> dict[int, int]:
    c = metric_bins.c
    with store.read() as connection:
        query = select(c.bin, c.n).where(c.dimension == "", c.metric == metric, c.n != 0)
        return dict(connection.execute(query).all())


def read_own(store: Store) -> float | None:
    with store.read() as connection:
        return connection.scalar(select(retrievals.c.feedback))


def read_bad(store: Store) -> dict[str, int]:
    c = document_days.c
    with store.read() as connection:
        return dict(connection.execute(select(c.document, c.bad)).all())


def read_reasons(store: Store) -> list[tuple]:
    c = intake.c
    with store.read() as connection:
        query = select(c.environment, c.source, c.reason, c.n).order_by(c.reason)
        return [tuple(row) for row in connection.execute(query)]


def count_scores(store: Store) -> int:
    with store.read() as connection:
        return len(connection.execute(select(scores.c.name)).all())


def test_a_score_is_added_to_everything_that_its_row_is_counted_under(store):
    with store.begin() as connection:
        connection.execute(
            insert(settings).values(name="service:default", value='{"dimensions": ["tenant"]}', version=1)
        )
    log(store, arm="green", attributes={"tenant": "acme"}, weight=10)
    judge(store, -0.5)
    assert apply(store) == AppliedScores(1, 0, 0)
    once = (10, -5.0, 2.5)
    assert read_sums(store) == {"": once}
    assert read_sums(store, "arm") == {"green": once}
    assert read_sums(store, "model") == {"": once}
    assert read_sums(store, "tenant") == {"acme": once}
    assert read_bins(store) == {bin_of(-0.5): 10}
    c = metric_sums.c
    with store.read() as connection:
        assert {*connection.scalars(select(c.start_ms))} == {NOW_MS - NOW_MS % HOUR_MS}
        assert {*connection.scalars(select(metric_bins.c.day_ms))} == {NOW_MS - NOW_MS % DAY_MS}


def test_applying_again_changes_nothing_and_a_new_value_replaces_the_former(store):
    log(store)
    for value, sums in ((1.0, (1, 1.0, 1.0)), (1.0, (1, 1.0, 1.0)), (-0.5, (1, -0.5, 0.25))):
        judge(store, value)
        apply(store)
        assert apply(store) == AppliedScores(0, 0, 0)
        assert read_sums(store) == {"": sums}
    assert read_bins(store) == {bin_of(-0.5): 1}
    assert read_own(store) == -0.5


def test_a_score_waits_for_its_row_and_the_newest_of_a_source_counts(store):
    judge(store, 1.0, ts_ms=NOW_MS + 5)
    judge(store, -1.0, ts_ms=NOW_MS)  # came later, was given earlier
    assert apply(store) == AppliedScores(0, 0, 1)
    log(store)
    assert apply(store) == AppliedScores(1, 0, 0)
    assert read_sums(store) == {"": (1, 1.0, 1.0)}


def test_each_source_counts_by_itself(store):
    log(store)
    judge(store, 1.0)
    judge(store, 0.0, source="reviewer", ts_ms=NOW_MS + 1)
    apply(store)
    assert read_sums(store) == {"": (2, 1.0, 1.0)}
    assert read_own(store) == 0.0


def test_a_score_replaces_the_number_that_its_row_came_with(store):
    log(store, feedback=-1.0, documents=["a", "b"])
    assert (read_sums(store), read_bad(store)) == ({"": (1, -1.0, 1.0)}, {"a": 1, "b": 1})
    judge(store, 1.0)
    apply(store)
    assert (read_sums(store), read_bad(store)) == ({"": (1, 1.0, 1.0)}, {"a": 0, "b": 0})
    assert read_bins(store) == {bin_of(1.0): 1}
    judge(store, -1.0, source="reviewer")
    judge(store, -1.0, source="judge")
    apply(store)
    assert read_bad(store) == {"a": 1, "b": 1}  # a question is bad once


def test_scores_of_other_names_leave_the_row_alone(store):
    log(store, feedback=1.0)
    judge(store, 12.5, "clicks")
    apply(store)
    assert read_sums(store, metric="clicks") == {"": (1, 12.5, 156.25)}
    assert (read_sums(store), read_own(store)) == ({"": (1, 1.0, 1.0)}, 1.0)


def test_a_score_whose_row_never_came_is_dropped_after_seven_days_and_counted(store):
    judge(store, 1.0)
    assert apply(store, WAITS_MS) == AppliedScores(0, 0, 1)
    assert apply(store, WAITS_MS + 1) == AppliedScores(0, 1, 0)
    assert count_scores(store) == 0
    assert read_reasons(store) == [("production", "scores", "no_such_retrieval", 1)]


def test_a_score_of_another_environment_waits_like_one_of_an_unknown_row(store):
    log(store)
    judge(store, 1.0)
    apply(store)
    judge(store, -1.0, environment="staging", ts_ms=NOW_MS + 9)
    assert apply(store) == AppliedScores(0, 0, 1)
    assert (read_sums(store), read_own(store)) == ({"": (1, 1.0, 1.0)}, 1.0)
    assert apply(store, WAITS_MS + 1) == AppliedScores(0, 1, 0)
    assert read_reasons(store) == [("staging", "scores", "no_such_retrieval", 1)]


def test_rows_of_one_id_in_two_environments_have_scores_of_their_own(store):
    log(store)
    log(store, scope=Scope("staging", "default"))
    judge(store, 1.0)
    judge(store, -1.0, environment="staging", comment="slow")
    assert apply(store) == AppliedScores(2, 0, 0)
    with store.read() as connection:
        c = retrievals.c
        query = select(scopes.c.environment, c.feedback).join(scopes, scopes.c.id == c.scope_id)
        assert dict(map(tuple, connection.execute(query))) == {"production": 1.0, "staging": -1.0}
    page = list_page(store, QuestionFilter())
    assert {each.environment: [given.comment for given in each.scores] for each in page.questions} == {
        "production": [""], "staging": ["slow"],
    }  # fmt: skip


def test_of_rows_of_one_id_a_score_belongs_to_that_of_its_service_else_to_the_oldest(store):
    for service in ("answers", "search"):
        log(store, scope=Scope("production", service))
    judge(store, 0.5, "helpful", service="search", pending=FOR_OWN_SERVICE)
    judge(store, 1.0, service="frontend")
    assert apply(store) == AppliedScores(2, 0, 0)
    assert apply(store) == AppliedScores(0, 0, 0)
    with store.read() as connection:
        query = select(scopes.c.service, metric_sums.c.metric).join(scopes, scopes.c.id == metric_sums.c.scope_id)
        found = connection.execute(query.where(metric_sums.c.dimension == "")).all()
    assert sorted(map(tuple, found)) == [("answers", "feedback"), ("search", "helpful")]


def test_a_score_for_the_rows_of_one_service_reaches_no_other(store):
    log(store, scope=Scope("production", "answers"))
    judge(store, 1.0, service="frontend")
    apply(store)
    judge(store, -1.0, service="other", pending=FOR_OWN_SERVICE, ts_ms=NOW_MS + 9)
    judge(store, -1.0, "helpful", service="other", pending=FOR_OWN_SERVICE)
    assert apply(store) == AppliedScores(0, 1, 0)
    assert read_sums(store) == {"": (1, 1.0, 1.0)}
    judge(store, -0.5, "helpful", service="answers", pending=FOR_OWN_SERVICE)
    assert apply(store) == AppliedScores(1, 0, 0)


def test_names_beyond_the_bound_are_dropped_and_counted(store):
    log(store)
    with store.begin() as connection:
        admit_names(connection, {connection.scalar(select(scopes.c.id)): {f"n-{at}" for at in range(MOST_NAMES - 1)}})
    judge(store, 1.0, "one")
    judge(store, 1.0, "two")
    assert apply(store) == AppliedScores(1, 1, 0)
    assert read_reasons(store) == [("production", "scores", "name", 1)]


def test_a_row_from_before_ids_is_named_by_its_number(store):
    with store.begin() as connection:
        connection.execute(insert(retrievals).values(ts_ms=NOW_MS, query="q", score=0.5, feedback=-1.0))
        number = connection.scalar(select(retrievals.c.id))
    judge(store, 1.0, retrieval_id=f"r{number}")
    assert apply(store) == AppliedScores(1, 0, 0)
    assert read_sums(store) == {"": (1, 1.0, 1.0)}
    assert read_bins(store) == {bin_of(1.0): 1}  # the trigger counted no histogram of the row's own number


def test_many_scores_are_applied_in_slices(store):
    names = [f"q-{at:04}" for at in range(450)]
    append_retrievals(store, [Retrieval(TS, "q", 0.5, retrieval_id=name) for name in names])
    with store.begin() as connection:
        rows = [
            {"retrieval_id": name, "name": "feedback", "source": "user", "value": 1.0, "comment": "",
             "ts_ms": NOW_MS, "environment": "production", "service": "default"}
            for name in (*names, *(f"x-{at}" for at in range(1_100)))
        ]  # fmt: skip
        store_scores(connection, rows)
    assert apply(store) == AppliedScores(450, 0, 1_100)
    assert read_sums(store) == {"": (450, 450.0, 450.0)}


@pytest.mark.deep
@pytest.mark.slow
def test_scores_of_a_log_in_clickhouse_are_summed_in_the_store(tmp_path):
    store = Store(f"sqlite:///{tmp_path / 'deck.db'}", create=True, log_url=make_url("clickhouse", tmp_path))
    made = Retrieval(TS, "q", 0.5, arm="blue", documents=["a"])
    as_log(store).append([made.row, Retrieval(TS, "q", 0.5, retrieval_id="mine", feedback=1.0).row])
    judge(store, -1.0, retrieval_id=made.name)
    judge(store, -1.0, retrieval_id="mine")
    judge(store, -1.0, retrieval_id="none")
    assert apply(store) == AppliedScores(2, 0, 1)
    assert read_sums(store) == {"": (2, -2.0, 2.0)}
    assert read_sums(store, "arm") == {"blue": (1, -1.0, 1.0), "": (1, -1.0, 1.0)}
    assert read_bad(store) == {"a": 1}
    store.close()

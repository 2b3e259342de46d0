"""Learned score maps: monotone and frozen, for rows before and after, with sums that equal a loop over the rows."""

import random
from datetime import UTC, datetime, timedelta

import pytest

from core.audit.acts import Act
from core.audit.trail import list_audit
from core.drift.report import report_drift
from core.drift.verdict import DriftStatus
from core.errors import NotFound
from core.log.mapping import map_scores, relearn_scores
from core.log.retrievals import last_days, list_days, list_questions, list_segment_scores
from core.log.score_scales import ScoreMap, learn_map
from core.log.service_operations import save_service
from core.log.services import ServiceSettings
from quarterdeck.recorder import append_retrievals
from quarterdeck.retrieval import Retrieval
from quarterdeck.schema import document_days, retrievals
from quarterdeck.scope import DEFAULT_SCOPE, Scope
from quarterdeck.store import Store

NOW = datetime(2026, 4, 10, 12, tzinfo=UTC)
ME = Act("ada", "another analyzer")


@pytest.mark.parametrize("is_distance", [False, True])
def test_a_better_number_has_a_higher_similarity_on_every_scale_and_beyond_what_was_learned(is_distance: bool) -> None:
    rng = random.Random(1)
    for scale in (1e-4, 1.0, 5_000.0):
        numbers = [scale * rng.lognormvariate(0, 0.8) for _ in range(500)]
        found = learn_map(numbers, is_distance=is_distance)
        tried = sorted([*numbers, -scale, 0.0, 40 * scale, 41 * scale], reverse=is_distance)
        similarities = [found.apply(number) for number in tried]
        assert similarities == sorted(similarities)
        assert all(0 <= each <= 1 for each in similarities)
        assert sum(map(found.apply, numbers)) / 500 == pytest.approx(0.5, abs=0.01)
        assert ScoreMap.read(found.dump(), 1) == found


def test_numbers_that_are_all_the_same_are_in_the_middle() -> None:
    found = learn_map([3.0] * 200, is_distance=False)
    assert found.apply(3.0) == pytest.approx(0.5)
    assert found.apply(2.0) < 0.5 < found.apply(4.0)


def declare(store: Store) -> None:
    """Make the tenant a dimension."""
    save_service(store, ServiceSettings("default", ("tenant",)), ME)


def write(
    store: Store, days: int, *, level: float = 12.0, per_day: int = 20, scope: Scope = DEFAULT_SCOPE, ago: int = 0
) -> None:
    rng = random.Random(days)
    rows = [
        Retrieval(
            NOW - timedelta(days=ago + days - day, minutes=7 * n), f"question {n}", max(0.1, rng.gauss(level, 3)),
            score_kind="bm25", arm=rng.choice(["blue", "green"]), attributes={"tenant": rng.choice("ab")},
            documents=[("a", 1.0), ("b", 0.5)], weight=rng.choice([None, None, 3]), scope=scope,
        )
        for day in range(days)
        for n in range(per_day)
    ]  # fmt: skip
    append_retrievals(store, rows)


def assert_sums_are_those_of_the_rows(store: Store) -> None:
    with store.read() as connection:
        stored = connection.execute(retrievals.select()).all()
        tenths = connection.execute(document_days.select()).all()
    mapped = [(row.score, row.weight or 1, row.arm) for row in stored if row.score is not None]
    days = list_days(store, scope=DEFAULT_SCOPE)
    assert sum(day.count for day in days) == sum(weight for _, weight, _ in mapped)
    assert sum(day.total for day in days) == pytest.approx(sum(score * weight for score, weight, _ in mapped))
    assert sum(sum(day.histogram) for day in days) == sum(weight for _, weight, _ in mapped)
    assert sum(day.unmapped for day in days) == sum(row.weight or 1 for row in stored if row.score is None)
    for arm, listed in list_segment_scores(store, "arm", scope=DEFAULT_SCOPE).items():
        expected = sum(score * weight for score, weight, named in mapped if named == arm)
        assert sum(day.total for day in listed) == pytest.approx(expected)
    tenant = list_segment_scores(store, "tenant", scope=DEFAULT_SCOPE)
    assert sum(day.count for listed in tenant.values() for day in listed) == sum(weight for _, weight, _ in mapped)
    listed = sum(getattr(row, f"t{number}") for row in tenths for number in range(10))
    assert listed == 2 * sum(weight for _, weight, _ in mapped)


def test_rows_wait_for_two_hundred_then_those_before_and_after_get_their_similarity(store: Store) -> None:
    declare(store)
    write(store, 9, per_day=20, ago=5)
    assert map_scores(store, now=NOW) == 0
    report = report_drift(store, scope=DEFAULT_SCOPE, today=NOW.date()).report
    assert report.status is DriftStatus.INSUFFICIENT_DATA
    assert "whose map is learned from the first 200" in report.reason
    write(store, 5, per_day=20)
    assert map_scores(store, now=NOW) == 280
    assert_sums_are_those_of_the_rows(store)
    questions = list_questions(store, last_days(40, until=NOW.date()), scope=DEFAULT_SCOPE)
    assert sum(each.count for each in questions) == 280
    write(store, 2, per_day=30)
    assert map_scores(store, now=NOW) == 60
    assert map_scores(store, now=NOW) == 0
    assert_sums_are_those_of_the_rows(store)


@pytest.mark.deep
def test_a_drop_of_numbers_without_bounds_is_called(store: Store) -> None:
    write(store, 40, ago=5)
    map_scores(store, now=NOW)
    write(store, 5, level=4.0)
    map_scores(store, now=NOW)
    report = report_drift(store, scope=DEFAULT_SCOPE, today=NOW.date()).report
    assert report.status is DriftStatus.DRIFTING
    assert report.changed_on == (NOW - timedelta(days=5)).date()


@pytest.mark.deep
def test_a_map_stays_until_it_is_learned_anew_on_purpose(store: Store) -> None:
    declare(store)
    write(store, 15, ago=15)
    map_scores(store, now=NOW)
    write(store, 100, level=24.0, ago=0, per_day=20)
    map_scores(store, now=NOW)
    high = list_days(store, scope=DEFAULT_SCOPE)[-1].mean
    assert high > 0.9
    entry = relearn_scores(store, DEFAULT_SCOPE, ME)
    assert list_audit(store)[0].entry_id == entry
    assert (list_audit(store)[0].after or {})["versions"] == {"bm25": 2}
    assert list_days(store, scope=DEFAULT_SCOPE)[-1].mean == pytest.approx(0.5, abs=0.1)
    assert_sums_are_those_of_the_rows(store)
    with pytest.raises(NotFound, match="has none"):
        relearn_scores(store, Scope("staging", "default"), ME)


def test_scopes_learn_maps_of_their_own(store: Store) -> None:
    write(store, 15)
    write(store, 15, level=2.0, scope=Scope("staging", "default"))
    map_scores(store, now=NOW)
    means = [
        sum(day.total for day in days) / sum(day.count for day in days)
        for days in (list_days(store, scope=scope) for scope in (DEFAULT_SCOPE, Scope("staging", "default")))
    ]
    assert means == [pytest.approx(0.5, abs=0.06)] * 2

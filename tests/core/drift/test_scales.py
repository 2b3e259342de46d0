"""A change of the embedding model with a map: the reference goes on, no alarm is raised, and no drop is hidden."""

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from statistics import NormalDist

import numpy as np
import pytest

from core.audit.acts import Act
from core.coverage.report import find_threshold
from core.drift.models import find_model_days
from core.drift.operations import save_model_map
from core.drift.report import list_model_maps, report_drift, report_episodes
from core.drift.scales import ModelMap, add_days, find_map, learn_model_map, map_days
from core.drift.verdict import DriftStatus, decide_drift
from core.errors import InvalidInput
from core.log.values import DailyScores
from quarterdeck.recorder import append_retrievals
from quarterdeck.retrieval import Retrieval
from quarterdeck.schema import HISTOGRAM_BINS
from quarterdeck.scope import DEFAULT_SCOPE
from quarterdeck.store import Store

LEVEL, SPREAD = 0.5, 0.12
CHANGED = date(2026, 3, 2)
OLD, NEW = "small-v1", "static-v2"
ACT = Act("ada", "the new index is live")


def rescale(scores: np.ndarray) -> np.ndarray:
    """What the new model gives: 0.2 higher, and half the spread."""
    return np.asarray(LEVEL + 0.2 + (scores - LEVEL) / 2)


def make_day(day: date, scores: np.ndarray) -> DailyScores:
    held = np.clip(scores, 0, 1)
    bins = np.histogram(held, HISTOGRAM_BINS, (0, 1))[0]
    return DailyScores(day, len(held), float(held.sum()), float((held**2).sum()), tuple(bins.tolist()))


def learn(random: np.random.Generator) -> ModelMap:
    before = random.normal(LEVEL, SPREAD, 500)
    after = rescale(before) + random.normal(0, 0.02, 500)
    return learn_model_map(OLD, NEW, before.tolist(), after.tolist(), [1.0] * 500)


def fill(store: Store, random: np.random.Generator, *, after: int, drop: float = 0.0, drop_day: int = 7) -> date:
    """Write 50 days of the old model and some of the new one; return the day after the last."""
    rows = []
    for at in range(-50, after):
        scores = random.normal(LEVEL, SPREAD, 300) + random.normal(0, 0.004)
        if at >= 0:
            scores = rescale(scores) - (drop if at >= drop_day else 0.0)
        day = datetime(CHANGED.year, CHANGED.month, CHANGED.day, 8, tzinfo=UTC) + timedelta(days=at)
        rows += [
            Retrieval(day + timedelta(seconds=n), f"{at} {n}", float(score), model=NEW if at >= 0 else OLD)
            for n, score in enumerate(np.clip(scores, 0, 1))
        ]
    append_retrievals(store, rows)
    return CHANGED + timedelta(days=after)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(f"sqlite:///{tmp_path}/deck.db", create=True)


def test_a_map_is_monotone_and_goes_back_and_tells_its_error() -> None:
    found = learn(np.random.default_rng(1))
    assert found.error < 0.01
    assert found.apply(LEVEL) == pytest.approx(LEVEL + 0.2, abs=0.01)
    scores = np.linspace(0, 1, 101)
    assert all(a <= b for a, b in pairwise(map(found.apply, scores)))
    assert [found.invert().apply(found.apply(score)) for score in (0.3, 0.5, 0.7)] == pytest.approx([0.3, 0.5, 0.7])
    assert find_map([found], NEW, OLD) == found.invert()
    assert find_map([found], "other", OLD) is None
    assert ModelMap.read(found.to_audit()) == found


def test_mapped_days_have_the_mean_and_the_spread_of_the_other_scale() -> None:
    random = np.random.default_rng(2)
    scores = random.normal(LEVEL, SPREAD, 5_000)
    (found,) = map_days([make_day(CHANGED, scores)], learn(random))
    wanted = make_day(CHANGED, rescale(scores))
    assert found.mean == pytest.approx(wanted.mean, abs=0.004)
    assert found.total_squares / found.count - found.mean**2 == pytest.approx((SPREAD / 2) ** 2, rel=0.15)
    assert sum(found.histogram) == found.count
    (both,) = add_days([found], [wanted])
    assert (both.count, sum(both.histogram)) == (10_000, 10_000)


def test_too_few_or_constant_questions_make_no_map() -> None:
    with pytest.raises(InvalidInput, match="at least 100"):
        learn_model_map(OLD, NEW, [0.5] * 20, [0.6] * 20, [1.0] * 20)
    with pytest.raises(InvalidInput, match="all the same"):
        learn_model_map(OLD, NEW, [0.5] * 200, list(np.linspace(0, 1, 200)), [1.0] * 200)


@pytest.mark.deep
@pytest.mark.parametrize("after", [1, 3, 10])
def test_a_change_of_the_model_raises_no_alarm_and_keeps_the_reference(store: Store, after: int) -> None:
    random = np.random.default_rng(3)
    today = fill(store, random, after=after)
    save_model_map(store, learn(random), ACT)
    found = report_drift(store, scope=DEFAULT_SCOPE, today=today)
    assert found.report.status is DriftStatus.STABLE
    assert found.report.baseline_from is not None
    assert found.report.baseline_from < CHANGED, "the reference did not start anew"
    assert found.report.baseline_avg_score == pytest.approx(LEVEL + 0.2, abs=0.01)
    assert found.report.notes[0].startswith(f"The embedding model changed from {OLD} to {NEW} on 2 Mar 2026. Earlier")
    assert all(each.status is not DriftStatus.DRIFTING for _, listed in found.segments for each in listed)
    assert report_episodes(store, scope=DEFAULT_SCOPE, today=today) == ()
    threshold = find_threshold(store, scope=DEFAULT_SCOPE, today=today)
    assert threshold == pytest.approx(LEVEL + 0.2 - 1.28 * SPREAD / 2, abs=0.03)


def test_a_drop_a_week_after_the_change_is_called(store: Store) -> None:
    random = np.random.default_rng(4)
    today = fill(store, random, after=11, drop=0.05)
    save_model_map(store, learn(random), ACT)
    found = report_drift(store, scope=DEFAULT_SCOPE, today=today)
    assert found.report.status is DriftStatus.DRIFTING
    assert found.report.changed_on is not None
    assert abs((found.report.changed_on - (CHANGED + timedelta(days=7))).days) <= 1


def to_cosine(ranks: np.ndarray) -> np.ndarray:
    """What a search by words gives, whose scores are mapped to their ranks, becomes a cosine."""
    return np.array([NormalDist(0.55, 0.1).inv_cdf(rank) for rank in np.clip(ranks, 0.001, 0.999)])


def to_rank(scores: np.ndarray) -> np.ndarray:
    """The share of usual scores that a score is above."""
    return np.array([NormalDist(LEVEL, SPREAD).cdf(score) for score in scores])


CHANGES: dict[str, tuple[Callable[[np.ndarray], np.ndarray], Callable[[np.ndarray], np.ndarray], int]] = {
    "higher, half the spread": (np.asarray, rescale, 300),
    "lower": (np.asarray, lambda scores: scores - 0.2, 300),
    "twice the spread": (lambda scores: LEVEL + (scores - LEVEL) / 2, lambda scores: 2 * scores - LEVEL, 300),
    "from words to vectors": (to_rank, lambda scores: to_cosine(to_rank(scores)), 300),
    "50 a day": (np.asarray, rescale, 50),
}


@pytest.mark.parametrize("kind", CHANGES)
@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.deep)])
@pytest.mark.parametrize("drop_day", [None, 0, 7])
def test_no_change_of_the_scale_is_an_alarm_and_none_hides_a_drop(kind: str, seed: int, drop_day: int | None) -> None:
    """Half of what the models say of a question is their own, and the drop may come with the change itself."""
    before, after, a_day = CHANGES[kind]
    random = np.random.default_rng(seed)
    shared, own = random.normal(LEVEL, SPREAD, 500), random.normal(0, 0.03, (2, 500))
    pairs = [np.clip(scale(shared + noise), 0, 1) for scale, noise in zip((before, after), own, strict=True)]
    found = learn_model_map(OLD, NEW, *(each.tolist() for each in pairs), [1.0] * 500)
    models: dict[str, list[DailyScores]] = {OLD: [], NEW: []}
    last = 10 if drop_day is None else drop_day + 8
    for at in range(-50, last):
        scores = random.normal(LEVEL, SPREAD, a_day) + random.normal(0, 0.004)
        moved = (after if at >= 0 else before)(scores + random.normal(0, 0.03, a_day))
        if drop_day is not None and at >= drop_day:
            moved = moved - 0.05
        models[NEW if at >= 0 else OLD].append(make_day(CHANGED + timedelta(days=at), moved))
    today = CHANGED + timedelta(days=last - 1)
    joined = find_model_days(models, today=today, maps=[found])
    assert joined
    report = decide_drift(joined.days, today=today, window_days=7, baseline_days=30)
    if drop_day is None:
        assert report.status is DriftStatus.STABLE
        return
    assert report.status is DriftStatus.DRIFTING
    assert report.changed_on
    assert abs((report.changed_on - (CHANGED + timedelta(days=drop_day))).days) <= 1


@pytest.mark.deep
def test_the_way_back_goes_on_with_the_same_map(store: Store) -> None:
    random = np.random.default_rng(5)
    fill(store, random, after=5)
    first = datetime(CHANGED.year, CHANGED.month, CHANGED.day, 8, tzinfo=UTC) + timedelta(days=5)
    append_retrievals(
        store,
        [
            Retrieval(first + timedelta(days=day, seconds=n), f"back {day} {n}", float(score), model=OLD)
            for day in range(4)
            for n, score in enumerate(np.clip(random.normal(LEVEL, SPREAD, 300), 0, 1))
        ],
    )
    entry = save_model_map(store, learn(random), ACT)
    assert entry
    assert [(each.former, each.model) for each in list_model_maps(store, DEFAULT_SCOPE)] == [(OLD, NEW)]
    found = report_drift(store, scope=DEFAULT_SCOPE, today=CHANGED + timedelta(days=9)).report
    assert found.status is DriftStatus.STABLE
    assert found.recent_avg_score == pytest.approx(LEVEL, abs=0.01)
    assert found.notes[0].startswith(f"The embedding model changed from {NEW} to {OLD}")

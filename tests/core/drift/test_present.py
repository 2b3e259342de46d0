"""One scale around a change of the embedding model: bounds, scores and days of both models, before, on and after it."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
import pytest

from core.alerts.metrics import find_metric
from core.alerts.values import AlertSources, ScopeValues
from core.audit.acts import Act
from core.causes.changes import compare_same_questions
from core.digest.periods import DigestPeriod
from core.digest.report import read_figures
from core.drift.operations import save_model_map
from core.drift.present import LowScores, PresentScale, carry_days, find_scale, make_scale
from core.drift.report import find_present_scale, list_days_on_scale, report_drift
from core.drift.scales import ModelMap
from core.log.values import DailyScores
from quarterdeck.recorder import append_retrievals
from quarterdeck.retrieval import Retrieval
from quarterdeck.schema import HISTOGRAM_BINS
from quarterdeck.scope import DEFAULT_SCOPE
from quarterdeck.store import Store

OLD, NEW = "small-v1", "static-v2"
CHANGED = date(2026, 3, 2)
MAP = ModelMap(OLD, NEW, ((0.2, 0.5), (0.8, 0.8)), 0.004, 400)  # half the spread: 0.5 becomes 0.65
NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)


def make_day(day: date, scores: list[float], **fields: Any) -> DailyScores:
    bins = np.histogram(scores, HISTOGRAM_BINS, (0, 1))[0]
    squares = float(np.square(scores).sum())
    return DailyScores(day, len(scores), float(np.sum(scores)), squares, tuple(bins.tolist()), **fields)


def log(store: Store, at: int, model: str, scores: list[float]) -> None:
    """Log a day, by its distance from the change; each of its questions has a text of its own."""
    append_retrievals(
        store,
        [
            Retrieval(NOON + timedelta(days=at, seconds=n), f"how do I set {n}", score, model=model)
            for n, score in enumerate(scores)
        ],
    )


def fill(store: Store, *, until: int) -> None:
    """Forty days at 0.5 with one question in ten at 0.3, the same on the new scale from the change on."""
    for at in range(-40, until):
        model, well, low = (OLD, 0.5, 0.3) if at < 0 else (NEW, 0.65, 0.55)
        log(store, at, model, [low if n % 10 == 0 else well + n / 10_000 for n in range(60)])


def test_bounds_and_scores_of_other_models_are_carried_both_ways() -> None:
    scale = make_scale([MAP], NEW)
    assert scale.list_bounds(0.65) == {OLD: pytest.approx(0.5)}
    assert scale.list_bounds(None) == {OLD: None}
    assert [scale.carry(name, 0.5) for name in (OLD, NEW, None, "other")] == pytest.approx([0.65, 0.5, 0.5, 0.5])
    low = LowScores(0.65, scale)
    assert [low.of(name) for name in (OLD, NEW, None)] == pytest.approx([0.5, 0.65, 0.65])
    assert [low.holds(OLD, 0.49), low.holds(OLD, 0.51), low.holds(NEW, 0.51), low.holds(NEW, None)] == [
        True, False, True, False
    ]  # fmt: skip
    back = make_scale([MAP], OLD)
    assert back.list_bounds(0.5) == {NEW: pytest.approx(0.65)}
    assert make_scale([MAP], "other").maps == ()


def test_a_day_on_which_both_models_answered_is_carried_in_part() -> None:
    old, new = [0.4, 0.5, 0.6], [0.7]
    whole = make_day(CHANGED, [*old, *new], empty=2, failed=1, capped=0.56)
    (found,) = carry_days(
        [whole], {OLD: [make_day(CHANGED, old)], NEW: [make_day(CHANGED, new)]}, make_scale([MAP], NEW)
    )
    assert found.total / found.count == pytest.approx(np.mean([0.6, 0.65, 0.7, 0.7]), abs=0.005)
    assert found.capped == pytest.approx(0.56 + 0.75 * 0.15, abs=0.005)
    assert (found.count, found.empty, found.failed, sum(found.histogram)) == (4, 2, 1, 4)
    assert carry_days([whole], {}, PresentScale()) == (whole,)


def test_the_scale_is_that_of_the_model_that_answered_most_yesterday() -> None:
    before = {OLD: [make_day(CHANGED - timedelta(days=1), [0.5] * 9)], NEW: [make_day(CHANGED, [0.6] * 9)]}
    assert find_scale(before, [MAP], today=CHANGED - timedelta(days=1)).model == OLD
    after = find_scale(before, [MAP], today=CHANGED)
    assert (after.model, [each.former for each in after.maps]) == (NEW, [OLD])
    assert find_scale({"": before[OLD]}, [MAP], today=CHANGED) == PresentScale()


@pytest.mark.parametrize("until", [0, 1, 4])
def test_days_of_both_models_are_read_on_one_scale(store: Store, until: int) -> None:
    """The day of the swap itself is carried back, as the scale is still the former model's."""
    fill(store, until=until)
    if until == 0:
        log(store, 0, NEW, [0.65] * 30)
    save_model_map(store, MAP, Act("ada", "moves"))
    today = CHANGED + timedelta(days=until)
    scale = find_present_scale(store, DEFAULT_SCOPE, today=today)
    assert scale.model == (NEW if until else OLD)
    level = 0.64 if until else 0.48
    days = list_days_on_scale(store, scope=DEFAULT_SCOPE, scale=scale)
    assert [day.mean for day in days] == pytest.approx([level] * len(days), abs=0.025)
    shown = report_drift(store, scope=DEFAULT_SCOPE, today=today).days
    assert [day.day for day in shown] == [day.day for day in days]
    assert [day.mean for day in shown] == pytest.approx([level] * len(days), abs=0.025)


def test_alerts_and_the_digest_see_no_jump(store: Store) -> None:
    fill(store, until=3)
    save_model_map(store, MAP, Act("ada", "moves"))
    values = ScopeValues(store, DEFAULT_SCOPE, AlertSources(), now=NOON + timedelta(days=3), days=14)
    means, shares = (
        [day.value for day in values.list_days(find_metric(name))][:-1] for name in ("mean_score", "low_share")
    )
    assert means == pytest.approx([0.64] * 13, abs=0.01)
    assert shares == pytest.approx([0.1] * 13, abs=0.05)
    period = DigestPeriod(CHANGED - timedelta(days=4), CHANGED + timedelta(days=2))
    scale = find_present_scale(store, DEFAULT_SCOPE, today=CHANGED + timedelta(days=3))
    found = read_figures(store, DEFAULT_SCOPE, period, scale=scale)
    assert found.mean_score == pytest.approx(0.64, abs=0.01)


def test_questions_asked_before_and_after_a_drop_are_compared_on_one_scale(store: Store) -> None:
    fill(store, until=3)
    for at in range(3, 6):
        log(store, at, NEW, [0.6] * 60)
    save_model_map(store, MAP, Act("ada", "moves"))
    today = CHANGED + timedelta(days=6)
    found = report_drift(store, scope=DEFAULT_SCOPE, today=today)
    dropped = CHANGED + timedelta(days=3)
    report = replace(found.report, changed_on=dropped)
    same = compare_same_questions(store, report, found.days, today=today, scale=found.scale)
    assert same
    assert same.before == pytest.approx(0.64, abs=0.01)
    assert same.after == pytest.approx(0.6)

"""The sequential verdict of any metric: it fires, it stays quiet, and it says the same whenever it is asked."""

from collections.abc import Callable
from dataclasses import replace
from datetime import date, timedelta

import numpy as np
import pytest

from core.alerts.book import read_states
from core.alerts.checking import check_alerts
from core.alerts.metrics import METRICS, Unit, find_metric
from core.alerts.operations import save_alert_rule
from core.alerts.readings import DayValue
from core.alerts.report import backtest_rule
from core.alerts.rules import AlertKind, AlertRule, Level, WithoutData
from core.alerts.sequential import LEARNED, judge_sequential, list_changes, make_history
from core.alerts.states import AlertStatus
from core.alerts.values import AlertSources
from core.metrics.definition import MetricDefinition, MetricSource, Statistic
from core.metrics.operations import add_metric
from quarterdeck.recorder import append_retrievals
from quarterdeck.retrieval import Retrieval
from quarterdeck.store import Store
from tests.core.alerts.receivers import ANSWERS, ME, NOW

FIRST = date(2026, 1, 5)  # a Monday
DAYS, CHANGED = 120, 100
Values = Callable[[np.random.Generator, np.ndarray], np.ndarray]  # of each day, given by how much it is worse


def is_weekend(at: np.ndarray) -> np.ndarray:
    return at % 7 >= 5


def share_of(usual: float, questions: int) -> Values:
    return lambda rng, worse: rng.binomial(questions, np.minimum(1, usual * worse)) / questions


def latency(rng: np.random.Generator, worse: np.ndarray) -> np.ndarray:
    return 1_200 * worse * np.exp(rng.normal(0, 0.06, len(worse)) - 0.2 * is_weekend(np.arange(len(worse))))


def volume(rng: np.random.Generator, worse: np.ndarray) -> np.ndarray:
    busy = np.where(is_weekend(np.arange(len(worse))), 0.05, 1.0)
    return rng.poisson(2_000 * busy / worse * np.exp(rng.normal(0, 0.08, len(worse)))).astype(float)


KINDS: dict[str, Values] = {
    "failed_share": share_of(0.02, 2_000),
    "empty_share": share_of(0.1, 1_000),
    "latency_p95": latency,
    "cost_usd": lambda rng, worse: 3 * worse * np.exp(rng.normal(0, 0.1, len(worse))),
    "volume": volume,
    "feedback": lambda rng, worse: 0.4 - 0.3 * (worse - 1) + rng.normal(0, 0.04, len(worse)),
}


def make_days(
    metric: str, *, seed: int = 5, worse: float = 1.0, days: int = DAYS, since: int = CHANGED
) -> list[DayValue]:
    factor = np.where(np.arange(days) >= since, worse, 1.0)
    values = KINDS[metric](np.random.default_rng(seed), factor)
    return [DayValue(FIRST + timedelta(days=at), float(value), 2_000) for at, value in enumerate(values)]


def shape(metric: str) -> dict[str, bool]:
    watched = find_metric(metric)
    return {"falls": watched.falls, "is_share": watched.unit is Unit.SHARE}


def judge(metric: str, days: list[DayValue], **given):
    rule = AlertRule("ops", metric, AlertKind.VERDICT, **given)
    return judge_sequential(rule, days, today=days[-1].day + timedelta(days=1), **shape(metric))


@pytest.mark.parametrize("metric", KINDS)
def test_a_change_for_the_worse_is_called_and_dated(metric: str) -> None:
    found = judge(metric, make_days(metric, worse=1.6))
    assert found.level is Level.ALERT
    changed = date.fromisoformat(found.evidence["changed_on"])
    assert abs((changed - FIRST).days - CHANGED) <= 2
    word = "fell from" if find_metric(metric).falls else "rose from"
    assert word in found.reason and f"around {changed}" in found.reason


@pytest.mark.parametrize("metric", KINDS)
@pytest.mark.parametrize("worse", [1.0, 0.6], ids=["as usual", "better"])
def test_quiet_days_and_a_change_for_the_better_are_no_alarm(metric: str, worse: float) -> None:
    found = judge(metric, make_days(metric, worse=worse))
    assert (found.level, found.changed_on) == (Level.OK, "")


@pytest.mark.parametrize("metric", ["failed_share", "latency_p95", "volume"])
def test_one_odd_day_is_no_alarm(metric: str) -> None:
    days = make_days(metric)
    odd = make_days(metric, worse=1.8)
    days[CHANGED] = odd[CHANGED]
    assert judge(metric, days).level is Level.OK


@pytest.mark.deep
@pytest.mark.parametrize("metric", ["failed_share", "volume"])
def test_a_verdict_uses_no_later_day(metric: str) -> None:
    """What a backtest says is what was said on the day."""
    days = make_days(metric, worse=1.6)
    whole = make_history(days, unit=find_metric(metric).unit, **shape(metric))
    part = make_history(days[: CHANGED - 10], unit=find_metric(metric).unit, **shape(metric))
    for name in ("ordinal", "count", "mean", "variance", "spread"):
        assert getattr(whole, name)[: CHANGED - 10].tolist() == getattr(part, name).tolist()
    [change] = list_changes(days, find_metric(metric), today=FIRST + timedelta(days=DAYS), **shape(metric))
    called = [
        at for at in range(CHANGED, DAYS) if judge(metric, days[: at + 1]).level is Level.ALERT
    ]  # fmt: skip
    assert FIRST + timedelta(days=called[0]) == change.called_on
    assert called == list(range(called[0], DAYS))


@pytest.mark.deep
def test_an_alarm_is_named_by_the_day_of_its_call_while_its_date_is_refined() -> None:
    days = make_days("failed_share", worse=1.6)
    names = {judge("failed_share", days[:at]).changed_on for at in range(CHANGED, DAYS)} - {""}
    assert len(names) == 1


def test_an_alarm_is_over_once_the_level_is_back() -> None:
    factor = np.where((np.arange(160) >= 100) & (np.arange(160) < 120), 1.6, 1.0)
    values = KINDS["failed_share"](np.random.default_rng(5), factor)
    days = [DayValue(FIRST + timedelta(days=at), float(value), 2_000) for at, value in enumerate(values)]
    assert judge("failed_share", days[:120]).level is Level.ALERT
    assert judge("failed_share", days).level is Level.OK
    [change] = list_changes(
        days, find_metric("failed_share"), today=FIRST + timedelta(days=160), **shape("failed_share")
    )
    assert change.ended_on and 119 <= (change.ended_on - FIRST).days <= 135
    assert change.before == pytest.approx(0.02, abs=0.003) and change.since == pytest.approx(0.032, abs=0.004)


def test_too_few_days_and_none_lately_say_nothing() -> None:
    few = judge("failed_share", make_days("failed_share", days=LEARNED - 1))
    assert (few.level, few.is_missing) == (None, False)
    assert few.reason == f"Share that failed has a value on {LEARNED - 1} days; its verdict needs {LEARNED}."
    days = make_days("failed_share")
    rule = AlertRule("ops", "failed_share", AlertKind.VERDICT, no_data=WithoutData.ALERT, no_data_days=2)
    late = {
        ago: judge_sequential(rule, days, today=days[-1].day + timedelta(days=ago), **shape("failed_share"))
        for ago in (1, 2, 3)
    }
    assert [late[ago].is_missing for ago in late] == [False, False, True]


@pytest.mark.parametrize("value", [0.0, 0.37])
def test_values_that_never_change_are_quiet(value: float) -> None:
    days = [DayValue(FIRST + timedelta(days=at), value, 50) for at in range(80)]
    for metric in ("failed_share", "cost_usd", "feedback"):
        assert judge(metric, days).level is Level.OK


@pytest.mark.deep
def test_watch_can_be_a_warning() -> None:
    """It comes before the alarm on the way to it."""
    days = make_days("failed_share", worse=1.3)
    levels = [judge("failed_share", days[: at + 1], from_level=Level.WARNING).level for at in range(CHANGED, DAYS)]
    assert levels.index(Level.WARNING) < levels.index(Level.ALERT)
    without = [judge("failed_share", days[: at + 1]).level for at in range(CHANGED, DAYS)]
    assert set(without) == {Level.OK, Level.ALERT}


def test_every_metric_by_day_can_be_judged_by_a_verdict() -> None:
    for metric in METRICS:
        assert metric.has_verdict == (metric.name != "coverage_gap")
    AlertRule("ops", "own:clicks", AlertKind.VERDICT)


def log_failures(store: Store, *, days: int, bad: int, share: tuple[int, int] = (1, 10), asked: int = 25) -> None:
    """Write days of questions of which so many failed, more on the last ones; they are slow, too."""
    rows = [
        Retrieval(
            NOW - timedelta(days=ago, seconds=n), f"q{n}", None if n < share[ago <= bad] else 0.7, scope=ANSWERS,
            error="timeout" if n < share[ago <= bad] else None, latency_ms=200.0 if ago > bad else 600.0,
        )
        for ago in range(1, days + 1)
        for n in range(asked)
    ]  # fmt: skip
    append_retrievals(store, rows)


def test_a_rule_by_the_verdict_of_a_share_fires_and_is_backtested(store: Store) -> None:
    log_failures(store, days=50, bad=6)
    rule = AlertRule("ops", "failed_share", AlertKind.VERDICT)
    save_alert_rule(store, rule, ME)
    assert check_alerts(store, "production", now=NOW) == ("ops: share that failed of answers is firing",)
    states, _ = read_states(store, "production", "ops")
    assert states["answers"].status is AlertStatus.FIRING
    assert "rose from 4.0% to 40.0% around 2026-03-14" in states["answers"].reason
    found = backtest_rule(store, rule, AlertSources(), scope=ANSWERS, now=NOW)
    assert [alarm.began_on for alarm in found.alarms] == [date(2026, 3, 14)]
    assert found.false_alarms.a_year is not None and "simulated" in found.false_alarms.basis


def test_an_own_metric_is_judged_in_its_own_direction(store: Store) -> None:
    """Less is better for this one, and the same days are no alarm where more is."""
    log_failures(store, days=50, bad=6)
    for name, better in (("slowness", False), ("patience", True)):
        wanted = MetricDefinition(name, MetricSource.LATENCY, Statistic.MEAN, is_higher_better=better)
        add_metric(store, wanted, ME)
        save_alert_rule(store, AlertRule(name, f"own:{name}", AlertKind.VERDICT), ME)
    check_alerts(store, "production", now=NOW)
    states = {name: read_states(store, "production", name)[0]["answers"].status for name in ("slowness", "patience")}
    assert states == {"slowness": AlertStatus.FIRING, "patience": AlertStatus.OK}


def test_a_verdict_is_read_anew_on_the_next_day(store: Store) -> None:
    log_failures(store, days=50, bad=0)
    rule = AlertRule("ops", "failed_share", AlertKind.VERDICT)
    save_alert_rule(store, rule, ME)
    check_alerts(store, "production", now=NOW)
    assert read_states(store, "production", "ops")[0]["answers"].status is AlertStatus.OK
    later = NOW + timedelta(days=4)
    rows = [
        Retrieval(later - timedelta(days=ago, seconds=n), f"q{n}", None, scope=ANSWERS, error="timeout")
        for ago in range(1, 4)
        for n in range(25)
    ]
    append_retrievals(store, rows)
    check_alerts(store, "production", now=later)
    assert read_states(store, "production", "ops")[0]["answers"].status is AlertStatus.FIRING


def test_a_rule_by_the_verdict_has_no_limits() -> None:
    rule = AlertRule("ops", "latency_p95", AlertKind.VERDICT)
    assert replace(rule, from_level=Level.WARNING).from_level is Level.WARNING

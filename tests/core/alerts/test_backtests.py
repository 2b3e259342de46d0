"""What a rule would have done, and how many false alarms a year it would bring."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import numpy as np
import pytest

from core.alerts.backtests import (
    Backtest,
    FalseAlarms,
    PastAlarm,
    _count_alarms,
    describe_backtest,
    expect_false_alarms,
    find_quiet,
    name_causes,
    replay_days,
)
from core.alerts.readings import DayValue
from core.alerts.report import backtest_rule, choose_backtest_scope
from core.alerts.rules import AlertKind, AlertRule, Level, LimitSide, WithoutData
from core.alerts.values import AlertSources
from core.causes.timeline import ChangeKind, TimelineChange
from core.drift.episodes import DatedEpisode, EpisodeKind
from core.errors import InvalidInput
from quarterdeck.scope import Scope
from tests.core.alerts.receivers import ANSWERS, NOW, drop, fail

FIRST = date(2026, 1, 1)
RULE = AlertRule("ops", "failed_share", AlertKind.THRESHOLD, side=LimitSide.ABOVE, alert=0.05)


def days(*values: float | None) -> list[DayValue]:
    return [DayValue(FIRST + timedelta(days=at), value, 100) for at, value in enumerate(values)]


def change(day: date, kind: ChangeKind = ChangeKind.FLAG, reach: float = 1.0) -> TimelineChange:
    at = datetime(day.year, day.month, day.day, 9, tzinfo=UTC)
    return TimelineChange(at, kind, "use_hyde", f"use_hyde on {day}", "ada", "", reach=reach)


def replayed(rule: AlertRule, *values: float | None) -> list[tuple[int, int, int | None]]:
    found = replay_days(rule, days(*values), first=FIRST, last=FIRST + timedelta(days=len(values) - 1))
    return [
        tuple(None if day is None else (day - FIRST).days for day in (a.began_on, a.alerted_on, a.ended_on))
        for a in found
    ]


def test_each_alarm_has_its_first_bad_day_its_call_and_its_end() -> None:
    assert replayed(RULE, 0, 0.1, 0.2, 0, 0.1) == [(1, 1, 2), (4, 4, None)]
    assert replayed(replace(RULE, for_days=2), 0, 0.1, 0.2, 0, 0.1, 0) == [(1, 2, 2)]
    assert replayed(RULE, 0, 0, 0) == []


def test_days_without_data_end_no_alarm_unless_the_rule_says_so() -> None:
    assert replayed(RULE, 0, 0.1, None, 0.1, 0) == [(1, 1, 3)]
    assert replayed(replace(RULE, no_data=WithoutData.OK), 0, 0.1, None, 0.1, 0) == [(1, 1, 1), (3, 3, 3)]
    assert replayed(replace(RULE, no_data=WithoutData.ALERT), 0, 0, None, 0) == [(2, 2, 2)]


def test_no_data_is_no_alarm_before_its_days() -> None:
    rule = replace(RULE, no_data=WithoutData.ALERT, no_data_days=15)
    assert replayed(rule, 0, *[None] * 14) == []
    assert replayed(rule, 0, *[None] * 15) == [(15, 15, None)]


def test_the_state_watch_has_no_stated_rate() -> None:
    assert expect_false_alarms(AlertRule("ops"), ()).a_year == 0.5
    assert expect_false_alarms(AlertRule("ops", from_level=Level.WARNING), ()).a_year is None


def test_the_fast_count_of_the_bootstrap_is_the_rule_itself() -> None:
    rng = np.random.default_rng(5)
    for for_days in (1, 2, 3):
        for side in LimitSide:
            rule = replace(RULE, side=side, alert=0.5, for_days=for_days)
            years = rng.random((20, 60))
            slow = [len(replayed(rule, *year)) for year in years]
            assert _count_alarms(rule, years).tolist() == slow


def test_a_cause_is_a_change_that_users_noticed_shortly_before() -> None:
    alarm = PastAlarm(FIRST + timedelta(days=10), FIRST + timedelta(days=11), None, Level.ALERT)

    def causes(*changes: TimelineChange) -> int:
        return len(name_causes([alarm], changes)[0].causes)

    assert [causes(change(FIRST + timedelta(days=at))) for at in (6, 7, 10, 11)] == [0, 1, 1, 0]
    assert causes(change(alarm.began_on, ChangeKind.LEVEL), change(alarm.began_on, reach=0.0)) == 0


def test_quiet_days_are_outside_drops_outages_and_alarms_with_a_cause() -> None:
    found = days(*[0.01] * 10, None)
    episode = DatedEpisode(EpisodeKind.DROP, FIRST, FIRST, FIRST + timedelta(days=2), -0.1)
    alarms = [
        PastAlarm(FIRST + timedelta(days=4), FIRST + timedelta(days=4), FIRST + timedelta(days=5), Level.ALERT, ("x",)),
        PastAlarm(FIRST + timedelta(days=7), FIRST + timedelta(days=7), None, Level.ALERT),
    ]
    quiet = find_quiet(found, alarms, [episode], last=FIRST + timedelta(days=10))
    assert [(day.day - FIRST).days for day in quiet] == [3, 6, 7, 8, 9]


def test_the_expected_false_alarms_are_those_of_a_simulated_decade() -> None:
    rng = np.random.default_rng(11)
    rates = []
    for _ in range(40):
        rates.append(expect_false_alarms(RULE, days(*rng.normal(0.03, 0.01, 180))).a_year)
    truth = 365 * 0.02275 * (1 - 0.02275)  # runs of days beyond two standard deviations
    assert abs(float(np.mean(rates)) - truth) < 0.15 * truth


def test_weekdays_that_pass_the_limit_together_are_one_alarm_a_week() -> None:
    week = [0.01] * 5 + [0.1] * 2
    found = expect_false_alarms(RULE, days(*week * 20))
    assert found.a_year == pytest.approx(52, abs=6)


def test_no_alarm_in_the_quiet_days_is_not_never() -> None:
    found = expect_false_alarms(RULE, days(*[0.01] * 90))
    assert (found.a_year, found.low, found.high) == (0.0, 0.0, 0.0)
    assert "at most about 12 a year" in found.basis
    few = expect_false_alarms(RULE, days(*[0.01] * 27))
    assert few.a_year is None and "27 quiet days are too few" in few.basis


def test_verdicts_have_the_rate_of_their_method() -> None:
    assert expect_false_alarms(AlertRule("ops"), ()).a_year == 0.5
    canary = expect_false_alarms(AlertRule("ops", "canary"), ())
    assert canary.a_year is None and "5%" in canary.basis


def test_a_backtest_is_told_in_two_sentences() -> None:
    alarms = tuple(
        PastAlarm(FIRST + timedelta(days=at), FIRST + timedelta(days=at), None, Level.ALERT, causes)
        for at, causes in ((2, ("a",)), (30, ()), (60, ("b",)))
    )
    found = Backtest(FIRST, FIRST + timedelta(days=89), 90, alarms, FalseAlarms(1.4, 0.0, 4.0, "from quiet days"))
    assert describe_backtest(found) == (
        "It would have alerted 3 times in 90 days, on 3 Jan, 31 Jan and 2 Mar; 2 have a cause. "
        "Expected false alarms: 1.4 a year (0 to 4 in most years); from quiet days."
    )
    assert describe_backtest(replace(found, alarms=())).startswith("It would not have alerted in 90 days. ")
    assert "once in 90 days, on 3 Jan; 1 has a cause" in describe_backtest(replace(found, alarms=alarms[:1]))


def test_a_threshold_is_replayed_on_a_real_log_with_its_causes(store) -> None:
    fail(store, days={20: 5, 10: 5, 9: 5})
    asked = []

    def list_changes(scope: Scope, since: datetime) -> list[TimelineChange]:
        asked.append((scope, since))
        return [change((NOW - timedelta(days=11)).date())]

    found = backtest_rule(store, RULE, AlertSources(changes=list_changes), scope=ANSWERS, now=NOW)
    assert [(a.alerted_on, a.ended_on, len(a.causes)) for a in found.alarms] == [
        (date(2026, 2, 28), date(2026, 2, 28), 0), (date(2026, 3, 10), date(2026, 3, 11), 1),
    ]  # fmt: skip
    assert (found.days, found.with_data, asked[0][0]) == (90, 30, ANSWERS)
    assert found.false_alarms.a_year == pytest.approx(365 / 28, rel=0.3)


def test_the_verdict_is_replayed_by_its_episodes(store) -> None:
    drop(store)
    rule = AlertRule("ops", from_level=Level.WARNING)
    found = backtest_rule(store, rule, AlertSources(), scope=ANSWERS, now=NOW)
    assert [alarm.began_on for alarm in found.alarms] == [date(2026, 3, 15)]
    assert len(found.notes) == 1
    with pytest.raises(InvalidInput, match="no history"):
        backtest_rule(store, AlertRule("ops", "canary"), AlertSources(), scope=ANSWERS, now=NOW)


def test_a_backtest_is_of_one_service(store) -> None:
    drop(store)
    assert choose_backtest_scope(store, RULE, "production") == ANSWERS
    drop(store, Scope("production", "search"))
    with pytest.raises(InvalidInput, match="^service: name one for the backtest: answers, search"):
        choose_backtest_scope(store, RULE, "production")
    assert choose_backtest_scope(store, replace(RULE, service="search"), "production").service == "search"

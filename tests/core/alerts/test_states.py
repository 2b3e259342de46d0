import json
from dataclasses import replace
from datetime import date, timedelta

import pytest

from core.alerts.readings import DayValue, Reading, judge_canaries, judge_days, judge_drift
from core.alerts.rules import AlertKind, AlertRule, Level, LimitSide, WithoutData
from core.alerts.states import (
    AlertState,
    AlertStatus,
    Told,
    apply_reading,
    convert_told,
    find_due,
    read_state,
    resolve,
    snooze,
    write_state,
)
from core.drift.verdict import DriftReport, DriftStatus
from core.rollouts.canary import CanaryCall, CanaryVerdict
from quarterdeck.clock import DAY_MS
from quarterdeck.scope import Scope

RULE = AlertRule("ops")
SHARE = AlertRule("ops", "failed_share", AlertKind.THRESHOLD, side=LimitSide.ABOVE, warning=0.02, alert=0.05)
OK, WARNING, FIRING = AlertStatus.OK, AlertStatus.WARNING, AlertStatus.FIRING
TODAY = date(2026, 3, 20)
SCOPE = Scope("production", "answers")


def report(status: DriftStatus, changed_on: date | None = None) -> DriftReport:
    return DriftReport(status, "because", "do this", changed_on=changed_on)


def told_by(state: AlertState, reading: Reading, rule: AlertRule = RULE, *, now_ms: int = 1) -> Told | None:
    return find_due(apply_reading(state, reading, rule, now_ms=now_ms), now_ms=now_ms)


def alarmed(changed_on: str = "") -> AlertState:
    return AlertState(FIRING, changed_on=changed_on, told=Told(FIRING, changed_on))


@pytest.mark.parametrize(
    ("state", "now", "due"),
    [
        (AlertState(), report(DriftStatus.STABLE), None),
        (AlertState(), report(DriftStatus.WATCH), None),
        (AlertState(), report(DriftStatus.DRIFTING, date(2026, 3, 1)), Told(FIRING, "2026-03-01")),
        (alarmed("2026-03-01"), report(DriftStatus.DRIFTING, date(2026, 3, 1)), None),
        (alarmed("2026-03-01"), report(DriftStatus.DRIFTING, date(2026, 3, 9)), Told(FIRING, "2026-03-09")),
        (alarmed("2026-03-01"), report(DriftStatus.INSUFFICIENT_DATA), None),
        (alarmed("2026-03-01"), report(DriftStatus.STABLE), Told(AlertStatus.RESOLVED)),
    ],
)
def test_channels_are_told_once_a_change_and_once_when_it_is_over(state, now, due):
    assert told_by(state, judge_drift(RULE, now, scope=SCOPE)) == due


def test_a_rule_may_ask_to_be_told_at_watch():
    rule = replace(RULE, from_level=Level.WARNING)
    assert told_by(AlertState(), judge_drift(rule, report(DriftStatus.WATCH), scope=SCOPE), rule) == Told(WARNING)


def test_what_release_0_1_told_is_not_told_again():
    state = convert_told({"alarmed": True, "changed_on": "2026-03-01", "claimed_ms": 5})
    assert told_by(state, judge_drift(RULE, report(DriftStatus.DRIFTING, date(2026, 3, 1)), scope=SCOPE)) is None
    assert convert_told({"alarmed": False, "changed_on": ""}) == AlertState()


def days(*values: float | None, until: date = TODAY - timedelta(days=1)) -> list[DayValue]:
    first = until - timedelta(days=len(values) - 1)
    return [DayValue(first + timedelta(days=at), value, 100) for at, value in enumerate(values)]


@pytest.mark.parametrize(
    ("values", "for_days", "level"),
    [
        ([0.0, 0.01], 1, Level.OK),
        ([0.0, 0.03], 1, Level.WARNING),
        ([0.0, 0.06], 1, Level.ALERT),
        ([0.0, 0.06], 2, Level.OK),
        ([0.03, 0.06], 2, Level.WARNING),
        ([0.06, 0.06], 2, Level.ALERT),
        ([0.06], 2, Level.OK),
        ([0.06, None, 0.06], 2, Level.ALERT),
        ([0.06, None], 1, None),
    ],
)
def test_all_days_of_the_duration_have_to_be_bad(values, for_days, level):
    assert judge_days(replace(SHARE, for_days=for_days), days(*values), today=TODAY).level is level


def test_the_present_day_counts_where_it_is_asked_for_and_has_enough_questions():
    found = [*days(0.0, 0.0), DayValue(TODAY, 0.2, 50)]
    assert judge_days(SHARE, found, today=TODAY).level is Level.OK
    early = replace(SHARE, counts_today=True)
    assert judge_days(early, found, today=TODAY).level is Level.ALERT
    assert judge_days(early, [*found[:-1], DayValue(TODAY, 0.2, 49)], today=TODAY).level is Level.OK
    few = AlertRule("few", "volume", AlertKind.THRESHOLD, side=LimitSide.BELOW, alert=80, counts_today=True)
    assert judge_days(few, [*days(100.0), DayValue(TODAY, 60.0, 60)], today=TODAY).level is Level.OK


@pytest.mark.parametrize(
    ("no_data", "after", "status"),
    [
        (WithoutData.KEEP, 1, FIRING),
        (WithoutData.ALERT, 1, AlertStatus.NO_DATA),
        (WithoutData.ALERT, 3, FIRING),
        (WithoutData.OK, 1, AlertStatus.RESOLVED),
    ],
)
def test_days_without_data_do_what_the_rule_says(no_data, after, status):
    rule = replace(SHARE, no_data=no_data, no_data_days=after)
    reading = judge_days(rule, days(0.06, None), today=TODAY)
    assert apply_reading(alarmed(), reading, rule, now_ms=1).status is status


def test_a_snoozed_alert_tells_nothing_but_that_it_is_over():
    bad, fine = Reading(Level.ALERT, 0.1, "bad"), Reading(Level.OK, 0.0, "fine")
    state = snooze(alarmed(), until_ms=100, by="ada", now_ms=1)
    assert (state.shown(50), state.shown(100)) == (AlertStatus.SNOOZED, FIRING)
    other = replace(bad, changed_on="2026-03-09")
    assert [told_by(state, other, now_ms=at) for at in (50, 100)] == [None, Told(FIRING, "2026-03-09")]
    assert told_by(state, fine, now_ms=50) == Told(AlertStatus.RESOLVED)
    assert state.history[-1].by == "ada"
    assert snooze(state, until_ms=0, by="ada", now_ms=2).shown(3) is FIRING


def test_a_resolved_alert_comes_back_when_it_gets_worse_or_after_it_was_over():
    warned = AlertState(WARNING, told=Told(WARNING))
    state = resolve(warned, by="ada", now_ms=1)
    assert find_due(state, now_ms=1) == Told(AlertStatus.RESOLVED)
    state = replace(state, told=Told(AlertStatus.RESOLVED))
    warning, bad, fine = (Reading(level) for level in (Level.WARNING, Level.ALERT, Level.OK))
    assert told_by(state, warning) is None
    assert told_by(state, bad) == Told(FIRING)
    over = apply_reading(state, fine, RULE, now_ms=2)
    assert over.status is AlertStatus.RESOLVED
    assert told_by(over, warning, now_ms=3) == Told(WARNING)


def test_an_alert_that_is_over_is_called_resolved_for_a_day():
    over = apply_reading(alarmed(), Reading(Level.OK), RULE, now_ms=10)
    assert apply_reading(over, Reading(Level.OK), RULE, now_ms=9 + DAY_MS).status is AlertStatus.RESOLVED
    assert apply_reading(over, Reading(Level.OK), RULE, now_ms=10 + DAY_MS).status is OK


def test_the_history_names_each_state_and_ends_somewhere():
    state = AlertState()
    for at in range(200):
        state = apply_reading(state, Reading((Level.ALERT, Level.OK)[at % 2], 0.1234, "why"), RULE, now_ms=at)
    assert len(state.history) == 50
    assert [(each.at_ms, each.status, each.value, each.reason) for each in state.history[-2:]] == [
        (198, FIRING, 0.123, "why"), (199, AlertStatus.RESOLVED, 0.123, "why"),
    ]  # fmt: skip
    assert read_state(json.loads(json.dumps(write_state(state)))) == state


@pytest.mark.parametrize(
    "told", [None, {}, {"status": "singing"}, {"told": 5}, {**write_state(AlertState()), "told": 1}]
)
def test_a_state_that_cannot_be_read_is_a_new_one(told):
    assert read_state(told) == AlertState()


def test_a_canary_to_roll_back_is_an_alert_and_one_that_is_held_for_a_reason_a_warning():
    rule = AlertRule("canaries", "canary")
    verdicts = {
        "a": CanaryVerdict(CanaryCall.PROMOTE, "fine"),
        "b": CanaryVerdict(CanaryCall.HOLD, "the shares are off", is_healthy=False),
    }
    assert judge_canaries(rule, verdicts).level is Level.OK
    assert judge_canaries(replace(rule, from_level=Level.WARNING), verdicts).level is Level.WARNING
    found = judge_canaries(rule, {**verdicts, "c": CanaryVerdict(CanaryCall.ROLL_BACK, "it harms")})
    assert (found.level, found.reason, found.changed_on, found.value) == (Level.ALERT, "c: it harms", "c", 1.0)

"""Rule: how a rule judges what its metric says now: days of values, a verdict of drift, or verdicts of canaries."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Any
from urllib.parse import urlencode

from core.alerts.rules import AlertRule, Level, LimitSide
from core.drift.verdict import DriftReport, DriftStatus
from core.rollouts.canary import CanaryCall, CanaryVerdict
from quarterdeck.retrieval import STATES
from quarterdeck.scope import Scope

ENOUGH_TODAY = 50  # questions after which an unfinished day may count
_OF_DRIFT = {
    DriftStatus.STABLE: Level.OK,
    DriftStatus.WATCH: Level.WARNING,
    DriftStatus.DRIFTING: Level.ALERT,
    DriftStatus.OUTAGE: Level.ALERT,
}


@dataclass(frozen=True, slots=True)
class DayValue:
    """A metric on one day, None without a value, and from how many questions it comes."""

    day: date
    value: float | None
    count: int = 0


@dataclass(frozen=True, slots=True)
class Reading:
    """What a rule's metric says. `level` is None where nothing can be said, `is_missing` where there are no data.

    `changed_on` names the change that a verdict is about, so that another change is another message. `evidence` has
    further fields for a webhook.
    """

    level: Level | None
    value: float | None = None
    reason: str = ""
    changed_on: str = ""
    is_missing: bool = False
    evidence: Mapping[str, Any] = field(default_factory=dict)


def judge_days(rule: AlertRule, days: Sequence[DayValue], *, today: date) -> Reading:
    """Return what the days say under the limits of a rule; days after `today` and days that may not count are left out.

    The level is the worst that all of the last `for_days` days with a value reach. The last of them has to be the last
    day that counts: a day without a value is no data.
    """
    known = [day for day in days if day.value is not None and _counts(rule, day, today)]
    yesterday = today - timedelta(days=1)
    if not known or known[-1].day < yesterday:
        last = known[-1].day if known else None
        missing = last is None or (yesterday - last).days >= rule.no_data_days
        since = f" since {last.isoformat()}" if last else ""
        return Reading(None, reason=f"{rule.watched.title} has no value{since}.", is_missing=missing)
    levels = [rule.judge(day.value) for day in known[-rule.for_days :] if day.value is not None]
    level = min(levels, key=list(Level).index) if len(levels) == rule.for_days else Level.OK
    return Reading(level, known[-1].value, _say_days(rule, known, level))


def judge_now(rule: AlertRule, value: float | None) -> Reading:
    """Return what one present value says under the limits of a rule."""
    if value is None:
        return Reading(None, reason=f"{rule.watched.title} has no value.", is_missing=True)
    level = rule.judge(value)
    said = _say_limit(rule, level) if level is not Level.OK else "within its limits"
    return Reading(level, value, f"{rule.watched.title} is {rule.watched.say(value)}, {said}.")


def judge_drift(rule: AlertRule, report: DriftReport, *, scope: Scope) -> Reading:
    """Return what the verdict of drift says. Too little data says nothing, so a quiet night ends no alert."""
    evidence = {
        "event": "outage" if report.status is DriftStatus.OUTAGE else "drift",
        "status": str(report.status),
        "action": report.action,
        "changed_on": day.isoformat() if (day := _changed_on(report)) else None,
        "recent_avg_score": report.recent_avg_score,
        "baseline_avg_score": report.baseline_avg_score,
        "delta": report.delta,
        "questions": _link_to_questions(report, scope),
    }
    if report.status is DriftStatus.INSUFFICIENT_DATA:
        return Reading(None, None, report.reason, is_missing=not report.recent_count, evidence=evidence)
    level = _OF_DRIFT[report.status]
    told = level if rule.from_level is Level.WARNING or level is Level.ALERT else Level.OK
    changed = _name_change(report) if told is not Level.OK else ""
    return Reading(told, report.recent_avg_score, report.reason, changed, evidence=evidence)


def judge_canaries(rule: AlertRule, verdicts: Mapping[str, CanaryVerdict]) -> Reading:
    """Return what the verdicts of an environment's canaries say, by flag: one to roll back is an alert.

    With `from_level` WARNING, one that is held because something is wrong is a warning.
    """
    bad = sorted(flag for flag, verdict in verdicts.items() if verdict.call is CanaryCall.ROLL_BACK)
    held = sorted(flag for flag, each in verdicts.items() if each.call is CanaryCall.HOLD and not each.is_healthy)
    level, named = (Level.ALERT, bad) if bad else (Level.WARNING, held) if held else (Level.OK, [])
    if level is Level.WARNING and rule.from_level is Level.ALERT:
        level, named = Level.OK, []
    if level is Level.OK:
        return Reading(level, float(len(bad)), f"No canary of {len(verdicts)} is to be rolled back.")
    reason = " ".join(f"{flag}: {verdicts[flag].reason}" for flag in named)
    return Reading(level, float(len(bad)), reason, ",".join(named)[:200], evidence={"flags": named})


def _counts(rule: AlertRule, day: DayValue, today: date) -> bool:
    """Return whether a day counts. An unfinished day has too few questions to say that there are few of them."""
    if day.day < today:
        return True
    is_partial = rule.metric in ("volume", "cost_usd") and rule.side is LimitSide.BELOW
    return rule.counts_today and day.day == today and day.count >= ENOUGH_TODAY and not is_partial


def _say_days(rule: AlertRule, known: Sequence[DayValue], level: Level) -> str:
    last = known[-1]
    said = f"{rule.watched.title} was {rule.watched.say(last.value)} on {last.day.isoformat()}"
    if level is Level.OK:
        return f"{said}, within its limits."
    days = f", {rule.for_days} days in a row" if rule.for_days > 1 else ""
    return f"{said}, {_say_limit(rule, level)}{days}."


def _say_limit(rule: AlertRule, level: Level) -> str:
    limit = rule.alert if level is Level.ALERT else rule.warning
    return f"{rule.side} {rule.watched.say(limit)}"


def _link_to_questions(report: DriftReport, scope: Scope) -> str:
    """Return the path, under the deck's address, of the questions behind an alert."""
    changed_on = _changed_on(report)
    is_outage = report.status is DriftStatus.OUTAGE
    wanted = [("state", state) for state in STATES[1:]] if is_outage else [("low", "1")]
    since = [("since", changed_on.isoformat())] if changed_on else []
    return f"/questions?{urlencode([*wanted, *since, ('environment', scope.environment), ('service', scope.service)])}"


def _changed_on(report: DriftReport) -> date | None:
    return report.outage_since if report.status is DriftStatus.OUTAGE else report.changed_on


def _name_change(report: DriftReport) -> str:
    """Return the date of the change as it is remembered; that of an outage is no drop's."""
    changed_on = _changed_on(report)
    kind = "outage " if report.status is DriftStatus.OUTAGE else ""
    return f"{kind}{changed_on.isoformat()}" if changed_on else kind.strip()

"""Rule: the state of an alert: what the next reading makes of it, what people did to it, and which message is due."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from core.alerts.readings import Reading
from core.alerts.rules import AlertRule, Level, WithoutData
from quarterdeck.clock import DAY_MS

MOST_TRANSITIONS = 50
RESOLVED_FOR_MS = DAY_MS  # how long an alert that is over is called resolved


class AlertStatus(StrEnum):
    """The states of an alert. One that was put off is shown as snoozed, whatever it is meanwhile."""

    OK = "ok"
    WARNING = "warning"
    FIRING = "firing"
    NO_DATA = "no data"
    RESOLVED = "resolved"
    SNOOZED = "snoozed"

    @property
    def is_alarmed(self) -> bool:
        """Whether channels are told that something is wrong."""
        return self in _RANKS

    def is_worse_than(self, other: "AlertStatus") -> bool:
        """Whether this is more serious."""
        return _RANKS.get(self, 0) > _RANKS.get(other, 0)


_RANKS = {AlertStatus.NO_DATA: 1, AlertStatus.WARNING: 2, AlertStatus.FIRING: 3}
_OF_LEVEL = {Level.OK: AlertStatus.OK, Level.WARNING: AlertStatus.WARNING, Level.ALERT: AlertStatus.FIRING}


@dataclass(frozen=True, slots=True)
class Told:
    """What the channels were told last: a state, and which dated change it is about."""

    status: AlertStatus = AlertStatus.OK
    changed_on: str = ""


@dataclass(frozen=True, slots=True)
class Transition:
    """One entry of an alert's history. `by` is a person who snoozed, woke or resolved it; "" for the rule itself."""

    at_ms: int
    status: AlertStatus
    value: float | None
    reason: str
    by: str = ""


@dataclass(frozen=True, slots=True)
class AlertState:
    """The state of one rule about one service.

    `alarmed_ms` is when the present or last alarm began. `held` is the state that a person called resolved: it stays
    so until the alarm is over, gets worse, or is about another change. `value` has three digits.
    """

    status: AlertStatus = AlertStatus.OK
    since_ms: int = 0
    alarmed_ms: int = 0
    changed_on: str = ""
    value: float | None = None
    told: Told = Told()
    snoozed_until_ms: int = 0
    held: AlertStatus | None = None
    history: tuple[Transition, ...] = ()
    reason: str = field(default="", compare=False)
    evidence: Mapping[str, Any] = field(default_factory=dict, compare=False)

    def is_snoozed(self, now_ms: int) -> bool:
        """Whether no message about it is sent now, other than that it is over."""
        return now_ms < self.snoozed_until_ms

    def shown(self, now_ms: int) -> AlertStatus:
        """Return the state as people see it."""
        return AlertStatus.SNOOZED if self.is_snoozed(now_ms) and self.status.is_alarmed else self.status


def apply_reading(state: AlertState, reading: Reading, rule: AlertRule, *, now_ms: int) -> AlertState:
    """Return the state after a reading. Where nothing can be said, it stays as it is."""
    found = _find_status(reading, rule)
    if found is None:
        return state
    value = None if reading.value is None else float(f"{reading.value:.3g}")
    read = replace(state, value=value, reason=reading.reason, evidence=dict(reading.evidence))
    is_same = reading.changed_on == state.changed_on
    if state.held is not None and found.is_alarmed and is_same and not found.is_worse_than(state.held):
        return read
    if found is AlertStatus.OK:
        if state.status.is_alarmed:
            return _move(read, AlertStatus.RESOLVED, now_ms=now_ms)
        is_old = state.status is AlertStatus.RESOLVED and now_ms - state.since_ms >= RESOLVED_FOR_MS
        return replace(read, status=AlertStatus.OK, since_ms=now_ms, held=None) if is_old else replace(read, held=None)
    if found is state.status and is_same:
        return read
    return _move(replace(read, changed_on=reading.changed_on), found, now_ms=now_ms)


def snooze(state: AlertState, *, until_ms: int, by: str, now_ms: int) -> AlertState:
    """Return the state put off until a time, or brought back if that is not in the future."""
    said = "snoozed" if until_ms > now_ms else "brought back"
    return _note(replace(state, snoozed_until_ms=until_ms if until_ms > now_ms else 0), said, by=by, now_ms=now_ms)


def resolve(state: AlertState, *, by: str, now_ms: int) -> AlertState:
    """Return the state after a person called the alarm resolved."""
    held = replace(state, status=AlertStatus.RESOLVED, since_ms=now_ms, held=state.status)
    return _note(held, "called resolved", by=by, now_ms=now_ms)


def find_due(state: AlertState, *, now_ms: int) -> Told | None:
    """Return what the channels have to be told next, None if they are up to date.

    They get one message when an alarm begins, one when its level or the change that it is about differs, and one when
    it is over. While it is snoozed they only learn that it is over.
    """
    if state.status.is_alarmed:
        now = Told(state.status, state.changed_on)
        return None if now == state.told or state.is_snoozed(now_ms) else now
    return Told(AlertStatus.RESOLVED) if state.told.status.is_alarmed else None


def write_state(state: AlertState) -> dict[str, Any]:
    """Return a state as JSON keeps it."""
    return {
        "status": str(state.status), "since_ms": state.since_ms, "alarmed_ms": state.alarmed_ms,
        "changed_on": state.changed_on, "value": state.value, "reason": state.reason,
        "told": [str(state.told.status), state.told.changed_on], "snoozed_until_ms": state.snoozed_until_ms,
        "held": None if state.held is None else str(state.held), "evidence": dict(state.evidence),
        "history": [[each.at_ms, str(each.status), each.value, each.reason, each.by] for each in state.history],
    }  # fmt: skip


def read_state(told: Mapping[str, Any] | None) -> AlertState:
    """Return the state that `write_state` wrote; a new one where there is none or it cannot be understood."""
    if not told:
        return AlertState()
    try:
        status, changed_on = told["told"]
        return AlertState(
            AlertStatus(told["status"]), int(told["since_ms"]), int(told["alarmed_ms"]), str(told["changed_on"]),
            told["value"], Told(AlertStatus(status), str(changed_on)), int(told["snoozed_until_ms"]),
            None if told["held"] is None else AlertStatus(told["held"]),
            tuple(Transition(at, AlertStatus(name), value, said, by) for at, name, value, said, by in told["history"]),
            str(told["reason"]), dict(told["evidence"]),
        )  # fmt: skip
    except (KeyError, TypeError, ValueError):
        return AlertState()


def convert_told(told: Mapping[str, Any]) -> AlertState:
    """Return the state that follows from what a webhook of release 0.1 was told last."""
    if not told.get("alarmed"):
        return AlertState()
    changed_on = str(told.get("changed_on", ""))
    return AlertState(AlertStatus.FIRING, changed_on=changed_on, told=Told(AlertStatus.FIRING, changed_on))


def _find_status(reading: Reading, rule: AlertRule) -> AlertStatus | None:
    if reading.is_missing:
        return {
            WithoutData.KEEP: None, WithoutData.OK: AlertStatus.OK, WithoutData.ALERT: AlertStatus.NO_DATA,
        }[rule.no_data]  # fmt: skip
    return None if reading.level is None else _OF_LEVEL[reading.level]


def _move(state: AlertState, status: AlertStatus, *, now_ms: int) -> AlertState:
    begins = status.is_alarmed and not (state.status.is_alarmed and state.alarmed_ms)
    alarmed_ms = now_ms if begins else state.alarmed_ms
    moved = replace(state, status=status, since_ms=now_ms, alarmed_ms=alarmed_ms, held=None)
    return _note(moved, state.reason, by="", now_ms=now_ms)


def _note(state: AlertState, reason: str, *, by: str, now_ms: int) -> AlertState:
    entry = Transition(now_ms, state.status, state.value, reason, by)
    return replace(state, history=(*state.history, entry)[-MOST_TRANSITIONS:])

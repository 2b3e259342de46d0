"""The part of the alerts page that makes a rule: its fields, its backtest before it is saved, and removing one."""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import streamlit as st

from app import ui
from app.panels.alerts.resources import forget_alerts, list_own_names, load_backtest
from app.resources import get_store
from app.text import plain
from app.visitor import lock, make_act
from core.alerts.backtests import Backtest, describe_backtest
from core.alerts.metrics import CANARY, MEAN_SCORE, METRICS, find_metric
from core.alerts.operations import delete_alert_rule, save_alert_rule
from core.alerts.report import AlertOverview
from core.alerts.rules import AlertKind, AlertRule, Level, LimitSide, WithoutData
from core.audit.actions import Action

_SAVED, _REMOVED = "alert-rule", "alert-rule-gone"  # where outcomes are said
_EVERY = "every service"
_KINDS = {"Sequential verdict": AlertKind.VERDICT, "Plain limits": AlertKind.THRESHOLD}
_NO_DATA = {
    "keep the state": WithoutData.KEEP, "tell the channels": WithoutData.ALERT, "count as fine": WithoutData.OK,
}  # fmt: skip


def render_rule(found: AlertOverview, frame: ui.Frame, services: list[str]) -> None:
    """The form of a rule with its backtest; it is saved once it was looked at, or without."""
    with st.expander("Add or change a rule"):
        left, right = st.columns(2)
        metric = left.selectbox(
            "Metric",
            [*(metric.name for metric in METRICS), *list_own_names(frame.environment)],
            format_func=lambda name: find_metric(name).title,
            key="alert_metric",
        )
        offered = list(_KINDS) if find_metric(metric).has_verdict else list(_KINDS)[1:]
        usual = offered[0 if metric in (MEAN_SCORE, CANARY) else -1]
        judge = right.segmented_control("Judge by", offered, default=usual, required=True, key=f"alert_kind-{metric}")
        kind = _KINDS[judge]
        with st.form("alert-rule", border=False):
            given = _read_fields(metric, kind, services, [channel.name for channel in found.book.channels])
            reason = st.text_input("Reason", key="alert_rule_reason", max_chars=500)
            with st.container(horizontal=True):
                tries = st.form_submit_button("Backtest")
                saves = st.form_submit_button("Save rule", type="primary", **lock(Action.ALERT_SAVE, frame.environment))
        if tries:
            _render_backtest(given, frame)
        if saves:
            ui.submit_change(
                partial(save, given, reason, frame.environment), effect="The rule is checked within a minute.",
                place=_SAVED, forget=forget_alerts,
            )  # fmt: skip
    ui.render_said(_SAVED)


def save(given: Mapping[str, Any], reason: str, environment: str) -> int:
    """Save the rule that the form describes."""
    return save_alert_rule(get_store(), AlertRule(**given), make_act(reason, environment))


def render_removal(found: AlertOverview, environment: str) -> None:
    """The form that removes a rule."""
    if found.book.rules:
        with st.expander("Remove a rule"), st.form("alert-remove", border=False):
            name = st.selectbox("Rule", [rule.name for rule in found.book.rules])
            reason = st.text_input("Reason", key="alert_remove_reason", max_chars=500)
            removes = st.form_submit_button("Remove rule", **lock(Action.ALERT_DELETE, environment))
        if removes:
            ui.submit_change(
                partial(remove, name, reason, environment), effect="Its channels learn that its alarms are over.",
                place=_REMOVED, forget=forget_alerts,
            )  # fmt: skip
    ui.render_said(_REMOVED)


def remove(name: str, reason: str, environment: str) -> int:
    """Remove the rule."""
    return delete_alert_rule(get_store(), name, make_act(reason, environment))


def _read_fields(metric: str, kind: AlertKind, services: list[str], channels: list[str]) -> dict[str, Any]:
    watched = find_metric(metric)
    left, right = st.columns(2)
    given: dict[str, Any] = {"metric": metric, "kind": kind, "name": left.text_input("Name", max_chars=100)}
    if watched.is_shared:
        right.text_input("Service", "the whole environment", disabled=True)
    else:
        service = right.selectbox("Service", [_EVERY, *services])
        given["service"] = "" if service == _EVERY else service
    left, middle, right = st.columns(3)
    if kind is AlertKind.THRESHOLD:
        given |= _read_limits(watched.falls)
        left, middle, _ = st.columns(3)
    else:
        given |= _read_verdict(right)
    no_data = left.selectbox("Without data", list(_NO_DATA))
    given["no_data"] = _NO_DATA[no_data]
    given["no_data_days"] = int(middle.number_input("After days without a value", 1, 30, 1))
    if channels:
        given["channels"] = tuple(st.multiselect("Channels", channels, help="Who is told. Add channels below."))
    else:
        st.caption("There is no channel yet, so nobody is told: add one below.")
        given["channels"] = ()
    return given


def _read_verdict(column: Any) -> dict[str, Any]:
    level = column.selectbox("Alert from", ["an alarm of the verdict", "watch, as a warning"])
    return {"from_level": Level.WARNING if level.startswith("watch") else Level.ALERT}


def _read_limits(falls: bool) -> dict[str, Any]:
    side, warning, alert, days = st.columns(4)
    sides = [LimitSide.BELOW, LimitSide.ABOVE] if falls else [LimitSide.ABOVE, LimitSide.BELOW]
    given = {
        "side": side.selectbox("Bad is", sides, format_func=str),
        "warning": warning.number_input("Warning at", value=None, format="%.4f", help="Empty for none; shares 0 to 1."),
        "alert": alert.number_input("Alert at", value=None, format="%.4f", help="Empty for none; shares 0 to 1."),
        "for_days": int(days.number_input("Days in a row", 1, 30, 1)),
    }
    today = st.checkbox("Count today too, once it has 50 questions")
    return given | {"counts_today": today}


def _render_backtest(given: dict[str, Any], frame: ui.Frame) -> None:
    """What the rule would have done about the service that is shown, or that it is about."""
    with ui.showing_errors("There is no backtest"):
        rule = replace(AlertRule(**{**given, "name": given["name"] or "new", "channels": ()}), name="backtest")
        scope = replace(frame, service=rule.service or frame.service).scope
        found = load_backtest(rule, scope, frame.today)
        st.markdown(f"**{plain(scope.service)}:** {plain(describe_backtest(found))}")
        for note in found.notes:
            st.caption(plain(note))
        _render_alarms(found)


def _render_alarms(found: Backtest) -> None:
    if not found.alarms:
        return
    rows = [
        {
            "alerted": alarm.alerted_on, "first bad day": alarm.began_on, "last day": alarm.ended_on,
            "level": str(alarm.level), "cause": "; ".join(alarm.causes) or "none known",
        }
        for alarm in found.alarms
    ]  # fmt: skip
    ui.show_table(rows, key="alert-backtest", file_name="backtest.csv")
    st.caption("A cause is a change that users can have noticed, on the first bad day or in the three days before.")

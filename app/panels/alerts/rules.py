"""The part of the alerts page that makes and changes rules: the fields, the backtest before saving, and removal."""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import streamlit as st

from app import dialogs, ui
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

_SAVED, _CHANGED, _REMOVED = "alert-rule", "alert-rule-change", "alert-rule-gone"  # where outcomes are said
_EVERY = "every service"
_KINDS = {"Sequential verdict": AlertKind.VERDICT, "Plain limits": AlertKind.THRESHOLD}
_NO_DATA = {
    "keep the state": WithoutData.KEEP, "tell the channels": WithoutData.ALERT, "count as fine": WithoutData.OK,
}  # fmt: skip


def offer_new_rule(found: AlertOverview, frame: ui.Frame, services: list[str]) -> None:
    """The button that opens the form of a rule with its backtest."""
    form = partial(_render_form, found, frame, services, None)
    dialogs.offer_dialog("New rule", form, place=_SAVED, icon=":material/add:")
    ui.render_said(_SAVED)


def offer_changes(rule: AlertRule, found: AlertOverview, frame: ui.Frame, services: list[str]) -> None:
    """The buttons that change and remove a rule."""
    form = partial(_render_form, found, frame, services, rule)
    dialogs.offer_dialog("Change its rule", form, place=_CHANGED, icon=":material/edit:")
    form = partial(_render_removal, rule.name, frame.environment)
    dialogs.offer_dialog("Remove its rule", form, place=_REMOVED, icon=":material/delete:")


def say_changes() -> None:
    """What became of the last change of a rule that was there."""
    for place in (_CHANGED, _REMOVED):
        ui.render_said(place)


def save(given: Mapping[str, Any], reason: str, environment: str) -> int:
    """Save the rule that the form describes."""
    return save_alert_rule(get_store(), AlertRule(**given), make_act(reason, environment))


def remove(name: str, reason: str, environment: str) -> int:
    """Remove the rule."""
    return delete_alert_rule(get_store(), name, make_act(reason, environment))


def _render_form(
    found: AlertOverview, frame: ui.Frame, services: list[str], rule: AlertRule | None, place: str
) -> None:  # fmt: skip
    """The fields of a rule, which is tried on the past before it is saved."""
    left, right = st.columns(2)
    metrics = [*(metric.name for metric in METRICS), *list_own_names(frame.environment)]
    metric = left.selectbox(
        "Metric", metrics, metrics.index(rule.metric) if rule and rule.metric in metrics else 0,
        format_func=lambda name: find_metric(name).title, key=f"{place}-metric",
    )  # fmt: skip
    offered = list(_KINDS) if find_metric(metric).has_verdict else list(_KINDS)[1:]
    usual = offered[0 if metric in (MEAN_SCORE, CANARY) else -1]
    if rule and rule.metric == metric:
        usual = next((name for name in offered if _KINDS[name] is rule.kind), usual)
    judge = right.segmented_control("Judge by", offered, default=usual, required=True, key=f"{place}-kind-{metric}")
    with st.form(f"{place}-form", border=False):
        channels = [channel.name for channel in found.book.channels]
        given = _read_fields(metric, _KINDS[judge], services, channels, rule)
        reason = st.text_input("Reason", key=f"{place}-reason", max_chars=500)
        with st.container(horizontal=True):
            saves = st.form_submit_button("Save rule", type="primary", **lock(Action.ALERT_SAVE, frame.environment))
            tries = st.form_submit_button("Backtest")
    if tries:
        _render_backtest(given, frame)
    if saves:
        dialogs.submit(
            partial(save, given, reason, frame.environment), effect="The rule is checked within a minute.",
            place=place, forget=forget_alerts,
        )  # fmt: skip


def _render_removal(name: str, environment: str, place: str) -> None:
    with st.form("alert-remove", border=False):
        st.markdown(f"**{plain(name)}** stops watching, and its channels learn that its alarms are over.")
        reason = st.text_input("Reason", key="alert_remove_reason", max_chars=500)
        locked = lock(Action.ALERT_DELETE, environment)
        removes = st.form_submit_button("Remove rule", type="primary", **locked)
    if removes:
        dialogs.submit(
            partial(remove, name, reason, environment), effect=f"{plain(name)} is removed.", place=place,
            forget=forget_alerts,
        )  # fmt: skip


def _read_fields(
    metric: str, kind: AlertKind, services: list[str], channels: list[str], rule: AlertRule | None
) -> dict[str, Any]:
    """The fields as a form, filled with those of the rule that is changed."""
    watched, former = find_metric(metric), rule or AlertRule("new")
    left, right = st.columns(2)
    name = left.text_input("Name", rule.name if rule else "", max_chars=100, disabled=rule is not None)
    given: dict[str, Any] = {"metric": metric, "kind": kind, "name": name}
    if watched.is_shared:
        right.text_input("Service", "the whole environment", disabled=True)
    else:
        named = [_EVERY, *services]
        place = named.index(former.service) if former.service in services else 0
        service = right.selectbox("Service", named, place)
        given["service"] = "" if service == _EVERY else service
    left, middle, right = st.columns(3)
    if kind is AlertKind.THRESHOLD:
        given |= _read_limits(watched.falls, rule)
        left, middle, _ = st.columns(3)
    else:
        given |= _read_verdict(right, former)
    no_data = left.selectbox("Without data", list(_NO_DATA), list(_NO_DATA.values()).index(former.no_data))
    given["no_data"] = _NO_DATA[no_data]
    given["no_data_days"] = int(middle.number_input("After days without a value", 1, 30, former.no_data_days))
    if channels:
        told = [name for name in former.channels if name in channels]
        given["channels"] = tuple(st.multiselect("Channels", channels, told, help="Who is told."))
    else:
        st.caption("There is no channel yet, so nobody is told. Add one on the page.")
        given["channels"] = ()
    return given


def _read_verdict(column: Any, former: AlertRule) -> dict[str, Any]:
    levels = ["an alarm of the verdict", "watch, as a warning"]
    level = column.selectbox("Alert from", levels, int(former.from_level is Level.WARNING))
    return {"from_level": Level.WARNING if level.startswith("watch") else Level.ALERT}


def _read_limits(falls: bool, rule: AlertRule | None) -> dict[str, Any]:
    side, warning, alert, days = st.columns(4)
    sides = [LimitSide.BELOW, LimitSide.ABOVE] if falls else [LimitSide.ABOVE, LimitSide.BELOW]
    former = rule or AlertRule("new", side=sides[0])
    said: dict[str, Any] = {"format": "%.4f", "help": "Empty for none; shares 0 to 1."}
    return {
        "side": side.selectbox("Bad is", sides, sides.index(former.side), format_func=str),
        "warning": warning.number_input("Warning at", value=former.warning, **said),
        "alert": alert.number_input("Alert at", value=former.alert, **said),
        "for_days": int(days.number_input("Days in a row", 1, 30, former.for_days)),
        "counts_today": st.checkbox("Count today too, once it has 50 questions", former.counts_today),
    }


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

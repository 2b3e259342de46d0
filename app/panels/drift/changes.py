"""The forms of the drift page: accept a level, and alert rules."""

import streamlit as st

from app import ui
from app.resources import get_store, load_drift
from app.visitor import lock, make_act
from core.alerts.alerts import AlertRule
from core.alerts.delivery import list_alert_rules
from core.alerts.operations import save_alert_rule
from core.audit.actions import Action
from core.drift.operations import accept_level
from core.drift.verdict import DriftStatus


def render_acceptance(frame: ui.Frame) -> None:
    """The form that takes today's level as the new normal."""
    with st.expander("Accept the new level"), st.form("drift-accept", border=False):
        st.caption("The reference of this service restarts today, for everybody. The audit trail keeps it.")
        reason = st.text_input("Reason", key="drift_reason", max_chars=500)
        if st.form_submit_button("Accept as the new normal", **lock(Action.DRIFT_ACCEPT, frame.environment)):
            with ui.showing_errors("Nothing was changed"):
                entry = accept_level(
                    get_store(), frame.today, make_act(reason, frame.environment), service=frame.scope.service
                )
                load_drift.clear()
                st.success(f"Recorded as audit entry {entry}. The reference restarts today.")


def render_alerts(frame: ui.Frame) -> None:
    """The alert rules, and the form that adds one."""
    with st.expander("Alert rules"):
        rules = list_alert_rules(get_store(), frame.environment)
        if rules:
            rows = [
                {
                    "name": rule.name,
                    "service": rule.service or "every one",
                    "alert from state": str(rule.from_status),
                    "webhook": rule.url,
                }
                for rule in rules
            ]
            ui.show_table(rows, key="drift-alerts", file_name="alert-rules.csv")
        else:
            st.caption(
                "There is no alert rule yet. A webhook gets a signed message when drift begins and when it ends."
            )
        with st.form("drift-alert", border=False):
            left, right = st.columns(2)
            name = left.text_input("Name", max_chars=100)
            url = right.text_input("Webhook address", max_chars=500)
            status = left.selectbox("Alert from state", [str(DriftStatus.DRIFTING), str(DriftStatus.WATCH)])
            secret = right.text_input("Secret that signs the message", type="password", max_chars=200)
            reason = st.text_input("Reason", key="drift_alert_reason", max_chars=500)
            if st.form_submit_button("Save alert rule", **lock(Action.ALERT_SAVE, frame.environment)):
                with ui.showing_errors("Nothing was changed"):
                    act = make_act(reason, frame.environment)
                    entry = save_alert_rule(get_store(), AlertRule(name, url, secret, DriftStatus(status)), act)
                    st.success(f"Recorded as audit entry {entry}.")

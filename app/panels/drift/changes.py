"""The form of the drift page that accepts a level, and the way to its alerts."""

import streamlit as st

from app import ui
from app.navigation import link_to
from app.resources import get_store, load_drift
from app.visitor import lock, make_act
from core.audit.actions import Action
from core.drift.operations import accept_level


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
    """The way to the alerts of this environment."""
    link_to("alerts", "Be told of drift: alert rules and channels", environment=frame.environment)

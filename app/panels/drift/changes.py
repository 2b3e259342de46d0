"""The form of the drift page that accepts a level, and the way to its alerts."""

import streamlit as st

from app import ui
from app.navigation import link_to
from app.resources import get_store, load_drift
from app.visitor import lock, make_act
from core.audit.actions import Action
from core.drift.operations import accept_level

ACCEPTED = "drift-accept"  # where the outcome is said; the form itself may be gone then


def render_acceptance(frame: ui.Frame) -> None:
    """The form that takes today's level as the new normal."""
    with st.expander("Accept the new level"), st.form("drift-accept", border=False):
        st.caption("The reference of this service restarts today, for everybody. The audit trail keeps it.")
        reason = st.text_input("Reason", key="drift_reason", max_chars=500)
        accepts = st.form_submit_button("Accept as the new normal", **lock(Action.DRIFT_ACCEPT, frame.environment))
    if accepts:
        ui.submit_change(
            lambda: accept(frame, reason), effect="The reference restarts today.", place=ACCEPTED,
            forget=load_drift.clear,
        )  # fmt: skip


def accept(frame: ui.Frame, reason: str) -> int:
    """Take today's level of the service as the new normal."""
    act = make_act(reason, frame.environment)
    return accept_level(get_store(), frame.today, act, service=frame.scope.service)


def render_alerts(frame: ui.Frame) -> None:
    """The way to the alerts of this environment."""
    link_to("alerts", "Be told of drift: alert rules and channels", environment=frame.environment)

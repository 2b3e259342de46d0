"""Alerts: what is wrong now by the rules of this environment, who is told, and whether the messages arrived."""

import streamlit as st

from app import ui
from app.panels.alerts.channels import render_channels, render_deliveries
from app.panels.alerts.resources import load_alerts, load_deliveries
from app.panels.alerts.rules import offer_new_rule, say_changes
from app.panels.alerts.states import describe_alerts, render_alert, render_states
from app.resources import list_environments, list_new, list_services, today_of
from app.text import plain

NO_RULE = ui.StatusLook("No rules", "gray", ui.Mark.UNKNOWN)


def render(frame: ui.Frame) -> None:
    """The page, once the store could be read."""
    environment = frame.environment
    found, (deliveries, problems) = load_alerts(environment), load_deliveries(environment)
    services = [scope.service for scope in list_services() if scope.environment == frame.scope.environment]
    if found.lines:
        sentence, look = describe_alerts(found)
        ui.render_verdict(plain(sentence), look)
        render_states(found)
        offer_new_rule(found, frame, services)
        render_alert(found, frame, services)
    else:
        ui.render_verdict("No rule watches anything here yet. Try one on the last 90 days before you save it.", NO_RULE)
        offer_new_rule(found, frame, services)
        say_changes()
    for problem in found.book.problems:
        st.warning(plain(problem))
    st.subheader("Channels", anchor=False)
    render_channels(found, environment)
    st.subheader("Deliveries", anchor=False)
    render_deliveries(deliveries, problems, environment)


frame = ui.render_frame(
    "Alerts",
    environments=list_environments(),
    services=list_services(),
    new=list_new(),
    today_of=today_of,
    ranges=False,
)
with ui.showing_errors("The alerts could not be read"):
    render(frame)

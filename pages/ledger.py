"""Ledger: what changes were predicted to do, what they did, and how good the predictions were."""

import streamlit as st

from app import ui
from app.panels.ledger.entries import render_comparison, render_entries, render_prediction
from app.panels.ledger.resources import load_ledger
from app.resources import list_environments, list_new, list_services, today_of
from app.text import plain
from core.ledger.entries import Calibration, describe_calibration


def find_look(found: Calibration) -> ui.StatusLook:
    """How the calibration is shown: whether at least nine of ten predictions hold."""
    if not found.measured:
        return ui.StatusLook("Nothing to compare yet", "gray", ui.Mark.UNKNOWN)
    if found.inside >= 0.9 * found.measured:
        return ui.StatusLook("Predictions hold", "green", ui.Mark.FINE)
    return ui.StatusLook("Predictions miss", "orange", ui.Mark.WARNING)


def render(frame: ui.Frame) -> None:
    """The page, once the store could be read."""
    found, problems = load_ledger(frame.scope, frame.today)
    if not found.entries:
        ui.render_empty("No change that users can notice was recorded in four months.", "quarterdeck demo")
        render_prediction(frame)
        return
    ui.render_verdict(plain(describe_calibration(found.calibration)), find_look(found.calibration))
    for problem in problems:
        st.caption(plain(f"Not read: {problem}"))
    render_comparison(found.entries)
    render_entries(found.entries)
    render_prediction(frame, found.entries)


frame = ui.render_frame(
    "Ledger",
    environments=list_environments(),
    services=list_services(),
    new=list_new(),
    today_of=today_of,
    ranges=False,
)
with ui.showing_errors("The ledger could not be read"):
    render(frame)

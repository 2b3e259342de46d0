"""The daily score with a marker for every change."""

from datetime import timedelta

import streamlit as st

from app import charts, ui
from app.connections import is_new
from app.navigation import link_to
from app.panels.drift.resources import load_what_changed
from app.panels.shared.questions import open_clicked
from app.resources import load_drift
from app.text import plain
from app.visitor import may_read_questions

_CHART_PX = 320
_OPTIONAL = {"corpus versions": "corpus", "prompts": "prompts"}  # how a problem with a page's source begins


def render_timeline(frame: ui.Frame) -> None:
    """The daily score with a marker for every change, and the changes as a table."""
    readable = may_read_questions(frame.environment)
    with ui.holding(_CHART_PX):
        found = load_drift(frame.scope, frame.today)
        told = load_what_changed(frame.scope, frame.today, readable=readable)
    first = frame.today - timedelta(days=frame.days - 1)
    shown = [day for day in found.days if day.day >= first]
    if shown:
        figure = charts.draw_score_band(shown, found.report, history=found.days)
        drawn = charts.find_first_day(shown, since=first)
        charts.mark_changes(figure, told.changes, first=drawn, last=frame.today)
        event = ui.show_chart(
            figure, key="overview-timeline", alt="Daily retrieval scores with a marker for every change",
            rows=charts.list_day_rows(shown, told.changes), points=charts.list_day_points(shown),
            on_select="rerun", selection_mode="points",
        )  # fmt: skip
        open_clicked(event)
    for problem in told.problems:
        if any(problem.startswith(name) and is_new(page) for name, page in _OPTIONAL.items()):
            continue  # it was never connected, which its card says
        st.caption(f"Not on the timeline: {plain(problem)}")
    if rows := charts.list_change_rows(told.changes, since=first):
        with st.expander(f"What changed in the last {frame.days} days ({len(rows)})"):
            event = ui.show_table(
                rows, key="overview-changes", file_name="changes.csv", on_select="rerun", selection_mode="single-row"
            )
            chosen = [rows[place]["audit entry"] for place in event["selection"]["rows"] if place < len(rows)]
            if chosen and chosen[0]:
                link_to("audit", f"Open entry {chosen[0]}", entry=str(chosen[0]))
            else:
                link_to("audit", "Open the audit trail to revert one")

"""Overview: one sentence per area saying how it stands, and what needs a decision today."""

from collections.abc import Sequence
from datetime import timedelta

import streamlit as st

from app import charts, ui
from app.navigation import link_to
from app.panels.overview.onboarding import render_onboarding
from app.resources import list_environments, load_areas, load_drift, load_what_changed
from core.overview import GAP_DAYS, Area, Standing

TITLES = {"drift": "Drift", "coverage": "Gaps", "prompts": "Prompt", "corpus": "Corpus", "rollouts": "Rollouts"}
FILTERS = {"coverage": {"days": f"{GAP_DAYS}d"}}  # so that a page counts what its tile counts
LOOKS = {
    Standing.GOOD: ui.StatusLook("Good", "green", "✓"),
    Standing.DECIDE: ui.StatusLook("Decide", "orange", "◐"),
    Standing.BAD: ui.StatusLook("Act", "red", "▼"),
    Standing.EMPTY: ui.StatusLook("Nothing yet", "gray", "…"),
    Standing.BROKEN: ui.StatusLook("Not readable", "red", "⚠"),
}


def render_area(area: Area) -> None:
    """Draw one tile: the number, its sentence, the way to its page."""
    look = LOOKS[area.standing]
    with st.container(border=True, height="stretch"):
        st.markdown(f"**{TITLES[area.page]}** :{look.color}-badge[{look.symbol} {look.word}]")
        st.metric(TITLES[area.page], ui.plain(area.figure), label_visibility="collapsed")
        if area.change:
            st.caption(ui.plain(area.change))
        st.markdown(f":small[{ui.plain(area.sentence)}]")
        link_to(area.page, f"Open {area.page}", **FILTERS.get(area.page, {}))


def render_timeline(frame: ui.Frame) -> None:
    """The daily score with everything that changed under it, and the same as a table."""
    found, told = load_drift(frame.environment, frame.today), load_what_changed(frame.environment, frame.today)
    first = frame.today - timedelta(days=frame.days)
    shown = [day for day in found.days if day.day >= first]
    if shown:
        figure = charts.draw_score_band(shown, found.report, title="Daily retrieval score, and what changed")
        charts.mark_changes(figure, told.changes, first=first, last=frame.today)
        ui.show_chart(figure, key="overview-timeline", alt="Daily retrieval scores with a marker for every change")
    for problem in told.problems:
        st.caption(f"Not on the timeline: {ui.plain(problem)}")
    if rows := charts.list_change_rows(told.changes, since=first):
        with st.expander(f"What changed in the last {frame.days} days ({len(rows)})"):
            ui.show_table(rows, key="overview-changes", file_name="changes.csv")
            link_to("audit", "Open the audit trail to revert one")


def render_decisions(areas: Sequence[Area]) -> None:
    """What should be decided, each with the way to its page."""
    st.subheader("What needs a decision today", anchor=False)
    decisions = [area for area in areas if area.decision]
    for number, area in enumerate(decisions, start=1):
        link_to(area.page, f"{number}. {ui.plain(area.decision)}", **FILTERS.get(area.page, {}))
    if not decisions:
        st.caption("Nothing: every area that can be read is as it should be.")


frame = ui.render_frame("Overview", environments=list_environments(), ranges=False)
areas = load_areas(frame.environment, frame.today)
is_new = all(area.standing in (Standing.EMPTY, Standing.BROKEN) for area in areas)
if is_new and areas[0].standing is Standing.EMPTY:
    ui.render_verdict("Nothing to look at yet: no question was logged.", LOOKS[Standing.EMPTY])
else:
    lead = next((area for area in areas if area.standing in (Standing.BAD, Standing.BROKEN)), areas[0])
    ui.render_verdict(ui.plain(lead.sentence), LOOKS[lead.standing])
if is_new:
    render_onboarding()

for column, area in zip(st.columns(len(areas)), areas, strict=True):
    with column:
        render_area(area)

if not is_new:
    with ui.showing_errors("The timeline could not be drawn"):
        render_timeline(frame)
    render_decisions(areas)

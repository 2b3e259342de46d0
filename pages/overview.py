"""Overview: one sentence per area saying how it stands, and what needs a decision today."""

import streamlit as st

from app import ui
from app.panels.overview.intake import render_intake
from app.panels.overview.onboarding import render_onboarding
from app.panels.overview.resources import load_areas, load_successions
from app.panels.overview.tiles import LOOKS, render_area, render_decisions, render_outages
from app.panels.overview.timeline import render_timeline
from app.resources import list_environments, list_new, list_services, today_of
from app.text import plain
from app.visitor import may_read_questions
from core.overview import Standing

frame = ui.render_frame(
    "Overview",
    environments=list_environments(),
    services=list_services(),
    new=list_new(),
    today_of=today_of,
    ranges=False,
)
is_reader = may_read_questions(frame.environment)
areas = load_areas(frame.environment, frame.scope.service, frame.today, readable=is_reader)
is_new = all(area.standing in (Standing.EMPTY, Standing.BROKEN) for area in areas)
if is_new and areas[0].standing is Standing.EMPTY:
    ui.render_verdict("There is no data yet: no question has been logged.", LOOKS[Standing.EMPTY])
else:
    lead = next((area for area in areas if area.standing in (Standing.BAD, Standing.BROKEN)), areas[0])
    ui.render_verdict(plain(lead.sentence), LOOKS[lead.standing])
render_outages(frame)
if is_new:
    render_onboarding()
render_intake(frame.scope.environment, is_reader=is_reader)
for succession in load_successions():
    if succession.new.environment == frame.scope.environment:
        st.info(plain(succession.offer))

for column, area in zip(st.columns(len(areas)), areas, strict=True):
    with column:
        render_area(area)

if not is_new:
    with ui.showing_errors("The timeline could not be drawn"):
        render_timeline(frame)
    render_decisions(areas)

"""Overview: one sentence per area saying how it stands, and what needs a decision today."""

import streamlit as st

from app import ui
from app.panels.overview.digest import render_digest
from app.panels.overview.intake import render_intake
from app.panels.overview.onboarding import render_checklist
from app.panels.overview.resources import load_areas, load_snoozes, load_steps, load_successions
from app.panels.overview.tiles import LOOKS, render_areas, render_outages
from app.panels.overview.timeline import render_timeline
from app.panels.overview.todos import render_todos
from app.panels.shared.emerging import render_emerging
from app.panels.shared.questions import render_drop_link
from app.resources import list_environments, list_new, list_services, load_drift, today_of
from app.text import plain, plain_with_commands
from app.visitor import may_read_questions
from core.overview import Area, Standing

_SENTENCE_PX = 64
_NEW = (Standing.EMPTY, Standing.UNCONNECTED)


def choose_lead(areas: tuple[Area, ...]) -> Area:
    """The area in the worst state: what is bad, then what is broken; else the first that is connected."""
    for standing in (Standing.BAD, Standing.BROKEN):
        if found := next((area for area in areas if area.standing is standing), None):
            return found
    return next((area for area in areas if area.standing is not Standing.UNCONNECTED), areas[0])


frame = ui.render_frame(
    "Overview",
    environments=list_environments(),
    services=list_services(),
    new=list_new(),
    today_of=today_of,
    ranges=False,
)
is_reader = may_read_questions(frame.environment)
with ui.holding(_SENTENCE_PX):
    areas = load_areas(frame.environment, frame.scope.service, frame.today, readable=is_reader)
is_new, lead = all(area.standing in _NEW for area in areas), choose_lead(areas)
if is_new:
    ui.render_verdict("There is no data yet: no question has been logged.", LOOKS[Standing.EMPTY])
else:
    ui.render_verdict(plain_with_commands(lead.sentence), LOOKS[lead.standing])
with st.container(horizontal=True, gap="small"):
    if lead.page == "drift" and lead.standing is Standing.BAD:
        with ui.showing_errors("The drop could not be read"):
            render_drop_link(load_drift(frame.scope, frame.today).report)
    render_outages(frame)
if not is_new:
    render_todos(areas, frame)
    render_areas(areas)
    with ui.showing_errors("The timeline could not be drawn"):
        render_timeline(frame)
render_checklist(load_steps(frame.scope, frame.today), tuple(load_snoozes(frame.scope)), frame, is_new=is_new)
render_intake(frame.scope.environment, is_reader=is_reader)
for succession in load_successions():
    if succession.new.environment == frame.scope.environment:
        st.info(plain(succession.offer))
if not is_new:
    with ui.showing_errors("New topics could not be read"):
        render_emerging(frame, is_reader=is_reader)
    render_digest(frame)

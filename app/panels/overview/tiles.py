"""The state of each area as a tile."""

from collections.abc import Sequence

import streamlit as st

from app import ui
from app.connections import CONNECTING, SOURCES
from app.navigation import link_to
from app.panels.overview.resources import load_outages
from app.resources import list_services
from app.text import plain, plain_with_commands
from core.drift.verdict import DriftStatus
from core.overview import GAP_DAYS, Area, Standing

TITLES = {"drift": "Drift", "coverage": "Gaps", "prompts": "Prompt", "corpus": "Corpus", "rollouts": "Rollouts"}
FILTERS = {"coverage": {"days": f"{GAP_DAYS}d"}}  # so that a page counts what its tile counts
QUESTIONS = {"drift": {"days": "7d"}, "coverage": {"low": "1", "days": f"{GAP_DAYS}d"}}  # behind the tiles
LOOKS = {
    Standing.GOOD: ui.StatusLook("Good", "green", "✓"),
    Standing.DECIDE: ui.StatusLook("Decide", "orange", "◐"),
    Standing.BAD: ui.StatusLook("Act", "red", "▼"),
    Standing.DECIDED: ui.StatusLook("Decided", "gray", "●"),
    Standing.UNKNOWN: ui.StatusLook("No verdict", "gray", "?"),
    Standing.EMPTY: ui.StatusLook("Nothing yet", "gray", "…"),
    Standing.UNCONNECTED: ui.StatusLook("Not connected", "gray", "○"),
    Standing.BROKEN: ui.StatusLook("Not readable", "red", "⚠"),
}


_TILE_PX = 176  # five in a row at 1440, three at 1024, two at 420
_SILENT = (Standing.EMPTY, Standing.UNCONNECTED, Standing.BROKEN)


def render_areas(areas: Sequence[Area]) -> None:
    """The tiles side by side; they wrap where a row is too narrow for them."""
    with st.container(horizontal=True, gap="small"):
        for area in areas:
            render_area(area)


def render_area(area: Area) -> None:
    """Draw one tile: the number, its sentence, the link to its page."""
    look = LOOKS[area.standing]
    with st.container(border=True, height="stretch", width=_TILE_PX):
        st.markdown(f"**{TITLES[area.page]}** :{look.color}-badge[{look.symbol} {look.word}]")
        st.metric(TITLES[area.page], plain(area.figure), label_visibility="collapsed")
        if area.change:
            st.caption(plain(area.change))
        if area.standing is Standing.UNCONNECTED:
            connecting = CONNECTING[SOURCES[area.page]]
            st.caption(connecting.how)
            st.code(connecting.command, language=None, wrap_lines=True)
        else:
            st.markdown(f":small[{plain_with_commands(area.sentence)}]")
        link_to(area.page, f"Open {area.page}", **FILTERS.get(area.page, {}))
        if area.page in QUESTIONS and area.standing not in _SILENT:
            link_to("questions", "See its questions", **QUESTIONS[area.page])


def render_outages(frame: ui.Frame) -> None:
    """One line for each other service of the environment that has an outage, with a link that switches to it."""
    others = [each for each in list_services() if each.environment == frame.scope.environment and each != frame.scope]
    for scope, since in load_outages(tuple(others)):
        look, name = ui.DRIFT_LOOKS[DriftStatus.OUTAGE], plain(scope.service)
        said = f":{look.color}[{look.symbol} {look.word}] of {name} since {since.day} {since:%b %Y}: show {name}"
        link_to("overview", said, environment=frame.environment, service=scope.service)

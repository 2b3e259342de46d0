"""The state of each area as a card, which is a link; and the services that have an outage."""

from collections.abc import Sequence

import streamlit as st

from app import ui
from app.connections import CONNECTING, NOT_CONNECTED, SOURCES
from app.navigation import TITLES as TITLES_OF_PAGES
from app.navigation import get_page, link_to
from app.panels.overview.resources import load_outages
from app.resources import list_services
from app.sparklines import render_sparkline
from app.text import plain, plain_with_commands
from core.drift.verdict import DriftStatus
from core.overview import GAP_DAYS, Area, Standing
from core.wording.counts import MOST_NAMED, count_of

TITLES = {"drift": "Drift", "coverage": "Gaps", "prompts": "Prompt", "corpus": "Corpus", "rollouts": "Rollouts"}
FILTERS = {"coverage": {"days": f"{GAP_DAYS}d"}}  # so that a page counts what its card counts
LOOKS = {
    Standing.GOOD: ui.StatusLook("Good", "green", ui.Mark.FINE),
    Standing.DECIDE: ui.StatusLook("Decide", "orange", ui.Mark.DECIDE),
    Standing.BAD: ui.StatusLook("Act", "red", ui.Mark.ACT),
    Standing.DECIDED: ui.StatusLook("Decided", "gray", ui.Mark.DECIDED),
    Standing.UNKNOWN: ui.StatusLook("No verdict", "gray", ui.Mark.UNKNOWN),
    Standing.EMPTY: ui.StatusLook("Nothing yet", "gray", ui.Mark.UNKNOWN),
    Standing.UNCONNECTED: NOT_CONNECTED,
    Standing.BROKEN: ui.StatusLook("Not readable", "red", ui.Mark.WARNING),
}


_CARD_PX = 168  # five in a row from 1200 on, three or four at 1024, two at 420
_SENTENCE = 110
_UNSAID = (Standing.UNCONNECTED, Standing.BROKEN, Standing.EMPTY)


def render_areas(areas: Sequence[Area]) -> None:
    """The cards side by side; they wrap where a row is too narrow for them."""
    with st.container(horizontal=True, gap="small", key="cards"):
        for area in areas:
            render_area(area)


def render_area(area: Area) -> None:
    """Draw one card: the name and state, the number, what it means, and how it went; all of it is the link."""
    look = LOOKS[area.standing]
    with st.container(border=True, height="stretch", width=_CARD_PX, gap="xxsmall", key=f"card-{area.page}"):
        st.markdown(f"**{TITLES[area.page]}** {look.badge}")
        if area.standing in _UNSAID:
            render_unsaid(area)
        else:
            with st.container(horizontal=True, vertical_alignment="center", gap="small"):
                st.metric(
                    TITLES[area.page], plain(ui.shorten(area.figure, 14)), label_visibility="collapsed",
                    width="content",
                )  # fmt: skip
                render_sparkline(area.trend, area.trend_of)
            st.caption(plain(ui.shorten(area.change, 60)) if area.change else "\u00a0")
        with st.container(key=f"card-link-{area.page}"):
            st.page_link(
                get_page(area.page), label=f"Open {TITLES_OF_PAGES[area.page]}", icon="",
                help=plain_with_commands(area.sentence), query_params=FILTERS.get(area.page),
            )  # fmt: skip


def render_unsaid(area: Area) -> None:
    """What a card says that has no number: how it is connected, or what is wrong."""
    if area.standing is Standing.UNCONNECTED:
        st.caption(f"Connect {CONNECTING[SOURCES[area.page]].name}; its page says how in two lines.")
    else:
        said = area.sentence if area.standing is Standing.BROKEN else ui.shorten(area.sentence, _SENTENCE)
        st.markdown(f":small[{plain_with_commands(said)}]")


def render_outages(frame: ui.Frame) -> None:
    """One line for each other service of the environment that has an outage, with a link that switches to it."""
    others = [each for each in list_services() if each.environment == frame.scope.environment and each != frame.scope]
    found = load_outages(tuple(others))
    for scope, since in found[:MOST_NAMED]:
        look, name = ui.DRIFT_LOOKS[DriftStatus.OUTAGE], plain(scope.service)
        said = f":{look.color}[{look.label}] of {name} since {since.day} {since:%b %Y}: show {name}"
        link_to("overview", said, environment=frame.environment, service=scope.service)
    if len(found) > MOST_NAMED:
        st.caption(f"and {count_of(len(found) - MOST_NAMED, 'more service')}; choose them at the top")

"""Topics that are new: since when, how often they are asked, and the link to their questions."""

import streamlit as st

from app import ui
from app.navigation import link_to
from app.panels.coverage.resources import load_emerging
from app.text import plain
from core.coverage.emerging import EmergingTopic, describe_emerging

_MOST = 5


def render_emerging(frame: ui.Frame, *, is_reader: bool, explains: bool = False) -> None:
    """A line for each topic that was called in the last two weeks, the newest first; nothing without one.

    With `explains`, also what a call means, and why there can be none yet.
    """
    found = load_emerging(frame.scope, frame.today, readable=is_reader)
    for topic in found.topics[:_MOST]:
        with st.container(horizontal=True, vertical_alignment="center"):
            st.markdown(_say(topic), width="stretch")
            if topic.questions:
                link_to("questions", "See its questions", new=topic.topic_id, days="30d")
    if len(found.topics) > _MOST:
        more = len(found.topics) - _MOST
        st.caption(f"{more} more {'topic is' if more == 1 else 'topics are'} new: the newest are shown.")
    if explains and found.problem:
        st.caption(f"New topics cannot be called yet: the look {plain(found.problem)}.")
    elif explains and found.topics and found.until:
        st.caption(
            f"Questions up to {ui.format_day(found.until)} were compared with those of the four weeks before. The test "
            "is set for at most one false call a year. The mean score may not have moved yet."
        )


def _say(topic: EmergingTopic) -> str:
    named = f"“{plain(ui.shorten(topic.label, 80))}”: " if topic.label else ""
    look = ui.StatusLook(f"New since {ui.format_day(topic.since)}", "orange", ui.Mark.NEW)
    return f"{look.badge} {named}{describe_emerging(topic)}"

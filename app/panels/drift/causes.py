"""What most likely caused a drop, each cause with its evidence."""

import streamlit as st

from app import ui
from app.text import plain
from core.causes.causes import CauseKind, Causes
from core.causes.changes import WhatChanged


def render_causes(told: WhatChanged) -> None:
    """The candidate causes, likeliest first, each with its evidence."""
    st.caption("Probability given the log and how often each kind of change does harm, if there is one cause.")
    _render_ranked(told.causes, key="drift-causes", file_name="causes.csv")
    for further in told.further:
        st.subheader(f"Causes of the drop of {ui.format_day(further.drop.changed_on)}", anchor=False)
        st.markdown(plain(further.sentence))
        day = further.drop.changed_on.isoformat()
        _render_ranked(further.causes, key=f"drift-causes-{day}", file_name=f"causes-{day}.csv")


def _render_ranked(causes: Causes, *, key: str, file_name: str) -> None:
    """The two likeliest causes in words, and all in a table."""
    for cause in causes.ranked[:2]:
        title, evidence = plain(cause.title), plain(cause.evidence)
        sure = (
            f"probability {say_sure(cause.confidence)}"
            if cause.kind is CauseKind.UNKNOWN
            else say_sure(cause.confidence) + " sure"
        )
        lead = f"Cause {title}" if cause.kind is CauseKind.UNKNOWN else title[:1].upper() + title[1:]
        st.markdown(f"**{lead}**, {plain(sure)}. {evidence}")
    rows = [
        {
            "cause": ui.shorten(cause.title),
            "how sure": say_sure(cause.confidence),
            "explains": ui.format_share(cause.explained_share),
            "when": cause.change.ts if cause.change else None,
            "who": ui.shorten(cause.change.actor, 40) if cause.change else "",
            "audit entry": cause.change.entry_id if cause.change else None,
            "evidence": ui.shorten(cause.evidence, 300),
        }
        for cause in causes.ranked
    ]
    columns = {"cause": st.column_config.TextColumn(width=180), "evidence": st.column_config.TextColumn(width=310)}
    ui.show_table(rows, key=key, file_name=file_name, column_config=columns, row_height=72, height="content")


def say_sure(confidence: float) -> str:
    """A confidence in percent, never 0% or 100%."""
    return "under 1%" if confidence < 0.01 else "over 99%" if confidence > 0.99 else f"{confidence:.0%}"

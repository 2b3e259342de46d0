"""What most likely caused a drop, each cause with its evidence and the questions behind it."""

from collections.abc import Sequence
from datetime import date

import streamlit as st

from app import ui
from app.navigation import link_to
from app.tables import keep_selection
from app.text import plain
from core.causes.causes import Cause, CauseKind, Causes
from core.causes.changes import WhatChanged
from core.causes.headline import TopicShare
from core.drift.verdict import DriftReport
from core.overview import GAP_DAYS

_MOST_TOPICS = 3


def render_causes(told: WhatChanged, report: DriftReport) -> None:
    """The candidate causes, likeliest first, each with its evidence; a click on one leads to its questions."""
    st.caption(
        "How sure: from when the scores fell, whose scores fell, and how often such changes do harm. "
        "Choose a cause to open its questions."
    )
    chosen = _render_ranked(told.causes, key="drift-causes", file_name="causes.csv")
    _render_links(chosen, told.topics, report.changed_on)
    for further in told.further:
        st.subheader(f"Causes of the drop of {ui.format_day(further.drop.changed_on)}", anchor=False)
        st.markdown(plain(further.sentence))
        day = further.drop.changed_on.isoformat()
        chosen = _render_ranked(further.causes, key=f"drift-causes-{day}", file_name=f"causes-{day}.csv")
        _render_links(chosen, (), further.drop.changed_on)


def _render_links(cause: Cause | None, topics: Sequence[TopicShare], since: date | None) -> None:
    """The links of a chosen cause: the questions of its topics, else those since its change, and its audit entry."""
    if cause is None:
        return
    with st.container(horizontal=True):
        if cause.kind is CauseKind.NEW_QUESTIONS and topics:
            for topic in topics[:_MOST_TOPICS]:
                label = f"See the questions about “{plain(ui.shorten(topic.label, 60))}”"
                link_to("questions", label, topic=topic.topic_id, days=f"{GAP_DAYS}d")
            return
        if day := cause.change.ts.date() if cause.change else since:
            label = f"See the low questions since {ui.format_day(day)}"
            link_to("questions", label, low="1", since=day.isoformat(), days="90d")
        if cause.change and cause.change.entry_id:
            link_to("audit", f"Open entry {cause.change.entry_id}", entry=str(cause.change.entry_id))


def _render_ranked(causes: Causes, *, key: str, file_name: str) -> Cause | None:
    """The two likeliest causes in words, and all in a table; return the one that is chosen there."""
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
    event = ui.show_table(
        rows, file_name=file_name, column_config=columns, row_height=88, height="content", on_select="rerun",
        selection_mode="single-row", **keep_selection(key, [repr((row["cause"], row["when"])) for row in rows]).options,
    )  # fmt: skip
    return next((causes.ranked[place] for place in event["selection"]["rows"] if place < len(rows)), None)


def say_sure(confidence: float) -> str:
    """A confidence in percent, never 0% or 100%."""
    return "under 1%" if confidence < 0.01 else "over 99%" if confidence > 0.99 else f"{confidence:.0%}"

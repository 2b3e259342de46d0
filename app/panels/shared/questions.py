"""Links from charts and tables to the questions behind them."""

from datetime import date
from typing import Any

import streamlit as st

from app import ui
from app.navigation import link_to
from app.text import plain
from core.drift.verdict import DriftReport
from core.log.filters import LABELS
from core.questions.wanted import NO_VALUE

CLICK = "Click a day to see its questions."


def render_day_links(event: Any) -> None:
    """Draw links to the questions of the day that was clicked on a chart, or say that it can be."""
    days = [found for point in event["selection"]["points"] if (found := _read_day(point.get("x")))]
    if not days:
        st.caption(CLICK)
        return
    left, right, _ = st.columns([1, 1, 2])
    with left:
        link_to("questions", f"All questions of {ui.format_day(days[0])}", day=days[0].isoformat())
    with right:
        link_to("questions", f"Low questions of {ui.format_day(days[0])}", day=days[0].isoformat(), low="1")


def render_drop_link(report: DriftReport) -> None:
    """Draw the link to the low questions since a drop; nothing while there is none."""
    if report.changed_on:
        label = f"See the low questions since {ui.format_day(report.changed_on)}"
        link_to("questions", label, low="1", since=report.changed_on.isoformat(), days="90d")


def link_to_segment(dimension: str, value: str) -> None:
    """Draw the link to the questions of one value of a dimension."""
    named = value or NO_VALUE
    label = f"See the questions of {plain(dimension.replace('_', ' '))} {plain(ui.shorten(named, 40))}"
    if dimension in LABELS:
        link_to("questions", label, **{dimension: named})
    else:
        link_to("questions", label, attribute=f"{dimension}={value}")


def _read_day(value: Any) -> date | None:
    try:
        return date.fromisoformat(str(value)[:10])
    except ValueError:
        return None

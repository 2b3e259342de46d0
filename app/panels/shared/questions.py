"""Links from charts and tables to the questions behind them."""

from datetime import date
from typing import Any

import streamlit as st

from app import ui
from app.navigation import get_page, link_to
from app.text import plain
from core.drift.verdict import DriftReport
from core.log.filters import LABELS
from core.questions.wanted import NO_VALUE

CLICK = "Click a day to open its questions, or a change to open its audit entry."


def open_clicked(event: Any, *, said: str = CLICK) -> None:
    """Open the questions of the day that was clicked on a chart, or the audit entry of the change.

    Without a click, `said` tells that it can be done.
    """
    for point in event["selection"]["points"][:1]:
        told = point.get("customdata")
        if isinstance(told, list | tuple) and told and told[0] == "change":
            _open_change(int(told[1]), str(told[2]))
        elif day := _read_day(point.get("x")):
            st.switch_page(get_page("questions"), query_params={"day": day.isoformat(), **keep_scope()})
    if said:
        st.caption(said)


def _open_change(entry: int, url: str) -> None:
    """Open the audit entry of a change; one without an entry is linked in the system that reported it."""
    if entry:
        st.switch_page(get_page("audit"), query_params={"entry": str(entry)})
    if url.startswith(("https://", "http://")):
        st.link_button("Open this change where it was made", url, icon=":material/open_in_new:")


def keep_scope() -> dict[str, str]:
    """The environment and the service in the address, for a page that is opened from here."""
    return {name: st.query_params[name] for name in ("environment", "service") if name in st.query_params}


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

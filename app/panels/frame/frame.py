"""What stands around every page: the mark, search and help at the top, and the foot of the sidebar."""

from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from zoneinfo import ZoneInfo

import streamlit as st

from app import ui
from app.panels.frame.help import open_help
from app.panels.frame.keys import render_keys
from app.panels.frame.search import open_search

_APP = Path(__file__).parents[2]
MARK = str(_APP / "favicon.svg")


def render_identity() -> None:
    """Draw the name and mark, and the style of the pages."""
    st.logo(str(_APP / "logo.svg"), size="large", icon_image=MARK)
    st.html(_APP / "style.css")


def render_bar(page: str) -> None:
    """Draw search and help at the right of the bar on top, and listen to their keys."""
    with st.container(key="frame_bar", horizontal=True, gap="xxsmall"):
        if st.button("Search `/`", key="frame_search", icon=":material/search:", help="Search everything: key /"):
            open_search()
        if st.button("Help", key="frame_help", icon=":material/help:", help="Help, keys and glossary: key ?"):
            open_help(page)
    render_keys()


def render_foot() -> None:
    """Draw the version, and when the page was drawn, at the foot of the sidebar."""
    now = datetime.now(UTC)
    st.caption(
        f"v{find_version()} · updated {now.astimezone(ZoneInfo(ui.viewer_zone())):%H:%M}",
        help=f"This page was drawn at {ui.format_utc(now)}. Most figures are read anew every 15 to 60 seconds, from "
        "all services.",
    )


@cache
def find_version() -> str:
    """Return the version of the client that the deck was installed with."""
    try:
        return version("quarterdeck")
    except PackageNotFoundError:
        return "0"

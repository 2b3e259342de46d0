"""The tabs of a page that has more views than people can take in: a tab may hold several.

The address names the view, not the tab, so links stay what they are wherever a view is put.
"""

from collections.abc import Callable, Mapping, Sequence

import streamlit as st

from app import ui

_TAB, _VIEW = "views-tab", "views-view"


def draw_views(
    tabs: Mapping[str, Sequence[str]], views: Mapping[str, tuple[str, Callable[[], None]]], *,
    names: Mapping[str, str] | None = None,
) -> None:  # fmt: skip
    """Draw the tabs, each with the names of its views, and the one view that the address names, else the first.

    The first view of a tab has its name. A view is what is said if it cannot be read, and the function that draws it;
    `names` are what views are called within their tab.
    """
    asked = st.query_params.get("tab", "")
    shown = asked if asked in views else next(iter(views))
    opened = next(tab for tab, held in tabs.items() if shown in held)
    st.session_state[_TAB] = opened
    drawn = st.tabs(list(tabs), on_change=_keep, args=(_TAB,), key=_TAB)
    what, draw = views[shown]
    with drawn[list(tabs).index(opened)]:
        if len(tabs[opened]) > 1:
            _choose(tabs[opened], shown, names or {})
        with ui.showing_errors(what):
            draw()


def _choose(views: Sequence[str], shown: str, names: Mapping[str, str]) -> None:
    st.session_state[_VIEW] = shown
    st.segmented_control(
        "View", views, required=True, format_func=lambda name: names.get(name, name), key=_VIEW, on_change=_keep,
        args=(_VIEW,), label_visibility="collapsed",
    )  # fmt: skip


def _keep(key: str) -> None:
    """Put what was chosen into the address."""
    st.query_params["tab"] = st.session_state[key]

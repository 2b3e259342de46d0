"""Saved views: the filters of the page under a name, for everybody in the environment."""

from functools import partial

import streamlit as st

from app import ui
from app.navigation import link_to
from app.panels.questions.resources import load_views
from app.resources import get_store
from app.text import plain
from app.visitor import lock, make_act
from core.audit.actions import Action
from core.questions.operations import delete_view, save_view
from core.questions.views import SavedView
from core.questions.wanted import Pairs

_REASON = "on the questions page"
PLACE = "questions-views"  # where it is said what became of a view


def render_views(pairs: Pairs, environment: str) -> None:
    """Draw the saved views as links, and the form that saves the filters in use."""
    views = load_views(environment).views
    with st.popover(f"Views ({len(views)})" if views else "Views", icon=":material/bookmark:"):
        for view in views:
            left, right = st.columns([4, 1], vertical_alignment="center")
            with left:
                link_to("questions", plain(view.name), **_as_query(view.filters))
            right.button(
                "Delete", key=f"view-{view.name}", type="tertiary", on_click=_delete, args=(view, environment),
                **lock(Action.VIEW_DELETE, environment),
            )  # fmt: skip
        if not views:
            st.caption("No view is saved yet: set filters, and save them here under a name.")
        with st.form("questions-view", border=False, clear_on_submit=True):
            st.text_input("Save these filters as", key="questions_view_name", max_chars=80)
            locked = lock(Action.VIEW_SAVE, environment)
            st.form_submit_button("Save", on_click=_save, args=(pairs, environment), **locked)


def _as_query(filters: Pairs) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, value in filters:
        found.setdefault(name, []).append(value)
    return found


def _save(pairs: Pairs, environment: str) -> None:
    name = st.session_state["questions_view_name"].strip()

    former = next((view for view in load_views(environment).views if view.name == name), None)
    undo = partial(_store, former, environment) if former else partial(_remove, name, environment)
    ui.record_change(
        lambda: _store(SavedView(name, pairs), environment),
        effect="The view is saved.",
        place=PLACE,
        undo=undo,
        forget=load_views.clear,
    )


def _delete(view: SavedView, environment: str) -> None:
    ui.record_change(
        partial(_remove, view.name, environment), effect="The view is deleted.", place=PLACE,
        undo=partial(_store, view, environment), forget=load_views.clear,
    )  # fmt: skip


def _store(view: SavedView, environment: str) -> int:
    return save_view(get_store(), view, make_act(f"saved {_REASON}", environment))


def _remove(name: str, environment: str) -> int:
    return delete_view(get_store(), name, make_act(f"deleted {_REASON}", environment))

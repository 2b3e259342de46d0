"""The dialog that creates a flag, off and for nobody, so that creating it changes no answer."""

from typing import Any

import streamlit as st

from app import ui
from app.feedback import render_toast
from app.resources import get_store
from app.text import plain
from app.visitor import lock, make_act
from core.audit.actions import Action
from core.flags.operations import create_flag
from core.flags.upkeep import Details, set_details
from quarterdeck.definitions import boolean_flag, canary_flag, split_flag, switch_flag

KINDS = ("On or off", "A/B split", "Canary")
FIRST_VARIANTS = {"control": 1.0, "treatment": 1.0}
_OPEN, _PLACE = "new-flag-open", "flags-new"


def render_new(environment: str, *, done_at: str) -> None:
    """Draw the button, and the dialog while it is open. Success is said at `done_at`, a refusal in the dialog."""
    locked = lock(Action.FLAG_CREATE, environment)
    st.button("New flag", key="new-flag", icon=":material/add:", on_click=open_dialog, **locked)
    if st.session_state.get(_OPEN):
        draw_dialog(environment, done_at)


def open_dialog() -> None:
    """Open the dialog on the next run."""
    st.session_state[_OPEN] = True


def close_dialog() -> None:
    """Forget that the dialog is open."""
    st.session_state.pop(_OPEN, None)


@st.dialog("New flag", on_dismiss=close_dialog)
def draw_dialog(environment: str, done_at: str) -> None:
    """Key, kind and description; owner, tags and rules are set on the flag itself, which opens next."""
    if not st.session_state.get(_OPEN):  # it was created, and only the dialog ran again
        st.rerun()
    with st.form("new-flag-form", border=False):
        st.text_input("Key", key="new-key", max_chars=300, placeholder="use_reranker")
        st.selectbox("Kind", KINDS, key="new-kind")
        st.text_input("Description", key="new-description", max_chars=500)
        st.text_input("Reason", key="new-reason", max_chars=500)
        st.caption(f"It starts switched off, in {plain(environment)}. Owner, tags, variants and rules come next.")
        locked = lock(Action.FLAG_CREATE, environment)
        st.form_submit_button("Create flag", type="primary", on_click=make_flag, args=(environment, done_at), **locked)
    render_toast()
    ui.render_said(_PLACE)


def make_flag(environment: str, done_at: str) -> None:
    """Create the flag that the form describes, and open it."""
    state = st.session_state
    key = state["new-key"]

    def create() -> int:
        definition = set_details(make_definition(state["new-kind"]), Details(state["new-description"]))
        entry = create_flag(get_store(), key, definition, make_act(state["new-reason"], environment))
        close_dialog()
        st.query_params["flag"] = key
        return entry

    ui.record_change(create, effect=f"{plain(key)} is created, and off.", place=_PLACE, done_at=done_at)


def make_definition(kind: str) -> dict[str, Any]:
    """Return a flag of this kind, off and for nobody."""
    if kind == "A/B split":
        return switch_flag(split_flag(FIRST_VARIANTS, 0), on=False)
    if kind == "Canary":
        return switch_flag(canary_flag(0), on=False)
    return boolean_flag(on=False, rollout_pct=0)

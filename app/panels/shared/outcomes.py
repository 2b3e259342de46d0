"""The outcome of a change, told beside the controls that made it, with a way to undo it."""

from collections.abc import Callable
from dataclasses import dataclass

import streamlit as st

from app.text import plain_error
from core.errors import QuarterdeckError


@dataclass(frozen=True, slots=True)
class Undo:
    """What takes a change back: it returns the audit entry of doing so."""

    change: Callable[[], int]
    label: str = "Undo"


def run_change(key: str, change: Callable[[], int], *, said: str, undo: Undo | None = None) -> None:
    """Run one operation from a callback; its outcome is shown by `render_outcome` of the same key."""
    try:
        entry = change()
    except QuarterdeckError as error:
        st.session_state[f"outcome-{key}"] = "error", f"**Nothing was changed** — {plain_error(error)}", None
        return
    st.session_state[f"outcome-{key}"] = "success", f"{said} Audit entry {entry}.", undo


def render_outcome(key: str) -> None:
    """Show the outcome of the last change until the next one; the undo button stands beside it."""
    kind, said, undo = st.session_state.get(f"outcome-{key}", ("", "", None))
    if not said:
        return
    with st.container(horizontal=True, vertical_alignment="center"):
        {"success": st.success, "error": st.error}[kind](said)
        if undo is not None:
            st.button(undo.label, key=f"undo-{key}", on_click=_undo, args=(key, undo))
        st.button("Hide", key=f"hide-{key}", on_click=_hide, args=(key,), type="tertiary")


def _undo(key: str, undo: Undo) -> None:
    run_change(key, undo.change, said="Undone.")


def _hide(key: str) -> None:
    st.session_state.pop(f"outcome-{key}", None)

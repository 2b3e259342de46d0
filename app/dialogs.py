"""Forms in dialogs: a button opens one; it closes when its change was made, and stays open to say why it was not."""

from collections.abc import Callable
from typing import Any

import streamlit as st

from app import ui

_OPEN = "dialog-open"


def offer_dialog(label: str, draw: Callable[[str], None], *, place: str, icon: str, **options: Any) -> None:
    """Draw the button that opens a dialog, and while it is open the dialog, in which `draw` draws.

    `place` names the dialog; `draw` passes it on to `submit`. Success is said where the page has `render_said(place)`.
    """
    st.button(label, key=f"open-{place}", icon=icon, on_click=_open, args=(place,), **options)
    if st.session_state.get(_OPEN) == place:

        @st.dialog(label, width="medium", on_dismiss=close)
        def show() -> None:
            draw(place)
            ui.render_said(_within(place))

        show()


def submit(
    change: Callable[[], int], *, place: str, effect: str, undo: Callable[[], int] | None = None,
    forget: Callable[[], object] | None = None,
) -> None:  # fmt: skip
    """Run the change of an open dialog, and draw the page anew: without the dialog, if the change was made."""

    def run() -> int:
        entry = change()
        close()
        return entry

    ui.submit_change(run, effect=effect, place=_within(place), done_at=place, undo=undo, forget=forget)


def close() -> None:
    """Close the dialog on the next run."""
    st.session_state.pop(_OPEN, None)


def _open(place: str) -> None:
    st.session_state[_OPEN] = place


def _within(place: str) -> str:
    return f"{place}-dialog"

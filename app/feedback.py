"""What became of a change: a toast with *Undo*, and beside the control the error or the number of the audit entry.

A change runs in a callback, before the page's script, so it applies to the version that the visitor saw.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

import streamlit as st

from app.looks import Mark
from app.navigation import link_to
from app.resources import get_store
from app.text import plain_error
from app.visitor import lock, make_act
from core.audit.actions import Action
from core.audit.trail import get_audit_entry
from core.errors import ApprovalNeeded, HalfDone, QuarterdeckError
from core.reverts import explain_irreversible, find_newest, revert

_KEY, _TOLD = "feedback", "feedback_told"


@dataclass(frozen=True, slots=True)
class ChangeOutcome:
    """How a change ended. `place` names the control that made it; `entry` is the audit entry, 0 for none.

    `undo` takes the change back where the audit trail alone cannot, and `forget` drops what is cached of the thing.
    Without `offers_undo`, the toast leaves undoing to the control.
    """

    place: str
    kind: str
    said: str
    entry: int = 0
    offers_undo: bool = True
    undo: Callable[[], int] | None = None
    forget: Callable[[], object] | None = None


def record_change(
    change: Callable[[], int], *, place: str, effect: str = "", done_at: str | None = None,
    offers_undo: bool = True, undo: Callable[[], int] | None = None, forget: Callable[[], object] | None = None,
) -> None:  # fmt: skip
    """Run one operation from a callback, and keep its outcome for `render_said`.

    `place` names the control; `done_at` where success is said instead, if the control is gone then. `undo` takes the
    change back and returns the audit entry of that; what the audit trail can restore by itself needs none. `forget`
    drops what pages cache of the thing, after the change and after its undo.
    """
    try:
        entry = change()
        outcome = ChangeOutcome(
            place if done_at is None else done_at,
            "success",
            f"Recorded as audit entry {entry}. {effect}".strip(),
            entry,
            offers_undo,
            undo,
            forget,
        )
    except HalfDone as error:
        outcome = ChangeOutcome(place, "error", f"**Only partly done** — {plain_error(error)}")
    except ApprovalNeeded as needed:
        outcome = ChangeOutcome(place, "info", plain_error(needed))
    except QuarterdeckError as error:
        outcome = ChangeOutcome(place, "error", f"**Nothing was changed** — {plain_error(error)}")
    if forget is not None:
        forget()
    st.session_state[_KEY] = st.session_state[_TOLD] = outcome


def tell(said: str, *, kind: str, place: str) -> None:
    """Keep what `render_said` is to say of a change that has no audit entry of its own: success, info or error."""
    st.session_state[_KEY] = st.session_state[_TOLD] = ChangeOutcome(place, kind, said)


def was_made() -> bool:
    """Whether the last change was made."""
    outcome = st.session_state.get(_KEY)
    return outcome is not None and outcome.kind == "success"


def submit_change(
    change: Callable[[], int], *, effect: str, place: str, done_at: str | None = None,
    undo: Callable[[], int] | None = None, forget: Callable[[], object] | None = None,
) -> None:  # fmt: skip
    """Run one operation where a form was read, not in a callback; then draw the page anew, with what it did."""
    record_change(change, effect=effect, place=place, done_at=done_at, undo=undo, forget=forget)
    st.rerun()


def render_toast() -> None:
    """Show the outcome of the last change as a toast, once: wherever on the page it was made, it is on the screen."""
    outcome = st.session_state.pop(_TOLD, None)
    if outcome is not None and outcome.entry:
        _render_saved(outcome)
    elif outcome is not None and outcome.kind == "success":
        st.toast(outcome.said, icon=Mark.FINE.icon)
    elif outcome is not None and outcome.kind == "info":
        st.toast(outcome.said, icon=":material/info:")
    elif outcome is not None:
        st.toast(outcome.said, icon=Mark.WARNING.icon, duration="long")


def _render_saved(outcome: ChangeOutcome) -> None:
    """The toast of a success. Streamlit's own holds no button: style.css fixes this one, and hides it after a while."""
    with st.container(border=True, key="saved-toast"):
        st.markdown(f":green[{Mark.FINE.icon}] Saved: entry {outcome.entry}")
        with suppress(QuarterdeckError):
            _render_undo(outcome)


def render_said(place: str) -> None:
    """Show how the last change of this place ended, once; the toast has the button that takes it back."""
    outcome = st.session_state.get(_KEY)
    if outcome is None or outcome.place != place:
        return
    if outcome.kind == "error":
        st.error(outcome.said)
    elif outcome.kind == "info":
        st.info(outcome.said)
    else:
        st.success(outcome.said)
    del st.session_state[_KEY]


def _render_undo(outcome: ChangeOutcome) -> None:
    """The button that takes the change back, and the link to its entry."""
    with st.container(horizontal=True):
        entry = get_audit_entry(get_store(), outcome.entry)
        take_back = None
        if outcome.undo is not None:
            take_back = partial(_run_undo, outcome.entry, outcome.undo, outcome.place, outcome.forget)
        elif outcome.offers_undo and not explain_irreversible(entry):
            newest = find_newest(get_store(), entry)
            take_back = partial(undo, outcome.entry, newest, outcome.place, outcome.forget)
        if take_back is not None:
            st.button(
                "Undo", key=f"saved-{outcome.entry}", icon=":material/undo:", on_click=take_back,
                **lock(Action(entry.action), entry.environment),
            )  # fmt: skip
        link_to("audit", f"Open entry {outcome.entry}", entry=str(outcome.entry))


def undo(entry_id: int, newest: int, place: str, forget: Callable[[], object] | None = None) -> None:
    """Restore the state before an entry, unless somebody changed the same thing since."""
    entry = get_audit_entry(get_store(), entry_id)

    def run() -> int:
        by = make_act(f"undo of entry {entry_id} on the page", entry.environment)
        return revert(get_store(), entry_id, by, seen=newest)

    _run_undo(entry_id, run, place, forget)


def _run_undo(entry_id: int, change: Callable[[], int], place: str, forget: Callable[[], object] | None) -> None:
    record_change(change, effect=f"Entry {entry_id} is undone.", place=place, forget=forget)

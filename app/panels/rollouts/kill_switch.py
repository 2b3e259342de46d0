"""The kill switch of a flag: it asks once, in place, and what it did can be undone there for 30 seconds."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import streamlit as st

from app import ui
from app.feedback import undo
from app.navigation import link_to
from app.panels.shared.rehearsals import render_rehearsal
from app.resources import get_store
from app.text import plain
from app.visitor import lock, make_act
from core.audit.actions import Action
from core.flags.operations import switch_flag
from core.flags.store import Flag
from core.rehearsals.report import rehearse_flag

UNDO_FOR = timedelta(seconds=30)
NO_REASON = "kill switch"
_ASKED, _KILLED = "kill-asked", "kill-done"
_LOOK_EVERY_S = 5.0


@dataclass(frozen=True, slots=True)
class Killed:
    """A flag that was just turned off: where on the page, by which audit entry, and until when Undo is offered."""

    place: str
    environment: str
    key: str
    entry: int
    until: datetime


def ask_kill(flag: Flag, place: str) -> None:
    """Ask at this place whether to turn the flag off; nothing is changed yet."""
    st.session_state[_ASKED] = (place, flag.environment, flag.key)


def render_kill(flags: Sequence[Flag], place: str) -> None:
    """Draw the question, if it was asked here about one of the flags, and what became of it."""
    asked = st.session_state.get(_ASKED)
    flag = next((each for each in flags if (place, each.environment, each.key) == asked), None)
    if flag is not None and flag.view.is_on:
        _render_question(flag, place)
    ui.render_said(place)
    killed = st.session_state.get(_KILLED)
    if killed is not None and killed.place == place and datetime.now(UTC) < killed.until:
        _render_undo()


def kill(flag: Flag, place: str) -> None:
    """Turn the flag off, as the visitor saw it. A reason may be missing: in an emergency nobody should look for one."""

    def change() -> int:
        reason = st.session_state.get(_reason_key(flag), "").strip() or NO_REASON
        entry = switch_flag(get_store(), flag, make_act(reason, flag.environment), on=False)
        until = datetime.now(UTC) + UNDO_FOR
        st.session_state[_KILLED] = Killed(place, flag.environment, flag.key, entry, until)
        return entry

    cancel()
    # Success is said with Undo for as long as that is offered, not once.
    ui.record_change(change, place=place, done_at=f"{place}-undo", offers_undo=False)


def cancel() -> None:
    """Take the question away."""
    st.session_state.pop(_ASKED, None)


def take_back(killed: Killed) -> None:
    """Undo the kill, unless somebody changed the flag since."""
    st.session_state.pop(_KILLED, None)
    undo(killed.entry, killed.entry, killed.place)


def _render_question(flag: Flag, place: str) -> None:
    with st.form(f"kill-form-{flag.environment}-{flag.key}"):
        st.markdown(f"**Turn {plain(flag.key)} off?** Every caller gets the default in its code.")
        st.text_input("Reason (optional)", key=_reason_key(flag), max_chars=500)
        with st.container(horizontal=True):
            locked = lock(Action.FLAG_UPDATE, flag.environment)
            st.form_submit_button("Turn off", type="primary", on_click=kill, args=(flag, place), **locked)
            st.form_submit_button("Keep it on", on_click=cancel)
    render_rehearsal(
        ("flag", flag.environment, flag.key, flag.version), lambda now: rehearse_flag(get_store(), flag, now=now),
        flag.environment, key=f"kill-rehearsal-{flag.environment}-{flag.key}",
    )  # fmt: skip


def _reason_key(flag: Flag) -> str:
    return f"kill-reason-{flag.environment}-{flag.key}"


@st.fragment(run_every=_LOOK_EVERY_S)
def _render_undo() -> None:
    """What was done, with Undo; it disappears by itself."""
    killed: Killed | None = st.session_state.get(_KILLED)
    if killed is None or datetime.now(UTC) >= killed.until:
        st.session_state.pop(_KILLED, None)
        st.rerun()
    what = f"{plain(killed.key)} is off in {plain(killed.environment)}"
    st.success(f"Recorded as audit entry {killed.entry}. {what}. {ui.FLIP_SEEN}")
    with st.container(horizontal=True):
        said = {"help": f"Offered for {UNDO_FOR.seconds} seconds. Later, revert the entry on the page Audit."}
        st.button(
            "Undo", key=f"undo-kill-{killed.entry}", icon=":material/undo:", on_click=take_back, args=(killed,),
            **(said | lock(Action.FLAG_UPDATE, killed.environment)),
        )  # fmt: skip
        link_to("audit", f"Open entry {killed.entry}", entry=str(killed.entry))

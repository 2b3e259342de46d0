"""One audit entry: what differs, both states in full, and the form that reverts it."""

import json

import streamlit as st

from app import ui
from app.resources import get_store
from app.text import plain
from app.visitor import lock, make_act
from core.audit.actions import Action, Subject, subject_of
from core.audit.jsondiff import diff_states
from core.audit.sentences import say_entry
from core.audit.trail import AuditEntry
from core.reverts import explain_irreversible, find_newest, find_state, former_state, revert

_PLACE = "audit-revert"


def render_entry(entry: AuditEntry) -> None:
    """One entry in full: what differs, both states, and the form that reverts it."""
    st.subheader(f"Entry {entry.entry_id}: {plain(say_entry(entry.actor, entry.action, entry.target))}", anchor=False)
    when, where = plain(ui.format_moment(entry.ts)), plain(entry.environment)
    told = f"{ui.format_utc(entry.ts)}. Scripts know this as the action {plain(entry.action)}."
    st.caption(f"{ui.format_ago(entry.ts)}, {when}, in {where}", help=told)
    st.text(entry.reason)
    st.code(diff_states(entry.before, entry.after) or "no difference", language=None)
    with st.expander("Both states in full"):
        left, right = st.columns(2)
        for column, title, state in ((left, "Before", entry.before), (right, "After", entry.after)):
            column.caption(title)
            column.code(
                json.dumps(state, indent=2, ensure_ascii=False) if state is not None else "nothing", language=None
            )
    if problem := explain_irreversible(entry):
        st.caption(plain(f"Entry {problem}."))
        ui.render_said(_PLACE)
        return
    render_revert(entry)


def render_revert(entry: AuditEntry) -> None:
    """What reverting would change now, and the form that reverts."""
    newest = find_newest(get_store(), entry)
    if subject_of(entry.action) in (Subject.FLAG, Subject.CANARY, Subject.EXPERIMENT):
        now, former = find_state(get_store(), entry), former_state(entry)
        if now == former:
            st.caption("Nothing to revert: the state before this entry is that of now.")
            ui.render_said(_PLACE)
            return
        st.markdown("**Restoring the state before this entry** would change:")
        st.code(diff_states(now, former), language=None)
    key = f"revert-{entry.entry_id}-{newest}"
    with st.form(key):
        st.text_input("Reason for restoring the earlier state", key=f"{key}-reason", max_chars=500)

        def run() -> int:
            by = make_act(st.session_state[f"{key}-reason"], entry.environment)
            return revert(get_store(), entry.entry_id, by, seen=newest)

        locked = lock(Action(entry.action), entry.environment)
        st.form_submit_button("Revert", on_click=ui.record_change, args=(run,), kwargs={"place": _PLACE}, **locked)
    ui.render_said(_PLACE)

"""Audit: who changed what, when and why; before and after; and whether the chain of entries is whole."""

import json

import streamlit as st

from app import ui
from app.resources import get_store, list_environments
from app.visitor import lock, make_act
from core.control import AuditEntry, list_audit, list_broken_audit_entries
from core.operations import revert


def render_entry(entry: AuditEntry) -> None:
    """One entry in full: before beside after, and the way back."""
    st.subheader(f"Entry {entry.entry_id}: {ui.plain(entry.action)} of {ui.plain(entry.target)}", anchor=False)
    st.caption(f"{ui.plain(entry.actor)}, {entry.ts:%d %b %Y %H:%M:%S} UTC, in {ui.plain(entry.environment)}")
    st.text(entry.reason)
    left, right = st.columns(2)
    for column, title, state in ((left, "Before", entry.before), (right, "After", entry.after)):
        column.caption(title)
        column.code(
            json.dumps(state, indent=2, ensure_ascii=False) if state is not None else "nothing", language="json"
        )
    with st.form(f"revert-{entry.entry_id}"):
        reason = st.text_input("Reason for bringing the former state back", max_chars=500)
        if st.form_submit_button("Revert", **lock(entry.action, entry.environment)):
            with ui.showing_errors("Nothing was changed"):
                made = revert(get_store(), entry.entry_id, make_act(reason, entry.environment))
                st.success(f"Recorded as audit entry {made}.")


def render() -> None:
    """The page, once the store could be read."""
    entries = list_audit(get_store(), limit=1_000)
    if not entries:
        ui.render_empty("Nothing was changed yet. The first flip of a flag will stand here.", "quarterdeck demo")
        return
    broken = list_broken_audit_entries(get_store())
    newest = entries[0]
    what = f"{newest.actor} did {newest.action} of {newest.target} {ui.format_ago(newest.ts)}"
    last = f"The last of {len(entries):,} changes: {ui.plain(what)}."
    if broken:
        st.error(f"The chain of hashes breaks at entry {', '.join(map(str, broken))}: a row was changed or removed.")
    ui.render_verdict(last, ui.Look("Chain broken", "red", "⚠") if broken else ui.Look("Chain verified", "green", "✓"))
    left, middle, right = st.columns(3)
    chosen = {
        "actor": left.selectbox("Who", sorted({e.actor for e in entries}), None, key="who", bind="query-params"),
        "action": middle.selectbox("What", sorted({e.action for e in entries}), None, key="what", bind="query-params"),
        "target": right.selectbox("On", sorted({e.target for e in entries}), None, key="on", bind="query-params"),
    }
    shown = [e for e in entries if all(wanted in (None, getattr(e, name)) for name, wanted in chosen.items())]
    ui.show_table(
        [
            {"entry": e.entry_id, "when": e.ts, "who": e.actor, "what": e.action, "on": e.target, "why": e.reason}
            for e in shown
        ],
        key="audit-table", file_name="audit.csv",
        column_config={"when": st.column_config.DatetimeColumn(format="D MMM YYYY, HH:mm")},
    )  # fmt: skip
    numbers = [entry.entry_id for entry in shown]
    if numbers:
        number = st.selectbox("Entry", numbers, key="entry", bind="query-params")
        render_entry(next((e for e in shown if e.entry_id == number), shown[0]))


ui.render_frame("Audit", environments=list_environments(), ranges=False)
with ui.showing_errors("The audit trail could not be read"):
    render()

"""Audit: who changed what, when and why; what differs; the way back; and whether the chain of entries is whole."""

import json
from collections.abc import Callable
from datetime import UTC, date, datetime, time
from typing import Any

import streamlit as st

from app import ui
from app.resources import get_store, list_environments
from app.visitor import lock, make_act
from core.audit.actions import Action, Subject, subject_of
from core.audit.files import write_csv, write_json
from core.audit.jsondiff import diff_states
from core.audit.trail import (
    AuditEntry,
    AuditFilter,
    count_audit,
    list_audit,
    list_audit_values,
    list_broken_audit_entries,
)
from core.reverts import explain_irreversible, find_newest, find_state, former_state, revert
from quarterdeck.clock import to_ms

SHOWN = 1_000


def render_filter() -> AuditFilter:
    """Draw the filter, and return which entries the visitor means."""
    store, columns = get_store(), st.columns(5)
    chosen: dict[str, Any] = {
        name: column.selectbox(label, list_audit_values(store, name), None, key=key, bind="query-params")
        for column, (name, label, key) in zip(
            columns,
            (("actor", "Who", "who"), ("action", "What", "what"), ("target", "On", "on"),
             ("environment", "Where", "where")),
            strict=False,
        )
    }  # fmt: skip
    since = columns[4].date_input("Since", None, key="since", max_value="today")
    started = datetime.combine(since, time(), UTC) if isinstance(since, date) else None
    return AuditFilter(**chosen, since_ms=to_ms(started) if started else None)


def render_table(entries: tuple[AuditEntry, ...], count: int, chosen: AuditFilter) -> None:
    """The newest entries that fit, and all of them as files."""
    st.dataframe(
        [
            {
                "entry": e.entry_id, "when": e.ts, "who": e.actor, "what": str(e.action), "on": e.target,
                "where": e.environment, "why": e.reason,
            }
            for e in entries
        ],
        hide_index=True, key="audit-table",
        column_config={"when": ui.time_column()},
    )  # fmt: skip
    if count > len(entries):
        st.caption(f"The newest {len(entries):,} of {count:,} that fit; the files hold all of them.")
    left, right, _ = st.columns([1, 1, 3])
    for column, kind, write, mime in (
        (left, "CSV", write_csv, "text/csv"), (right, "JSON", write_json, "application/json"),
    ):  # fmt: skip
        column.download_button(
            f"All {count:,} as {kind}", export(write, chosen), f"audit.{kind.lower()}", mime,
            key=f"audit-{kind}", type="tertiary", on_click="ignore",
        )  # fmt: skip


def export(write: Callable[..., str], chosen: AuditFilter) -> Callable[[], str]:
    """What writes the file once somebody asks for it: every entry that fits, with before, after and hashes."""
    return lambda: write(list_audit(get_store(), chosen, limit=None))


def render_entry(entry: AuditEntry) -> None:
    """One entry in full: what differs, both states, and the way back."""
    st.subheader(f"Entry {entry.entry_id}: {ui.plain(entry.action)} of {ui.plain(entry.target)}", anchor=False)
    when, where = ui.plain(ui.format_moment(entry.ts)), ui.plain(entry.environment)
    st.caption(f"{ui.plain(entry.actor)}, {when}, in {where}", help=ui.format_utc(entry.ts))
    st.text(entry.reason)
    st.code(diff_states(entry.before, entry.after) or "nothing that differs", language=None)
    with st.expander("Both states in full"):
        left, right = st.columns(2)
        for column, title, state in ((left, "Before", entry.before), (right, "After", entry.after)):
            column.caption(title)
            column.code(
                json.dumps(state, indent=2, ensure_ascii=False) if state is not None else "nothing", language=None
            )
    if problem := explain_irreversible(entry):
        st.caption(ui.plain(f"Entry {problem}."))
        return
    render_revert(entry)


def render_revert(entry: AuditEntry) -> None:
    """What the way back would change now, and the form that takes it."""
    newest = find_newest(get_store(), entry)
    if subject_of(entry.action) in (Subject.FLAG, Subject.CANARY, Subject.EXPERIMENT):
        now, former = find_state(get_store(), entry), former_state(entry)
        st.markdown("**Back to the state before this entry** would change now:")
        st.code(diff_states(now, former) or "nothing: it is as it was then", language=None)
    key = f"revert-{entry.entry_id}-{newest}"
    with st.form(key):
        st.text_input("Reason for bringing the former state back", key=f"{key}-reason", max_chars=500)

        def run() -> int:
            by = make_act(st.session_state[f"{key}-reason"], entry.environment)
            return revert(get_store(), entry.entry_id, by, seen=newest)

        locked = lock(Action(entry.action), entry.environment)
        st.form_submit_button("Revert", on_click=ui.record_change, args=(run,), **locked)


def render() -> None:
    """The page, once the store could be read."""
    newest = next(iter(list_audit(get_store(), limit=1)), None)
    if newest is None:
        ui.render_empty("Nothing was changed yet. The first flip of a flag will stand here.", "quarterdeck demo")
        return
    broken = list_broken_audit_entries(get_store())
    what = f"{newest.actor} did {newest.action} of {newest.target} {ui.format_ago(newest.ts)}"
    last = f"The last of {count_audit(get_store()):,} changes: {ui.plain(what)}."
    if broken:
        st.error(f"The chain of hashes breaks at entry {', '.join(map(str, broken))}: a row was changed or removed.")
    ui.render_verdict(
        last, ui.StatusLook("Chain broken", "red", "⚠") if broken else ui.StatusLook("Chain verified", "green", "✓")
    )
    ui.render_said()
    chosen = render_filter()
    shown = list_audit(get_store(), chosen, limit=SHOWN)
    if not shown:
        st.caption("None of the changes fits the filter.")
        return
    render_table(shown, count_audit(get_store(), chosen), chosen)
    number = st.selectbox("Entry", [entry.entry_id for entry in shown], key="entry", bind="query-params")
    render_entry(next((e for e in shown if e.entry_id == number), shown[0]))


ui.render_frame("Audit", environments=list_environments(), ranges=False)
with ui.showing_errors("The audit trail could not be read"):
    render()

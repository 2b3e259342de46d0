"""The audit trail: the filter, the newest matching entries, and all of them as files."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, time
from typing import Any

import streamlit as st

from app import ui
from app.downloads import offer_file
from app.resources import get_store
from app.visitor import get_visitor
from core.audit.files import write_csv, write_json
from core.audit.permissions import Roles, list_readable
from core.audit.sentences import say_action
from core.audit.trail import AuditEntry, AuditFilter, hide_labels, list_audit, list_audit_values
from core.safety.letters import show_text
from quarterdeck.clock import to_ms

SHOWN = 1_000
_TABLE = "audit-table"


def render_filter() -> AuditFilter:
    """Draw the filter, and return the visitor's selection."""
    columns, among = st.columns(5), list_readable(get_visitor().roles)
    filters = (
        ("actor", "Who", "who"), ("action", "What", "what"), ("target", "On", "on"), ("environment", "Where", "where"),
    )  # fmt: skip
    chosen: dict[str, Any] = {}
    for column, (name, label, key) in zip(columns, filters, strict=False):
        with column:
            chosen[name] = _choose(label, list_audit_values(get_store(), name, among=among), key=key)
    since = columns[4].date_input("Since", None, key="since", max_value="today")
    started = datetime.combine(since, time(), UTC) if isinstance(since, date) else None
    return AuditFilter(**chosen, since_ms=to_ms(started) if started else None, among=among)


def _choose(label: str, values: Sequence[str], *, key: str) -> str | None:
    """Draw the choice of one value, which the address carries as it is stored; actions are shown in words."""
    wanted, say = st.query_params.get(key), say_action if key == "what" else show_text
    st.session_state[key] = wanted if wanted in values else None
    return st.selectbox(
        label, sorted(values, key=say), key=key, placeholder="any", format_func=say, on_change=ui.keep_named,
        args=(key,),
    )  # fmt: skip


def render_table(entries: tuple[AuditEntry, ...], count: int, chosen: AuditFilter) -> None:
    """The newest matching entries, and all of them as files. A click in a row opens its entry."""
    ids = tuple(str(entry.entry_id) for entry in entries)
    st.dataframe(
        [
            {
                "entry": e.entry_id, "when": e.ts, "who": e.actor, "what": say_action(e.action), "on": e.target,
                "where": e.environment, "why": e.reason,
            }
            for e in entries
        ],
        hide_index=True, key=_TABLE, column_config={"when": ui.time_column()},
        **ui.open_by_row(_TABLE, ids, key="entry"),
    )  # fmt: skip
    if count > len(entries):
        st.caption(f"The newest {len(entries):,} of {count:,} matching entries; the files have all of them.")
    left, right, _ = st.columns([1, 1, 3])
    for column, kind, write, mime in (
        (left, "CSV", write_csv, "text/csv"), (right, "JSON", write_json, "application/json"),
    ):  # fmt: skip
        with column:
            offer_file(
                f"All {count:,} as {kind}", export(write, chosen), f"audit.{kind.lower()}", mime, key=f"audit-{kind}"
            )


def export(write: Callable[..., str], chosen: AuditFilter) -> Callable[[Roles], str]:
    """Return the function that writes the file on click: every matching entry, with before, after and hashes."""

    def export_for(roles: Roles) -> str:
        found = list_audit(get_store(), replace(chosen, among=list_readable(roles)), limit=None)
        return write(hide_labels(found, roles))

    return export_for

"""Audit: who changed what, when and why; what differs; reverting; and whether the hash chain is intact."""

from contextlib import suppress

import streamlit as st

from app import ui
from app.panels.audit.entry import render_entry
from app.panels.audit.trail import SHOWN, render_filter, render_table
from app.resources import get_store
from app.text import plain
from app.visitor import get_visitor
from core.audit.permissions import list_readable
from core.audit.sentences import say_entry
from core.audit.trail import (
    AuditEntry,
    AuditFilter,
    count_audit,
    get_audit_entry,
    hide_labels,
    list_audit,
    list_broken_audit_entries,
)
from core.errors import NotFound
from core.wording.counts import count_of

_VERIFIED = ui.StatusLook("Chain verified", "green", ui.Mark.FINE)
_BROKEN = ui.StatusLook("Chain broken", "red", ui.Mark.WARNING)


def render_sentence(newest: AuditEntry, readable: AuditFilter) -> None:
    """The newest change, and whether the hash chain is intact."""
    broken = list_broken_audit_entries(get_store())
    what = f"{say_entry(newest.actor, newest.action, newest.target)}, {ui.format_ago(newest.ts)}"
    look = _BROKEN if broken else _VERIFIED
    if broken:
        st.error(f"The chain of hashes breaks at entry {', '.join(map(str, broken))}: a row was changed or removed.")
    count = count_of(count_audit(get_store(), readable), "change")
    when = f"Entry {newest.entry_id}, {ui.format_moment(newest.ts)}."
    ui.render_verdict(f"The last of {count}: {plain(what)}.", look, detail=when)


def render() -> None:
    """The page, once the store could be read."""
    readable = AuditFilter(among=list_readable(get_visitor().roles))
    newest = next(iter(list_audit(get_store(), readable, limit=1)), None)
    if newest is None:
        ui.render_empty("There are no changes yet. The first change of a flag will appear here.", "quarterdeck demo")
        return
    render_sentence(newest, readable)
    chosen = render_filter()
    shown = hide_labels(list_audit(get_store(), chosen, limit=SHOWN), get_visitor().roles)
    if shown:
        render_table(shown, count_audit(get_store(), chosen), chosen)
    else:
        st.caption("No change matches the filter.")
    entries = {entry.entry_id: entry for entry in (*shown, *find_named(readable))}
    number = ui.choose_named("Entry", list(entries), key="entry", say_gone=say_gone)
    if number is not None:
        render_entry(entries[number])


def find_named(readable: AuditFilter) -> tuple[AuditEntry, ...]:
    """The entry that the address names, if it may be read, whatever the filter hides."""
    wanted = st.query_params.get("entry", "")
    with suppress(NotFound):
        if wanted.isascii() and wanted.isdigit() and len(wanted) < 19:
            entry = get_audit_entry(get_store(), int(wanted))
            if readable.among is None or entry.environment in readable.among:
                return hide_labels([entry], get_visitor().roles)
    return ()


def say_gone(name: str) -> str:
    """What is said of an entry that an address names and that is not there."""
    return f"There is no entry {plain(ui.shorten(name, 40))} in the trail that you may read."


ui.render_frame("Audit", ranges=False)
with ui.showing_errors("The audit trail could not be read"):
    render()

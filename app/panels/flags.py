"""The flags of the rollouts page: the table, and one flag with its switches, its history and its definition."""

from collections.abc import Sequence
from typing import Any

import streamlit as st

from app import ui
from app.resources import get_store
from app.visitor import lock, make_act
from core.control import Flag, list_audit
from core.operations import update_flag
from quarterdeck import definitions
from quarterdeck.definitions import rollout_pct


def render_flags(flags: Sequence[Flag]) -> None:
    """Draw every flag in a table, and the chosen one in full."""
    ui.show_table(
        [
            {"flag": flag.key, "state": describe_state(flag), "variants": ", ".join(flag.definition["variants"]),
             "changed": ui.format_ago(flag.updated), "by": flag.updated_by,
             "description": str(flag.definition.get("metadata", {}).get("description", ""))}
            for flag in flags
        ],
        key="rollouts-table", file_name="flags.csv",
    )  # fmt: skip
    by_key = {flag.key: flag for flag in flags}
    chosen = st.selectbox("Flag", list(by_key), key="flag", bind="query-params")
    flag = by_key.get(chosen or "", flags[0])
    st.subheader(ui.plain(flag.key), anchor=False)
    st.caption(ui.plain(str(flag.definition.get("metadata", {}).get("description", ""))))
    render_switches(flag)
    render_history(flag)
    with st.expander("Definition (flagd JSON)"):
        st.json(flag.definition)


def is_on(flag: Flag) -> bool:
    """Whether the flag is switched on at all."""
    return bool(flag.definition.get("state") == "ENABLED")


def describe_state(flag: Flag) -> str:
    """The flag's state as a person says it."""
    share = rollout_pct(flag.definition)
    return "off" if not is_on(flag) else "on" if share is None or share == 100 else f"on for {share:g}%"


def apply(flag: Flag, definition: dict[str, Any], reason: str) -> None:
    """Store the new definition in place of the version that the visitor saw."""
    ui.record_change(
        lambda: update_flag(get_store(), flag, definition, make_act(reason, flag.environment)),
        effect="Services see it within two seconds.",
    )


def save(flag: Flag) -> None:
    """Store what the form says. Runs before the page does, so that `flag` is the version which the visitor saw."""
    seen, state = f"{flag.key}-{flag.version}", st.session_state
    share = rollout_pct(flag.definition)
    wanted = definitions.switch_flag(flag.definition, on=state[f"on-{seen}"])
    if share is not None and state[f"share-{seen}"] != share:
        wanted = definitions.set_rollout(wanted, state[f"share-{seen}"])
    if wanted == flag.definition:
        state["said"] = "info", "Nothing differs from what is stored."
    else:
        apply(flag, wanted, state[f"reason-{seen}"])


def kill(flag: Flag) -> None:
    """Turn the flag off."""
    apply(flag, definitions.switch_flag(flag.definition, on=False), "kill switch")


def render_switches(flag: Flag) -> None:
    """The form that switches one flag or moves its rollout, and the kill switch."""
    seen = f"{flag.key}-{flag.version}"
    share, locked = rollout_pct(flag.definition), lock("flag.update", flag.environment)
    with st.form(f"flag-{seen}"):
        left, right = st.columns(2)
        left.toggle("On", is_on(flag), key=f"on-{seen}")
        if share is not None:
            label = "Canary (green) share, %" if "green" in flag.definition["variants"] else "Rollout, % of users"
            right.slider(label, 0.0, 100.0, float(share), 0.1, key=f"share-{seen}")
        st.text_input("Reason", key=f"reason-{seen}", max_chars=500)
        st.form_submit_button("Save", type="primary", on_click=save, args=(flag,), **locked)
    label = f"Kill switch: turn {ui.plain(flag.key)} off now"
    options = {"disabled": not is_on(flag), **locked}
    st.button(label, key=f"kill-{flag.key}", on_click=kill, args=(flag,), **options)


def render_history(flag: Flag) -> None:
    """The last changes of one flag."""
    entries = list_audit(get_store(), target=flag.key, limit=10)
    if entries:
        st.caption("Last changes")
        ui.show_table(
            [{"when": ui.format_ago(e.ts), "who": e.actor, "what": e.action, "why": e.reason} for e in entries],
            key="rollouts-history", file_name="history.csv",
        )  # fmt: skip

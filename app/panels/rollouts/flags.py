"""The flags of the rollouts page: the list with its filters and kill switches, a new flag, and one flag in full."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import streamlit as st

from app import ui
from app.panels.rollouts.flag_editor import render_editor
from app.panels.rollouts.schedules import render_schedule
from app.resources import get_store
from app.text import plain
from app.visitor import lock, make_act
from core.audit.actions import Action
from core.audit.trail import AuditFilter, list_audit
from core.flags.board import BoardRow
from core.flags.operations import create_flag, remove_flag, switch_flag
from core.flags.schedule import say_next
from core.flags.store import Flag
from core.flags.upkeep import Details, describe_state, set_details, split_tags
from core.reverts import revert
from quarterdeck.definitions import boolean_flag, canary_flag, split_flag
from quarterdeck.definitions import switch_flag as switch_definition

UNDO_WITHIN_S = 30.0
KINDS = ("On or off", "A/B split", "Canary")
MAY_BE_EMPTY = ("planned", "evaluations, 24 h", "stale", "owner", "tags")


def render_flags(environment: str, board: Sequence[BoardRow]) -> None:
    """Draw the matching flags in a table, and the chosen one in full."""
    shown = filter_board(board) if board else ()
    if board and not shown:
        st.caption(f"None of the {len(board)} flags matches the filters.")
    elif shown:
        render_undo(environment)
        render_list(environment, shown)
    render_new(environment)
    if shown:
        by_key = {row.flag.key: row for row in shown}
        chosen = st.selectbox("Flag", list(by_key), key="flag", bind="query-params")
        render_flag(by_key.get(chosen or "", shown[0]))


def filter_board(board: Sequence[BoardRow]) -> tuple[BoardRow, ...]:
    """Draw the filters, and return the matching rows."""
    all_tags = sorted({tag for row in board for tag in row.details.tags})
    owners = sorted({row.details.owner for row in board if row.details.owner})
    left, *places, last = st.columns(
        [2, *([2] if all_tags else []), *([1.5] if owners else []), 1], vertical_alignment="bottom"
    )
    search = left.text_input("Search in names, descriptions, owners and tags", key="search", bind="query-params")
    tags = places.pop(0).multiselect("Tags", all_tags, key="tags", bind="query-params") if all_tags else []
    owner = places.pop(0).selectbox("Owner", owners, None, key="owner", bind="query-params") if owners else None
    stale = last.toggle("Stale only", key="stale", bind="query-params")
    return tuple(row for row in board if row.fits(search=search or "", tags=tags, owner=owner, stale=stale))


def render_list(environment: str, shown: Sequence[BoardRow]) -> None:
    """The table; its first column switches a flag off in one click."""
    may = not lock(Action.FLAG_UPDATE, environment)
    column = st.column_config.ButtonColumn(
        "kill switch", width="small", pinned=True, on_click=kill_row, args=(tuple(row.flag for row in shown),),
        key="kill-row", help="Turns the flag off at once: every caller gets the default in its code",
    )  # fmt: skip
    rows = [describe_row(row, environment, with_kill=may) for row in shown]
    empty = {name for name in rows[0] if name in MAY_BE_EMPTY and not any(row[name] not in ("", None) for row in rows)}
    ui.show_table(
        [{name: cell for name, cell in row.items() if name not in empty} for row in rows],
        key="rollouts-table", file_name="flags.csv", column_config={"kill": column} if may else {},
    )  # fmt: skip
    if all(row.evaluations is None for row in shown):
        st.caption("No service has reported evaluations here yet. The client counts them once it reads these flags.")


def describe_row(row: BoardRow, environment: str, *, with_kill: bool) -> dict[str, Any]:
    """One flag as a row of the table."""
    flag = row.flag
    return {
        **({"kill": "Turn off" if flag.view.is_on else None} if with_kill else {}),
        "flag": flag.key,
        environment: describe_state(flag.view),
        **dict(row.elsewhere),
        "planned": say_next(row.schedule, now=datetime.now(UTC)) if row.schedule else "",
        "evaluations, 24 h": row.evaluations,
        "stale": "; ".join(row.staleness),
        "changed": ui.format_ago(flag.updated),
        "by": ui.shorten(flag.updated_by, 40),
        "owner": ui.shorten(row.details.owner, 40),
        "tags": ", ".join(row.details.tags),
        "description": ui.shorten(row.details.description),
    }


def kill_row(flags: Sequence[Flag]) -> None:
    """Turn off the flag whose button was pressed, as the visitor saw it."""
    kill(flags[st.session_state["kill-row"]["row"]])


def kill(flag: Flag) -> None:
    """Turn the flag off. For a while, one click undoes it."""

    def switch() -> int:
        entry = switch_flag(get_store(), flag, make_act("kill switch", flag.environment), on=False)
        st.session_state["killed"] = Killed(flag.key, flag.environment, entry, time.monotonic())
        return entry

    ui.record_change(switch, effect=f"{plain(flag.key)} is off. {ui.FLIP_SEEN}")


@dataclass(frozen=True, slots=True)
class Killed:
    """What the visitor turned off last, the audit entry of it, and when."""

    key: str
    environment: str
    entry_id: int
    at_s: float


def render_undo(environment: str) -> None:
    """The button that turns the flag on again that the visitor has just turned off."""
    killed = st.session_state.get("killed")
    if not isinstance(killed, Killed) or killed.environment != environment:
        return
    if time.monotonic() - killed.at_s > UNDO_WITHIN_S:
        del st.session_state["killed"]
        return
    locked = lock(Action.FLAG_UPDATE, environment)
    label = f"Undo: turn {plain(killed.key)} on again"
    st.button(label, key="undo-kill", icon=":material/undo:", on_click=undo, args=(killed,), **locked)


def undo(killed: Killed) -> None:
    """Restore the flag as it was, unless somebody changed it since."""
    st.session_state.pop("killed", None)
    ui.record_change(
        lambda: revert(
            get_store(), killed.entry_id, make_act("undo of the kill switch", killed.environment), seen=killed.entry_id
        ),
        effect=f"{plain(killed.key)} is as it was. {ui.FLIP_SEEN}",
    )


def render_flag(row: BoardRow) -> None:
    """One flag: description, kill switch, editor, schedule, history, and deletion."""
    flag = row.flag
    st.subheader(plain(flag.key), anchor=False)
    if row.details.description:
        st.caption(plain(row.details.description))
    for reason in row.staleness:
        st.markdown(f":orange-badge[◐ Stale] {plain(reason)}: is it still needed?")
    label = f"Kill switch: turn {plain(flag.key)} off now"
    options = {"disabled": not flag.view.is_on, **lock(Action.FLAG_UPDATE, flag.environment)}
    st.button(label, key=f"kill-{flag.key}", on_click=kill, args=(flag,), **options)
    render_editor(flag)
    render_schedule(flag, row.schedule)
    render_history(flag)
    render_removal(flag)


def render_history(flag: Flag) -> None:
    """The latest changes of one flag."""
    entries = list_audit(get_store(), AuditFilter(target=flag.key, environment=flag.environment), limit=50)
    if entries:
        st.caption("Last changes")
        ui.show_table(
            [
                {"entry": e.entry_id, "when": e.ts, "who": e.actor, "what": str(e.action), "why": e.reason}
                for e in entries[:10]
            ],
            key="rollouts-history", file_name="history.csv",
        )  # fmt: skip


def render_new(environment: str) -> None:
    """The form that creates a flag, off and for nobody, so that creating it changes no answer."""
    with st.expander("New flag"), st.form("new-flag", border=False):
        left, right = st.columns(2)
        left.text_input("Name", key="new-key", max_chars=300)
        right.selectbox("Kind", KINDS, key="new-kind")
        left.text_input("Variants of an A/B split", "control, treatment", key="new-variants", max_chars=500)
        right.text_input("Owner", key="new-owner", max_chars=200)
        left.text_input("Description", key="new-description", max_chars=500)
        right.text_input("Tags, separated by commas", key="new-tags", max_chars=500)
        st.text_input("Reason", key="new-reason", max_chars=500)
        st.caption(f"It starts switched off, in {plain(environment)}.")
        locked = lock(Action.FLAG_CREATE, environment)
        st.form_submit_button("Create flag", on_click=make_flag, args=(environment,), **locked)


def make_flag(environment: str) -> None:
    """Create the flag that the form describes."""
    state = st.session_state
    details = Details(state["new-description"], state["new-owner"], split_tags(state["new-tags"]))

    def create() -> int:
        definition = {
            "On or off": lambda: boolean_flag(on=False, rollout_pct=0),
            "A/B split": lambda: split_flag(dict.fromkeys(split_tags(state["new-variants"]), 1.0), 0),
            "Canary": lambda: canary_flag(0),
        }[state["new-kind"]]()
        definition = switch_definition(set_details(definition, details), on=False)
        return create_flag(get_store(), state["new-key"], definition, make_act(state["new-reason"], environment))

    ui.record_change(create, effect=f"{plain(state['new-key'])} is created, and off.")


def render_removal(flag: Flag) -> None:
    """The form that deletes the flag."""
    with st.expander("Delete this flag"), st.form(f"delete-{flag.key}", border=False):
        st.caption("Every caller gets the default in its code. The audit trail keeps the flag, so it can be restored.")
        left, right = st.columns(2)
        left.text_input("Reason", key=f"delete-reason-{flag.key}", max_chars=500)
        right.text_input(f"Type {plain(flag.key)}", key=f"delete-name-{flag.key}", max_chars=300)
        locked = lock(Action.FLAG_DELETE, flag.environment)
        st.form_submit_button("Delete flag", on_click=remove, args=(flag,), **locked)


def remove(flag: Flag) -> None:
    """Delete the flag as the visitor saw it."""
    state = st.session_state
    ui.record_change(
        lambda: remove_flag(
            get_store(), flag, make_act(state[f"delete-reason-{flag.key}"], flag.environment),
            typed_name=state[f"delete-name-{flag.key}"],
        ),
        effect=f"{plain(flag.key)} is deleted.",
    )  # fmt: skip

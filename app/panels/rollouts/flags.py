"""The flags of the rollouts page: the list with its filters and kill switches, and one flag in full."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import streamlit as st

from app import ui
from app.panels.rollouts.flag_editor import render_editor
from app.panels.rollouts.kill_switch import ask_kill, render_kill
from app.panels.rollouts.new_flag import render_new
from app.panels.rollouts.schedules import render_schedule
from app.panels.rollouts.user_answers import render_answers
from app.resources import get_store
from app.text import plain, show_unseen
from app.visitor import lock, make_act
from core.audit.actions import Action
from core.audit.sentences import say_action
from core.audit.trail import AuditFilter, list_audit
from core.flags.board import BoardRow
from core.flags.operations import remove_flag
from core.flags.schedule import say_next
from core.flags.store import Flag
from core.flags.upkeep import describe_state
from core.wording.counts import count_of

_LIST, _KILL, _TABLE = "flags-list", "flags-kill", "rollouts-table"
_FIELD_PX, _SEARCHED = 240, "names, descriptions, owners, tags"
MAY_BE_EMPTY = ("planned", "evaluations, 24 h", "stale", "owner", "tags")


def render_flags(environment: str, board: Sequence[BoardRow]) -> None:
    """Draw the matching flags in a table, and beside it the chosen one in full."""
    if not board:
        ui.render_said(_LIST)
        render_new(environment, done_at=_LIST)
        return
    with st.container(key="flags-split"):  # side by side where there is room, see style.css
        left, right = st.columns([1, 1], gap="medium")
    with left:
        shown = filter_board(board)
        if shown:
            render_list(environment, shown)
        else:
            st.caption(f"None of {count_of(len(board), 'flag')} matches the filters.")
        ui.render_said(_LIST)
        render_new(environment, done_at=_LIST)
        render_answers(environment, [row.flag for row in board])
    with right:
        chosen = choose_flag(environment, board, shown)
        if chosen is not None:
            render_flag(chosen)


def choose_flag(environment: str, board: Sequence[BoardRow], shown: Sequence[BoardRow]) -> BoardRow | None:
    """The flag that the address names, whatever the filters hide; without one, the first that is shown."""
    by_key = {row.flag.key: row for row in (*shown, *board)}
    names = [row.flag.key for row in shown] or list(by_key)
    wanted = st.query_params.get("flag")
    if wanted in by_key and wanted not in names:
        names.append(wanted)
    chosen = ui.choose_named("Flag", names, key="flag", say_gone=lambda name: say_gone(name, environment))
    return by_key[chosen] if chosen is not None else None


def say_gone(name: str, environment: str) -> str:
    """What became of a flag that an address names and that is not there: who deleted it, or that there was none."""
    entries = list_audit(
        get_store(), AuditFilter(target=name, action=Action.FLAG_DELETE, environment=environment), limit=1
    )
    said = f"There is no flag {plain(ui.shorten(name, 80))} in {plain(environment)}"
    if not entries:
        return f"{said}, and none of that name was deleted here."
    when = ui.format_moment(entries[0].ts)
    return f"{said}: {plain(entries[0].actor)} deleted it on {plain(when)}, entry {entries[0].entry_id}."


def place_of(flag: Flag) -> str:
    """Where the outcome of a change of this flag is said."""
    return f"flag-{flag.environment}-{flag.key}"


def filter_board(board: Sequence[BoardRow]) -> tuple[BoardRow, ...]:
    """Draw the filters, and return the matching rows."""
    all_tags = sorted({tag for row in board for tag in row.details.tags})
    owners = sorted({row.details.owner for row in board if row.details.owner})
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small"):
        search = st.text_input("Search", key="search", bind="query-params", placeholder=_SEARCHED, width=_FIELD_PX)
        tags = st.multiselect("Tags", all_tags, key="tags", bind="query-params", width=_FIELD_PX) if all_tags else []
        owner = (
            st.selectbox("Owner", owners, None, key="owner", bind="query-params", width=_FIELD_PX) if owners else None
        )
        stale = st.toggle("Stale only", key="stale", bind="query-params", width="content")
        partly = st.toggle("Partly rolled out", key="partly", bind="query-params", width="content")
    return tuple(
        row
        for row in board
        if row.fits(search=search or "", tags=tags, owner=owner, stale=stale)
        and (row.flag.view.is_partly_on or not partly)
    )


def render_list(environment: str, shown: Sequence[BoardRow]) -> None:
    """The table: a click in a row opens its flag, and the first column turns a flag off, after asking below."""
    may = not lock(Action.FLAG_UPDATE, environment)
    column = st.column_config.ButtonColumn(
        "kill switch", width="small", pinned=True, on_click=kill_row, args=(tuple(row.flag for row in shown),),
        key="kill-row", help="Asks once, then turns the flag off: every caller gets the default in its code",
    )  # fmt: skip
    keys = tuple(row.flag.key for row in shown)
    rows = [describe_row(row, environment, with_kill=may) for row in shown]
    empty = {name for name in rows[0] if name in MAY_BE_EMPTY and not any(row[name] not in ("", None) for row in rows)}
    columns = {"changed": ui.age_column(), **({"kill": column} if may else {})}
    ui.show_table(
        [{name: cell for name, cell in row.items() if name not in empty} for row in rows],
        key=_TABLE, file_name="flags.csv", column_config=columns,
        **ui.open_by_row(_TABLE, keys, key="flag"),
    )  # fmt: skip
    render_kill([row.flag for row in shown], _KILL)
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
        "changed": flag.updated,
        "by": ui.shorten(flag.updated_by, 40),
        "owner": ui.shorten(row.details.owner, 40),
        "tags": ", ".join(row.details.tags),
        "description": ui.shorten(row.details.description),
    }


def kill_row(flags: Sequence[Flag]) -> None:
    """Ask about the flag whose button was pressed."""
    ask_kill(flags[st.session_state["kill-row"]["row"]], _KILL)


def render_flag(row: BoardRow) -> None:
    """One flag: description, kill switch, editor, schedule, history, and deletion."""
    flag = row.flag
    st.subheader(plain(flag.key), anchor=False)
    if row.details.description:
        st.caption(plain(row.details.description))
    for reason in row.staleness:
        st.markdown(f":orange-badge[{ui.Mark.STALE.icon} Stale] {plain(reason)}: is it still needed?")
    label = f"Kill switch: turn {plain(flag.key)} off"
    options = {"disabled": not flag.view.is_on, **lock(Action.FLAG_UPDATE, flag.environment)}
    place = f"kill-{place_of(flag)}"
    st.button(label, key=f"kill-{flag.key}", on_click=ask_kill, args=(flag, place), **options)
    render_kill([flag], place)
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
                {"entry": e.entry_id, "when": e.ts, "who": e.actor, "what": say_action(e.action), "why": e.reason}
                for e in entries[:10]
            ],
            key="rollouts-history", file_name="history.csv",
        )  # fmt: skip


def render_removal(flag: Flag) -> None:
    """The form that deletes the flag."""
    with st.expander("Delete this flag"), st.form(f"delete-{flag.key}", border=False):
        st.caption("Every caller gets the default in its code. The audit trail keeps the flag, so it can be restored.")
        left, right = st.columns(2)
        left.text_input("Reason", key=f"delete-reason-{flag.key}", max_chars=500)
        right.text_input(
            "Type the flag's name", key=f"delete-name-{flag.key}", max_chars=300, placeholder=show_unseen(flag.key)
        )
        locked = lock(Action.FLAG_DELETE, flag.environment)
        st.form_submit_button("Delete flag", on_click=remove, args=(flag,), **locked)
    ui.render_said(f"delete-{place_of(flag)}")


def remove(flag: Flag) -> None:
    """Delete the flag as the visitor saw it; what became of it is said at the list, where the flag is no more."""
    state = st.session_state
    place = f"delete-{place_of(flag)}"

    def change() -> int:
        act = make_act(state[f"delete-reason-{flag.key}"], flag.environment)
        entry = remove_flag(get_store(), flag, act, typed_name=state[f"delete-name-{flag.key}"])
        if st.query_params.get("flag") == flag.key:
            del st.query_params["flag"]
        return entry

    ui.record_change(change, effect=f"{plain(flag.key)} is deleted.", place=place, done_at=_LIST)

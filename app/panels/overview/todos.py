"""The to-do list: what waits for a decision, with its owner and age, what is under way, and what was put off."""

from collections.abc import Iterable
from datetime import date, timedelta

import streamlit as st

from app import ui
from app.navigation import link_to
from app.panels.overview.resources import load_snoozes
from app.resources import get_store
from app.text import plain
from app.visitor import lock, make_act
from core.audit.actions import Action
from core.overview import Area
from core.todo.items import PutOff, Todo, TodoState, arrange_todos
from core.todo.operations import snooze_todo, wake_todo

_PLACE = "overview-todo"
DAYS = 7
_SNOOZE_SAID = f"Takes it off this list for {DAYS} days, for everybody"


def render_todos(areas: Iterable[Area], frame: ui.Frame) -> None:
    """The list, each line with a link to where it is decided."""
    todos = [todo for area in areas for todo in area.todos]
    found = arrange_todos(todos, snoozed=load_snoozes(frame.scope), today=frame.today)
    st.subheader(f"To decide ({len(found.decide)})", anchor=False)
    for number, todo in enumerate(found.decide, start=1):
        render_line(todo, frame, number)
    if not found.decide:
        st.caption("Nothing waits for a decision.")
    ui.render_said(_PLACE)
    if found.under_way:
        st.markdown(f"**Under way ({len(found.under_way)})**")
        for todo in found.under_way:
            link_to(todo.page, f"{plain(todo.text)}{_say_state(todo)}", **dict(todo.filters))
    if found.put_off:
        with st.expander(f"Put off ({len(found.put_off)})"):
            for each in found.put_off:
                render_put_off(each, frame)


def render_line(todo: Todo, frame: ui.Frame, number: int) -> None:
    """One decision: what, whose, since when, and the button that puts it off."""
    with st.container(horizontal=True, vertical_alignment="center"):
        with st.container(width="stretch"):
            link_to(todo.page, f"{number}. {plain(todo.text)}{_say_state(todo)}", **dict(todo.filters))
        st.button(
            "Snooze", key=f"snooze-{todo.key}", type="tertiary", icon=":material/snooze:",
            on_click=put_off,
            args=(frame, todo.key, frame.today + timedelta(days=DAYS), "put off on the overview"),
            **({"help": _SNOOZE_SAID} | lock(Action.TODO_SNOOZE, frame.environment)),
        )  # fmt: skip


def render_put_off(each: PutOff, frame: ui.Frame) -> None:
    """One line that is put off, and the button that brings it back."""
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(f"{plain(each.todo.text)} :gray[until {ui.format_day(each.until)}]", width="stretch")
        st.button(
            "Bring back", key=f"wake-{each.todo.key}", type="tertiary", on_click=bring_back,
            args=(frame, each.todo.key), **lock(Action.TODO_WAKE, frame.environment),
        )  # fmt: skip


def put_off(frame: ui.Frame, key: str, until: date, reason: str) -> None:
    """Put a line off. Runs before the page is drawn."""

    def change() -> int:
        act = make_act(reason, frame.environment)
        return snooze_todo(get_store(), frame.scope, key, until=until, today=frame.today, by=act)

    ui.record_change(change, effect=f"It comes back after {ui.format_day(until)}.", place=_PLACE)
    load_snoozes.clear()


def bring_back(frame: ui.Frame, key: str) -> None:
    """Bring a line back. Runs before the page is drawn."""
    act = make_act("brought back on the overview", frame.environment)
    ui.record_change(lambda: wake_todo(get_store(), frame.scope, key, today=frame.today, by=act), place=_PLACE)
    load_snoozes.clear()


def _say_state(todo: Todo) -> str:
    """Owner, state and age, in gray behind the line."""
    told = [plain(todo.owner)] if todo.owner else []
    told += [str(todo.state)] if todo.state is not TodoState.DECIDE else []
    told += [ui.format_ago(todo.since)] if todo.since else []
    return f" :gray[— {', '.join(told)}]" if told else ""

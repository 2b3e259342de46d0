"""The to-do list: what waits for a decision, with its owner and age, what is under way, and what was put off."""

from collections import Counter
from collections.abc import Iterable
from datetime import date, timedelta
from functools import partial

import streamlit as st

from app import ui
from app.navigation import link_to
from app.panels.overview.resources import load_snoozes
from app.resources import get_store
from app.text import plain
from app.visitor import lock, make_act
from core.audit.actions import Action
from core.overview import Area
from core.todo.items import PutOff, Todo, arrange_todos
from core.todo.operations import snooze_todo, wake_todo

_PLACE, _ALL = "overview-todo", "overview_all_todos"
DAYS = 7
MOST_LINES = 4  # so that the chart is on the first screen too
VERBS = {"drift": "Explain", "coverage": "Decide", "prompts": "Compare", "corpus": "Review", "rollouts": "Review"}
_LONGEST = 110
_OWNER_PX, _AGE_PX, _VERB_PX = 80, 84, 80
_SNOOZE_SAID = f"Takes it off this list for {DAYS} days, for everybody"


def render_todos(areas: Iterable[Area], frame: ui.Frame) -> None:
    """The list, each line with a link to where it is decided: the first of each area, then the others."""
    todos = [todo for area in areas for todo in area.todos]
    found = arrange_todos(todos, snoozed=load_snoozes(frame.scope), today=frame.today)
    lines = tuple(enumerate(take_turns(found.decide), start=1))
    is_folded = not st.session_state.get(_ALL, False)
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.subheader(f"To decide ({len(lines)})", anchor=False, width="content")
        if len(lines) > MOST_LINES:
            st.toggle(f"Show all {len(lines)}", key=_ALL, persist_state="session")
    if lines:
        with st.container(border=True, gap=None, key="todos"):
            for number, todo in lines[:MOST_LINES] if is_folded else lines:
                render_line(todo, frame, number)
    else:
        st.caption("Nothing waits for a decision.")
    ui.render_said(_PLACE)
    if found.under_way:
        with st.expander(f"Under way ({len(found.under_way)})"):
            for todo in found.under_way:
                render_under_way(todo)
    if found.put_off:
        with st.expander(f"Put off ({len(found.put_off)})"):
            for each in found.put_off:
                render_put_off(each, frame)


def render_line(todo: Todo, frame: ui.Frame, number: int) -> None:
    """One decision: what, whose, since when, where it is decided, and the button that puts it off."""
    filters = dict(todo.filters)
    with st.container(horizontal=True, vertical_alignment="center", gap="xsmall", key=f"todo-{number}"):
        with st.container(width="stretch", key=f"todo-text-{number}"):
            link_to(todo.page, f"{number}. {plain(ui.shorten(todo.text, _LONGEST))}", **filters)
        with st.container(width=_OWNER_PX):
            st.caption(plain(ui.shorten(todo.owner, 24)) or "no owner")
        with st.container(width=_AGE_PX):
            ui.show_age(todo.since)
        with st.container(width=_VERB_PX, key=f"todo-verb-{number}"):
            link_to(todo.page, VERBS.get(todo.page, "Open"), **filters)
        st.button(
            "Snooze", key=f"snooze-{todo.key}", type="tertiary", icon=":material/snooze:",
            on_click=put_off,
            args=(frame, todo.key, frame.today + timedelta(days=DAYS), "put off on the overview"),
            **({"help": _SNOOZE_SAID} | lock(Action.TODO_SNOOZE, frame.environment)),
        )  # fmt: skip


def render_under_way(todo: Todo) -> None:
    """One line that somebody works on, or whose effect is being measured."""
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        link_to(todo.page, plain(ui.shorten(todo.text, _LONGEST)), **dict(todo.filters))
        st.caption(", ".join([*([plain(todo.owner)] if todo.owner else []), str(todo.state)]), width="content")
        ui.show_age(todo.since)


def render_put_off(each: PutOff, frame: ui.Frame) -> None:
    """One line that is put off, and the button that brings it back."""
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(f"{plain(each.todo.text)} :gray[until {ui.format_day(each.until)}]", width="stretch")
        st.button(
            "Bring back", key=f"wake-{each.todo.key}", type="tertiary", on_click=bring_back,
            args=(frame, each.todo.key, each.until), **lock(Action.TODO_WAKE, frame.environment),
        )  # fmt: skip


def put_off(frame: ui.Frame, key: str, until: date, reason: str) -> None:
    """Put a line off. Runs before the page is drawn."""

    ui.record_change(
        partial(_snooze, frame, key, until, reason), effect=f"It comes back after {ui.format_day(until)}.",
        place=_PLACE, undo=partial(_wake, frame, key, "undone on the overview"), forget=load_snoozes.clear,
    )  # fmt: skip


def bring_back(frame: ui.Frame, key: str, until: date) -> None:
    """Bring a line back. Runs before the page is drawn."""
    ui.record_change(
        partial(_wake, frame, key, "brought back on the overview"), effect="It is on the list again.", place=_PLACE,
        undo=partial(_snooze, frame, key, until, "undone on the overview"), forget=load_snoozes.clear,
    )  # fmt: skip


def _snooze(frame: ui.Frame, key: str, until: date, reason: str) -> int:
    act = make_act(reason, frame.environment)
    return snooze_todo(get_store(), frame.scope, key, until=until, today=frame.today, by=act)


def _wake(frame: ui.Frame, key: str, reason: str) -> int:
    return wake_todo(get_store(), frame.scope, key, today=frame.today, by=make_act(reason, frame.environment))


def take_turns(todos: Iterable[Todo]) -> tuple[Todo, ...]:
    """Return the first line of each page, then the second of each, and so on.

    >>> lines = [Todo("t1", "coverage", "a"), Todo("t2", "coverage", "b"), Todo("c", "corpus", "c")]
    >>> [todo.text for todo in take_turns(lines)]
    ['a', 'c', 'b']
    """
    seen: Counter[str] = Counter()
    turns = []
    for at, todo in enumerate(todos):
        turns.append((seen[todo.page], at, todo))
        seen[todo.page] += 1
    return tuple(todo for _, _, todo in sorted(turns, key=lambda turn: turn[:2]))

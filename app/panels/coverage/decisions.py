"""The forms about one topic: what was decided about it, and what it is called; the outcome is said beside them."""

from collections.abc import Callable

import streamlit as st

from app import ui
from app.panels.coverage.resources import load_shelved
from app.resources import get_store
from app.visitor import lock, make_act
from core.audit.actions import Action
from core.coverage.backlog import BacklogTopic, TopicState
from core.coverage.labels import LONGEST_TITLE
from core.coverage.operations import mark_topic, rename_topic


def place_of(topic_id: str) -> str:
    """Where the outcome of a change of this topic is said."""
    return f"topic-{topic_id}"


def render_decision(known: BacklogTopic, environment: str, *, is_reader: bool) -> None:
    """The forms that decide about a topic and rename it, and beside them what became of the last change."""
    seen = f"{known.topic_id}-{known.version}"
    with st.form(f"topic-{seen}"), st.container(horizontal=True, vertical_alignment="bottom"):
        states = [str(state) for state in TopicState]
        st.selectbox("State", states, states.index(known.state), key=f"state-{seen}", width=130)
        st.text_input("Owner", known.owner, max_chars=200, key=f"owner-{seen}", width=170)
        st.text_input("Note", known.note, max_chars=500, key=f"note-{seen}", width=260)
        st.text_input("Reason", max_chars=500, key=f"reason-{seen}", width=260)
        locked = lock(Action.TOPIC_MARK, environment)
        st.form_submit_button("Save", type="primary", on_click=save_decision, args=(known, environment), **locked)
    ui.render_said(place_of(known.topic_id))
    if is_reader:
        render_rename(known, environment)


def save_decision(known: BacklogTopic, environment: str) -> None:
    """Store the form's decision about the topic that the visitor saw."""
    state, seen = st.session_state, f"{known.topic_id}-{known.version}"

    def mark() -> int:
        act = make_act(state[f"reason-{seen}"], environment)
        decided, owner, note = TopicState(state[f"state-{seen}"]), state[f"owner-{seen}"], state[f"note-{seen}"]
        return mark_topic(get_store(), known, decided, act, owner=owner, note=note)

    _record(mark, known)


def render_rename(known: BacklogTopic, environment: str) -> None:
    """The form that renames a topic, which then keeps the name."""
    seen = f"{known.topic_id}-{known.version}"
    with st.expander("Rename it"), st.form(f"rename-{seen}", border=False):
        columns = st.columns(2)
        columns[0].text_input("Name of the topic", known.label, max_chars=LONGEST_TITLE, key=f"label-{seen}")
        columns[1].text_input("Reason", max_chars=500, key=f"rename-reason-{seen}")
        locked = lock(Action.TOPIC_RENAME, environment)
        st.form_submit_button("Rename", on_click=save_name, args=(known, environment), **locked)


def save_name(known: BacklogTopic, environment: str) -> None:
    """Store the form's name for the topic that the visitor saw."""
    state, seen = st.session_state, f"{known.topic_id}-{known.version}"

    def rename() -> int:
        act = make_act(state[f"rename-reason-{seen}"], environment)
        return rename_topic(get_store(), known, state[f"label-{seen}"], act)

    _record(rename, known)


def _record(change: Callable[[], int], known: BacklogTopic) -> None:
    """Run the change; the table, and this topic's address, follow it at once."""
    st.query_params["topic"] = known.topic_id
    ui.record_change(change, place=place_of(known.topic_id), forget=load_shelved.clear)

"""The topic of one question, and taking it out of it: "not this topic"."""

from collections.abc import Callable

import streamlit as st

from app.navigation import link_to
from app.panels.questions.resources import forget_topics
from app.resources import get_store
from app.text import plain, plain_error
from app.visitor import lock, make_act
from core.audit.actions import Action
from core.coverage.assignments import TopicAssignments
from core.coverage.operations import exclude_question, include_question
from core.errors import QuarterdeckError
from core.log.filters import LoggedQuestion

_TAKEN_OUT = "taken_out"  # of which topic the visitor took questions, by the question's id


def render_membership(question: LoggedQuestion, environment: str, topics: TopicAssignments | None) -> None:
    """Draw the topic that a question is in, the button that takes it out, and afterwards the one that undoes it."""
    if problem := st.session_state.pop("topic_problem", ""):
        st.error(f"**Nothing was changed** — {problem}")
    if said := st.session_state.pop("topic_said", ""):
        st.toast(said, icon="✅")
    topic_id = topics.find(question) if topics else ""
    left_topic = st.session_state.get(_TAKEN_OUT, {}).get(question.retrieval_id, "")
    if left_topic and topic_id != left_topic:
        st.button(
            "Put it back into its topic", type="tertiary", icon=":material/undo:", on_click=_put_back,
            key=f"put-back-{question.retrieval_id}", args=(question, left_topic, environment),
            **lock(Action.TOPIC_INCLUDE, environment),
        )  # fmt: skip
    elif topic_id and topics:
        with st.container(horizontal=True, vertical_alignment="center"):
            link_to("coverage", f"Topic: {plain(topics.labels[topic_id])}", topic=topic_id)
            locked = lock(Action.TOPIC_EXCLUDE, environment)
            st.button(
                "Not this topic", type="tertiary", icon=":material/label_off:", on_click=_take_out,
                key=f"take-out-{question.retrieval_id}", args=(question, topic_id, environment),
                **({"help": "The next grouping leaves this question out, in every spelling."} | locked),
            )  # fmt: skip


def _take_out(question: LoggedQuestion, topic_id: str, environment: str) -> None:
    act = make_act("not this topic: on the questions page", environment)
    if _try(lambda: exclude_question(get_store(), topic_id, question, act), "The question is out of the topic"):
        st.session_state.setdefault(_TAKEN_OUT, {})[question.retrieval_id] = topic_id


def _put_back(question: LoggedQuestion, topic_id: str, environment: str) -> None:
    act = make_act("put back on the questions page", environment)
    if _try(lambda: include_question(get_store(), topic_id, question, act), "The question is back in the topic"):
        st.session_state[_TAKEN_OUT].pop(question.retrieval_id, None)


def _try(change: Callable[[], int], said: str) -> bool:
    """Make a change and keep what to say about it; return whether it was made."""
    try:
        entry = change()
    except QuarterdeckError as error:
        st.session_state["topic_problem"] = plain_error(error)
        return False
    st.session_state["topic_said"] = f"{said}: audit entry {entry}."
    forget_topics()
    return True

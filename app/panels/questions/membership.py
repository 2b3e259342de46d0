"""The topic of one question, and taking it out of it: "not this topic"."""

from functools import partial

import streamlit as st

from app import ui
from app.navigation import link_to
from app.panels.questions.resources import forget_topics
from app.resources import get_store
from app.text import plain
from app.visitor import lock, make_act
from core.audit.actions import Action
from core.coverage.assignments import TopicAssignments
from core.coverage.operations import exclude_question, include_question
from core.log.filters import LoggedQuestion

_PLACE = "topic-membership"
_TAKEN_OUT = "taken_out"  # of which topic the visitor took questions, by the question's id


def render_membership(question: LoggedQuestion, environment: str, topics: TopicAssignments | None) -> None:
    """Draw the topic that a question is in, the button that takes it out, and afterwards the one that undoes it."""
    ui.render_said(_PLACE)
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
    ui.record_change(
        partial(_exclude, question, topic_id, environment), effect="The question is out of the topic.", place=_PLACE,
        undo=partial(_include, question, topic_id, environment),
    )  # fmt: skip


def _put_back(question: LoggedQuestion, topic_id: str, environment: str) -> None:
    ui.record_change(
        partial(_include, question, topic_id, environment), effect="The question is back in the topic.", place=_PLACE,
        undo=partial(_exclude, question, topic_id, environment),
    )  # fmt: skip


def _exclude(question: LoggedQuestion, topic_id: str, environment: str) -> int:
    act = make_act("not this topic: on the questions page", environment)
    entry = exclude_question(get_store(), topic_id, question, act)
    st.session_state.setdefault(_TAKEN_OUT, {})[question.retrieval_id] = topic_id
    forget_topics()
    return entry


def _include(question: LoggedQuestion, topic_id: str, environment: str) -> int:
    act = make_act("put back on the questions page", environment)
    entry = include_question(get_store(), topic_id, question, act)
    st.session_state.get(_TAKEN_OUT, {}).pop(question.retrieval_id, None)
    forget_topics()
    return entry

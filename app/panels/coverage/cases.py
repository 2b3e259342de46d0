"""Ten typical questions of a topic as evaluation cases, and what its cases are for."""

from datetime import date

import streamlit as st

from app.panels.coverage.resources import load_topic_proposals
from app.panels.shared.cases import link_to_cases, render_adding
from app.resources import get_store
from core.cases.choosing import TYPICAL
from core.cases.store import list_cases_of_topics, list_sets_of_topic
from core.coverage.topics import Topic
from core.wording.counts import count_of
from quarterdeck.scope import Scope


def render_topic_cases(
    topic: Topic, scope: Scope, today: date, days: int, clusters: int | None, environment: str
) -> None:
    """Draw how many cases the topic has, and the button that adds its typical questions."""
    having = list_cases_of_topics(get_store(), [topic.topic_id])
    if having:
        naming = sum(bool(each.case.expected_documents) for each in having)
        st.caption(
            f"{count_of(len(having), 'case')} {'was' if len(having) == 1 else 'were'} made of this topic; {naming} of "
            f"them {'names' if naming == 1 else 'name'} documents. Those are searched in every probe of an index once "
            "the topic is marked indexed."
        )
        for name in list_sets_of_topic(get_store(), topic.topic_id):
            link_to_cases(name)
    render_adding(
        f"topic-{topic.topic_id}",
        f"Add {TYPICAL} typical questions to the cases",
        lambda name, version: load_topic_proposals(scope, today, days, clusters, topic.topic_id, name, version),
        environment,
        topic=topic.topic_id,
    )

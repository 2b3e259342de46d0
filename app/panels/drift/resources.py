"""What the drift page reads, cached for some seconds: the verdict, and what explains it."""

from datetime import date, timedelta

import streamlit as st

from app.panels.coverage.resources import load_coverage
from app.resources import get_corpus, get_store, get_tracking, load_drift
from core.causes.changes import WhatChanged, explain_drift, gather_changes
from core.coverage.report import Coverage, hide_questions
from core.overview import GAP_DAYS
from quarterdeck.clock import start_of
from quarterdeck.scope import Scope


@st.cache_resource(refresh_mode="background", ttl=15, max_entries=20, show_spinner="Looking for what changed …")
def load_what_changed(scope: Scope, today: date, *, readable: bool) -> WhatChanged:
    """Return the changes of the last four months, and which of them explain the drop if there is one.

    Unless questions are `readable` for the visitor, topics are named by number.
    """

    def find_topics() -> Coverage:
        coverage = load_coverage(scope, today, GAP_DAYS, None)
        return coverage if readable else hide_questions(coverage)

    since = start_of(today - timedelta(days=120))
    return explain_drift(
        get_store(),
        load_drift(scope, today),
        gather_changes(get_store(), get_corpus, get_tracking, scope=scope, since=since),
        today=today,
        coverage=find_topics,
    )

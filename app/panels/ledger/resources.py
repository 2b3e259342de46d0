"""What the ledger page reads, cached for a minute."""

from datetime import date, timedelta

import streamlit as st

from app.panels.questions.resources import load_threshold
from app.resources import get_corpus, get_store, get_tracking
from core.causes.changes import gather_changes
from core.ledger.report import DAYS, Ledger, report_ledger
from quarterdeck.clock import start_of
from quarterdeck.scope import Scope


@st.cache_resource(refresh_mode="background", ttl=60, max_entries=20, show_spinner="Measuring the changes …")
def load_ledger(scope: Scope, today: date) -> tuple[Ledger, tuple[str, ...]]:
    """Return the ledger of the last four months, and one line for each source that could not be read."""
    since = start_of(today - timedelta(days=DAYS))
    changes, problems = gather_changes(get_store(), get_corpus, get_tracking, scope=scope, since=since)
    threshold = load_threshold(scope, today)
    return report_ledger(get_store(), changes, scope=scope, today=today, threshold=threshold), problems

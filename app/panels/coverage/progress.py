"""Progress of embedding new queries in the background; they join the topics when it is done."""

from collections.abc import Sequence

import streamlit as st

from app.panels.coverage.resources import get_backfill, load_coverage
from app.text import plain
from core.wording.counts import count_of


@st.fragment(run_every=1.0)
def render_progress(pending: Sequence[str]) -> None:
    """Progress of embedding; the page reruns when it is done."""
    progress = get_backfill().progress
    if not progress.running and not progress.problem:
        if progress.total and progress.done >= progress.total and st.session_state.get("coverage_embedding"):
            st.session_state["coverage_embedding"] = False
            load_coverage.clear()
            st.rerun()
        progress = get_backfill().start(pending)
        st.session_state["coverage_embedding"] = True
    if progress.problem:
        st.error(f"**New questions are not grouped** — {plain(progress.problem)}")
    else:
        share = progress.done / progress.total if progress.total else 0.0
        st.progress(
            share,
            f"Reading {count_of(len(pending), 'new question')}: {progress.done:,} done. They will join the topics.",
        )

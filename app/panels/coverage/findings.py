"""Why the questions of a topic score low: not indexed, indexed but not found, or outdated."""

from collections.abc import Mapping

import streamlit as st

from app import ui
from core.coverage.answerability import CoverageFinding
from core.coverage.judging import list_shares

_MEANING = {
    CoverageFinding.NOT_FOUND: "the index that was searched probably answers them: look at the retrieval",
    CoverageFinding.OUTDATED: "that index probably does not, another one does: swap it in or restore the document",
    CoverageFinding.NOT_INDEXED: "no index probably answers them: write or index a document",
}


def render_findings(found: Mapping[CoverageFinding, int]) -> None:
    """The shares of the three findings, and what to do about each."""
    judged = sum(found.values())
    if not judged:
        st.caption("Why these questions score low is not known yet: a running server judges them by the live index.")
        return
    asked = "question" if judged == 1 else "questions"
    st.markdown(f"**Why it scores low** — of {judged:,} judged {asked}:")
    for name, share in list_shares(found).items():
        st.markdown(f"- {ui.format_share(share)} **{name}**: {_MEANING[CoverageFinding(name)]}")

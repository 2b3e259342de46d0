"""What the overview shows for an empty store: three steps to the first data, and the demo as an alternative."""

import shlex
from urllib.parse import urlsplit

import streamlit as st

from app.navigation import link_to

_USUAL = "http://127.0.0.1:8501"
SERVICE = """import os
from quarterdeck import Quarterdeck

deck = Quarterdeck(os.environ["QUARTERDECK_DATABASE_URL"])
deck.log_retrieval("what is an mbuf", 0.78, session_id="s-17")
deck.close()"""


def render_onboarding() -> None:
    """Draw the steps; each one alone brings data to the pages."""
    st.subheader("Three steps to the first data", anchor=False)
    st.markdown("**1. Import earlier questions** from CSV, Parquet or JSON Lines with ts, query and score:")
    st.code("quarterdeck import log.csv", language=None)
    st.markdown("**2. Report a question over HTTP**, from any language; the score is the top-1 similarity, 0 to 1:")
    st.code(say_report(st.context.url or _USUAL), language=None, wrap_lines=True)
    st.markdown(
        "**3. Let your service report every question**, in Python, after `pip install quarterdeck` (in a checkout: "
        "`pip install .`):"
    )
    st.code(SERVICE, language=None)
    link_to("drift", "Then look at the first data: Drift")
    st.caption("Only looking? This builds a demo in which every page shows real data:")
    st.code("quarterdeck demo", language=None)


def say_report(url: str) -> str:
    """The command that reports one question to the server at this address."""
    parts = urlsplit(url)
    address = shlex.quote(f"{parts.scheme}://{parts.netloc}/v1/retrievals")
    return f"""curl {address} --json '{{"query": "what is an mbuf", "score": 0.78}}'"""

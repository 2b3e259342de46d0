"""The entry of the pages: navigation and who you are. `streamlit run app/main.py` and `quarterdeck serve` run it."""

import os
from pathlib import Path

import streamlit as st

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("LANCE_LOG", "error")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # spinning threads cost two to three times the work
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("DVC_NO_ANALYTICS", "1")

from app.navigation import TITLES, get_page
from app.resources import get_config, is_demo, list_environments
from app.ui import plain, shown_environment
from app.visitor import get_visitor
from core.errors import InvalidInput

st.set_page_config(page_title="Quarterdeck", page_icon=str(Path(__file__).with_name("favicon.svg")), layout="wide")
page = st.navigation([get_page(name) for name in TITLES])
try:
    get_config()
except InvalidInput as error:
    st.error(f"**The configuration is wrong** — {plain(str(error))}")
    st.stop()
with st.sidebar:
    visitor = get_visitor()
    role = visitor.roles.role_in(shown_environment(list_environments()))
    st.caption(f"You are **{plain(visitor.name)}**, the local operator, here as **{role}**: no login is configured.")
    if is_demo():
        st.caption("**Demo data.** Who asks what and when is simulated; every score is what the index really answered.")
page.run()

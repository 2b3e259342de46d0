"""Entry point of the pages: navigation and identity. `streamlit run app/main.py` and `quarterdeck serve` run it."""

import os
import sys
from pathlib import Path

import streamlit as st

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("LANCE_LOG", "error")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # spinning threads cost two to three times as much
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("DVC_NO_ANALYTICS", "1")

from app.entrance import find_admitted, render_entrance, render_visitor, render_warning
from app.navigation import get_pages
from app.panels.frame.frame import MARK, render_bar, render_foot, render_identity
from app.resources import get_config
from app.text import plain
from core.errors import InvalidInput

# Streamlit puts this folder on the path, where `http` would hide Python's own from new processes.
sys.path[:] = [entry for entry in sys.path if Path(entry).resolve() != Path(__file__).resolve().parent]

_SIDEBAR_PX = 248


def draw() -> None:
    """Draw the frame, and in it the page that the visitor opened."""
    st.set_page_config(page_title="Quarterdeck", page_icon=MARK, layout="wide", initial_sidebar_state=_SIDEBAR_PX)
    render_identity()
    try:
        get_config()
    except InvalidInput as error:
        st.navigation(get_pages())
        st.error(f"**The configuration is wrong** — {plain(str(error))}")
        st.stop()
    visitor, refusal = find_admitted()
    page = st.navigation(get_pages(), position="sidebar" if visitor else "hidden")
    if visitor is None:
        st.set_page_config(page_title="Sign in · Quarterdeck")
        render_entrance(refusal)
        return
    st.set_page_config(page_title=f"{page.title} · Quarterdeck")
    render_bar(page.url_path or "overview")
    with st.sidebar:
        render_visitor(visitor)
        render_foot()
    render_warning()
    page.run()


if __name__ == "__main__":  # a process that Python starts anew imports this file under another name
    draw()

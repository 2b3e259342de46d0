"""The help of the frame: what the page answers, the keys, and the words."""

import ast
from functools import cache

import streamlit as st

from app import glossary
from app.navigation import KEYS, TITLES
from core.config import PROJECT


@st.dialog("Help", width="large", icon=":material/help:")
def open_help(page: str) -> None:
    """Draw the help of a page."""
    if about := say_about(page):
        st.markdown(f"**{about}**")
    keys, words = st.tabs(["Keyboard", "Glossary"])
    with keys:
        st.markdown(list_keys())
        st.toggle(
            "Keys without Ctrl work", value=True, key="frame_keys", persist_state="session",
            help="Switch them off if you dictate, or if they get in the way of other software.",
        )  # fmt: skip
    with words:
        st.markdown(glossary.list_terms(sorted(glossary.TERMS)))


@cache
def say_about(page: str) -> str:
    """Return which question a page answers: the first line of its script; "" for no page of ours."""
    path = PROJECT / "pages" / f"{page}.py"
    said = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) if page in TITLES and path.exists() else ""
    return (said or "").splitlines()[0] if said else ""


def list_keys() -> str:
    """Return the keys as a Markdown table."""
    rows = [
        ("/", "search"),
        ("?", "this help"),
        *((f"g {KEYS[name]}", TITLES[name]) for name in TITLES if name in KEYS),
    ]
    lines = [f"| {' '.join(f'`{key}`' for key in keys.split())} | {what} |" for keys, what in rows]
    return "\n".join(["| keys | what |", "| --- | --- |", *lines])

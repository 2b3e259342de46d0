"""The pages by name, so that navigation and links between pages speak of the same ones."""

from typing import Any

import streamlit as st

TITLES = {
    "overview": "Overview",
    "drift": "Drift",
    "coverage": "Coverage",
    "prompts": "Prompts",
    "corpus": "Corpus",
    "rollouts": "Rollouts",
    "audit": "Audit",
}


def get_page(name: str) -> Any:
    """Return the page of that name; the overview is the one at the root address."""
    return st.Page(f"../pages/{name}.py", title=TITLES[name], url_path=name, default=name == "overview")


def link_to(name: str, label: str, **filters: str) -> None:
    """Draw a link to a page, with filters of its address."""
    st.page_link(get_page(name), label=label, query_params=filters or None)

"""The one list of pages, read by navigation, links, tests, benchmarks and screenshots."""

from collections.abc import Sequence
from typing import Any

import streamlit as st

from quarterdeck.scope import DEFAULT_SERVICE

TITLES = {
    "overview": "Overview",
    "questions": "Questions",
    "drift": "Drift",
    "coverage": "Coverage",
    "prompts": "Prompts",
    "corpus": "Corpus",
    "rollouts": "Rollouts",
    "ledger": "Ledger",
    "alerts": "Alerts",
    "audit": "Audit",
}
GROUPS = {
    "Watch": ("overview", "questions", "drift", "coverage"),
    "Change": ("prompts", "corpus", "rollouts", "ledger"),
    "Record": ("alerts", "audit"),
}
ICONS = {
    "overview": "explore",
    "questions": "forum",
    "drift": "trending_down",
    "coverage": "travel_explore",
    "prompts": "edit_note",
    "corpus": "library_books",
    "rollouts": "toggle_on",
    "ledger": "balance",
    "alerts": "notifications",
    "audit": "history",
}
KEYS = {  # typed after `g`
    "overview": "o",
    "questions": "q",
    "drift": "d",
    "coverage": "c",
    "prompts": "p",
    "corpus": "k",
    "rollouts": "r",
    "ledger": "l",
    "alerts": "e",
    "audit": "a",
}


def path_of(name: str) -> str:
    """Return the path of the page under the server's address; the first page is at the root."""
    return "" if name == next(iter(TITLES)) else name


def get_page(name: str) -> Any:
    """Return the page of that name."""
    return st.Page(
        f"../pages/{name}.py", title=TITLES[name], icon=icon_of(name), url_path=name, default=not path_of(name)
    )


def icon_of(name: str) -> str:
    """Return the icon of a page, as Markdown and widgets take it."""
    return f":material/{ICONS[name]}:"


def get_pages() -> dict[str, list[Any]]:
    """Return the pages by the groups of the navigation."""
    return {group: [get_page(name) for name in names] for group, names in GROUPS.items()}


def link_to(name: str, label: str, **filters: str | Sequence[str]) -> None:
    """Draw a link to a page, with filters of its address; several values of one filter are a list."""
    st.page_link(get_page(name), label=label, icon="", query_params=filters or None)


def shown_environment(environments: Sequence[str]) -> str:
    """Return the environment in the URL, else the one that the visitor saw last, else the first."""
    named: tuple[str | None, ...] = (st.query_params.get("environment"), st.session_state.get("environment_kept"))
    return next((name for name in named if name is not None and name in environments), environments[0])


def shown_service(services: Sequence[str]) -> str:
    """Return the service in the URL, else the one that the visitor saw last, else the first one."""
    named: tuple[str | None, ...] = (st.query_params.get("service"), st.session_state.get("service_kept"))
    return next((name for name in named if name is not None and name in services), first_service(services))


def first_service(services: Sequence[str]) -> str:
    """Return the service that is shown to whoever chose none: `default` if it reports, else the first by name."""
    return DEFAULT_SERVICE if DEFAULT_SERVICE in services else services[0]

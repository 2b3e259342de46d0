"""The search of the frame: pages, flags, topics, prompts, documents and questions, as somebody types."""

import streamlit as st

from app import ui
from app.navigation import link_to
from app.panels.frame.sources import find_scope, list_sources
from app.text import plain, show_unseen
from app.visitor import may_read_questions
from core.search.ranking import SearchItem, SearchKind
from core.search.report import SearchGroup, search_deck

_LONGEST = 200


@st.dialog("Search", width="large", icon=":material/search:")
def open_search() -> None:
    """Draw the search; a result is a link, which closes it."""
    words = st.text_input(
        "Pages, flags, topics, prompts, documents and questions",
        key="frame_words", type="search", live=True, max_chars=_LONGEST, placeholder="vpp, use_hyde, qa v3 …",
    )  # fmt: skip
    environment, scope = find_scope()
    if not words.strip():
        st.caption("Arrow down goes to the results, Enter opens one, Escape closes.")
        return
    groups = search_deck(words, list_sources(environment, scope))
    if not groups:
        asked = f", and no question in {plain(scope.service)}, {plain(environment)} contains it"
        st.caption(f"Nothing has this name{asked if may_read_questions(environment) else ''}.")
    for group in groups:
        render_group(group, words)


def render_group(group: SearchGroup, words: str) -> None:
    """One kind of results, with the number of those that are not shown."""
    st.markdown(f"**{group.kind}**")
    if group.problem:
        st.caption(f"{ui.Mark.WARNING.icon} Not searched: {plain(group.problem)}")
    for item in group.items:
        render_item(item)
    if group.kind is SearchKind.QUESTION:
        link_to("questions", "All questions with these words", text=words, days="90d")
    elif group.more:
        st.caption(f"and {group.more:,} more; type more of the name")


def render_item(item: SearchItem) -> None:
    """One result."""
    link_to(item.page, plain(ui.shorten(show_unseen(item.title), 110)), **dict(item.filters))

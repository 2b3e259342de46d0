"""The filters of the questions page: they stand in its address, and these controls change them there."""

from collections.abc import Iterable, Sequence

import streamlit as st

from app.resources import get_store
from app.text import show_unseen
from core.coverage.assignments import TopicAssignments
from core.log.filters import Order
from core.log.retrievals import list_dimensions
from core.questions.wanted import COUNTABLE, FILTERS, Pairs, say_filter
from quarterdeck.retrieval import STATES
from quarterdeck.scope import Scope

_OWN_CONTROL = ("text", "low", "state")
ORDERS = {
    Order.NEWEST: "Newest first", Order.OLDEST: "Oldest first", Order.LOWEST: "Lowest score first",
}  # fmt: skip
_HINTS = {
    "day": "2026-11-21", "since": "2026-11-21", "attribute": "tenant=acme", "score": "feedback<0",
    "document": "guide.md",
}  # fmt: skip


def read_pairs(*, is_reader: bool) -> Pairs:
    """Return the filters in the address; those that would show texts only to readers."""
    return tuple(
        (name, value)
        for name in FILTERS
        if is_reader or name in COUNTABLE
        for value in st.query_params.get_all(name)
        if value
    )


def render_filters(pairs: Pairs, *, is_reader: bool, topics: TopicAssignments | None = None) -> None:
    """Draw the controls: words, low only, states, topics where they are known, and the other filters as chips."""
    _show("questions_text", " ".join(value for name, value in pairs if name == "text"))
    _show("questions_low", any(name == "low" for name, _ in pairs))
    _show("questions_state", [value for name, value in pairs if name == "state" and value in STATES])
    with st.container(horizontal=True, vertical_alignment="bottom"):
        if is_reader:
            st.text_input(
                "Words of the question", key="questions_text", on_change=_keep_text, max_chars=200, width=260,
                placeholder="words, or their beginnings",
            )  # fmt: skip
        is_listed = is_reader and _render_topics(pairs, topics)
        st.pills(
            "State", STATES, selection_mode="multi", key="questions_state", on_change=_keep_states, width="content"
        )
        st.toggle("Low only", key="questions_low", on_change=_keep_low, width="content")
    _render_chips([pair for pair in pairs if not (is_listed and pair[0] == "topic")])


def render_form(scope: Scope, *, is_reader: bool) -> None:
    """Draw the form that adds a filter."""
    with st.popover("Add a filter", icon=":material/filter_alt:"):
        _render_form(scope, is_reader=is_reader)


def read_order() -> Order:
    """The order in the address; newest first for anything else."""
    given = st.query_params.get("sort", "")
    return Order(given) if given in list(Order) else Order.NEWEST


def render_order(order: Order) -> None:
    """Draw the choice of the order."""
    _show("questions_sort", order)
    st.selectbox(
        "Order", list(Order), key="questions_sort", on_change=_keep_order, label_visibility="collapsed", width=200,
        format_func=ORDERS.__getitem__,
    )  # fmt: skip


def clear_filters() -> None:
    """Remove every filter from the address."""
    for name in (*FILTERS, "after", "question"):
        if name in st.query_params:
            del st.query_params[name]


def put(name: str, values: Iterable[str]) -> None:
    """Put the values of a filter into the address; the list begins anew."""
    found = list(values)
    for each in ("after", "question"):
        if each in st.query_params:
            del st.query_params[each]
    if found:
        st.query_params[name] = found
    elif name in st.query_params:
        del st.query_params[name]


def _show(key: str, value: object) -> None:
    """Let a control show what the address says, whoever changed it."""
    st.session_state[key] = value


def _keep_text() -> None:
    put("text", [st.session_state["questions_text"].strip()] if st.session_state["questions_text"].strip() else [])


def _keep_low() -> None:
    put("low", ["1"] if st.session_state["questions_low"] else [])


def _keep_states() -> None:
    put("state", st.session_state["questions_state"])


def _keep_order() -> None:
    chosen = st.session_state["questions_sort"]
    put("sort", [] if chosen == Order.NEWEST else [str(chosen)])


def _render_topics(pairs: Pairs, topics: TopicAssignments | None) -> bool:
    """Draw the choice of a topic; False where it cannot show the address's own."""
    wanted = next((value for name, value in pairs if name == "topic"), None)
    if topics is None or not topics.labels or (wanted is not None and wanted not in topics.labels):
        return False
    _show("questions_topic", wanted)
    st.selectbox(
        "Topic", list(topics.labels), key="questions_topic", on_change=_keep_topic, placeholder="any", width=220,
        index=None, format_func=lambda name: show_unseen(topics.labels.get(name, name)),
    )  # fmt: skip
    return True


def _keep_topic() -> None:
    put("topic", [st.session_state["questions_topic"]] if st.session_state["questions_topic"] else [])


def _render_chips(pairs: Sequence[tuple[str, str]]) -> None:
    """Draw the filters without a control of their own; removing one takes it out of the address."""
    chips = [pair for pair in pairs if pair[0] not in _OWN_CONTROL]
    if not chips:
        return
    _show("questions_chips", chips)
    left, right = st.columns([5, 1], vertical_alignment="bottom")
    left.multiselect(
        "Filters", chips, key="questions_chips", on_change=_keep_chips, args=(tuple(chips),),
        format_func=lambda pair: show_unseen(say_filter(*pair))[:80], label_visibility="collapsed",
    )  # fmt: skip
    right.button("Clear all", on_click=clear_filters, type="tertiary")


def _keep_chips(shown: Sequence[tuple[str, str]]) -> None:
    kept = [tuple(pair) for pair in st.session_state["questions_chips"]]
    for name in {name for name, _ in shown}:
        put(name, [value for each, value in shown if each == name and (each, value) in kept])


def _render_form(scope: Scope, *, is_reader: bool) -> None:
    names = [name for name in FILTERS if name not in _OWN_CONTROL and (is_reader or name in COUNTABLE)]
    declared = [name for name in list_dimensions(get_store(), scope) if name not in FILTERS] if is_reader else []
    with st.form("questions-add", border=False, clear_on_submit=True):
        st.selectbox(
            "Filter", [*names, *declared], key="questions_add_name",
            format_func=lambda name: FILTERS.get(name, name),
        )  # fmt: skip
        hints = "; ".join(f"{FILTERS[name]} like {hint}" for name, hint in _HINTS.items() if name in names)
        st.text_input("Value", key="questions_add_value", max_chars=300, help=hints)
        st.form_submit_button("Add", on_click=_add)


def _add() -> None:
    name, value = st.session_state["questions_add_name"], st.session_state["questions_add_value"].strip()
    if not value:
        return
    if name not in FILTERS:
        name, value = "attribute", f"{name}={value}"
    many = name in ("document", "attribute")
    put(name, [*(st.query_params.get_all(name) if many else ()), value])

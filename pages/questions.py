"""Questions: every question that was asked, what was found for it, and how good the answer was."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import date, timedelta

import streamlit as st

from app import ui
from app.panels.questions.cases import render_add_to_cases
from app.panels.questions.filters import (
    ORDERS,
    clear_filters,
    read_order,
    read_pairs,
    render_filters,
    render_form,
    render_order,
)
from app.panels.questions.judging import render_judging
from app.panels.questions.quality import render_quality
from app.panels.questions.question import render_question
from app.panels.questions.resources import (
    MOST_COUNTED,
    TOPIC_DAYS,
    TopicWindow,
    get_topics,
    load_count,
    load_indexed_share,
    load_known_questions,
    load_like,
    load_low,
    load_new_topic,
    load_page,
    load_states,
    load_topic,
)
from app.panels.questions.reviews import render_reviews
from app.panels.questions.sending import render_sending
from app.panels.questions.table import render_counts, render_files, render_paging, render_table
from app.panels.questions.views import PLACE, render_views
from app.resources import list_environments, list_new, list_services, load_calendar, today_of
from app.tables import keep_selection
from app.text import plain
from app.visitor import may_read_questions
from core.coverage.assignments import TopicAssignments
from core.drift.present import LowScores
from core.errors import InvalidInput
from core.log.filters import MOST_SORTED, Cursor, LoggedQuestion, Order, QuestionFilter, read_cursor
from core.log.values import States
from core.questions.wanted import Pairs, ShownSpan, make_filter
from core.wording.counts import count_of


@dataclass(frozen=True, slots=True)
class Chosen:
    """What the visitor wants to see: the filter, the days that it covers, and the label of its topic.

    `like` is the text of the question that the others have to be like.
    """

    pairs: Pairs
    wanted: QuestionFilter
    first: date
    last: date
    span: str
    topic: str = ""
    is_new: bool = False
    like: str = ""


def choose(frame: ui.Frame, low: LowScores, *, is_reader: bool) -> Chosen:
    """Read the filters in the address. Raises InvalidInput and NotFound for those that mean nothing."""
    pairs = read_pairs(is_reader=is_reader)
    calendar, today = load_calendar(frame.scope), frame.today
    first = today - timedelta(days=frame.days - 1)
    whole = ShownSpan(calendar.start_of(first), calendar.end_of(today), calendar)
    wanted = make_filter(pairs, frame.scope, whole, low=low)
    given = dict(pairs)
    last, said, label = today, f"of the last {frame.days} days", ""
    if "day" in given:
        first = last = date.fromisoformat(given["day"])
        said = f"of {ui.format_day(first)}"
    elif "since" in given:
        first = date.fromisoformat(given["since"])
        said = f"since {ui.format_day(first)}"
    if "topic" in given:
        label, of_topic = load_topic(frame.scope, today, frame.days, given["topic"])
        wanted = replace(wanted, texts=of_topic.texts, below=of_topic.below, bounds=of_topic.bounds)
    if "new" in given:
        label, of_topic = load_new_topic(frame.scope, today, given["new"])
        wanted = replace(wanted, texts=of_topic.texts, start_ms=of_topic.start_ms, end_ms=of_topic.end_ms)
        first, last = calendar.day_of(of_topic.start_ms or 0), calendar.day_of((of_topic.end_ms or 0) - 1)
        said = f"from {ui.format_day(first)} to {ui.format_day(last)}"
    like = ""
    if "like" in given:
        like, wanted = load_like(wanted, given["like"])
    return Chosen(pairs, wanted, first, last, said, label, is_new="new" in given, like=like)


def render_sentence(chosen: Chosen, states: States, threshold: float, *, is_reader: bool) -> None:
    """How many questions there are, and how many of them match."""
    total = f"{count_of(states.questions, 'question')} {chosen.span}"
    detail = f"Low means under {threshold:.2f}, which one in ten questions of the reference did." if threshold else ""
    share = load_indexed_share()
    if share and share.rows - share.covered > MOST_COUNTED * 10:
        detail += f" The search index covers {share.covered / share.rows:.0%} of the log so far: filters are slower."
    if not chosen.pairs:
        ui.render_verdict(
            f"{total}, {ORDERS[read_order()].lower()}.", ui.StatusLook("All", "gray", ui.Mark.LIST), detail=detail
        )
        return
    count = load_count(chosen.wanted)
    told = f"More than {MOST_COUNTED:,}" if count > MOST_COUNTED else f"{count:,}"
    if chosen.wanted.retrieval_id:
        sentence = f"{told} question{'s' if count != 1 else ''} with this id."
    elif chosen.like:
        are = "is" if count == 1 else "are"
        known = load_known_questions(chosen.wanted.scope)
        sentence = f"{told} of {total} {are} most like “{plain(ui.shorten(chosen.like, 80))}”."
        detail = f"Compared with {len(known.texts):,} of the newest {known.asked:,} distinct questions. {detail}"
    elif chosen.topic:
        named = f"“{plain(chosen.topic)}”" if is_reader else "this topic"
        sentence = f"{told} of {total} belong to {named}{'' if chosen.is_new else ' and score low'}."
    elif [name for name, _ in chosen.pairs] in (["low"], ["day", "low"], ["low", "day"]):
        sentence = f"{told} of {total} score low."
    else:
        sentence = f"{told} of {total} match the filters."
    ui.render_verdict(sentence, ui.StatusLook("Filtered", "gray", ui.Mark.LIST), detail=detail)


def find_named(name: str, frame: ui.Frame) -> LoggedQuestion | None:
    """The question that the address names, None for none or one that is not there any more."""
    if not name:
        return None
    found = load_page(QuestionFilter(scope=frame.scope, retrieval_id=name), None, 1).questions
    if not found:
        st.info(f"There is no question {plain(name[:80])} in this service: it was never stored, or was removed since.")
    return found[0] if found else None


def read_after(order: Order) -> Cursor | None:
    """Where the page begins that the address names; at the first question for anything else."""
    try:
        return read_cursor(st.query_params["after"], order) if "after" in st.query_params else None
    except InvalidInput:
        return None


def render_list(chosen: Chosen, low: LowScores, frame: ui.Frame, topics: TopicAssignments | None) -> None:
    """The table, its paging and files, and beside it the chosen question."""
    order = read_order()
    after = read_after(order)
    page = load_page(chosen.wanted, after, order=order)
    if not page.questions:
        st.caption("No question matches." if after is None else "There are no more questions.")
        st.button("Clear all filters", on_click=clear_filters)
        return
    if order is Order.LOWEST:
        is_cut = load_count(chosen.wanted) > MOST_SORTED
        among = f"Sorted are the newest {MOST_SORTED:,} that match: choose fewer days or a filter for the others. "
        st.caption(f"{among if is_cut else ''}Questions without a score are left out.")
    named = find_named(st.query_params.get("question", ""), frame)
    kept = keep_selection("questions-table", [f"{each.environment} {each.retrieval_id}" for each in page.questions])
    is_split = named is not None or len(kept.places) == 1
    left, right = st.columns([3, 2.4]) if is_split else (st.container(), None)
    with left:
        selected = render_table(page, kept, narrow=is_split, topics=topics)
        if len(selected) > 1:
            render_judging(selected, frame.environment, key="several")
            render_add_to_cases(selected, low.below, frame.environment, key="several")
        if selected:
            render_sending(selected, frame.environment)
        render_paging(page, order, is_first=after is None)
        render_files(chosen.wanted, order, selected, frame.environment)
    shown = selected[0] if len(selected) == 1 else named
    if right is not None and shown is not None:
        with right:
            render_question(shown, low, frame.environment, topics)


def render(frame: ui.Frame) -> None:
    """The page, once the log could be read: the list, the review queue, and quality in production."""
    panels: dict[str, tuple[str, Callable[[], None]]] = {
        "All questions": ("The questions could not be read", lambda: render_questions(frame)),
        "Review": (
            "The review queues could not be read",
            lambda: render_reviews(frame, load_low(frame.scope, frame.today)),
        ),
        "Quality": ("The numbers could not be added up", lambda: render_quality(frame)),
    }
    tabs = st.tabs(list(panels), on_change="rerun", key="show", bind="query-params")
    for tab, (what, draw) in zip(tabs, panels.values(), strict=True):
        if tab.open:
            with tab, ui.showing_errors(what):
                draw()


def render_questions(frame: ui.Frame) -> None:
    """The list of questions with its filters."""
    states = load_states(frame.scope, frame.today - timedelta(days=89), frame.today)
    if not states.questions and "question" not in st.query_params:
        ui.render_empty(
            "No question has been logged in the last 90 days. Build the demo, or let a service log one.",
            "quarterdeck demo",
        )
        return
    is_reader, low = may_read_questions(frame.environment), load_low(frame.scope, frame.today)
    chosen, pairs = None, read_pairs(is_reader=is_reader)
    with ui.showing_errors("These filters mean nothing"):
        chosen = choose(frame, low, is_reader=is_reader)
        states = load_states(frame.scope, chosen.first, chosen.last)
        render_sentence(chosen, states, low.below, is_reader=is_reader)
    grouped = get_topics().get((frame.scope, frame.today, min(frame.days, TOPIC_DAYS))) if is_reader else None
    topics = grouped.value if grouped else None
    render_filters(pairs, is_reader=is_reader, topics=topics)
    with st.container(horizontal=True):
        render_form(frame.scope, is_reader=is_reader)
        if is_reader:
            render_views(pairs, frame.environment)
            render_order(read_order())
    ui.render_said(PLACE)
    if not is_reader:
        render_counts(states)
    elif chosen is not None:
        render_list(chosen, low, frame, topics)
        if grouped and grouped.is_running and topics is None:
            wait_for_topics((frame.scope, frame.today, min(frame.days, TOPIC_DAYS)))


@st.fragment(run_every=2.0)
def wait_for_topics(window: TopicWindow) -> None:
    """Say that topics are not known yet, and draw the page again once they are."""
    if get_topics().get(window).is_running:
        st.caption("Low questions are being grouped; then the table shows their topics.")
    else:
        st.rerun()


frame = ui.render_frame(
    "Questions", environments=list_environments(), services=list_services(), new=list_new(), today_of=today_of
)
with ui.showing_errors("The questions could not be read"):
    render(frame)

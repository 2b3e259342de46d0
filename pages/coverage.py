"""Coverage: what users ask that the index hardly covers, by topic, and what was decided about each."""

import streamlit as st

from app import ui
from app.panels.coverage.backlog import render_table
from app.panels.coverage.board import Board, choose_shelf, choose_topic, read_board
from app.panels.coverage.cases import render_topic_cases
from app.panels.coverage.charts import render_charts
from app.panels.coverage.exports import render_exports
from app.panels.coverage.progress import render_progress
from app.panels.coverage.resources import load_coverage, load_findings, load_map
from app.panels.coverage.topic import render_topic
from app.panels.shared.emerging import render_emerging
from app.resources import get_config, get_store, list_environments, list_new, list_services, today_of
from app.text import plain
from app.visitor import may_read_questions
from core.coverage.backlog import list_backlog
from core.coverage.report import call_topics, hide_questions
from core.coverage.shelves import Shelf
from core.wording.counts import count_of

MOST_DAYS = 30
_TABLE_PX = 420
_NO_TOPICS = ui.StatusLook("No topics", "green", ui.Mark.FINE)
_TOO_LITTLE = ui.StatusLook("Too little data", "gray", ui.Mark.UNKNOWN)


def read_clusters() -> int | None:
    """The number of topics in the address; None chooses it automatically."""
    asked = st.query_params.get("clusters", "")
    return int(asked) if asked.isascii() and asked.isdigit() and 1 <= int(asked) <= 200 else None


def render_options() -> None:
    """What few need: the number of topics by hand."""
    with st.popover("Options", icon=":material/tune:"):
        st.number_input("Number of topics (empty: automatic)", 1, 200, None, key="clusters", bind="query-params")


def render_sentence(board: Board, days: int) -> None:
    """How many topics score low, which open one is the most worth indexing, and what counts as low."""
    coverage = board.coverage
    ranked = coverage.topics.ranked()
    if not ranked:
        is_told = coverage.scored_count >= 100
        look = _NO_TOPICS if is_told else _TOO_LITTLE
        ui.render_verdict(f"No topics to show: {plain(coverage.topics.reason)}.", look)
        return
    waiting = [each for each in board.on(Shelf.OPEN) if each.topic]
    empty = f"{coverage.empty_count:,} search{'es' if coverage.empty_count != 1 else ''} found nothing at all"
    share = ui.format_share(sum(topic.count for topic in ranked) / coverage.scored_count)
    score_low = "1 topic scores low" if len(ranked) == 1 else f"{len(ranked)} topics score low"
    said = f"{score_low}, {share} of all questions together."
    if waiting and (first := waiting[0].topic):
        of_all = ui.format_share(first.count / coverage.scored_count)
        said += (
            f" The one most worth indexing is “{plain(waiting[0].label)}”: {of_all} of all questions, mean score "
            f"{ui.format_score(first.mean_score)}."
        )
        look = ui.StatusLook(count_of(len(waiting), "open gap"), "orange", ui.Mark.DECIDE)
    else:
        said += " None of them is open: each has been decided about."
        look = ui.StatusLook("All decided", "gray", ui.Mark.DECIDED)
    ui.render_verdict(
        said,
        look,
        detail=f"Of the last {days} days. Low means under {coverage.threshold:.2f}, which one in ten questions of the "
        f"reference month did; {ui.format_share(coverage.low_share)} do now. "
        + (f"{empty}: that may be an outage, and belongs to no topic." if coverage.empty_count else ""),
    )


def render(frame: ui.Frame) -> None:
    """The page, once the log could be read."""
    clusters, days = read_clusters(), min(frame.days, MOST_DAYS)
    with ui.holding(_TABLE_PX):
        coverage = load_coverage(frame.scope, frame.today, days, clusters)
    if not coverage.scored_count:
        ui.render_empty(
            "No retrieval was logged in this range. Build the demo, or let a service log one.", "quarterdeck demo"
        )
        return
    if coverage.pending:
        render_progress(coverage.pending)
    backlog = list_backlog(get_store(), get_config().embedding_model, frame.scope)
    coverage = call_topics(coverage, {known.topic_id: known.label for known in backlog})
    is_reader = may_read_questions(frame.environment)
    findings = load_findings(frame.scope, frame.today, days, clusters)
    board = read_board(
        frame, coverage if is_reader else hide_questions(coverage), clusters, findings=findings, is_reader=is_reader
    )
    if not is_reader:
        st.caption("Your role does not include reading questions: topics go by their ids. Ask an admin.")
    render_sentence(board, days)
    render_emerging(frame, is_reader=is_reader, explains=True)
    if not board.topics:
        return
    st.caption(f"Grouped: {plain(coverage.topics.reason)}.")
    with st.container(horizontal=True, vertical_alignment="bottom"):
        shelf = choose_shelf(board)
        render_options()
        render_exports(board, frame)
    with st.container(key="coverage-split"):
        table, beside = st.columns([1.15, 1])
    with table:
        render_table(board, shelf)
    with beside:
        topic = choose_topic(board, board.on(shelf))
        if topic:
            render_topic(topic, board, frame.environment)
            if is_reader and topic.topic:
                render_topic_cases(topic.topic, frame.scope, frame.today, days, clusters, frame.environment)
    if coverage.topics.topics:
        points = load_map(frame.scope, frame.today, days, clusters) if is_reader else None
        with table, st.container(key="coverage-charts"):
            render_charts(board, points)


frame = ui.render_frame(
    "Coverage", environments=list_environments(), services=list_services(), new=list_new(), today_of=today_of,
    most_days=MOST_DAYS,
)  # fmt: skip
with ui.showing_errors("The topics could not be computed"):
    render(frame)

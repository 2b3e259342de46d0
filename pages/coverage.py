"""Coverage: what users ask that the index hardly covers, by topic."""

from collections.abc import Sequence

import streamlit as st

from app import ui
from app.panels.coverage.backlog import list_drop_shares, render_backlog
from app.panels.coverage.cases import render_topic_cases
from app.panels.coverage.charts import render_charts
from app.panels.coverage.findings import render_findings
from app.panels.coverage.progress import render_progress
from app.panels.coverage.resources import load_coverage, load_findings, load_map
from app.panels.coverage.topic import choose_topic, render_topic
from app.resources import get_config, get_store, list_environments, list_new, list_services, today_of
from app.text import plain
from app.visitor import may_read_questions
from core.coverage.backlog import list_backlog
from core.coverage.report import Coverage, call_topics, hide_questions
from core.coverage.topics import Topic

MOST_DAYS = 30


def choose_clusters() -> int | None:
    """The number of topics that the visitor entered; None chooses it automatically."""
    return st.number_input(
        "Number of topics (empty: automatic)", 1, 200, None, key="clusters", bind="query-params", width=260
    )


def render_sentence(coverage: Coverage, ranked: Sequence[Topic]) -> None:
    """How many topics score low, which is the most worth indexing, and what counts as low."""
    if not ranked:
        look = ui.StatusLook("No topics", "green", "✓")
        ui.render_verdict(f"No topics to show: {plain(coverage.topics.reason)}.", look)
        return
    first = ranked[0]
    share = ui.format_share(first.count / coverage.scored_count)
    together = ui.format_share(sum(topic.count for topic in ranked) / coverage.scored_count)
    score_low = "1 topic scores low" if len(ranked) == 1 else f"{len(ranked)} topics score low"
    ui.render_verdict(
        f"{score_low}, {together} of all queries together. The one most worth indexing is “{plain(first.label)}”: "
        f"{share} of all queries, mean score {ui.format_score(first.mean_score)}.",
        ui.StatusLook("1 topic" if len(ranked) == 1 else f"{len(ranked)} topics", "orange", "◐"),
        detail=f"Low means under {coverage.threshold:.2f}, which one in ten queries of the reference month did; "
        f"{ui.format_share(coverage.low_share)} do now. {coverage.empty_count:,} searches found nothing at all: "
        "those may be an outage and belong to no topic.",
    )


def render(frame: ui.Frame) -> None:
    """The page, once the log could be read."""
    clusters, days = choose_clusters(), min(frame.days, MOST_DAYS)
    coverage = load_coverage(frame.scope, frame.today, days, clusters)
    if not coverage.scored_count:
        ui.render_empty(
            "No retrieval was logged in this range. Build the demo, or let a service log one.", "quarterdeck demo"
        )
        return
    ui.render_said()
    if coverage.pending:
        render_progress(coverage.pending)
    backlog = {known.topic_id: known for known in list_backlog(get_store(), get_config().embedding_model, frame.scope)}
    coverage = call_topics(coverage, {topic_id: known.label for topic_id, known in backlog.items()})
    found, is_reader = coverage, may_read_questions(frame.environment)
    if not is_reader:
        st.caption("Your role does not include reading questions: topics are shown by number. Ask an admin.")
        coverage = hide_questions(coverage)
    ranked = coverage.topics.ranked()
    render_sentence(coverage, ranked)
    if not ranked:
        return
    st.caption(f"Grouped: {plain(coverage.topics.reason)}.")
    points = load_map(frame.scope, frame.today, days, clusters) if is_reader else None
    render_charts(coverage, points)
    topic = choose_topic(ranked)
    of_drop = list_drop_shares(frame, found)
    findings = load_findings(frame.scope, frame.today, days, clusters)
    render_topic(topic, backlog.get(topic.topic_id), coverage, of_drop.get(topic.topic_id), frame.environment)
    if is_reader:
        render_topic_cases(topic, frame.scope, frame.today, days, clusters, frame.environment)
    render_findings(findings.get(topic.topic_id, {}))
    render_backlog(coverage, backlog, of_drop, findings)


frame = ui.render_frame(
    "Coverage", environments=list_environments(), services=list_services(), new=list_new(), today_of=today_of
)
with ui.showing_errors("The topics could not be computed"):
    render(frame)

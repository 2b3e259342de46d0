"""Coverage: what users ask that the index hardly covers, by topic."""

from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go
import streamlit as st

from app import ui
from app.downloads import offer_file
from app.resources import (
    get_backfill,
    get_config,
    get_embedder,
    get_store,
    list_environments,
    load_coverage,
    load_drift,
    load_map,
    load_nearest,
)
from app.visitor import lock, make_act
from core.backlog import BacklogTopic, TopicState, list_backlog
from core.closing import measure_closing
from core.headline import share_fall
from core.nearest import list_topic_predictions
from core.operations import mark_topic
from core.reports import Coverage, MapPoint
from core.topics import Topic, Trend

_MOST_DRAWN = 20
_OTHERS, _NOWHERE = -2, -1
_UNNAMED = {_OTHERS: "other topics", _NOWHERE: "fits no topic"}
TREND_COLORS = {
    Trend.NEW: ui.DANGER,
    Trend.GROWING: ui.WARNING,
    Trend.STEADY: ui.ACCENT,
    Trend.FADING: ui.QUIET,
    Trend.UNKNOWN: ui.LIGHT,
}


def draw_topics(coverage: Coverage) -> go.Figure:
    """The first topics by share of all queries, the most worth indexing on top, coloured by their trend."""
    ranked = coverage.topics.ranked()
    topics = ranked[:_MOST_DRAWN]
    figure = go.Figure()
    for trend, color in TREND_COLORS.items():
        own = [topic for topic in topics if topic.trend is trend]
        if own:
            figure.add_bar(
                x=[topic.count / max(1, coverage.scored_count) for topic in own],
                y=[_name(topic, 40) for topic in own],
                orientation="h",
                name=trend if trend is not Trend.UNKNOWN else "trend not known yet",
                marker_color=color,
                customdata=[[topic.count, topic.mean_score] for topic in own],
                hovertemplate="%{customdata[0]} queries, mean score %{customdata[1]:.2f}<extra></extra>",
            )
    figure.update_yaxes(categoryorder="array", categoryarray=[_name(topic, 40) for topic in reversed(topics)])
    figure.update_xaxes(title="share of all queries", tickformat=".2~%")
    figure.update_layout(showlegend=True)
    height = max(240, 110 + 34 * len(topics))
    first = f": the first {len(topics)} of {len(ranked)}" if len(ranked) > len(topics) else ""
    return ui.style_chart(figure, title=f"Topics by what indexing them would bring{first}", height=height)


def draw_map(coverage: Coverage, points: Sequence[MapPoint]) -> go.Figure:
    """The queries as points: near ones ask for similar things."""
    names = {topic.cluster_id: _name(topic, 24) for topic in coverage.topics.ranked()}
    colors = dict(zip(names, ui.CATEGORIES, strict=False))
    groups: dict[int, list[MapPoint]] = {cluster_id: [] for cluster_id in (*colors, _OTHERS, _NOWHERE)}
    for point in points:
        groups[point.cluster_id if point.cluster_id in groups else _OTHERS].append(point)
    figure = go.Figure()
    for cluster_id, own in groups.items():
        if own:
            figure.add_scattergl(
                x=[point.x for point in own],
                y=[point.y for point in own],
                mode="markers",
                name=names.get(cluster_id) or _UNNAMED[cluster_id],
                marker={"color": colors.get(cluster_id, ui.QUIET), "size": 7, "opacity": 0.75},
                customdata=[[ui.chart_text(point.query.text, 90), point.cluster_id] for point in own],
                text=[names.get(point.cluster_id, _UNNAMED[_NOWHERE]) for point in own],
                hovertemplate="%{customdata[0]}<br>%{text}<extra></extra>",
            )
    figure.update_xaxes(visible=False)
    figure.update_yaxes(visible=False)
    return ui.style_chart(figure, title="Low-scoring queries: near means similar", height=380, hover="closest")


def render_topic(
    topic: Topic, known: BacklogTopic | None, coverage: Coverage, of_drop: float | None, environment: str
) -> None:
    """One gap: how big, how bad, what people typed, why it misses, what would help, and what was decided."""
    st.subheader(ui.plain(topic.label), anchor=False)
    columns = st.columns(5)
    columns[0].metric("Asked", f"{topic.count:,}")
    columns[1].metric("Share of all queries", ui.format_share(topic.count / max(1, coverage.scored_count)))
    columns[2].metric("Share of the drop", ui.format_share(of_drop), help="Of the fall that the drift page dates")
    columns[3].metric("Mean score", ui.format_score(topic.mean_score))
    columns[4].metric("Trend", topic.trend)
    st.caption("Typical questions")
    ui.show_table(
        [{"query": ui.shorten(sample, 400)} for sample in topic.sample_queries],
        key="coverage-samples", file_name="queries.csv",
    )  # fmt: skip
    render_nearest(topic, coverage)
    render_predictions(topic)
    if known:
        render_closing(known, coverage)
        render_decision(known, environment)
    else:
        trial = "topics whose number is set by hand are a trial, and new queries have to be read first"
        st.caption(f"Not in the backlog yet: {trial}.")


def render_nearest(topic: Topic, coverage: Coverage) -> None:
    """The documents that come nearest, and why they do not answer."""
    with ui.showing_errors("The live index could not be searched"):
        nearest = load_nearest(topic.sample_queries)
        if not nearest.misses:
            st.caption("Nearest documents: no index of this embedding model is live yet.")
            return
        st.caption(
            f"Nearest documents in {ui.plain(nearest.index_name)}; a question scores low under {coverage.threshold:.2f}"
        )
        rows = [
            {
                "document": ui.shorten(miss.document, 80),
                "section": ui.shorten(miss.section, 60),
                "score": miss.score,
                "why it misses": ui.shorten(miss.reason, 120),
            }
            for miss in nearest.misses
        ]
        columns = {"score": ui.score_column()}
        ui.show_table(rows, key="coverage-nearest", file_name="nearest.csv", column_config=columns)


def render_predictions(topic: Topic) -> None:
    """What each corpus version would make of the gap, as far as it was predicted."""
    predicted = list_topic_predictions(get_store(), topic.topic_id)
    if not predicted:
        st.caption("No corpus version was tried on this gap yet. To predict its score: quarterdeck index predict v2")
        return
    for version, found in predicted:
        documents = ", ".join(ui.shorten(document, 60) for document in found.documents[:3])
        helped = f", thanks to {ui.plain(documents)}" if documents else ": nothing new in it helps"
        st.markdown(
            f"With corpus **{ui.plain(version)}**: {found.live_score:.2f} → **{found.predicted_score:.2f}** predicted, "
            f"{ui.format_share(found.lifted_share)} of its questions covered{helped}."
        )


def render_closing(known: BacklogTopic, coverage: Coverage) -> None:
    """What the newest index did to the gap, measured."""
    found = measure_closing(
        get_store(), get_embedder(), known, threshold=coverage.threshold, today=coverage.window.last
    )
    if found is None:
        return
    verdict = {True: "closed", False: "still open", None: "too few questions since to tell"}[found.closed]
    st.markdown(
        f"Since **{ui.plain(found.index_name)}** went live on {ui.format_day(found.shipped)}: "
        f"{ui.format_score(found.before_score)} over {found.before_count:,} questions before, "
        f"{ui.format_score(found.after_score)} over {found.after_count:,} after: **{verdict}**."
    )


def save_decision(known: BacklogTopic, environment: str) -> None:
    """Store what the form says about the gap as the visitor saw it."""
    state, seen = st.session_state, f"{known.topic_id}-{known.version}"

    def mark() -> int:
        act = make_act(state[f"reason-{seen}"], environment)
        decided, owner, note = TopicState(state[f"state-{seen}"]), state[f"owner-{seen}"], state[f"note-{seen}"]
        return mark_topic(get_store(), known, decided, act, owner=owner, note=note)

    ui.record_change(mark)


def render_decision(known: BacklogTopic, environment: str) -> None:
    """The form that decides about a gap."""
    st.caption(f"First seen {ui.format_ago(known.first_seen)}. Decided so far: {known.state}.")
    seen = f"{known.topic_id}-{known.version}"
    with st.form(f"topic-{seen}"):
        columns = st.columns([1, 1, 2])
        states = [str(state) for state in TopicState]
        columns[0].selectbox("State", states, states.index(known.state), key=f"state-{seen}")
        columns[1].text_input("Owner", known.owner, max_chars=200, key=f"owner-{seen}")
        columns[2].text_input("Note", known.note, max_chars=500, key=f"note-{seen}")
        st.text_input("Reason", max_chars=500, key=f"reason-{seen}")
        locked = lock("topic.mark", environment)
        st.form_submit_button("Save", type="primary", on_click=save_decision, args=(known, environment), **locked)


def render_backlog(coverage: Coverage, backlog: dict[str, BacklogTopic], of_drop: dict[str, float]) -> None:
    """Every gap of the window with its state, as a table, CSV and Markdown."""
    rows = []
    for topic in coverage.topics.ranked():
        known = backlog.get(topic.topic_id)
        rows.append(
            {
                "topic": topic.label,
                "asked": topic.count,
                "share of all": topic.count / max(1, coverage.scored_count),
                "share of the drop": of_drop.get(topic.topic_id),
                "mean score": round(topic.mean_score, 3),
                "trend": str(topic.trend),
                "gain": round(topic.gain, 2),
                "typical question": topic.sample_queries[0],
                "state": str(known.state) if known else "",
                "owner": known.owner if known else "",
                "note": known.note if known else "",
            }
        )
    st.subheader("Backlog", anchor=False)
    shares, scores = ("share of all", "share of the drop"), ("mean score", "gain")
    columns = dict.fromkeys(shares, ui.share_column()) | dict.fromkeys(scores, ui.score_column())
    ui.show_table(rows, key="coverage-table", file_name="gaps.csv", column_config=columns)
    told = [row | {name: ui.format_share(row[name]) for name in shares} for row in rows]
    offer_file("Download Markdown", lambda _roles: ui.markdown_table(told), "gaps.md", "text/markdown")


@st.fragment(run_every=1.0)
def render_progress(pending: Sequence[str]) -> None:
    """How far the new queries are embedded; the page is drawn again when they are."""
    progress = get_backfill().progress
    if not progress.running and not progress.problem:
        if progress.total and progress.done >= progress.total and st.session_state.get("coverage_embedding"):
            st.session_state["coverage_embedding"] = False
            load_coverage.clear()
            st.rerun()
        progress = get_backfill().start(pending)
        st.session_state["coverage_embedding"] = True
    if progress.problem:
        st.error(f"**New queries are not grouped** — {ui.plain(progress.problem)}")
    else:
        share = progress.done / progress.total if progress.total else 0.0
        st.progress(share, f"Reading {len(pending):,} new queries: {progress.done:,} done. They join the topics then.")


def follow_click(event: Any, coverage: Coverage) -> None:
    """Let a click on the map choose the topic, once a click: the selection stays on the map afterwards."""
    clicked = [point["customdata"][1] for point in event["selection"]["points"] if "customdata" in point]
    if clicked != st.session_state.get("coverage_clicked", []):
        st.session_state["coverage_clicked"] = clicked
        chosen = next((topic for topic in coverage.topics.topics if [topic.cluster_id] == clicked[:1]), None)
        if chosen:
            st.session_state["topic"] = chosen.topic_id


def list_drop_shares(frame: ui.Frame, coverage: Coverage) -> dict[str, float]:
    """The share of a dated drop that each topic holds, by topic id; empty when retrieval does not drift."""
    found = load_drift(frame.environment, frame.today, 7, 30)
    shares = share_fall(
        found.report,
        coverage.topics.topics,
        queries=coverage.queries,
        days=found.days,
        today=frame.today,
        window_days=(coverage.window.last - coverage.window.first).days + 1,
    )
    return {share.topic_id: min(1.0, share.share) for share in shares}


def _name(topic: Topic, length: int) -> str:
    return f"{topic.cluster_id + 1} · {ui.chart_text(topic.label, length)}"


def render(frame: ui.Frame) -> None:
    """The page, once the log could be read."""
    clusters = st.number_input(
        "Topics (empty: chosen by measure)", 1, 200, None, key="clusters", bind="query-params", width=260
    )
    coverage = load_coverage(frame.environment, frame.today, min(frame.days, 30), clusters)
    if not coverage.scored_count:
        ui.render_empty("No retrieval in this range yet. Build the demo, or let a service log one.", "quarterdeck demo")
        return
    ui.render_said()
    if coverage.pending:
        render_progress(coverage.pending)
    ranked = coverage.topics.ranked()
    if not ranked:
        ui.render_verdict(f"No gaps to show: {ui.plain(coverage.topics.reason)}.", ui.Look("No gaps", "green", "✓"))
        return
    first = ranked[0]
    share = ui.format_share(first.count / coverage.scored_count)
    together = ui.format_share(sum(topic.count for topic in ranked) / coverage.scored_count)
    score_low = "1 topic scores low" if len(ranked) == 1 else f"{len(ranked)} topics score low"
    ui.render_verdict(
        f"{score_low}, {together} of all queries together. The one most worth indexing is “{ui.plain(first.label)}”: "
        f"{share} of all queries, mean score {ui.format_score(first.mean_score)}.",
        ui.Look("1 gap" if len(ranked) == 1 else f"{len(ranked)} gaps", "orange", "◐"),
        detail=f"Low means under {coverage.threshold:.2f}, which one in ten queries of the reference month did; "
        f"{ui.format_share(coverage.low_share)} do now. {coverage.empty_count:,} searches found nothing at all: "
        "those may be an outage and are no gap.",
    )
    left, right = st.columns(2)
    with left:
        ui.show_chart(draw_topics(coverage), key="coverage-bars", alt="Topics by share of all queries")
    with right:
        points = load_map(frame.environment, frame.today, min(frame.days, 30), clusters)
        event = ui.show_chart(
            draw_map(coverage, points),
            key="coverage-map",
            alt="Map of queries by meaning",
            on_select="rerun",
            selection_mode="points",
        )
        follow_click(event, coverage)
        st.caption(
            "Click a point to choose its topic. Distances on a map mislead: it shows neighbours, it measures nothing."
        )
    names = {topic.topic_id: topic for topic in ranked}
    chosen = st.selectbox(
        "Topic", list(names), format_func=lambda key: ui.shorten(names[key].label, 60), key="topic", bind="query-params"
    )
    backlog = {known.topic_id: known for known in list_backlog(get_store(), get_config().embedding_model)}
    topic = names.get(chosen or "", first)
    of_drop = list_drop_shares(frame, coverage)
    render_topic(topic, backlog.get(topic.topic_id), coverage, of_drop.get(topic.topic_id), frame.environment)
    render_backlog(coverage, backlog, of_drop)


frame = ui.render_frame("Coverage", environments=list_environments())
with ui.showing_errors("The coverage gaps could not be computed"):
    render(frame)

"""The charts of the coverage page: topics by gain, and the map of the questions."""

from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go
import streamlit as st

from app import ui
from core.coverage.report import Coverage, MapPoint
from core.coverage.topics import Topic, Trend

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


def render_charts(coverage: Coverage, points: Sequence[MapPoint] | None) -> None:
    """The topics as bars next to the map of their questions, on which a click chooses a topic (None: no map)."""
    if points is None:
        ui.show_chart(draw_topics(coverage), key="coverage-bars", alt="Topics by share of all queries")
        return
    left, right = st.columns(2)
    with left:
        ui.show_chart(draw_topics(coverage), key="coverage-bars", alt="Topics by share of all queries")
    with right:
        event = ui.show_chart(
            draw_map(coverage, points), key="coverage-map", alt="Map of queries by meaning", on_select="rerun",
            selection_mode="points",
        )  # fmt: skip
        follow_click(event, coverage)
        st.caption("Click a point to choose its topic. Neighbors are similar questions; other distances mean nothing.")


def draw_topics(coverage: Coverage) -> go.Figure:
    """The first topics by share of all queries, most worth indexing first, colored by trend."""
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
    return ui.style_chart(
        figure, title=f"Topics by share of all queries, most worth indexing on top{first}", height=height
    )


def draw_map(coverage: Coverage, points: Sequence[MapPoint]) -> go.Figure:
    """The queries as points: nearby ones ask for similar things."""
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


def follow_click(event: Any, coverage: Coverage) -> None:
    """Choose the topic of a clicked point, once per click, because the selection stays on the map afterwards."""
    clicked = [point["customdata"][1] for point in event["selection"]["points"] if "customdata" in point]
    if clicked != st.session_state.get("coverage_clicked", []):
        st.session_state["coverage_clicked"] = clicked
        chosen = next((topic for topic in coverage.topics.topics if [topic.cluster_id] == clicked[:1]), None)
        if chosen:
            st.session_state["topic"] = chosen.topic_id


def _name(topic: Topic, length: int) -> str:
    return f"{topic.cluster_id + 1} · {ui.chart_text(topic.label, length)}"

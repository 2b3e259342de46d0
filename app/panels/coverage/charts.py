"""The charts of the coverage page: topics by gain, and the map of the questions, each topic in its own color."""

from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go
import streamlit as st

from app import ui
from app.panels.coverage.board import Board, keep_topic
from core.coverage.report import Coverage, MapPoint
from core.coverage.topics import Topic

_MOST_DRAWN = 20
_OTHERS, _NOWHERE = -2, -1
_UNNAMED = {_OTHERS: "other topics", _NOWHERE: "fits no topic"}


def render_charts(board: Board, points: Sequence[MapPoint] | None) -> None:
    """The topics as bars, and the map of their questions, on which a click chooses a topic (None: no map)."""
    coverage, colors = board.coverage, color_topics(board)
    places = st.columns(2) if points is not None else [st.container()]
    with places[0]:
        event = ui.show_chart(
            draw_topics(coverage, colors), key="coverage-bars", alt="Topics by the gain of indexing them",
            on_select="rerun", selection_mode="points",
        )  # fmt: skip
        follow_click(event, "coverage_bar")
    if points is None:
        return
    with places[1]:
        event = ui.show_chart(
            draw_map(coverage, points, colors), key="coverage-map", alt="Map of queries by meaning", on_select="rerun",
            selection_mode="points",
        )  # fmt: skip
        follow_click(event, "coverage_point")
        st.caption(
            "Click a bar or a point to choose its topic. Neighbors are similar questions; other distances mean nothing."
        )


def color_topics(board: Board) -> dict[str, str]:
    """A color for the first topics, by id. A topic keeps its color when others join or the order changes.

    Each has the color of its place among all known ones, the oldest first, unless a higher ranked one has taken it.
    """
    first = {each.topic_id: each.known.first_seen for each in (*board.topics, *board.elsewhere) if each.known}
    by_age = sorted(first, key=lambda topic_id: (first[topic_id], topic_id))
    shown = board.coverage.topics.ranked()[: len(ui.TOPIC_COLORS)]
    colors: dict[str, str] = {}
    for topic in sorted(shown, key=lambda topic: (topic.topic_id not in first, topic.topic_id)):
        at = by_age.index(topic.topic_id) if topic.topic_id in first else 0
        order = [ui.TOPIC_COLORS[(at + step) % len(ui.TOPIC_COLORS)] for step in range(len(ui.TOPIC_COLORS))]
        colors[topic.topic_id] = next(color for color in order if color not in colors.values())
    return colors


def draw_topics(coverage: Coverage, colors: Mapping[str, str]) -> go.Figure:
    """The first topics by gain, the most worth indexing on top."""
    ranked = coverage.topics.ranked()
    topics = ranked[:_MOST_DRAWN]
    names = _name_all(topics, 40)
    figure = go.Figure(
        go.Bar(
            x=[topic.gain for topic in topics],
            y=[names[topic.topic_id] for topic in topics],
            orientation="h",
            name="gain",
            marker_color=[colors.get(topic.topic_id, ui.QUIET) for topic in topics],
            customdata=[
                [
                    topic.topic_id,
                    topic.count,
                    topic.count / max(1, coverage.scored_count),
                    topic.mean_score,
                    topic.trend,
                ]
                for topic in topics
            ],
            hovertemplate="gain %{x:.1f}<br>%{customdata[1]:,} questions, %{customdata[2]:.1%} of all<br>"
            "mean score %{customdata[3]:.2f}, %{customdata[4]}<extra></extra>",
        )
    )
    figure.update_yaxes(categoryorder="array", categoryarray=[names[topic.topic_id] for topic in reversed(topics)])
    figure.update_xaxes(title="gain", rangemode="tozero")
    height = max(240, 110 + 34 * len(topics))
    first = f": the first {len(topics)} of {len(ranked)}" if len(ranked) > len(topics) else ""
    return ui.style_chart(figure, title=f"Topics by what indexing them would bring{first}", height=height)


def draw_map(coverage: Coverage, points: Sequence[MapPoint], colors: Mapping[str, str]) -> go.Figure:
    """The queries as points: nearby ones ask for similar things."""
    ranked = coverage.topics.ranked()
    ids = {topic.cluster_id: topic.topic_id for topic in ranked}
    names = _name_all(ranked, 24)
    drawn = [topic.cluster_id for topic in ranked if topic.topic_id in colors]
    groups: dict[int, list[MapPoint]] = {cluster_id: [] for cluster_id in (*drawn, _OTHERS, _NOWHERE)}
    for point in points:
        groups[point.cluster_id if point.cluster_id in groups else _OTHERS].append(point)
    figure = go.Figure()
    for cluster_id, own in groups.items():
        if own:
            figure.add_scattergl(
                x=[point.x for point in own],
                y=[point.y for point in own],
                mode="markers",
                name=names[ids[cluster_id]] if cluster_id in ids else _UNNAMED[cluster_id],
                marker={"color": colors.get(ids.get(cluster_id, ""), ui.QUIET), "size": 7, "opacity": 0.75},
                customdata=[
                    [ids.get(point.cluster_id, ""), ui.chart_text(point.query.text, 90), point.query.count,
                     point.query.mean_score]
                    for point in own
                ],
                text=[names[ids[p.cluster_id]] if p.cluster_id in ids else _UNNAMED[_NOWHERE] for p in own],
                hovertemplate="%{customdata[1]}<br>asked %{customdata[2]:,} times, mean score %{customdata[3]:.2f}<br>"
                "%{text}<extra></extra>",
            )  # fmt: skip
    figure.update_xaxes(visible=False)
    figure.update_yaxes(visible=False)
    return ui.style_chart(figure, title="Low-scoring queries: near means similar", height=380, hover="closest")


def follow_click(event: Any, name: str) -> None:
    """Choose the topic of a clicked bar or point, once per click, because the selection stays afterwards."""
    clicked = [point["customdata"][0] for point in event["selection"]["points"] if "customdata" in point]
    if clicked != st.session_state.get(name, []):
        st.session_state[name] = clicked
        if clicked and clicked[0]:
            keep_topic(clicked[0])
            st.rerun()


def _name_all(topics: Sequence[Topic], length: int) -> dict[str, str]:
    """The names of topics by id; those that look alike when they are cut are told apart by invisible spaces."""
    found: dict[str, str] = {}
    for topic in topics:
        name = ui.chart_text(topic.label, length)
        while name in found.values():
            name += "\u200b"
        found[topic.topic_id] = name
    return found

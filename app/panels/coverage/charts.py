"""The charts of the coverage page: topics by gain, and the map of the questions, each topic in its own color."""

from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go
import streamlit as st

from app import ui
from app.colors import QUIET, SYMBOLS, TOPIC_COLORS
from app.panels.coverage.board import Board, keep_topic
from core.coverage.report import Coverage, MapPoint
from core.coverage.topics import Topic
from core.wording.counts import count_of

_MOST_DRAWN = 20
_OTHERS, _NOWHERE = -2, -1
_UNNAMED = {_OTHERS: "other topics", _NOWHERE: "fits no topic"}


def render_charts(board: Board, points: Sequence[MapPoint] | None) -> None:
    """The topics as bars, and the map of their questions, on which a click chooses a topic (None: no map)."""
    coverage, colors = board.coverage, color_topics(board)
    event = ui.show_chart(
        draw_topics(coverage, colors), key="coverage-bars", alt="Topics by the gain of indexing them",
        rows=list_topic_rows(coverage), points=[{"customdata": [each.topic_id]} for each in list_drawn(coverage)],
        column_config={"share of all": ui.share_column(), "mean score": ui.score_column()},
        on_select="rerun", selection_mode="points",
    )  # fmt: skip
    follow_click(event, "coverage_bar")
    if points is None:
        return
    event = ui.show_chart(
        draw_map(coverage, points, colors), key="coverage-map", alt="Map of questions by meaning",
        rows=list_point_rows(coverage, points), column_config={"mean score": ui.score_column()}, on_select="rerun",
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
    shown = board.coverage.topics.ranked()[: len(TOPIC_COLORS)]
    colors: dict[str, str] = {}
    for topic in sorted(shown, key=lambda topic: (topic.topic_id not in first, topic.topic_id)):
        at = by_age.index(topic.topic_id) if topic.topic_id in first else 0
        order = [TOPIC_COLORS[(at + step) % len(TOPIC_COLORS)] for step in range(len(TOPIC_COLORS))]
        colors[topic.topic_id] = next(color for color in order if color not in colors.values())
    return colors


def draw_topics(coverage: Coverage, colors: Mapping[str, str]) -> go.Figure:
    """The first topics by gain, the most worth indexing on top."""
    topics = list_drawn(coverage)
    names = _name_all(topics, 40)
    figure = go.Figure(
        go.Bar(
            x=[topic.gain for topic in topics],
            text=[f"{topic.gain:.1f}" for topic in topics],
            textposition="outside",
            cliponaxis=False,
            y=[names[topic.topic_id] for topic in topics],
            orientation="h",
            name="gain",
            marker_color=[colors.get(topic.topic_id, QUIET) for topic in topics],
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
    figure.update_xaxes(title="gain", range=[0, 1.15 * max((topic.gain for topic in topics), default=0.0) or 1.0])
    height = max(240, 110 + 34 * len(topics))
    return ui.style_chart(figure, title=say_gains(coverage), height=height, hover="closest")


def list_drawn(coverage: Coverage) -> Sequence[Topic]:
    """The topics that have a bar: the first by gain."""
    return coverage.topics.ranked()[:_MOST_DRAWN]


def say_gains(coverage: Coverage) -> str:
    """Which topic would bring the most, and how much of all."""
    ranked = coverage.topics.ranked()
    whole = sum(topic.gain for topic in ranked)
    if not whole:
        return "Indexing would bring nothing to any topic"
    rest = f"; the first {_MOST_DRAWN} of {len(ranked)} are drawn" if len(ranked) > _MOST_DRAWN else ""
    first = ui.chart_text(ranked[0].label, 40)
    return f"“{first}” holds {ui.format_share(ranked[0].gain / whole)} of the gain of indexing{rest}"


def list_topic_rows(coverage: Coverage) -> list[dict[str, object]]:
    """The bars as a table."""
    return [
        {
            "topic": topic.label,
            "gain": round(topic.gain, 1),
            "questions": topic.count,
            "share of all": topic.count / max(1, coverage.scored_count),
            "mean score": topic.mean_score,
            "trend": str(topic.trend),
        }
        for topic in list_drawn(coverage)
    ]


def list_point_rows(coverage: Coverage, points: Sequence[MapPoint]) -> list[dict[str, object]]:
    """The points of the map as a table, the most asked first. Places on the map mean nothing by themselves."""
    names = {topic.cluster_id: topic.label for topic in coverage.topics.ranked()}
    return [
        {
            "question": ui.shorten(point.query.text, 400),
            "topic": names.get(point.cluster_id, _UNNAMED[_NOWHERE]),
            "asked": point.query.count,
            "mean score": point.query.mean_score,
        }
        for point in sorted(points, key=lambda point: -point.query.count)
    ]


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
    for at, (cluster_id, own) in enumerate(groups.items()):
        if own:
            figure.add_scattergl(
                x=[point.x for point in own],
                y=[point.y for point in own],
                mode="markers",
                name=names[ids[cluster_id]] if cluster_id in ids else _UNNAMED[cluster_id],
                marker={
                    "color": colors.get(ids.get(cluster_id, ""), QUIET), "size": 7, "opacity": 0.75,
                    "symbol": SYMBOLS[at % len(SYMBOLS)] if cluster_id in ids else "circle-open",
                },
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
    return ui.style_chart(figure, title=say_map(coverage, points), height=380, hover="closest")


def say_map(coverage: Coverage, points: Sequence[MapPoint]) -> str:
    """How many of the different low questions the topics hold."""
    ids = {topic.cluster_id for topic in coverage.topics.ranked()}
    inside = sum(point.cluster_id in ids for point in points)
    hold = f"{count_of(len(ids), 'topic')} hold{'s' * (len(ids) == 1)}"
    return f"{hold} {inside:,} of the {len(points):,} different low questions"


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

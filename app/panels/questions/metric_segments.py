"""One metric by segment, on the quality tab: the sentence, the largest segments by day, and the table of all."""

from typing import Any

import plotly.graph_objects as go
import streamlit as st

from app import ui
from app.cards import TIME_TICKS
from app.colors import CATEGORIES
from app.panels.questions.resources import load_segments_report
from app.text import plain, show_unseen
from core.log.retrievals import Window
from core.metrics.definition import MetricDefinition, say_metric_amount, say_metric_value
from core.metrics.segments import MetricSegment, SegmentsReport
from core.questions.wanted import NO_VALUE

MOST_LINES = 5


def render_metric_segments(frame: ui.Frame, metric: MetricDefinition, window: Window, dimension: str) -> None:
    """Draw a metric by the values of a dimension; the last week is compared with the days before."""
    with ui.showing_errors("The segments could not be added up"):
        found = load_segments_report(frame.scope, metric, window, dimension)
        st.markdown(f"**{plain(found.sentence)}**")
        if not found.segments:
            st.caption(f"No question of the last {frame.days} days has a number here.")
            return
        _draw(found)
        rows = [_as_row(found, each) for each in found.segments]
        ui.show_table(rows, key="quality-metric-segments", file_name="segments.csv")
        if found.left_out:
            st.caption(f"{found.left_out:,} values with fewer questions are left out.")


def _draw(found: SegmentsReport) -> None:
    """The largest segments by day."""
    figure, form = go.Figure(), ".1%" if found.metric.is_share else ",.3~f"
    for segment, color in zip(found.segments[:MOST_LINES], CATEGORIES, strict=False):
        figure.add_scatter(
            x=[day.day for day in segment.days], y=[day.value for day in segment.days], mode="lines+markers",
            name=ui.chart_text(_name(segment), 40), line={"color": color, "width": 2},
            customdata=[day.count for day in segment.days],
            hovertemplate=f"%{{y:{form}}}, %{{customdata:,.0f}} counted",
        )  # fmt: skip
    figure.update_yaxes(title=ui.chart_text(found.metric.shown_unit, 40), tickformat=form)
    figure.update_xaxes(tickformatstops=TIME_TICKS)
    title = ui.chart_text(f"{found.metric.name} by {found.dimension.replace('_', ' ')}", 100)
    ui.show_chart(ui.style_chart(figure, title=title), key="quality-metric", alt="A metric of each segment by day")


def _as_row(found: SegmentsReport, segment: MetricSegment) -> dict[str, Any]:
    def say(value: float | None) -> str:
        return "—" if value is None else say_metric_value(found.metric, value)

    change = segment.change
    return {
        "segment": show_unseen(segment.value) or NO_VALUE, "counted": segment.count, "before": say(segment.before),
        f"since {ui.format_day(found.recent_from)}": say(segment.recent),
        "change": "—" if change is None else f"{'+' if change > 0 else '-'}{say_metric_amount(found.metric, change)}",
        "carries it": "yes" if found.carrier and found.carrier.value == segment.value else "",
    }  # fmt: skip


def _name(segment: MetricSegment) -> str:
    return show_unseen(segment.value) or NO_VALUE

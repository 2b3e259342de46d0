"""The scores of the drift page: by day, by value, and by segment."""

from collections.abc import Sequence
from datetime import timedelta

import plotly.graph_objects as go
import streamlit as st

from app import charts, ui
from app.panels.shared.questions import link_to_segment, render_day_links, render_drop_link
from app.text import plain
from core.causes.changes import WhatChanged
from core.drift.report import DriftOverview
from core.drift.verdict import DriftReport
from core.drift.wording import say_fall
from core.log.histograms import add_histograms
from core.log.values import DailyScores
from core.wording.scores import decimals_of, say_change

MEAN_HELP = (
    "Mean top-1 similarity. On days that are over, no session and no question weighs more than 1% of the day, so "
    "that a bot or a popular button does not move it."
)


def render_figures(found: DriftOverview) -> None:
    """The figures below the sentence: now, the reference, and the change."""
    report = found.report
    since = f" since {ui.format_day(report.recent_from)}" if report.recent_from else ""
    fell = say_fall(report) if report.delta is not None else None
    places = 2 if fell is None else decimals_of(fell)
    figures = (
        (f"Mean score{since}", _show(report.recent_avg_score, places), MEAN_HELP),
        ("Reference", _show(report.baseline_avg_score, places), _say_reference(report)),
        ("Change", "—" if fell is None else say_change(-fell), None),
        ("Empty hit lists", f"{found.states.empty:,}", "Searches that found nothing: often an outage"),
    )
    with st.container(horizontal=True):  # they wrap, so that no label is cut
        for label, value, told in figures:
            st.metric(label, value, help=told, width=225)


def _show(score: float | None, places: int) -> str:
    """As many decimals as in the sentence above, so that the figures add up."""
    return "—" if score is None else f"{score:.{places}f}"


def _say_reference(report: DriftReport) -> str | None:
    if not report.baseline_from or not report.baseline_until:
        return None
    first, last = ui.format_day(report.baseline_from), ui.format_day(report.baseline_until)
    return f"The days from {first} to {last} with this level; those of a drop that is over are left out."


def render_days(found: DriftOverview, told: WhatChanged, frame: ui.Frame) -> None:
    """The daily scores with the reference and markers of changes."""
    figure = charts.draw_score_band(
        list_shown(found, frame), found.report, history=found.days,
        title="Daily retrieval score: median and 10–90% band; in gray the 10–90% band of the reference",
    )  # fmt: skip
    first = frame.today - timedelta(days=frame.days - 1)
    charts.mark_changes(figure, told.changes, first=first, last=frame.today)
    event = ui.show_chart(
        figure, key="drift-days", alt="Daily retrieval scores with the reference level and what changed",
        on_select="rerun", selection_mode="points",
    )  # fmt: skip
    render_day_links(event)
    render_drop_link(found.report)
    for problem in told.problems:
        st.caption(f"Not on the chart: {plain(problem)}")


def render_distributions(found: DriftOverview) -> None:
    """Current and reference scores, once there are both."""
    if found.report.recent_from and found.report.baseline_from:
        figure = draw_distributions(found.days, found.report)
        ui.show_chart(figure, key="drift-shapes", alt="Scores now and in the reference")


def render_table(found: DriftOverview, frame: ui.Frame) -> None:
    """The scores day by day, as a table and CSV."""
    rows = [{"day": day.day, "queries": day.count, "mean score": day.mean} for day in list_shown(found, frame)]
    columns = {"mean score": ui.score_column(3, help=MEAN_HELP)}
    ui.show_table(rows, key="drift-table", file_name="daily-scores.csv", column_config=columns)


def list_shown(found: DriftOverview, frame: ui.Frame) -> list[DailyScores]:
    """The days of the range that the visitor chose."""
    return [day for day in found.days if (frame.today - day.day).days < frame.days]


def draw_distributions(days: Sequence[DailyScores], report: DriftReport) -> go.Figure:
    """Shares of queries by score: the reference and now."""
    figure = go.Figure()
    periods = (
        ("reference", ui.QUIET, [d for d in days if report.is_reference(d.day)]),
        ("now", ui.ACCENT, [d for d in days if report.is_recent(d.day)]),
    )
    for name, color, part in periods:
        counts = add_histograms(part)
        total = sum(counts) or 1
        centers = [(at + 0.5) / len(counts) for at in range(len(counts))]
        figure.add_bar(x=centers, y=[count / total for count in counts], name=name, marker_color=color, opacity=0.65)
    figure.update_layout(barmode="overlay", bargap=0.05)
    figure.update_xaxes(title="top-1 similarity", range=[0, 1])
    figure.update_yaxes(title="share of queries", tickformat=".0%")
    return ui.style_chart(figure, title="Distribution of scores: reference and now")


def render_segments(found: DriftOverview, sentence: str) -> None:
    """Where the drop is: the sentence, and the table with the evidence."""
    rows = [
        {
            "segment": dimension.replace("_", " "),
            "value": ui.shorten(verdict.segment, 60),
            "queries": verdict.count,
            "mean": verdict.mean,
            "change": verdict.delta,
            "from": verdict.delta_low,
            "to": verdict.delta_high,
            "verdict": ui.DRIFT_LOOKS[verdict.status].word,
        }
        for dimension, verdicts in found.segments
        for verdict in verdicts
    ]
    if rows:
        st.subheader("By segment", anchor=False)
        if sentence:
            st.markdown(plain(sentence))
        st.caption("Intervals are corrected for comparing several segments.")
        columns = dict.fromkeys(("mean", "change", "from", "to"), ui.score_column())
        event = ui.show_table(
            rows, key="drift-segments", file_name="segments.csv", column_config=columns, on_select="rerun",
            selection_mode="single-row",
        )  # fmt: skip
        named = [(dimension, verdict.segment) for dimension, verdicts in found.segments for verdict in verdicts]
        for place in event["selection"]["rows"]:
            link_to_segment(*named[place])

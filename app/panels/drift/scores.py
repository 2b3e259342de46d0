"""The scores of the drift page: by day, by value, and by segment."""

from collections.abc import Sequence
from datetime import timedelta

import plotly.graph_objects as go
import streamlit as st

from app import charts, ui
from app.cards import fit_axis
from app.colors import ACCENT, QUIET
from app.panels.shared.questions import link_to_segment, open_clicked, render_drop_link
from app.tables import keep_selection
from app.text import plain
from core.causes.changes import WhatChanged
from core.drift.report import DriftOverview
from core.drift.verdict import DriftReport
from core.drift.wording import say_fall
from core.log.histograms import add_histograms, count_below, quantile_of_histogram
from core.log.values import DailyScores
from core.wording.scores import decimals_of, say_change

MEAN_HELP = (
    "Mean of the scores (top-1 similarity). On days that are over, no session and no question weighs more than 1% of "
    "the day, so that a bot or a popular button does not move it."
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
        ("Found nothing", f"{found.states.empty:,}", "Searches without a single hit: often an outage"),
    )
    with st.container(horizontal=True, key="drift_figures"):  # they wrap, so that no label is cut
        for label, value, told in figures:
            st.metric(label, value, help=told, width=184)


def _show(score: float | None, places: int) -> str:
    """As many decimals as in the sentence above, so that the figures add up."""
    return "—" if score is None else f"{score:.{places}f}"


def _say_reference(report: DriftReport) -> str | None:
    if not report.baseline_from or not report.baseline_until:
        return None
    first, last = ui.format_day(report.baseline_from), ui.format_day(report.baseline_until)
    return f"The days from {first} to {last} with this level; those of a drop that is over are left out."


def render_days(found: DriftOverview, told: WhatChanged, frame: ui.Frame) -> None:
    """The daily scores with the reference and the changes, as a chart or a table."""
    days = list_shown(found, frame)
    figure = charts.draw_score_band(days, found.report, history=found.days)
    first = charts.find_first_day(days, since=frame.today - timedelta(days=frame.days - 1))
    charts.mark_changes(figure, told.changes, first=first, last=frame.today)
    columns = dict.fromkeys(("median", "10% score below", "90% score below"), ui.score_column())
    event = ui.show_chart(
        figure, key="drift-days", alt="Daily retrieval scores with the reference level and what changed",
        rows=charts.list_day_rows(days, told.changes), points=charts.list_day_points(days),
        column_config=columns | {"mean score": ui.score_column(3, help=MEAN_HELP)},
        on_select="rerun", selection_mode="points",
    )  # fmt: skip
    open_clicked(event)
    render_drop_link(found.report)
    for problem in told.problems:
        st.caption(f"Not on the chart: {plain(problem)}")


def render_distributions(found: DriftOverview) -> None:
    """Current and reference scores, of a report that has both."""
    figure = draw_distributions(found.days, found.report)
    ui.show_chart(figure, key="drift-shapes", alt="Scores now and in the reference")


def list_shown(found: DriftOverview, frame: ui.Frame) -> list[DailyScores]:
    """The days of the range that the visitor chose."""
    return [day for day in found.days if (frame.today - day.day).days < frame.days]


def draw_distributions(days: Sequence[DailyScores], report: DriftReport) -> go.Figure:
    """Shares of queries by score: the reference and now."""
    figure = go.Figure()
    periods = (
        ("reference", QUIET, [d for d in days if report.is_reference(d.day)]),
        ("now", ACCENT, [d for d in days if report.is_recent(d.day)]),
    )
    drawn: list[float] = []
    for name, color, part in periods:
        counts = add_histograms(part)
        shares = [count / (sum(counts) or 1) for count in counts]
        centers = [(at + 0.5) / len(counts) for at in range(len(counts))]
        drawn += [center for center, share in zip(centers, shares, strict=True) if share]
        if color is QUIET:
            figure.add_bar(x=centers, y=shares, name=name, marker_color=color, opacity=0.65)
        else:
            line = {"shape": "hvh", "color": color, "width": 2}
            figure.add_scatter(x=centers, y=shares, name=name, mode="lines", line=line)
    figure.update_traces(hovertemplate="%{y:.1%} of the questions")
    figure.update_layout(bargap=0.05)
    figure.update_xaxes(title="score", hoverformat=".2f", range=fit_axis(drawn or [0, 1], least=0, most=1))
    figure.update_yaxes(title="share of questions", tickformat=".0%")
    return ui.style_chart(figure, title=say_low(periods[0][2], periods[1][2]))


def say_low(reference: Sequence[DailyScores], now: Sequence[DailyScores]) -> str:
    """How many questions lie below the score that one in ten of the reference did not reach."""
    then, here = add_histograms(reference), add_histograms(now)
    if not any(then) or not any(here):
        return "The scores of the reference and of now, by how often they came"
    limit = quantile_of_histogram(then, 0.1)
    share = count_below(here, limit) / sum(here)
    since = ui.format_day(now[0].day)
    return f"{ui.format_share(share)} of the questions since {since} score under {limit:.2f}; 10% did in the reference"


def render_segments(found: DriftOverview, sentence: str) -> None:
    """Where the drop is: the sentence, and the table with the evidence."""
    rows = [
        {
            "segment": dimension.replace("_", " "),
            "value": ui.shorten(verdict.segment, 60),
            "questions": verdict.count,
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
        if sentence:
            st.markdown(plain(sentence))
        st.caption("Intervals are corrected for comparing several segments.")
        columns = dict.fromkeys(("mean", "change", "from", "to"), ui.score_column())
        named = [(dimension, verdict.segment) for dimension, verdicts in found.segments for verdict in verdicts]
        event = ui.show_table(
            rows, file_name="segments.csv", column_config=columns, on_select="rerun", selection_mode="single-row",
            **keep_selection("drift-segments", [repr(each) for each in named]).options,
        )  # fmt: skip
        for place in event["selection"]["rows"]:
            link_to_segment(*named[place])

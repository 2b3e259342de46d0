"""Charts that several pages draw: the daily score band, and the markers of what changed on it."""

from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime, time, timedelta

import plotly.graph_objects as go

from app import ui
from core.drift import DailyScores, DriftReport
from core.histograms import add_histograms, quantile_of_histogram
from core.timeline import Change, ChangeKind

_MARKERS = {
    ChangeKind.FLAG: "triangle-up",
    ChangeKind.CANARY: "diamond",
    ChangeKind.INDEX: "square",
    ChangeKind.CORPUS: "circle",
    ChangeKind.PROMPT: "star",
    ChangeKind.DEPLOYMENT: "hexagon",
    ChangeKind.LEVEL: "x",
}
_LANES = (0.04, 0.10, 0.16)  # where on the axis of scores the markers lie, so that few cover each other


def draw_score_band(
    days: Sequence[DailyScores], report: DriftReport, *, title: str, history: Sequence[DailyScores] = ()
) -> go.Figure:
    """The daily median and its 10–90% band, that of the reference days in `history`, and the day of the change."""
    dates = [day.day for day in days]
    low, middle, high = ([quantile_of_histogram(day.histogram, share) for day in days] for share in (0.1, 0.5, 0.9))
    band = {"mode": "lines", "line": {"width": 0}, "hovertemplate": "%{y:.2f}"}
    median = {"color": ui.ACCENT, "width": 2}
    figure = go.Figure(
        [
            go.Scatter(x=dates, y=high, name="90% score below", showlegend=False, **band),
            go.Scatter(
                x=dates, y=low, name="10–90% of queries", fill="tonexty", fillcolor="rgba(79,107,237,.18)", **band
            ),
            go.Scatter(x=dates, y=middle, name="median", line=median, hovertemplate="%{y:.2f}"),
        ]
    )
    _draw_reference_band(figure, history, report)
    if report.baseline_avg_score is not None:
        figure.add_hline(
            report.baseline_avg_score, line_dash="dot", line_color=ui.QUIET, annotation_text="reference mean"
        )
    if report.changed_on:
        _mark_day(figure, report.changed_on)
    figure.update_yaxes(title="top-1 similarity", range=[0, 1], tickformat=".1f")
    return ui.style_chart(figure, title=title)


def _draw_reference_band(figure: go.Figure, days: Sequence[DailyScores], report: DriftReport) -> None:
    """Between these two lines lay 10–90% of the queries of the reference days."""
    first, last = report.baseline_from, report.baseline_until
    counts = add_histograms(day for day in days if first and last and first <= day.day <= last)
    if any(counts):
        low, high = (quantile_of_histogram(counts, share) for share in (0.1, 0.9))
        figure.add_hrect(low, high, fillcolor=ui.QUIET, opacity=0.14, line_width=0, layer="below")


def mark_changes(figure: go.Figure, changes: Iterable[Change], *, first: date, last: date) -> go.Figure:
    """Put a marker on the figure for each change from `first` to `last`; hovering says what, who and why."""
    start, end = (datetime.combine(day, time(), UTC) for day in (first, last + timedelta(days=1)))
    shown = [change for change in changes if start <= change.ts < end]
    for at, (kind, symbol) in enumerate(_MARKERS.items()):
        of_kind = [change for change in shown if change.kind is kind]
        if of_kind:
            figure.add_scatter(
                x=[change.ts for change in of_kind],
                y=[_LANES[at % 3]] * len(of_kind),
                mode="markers",
                name=kind.value,
                marker={
                    "symbol": symbol,
                    "size": 11,
                    "color": ui.CATEGORIES[at],
                    "line": {"width": 1, "color": "white"},
                },
                text=[_say(change) for change in of_kind],
                hovertemplate="%{text}<extra></extra>",
            )
    figure.update_layout(hovermode="closest")
    figure.update_xaxes(range=[start, end])
    return figure


def list_change_rows(changes: Iterable[Change], *, since: date) -> list[dict[str, object]]:
    """The rows of the table of changes, newest first."""
    newest = sorted((c for c in changes if c.ts.date() >= since), key=lambda change: change.ts, reverse=True)
    return [
        {
            "when": change.ts,
            "kind": str(change.kind),
            "what": ui.shorten(change.summary),
            "who": ui.shorten(change.actor, 40),
            "why": ui.shorten(change.reason),
            "audit entry": change.entry_id,
        }
        for change in newest
    ]


def _mark_day(figure: go.Figure, day: date) -> None:
    figure.add_vline(str(day), line_color=ui.DANGER, line_dash="dash")
    figure.add_annotation(
        x=str(day), y=1, yref="paper", text=f"changed {ui.format_day(day)}", showarrow=False, xanchor="right", xshift=-4
    )


def _say(change: Change) -> str:
    lines = [f"<b>{ui.chart_text(change.summary, 90)}</b>", f"{change.ts:%d %b %Y %H:%M} UTC"]
    if change.actor:
        lines.append(f"by {ui.chart_text(change.actor, 40)}")
    if change.reason:
        lines.append(f"why: {ui.chart_text(change.reason, 90)}")
    return "<br>".join(lines)

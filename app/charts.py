"""Charts that several pages draw: the daily score band, and the markers of changes on it."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta

import plotly.graph_objects as go

from app import ui
from core.arms.arms import ArmsReading, ComparedMetric, Metric, add_stretches
from core.causes.timeline import ChangeKind, TimelineChange
from core.drift.verdict import DriftReport
from core.log.histograms import add_histograms, quantile_of_histogram
from core.log.values import DailyScores
from core.metrics.definition import MetricDefinition

_MARKERS = {
    ChangeKind.FLAG: ("triangle-up", ui.ACCENT),
    ChangeKind.CANARY: ("diamond", ui.ACCENT),
    ChangeKind.EXPERIMENT: ("pentagon", ui.ACCENT),
    ChangeKind.INDEX: ("square", ui.GREEN),
    ChangeKind.CORPUS: ("circle", ui.CATEGORIES[3]),
    ChangeKind.PROMPT: ("star", ui.LIGHT),
    ChangeKind.DEPLOYMENT: ("hexagon", ui.VIOLET),
    ChangeKind.RELEASE: ("hexagon2", ui.VIOLET),
    ChangeKind.FEED: ("cross", ui.QUIET),
    ChangeKind.PUSH: ("circle-open", ui.QUIET),
    ChangeKind.OUTSIDE: ("hourglass", ui.VIOLET),
    ChangeKind.LEVEL: ("x", ui.QUIET),
}
_FORMATS = dict.fromkeys(Metric, ".3f") | {Metric.ERRORS: ".1%", Metric.LATENCY: ",.0f", Metric.COST: "$.4f"}
_UNITS = {metric: str(metric) for metric in Metric} | {Metric.LATENCY: "latency, ms", Metric.COST: "cost of a query"}
_LANES = (0.04, 0.10, 0.16)  # where the markers lie on the axis of scores, so that few overlap


def draw_score_band(
    days: Sequence[DailyScores], report: DriftReport, *, title: str, history: Sequence[DailyScores] = ()
) -> go.Figure:
    """The daily median with its 10–90% band, the band of the reference days in `history`, and the day of the change."""
    dates = [day.day for day in days]
    low, middle, high = ([quantile_of_histogram(day.histogram, share) for day in days] for share in (0.1, 0.5, 0.9))
    told = [_say_day(*each) for each in zip(days, low, middle, high, strict=True)]
    box = {"customdata": told, "hovertemplate": "%{customdata}<extra></extra>"}  # one, whichever line is near
    band = {"mode": "lines", "line": {"width": 0}, **box}
    median = {"color": ui.ACCENT, "width": 2}
    figure = go.Figure(
        [
            go.Scatter(x=dates, y=high, name="90% score below", showlegend=False, **band),
            go.Scatter(x=dates, y=low, name="10–90% of queries", fill="tonexty", fillcolor=_fade(ui.ACCENT), **band),
            go.Scatter(x=dates, y=middle, name="median", line=median, **box),
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


def _say_day(day: DailyScores, low: float, middle: float, high: float) -> str:
    """What the chart says of a day: which one, how many questions, the median, and where 80% of them lie."""
    asked = "1 question" if day.count == 1 else f"{day.count:,} questions"
    return (
        f"{day.day:%a} {ui.format_day(day.day)} · {asked}<br>median {middle:.2f}, 80% between {low:.2f} and {high:.2f}"
    )


def _draw_reference_band(figure: go.Figure, days: Sequence[DailyScores], report: DriftReport) -> None:
    """Between these two lines lay 10–90% of the queries of the reference days."""
    counts = add_histograms(day for day in days if report.is_reference(day.day))
    if any(counts):
        low, high = (quantile_of_histogram(counts, share) for share in (0.1, 0.9))
        figure.add_hrect(low, high, fillcolor=ui.QUIET, opacity=0.14, line_width=0, layer="below")


def mark_changes(figure: go.Figure, changes: Iterable[TimelineChange], *, first: date, last: date) -> go.Figure:
    """Put a marker on the figure for each change from `first` to `last`; the hover text says what, who and why."""
    start, end = (datetime.combine(day, time(), UTC) for day in (first, last + timedelta(days=1)))
    shown = [change for change in changes if start <= change.ts < end]
    for at, (kind, (symbol, color)) in enumerate(_MARKERS.items()):
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
                    "color": color,
                    "line": {"width": 1, "color": "white"},
                },
                text=[_say(change) for change in of_kind],
                hovertemplate="%{text}<extra></extra>",
            )
    figure.update_layout(hovermode="closest")
    figure.update_xaxes(range=[start, end])
    return figure


def list_change_rows(changes: Iterable[TimelineChange], *, since: date) -> list[dict[str, object]]:
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
            "link": change.url,
        }
        for change in newest
    ]


def draw_arms(
    looks: Sequence[ArmsReading], metric: ComparedMetric, *, colors: Mapping[str, str], title: str
) -> go.Figure:
    """Each arm's mean over time, per hour in the first two days and per day after that.

    Metrics other than those of Metric are drawn as known at each time since the start.
    """
    whole = looks[-1].at - looks[0].start if looks else timedelta()
    periods = add_stretches(looks, timedelta(hours=1) if whole <= timedelta(days=2) else timedelta(days=1))
    figure = go.Figure()
    for arm, color in colors.items():
        told = _trace_arm(looks if isinstance(metric, MetricDefinition) else periods, metric, arm)
        figure.add_scatter(
            x=[at for at, _, _ in told],
            y=[mean for _, mean, _ in told],
            name=ui.chart_text(arm, 40),
            mode="lines+markers",
            line={"color": color, "width": 2},
            customdata=[users for _, _, users in told],
            hovertemplate=f"%{{y:{_format(metric)}}}, %{{customdata}} users",
        )
    figure.update_yaxes(title=_name_unit(metric), tickformat=_format(metric))
    return ui.style_chart(figure, title=title)


def _trace_arm(looks: Sequence[ArmsReading], metric: ComparedMetric, arm: str) -> list[tuple[datetime, float, int]]:
    """An arm's means with their times and users."""
    if isinstance(metric, MetricDefinition):
        known = [(each.at, each.arms[arm].moments.get(metric)) for each in looks]
        return [(at, moments.mean, moments.users) for at, moments in known if moments]
    found = [(each.start, each.last[arm].mean(metric), each.last[arm].users) for each in looks]
    return [(at, mean, users) for at, mean, users in found if mean is not None]


def draw_interval(
    at: Sequence[datetime], middle: Sequence[float], ends: tuple[Sequence[float], Sequence[float]],
    metric: ComparedMetric, *, limits: Mapping[str, float], color: str, title: str,
) -> go.Figure:  # fmt: skip
    """An estimate with its always-valid interval over time, the zero line, and named limits."""
    (low, high), fill = ends, _fade(color)
    band = {"mode": "lines", "line": {"width": 0}, "hovertemplate": f"%{{y:{_format(metric)}}}"}
    figure = go.Figure(
        [
            go.Scatter(x=at, y=high, name="at most", showlegend=False, **band),
            go.Scatter(x=at, y=low, name="always-valid interval", fill="tonexty", fillcolor=fill, **band),
            go.Scatter(
                x=at, y=middle, name="estimate", line={"color": color, "width": 2},
                hovertemplate=f"%{{y:{_format(metric)}}}",
            ),
        ]
    )  # fmt: skip
    figure.add_hline(0, line_color=ui.QUIET, line_width=1)
    for name, value in limits.items():
        figure.add_hline(value, line_dash="dot", line_color=ui.DANGER, annotation_text=name)
    figure.update_yaxes(title=_name_unit(metric), tickformat=_format(metric))
    return ui.style_chart(figure, title=title)


def _format(metric: ComparedMetric) -> str:
    if isinstance(metric, Metric):
        return _FORMATS[metric]
    return ".1%" if metric.is_share else "$.4f" if metric.shown_unit.startswith("USD") else ",.3~f"


def _name_unit(metric: ComparedMetric) -> str:
    if isinstance(metric, Metric):
        return _UNITS[metric]
    unit = "" if metric.is_share else metric.shown_unit
    return ui.chart_text(f"{metric.name}, {unit}" if unit else metric.name, 60)


def _fade(color: str) -> str:
    return f"rgba({int(color[1:3], 16)},{int(color[3:5], 16)},{int(color[5:7], 16)},.18)"


def _mark_day(figure: go.Figure, day: date) -> None:
    figure.add_vline(str(day), line_color=ui.DANGER, line_dash="dash")
    figure.add_annotation(
        x=str(day), y=1, yref="paper", text=f"changed {ui.format_day(day)}", showarrow=False, xanchor="right", xshift=-4
    )


def _say(change: TimelineChange) -> str:
    lines = [
        f"<b>{ui.chart_text(change.summary, 90)}</b>",
        f"{ui.format_moment(change.ts)} ({ui.format_utc(change.ts)})",
    ]
    if change.actor:
        lines.append(f"by {ui.chart_text(change.actor, 40)}")
    if change.reason:
        lines.append(f"why: {ui.chart_text(change.reason, 90)}")
    return "<br>".join(lines)

"""Charts that several pages draw: the daily score band, and the changes in a lane below it."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from itertools import pairwise

import plotly.graph_objects as go

from app import ui
from app.cards import TIME_TICKS, fit_axis
from app.colors import ACCENT, DANGER, GREEN, LIGHT, PINK, QUIET, SYMBOLS, VIOLET, fade
from core.arms.arms import ArmsReading, ComparedMetric, Metric, add_stretches
from core.causes.timeline import ChangeKind, TimelineChange
from core.drift.verdict import DriftReport
from core.log.histograms import add_histograms, quantile_of_histogram
from core.log.values import DailyScores
from core.metrics.definition import MetricDefinition

_MARKERS = {
    ChangeKind.FLAG: ("triangle-up", ACCENT),
    ChangeKind.CANARY: ("diamond", ACCENT),
    ChangeKind.EXPERIMENT: ("pentagon", ACCENT),
    ChangeKind.INDEX: ("square", GREEN),
    ChangeKind.CORPUS: ("circle", PINK),
    ChangeKind.PROMPT: ("star", LIGHT),
    ChangeKind.DEPLOYMENT: ("hexagon", VIOLET),
    ChangeKind.RELEASE: ("hexagon2", VIOLET),
    ChangeKind.FEED: ("cross", QUIET),
    ChangeKind.PUSH: ("circle-open", QUIET),
    ChangeKind.OUTSIDE: ("hourglass", VIOLET),
    ChangeKind.LEVEL: ("x", QUIET),
}
_FORMATS = dict.fromkeys(Metric, ".3~f") | {Metric.ERRORS: ".1%", Metric.LATENCY: ",.0f", Metric.COST: "$.4f"}
_UNITS = {metric: str(metric) for metric in Metric} | {Metric.LATENCY: "latency, ms", Metric.COST: "cost of a query"}
_MEDIAN = "median"
_LANE, _GAP = 0.13, 0.07  # shares of the height: the lane of changes, and what lies between it and the scores
_ROWS = 3  # markers above each other in the lane, so that few overlap
_MOST_SAID = 3  # changes named in the box of a day
_MOST_TOGETHER = 3  # arms in one panel; more have one each


def draw_score_band(
    days: Sequence[DailyScores], report: DriftReport, *, title: str = "", history: Sequence[DailyScores] = ()
) -> go.Figure:
    """The daily median with the band of 80% of the questions, that of the reference days, and the range of the change.

    The title states what the median did, unless another is given. `history` holds the days of the reference.
    """
    days = [day for day in days if any(day.histogram)]
    noons = [datetime.combine(day.day, time(12)) for day in days]
    low, middle, high = ([quantile_of_histogram(day.histogram, share) for day in days] for share in (0.1, 0.5, 0.9))
    told = [_say_day(*each) for each in zip(days, low, middle, high, strict=True)]
    band = {"mode": "lines", "line": {"width": 0}, "hoverinfo": "skip"}
    figure = go.Figure(
        [
            go.Scatter(x=noons, y=high, name="90% score below", showlegend=False, **band),
            go.Scatter(x=noons, y=low, name="80% of questions", fill="tonexty", fillcolor=fade(ACCENT), **band),
            go.Scatter(
                x=noons, y=middle, name=_MEDIAN, mode="lines+markers", line={"color": ACCENT, "width": 2},
                marker={"size": 5}, customdata=told, hovertemplate="%{customdata}<extra></extra>",
            ),
        ]
    )  # fmt: skip
    ends = [*low, *high, *_draw_reference(figure, history or days, report)]
    if report.changed_on:
        _shade_change(figure, report)
    figure.update_yaxes(title="score", tickformat=".1f")
    if ends:
        figure.update_yaxes(range=fit_axis(ends, least=0.0, most=1.0, span=0.2))
    figure.update_xaxes(tickformatstops=TIME_TICKS)
    figure.update_xaxes(unifiedhovertitle={"text": "<b>%{x|%a %-d %b %Y}</b>"}, hoverformat="%a %-d %b %Y")
    return ui.style_chart(figure, title=title or say_median(days, report, history))


def say_median(days: Sequence[DailyScores], report: DriftReport, history: Sequence[DailyScores] = ()) -> str:
    """What the median did: by how much it moved at a change, or between which values it stayed."""
    if report.changed_on:
        parts = ([d for d in history or days if belongs(d.day)] for belongs in (report.is_reference, report.is_recent))
        before, after = (add_histograms(part) for part in parts)
        if any(before) and any(after):
            then, now = (quantile_of_histogram(counts, 0.5) for counts in (before, after))
            was, mean = (_say_mean(score) for score in (report.baseline_avg_score, report.recent_avg_score))
            return f"The median score is {now:.2f}{mean} since {_say_change(report)}; before, it was {then:.2f}{was}"
    medians = [quantile_of_histogram(day.histogram, 0.5) for day in days if any(day.histogram)]
    if not medians:
        return "No day of this range has a score"
    if len(medians) == 1:
        return f"The median score of the only day is {medians[0]:.2f}"
    return f"The daily median score was between {min(medians):.2f} and {max(medians):.2f} on {len(medians)} days"


def _say_mean(score: float | None) -> str:
    """The mean beside a median: the sentence above the chart tells of means."""
    return "" if score is None else f" (mean {score:.2f})"


def list_day_rows(days: Sequence[DailyScores], changes: Iterable[TimelineChange] = ()) -> list[dict[str, object]]:
    """The table of the daily scores: a row a day, with what changed on it."""
    by_day = _group_by_day(changes)
    return [
        {
            "day": day.day,
            "questions": day.count,
            "mean score": day.mean,
            "median": quantile_of_histogram(day.histogram, 0.5),
            "10% score below": quantile_of_histogram(day.histogram, 0.1),
            "90% score below": quantile_of_histogram(day.histogram, 0.9),
            "what changed": "; ".join(ui.shorten(change.summary, 90) for change in by_day.get(day.day, ())),
        }
        for day in days
        if any(day.histogram)
    ]


def list_day_points(days: Sequence[DailyScores]) -> list[dict[str, object]]:
    """What a click on each of the rows of `list_day_rows` is on the chart."""
    return [{"x": day.day.isoformat()} for day in days if any(day.histogram)]


def _say_day(day: DailyScores, low: float, middle: float, high: float) -> str:
    """What the chart says of a day: how many questions, the median, and where 80% of them lie."""
    asked = "1 question" if day.count == 1 else f"{day.count:,} questions"
    return f"{asked}<br>median {middle:.2f}, 80% between {low:.2f} and {high:.2f}"


def _draw_reference(figure: go.Figure, days: Sequence[DailyScores], report: DriftReport) -> list[float]:
    """The mean of the reference, and the band of 80% of the questions of its days; return where they lie."""
    drawn: list[float] = []
    counts = add_histograms(day for day in days if report.is_reference(day.day))
    if any(counts):
        drawn = [quantile_of_histogram(counts, share) for share in (0.1, 0.9)]
        figure.add_hrect(*drawn, fillcolor=QUIET, opacity=0.14, line_width=0, layer="below")
    if report.baseline_avg_score is not None:
        figure.add_hline(
            report.baseline_avg_score, line_dash="dot", line_color=QUIET, annotation_position="top left",
            annotation_text=f"reference mean {report.baseline_avg_score:.2f}",
        )  # fmt: skip
    return drawn


def _shade_change(figure: go.Figure, report: DriftReport) -> None:
    """The days between which the level changed, shaded."""
    assert report.changed_on
    first = report.changed_from or report.changed_on
    after = (report.changed_until or report.changed_on) + timedelta(days=1)
    figure.add_vrect(
        str(first), str(after), fillcolor=DANGER, opacity=0.16, line_width=0, layer="below",
        annotation_text=f"changed {_say_change(report)}", annotation_position="top left",
    )  # fmt: skip
    figure.layout.annotations[-1].update(xanchor="right", xshift=-4)


def _say_change(report: DriftReport) -> str:
    """The day or the days of a change: 24 Nov, or 21 to 23 Nov."""
    assert report.changed_on
    first, last = report.changed_from or report.changed_on, report.changed_until or report.changed_on
    if first == last:
        return ui.format_day(first)
    begin = str(first.day) if (first.year, first.month) == (last.year, last.month) else ui.format_day(first)
    return f"{begin} to {ui.format_day(last)}"


def find_first_day(days: Sequence[DailyScores], *, since: date) -> date:
    """Return the first day to draw: `since`, or the first day with a score, so that no chart begins empty."""
    return max(since, next((day.day for day in days if any(day.histogram)), since))


def mark_changes(figure: go.Figure, changes: Iterable[TimelineChange], *, first: date, last: date) -> go.Figure:
    """Put the changes from `first` to `last` into a lane below the scores, and name them in the boxes of their days.

    The hover text of a marker says what, when, who and why.
    """
    start, end = (datetime.combine(day, time(), UTC) for day in (first, last + timedelta(days=1)))
    shown = sorted((change for change in changes if start <= change.ts < end), key=lambda change: change.ts)
    figure.update_xaxes(range=[str(first), str(last + timedelta(days=1))])
    if not shown:
        return figure
    figure.update_layout(
        yaxis={"domain": [_LANE + _GAP, 1]},
        yaxis2={
            "domain": [0, _LANE], "range": [-0.7, _ROWS - 0.3], "tickvals": [(_ROWS - 1) / 2], "ticktext": ["changes"],
            "showgrid": False, "zeroline": False, "fixedrange": True,
        },
    )  # fmt: skip
    figure.update_xaxes(anchor="y2")
    rows = _spread(shown, apart=(end - start) / 60)
    for kind, (symbol, color) in _MARKERS.items():
        own = [(change, row) for change, row in zip(shown, rows, strict=True) if change.kind is kind]
        if own:
            figure.add_scatter(
                x=[change.ts.replace(tzinfo=None) for change, _ in own],
                y=[row for _, row in own],
                yaxis="y2",
                mode="markers",
                name=kind.value,
                marker={"symbol": symbol, "size": 10, "color": color, "line": {"width": 1, "color": color}},
                text=[_say(change) for change, _ in own],
                customdata=[["change", change.entry_id or 0, change.url] for change, _ in own],
                hovertemplate="%{text}<extra></extra>",
            )
    _add_to_days(figure, _group_by_day(shown))
    return figure


def _spread(changes: Sequence[TimelineChange], *, apart: timedelta) -> list[int]:
    """The row of the lane for each change: the next one where the one before is closer than `apart`."""
    rows = [0] * bool(changes)
    for former, change in pairwise(changes):
        rows.append((rows[-1] + 1) % _ROWS if change.ts - former.ts < apart else 0)
    return rows


def _group_by_day(changes: Iterable[TimelineChange]) -> dict[date, list[TimelineChange]]:
    by_day: dict[date, list[TimelineChange]] = defaultdict(list)
    for change in changes:
        by_day[change.ts.date()].append(change)
    return by_day


def _add_to_days(figure: go.Figure, by_day: Mapping[date, Sequence[TimelineChange]]) -> None:
    """Name the changes of each day in its box."""
    for trace in figure.select_traces({"name": _MEDIAN}):
        told = []
        for moment, said in zip(trace.x, trace.customdata, strict=True):
            own = by_day.get(moment.date(), ())
            more = [f"and {len(own) - _MOST_SAID} more"] if len(own) > _MOST_SAID else []
            named = [ui.chart_text(change.summary, 70) for change in own[:_MOST_SAID]]
            told.append("<br>".join([said, *(f"changed: {name}" for name in named), *more]))
        trace.customdata = told


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

    Metrics other than those of Metric are drawn as known at each time since the start. More than three arms have a
    panel each, on one scale: so many lines cross.
    """
    whole = looks[-1].at - looks[0].start if looks else timedelta()
    periods = add_stretches(looks, timedelta(hours=1) if whole <= timedelta(days=2) else timedelta(days=1))
    figure, apart = go.Figure(), len(colors) > _MOST_TOGETHER
    for at, (arm, color) in enumerate(colors.items()):
        told = _trace_arm(looks if isinstance(metric, MetricDefinition) else periods, metric, arm)
        figure.add_scatter(
            x=[start for start, _, _ in told],
            y=[mean for _, mean, _ in told],
            name=ui.chart_text(arm, 40),
            mode="lines+markers",
            line={"color": color, "width": 2},
            marker={"symbol": SYMBOLS[at % len(SYMBOLS)], "size": 7},
            customdata=[users for _, _, users in told],
            hovertemplate=f"%{{y:{_format(metric)}}}, %{{customdata}} users",
        )
    figure.update_yaxes(title=_name_unit(metric), tickformat=_format(metric))
    figure.update_xaxes(tickformatstops=TIME_TICKS)
    ui.style_chart(figure, title=title)
    return _part_panels(figure) if apart else figure


def title_means(metric: ComparedMetric, told: Sequence[str]) -> str:
    """Return the title of arms over time: what the means are so far. Names keep their case.

    >>> title_means(Metric.SCORE, ["blue 0.61", "green 0.58"])
    'Score so far: blue 0.61, green 0.58'
    """
    said = f"{metric} so far: {', '.join(told)}"
    return ui.chart_text(said[:1].upper() + said[1:], 160)


def _part_panels(figure: go.Figure) -> go.Figure:
    """Give each line of a figure a panel of its own, side by side, on one scale and named above it."""
    count, gap = len(figure.data), 0.03
    width = (1 - gap * (count - 1)) / count
    values = [value for trace in figure.data for value in trace.y or ()]
    scale = fit_axis(values) if values else None
    for at, trace in enumerate(figure.data):
        number = "" if at == 0 else str(at + 1)
        start = at * (width + gap)
        trace.update(xaxis=f"x{number}", yaxis=f"y{number}", showlegend=False)
        y_axis = {"range": scale, "anchor": f"x{number}", "showticklabels": at == 0}
        figure.update_layout({
            f"xaxis{number}": {"domain": [start, start + width], "anchor": f"y{number}", "nticks": 3},
            f"yaxis{number}": y_axis | ({"tickformat": figure.layout.yaxis.tickformat} if at else {}),
        })  # fmt: skip
        figure.add_annotation(
            text=trace.name, x=start, y=1.04, xref="paper", yref="paper", xanchor="left", yanchor="bottom",
            showarrow=False,
        )  # fmt: skip
    return figure.update_layout(margin={"t": 34})


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
    (low, high), form = ends, _format(metric)
    band = {"mode": "lines", "line": {"width": 0}, "hovertemplate": f"%{{y:{form}}}"}
    figure = go.Figure(
        [
            go.Scatter(x=at, y=high, name="at most", showlegend=False, **band),
            go.Scatter(x=at, y=low, name="always-valid interval", fill="tonexty", fillcolor=fade(color), **band),
            go.Scatter(
                x=at, y=middle, name="estimate", line={"color": color, "width": 2}, hovertemplate=f"%{{y:{form}}}"
            ),
        ]
    )
    figure.add_hline(0, line_color=QUIET, line_width=1)
    for name, value in limits.items():
        figure.add_hline(value, line_dash="dot", line_color=DANGER, annotation_text=name)
    figure.update_yaxes(title=_name_unit(metric), tickformat=form)
    figure.update_xaxes(tickformatstops=TIME_TICKS)
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

"""The charts of quality in production: latency, cost, tokens, and scores of users and judges, by day."""

from collections.abc import Mapping, Sequence
from datetime import date, datetime, time
from typing import Any

import plotly.graph_objects as go
import streamlit as st

from app import ui
from app.cards import TIME_TICKS, fit_axis
from app.colors import ACCENT, DANGER, GREEN, WARNING
from app.panels.shared.questions import open_clicked
from core.log.metrics import MetricSums

_Days = Mapping[date, MetricSums]
_HEIGHT, _PANEL = 280, 130
# Each score has its color on every chart, and the ends of its scale.
_SCORES = {"faithfulness": (ACCENT, 0.0, 1.0), "relevancy": (GREEN, 0.0, 1.0), "feedback": (WARNING, -1.0, 1.0)}


def draw_latency(days: _Days) -> None:
    """The median and the 95th percentile of each day."""
    if not days:
        st.caption("No latency was reported.")
        return
    figure = go.Figure()
    for share, color, dash in ((0.5, ACCENT, "solid"), (0.95, WARNING, "dash")):
        found = {day: sums.quantile(share) for day, sums in days.items()}
        _add_line(figure, found, "median" if share == 0.5 else f"{share:.0%} within", color, "%{y:,.0f} ms", dash=dash)
    figure.update_yaxes(title="ms", rangemode="tozero")
    slow = {day: sums.quantile(0.95) or 0.0 for day, sums in days.items()}
    worst = max(slow, key=lambda day: slow[day])
    title = f"95% of the answers took up to {slow[worst]:,.0f} ms on the slowest day, {ui.format_day(worst)}"
    rows = [
        {"day": day, "answers": sums.count, "median, ms": sums.quantile(0.5), "95% within, ms": sums.quantile(0.95)}
        for day, sums in days.items()
    ]
    _show(figure, days, rows, title=title, key="quality-latency", alt="Latency of each day")


def draw_cost(days: _Days, budget_usd: float | None) -> None:
    """What each day cost, and its budget."""
    if not days:
        st.caption("No cost was reported.")
        return
    figure = go.Figure(
        go.Bar(
            x=list(days), y=[sums.total for sums in days.values()], name="cost", marker_color=ACCENT,
            customdata=[sums.mean for sums in days.values()],
            hovertemplate="$%{y:.4f}, $%{customdata:.6f} a question",
        )
    )  # fmt: skip
    dearest = max(days, key=lambda day: days[day].total)
    title = f"The dearest day, {ui.format_day(dearest)}, cost ${days[dearest].total:.4f}"
    if budget_usd is not None:
        over = sum(sums.total > budget_usd for sums in days.values())
        title = f"{over} of {len(days)} days cost more than the budget of ${budget_usd:g}"
        figure.add_hline(budget_usd, line_dash="dot", line_color=DANGER, annotation_text=f"budget ${budget_usd:g}")
    figure.update_yaxes(title="USD", rangemode="tozero")
    rows = [
        {"day": day, "questions": sums.count, "cost, USD": sums.total, "cost a question, USD": sums.mean}
        for day, sums in days.items()
    ]
    columns = {
        "cost, USD": st.column_config.NumberColumn(format="$%.4f"),
        "cost a question, USD": st.column_config.NumberColumn(format="$%.6f"),
    }
    _show(figure, days, rows, title=title, key="quality-cost", alt="Cost of each day", column_config=columns)
    if budget_usd is None:
        st.caption("No budget is set: `quarterdeck services set NAME --budget 5 --reason …`")


def draw_tokens(days: _Days) -> None:
    """The mean number of tokens of each day."""
    if not days:
        st.caption("No tokens were reported.")
        return
    figure = go.Figure()
    means = {day: sums.mean or 0.0 for day, sums in days.items()}
    _add_line(figure, means, "tokens", ACCENT, "%{y:,.0f}")
    figure.update_yaxes(title="tokens a question", range=fit_axis(list(means.values()), least=0.0))
    title = f"A question took between {min(means.values()):,.0f} and {max(means.values()):,.0f} tokens, by day"
    rows = [{"day": day, "questions": sums.count, "tokens a question": sums.mean} for day, sums in days.items()]
    columns = {"tokens a question": st.column_config.NumberColumn(format="%.0f")}
    _show(figure, days, rows, title=title, key="quality-tokens", alt="Tokens of each day", column_config=columns)


def draw_scores(days: Mapping[str, _Days]) -> None:
    """The daily means of feedback and of judges' scores, each in a panel of its own scale: their lines would cross."""
    shown = [name for name in _SCORES if days.get(name)]
    if not shown:
        st.caption("No feedback and no judge's score yet.")
        return
    figure = go.Figure()
    for at, name in enumerate(shown):
        color, least, most = _SCORES[name]
        means = {day: sums.mean for day, sums in days[name].items()}
        counts = [sums.count for sums in days[name].values()]
        axis = f"y{at + 1 if at else ''}"
        _add_line(figure, means, name, color, "%{y:.2f} of %{customdata:,} answers", counts, axis=axis)
        _place_panel(figure, at, len(shown), title=name, ends=[least - 0.05, most + 0.05])
    figure.update_layout(hoversubplots="axis")
    figure.update_xaxes(anchor=f"y{len(shown) if len(shown) > 1 else ''}")
    every = sorted({day for name in shown for day in days[name]})
    rows = [
        {"day": day, **{name: sums.mean if (sums := days[name].get(day)) else None for name in shown}} for day in every
    ]
    _show(
        figure, every, rows, title=_say_scores(days, shown), key="quality-scores", alt="Scores of each day",
        height=110 + _PANEL * len(shown), column_config=dict.fromkeys(shown, ui.score_column()),
    )  # fmt: skip


def _say_scores(days: Mapping[str, _Days], shown: Sequence[str]) -> str:
    """Which score has the lowest day on its scale, and which day."""
    lows: list[tuple[float, str, date, float]] = []
    for name in shown:
        _, least, most = _SCORES[name]
        means = {day: sums.mean for day, sums in days[name].items() if sums.mean is not None}
        if means:
            day = min(means, key=lambda each: means[each])
            lows.append(((means[day] - least) / (most - least), name, day, means[day]))
    if not lows:
        return "No score has a mean"
    _, name, day, mean = min(lows)
    return f"{name.capitalize()} was lowest on {ui.format_day(day)}: {mean:.2f}"


def _place_panel(figure: go.Figure, at: int, count: int, *, title: str, ends: Sequence[float]) -> None:
    """One of several panels above each other, the first on top."""
    gap = 0.09
    height = (1 - gap * (count - 1)) / count
    top = 1 - at * (height + gap)
    figure.update_layout({
        f"yaxis{at + 1 if at else ''}": {"domain": [max(0.0, top - height), top], "title": title, "range": list(ends)}
    })  # fmt: skip


def _add_line(
    figure: go.Figure, days: Mapping[date, float | None], name: str, color: str, hover: str,
    counts: Sequence[int] | None = None, *, axis: str = "y", dash: str = "solid",
) -> None:  # fmt: skip
    figure.add_scatter(
        x=[datetime.combine(day, time(12)) for day in days], y=list(days.values()), name=name, mode="lines+markers",
        line={"color": color, "width": 2, "dash": dash}, customdata=counts, hovertemplate=hover, yaxis=axis,
    )  # fmt: skip


def _show(
    figure: go.Figure, days: Sequence[date] | _Days, rows: Sequence[dict[str, Any]], *, title: str, key: str, alt: str,
    height: int = _HEIGHT, column_config: dict[str, Any] | None = None,
) -> None:  # fmt: skip
    """Draw a chart whose days lead to their questions."""
    figure.update_xaxes(hoverformat="%a %-d %b %Y", tickformatstops=TIME_TICKS)
    event = ui.show_chart(
        ui.style_chart(figure, title=title, height=height), key=key, alt=alt, rows=rows,
        points=[{"x": day.isoformat()} for day in days], column_config=column_config, on_select="rerun",
        selection_mode="points",
    )  # fmt: skip
    open_clicked(event, said="")

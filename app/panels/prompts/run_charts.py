"""The charts of compared runs: faithfulness against cost, the cases of each, and every metric that differs."""

from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import Any

import plotly.graph_objects as go
import streamlit as st

from app import ui
from app.cards import fit_axis
from app.colors import QUIET, SYMBOLS, VERSION_COLORS, place_versions
from app.panels.prompts.runs import label, metric_column, scale
from app.text import plain
from app.visitor import may_read_questions
from core.audit.permissions import EVERYWHERE
from core.prompts.contests import Contender
from core.prompts.decisions import Point, pareto_front
from core.tracking.cases import CaseResult

METRICS = ("faithfulness_mean", "faithfulness_min", "relevancy_mean", "refusal_accuracy", "cost_usd_mean")
MOST_AXES = 8
_MOST_POINTS = 3_000  # cases above which single points would hide the boxes and slow the browser down
_LESS_IS_BETTER = ("cost", "latency", "tokens", "error", "seconds")
_SIDES = ("top center", "bottom center")  # of neighbors in cost, so that their names do not lie on each other
_FAILED = 0.5  # a case below this faithfulness says more that is not in the documents than that is
_Places = Mapping[str, int]


def place_runs(contenders: Sequence[Contender]) -> dict[str, int]:
    """Return the place of each run in the palette, by its version: v3 has its color whoever is compared with it."""
    versions = [(each.run.run_id, each.run.params.get("version") or each.label) for each in contenders]
    return place_versions(versions)


def render_pareto(contenders: Sequence[Contender], places: _Places) -> None:
    """Draw faithfulness against cost."""
    rows: list[dict[str, Any]] = [
        {"run": each.label, "USD per 1,000": 1_000 * (each.cost_usd or 0.0), "faithfulness": each.faithfulness}
        for each in contenders
    ]
    columns = {"USD per 1,000": st.column_config.NumberColumn(format="$%.4f"), "faithfulness": ui.score_column()}
    ui.show_chart(
        draw_pareto(contenders, places), key="prompts-pareto", alt="Faithfulness against cost for each run", rows=rows,
        column_config=columns,
    )  # fmt: skip


def draw_pareto(contenders: Sequence[Contender], places: _Places) -> go.Figure:
    """Faithfulness against cost, with the runs that no other beats on both joined by a line."""
    points = [Point(each.run.run_id, 1_000 * (each.cost_usd or 0.0), each.faithfulness or 0.0) for each in contenders]
    front = pareto_front(points)
    dearest = 1.2 * max(point.cost_usd for point in points) or 1.0
    lowest = max(0.0, min(point.faithfulness for point in points) - 0.1)
    figure = go.Figure(
        go.Scatter(  # from the bottom up to the cheapest and on to the right: whatever lies below is beaten
            x=[front[0].cost_usd, *(point.cost_usd for point in front), dearest],
            y=[lowest, *(point.faithfulness for point in front), front[-1].faithfulness],
            mode="lines", name="frontier",
            line={"color": QUIET, "dash": "dot", "shape": "hv"}, hoverinfo="skip",
        )
    )  # fmt: skip
    best = {point.run_id for point in front}
    sides = dict(zip(sorted(points, key=lambda each: each.cost_usd), cycle(_SIDES), strict=False))
    for each, point in zip(contenders, points, strict=True):
        mark = SYMBOLS[places[point.run_id] % len(SYMBOLS)] + ("" if point.run_id in best else "-open")
        figure.add_scatter(
            x=[point.cost_usd], y=[point.faithfulness], mode="markers+text", showlegend=False,
            name=ui.chart_text(each.label, 24), text=[ui.chart_text(each.label, 24)], textposition=sides[point],
            marker={"color": _color(places, each), "size": 12, "symbol": mark},
            hovertemplate="$%{x:.4f} per 1,000 queries, faithfulness %{y:.2f}",
        )  # fmt: skip
    figure.update_xaxes(title="mean cost of 1,000 queries, USD", tickprefix="$", range=[0, dearest])
    top = 1.08 * max(point.faithfulness for point in points) or 1.0
    figure.update_yaxes(
        title="mean faithfulness", tickformat=".2f", range=[lowest, top], tickvals=list_ticks(lowest, min(1.0, top))
    )
    return ui.style_chart(figure, title=_say_front(contenders, best), hover="closest")


def list_ticks(low: float, high: float) -> list[float]:
    """Return at most seven round numbers between two shares: the room above a mean of 1 has none.

    >>> list_ticks(0.62, 1.0), list_ticks(0.95, 1.0)
    ([0.7, 0.8, 0.9, 1.0], [0.95, 0.96, 0.97, 0.98, 0.99, 1.0])
    """
    step = next((each for each in (1, 2, 5, 10, 20) if (high - low) * 100 / each < 6), 20)  # in percent
    return [at / 100 for at in range(0, 101, step) if low - 1e-9 <= at / 100 <= high + 1e-9]


def _say_front(contenders: Sequence[Contender], best: set[str]) -> str:
    """Which runs nobody beats in both faithfulness and cost."""
    named = [ui.chart_text(each.label, 24) for each in contenders if each.run.run_id in best]
    if len(contenders) == 1:
        return f"{named[0]} is the only run" if named else "Faithfulness and cost of the one run"
    if len(named) == 1:
        return f"{named[0]} is the most faithful and the cheapest of all {len(contenders)} runs"
    more = f" and {len(named) - 3} more" if len(named) > 3 else ""
    return f"No run beats {', '.join(named[:3])}{more} in both faithfulness and cost"


def render_scores(contenders: Sequence[Contender], places: _Places) -> None:
    """Draw the cases of the judged runs; nothing without any."""
    judged = [each for each in contenders if each.is_judged]
    if judged:
        rows = [
            {"run": each.label, "case": _name(case), "faithfulness": case.faithfulness}
            for each in judged
            for case in _list_cases(each)
        ]
        ui.show_chart(
            draw_scores(judged, places), key="prompts-scores", alt="Faithfulness of each case, by run", rows=rows,
            column_config={"faithfulness": ui.score_column()},
        )  # fmt: skip


def draw_scores(contenders: Sequence[Contender], places: _Places) -> go.Figure:
    """How the cases of each run spread; a mean can hide a few that failed altogether."""
    points = "all" if sum(len(each.cases) for each in contenders) <= _MOST_POINTS else False
    figure = go.Figure()
    drawn: list[float] = []
    for each in contenders:
        judged, color = _list_cases(each), _color(places, each)
        drawn += [case.faithfulness for case in judged]
        figure.add_box(
            y=[case.faithfulness for case in judged], name=ui.chart_text(each.label, 24), boxpoints=points, jitter=0.5,
            pointpos=0, marker={"color": color, "size": 5, "opacity": 0.7}, line={"color": color},
            boxmean=True, showlegend=False, text=[ui.chart_text(_name(case), 80) for case in judged],
            hovertemplate="%{y:.2f}: %{text}<extra></extra>",
        )  # fmt: skip
    figure.update_yaxes(title="faithfulness", range=fit_axis([*drawn, 1.0], least=-0.05), tickformat=".1f")
    return ui.style_chart(figure, title=_say_failed(contenders), hover="closest")


def _say_failed(contenders: Sequence[Contender]) -> str:
    """Which run has the most cases that are more wrong than right."""
    failed = {each.label: sum(case.faithfulness < _FAILED for case in _list_cases(each)) for each in contenders}
    worst = max(contenders, key=lambda each: failed[each.label])
    if not failed[worst.label]:
        return f"No case of any run has a faithfulness under {_FAILED}"
    count, of = failed[worst.label], len(_list_cases(worst))
    return f"{ui.chart_text(worst.label, 24)} has {count} of {of} cases under a faithfulness of {_FAILED}"


def _list_cases(each: Contender) -> list[CaseResult]:
    return [case for case in each.cases if not case.error]


def _name(case: CaseResult) -> str:
    """A case's question; for visitors who may not read questions, which are often users' own, its id."""
    return case.question if may_read_questions(EVERYWHERE) else case.case_id


def render_parallel(contenders: Sequence[Contender], places: _Places) -> None:
    """Draw every metric that differs between the runs, or say that too few do."""
    if len(contenders) < 2:
        return
    differing, same = list_axes([figures_of(each) for each in contenders])
    if len(differing) < 2:
        only = f"only in {plain(label(differing[0]))}" if differing else "in none"
        if differing or same:
            st.caption(f"Of the metrics that all of these runs have, they differ {only}.")
        return
    rows: list[dict[str, Any]] = [
        {"run": each.label, **{label(name): scale(name) * figures_of(each)[name] for name in (*differing, *same)}}
        for each in contenders
    ]
    columns = {label(name): metric_column(name, [row[label(name)] for row in rows]) for name in (*differing, *same)}
    ui.show_chart(
        draw_parallel(contenders, places, differing), key="prompts-parallel",
        alt="Parallel coordinates of the runs' metrics", rows=rows, column_config=columns,
    )  # fmt: skip
    if same:
        st.caption(f"The same in all of them: {plain(', '.join(map(label, same)))}.")


def figures_of(each: Contender) -> dict[str, float]:
    """The metrics of a run under the deck's own names, whatever it calls its means."""
    own = {"faithfulness_mean": each.faithfulness, "cost_usd_mean": each.cost_usd}
    return {**each.run.metrics, **{name: value for name, value in own.items() if value is not None}}


def list_axes(runs: Sequence[Mapping[str, float]]) -> tuple[list[str], list[str]]:
    """Return the metrics that all runs have: at most eight that differ, our own first, and our own that do not."""
    shared = [name for name in runs[0] if all(name in run for run in runs)] if runs else []
    ordered = [*(name for name in METRICS if name in shared), *sorted(set(shared) - set(METRICS))]
    differing = [name for name in ordered if len({round(run[name], 9) for run in runs}) > 1]
    return differing[:MOST_AXES], [name for name in METRICS if name in shared and name not in differing]


def is_less_better(metric: str) -> bool:
    """Whether a metric is better the lower it is: costs, times, tokens and errors."""
    return any(word in metric.lower() for word in _LESS_IS_BETTER)


def draw_parallel(contenders: Sequence[Contender], places: _Places, names: Sequence[str]) -> go.Figure:
    """One line a run across its metrics, each axis from the worst run at the bottom to the best one on top."""
    runs = [figures_of(each) for each in contenders]
    ends = {name: sorted((scale(name) * run[name] for run in runs), reverse=is_less_better(name)) for name in names}
    figure = go.Figure()
    for each, run in zip(contenders, runs, strict=True):
        values = [scale(name) * run[name] for name in names]
        heights = [
            (value - ends[name][0]) / (ends[name][-1] - ends[name][0])
            for name, value in zip(names, values, strict=True)
        ]
        figure.add_scatter(
            x=list(range(len(names))), y=heights, name=ui.chart_text(each.label, 24), mode="lines+markers",
            line={"color": _color(places, each), "width": 2},
            marker={"size": 9, "symbol": SYMBOLS[places[each.run.run_id] % len(SYMBOLS)]},
            customdata=[_write(value) for value in values], hovertemplate="%{customdata}",
        )  # fmt: skip
    _draw_axes(figure, names, ends)
    return ui.style_chart(figure, title=_say_best(contenders, runs, names), height=340)


def _draw_axes(figure: go.Figure, names: Sequence[str], ends: Mapping[str, Sequence[float]]) -> None:
    """A vertical line for each metric, its best value on top and its worst at the bottom, named below."""
    for at, name in enumerate(names):
        line = {"color": QUIET, "width": 1}
        figure.add_shape(type="line", x0=at, x1=at, y0=0, y1=1, line=line, layer="below")
        for value, y, anchor in ((ends[name][-1], 1.06, "bottom"), (ends[name][0], -0.06, "top")):
            figure.add_annotation(x=at, y=y, text=_write(value), showarrow=False, yanchor=anchor, font={"size": 11})
    figure.update_xaxes(
        tickvals=list(range(len(names))), ticktext=[_wrap(name) for name in names], range=[-0.4, len(names) - 0.6],
        showgrid=False, autotickangles=[0, 90], unifiedhovertitle={"text": "<b>%{x}</b>"},
    )  # fmt: skip
    figure.update_yaxes(
        range=[-0.25, 1.25], tickvals=[0, 1], ticktext=["worst", "best"], showgrid=False, zeroline=False
    )


def _wrap(metric: str) -> str:
    """A metric's name on up to three lines, and which way is better where it is not obvious."""
    lines, words = [""], ui.chart_text(label(metric), 36).split(" ")
    for word in words:
        if lines[-1] and len(lines[-1]) + len(word) >= 13 and len(lines) < 3:
            lines.append(word)
        else:
            lines[-1] = f"{lines[-1]} {word}".strip()
    return "<br>".join([*lines, *(["(less is better)"] if is_less_better(metric) else [])])


def _write(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1_000 else f"{value:.3g}"


def _say_best(contenders: Sequence[Contender], runs: Sequence[Mapping[str, float]], names: Sequence[str]) -> str:
    """Which run is the best, or as good as the best, in the most metrics."""
    best = {name: (min if is_less_better(name) else max)(run[name] for run in runs) for name in names}
    counts = [sum(run[name] == best[name] for name in names) for run in runs]
    first = counts.index(max(counts))
    named = ui.chart_text(contenders[first].label, 24)
    return f"{named} is best, or as good as the best, in {counts[first]} of the {len(names)} metrics that differ"


def _color(places: _Places, each: Contender) -> str:
    return VERSION_COLORS[places[each.run.run_id] % len(VERSION_COLORS)]

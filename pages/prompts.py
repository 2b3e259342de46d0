"""Prompts: which prompt variant wins under which rule, and what the runs say."""

from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go
import streamlit as st

from app import ui
from app.resources import get_experiments, list_environments, load_prompts
from core.decisions import Point, Rule, pareto_front
from core.reports import PromptComparison
from core.runs import Run

METRICS = ("faithfulness_mean", "faithfulness_min", "relevancy_mean", "refusal_accuracy", "cost_usd_mean")


def label(metric: str) -> str:
    """A metric's name as the page shows it; costs are shown for 1,000 queries."""
    return "USD per 1,000" if metric == "cost_usd_mean" else metric.replace("_", " ")


def scale(metric: str) -> float:
    """What a metric is multiplied by to be shown."""
    return 1_000.0 if metric == "cost_usd_mean" else 1.0


def draw_pareto(runs: Sequence[Run]) -> go.Figure:
    """Faithfulness against cost, with the runs that no other beats on both joined by a line."""
    points = [Point(r.run_id, 1_000 * r.metrics["cost_usd_mean"], r.metrics["faithfulness_mean"]) for r in runs]
    front = sorted(pareto_front(points), key=lambda point: point.cost_usd)
    figure = go.Figure(
        [
            go.Scatter(
                x=[p.cost_usd for p in front], y=[p.faithfulness for p in front], mode="lines", name="best trade-offs",
                line={"color": ui.QUIET, "dash": "dot"}, hoverinfo="skip",
            ),
            go.Scatter(
                x=[p.cost_usd for p in points], y=[p.faithfulness for p in points], mode="markers+text", name="runs",
                text=[ui.chart_text(r.name, 24) for r in runs], textposition="top center",
                marker={"color": ui.ACCENT, "size": 11},
                hovertemplate="$%{x:.4f} per 1,000 queries, faithfulness %{y:.2f}<extra></extra>",
            ),
        ]
    )  # fmt: skip
    figure.update_xaxes(title="mean cost of 1,000 queries, USD", tickprefix="$", rangemode="tozero")
    lowest = min(point.faithfulness for point in points)
    figure.update_yaxes(title="mean faithfulness", tickformat=".2f", range=[max(0.0, lowest - 0.1), 1.08])
    return ui.style_chart(figure, title="Faithfulness against cost", hover="closest")


def draw_parallel(runs: Sequence[Run]) -> go.Figure:
    """One line a run across its metrics."""
    shown = [name for name in METRICS if all(name in run.metrics for run in runs)]
    dimensions = [{"label": label(name), "values": [scale(name) * run.metrics[name] for run in runs]} for name in shown]
    figure = go.Figure(
        go.Parcoords(
            dimensions=dimensions,
            labelangle=-18,
            labelfont={"size": 10},
            line={"color": list(range(len(runs))), "colorscale": [[0, ui.ACCENT], [0.5, ui.WARNING], [1, "#009e73"]]},
        )
    )
    ui.style_chart(figure, title="Every metric of each run (drag along an axis to filter)")
    return figure.update_layout(margin={"l": 70, "r": 70, "t": 116, "b": 20})


def render_runs(found: PromptComparison) -> None:
    """The runs table."""
    rows = [
        {
            "run": run.name,
            "started": run.started,
            **{label(name): scale(name) * run.metrics[name] for name in METRICS if name in run.metrics},
            "answerer": run.params.get("answerer", ""),
            "index": run.params.get("index_version", ""),
        }
        for run in found.runs
    ]
    columns: dict[str, Any] = {label(name): st.column_config.NumberColumn(format="%.2f") for name in METRICS}
    columns[label("cost_usd_mean")] = st.column_config.NumberColumn(format="$%.4f")
    columns["started"] = st.column_config.DatetimeColumn(format="D MMM YYYY, HH:mm")
    ui.show_table(rows, key="prompts-runs", file_name="runs.csv", column_config=columns)


def choose_rule() -> tuple[Rule, float | None]:
    """The rule that the visitor decides by; it is stated in the verdict."""
    left, right = st.columns(2)
    rule = left.selectbox("Decide by", [str(rule) for rule in Rule], key="rule", bind="query-params")
    if rule != Rule.FAITHFULNESS_UNDER_CEILING:
        return Rule.FAITHFULNESS_PER_COST, None
    ceiling = right.number_input(
        "At most, USD a query", 0.0, 10.0, 0.01, 0.001, format="%.4f", key="ceiling", bind="query-params"
    )
    return Rule.FAITHFULNESS_UNDER_CEILING, ceiling


def render() -> None:
    """The page, once MLflow could be read."""
    names = get_experiments().list_experiments()
    names = tuple(name for name in names if name != "Default") or names
    if not names:
        ui.render_empty("No experiment was logged yet. The demo logs three prompt variants.", "quarterdeck demo")
        return
    experiment = st.selectbox("Experiment", names, key="experiment", bind="query-params") or names[0]
    rule, ceiling = choose_rule()
    found = load_prompts(experiment, rule, ceiling)
    if found.decision is None:
        ui.render_empty(f"No evaluated run in {ui.plain(experiment)} yet.", "quarterdeck demo")
        return
    live = f"v{found.production.version}" if found.production else "no version"
    winner = found.decision.winner
    look = ui.Look("Winner", "green", "✓") if winner else ui.Look("No clear winner", "gray", "…")
    detail = f"Rule: {rule}. In production: {live}."
    if all(run.params.get("answerer", "").startswith("extractive") for run in found.runs):
        detail += (
            " Answers are sentences copied from the documents, no language model; costs are simulated list prices."
        )
    ui.render_verdict(ui.plain(found.decision.reason), look, detail=detail)
    compared = [run for run in found.runs if run.run_id in {c.run_id for c in found.candidates}]
    left, right = st.columns(2)
    with left:
        ui.show_chart(draw_pareto(compared), key="prompts-pareto", alt="Faithfulness against cost for each run")
    with right:
        ui.show_chart(draw_parallel(compared), key="prompts-parallel", alt="Parallel coordinates of each run's metrics")
    render_runs(found)


frame = ui.render_frame("Prompts", environments=list_environments(), ranges=False)
with ui.showing_errors("MLflow could not be read"):
    render()

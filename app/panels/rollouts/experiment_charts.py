"""The charts of an experiment: the confidence sequence of the lift, and all arms over time."""

import streamlit as st

from app import charts, ui
from app.colors import color_arms
from app.text import plain
from core.arms.comparisons import say_amount, say_value
from core.arms.sequential import LEAST_USERS
from core.rollouts.experiment import Lift, trace_lift
from core.rollouts.experiments import ExperimentReport

_SETTLED = 0.2  # share of the looks that are not drawn, because the interval is still too wide


def render_charts(report: ExperimentReport) -> None:
    """The confidence sequence of the lift, and all arms over time."""
    design = report.experiment.design
    treatment = design.treatments[0]
    if len(design.treatments) > 1:
        treatment = st.segmented_control(
            "Arm", design.treatments, default=treatment, required=True, key="experiment_arm",
            label_visibility="collapsed", format_func=plain,
        ) or treatment  # fmt: skip
    colors = color_arms(design.arms)
    left, right = st.columns(2)
    with left:
        render_lift(report, treatment, color=colors[treatment])
    with right:
        figure = charts.draw_arms(report.looks, design.metric, colors=colors, title=say_means(report))
        ui.show_chart(figure, key="experiments-arms", alt=f"{plain(str(design.metric))} of every arm over time")


def say_means(report: ExperimentReport) -> str:
    """The mean of the metric that decides, of the control and of each other arm so far."""
    design = report.experiment.design
    decisive = [each for each in report.verdict.lifts if each.metric == design.metric]
    means = [(design.control, each.compared.stable.mean) for each in decisive[:1]]
    means += [(each.arm, each.compared.other.mean) for each in decisive]
    told = [f"{ui.shorten(arm, 30)} {say_value(design.metric, mean)}" for arm, mean in means]
    return charts.title_means(design.metric, told)


def render_lift(report: ExperimentReport, treatment: str, *, color: str) -> None:
    """The confidence sequence of the metric that decides."""
    design = report.experiment.design
    traced = trace_lift(design, report.looks, treatment)
    lift = next((each for each in report.verdict.lifts if each.arm == treatment and each.metric == design.metric), None)
    if not traced or lift is None:
        st.caption(f"The interval of the difference is drawn once each arm has {LEAST_USERS} users.")
        return
    title = f"{treatment} is {say_gain(lift, lift.gain)} than {design.control} in {design.metric}"
    figure = charts.draw_interval(
        [each.at for each in traced], [each.gain for each in traced],
        ([each.least for each in traced], [each.most for each in traced]), design.metric,
        limits={"wanted": lift.compared.margin}, color=color,
        title=f"{ui.chart_text(title, 120)} (above 0: better)",
    )  # fmt: skip
    settled = traced[int(len(traced) * _SETTLED) :]
    ends = [end for each in settled for end in (each.least, each.most, lift.compared.margin, 0.0)]
    room = 0.05 * (max(ends) - min(ends))
    figure.update_yaxes(range=[min(ends) - room, max(ends) + room])
    alt = f"By how much {plain(treatment)} is better, with its always-valid interval, over time"
    ui.show_chart(figure, key="experiments-lift", alt=alt)


def say_gain(lift: Lift, gain: float | None) -> str:
    """How much better an arm is, in the metric's unit."""
    if gain is None:
        return "—"
    return f"{say_amount(lift.metric, gain)} {'better' if gain > 0 else 'worse'}"

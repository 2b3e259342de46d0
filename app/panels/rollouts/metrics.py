"""The metrics that experiments, canaries and alerts can use: the table of all, and the forms for own ones."""

import streamlit as st

from app import ui
from app.resources import get_store
from app.text import show_unseen
from app.visitor import lock, make_act
from core.arms.arms import ComparedMetric, Metric
from core.audit.actions import Action
from core.metrics.builtin import BUILT_IN
from core.metrics.daily import list_metrics
from core.metrics.definition import (
    MAX_METRIC_NAME,
    MAX_OF,
    MAX_UNIT,
    STATE_NAMES,
    MetricDefinition,
    MetricSource,
    Statistic,
    define_metric,
    say_metric_amount,
)
from core.metrics.operations import add_metric, remove_metric
from quarterdeck.scope import Scope

AS_USUAL = "as usual"
_PLACE = "metrics"
UNITS = {
    Metric.SCORE: "similarity, 0 to 1", Metric.ERRORS: "of retrievals", Metric.LATENCY: "ms a query",
    Metric.COST: "USD a query", Metric.FAITHFULNESS: "0 to 1", Metric.FEEDBACK: "as logged",
}  # fmt: skip


def list_others(environment: str) -> list[MetricDefinition]:
    """The metrics of an environment besides those of Metric."""
    usual = {str(metric) for metric in Metric}
    return [each for each in list_metrics(get_store(), Scope(environment, "")) if each.name not in usual]


def say_unit(metric: ComparedMetric) -> str:
    """The unit of a metric; of an own one also what it is."""
    if isinstance(metric, Metric):
        return UNITS[metric]
    return f"{metric.shown_unit}: {metric.definition}".removeprefix(": ")


def render_metrics(environment: str) -> None:
    """Draw every metric of the environment, the form that defines one, and the form that removes one."""
    with st.expander("Metrics"):
        known = list_metrics(get_store(), Scope(environment, ""))
        own = known[len(BUILT_IN) :]
        count = f"{len(own)} of them defined here" if own else "none of them defined here yet"
        st.markdown(f"**Experiments, canaries and alerts can use {len(known)} metrics, {count}.**")
        ui.show_table([_row(each) for each in known], key="metrics-table", file_name="metrics.csv")
        render_definition(environment)
        if own:
            render_removal(own, environment)
        ui.render_said(_PLACE)


def render_definition(environment: str) -> None:
    """The form that defines a metric."""
    with st.form("metric-add"):
        st.markdown("**New metric**")
        left, middle, right = st.columns(3)
        left.text_input("Name", key="metric-name", max_chars=MAX_METRIC_NAME)
        middle.selectbox("Numbers from", list(MetricSource), 1, key="metric-source")
        right.text_input(
            "Name of the score, event or state", key="metric-of", max_chars=MAX_OF,
            help=f"Empty for the others. States: {', '.join(STATE_NAMES)}",
        )  # fmt: skip
        left.selectbox("Statistic", list(Statistic), key="metric-statistic")
        middle.text_input(
            "Of a ratio: per", key="metric-per", max_chars=MAX_OF,
            help="questions, values, users, or the name of an event",
        )  # fmt: skip
        right.number_input("Of a share: at least", value=None, key="metric-at-least", format="%g")
        left.number_input("Percentile", 1.0, 99.0, 95.0, key="metric-percentile", format="%g")
        middle.selectbox("Better is", [AS_USUAL, "up", "down"], key="metric-better")
        right.number_input(
            "Margin", 0.0, None, None, key="metric-margin", format="%g", placeholder="as usual",
            help="How much worse an arm may be: in the unit; for latency, cost and tokens a share of the stable figure",
        )  # fmt: skip
        left.text_input("Unit", key="metric-unit", max_chars=MAX_UNIT, help="For scores and events, such as EUR")
        right.text_input("Reason", key="metric-reason", max_chars=500)
        st.form_submit_button("Define", on_click=define, args=(environment,), **lock(Action.METRIC_ADD, environment))


def define(environment: str) -> None:
    """Define the metric that the form describes."""

    def change() -> int:
        state = st.session_state
        metric = define_metric(
            state["metric-name"], state["metric-source"], state["metric-statistic"], of=state["metric-of"],
            better="" if state["metric-better"] == AS_USUAL else state["metric-better"],
            margin=state["metric-margin"], per=state["metric-per"], at_least=state["metric-at-least"],
            percentile=state["metric-percentile"], unit=state["metric-unit"],
        )  # fmt: skip
        return add_metric(get_store(), metric, make_act(state["metric-reason"], environment))

    ui.record_change(change, effect="It can be chosen from now on.", place=_PLACE)


def render_removal(own: tuple[MetricDefinition, ...], environment: str) -> None:
    """The form that removes a metric."""
    with st.form("metric-remove"):
        st.markdown("**Remove a metric**")
        st.selectbox("Metric", [each.name for each in own], key="metric-removed", format_func=show_unseen)
        st.text_input("Reason", key="metric-remove-reason", max_chars=500)
        st.form_submit_button(
            "Remove", on_click=ui.record_change, args=(lambda: _remove(environment),),
            kwargs={"effect": "Running experiments keep it; canaries that name it wait.", "place": _PLACE},
            **lock(Action.METRIC_REMOVE, environment),
        )  # fmt: skip


def _remove(environment: str) -> int:
    state = st.session_state
    return remove_metric(get_store(), state["metric-removed"], make_act(state["metric-remove-reason"], environment))


def _row(metric: MetricDefinition) -> dict[str, str]:
    margin = f"{metric.margin:.0%}" if metric.is_relative else say_metric_amount(metric, metric.margin)
    return {
        "metric": metric.name, "is the": metric.definition, "unit": metric.shown_unit or "—",
        "better": "up" if metric.is_higher_better else "down", "margin": f"{margin} worse",
        "defined": "built in" if metric in BUILT_IN else "here",
    }  # fmt: skip

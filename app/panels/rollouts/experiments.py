"""The experiments of the rollouts page: the verdict, its confidence over time, every arm, and the forms."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial

import streamlit as st

from app import ui
from app.panels.rollouts.experiment_charts import render_charts, say_gain
from app.panels.rollouts.layers import choose_place, choose_reported, preview_start, render_layers, say_terms
from app.panels.rollouts.metrics import list_others, render_metrics, say_unit
from app.panels.rollouts.resources import load_experiments
from app.resources import get_store, list_services
from app.text import plain, show_unseen
from app.visitor import lock, make_act
from core.arms.arms import ComparedMetric, Metric
from core.arms.comparisons import is_relative, say_amount, say_time, say_value
from core.arms.sequential import ALPHA, LEAST_USERS
from core.audit.actions import Action
from core.audit.acts import Act
from core.flags.impact import must_type_name
from core.flags.preview import preview_change
from core.flags.schedule import parse_duration
from core.flags.store import Flag, list_flags
from core.rollouts.experiment import ExperimentCall, Lift
from core.rollouts.experiment_design import (
    Design,
    Direction,
    find_control,
    list_arms,
    parse_guardrail,
    parse_metric,
    plan_experiment,
)
from core.rollouts.experiment_records import Experiment, ExperimentState
from core.rollouts.experiments import (
    ExperimentReport,
    LayerPlace,
    decide_for,
    start_experiment,
    stop_experiment,
)
from core.wording.counts import count_of
from quarterdeck.definitions import serve_to_all
from quarterdeck.scope import fold_environment

LOOKS = {
    ExperimentCall.WAIT: ui.StatusLook("Running", "blue", ui.Mark.RUNNING),
    ExperimentCall.WINNER: ui.StatusLook("Winner", "green", ui.Mark.WINNER),
    ExperimentCall.NO_EFFECT: ui.StatusLook("No effect worth having", "gray", ui.Mark.EQUAL),
    ExperimentCall.STOP: ui.StatusLook("Stop", "red", ui.Mark.ACT),
    ExperimentCall.INVALID: ui.StatusLook("Not to be trusted", "orange", ui.Mark.WARNING),
}
AS_USUAL = "the metric's own"
_TYPE_IT = "Type the flag's name: most of production changes"
_ACTIONS, _START = "experiment-actions", "experiment-start"  # where outcomes are said


def render_experiments(environment: str) -> None:
    """Draw the chosen experiment in full, and the form that starts one."""
    reports = load_experiments(environment)
    if not reports:
        if "experiment" in st.query_params:
            st.warning(say_gone(st.query_params["experiment"], environment), icon=":material/link_off:")
        st.info(
            "No experiment was started yet. One compares the variants of a flag on what the log says of their users: "
            "score, faithfulness, cost, latency, feedback."
        )
        st.code(
            'quarterdeck experiments start "longer answers" --flag FLAG --metric score --effect 0.02 --reason WHY',
            language=None,
        )
    else:
        by_name = {report.experiment.design.name: report for report in reports}
        chosen: str | None = next(iter(by_name))
        if len(reports) > 1 or "experiment" in st.query_params:
            chosen = ui.choose_named(
                "Experiment", list(by_name), key="experiment",
                say_gone=lambda name: say_gone(name, environment),
            )  # fmt: skip
        if chosen is not None:
            render_report(by_name[chosen])
    ui.render_said(_ACTIONS)
    render_start(environment)
    ui.render_said(_START)
    render_metrics(environment)
    render_layers(environment)


def say_gone(name: str, environment: str) -> str:
    """What is said of an experiment that an address names and that is not there."""
    return f"There is no experiment {plain(ui.shorten(name, 80))} in {plain(environment)}."


def say_standing(report: ExperimentReport) -> str:
    """One experiment in one sentence; Markdown."""
    return f"{plain(report.experiment.design.name)}: {plain(report.verdict.reason)}"


def must_stop(report: ExperimentReport) -> bool:
    """Whether a running experiment breaks a guardrail."""
    return report.experiment.is_running and report.verdict.call is ExperimentCall.STOP


def say_standings(reports: Sequence[ExperimentReport]) -> str:
    """The running experiments in one sentence; Markdown. Several are counted by verdict."""
    running = [report for report in reports if report.experiment.is_running]
    if len(running) < 2:
        return "".join(f"Experiment {say_standing(report)}" for report in running)
    words = {
        ExperimentCall.STOP: "to be stopped", ExperimentCall.INVALID: "not to be trusted",
        ExperimentCall.WINNER: "with a winner",
        ExperimentCall.NO_EFFECT: "without an effect worth having", ExperimentCall.WAIT: "without a verdict yet",
    }  # fmt: skip
    counts = ((sum(each.verdict.call is call for each in running), word) for call, word in words.items())
    return f"{len(running)} experiments run: {', '.join(f'{count} {word}' for count, word in counts if count)}."


def render_report(report: ExperimentReport) -> None:
    """The verdict, the evidence, the table and the forms."""
    render_verdict(report)
    if report.verdict.lifts:
        render_charts(report)
        render_table(report)
    if report.experiment.is_running:
        render_actions(report)


def render_verdict(report: ExperimentReport) -> None:
    """The verdict and its reason, the design, and what is missing."""
    found, verdict = report.experiment, report.verdict
    look = LOOKS[verdict.call]
    if found.state is not ExperimentState.RUNNING:
        look = ui.StatusLook("Decided" if found.winner else "Stopped", "gray", ui.Mark.ENDED)
    ui.render_badge(look)
    st.markdown(f"**{say_standing(report)}**")
    if found.ended:
        what = f"everybody gets {found.winner}" if found.winner else "no choice was made"
        ended = f"Ended by {found.ended_by} {ui.format_ago(found.ended)}, {what}: {found.conclusion}"
        st.markdown(plain(ended), help=ui.say_instant(found.ended))
    st.caption(plain(say_design(report)))
    if report.reasons:
        st.markdown("Likely reasons:\n" + "\n".join(f"- {plain(line)}" for line in report.reasons))
    if found.is_running and verdict.missing:
        st.markdown("Missing for a verdict:\n" + "\n".join(f"- {plain(line)}" for line in verdict.missing))


def say_design(report: ExperimentReport) -> str:
    """The design and the progress, in a few sentences."""
    found, design = report.experiment, report.experiment.design
    users = ", ".join(
        f"{arm} {count_of(report.noted[arm], 'user')} ({ui.format_share(share)} expected)"
        for arm, share in zip(design.arms, design.shares, strict=True)
    )
    guards = ", ".join(
        f"{each.metric} at most {say_limit(each.metric, each.amount)} worse" for each in design.guardrails
    )
    way = "higher" if design.direction is Direction.UP else "lower"
    return (
        f"On {design.flag} since {ui.format_moment(found.started)}, {ui.format_ago(found.started)}. {users}. "
        f"In two arms, so in neither: {report.crossed:,}. "
        f"Decides: {design.metric}, {way} is better, from {say_limit(design.metric, design.effect)} on. "
        f"Guardrails: {guards or 'none'}. Runs at least {say_time(design.min_run)}. {say_terms(found)}"
        f"Compares the rows of {', '.join(design.services) or 'all services'}."
    )


def say_limit(metric: ComparedMetric, amount: float) -> str:
    """An effect or a guardrail as it was entered: for latency, cost and the like, a share of the control's mean."""
    return f"{amount:.0%}" if is_relative(metric) else say_amount(metric, amount)


def render_table(report: ExperimentReport) -> None:
    """Every metric of every arm against the control."""
    rows = [describe_lift(report.experiment.design, lift) for lift in report.verdict.lifts]
    columns = {
        "in %": st.column_config.NumberColumn(format="%+.1f %%", help="Of the control's mean; above 0 is better")
    }
    ui.show_table(rows, key="experiments-table", file_name="experiment.csv", column_config=columns)
    adjusted = (
        "The score's means are adjusted for what the same questions scored earlier, and the same users before the "
        "experiment. "
    )
    st.caption(
        "A user is a session id and counts once, however often they asked. An error is a retrieval without a score. "
        f"{adjusted if any(lift.compared.is_adjusted for lift in report.verdict.lifts) else ''}"
        f"All claims together are always valid, with {1 - ALPHA:.0%}."
    )


def describe_lift(design: Design, lift: Lift) -> dict[str, object]:
    """One metric of one arm as a row."""
    compared, known = lift.compared, lift.gain is not None
    guard = next((each for each in design.guardrails if each.metric == lift.metric), None)
    limit = f"{say_amount(lift.metric, compared.margin)} {'worse' if guard else 'better'}"
    role = "decides" if lift.metric == design.metric else "guardrail" if guard else "shown only"
    share = 100 * lift.gain / compared.stable.mean if lift.gain is not None and compared.stable.mean else None
    return {
        "metric": str(lift.metric), "role": role, "arm": lift.arm,
        "so": say_so(lift, is_guardrail=guard is not None),
        "mean": say_value(lift.metric, compared.other.mean),
        "control's mean": say_value(lift.metric, compared.stable.mean),
        "it is": say_gain(lift, lift.gain),
        "at least": say_gain(lift, lift.least) if known else "—",
        "at most": say_gain(lift, lift.most) if known else "—",
        "limit": limit if role != "shown only" else "—",
        "in %": share if is_relative(lift.metric) else None,
        "unit": say_unit(lift.metric), "users": compared.other.users, "control's users": compared.stable.users,
    }  # fmt: skip


def say_so(lift: Lift, *, is_guardrail: bool) -> str:
    """What is known of one metric."""
    if lift.gain is None:
        return f"too few users, under {LEAST_USERS}"
    if is_guardrail:
        kept = "confirmed" if lift.compared.is_safe else "not sure yet"
        return "broken" if lift.compared.is_worse else kept
    return "significantly better" if lift.least > 0 else "significantly worse" if lift.most < 0 else "not sure yet"


def render_actions(report: ExperimentReport) -> None:
    """The forms that decide and stop, whatever the verdict; each requires a reason."""
    experiment, verdict = report.experiment, report.verdict
    design = experiment.design
    left, right = st.columns(2)
    with left, st.form(key := f"experiment-decide-{design.name}-{experiment.version}"):
        arms = list(design.arms)
        st.selectbox(
            "Everybody gets", arms, arms.index(verdict.winner) if verdict.winner else 0, key=f"{key}-arm",
            help=f"The verdict is: {plain(verdict.call)}",
        )  # fmt: skip
        if is_wide(experiment):
            st.text_input(_TYPE_IT, key=f"{key}-name", max_chars=300, placeholder=show_unseen(design.flag))
        submit(key, "Decide", partial(decide, experiment, key), Action.EXPERIMENT_DECIDE, experiment.environment,
               primary=verdict.call in (ExperimentCall.WINNER, ExperimentCall.NO_EFFECT))  # fmt: skip
    with right, st.form(key := f"experiment-stop-{design.name}-{experiment.version}"):
        st.caption("Ends it without a winner; the flag stays as it is.")
        submit(key, "Stop the experiment", partial(stop, experiment), Action.EXPERIMENT_STOP, experiment.environment,
               primary=verdict.call in (ExperimentCall.STOP, ExperimentCall.INVALID))  # fmt: skip


def is_wide(experiment: Experiment) -> bool:
    """Whether some choice would change the answer for most users in production."""
    flag = next((f for f in list_flags(get_store(), experiment.environment) if f.key == experiment.design.flag), None)
    if flag is None:
        return False
    now, store = datetime.now(UTC), get_store()
    for arm in experiment.design.arms:
        wanted = serve_to_all(flag.definition, arm)
        impact, _ = preview_change(store, flag.environment, flag.key, flag.definition, wanted, now=now)
        if must_type_name(flag.environment, impact):
            return True
    return False


def submit(
    key: str, label: str, change: Callable[[Act], int], action: Action, environment: str, *, primary: bool
) -> None:
    """The reason and the button of a form."""

    def run() -> int:
        try:
            return change(make_act(st.session_state[f"{key}-reason"], environment))
        finally:
            load_experiments.clear()

    st.text_input("Reason", key=f"{key}-reason", max_chars=500)
    st.form_submit_button(
        label, type="primary" if primary else "secondary", on_click=ui.record_change, args=(run,),
        kwargs={"effect": ui.FLIP_SEEN, "place": _ACTIONS}, **lock(action, environment),
    )  # fmt: skip


def decide(experiment: Experiment, key: str, act: Act) -> int:
    """End the experiment, as the visitor saw it, with the chosen arm."""
    state = st.session_state
    return decide_for(
        get_store(), experiment, state[f"{key}-arm"], act, typed_name=state.get(f"{key}-name", ""),
        now=datetime.now(UTC),
    )  # fmt: skip


def stop(experiment: Experiment, act: Act) -> int:
    """End the experiment, as the visitor saw it, without a choice."""
    return stop_experiment(get_store(), experiment, act)


def render_start(environment: str) -> None:
    """The form that starts an experiment on one of the flags that can have one."""
    fitting = [flag for flag in list_flags(get_store(), environment) if list_arms(flag.view)]
    with st.expander("Start an experiment"):
        if not fitting:
            st.caption(
                "No flag here splits its users at random: make an A/B split on the tab Flags, or roll a "
                "flag out to a part of the users."
            )
            return
        by_key = {flag.key: flag for flag in fitting}
        key = st.selectbox("On the flag", list(by_key), key="experiment-flag")
        render_design(by_key.get(key or "", fitting[0]))


def render_design(flag: Flag) -> None:
    """The fields of the design, and who would take part."""
    arms, place = list_arms(flag.view), choose_place(flag)
    effect, is_wide_start = preview_start(flag, place)
    with st.form(f"experiment-start-{flag.key}", border=False):
        left, middle, right = st.columns(3)
        left.text_input("Name of the experiment", key="experiment-name", max_chars=100)
        usual = find_control(arms, flag.view)
        middle.selectbox("Control", arms, arms.index(usual) if usual else None, key=f"control-{flag.key}")
        others = list_others(flag.environment)
        names = [str(metric) for metric in (*Metric, *others)]
        right.selectbox("Metric that decides", names, key="experiment-metric", format_func=show_unseen)
        left.number_input(
            "Smallest effect worth having", 0.0001, None, 0.02, 0.01, format="%.4f", key="experiment-effect",
            help="In the metric's unit; of latency and cost a share of the control's mean, 0.1 for a tenth",
        )  # fmt: skip
        middle.selectbox("Better is", [AS_USUAL, *Direction], key="experiment-direction")
        right.text_input("Runs at least", "7d", key="experiment-run", help="Like 12h or 7d")
        left.text_input(
            "Guardrails", "latency=0.15, errors=0.02", key="experiment-guardrails", max_chars=300,
            help="How much worse a metric may be; of latency and cost a share. Own metrics have a margin",
        )  # fmt: skip
        middle.multiselect(
            "Also shown", names[len(Metric) :], key="experiment-further", format_func=show_unseen,
            help="Metrics that decide nothing; the usual ones are always shown",
        )  # fmt: skip
        known = [scope.service for scope in list_services() if scope.environment == fold_environment(flag.environment)]
        right.multiselect(
            "Services", known, key="experiment-services", accept_new_options=True, placeholder="All that report",
            help="Whose rows are compared",
        )  # fmt: skip
        middle.text_input("Reason", key="experiment-start-reason", max_chars=500)
        choose_reported()
        if is_wide_start:
            left.text_input(_TYPE_IT, key="experiment-typed", placeholder=show_unseen(flag.key))
        st.caption(plain(f"From then on, clients record who gets which variant. {effect}"))
        locked = lock(Action.EXPERIMENT_START, flag.environment)
        st.form_submit_button("Start", on_click=start, args=(flag, place), **locked)


def start(flag: Flag, place: LayerPlace | None) -> None:
    """Start the experiment that the form describes."""
    state = st.session_state

    def run() -> int:
        way, known = state["experiment-direction"], list_others(flag.environment)
        design = plan_experiment(
            flag.key, flag.view, name=state["experiment-name"], metric=parse_metric(state["experiment-metric"], known),
            effect=state["experiment-effect"], control=state[f"control-{flag.key}"] or "",
            direction=None if way == AS_USUAL else Direction(way),
            guardrails=[parse_guardrail(part, known) for part in _split(state["experiment-guardrails"])],
            min_run=timedelta(seconds=parse_duration(state["experiment-run"])),
            services=state["experiment-services"],
            further=[parse_metric(name, known) for name in state["experiment-further"]],
        )  # fmt: skip
        act = make_act(state["experiment-start-reason"], flag.environment)
        try:
            return start_experiment(
                get_store(), flag, design, act, place=place, reported=state["experiment-reported"],
                typed_name=state.get("experiment-typed", ""),
                now=datetime.now(UTC),
            )  # fmt: skip
        finally:
            load_experiments.clear()

    ui.record_change(run, effect="Clients record their users from now on.", place=_START)


def _split(text: str) -> Sequence[str]:
    return [part.strip() for part in (text or "").split(",") if part.strip()]

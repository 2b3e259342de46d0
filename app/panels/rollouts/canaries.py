"""The canaries of the rollouts page: verdict, missing evidence, both arms, next step and rollback."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta

import streamlit as st

from app import charts, ui
from app.colors import ARM_COLORS
from app.panels.rollouts.resources import load_canaries
from app.panels.shared.rehearsals import render_rehearsal
from app.resources import get_store, list_services
from app.text import plain
from app.visitor import lock, make_act
from core.arms.comparisons import ArmComparison, say_amount, say_value, trace_harm
from core.arms.sequential import ALPHA, LEAST_USERS
from core.audit.actions import Action, verb_of
from core.audit.acts import Act
from core.audit.sentences import say_action
from core.audit.trail import AuditFilter, list_audit
from core.flags.canary_plan import CANARY, STABLE, Automation
from core.flags.store import Flag
from core.rehearsals.report import rehearse_canary
from core.rollouts.canaries import CanaryReport, promote_canary, roll_back_canary
from core.rollouts.canary import MARGIN_ALPHA, CanaryCall
from quarterdeck.index_canaries import read_arms
from quarterdeck.scope import fold_environment

LOOKS = {
    CanaryCall.PROMOTE: ui.StatusLook("Can be promoted", "green", ui.Mark.PROMOTE),
    CanaryCall.HOLD: ui.StatusLook("Hold", "blue", ui.Mark.RUNNING),
    CanaryCall.ROLL_BACK: ui.StatusLook("Roll back", "red", ui.Mark.ACT),
}
UNTRUSTED = ui.StatusLook("Hold, not to be trusted", "orange", ui.Mark.WARNING)
STOPPED = ui.StatusLook("Rolled back", "orange", ui.Mark.REVERTED)
NEWS = timedelta(days=7)
ALONE = {
    Automation.FULL: "The server takes steps and rolls back automatically.",
    Automation.ROLLBACK: "The server rolls back automatically; a person takes each step.",
    Automation.OFF: "Nothing is automatic.",
}


def render_canaries(environment: str) -> None:
    """Draw the chosen canary in full."""
    reports = load_canaries(environment)
    if not reports:
        if "canary" in st.query_params:
            st.warning(say_gone(st.query_params["canary"], environment), icon=":material/link_off:")
        st.info("There is no canary yet: a flag with the variants blue and green, and steps in its metadata.")
        st.code("quarterdeck flags import canary.json", language=None)
        return
    by_key = {report.flag.key: report for report in reports}
    first = next((report.flag.key for report in reports if report.is_running), reports[0].flag.key)
    chosen: str | None = first
    if len(reports) > 1 or "canary" in st.query_params:
        chosen = ui.choose_named(
            "Canary", [first, *(key for key in by_key if key != first)], key="canary",
            say_gone=lambda name: say_gone(name, environment),
        )  # fmt: skip
    if chosen is None:
        return
    report = by_key[chosen]
    render_verdict(report)
    if report.looks:
        render_comparisons(report.verdict.comparisons, report.verdict.signals)
        render_charts(report)
    render_actions(report)
    ui.render_said(f"canary-{report.flag.key}")
    render_history(report.flag)


def say_gone(name: str, environment: str) -> str:
    """What is said of a canary that an address names and that is not there."""
    return f"There is no canary {plain(ui.shorten(name, 80))} in {plain(environment)}."


def is_news(report: CanaryReport) -> bool:
    """Whether the sentence at the top mentions a canary: it is running, or was rolled back in the last week."""
    return report.is_running or (report.rollback is not None and datetime.now(UTC) - report.since < NEWS)


def say_standing(report: CanaryReport) -> str:
    """One canary in one sentence; Markdown."""
    return f"{plain(report.flag.key)} at {report.share_pct:g}%: {plain(report.verdict.reason)}"


def render_verdict(report: CanaryReport) -> None:
    """What to do and why, the position in the plan, and what is missing for the next step."""
    verdict = report.verdict
    look = LOOKS[verdict.call] if verdict.is_healthy or verdict.call is not CanaryCall.HOLD else UNTRUSTED
    look = STOPPED if report.rollback else look
    ui.render_badge(look)
    st.markdown(f"**{say_standing(report)}**")
    steps = " → ".join(
        f"**{step.share_pct:g}%**" if step.share_pct == report.share_pct else f"{step.share_pct:g}%"
        for step in report.plan.steps
    )
    planned = f"Steps: {steps}." if report.is_planned else "No steps are planned, so the default limits apply."
    since = f"{report.share_pct:g}% on green since {ui.format_moment(report.since)}, {ui.format_ago(report.since)}."
    judges = plain(", ".join(report.plan.services)) or "all services that report its arms"
    render_indexes(report.flag)
    told = f"{since} {planned} Judged by {judges}. {ALONE[report.plan.automation]}"
    st.caption(told, help=ui.format_utc(report.since))
    if verdict.missing:
        st.markdown("Missing for the next step:\n" + "\n".join(f"- {plain(line)}" for line in verdict.missing))
    for line in verdict.warnings:
        st.warning(plain(line))


def render_indexes(flag: Flag) -> None:
    """What blue and green are, where they are indexes."""
    if arms := read_arms(flag.key, flag.definition):
        st.caption(
            f"Green is the index {plain(arms.candidate)}; blue is {plain(arms.live)}, to which {plain(arms.alias)} "
            "points. Users are compared by the index_version that services log. At 100%, a person lets it go live."
        )


def render_comparisons(found: Sequence[ArmComparison], signals: Sequence[ArmComparison] = ()) -> None:
    """Every metric that both arms log: guardrails roll back, signals only pause."""
    if not found and not signals:
        return
    rows = [_row(each, "guardrail") for each in found] + [_row(each, "signal") for each in signals]
    ui.show_table(rows, key="canaries-metrics", file_name="canary.csv")
    st.caption(
        "A user is a session id and counts once, however often they asked. An error is a retrieval without a score. "
        f"The verdict is always valid: all metrics together hold at every check with {1 - ALPHA:.0%}."
    )


def _row(each: ArmComparison, role: str) -> dict[str, object]:
    stable, other = (say_value(each.metric, moments.mean) for moments in (each.stable, each.other))
    known = each.difference is not None
    return {
        "metric": str(each.metric), "role": role, "blue": stable, "green": other,
        "green is": _say_harm(each, each.harm) if each.harm is not None else "—",
        "at best": _say_harm(each, each.least_harm) if known else "—",
        "at worst": _say_harm(each, each.most_harm) if known else "—",
        "allowed": f"{say_amount(each.metric, each.margin)} worse",
        "so": _say_so(each),
        "users on green": each.other.users,
    }  # fmt: skip


def _say_harm(each: ArmComparison, harm: float) -> str:
    return f"{say_amount(each.metric, harm)} {'worse' if harm > 0 else 'better'}"


def _say_so(each: ArmComparison) -> str:
    if each.difference is None:
        return f"too few users, under {LEAST_USERS}"
    return "within the margin" if each.is_safe else "significantly worse" if each.is_worse else "not sure yet"


def render_charts(report: CanaryReport) -> None:
    """Both arms over time, and the confidence sequence of their difference."""
    found = {each.metric: each for each in (*report.verdict.comparisons, *report.verdict.signals)}
    logged = list(found)
    if not logged:
        return
    names = [str(metric) for metric in logged]
    chosen = st.segmented_control(
        "Metric",
        names,
        default=names[0],
        required=True,
        key="canary_metric",
        label_visibility="collapsed",
        format_func=plain,
    )
    metric = logged[names.index(chosen)] if chosen in names else logged[0]
    left, right = st.columns(2)
    with left:
        compared = found[metric]
        blue, green = (say_value(metric, moments.mean) for moments in (compared.stable, compared.other))
        title = charts.title_means(metric, [f"blue {blue}", f"green {green}"])
        figure = charts.draw_arms(report.looks, metric, colors=ARM_COLORS, title=title)
        ui.show_chart(figure, key="canaries-arms", alt=f"{plain(str(metric))} of blue and green over time")
    with right:
        is_signal = metric in {each.metric for each in report.verdict.signals}
        margins, alpha = (report.named.signals, ALPHA) if is_signal else (report.named.margins, MARGIN_ALPHA)
        traced = trace_harm(report.looks, metric, margins, stable=STABLE, other=CANARY, alpha=alpha)
        if not traced:
            st.caption(f"The interval of the difference is drawn once each arm has {LEAST_USERS} users.")
            return
        ends = (traced[-1].least, traced[-1].most)
        figure = charts.draw_interval(
            [each.at for each in traced], [each.harm for each in traced],
            ([each.least for each in traced], [each.most for each in traced]), metric,
            limits={"allowed": compared.margin}, color=ARM_COLORS[CANARY],
            title=f"Green is between {' and '.join(_say_harm(compared, end) for end in ends)}",
        )  # fmt: skip
        ui.show_chart(
            figure, key="canaries-interval", alt=f"How much worse green is in {plain(str(metric))}, with its interval"
        )


def render_actions(report: CanaryReport) -> None:
    """The forms for the next step and the rollback, whatever the verdict; each requires a reason."""
    flag, following = report.flag, report.plan.share_after(report.share_pct)
    left, right = st.columns(2)
    with left:
        if report.is_planned and following is not None:
            label = f"{'Continue to' if report.share_pct else 'Start with'} {following:g}%"
            if (arms := read_arms(flag.key, flag.definition)) and following == 100:
                label = f"Let {arms.candidate} go live under {arms.alias}"
            if report.share_pct and report.verdict.call is not CanaryCall.PROMOTE:
                label += f", although the verdict is {report.verdict.call}"
            render_form(
                Action.CANARY_PROMOTE, label, flag, promote_canary, primary=report.verdict.call is CanaryCall.PROMOTE,
                judges=None if arms and following == 100 else report.plan.services,
            )  # fmt: skip
    with right:
        if report.share_pct:
            primary = report.verdict.call is CanaryCall.ROLL_BACK
            render_form(Action.CANARY_ROLLBACK, "Roll back: everybody on blue", flag, roll_back_canary, primary=primary)
            render_rehearsal(
                ("canary", flag.environment, flag.key, flag.version),
                lambda now: rehearse_canary(get_store(), flag, now=now), flag.environment, key="canaries-rehearsal",
            )  # fmt: skip


def render_form(
    action: Action,
    label: str,
    flag: Flag,
    change: Callable[..., int],
    *,
    primary: bool,
    judges: Sequence[str] | None = None,
) -> None:
    """One form: a reason, a button, and the services whose rows judge the canary where these can be changed."""
    key = f"canary-{verb_of(action)}-{flag.key}-{flag.version}"

    def run() -> int:
        state = st.session_state
        by: Act = make_act(state[f"{key}-reason"], flag.environment)
        try:
            chosen = {} if judges is None else {"services": state[f"{key}-services"]}
            return change(get_store(), flag, by, **chosen)
        finally:
            load_canaries.clear()

    with st.form(key):
        if judges is not None:
            named = fold_environment(flag.environment)
            reporting = [scope.service for scope in list_services() if scope.environment == named]
            st.multiselect(
                "Judged by", sorted({*reporting, *judges}), list(judges), key=f"{key}-services",
                accept_new_options=True, placeholder="All services that report its arms",
            )  # fmt: skip
        st.text_input("Reason", key=f"{key}-reason", max_chars=500)
        st.form_submit_button(
            plain(label), type="primary" if primary else "secondary", on_click=ui.record_change, args=(run,),
            kwargs={"effect": ui.FLIP_SEEN, "place": f"canary-{flag.key}"}, **lock(action, flag.environment),
        )  # fmt: skip


def render_history(flag: Flag) -> None:
    """The steps and rollbacks of one canary."""
    entries = list_audit(get_store(), AuditFilter(target=flag.key, environment=flag.environment), limit=10)
    if entries:
        st.caption("Last changes")
        ui.show_table(
            [{"when": e.ts, "who": e.actor, "what": say_action(e.action), "why": e.reason} for e in entries],
            key="canaries-history", file_name="canary-history.csv",
        )  # fmt: skip

"""Drift: is retrieval getting worse, since when, how sure, and in which segments."""

from collections.abc import Sequence
from datetime import timedelta

import plotly.graph_objects as go
import streamlit as st

from app import charts, ui
from app.resources import get_store, list_environments, load_drift, load_what_changed
from app.visitor import lock, make_act
from core.alerts.alerts import AlertRule
from core.alerts.delivery import list_alert_rules
from core.alerts.operations import save_alert_rule
from core.causes.changes import WhatChanged
from core.drift.operations import accept_level
from core.drift.report import DriftOverview
from core.drift.verdict import DriftReport, DriftStatus
from core.log.histograms import add_histograms
from core.log.values import DailyScores


def draw_distributions(days: Sequence[DailyScores], report: DriftReport) -> go.Figure:
    """Shares of queries by score: the reference against now."""
    figure = go.Figure()
    periods = (
        ("reference", ui.QUIET, [d for d in days if _between(d, report.baseline_from, report.baseline_until)]),
        ("now", ui.ACCENT, [d for d in days if _between(d, report.recent_from, None)]),
    )
    for name, color, part in periods:
        counts = add_histograms(part)
        total = sum(counts) or 1
        centers = [(at + 0.5) / len(counts) for at in range(len(counts))]
        figure.add_bar(x=centers, y=[count / total for count in counts], name=name, marker_color=color, opacity=0.65)
    figure.update_layout(barmode="overlay", bargap=0.05)
    figure.update_xaxes(title="top-1 similarity", range=[0, 1])
    figure.update_yaxes(title="share of queries", tickformat=".0%")
    return ui.style_chart(figure, title="Distribution of scores: reference and now")


def render_segments(found: DriftOverview, sentence: str) -> None:
    """Where the drop sits: the sentence, and the table for the doubtful."""
    rows = [
        {
            "segment": dimension.replace("_", " "),
            "value": ui.shorten(verdict.segment, 60),
            "queries": verdict.count,
            "mean": verdict.mean,
            "change": verdict.delta,
            "from": verdict.delta_low,
            "to": verdict.delta_high,
            "verdict": ui.DRIFT_LOOKS[verdict.status].word,
        }
        for dimension, verdicts in found.segments
        for verdict in verdicts
    ]
    if rows:
        st.subheader("By segment", anchor=False)
        if sentence:
            st.markdown(ui.plain(sentence))
        st.caption("Intervals are corrected for looking at several segments.")
        columns = dict.fromkeys(("mean", "change", "from", "to"), ui.score_column())
        ui.show_table(rows, key="drift-segments", file_name="segments.csv", column_config=columns)


def render_causes(told: WhatChanged) -> None:
    """The candidate causes, likeliest first, each with its evidence."""
    if not told.causes.ranked:
        return
    st.subheader("Candidate causes", anchor=False)
    st.caption("How sure: given the log and how often changes of each kind do harm, if one cause is to blame.")
    for cause in told.causes.ranked[:2]:
        title, evidence = ui.plain(cause.title), ui.plain(cause.evidence)
        st.markdown(f"**{title}**, {ui.plain(say_sure(cause.confidence))} sure. {evidence}")
    rows = [
        {
            "cause": ui.shorten(cause.title),
            "how sure": say_sure(cause.confidence),
            "explains": ui.format_share(cause.explained_share),
            "when": cause.change.ts if cause.change else None,
            "who": ui.shorten(cause.change.actor, 40) if cause.change else "",
            "audit entry": cause.change.entry_id if cause.change else None,
            "evidence": ui.shorten(cause.evidence, 300),
        }
        for cause in told.causes.ranked
    ]
    columns = {"cause": st.column_config.TextColumn(width=180), "evidence": st.column_config.TextColumn(width=310)}
    ui.show_table(
        rows, key="drift-causes", file_name="causes.csv", column_config=columns, row_height=72, height="content"
    )


def say_sure(confidence: float) -> str:
    """A confidence in percent, never quite none nor all."""
    return "under 1%" if confidence < 0.01 else "over 99%" if confidence > 0.99 else f"{confidence:.0%}"


def render_acceptance(frame: ui.Frame) -> None:
    """The form that takes today's level as the new normal."""
    with st.expander("Accept the new level"), st.form("drift-accept", border=False):
        st.caption("The reference restarts today for everybody in this environment. The audit trail keeps it.")
        reason = st.text_input("Reason", key="drift_reason", max_chars=500)
        if st.form_submit_button("Accept as the new normal", **lock("drift.accept", frame.environment)):
            with ui.showing_errors("Nothing was changed"):
                entry = accept_level(get_store(), frame.today, make_act(reason, frame.environment))
                load_drift.clear()
                st.success(f"Recorded as audit entry {entry}. The reference restarts today.")


def render_alerts(frame: ui.Frame) -> None:
    """Who is told about drift, and the form that adds one."""
    with st.expander("Alert rules"):
        rules = list_alert_rules(get_store(), frame.environment)
        if rules:
            rows = [{"name": rule.name, "told from": str(rule.from_status), "webhook": rule.url} for rule in rules]
            ui.show_table(rows, key="drift-alerts", file_name="alert-rules.csv")
        else:
            st.caption("Nobody is told yet. A webhook gets a signed message once when retrieval drifts and once after.")
        with st.form("drift-alert", border=False):
            left, right = st.columns(2)
            name = left.text_input("Name", max_chars=100)
            url = right.text_input("Webhook address", max_chars=500)
            status = left.selectbox("Told from", [str(DriftStatus.DRIFTING), str(DriftStatus.WATCH)])
            secret = right.text_input("Secret that signs the message", type="password", max_chars=200)
            reason = st.text_input("Reason", key="drift_alert_reason", max_chars=500)
            if st.form_submit_button("Save alert rule", **lock("alert.save", frame.environment)):
                with ui.showing_errors("Nothing was changed"):
                    act = make_act(reason, frame.environment)
                    entry = save_alert_rule(get_store(), AlertRule(name, url, secret, DriftStatus(status)), act)
                    st.success(f"Recorded as audit entry {entry}.")


def _between(day: DailyScores, first: object, last: object) -> bool:
    return first is not None and str(day.day) >= str(first) and (last is None or str(day.day) <= str(last))


def render(frame: ui.Frame) -> None:
    """The page, once the log could be read."""
    found = load_drift(frame.environment, frame.today)
    if not found.days:
        ui.render_empty("No retrieval was logged yet. Build the demo, or let a service log one.", "quarterdeck demo")
        return
    report = found.report
    told = load_what_changed(frame.environment, frame.today)
    detail = f"{report.reason} {report.action}" if told.sentence != report.reason else report.action
    ui.render_verdict(ui.plain(told.sentence), ui.DRIFT_LOOKS[report.status], detail=detail)
    columns = st.columns(4)
    since = f" since {ui.format_day(report.recent_from)}" if report.recent_from else ""
    columns[0].metric(f"Mean score{since}", ui.format_score(report.recent_avg_score), help="Mean top-1 similarity")
    columns[1].metric("Reference", ui.format_score(report.baseline_avg_score))
    columns[2].metric("Change", "—" if report.delta is None else f"{report.delta:+.2f}")
    columns[3].metric("Empty hit lists", f"{found.empty_count:,}", help="Searches that found nothing: often an outage")
    shown = [day for day in found.days if (frame.today - day.day).days < frame.days]
    figure = charts.draw_score_band(
        shown,
        report,
        title="Daily retrieval score: median and 10–90% band; in gray the 10–90% band of the reference",
        history=found.days,
    )
    first = frame.today - timedelta(days=frame.days - 1)
    charts.mark_changes(figure, told.changes, first=first, last=frame.today)
    ui.show_chart(figure, key="drift-days", alt="Daily retrieval scores with the reference level and what changed")
    for problem in told.problems:
        st.caption(f"Not on the chart: {ui.plain(problem)}")
    render_causes(told)
    if report.recent_from and report.baseline_from:
        ui.show_chart(draw_distributions(found.days, report), key="drift-shapes", alt="Scores now and in the reference")
    render_segments(found, told.segments)
    ui.show_table(
        [{"day": day.day, "queries": day.count, "mean score": day.mean} for day in shown],
        key="drift-table", file_name="daily-scores.csv", column_config={"mean score": ui.score_column(3)},
    )  # fmt: skip
    if report.status in (DriftStatus.DRIFTING, DriftStatus.WATCH):
        render_acceptance(frame)
    render_alerts(frame)


frame = ui.render_frame("Drift", environments=list_environments())
with ui.showing_errors("The retrieval log could not be read"):
    render(frame)

"""Drift: is retrieval getting worse, since when, how sure, and in which segments."""

from collections.abc import Callable

import streamlit as st

from app import ui
from app.panels.drift.causes import render_causes
from app.panels.drift.changes import ACCEPTED, render_acceptance, render_alerts
from app.panels.drift.resources import load_what_changed
from app.panels.drift.scores import (
    render_days,
    render_distributions,
    render_figures,
    render_segments,
)
from app.resources import list_environments, list_new, list_services, load_drift, today_of
from app.text import plain
from app.visitor import may_read_questions
from core.causes.changes import WhatChanged
from core.drift.report import DriftOverview
from core.drift.verdict import DriftReport, DriftStatus

_SENTENCE_PX = 96


def render_sentence(report: DriftReport, told: WhatChanged) -> None:
    """The verdict with its likeliest cause, and what to do about it."""
    sentence = report.reason if report.status is DriftStatus.OUTAGE else told.sentence
    detail = f"{report.reason} {report.action}" if sentence != report.reason else report.action
    ui.render_verdict(plain(sentence), ui.DRIFT_LOOKS[report.status], detail=detail)
    for note in report.notes:
        st.caption(plain(note))


def render_evidence(found: DriftOverview, told: WhatChanged) -> None:
    """What stands behind the sentence: the causes, the segments and the scores, those that there are."""
    parts: dict[str, Callable[[], None]] = {}
    if told.causes.ranked:
        parts["Causes"] = lambda: render_causes(told, found.report)
    if any(verdicts for _, verdicts in found.segments):
        parts["Segments"] = lambda: render_segments(found, told.segments)
    if found.report.recent_from and found.report.baseline_from:
        parts["Scores"] = lambda: render_distributions(found)
    if parts:
        for tab, draw in zip(st.tabs(list(parts)), parts.values(), strict=True):
            with tab:
                draw()


def render(frame: ui.Frame) -> None:
    """The page, once the log could be read."""
    found = load_drift(frame.scope, frame.today)
    if not found.recorded:
        ui.render_empty(
            "No retrieval has been logged yet. Build the demo, or let a service log one.", "quarterdeck demo"
        )
        return
    with ui.holding(_SENTENCE_PX):
        told = load_what_changed(frame.scope, frame.today, readable=may_read_questions(frame.environment))
    render_sentence(found.report, told)
    if not found.days:
        ui.render_said(ACCEPTED)
        render_alerts(frame)
        return
    render_figures(found)
    render_days(found, told, frame)
    render_evidence(found, told)
    if found.report.status in (DriftStatus.DRIFTING, DriftStatus.WATCH):
        render_acceptance(frame)
    ui.render_said(ACCEPTED)
    render_alerts(frame)


frame = ui.render_frame(
    "Drift", environments=list_environments(), services=list_services(), new=list_new(), today_of=today_of
)
with ui.showing_errors("The retrieval log could not be read"):
    render(frame)

"""What the overview reads, cached for some seconds: the state of each area."""

from collections import Counter
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import streamlit as st

from app.connections import is_new
from app.panels.coverage.resources import load_coverage, load_shelved, read_live
from app.panels.drift.resources import load_what_changed
from app.panels.prompts.resources import load_naming
from app.panels.rollouts.resources import load_canaries, load_experiments
from app.resources import get_config, get_corpus, get_store, get_tracking, load_drift, today_of
from core.audit.actions import Subject, subject_of
from core.audit.trail import AuditFilter, list_audit
from core.causes.changes import WhatChanged
from core.coverage.backlog import BacklogTopic
from core.coverage.report import Coverage, hide_questions, name_hidden
from core.coverage.shelves import ShelvedTopic
from core.digest.periods import read_since
from core.digest.report import DigestSources, report_digest
from core.digest.sections import Digest
from core.drift.report import find_outage_since
from core.errors import QuarterdeckError
from core.intake.counts import Refusals, list_refusals
from core.log.histograms import count_below
from core.log.successions import Succession, find_successions
from core.overview import (
    GAP_DAYS,
    TREND_DAYS,
    Area,
    describe_areas,
    describe_corpus,
    describe_coverage,
    describe_drift,
    describe_prompts,
    describe_rollouts,
)
from core.todo.checklist import SetupStep, list_steps
from core.todo.items import Todo, arrange_todos
from core.todo.snoozes import read_snoozes
from quarterdeck.clock import DAY_MS, HOUR_MS, now_ms, start_of, to_ms
from quarterdeck.log import SqlLog, as_log
from quarterdeck.scope import Scope, fold_environment

_ROLLED = (Subject.FLAG, Subject.CANARY, Subject.EXPERIMENT, Subject.SCHEDULE)


@st.cache_resource(refresh_mode="background", ttl=300, show_spinner=False)
def load_successions() -> tuple[Succession, ...]:
    """Return services of the last month that may be others under a new name; none while the log cannot be read."""
    try:
        if not isinstance(as_log(get_store()), SqlLog):
            return ()
        return find_successions(get_store(), since_ms=now_ms() - 30 * DAY_MS)
    except QuarterdeckError:
        return ()


@st.cache_resource(refresh_mode="background", ttl=60, max_entries=50, show_spinner=False)
def load_outages(others: tuple[Scope, ...]) -> tuple[tuple[Scope, date], ...]:
    """Return which of some scopes have an outage, and since when; those that cannot be read are left out."""
    found: list[tuple[Scope, date]] = []
    for scope in others:
        with suppress(QuarterdeckError):
            if since := find_outage_since(get_store(), scope=scope, today=today_of(scope)):
                found.append((scope, since))
    return tuple(found)


@st.cache_resource(ttl=5, max_entries=20, show_spinner=False)
def load_refusals(environment: str, hours: int) -> tuple[Refusals, ...]:
    """Return what was refused of an environment in the last hours; nothing while the store cannot be read."""
    try:
        since_ms = now_ms() - hours * HOUR_MS
        return tuple(list_refusals(get_store(), Scope(environment, ""), since_ms=since_ms - since_ms % HOUR_MS))
    except QuarterdeckError:
        return ()


@st.cache_resource(refresh_mode="background", ttl=15, max_entries=5, show_spinner="Reading every source …")
def load_areas(environment: str, service: str, today: date, *, readable: bool) -> tuple[Area, ...]:
    """Return the state of each area, of a service and of its environment.

    Topics go by number unless questions are `readable` for the visitor.
    """
    store, scope = get_store(), Scope(fold_environment(environment), service)

    def explain() -> WhatChanged:
        return load_what_changed(scope, today, readable=readable)

    def find_topics() -> Coverage:
        coverage = load_coverage(scope, today, GAP_DAYS, None)
        return coverage if readable else hide_questions(coverage)

    def find_shelved() -> tuple[ShelvedTopic[BacklogTopic], ...]:
        found = load_shelved(scope, today, GAP_DAYS, None, read_live())
        return found if readable else tuple(replace(each, label=name_hidden(each.topic_id)) for each in found)

    return describe_areas(
        (
            ("drift", lambda: describe_drift(load_drift(scope, today), explain)),
            ("coverage", lambda: describe_gaps(scope, today, find_topics(), find_shelved())),
            ("prompts", lambda: describe_prompts(get_tracking(), get_config().experiment, naming=load_naming())),
            ("corpus", lambda: describe_corpus(store, get_corpus())),
            ("rollouts", lambda: describe_flags(environment, today)),
        ),
        is_new,
    )


def describe_gaps(
    scope: Scope, today: date, coverage: Coverage, shelved: tuple[ShelvedTopic[BacklogTopic], ...]
) -> Area:
    """Return how coverage stands, with the share of low questions by day."""
    days = [day for day in load_drift(scope, today).days[-TREND_DAYS:] if day.count]
    shares = tuple(count_below(day.histogram, coverage.threshold) / day.count for day in days)
    area = describe_coverage(coverage, shelved)
    return replace(area, trend=shares, trend_of=f"share of low questions on each of the last {TREND_DAYS} days")


def describe_flags(environment: str, today: date) -> Area:
    """Return how rollouts stand, with the number of changes of flags and rollouts by day."""
    area = describe_rollouts(
        get_store(), environment, lambda: load_canaries(environment), lambda: load_experiments(environment)
    )
    first = start_of(today - timedelta(days=TREND_DAYS - 1))
    changes = list_audit(get_store(), AuditFilter(environment=environment, since_ms=to_ms(first)), limit=5_000)
    dates = Counter(each.ts.date() for each in changes if subject_of(each.action) in _ROLLED)
    values = tuple(float(dates[first.date() + timedelta(days=at)]) for at in range(TREND_DAYS))
    return replace(area, trend=values, trend_of=f"changes on each of the last {TREND_DAYS} days")


@st.cache_resource(refresh_mode="background", ttl=300, max_entries=20, show_spinner="Writing the digest …")
def load_digest(scope: Scope, today: date, *, readable: bool) -> Digest:
    """Return the digest of the last seven days that are over; topics go by number unless questions are `readable`."""

    def find_topics() -> Coverage:
        coverage = load_coverage(scope, today, GAP_DAYS, None)
        return coverage if readable else hide_questions(coverage)

    def list_waiting() -> tuple[Todo, ...]:
        areas = load_areas(scope.environment, scope.service, today, readable=readable)
        todos = [todo for area in areas for todo in area.todos]
        return arrange_todos(todos, snoozed=load_snoozes(scope), today=today).decide

    model = get_config().embedding_model
    sources = DigestSources(get_corpus, get_tracking, find_topics, list_waiting, model, readable)
    period = read_since(f"{GAP_DAYS}d", today=today)
    return report_digest(get_store(), sources, scope=scope, period=period, now=datetime.now(UTC))


@st.cache_resource(ttl=5, max_entries=50, show_spinner=False)
def load_snoozes(scope: Scope) -> dict[str, date]:
    """Return what was put off of a scope's to-do list, and until when; nothing while the store cannot be read."""
    try:
        return read_snoozes(get_store(), scope)[0]
    except QuarterdeckError:
        return {}


@st.cache_resource(refresh_mode="background", ttl=15, max_entries=20, show_spinner=False)
def load_steps(scope: Scope, today: date) -> tuple[SetupStep, ...]:
    """Return the steps of the checklist, and which are done."""
    return list_steps(get_store(), get_config(), scope=scope, today=today)

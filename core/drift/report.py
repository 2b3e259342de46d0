"""Shell: reports whether retrieval drifts. Loads daily scores, asks the rules, returns the report."""

from dataclasses import dataclass
from datetime import date
from typing import Any

from core.audit.settings import Family, get_setting, scope_key
from core.drift.audited import AcceptedLevel
from core.drift.verdict import DriftReport, SegmentVerdict, decide_drift, decide_segments
from core.log.retrievals import (
    count_states,
    last_days,
    list_daily_scores,
    list_dimensions,
    list_segment_scores,
)
from core.log.values import DailyScores, States
from quarterdeck.scope import DEFAULT_SCOPE, Scope
from quarterdeck.store import Store

WINDOW_DAYS = 7
BASELINE_DAYS = 30


@dataclass(frozen=True, slots=True)
class DriftOverview:
    """The verdict, the days it is based on, and the verdicts of each segment by dimension.

    `states` counts the questions of the recent window, today included.
    """

    report: DriftReport
    days: tuple[DailyScores, ...]
    segments: tuple[tuple[str, tuple[SegmentVerdict, ...]], ...]
    states: States
    scope: Scope = DEFAULT_SCOPE


def report_drift(
    store: Store,
    *,
    scope: Scope,
    today: date,
    window_days: int = WINDOW_DAYS,
    baseline_days: int = BASELINE_DAYS,
) -> DriftOverview:
    """Return the drift verdict of a scope at the end of `today`. Raises SourceUnavailable and InvalidInput."""
    options: dict[str, Any] = {"today": today, "window_days": window_days, "baseline_days": baseline_days}
    days = list_daily_scores(store, scope=scope)
    report = decide_drift(days, accepted_on=get_accepted_day(store, scope), **options)
    segments = []
    for dimension in list_dimensions(store, scope):
        scores = {value: found for value, found in list_segment_scores(store, dimension, scope=scope).items() if value}
        if scores:
            segments.append((dimension, decide_segments(scores, **options)))
    states = count_states(store, last_days(window_days, until=today), scope)
    return DriftOverview(report, days, tuple(segments), states, scope)


def get_accepted_day(store: Store, scope: Scope) -> date | None:
    """Return the day since which the level of a scope's scores is accepted as normal, or None."""
    stored, _ = get_setting(store, scope_key(Family.ACCEPTED_LEVEL, scope))
    accepted = AcceptedLevel.read(stored)
    return accepted.accepted_on if accepted else None

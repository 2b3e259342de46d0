"""Shell: reports whether retrieval drifts. Loads daily scores, asks the rules, returns the report."""

from dataclasses import dataclass
from datetime import date
from typing import Any

from core.audit.settings import Family, get_setting, setting_key
from core.drift.audited import AcceptedLevel
from core.drift.verdict import DriftReport, SegmentVerdict, decide_drift, decide_segments
from core.log.retrievals import SEGMENTS, count_states, last_days, list_daily_scores, list_segment_scores
from core.log.values import DailyScores
from quarterdeck.store import Store

WINDOW_DAYS = 7
BASELINE_DAYS = 30


@dataclass(frozen=True, slots=True)
class DriftOverview:
    """The verdict, the days it is based on, and the verdicts of each segment by dimension."""

    report: DriftReport
    days: tuple[DailyScores, ...]
    segments: tuple[tuple[str, tuple[SegmentVerdict, ...]], ...]
    empty_count: int


def report_drift(
    store: Store,
    *,
    environment: str,
    today: date,
    window_days: int = WINDOW_DAYS,
    baseline_days: int = BASELINE_DAYS,
) -> DriftOverview:
    """Return the drift verdict at the end of `today`. Raises SourceUnavailable and InvalidInput."""
    options: dict[str, Any] = {"today": today, "window_days": window_days, "baseline_days": baseline_days}
    days = list_daily_scores(store)
    report = decide_drift(days, accepted_on=get_accepted_day(store, environment), **options)
    segments = []
    for dimension in SEGMENTS:
        scores = {value: found for value, found in list_segment_scores(store, dimension).items() if value}
        if scores:
            segments.append((dimension, decide_segments(scores, **options)))
    return DriftOverview(report, days, tuple(segments), count_states(store, last_days(window_days, until=today)).empty)


def get_accepted_day(store: Store, environment: str) -> date | None:
    """Return the day since which the level of scores is accepted as normal, or None."""
    stored, _ = get_setting(store, setting_key(Family.ACCEPTED_LEVEL, environment))
    accepted = AcceptedLevel.read(stored)
    return accepted.accepted_on if accepted else None

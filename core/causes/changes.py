"""Shell: gathers changes from every source and explains a dated drop. A source that fails is named, not hidden."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta

from core.audit.actions import Action
from core.audit.trail import list_audit_by_hour
from core.causes.causes import Cause, CauseKind, Causes, rank_causes
from core.causes.evidence import SameQuestions
from core.causes.headline import (
    TopicShare,
    describe_drop,
    describe_further,
    describe_segments,
    share_fall,
    sum_named,
)
from core.causes.outside_changes import list_outside
from core.causes.search import NOT_SEARCHED, SegmentSearch, find_segment
from core.causes.timeline import (
    MOST_AN_HOUR,
    TimelineChange,
    fold_changes,
    put_in_zone,
    summarize_audit,
    summarize_prompts,
    summarize_versions,
)
from core.corpus.corpus import Corpus
from core.coverage.report import Coverage
from core.drift.audited import service_of_level
from core.drift.models import bridge_values
from core.drift.present import PresentScale
from core.drift.report import DriftOverview
from core.drift.values import OpenDrop
from core.drift.verdict import DriftReport
from core.errors import QuarterdeckError
from core.log.retrievals import Window, calendar_of, list_dimensions, list_questions, list_segment_scores
from core.log.values import AskedQuery, DailyScores, normalize_query
from core.tracking.gateway import Tracking
from quarterdeck.clock import to_ms
from quarterdeck.scope import DEFAULT_SCOPE, Scope
from quarterdeck.store import Store

_MOST_ENTRIES, _MOST_VERSIONS = 5_000, 500
_MOST_COMPARED = 200_000  # queries in five weeks; reading more would delay a page
_COMPARED_DAYS, _READ_DAYS = 14, 35  # a window, and how many days of raw rows before its end are read
_LEAST_ERROR = 0.005


@dataclass(frozen=True, slots=True)
class Further:
    """A drop that is open beside the one of the verdict, inside it or around it, with its own causes and sentence."""

    drop: OpenDrop
    causes: Causes
    sentence: str


@dataclass(frozen=True, slots=True)
class WhatChanged:
    """The timeline, oldest first, what could not be read of it, and the causes of the drop if there is one.

    Where several drops are open, `further` has those that the verdict is not about.
    """

    changes: tuple[TimelineChange, ...]
    problems: tuple[str, ...]
    causes: Causes
    topics: tuple[TopicShare, ...]
    sentence: str
    segments: str = ""
    further: tuple[Further, ...] = ()


def gather_changes(
    store: Store,
    corpus: Callable[[], Corpus],
    tracking: Callable[[], Tracking],
    *,
    scope: Scope,
    since: datetime,
) -> tuple[tuple[TimelineChange, ...], tuple[str, ...]]:
    """Return every known change since then, oldest first, and one line per source that could not be read.

    Flags and canaries are those of the environment, levels those of the scope; indexes, corpus and prompts are shared.
    `corpus` and `tracking` open their gateways lazily, so that one failing source does not affect the others.
    """
    sources: tuple[tuple[str, Callable[[], Iterable[TimelineChange]]], ...] = (
        ("flags and indexes", lambda: _list_audited(store, scope, since)),
        ("corpus versions", lambda: summarize_versions(corpus().list_versions(_MOST_VERSIONS))),
        ("prompts", lambda: summarize_prompts(tracking().list_prompts())),
        ("other systems", lambda: (each.as_change() for each in list_outside(store, scope, since))),
    )
    changes: list[TimelineChange] = []
    problems: list[str] = []
    for name, read in sources:
        try:
            changes.extend(change for change in read() if change.ts >= since)
        except QuarterdeckError as error:
            problems.append(f"{name}: {error}")
    return tuple(sorted(changes, key=lambda change: (change.ts, change.summary))), tuple(problems)


def explain_drift(
    store: Store,
    found: DriftOverview,
    gathered: tuple[Sequence[TimelineChange], Sequence[str]],
    *,
    today: date,
    coverage: Callable[[], Coverage] | None = None,
) -> WhatChanged:
    """Return what changed and what explains each open drop. Topics are named if `coverage` can be read.

    A drop is explained from the days of its level and of the one before, and from whole days only. Days are those of
    the service's time zone, also those on which changes came. Raises SourceUnavailable when the log cannot be read.
    """
    report, (changes, problems) = found.report, gathered
    if report.changed_on is None or report.fall is None:
        return WhatChanged(tuple(changes), tuple(problems), Causes(()), (), report.reason)
    others = [drop for drop in report.open_drops if drop.changed_on != report.changed_on]
    local = put_in_zone(changes, calendar_of(store, found.scope).zone)
    ranked = {
        drop.changed_on: _rank(store, replace(found, report=_focus(report, drop)), local, today=today)
        for drop in report.open_drops
    }
    causes = ranked.get(report.changed_on) or _rank(store, found, local, today=today)
    topics, failed = _name_topics(report, coverage, found.days, today)
    causes = replace(causes, ranked=tuple(_agree(cause, topics) for cause in causes.ranked))
    return WhatChanged(
        tuple(changes),
        (*problems, *failed),
        _in_utc(causes),
        topics,
        describe_drop(report, causes, topics),
        describe_segments(causes.search),
        tuple(_word_further(drop, ranked[drop.changed_on], report) for drop in others),
    )


def _focus(report: DriftReport, drop: OpenDrop) -> DriftReport:
    """The report as if it were about this one of its drops alone."""
    known = report.baseline_from if drop.changed_on == report.changed_on else None
    first = known or max(drop.level_from, drop.changed_on - timedelta(days=_READ_DAYS))
    return replace(
        report, changed_on=drop.changed_on, fall=drop.fall, baseline_from=first, recent_from=drop.changed_on,
        recent_until=drop.until, open_drops=(drop,),
    )  # fmt: skip


def _rank(store: Store, found: DriftOverview, changes: Sequence[TimelineChange], *, today: date) -> Causes:
    """The causes of the drop that the report is about, from the days of its level and of the one before."""
    report, days, last = found.report, found.days, today
    for drop in report.open_drops:
        days = tuple(day for day in days if drop.level_from <= day.day <= drop.until)
        last = min(today, drop.until)
    same = compare_same_questions(store, report, days, today=last, scope=found.scope, scale=found.scale)
    return rank_causes(report, changes, days=days, segments=_read_segments(store, found, last), same_questions=same)


def _word_further(drop: OpenDrop, causes: Causes, report: DriftReport) -> Further:
    is_later = report.changed_on is not None and drop.changed_on > report.changed_on
    return Further(drop, _in_utc(causes), describe_further(drop, causes, is_later=is_later))


def _in_utc(causes: Causes) -> Causes:
    """The causes with the times of their changes as they are stored."""
    ranked = [
        replace(each, change=replace(each.change, ts=each.change.ts.astimezone(UTC))) if each.change else each
        for each in causes.ranked
    ]
    return replace(causes, ranked=tuple(ranked))


def search_segments(store: Store, found: DriftOverview, *, today: date) -> SegmentSearch:
    """Return which segment carries the drop, among all values of the service's dimensions."""
    if found.report.changed_on is None:
        return NOT_SEARCHED
    return find_segment(found.report, _read_segments(store, found, today))


def compare_same_questions(
    store: Store,
    report: DriftReport,
    days: Sequence[DailyScores],
    *,
    today: date,
    scope: Scope = DEFAULT_SCOPE,
    scale: PresentScale | None = None,
) -> SameQuestions | None:
    """Return how the questions asked both before and after the dated drop score now, each compared with itself.

    Reads raw rows, so only the two weeks on either side; None for a log of over 200,000 queries in five weeks. Each
    question is weighted by how often it was asked since. The error treats questions as clusters and is at least 0.005.
    Scores of a former embedding model are carried to the present `scale`.
    """
    changed = report.changed_on
    if changed is None:
        return None
    after = Window(changed, min(today, changed + timedelta(days=_COMPARED_DAYS - 1)))
    first = max(changed - timedelta(days=_COMPARED_DAYS), report.baseline_from or date.min)
    before = Window(min(first, changed - timedelta(days=1)), changed - timedelta(days=1))
    if (
        sum(day.count for day in days if before.last - timedelta(days=_READ_DAYS) < day.day <= after.last)
        > _MOST_COMPARED
    ):
        return None
    old = {normalize_query(q.text): q for q in list_questions(store, before, scope=scope, scale=scale)}
    new = list_questions(store, after, scope=scope, scale=scale)
    return _compare([(old[key], query) for query in new if (key := normalize_query(query.text)) in old], new)


def _read_segments(store: Store, found: DriftOverview, today: date) -> dict[str, dict[str, tuple[DailyScores, ...]]]:
    reached = Window(found.report.baseline_from or found.report.changed_on or today, today)
    return {
        name: bridge_values(list_segment_scores(store, name, window=reached, scope=found.scope), found.models)
        for name in list_dimensions(store, found.scope)
    }


def _compare(pairs: Sequence[tuple[AskedQuery, AskedQuery]], new: Sequence[AskedQuery]) -> SameQuestions | None:
    count, asked = sum(n.count for _, n in pairs), sum(query.count for query in new)
    if not count:
        return None
    before = sum(n.count * o.mean_score for o, n in pairs) / count
    after = sum(n.count * n.mean_score for _, n in pairs) / count
    spread = sum((n.count * (n.mean_score - o.mean_score - (after - before))) ** 2 for o, n in pairs)
    error = max(_LEAST_ERROR, math.sqrt(spread) / count)
    return SameQuestions(count, before, after, error, 1 - count / asked)


def _name_topics(
    report: DriftReport, coverage: Callable[[], Coverage] | None, days: Sequence[DailyScores], today: date
) -> tuple[tuple[TopicShare, ...], tuple[str, ...]]:
    """Return the topics that explain the fall, or why they are unknown."""
    if coverage is None:
        return (), ()
    try:
        read = coverage()
    except QuarterdeckError as error:
        return (), (f"topics: {error}",)
    return share_fall(report, read.topics.topics, queries=read.queries, days=days, today=today), ()


def _agree(cause: Cause, topics: Sequence[TopicShare]) -> Cause:
    """Return new questions as explaining what their topics explain in the sentence: one claim has one figure."""
    is_told = cause.kind is CauseKind.NEW_QUESTIONS and topics
    return replace(cause, explained_share=sum_named(topics)) if is_told else cause


def _list_audited(store: Store, scope: Scope, since: datetime) -> Iterable[TimelineChange]:
    entries = list_audit_by_hour(
        store, scope.environment, since_ms=to_ms(since), most_an_hour=MOST_AN_HOUR + 1, limit=_MOST_ENTRIES
    )
    here = (
        entry for entry in entries
        if entry.action != Action.DRIFT_ACCEPT or service_of_level(entry.target) == scope.service
    )  # fmt: skip
    return fold_changes(change for change in map(summarize_audit, here) if change is not None)

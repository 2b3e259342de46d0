"""Shell: reports whether retrieval drifts. Loads daily scores, asks the rules, returns the report."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from typing import Any, NamedTuple

from core.audit.settings import Family, get_setting, scope_key
from core.drift.audited import AcceptedLevel
from core.drift.episodes import DatedEpisode, list_episodes
from core.drift.models import ModelDays, bridge_values, find_model_days
from core.drift.outage import MIN_QUESTIONS, OutageKind, describe_nothing_found, find_outage
from core.drift.present import RAW, PresentScale, carry_days, find_scale
from core.drift.quarantine import describe_pending, set_aside
from core.drift.scales import ModelMap
from core.drift.verdict import DriftReport, DriftStatus, SegmentVerdict, decide_drift, decide_segments
from core.log.retrievals import ScopeDays, Window, list_days, list_dimensions, list_segment_scores
from core.log.score_scales import LEAST_ROWS
from core.log.values import DailyScores, States
from core.wording.counts import count_of
from quarterdeck.scope import DEFAULT_SCOPE, Scope
from quarterdeck.store import Store

WINDOW_DAYS = 7
BASELINE_DAYS = 30
MOST_SEGMENTS = 20  # of a dimension that get a verdict: those asked most in the recent window


@dataclass(frozen=True, slots=True)
class DriftOverview:
    """The verdict, the days with scores, and the verdicts of each segment by dimension.

    `days` include today, which is in no verdict while it lasts, and exclude what is set aside. `states` counts the
    questions of the recent window, today included; `recorded` all questions that ever came. Where a map leads from a
    former embedding model to the present one, days are on the present `scale`; `models` tells of the change.
    """

    report: DriftReport
    days: tuple[DailyScores, ...]
    segments: tuple[tuple[str, tuple[SegmentVerdict, ...]], ...]
    states: States
    recorded: int
    scope: Scope = DEFAULT_SCOPE
    scale: PresentScale = RAW
    models: ModelDays | None = None


def report_drift(
    store: Store,
    *,
    scope: Scope,
    today: date,
    window_days: int = WINDOW_DAYS,
    baseline_days: int = BASELINE_DAYS,
    until: date | None = None,
) -> DriftOverview:
    """Return the drift verdict of a scope on `today`, from the days that are over by then.

    An unfinished day has other hours than whole ones, and is in no verdict. Days that have not come yet or lie far
    before all others are set aside, and the notes of the report say so (`core.drift.quarantine`). Where the embedding
    model changed, only the days of the present one count (`core.drift.models`). Days that have no capped mean yet,
    although later ones have it, do not count: the two differ where a bot or a popular question is. Searches that
    suddenly find nothing are an outage (`core.drift.outage`). With `until`, no later day than this one is used at all,
    and no level that was accepted later. Raises SourceUnavailable and InvalidInput.
    """
    over, since = today - timedelta(days=1), today - timedelta(days=window_days)
    accepted_on = get_accepted_day(store, scope)
    opened = ScopeDays(store, scope)
    listed = tuple(day for _, day in opened.read("", "") if until is None or day.day <= until)
    if until is not None and accepted_on is not None and accepted_on > until:
        accepted_on = None
    aside = set_aside(listed, today=today, longest_gap=max(BASELINE_DAYS, baseline_days))
    first = aside.kept[0].day if aside.kept else today
    options: dict[str, Any] = {"today": over, "window_days": window_days, "baseline_days": baseline_days}
    recorded = {
        dimension: list_segment_scores(store, dimension, scope=scope, days=opened)
        for dimension in list_dimensions(store, scope)
    }
    segments = {
        dimension: _list_values(values, first=first, last=over, since=since) for dimension, values in recorded.items()
    }
    maps = list_model_maps(store, scope)
    models = find_model_days(segments["model"], today=over, maps=maps)
    scale = find_scale(segments["model"], maps, today=over) if maps else RAW
    whole = tuple(day for day in aside.kept if day.count)
    waiting = frozenset[date]() if models else opened.list_pending()
    pending = tuple(day for day in whole if day.day in waiting)
    days = tuple(day for day in whole if day.day not in waiting)
    if models and models.bridge:
        days = (*models.days, *carry_days([day for day in days if day.day > over], recorded["model"], scale))
        segments = {name: bridge_values(values, models) for name, values in segments.items()}
    else:
        days = carry_days(days, recorded["model"], scale)
    report = decide_drift(models.days if models else days, accepted_on=accepted_on, **options)
    report = _explain_nothing(report, aside.kept, today=today, accepted_on=accepted_on)
    report = _with_outage(report, aside.kept, today=over, accepted_on=accepted_on, window_days=window_days)
    changed = models.describe(over) if models else ""
    said = (changed, *aside.notes, describe_pending(pending))
    report = replace(report, notes=tuple(filter(None, said)))
    if models and not models.bridge:
        accepted_on = max(filter(None, (accepted_on, models.settled_on or today)))
    verdicts = tuple(
        (
            dimension,
            decide_segments(values, accepted_on=accepted_on if models and not models.bridge else None, **options),
        )
        for dimension, values in segments.items()
        if values and not (models and dimension == "model")
    )
    recent = [day for day in aside.kept if (today - day.day).days < window_days]
    asked = sum(day.questions for day in listed)
    return DriftOverview(report, days, verdicts, States.of_days(recent), asked, scope, scale, models)


def report_as_of(store: Store, *, scope: Scope, day: date, today: date, **windows: int) -> DriftOverview:
    """Return the verdict at the end of a day, from the rows before its end alone.

    A day that is not over has no verdict: for today and later days it is that of yesterday.
    """
    last = min(day, today - timedelta(days=1))
    return report_drift(store, scope=scope, today=last + timedelta(days=1), until=last, **windows)


def find_outage_since(store: Store, *, scope: Scope, today: date) -> date | None:
    """Return since when a scope has the verdict `outage`, None without it. Reads less than `report_drift`."""
    days = tuple(day for _, day in ScopeDays(store, scope).read("", ""))
    recorded = set_aside(days, today=today, longest_gap=BASELINE_DAYS).kept
    over, accepted_on = today - timedelta(days=1), get_accepted_day(store, scope)
    found = _find_outage(recorded, today=over, accepted_on=accepted_on, window_days=WINDOW_DAYS)
    return found.since if found else None


def report_episodes(
    store: Store, *, scope: Scope, today: date, baseline_days: int = BASELINE_DAYS
) -> tuple[DatedEpisode, ...]:
    """Return every drop and outage of a scope up to yesterday, in the order of its call."""
    over, accepted_on = today - timedelta(days=1), get_accepted_day(store, scope)
    opened = ScopeDays(store, scope)
    models = list_segment_scores(store, "model", scope=scope, days=opened)
    maps = list_model_maps(store, scope)
    return list_episodes(
        tuple(day for _, day in opened.read("", "")),
        pending=opened.list_pending(),
        models={name: tuple(day for day in days if day.day <= over) for name, days in models.items() if name},
        maps=maps,
        today=over,
        longest_gap=max(BASELINE_DAYS, baseline_days),
        accepted_on=accepted_on if accepted_on and accepted_on <= over else None,
    )


def _list_values(
    found: Mapping[str, Sequence[DailyScores]], *, first: date, last: date, since: date
) -> dict[str, tuple[DailyScores, ...]]:
    """Return the days of the named values that were asked most since a day, without those that are set aside."""
    kept = {value: tuple(day for day in days if first <= day.day <= last) for value, days in found.items() if value}
    asked = {value: sum(day.count for day in days if day.day >= since) for value, days in kept.items() if days}
    most = sorted(asked, key=lambda value: (-asked[value], value))[:MOST_SEGMENTS]
    return {value: kept[value] for value in sorted(most)}


def _explain_nothing(
    report: DriftReport, recorded: Sequence[DailyScores], *, today: date, accepted_on: date | None
) -> DriftReport:
    """Say why there is no score to judge: nothing was found, scores have no map yet, or today is not over."""
    if report.baseline_count or report.recent_count or not recorded:
        return report
    count = sum(day.questions for day in recorded)
    if said := describe_nothing_found(recorded):
        return replace(report, reason=said, action="Check that the index is there, is filled and answers.")
    if accepted_on is not None and accepted_on >= today:
        return replace(report, reason="The level was accepted today: the first whole day counts tomorrow.")
    unmapped, unscored = sum(day.unmapped for day in recorded), sum(day.unscored for day in recorded)
    if not any(day.count for day in recorded):
        told = f"None of the {count:,} questions recorded has a similarity"
        told = told if count > 1 else "The only question recorded has no similarity"
        if unmapped:
            scores = count_of(unmapped, "score is", "scores are")
            reason = f"{told}: {scores} of a kind whose map is learned from the first {LEAST_ROWS}."
            return replace(report, reason=reason, action="Wait for more questions, then check again.")
        had = f"{unscored:,}" if count > 1 else "it"
        return replace(report, reason=f"{told}: {had} had hits without a score.")
    if recorded[0].day >= today:
        all_of = "The only question is" if count == 1 else f"All {count:,} questions are"
        return replace(report, reason=f"{all_of} of today: the first whole day counts tomorrow.")
    return report


def _with_outage(
    report: DriftReport, recorded: Sequence[DailyScores], *, today: date, accepted_on: date | None, window_days: int
) -> DriftReport:
    """Return the report with the verdict `outage` where searches find nothing; an open drop is reported too."""
    found = _find_outage(recorded, today=today, accepted_on=accepted_on, window_days=window_days)
    if found is None:
        return report
    besides = f" Besides: {report.reason}" if report.status is DriftStatus.DRIFTING else ""
    return replace(
        report, status=DriftStatus.OUTAGE, reason=found.reason + besides, action=found.action,
        outage_since=found.since, outage_kind=found.kind,
    )  # fmt: skip


class _Found(NamedTuple):
    """An outage, with what happens in a sentence and what to do."""

    since: date
    kind: OutageKind
    reason: str
    action: str


def _find_outage(
    recorded: Sequence[DailyScores], *, today: date, accepted_on: date | None, window_days: int
) -> _Found | None:
    """Return since when searches find nothing or have no score, and what to do; None while all is well."""
    known = [day for day in recorded if accepted_on is None or day.day >= accepted_on]
    if (said := describe_nothing_found(known)) and sum(day.questions for day in known) >= MIN_QUESTIONS:
        action = "Check that the index is there, is filled and answers."
        return _Found(known[0].day, OutageKind.NOTHING_FOUND, said, action)
    outage = find_outage(known, today=today, window_days=window_days)
    return _Found(outage.since, outage.kind, outage.reason, outage.action) if outage else None


def list_model_maps(store: Store, scope: Scope) -> tuple[ModelMap, ...]:
    """Return the maps between embedding models of a scope."""
    stored = get_setting(store, scope_key(Family.MODEL_MAP, scope)).value
    return tuple(ModelMap.read(each) for each in stored or ())


def find_present_scale(store: Store, scope: Scope, *, today: date) -> PresentScale:
    """Return the scale of the embedding model that answered most yesterday. Raises SourceUnavailable."""
    maps = list_model_maps(store, scope)
    if not maps:
        return RAW
    return find_scale(list_segment_scores(store, "model", scope=scope), maps, today=today - timedelta(days=1))


def list_days_on_scale(
    store: Store, *, window: Window | None = None, scope: Scope, scale: PresentScale
) -> tuple[DailyScores, ...]:
    """Return the days of a scope, with the scores of other embedding models carried to a scale."""
    days = list_days(store, window=window, scope=scope)
    if not scale.maps:
        return days
    return carry_days(days, list_segment_scores(store, "model", window=window, scope=scope), scale)


def get_accepted_day(store: Store, scope: Scope) -> date | None:
    """Return the day since which the level of a scope's scores is accepted as normal, or None."""
    stored, _ = get_setting(store, scope_key(Family.ACCEPTED_LEVEL, scope))
    accepted = AcceptedLevel.read(stored)
    return accepted.accepted_on if accepted else None

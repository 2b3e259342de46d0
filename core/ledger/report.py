"""Shell: reads the ledger: each change of a scope with its predicted and its measured effect, and the calibration."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, timedelta

from core.audit.actions import Action
from core.audit.trail import AuditEntry, AuditFilter, list_audit
from core.causes.timeline import ChangeKind, TimelineChange, put_in_zone
from core.drift.report import list_model_maps
from core.indexes.registry import list_indexes
from core.ledger.claims import (
    UNTOLD,
    EffectClaim,
    SettledEffect,
    match_claims,
    name_change,
    read_claims,
    read_settled,
)
from core.ledger.effects import (
    AFTER_DAYS,
    BEFORE_DAYS,
    MeasuredEffect,
)
from core.ledger.entries import (
    EMPTY_SHARE,
    SCORE,
    Calibration,
    EntryStatus,
    LedgerEntry,
    calibrate,
    judge_effect,
)
from core.ledger.measuring import SHARE_DAYS, Measuring, Segments
from core.ledger.scales import ModelChange, find_model_change
from core.log.retrievals import Window, calendar_of, list_days, list_segment_scores
from core.log.values import DailyScores
from quarterdeck.scope import Scope
from quarterdeck.store import Store

DAYS = 120  # how far back the ledger shows changes, unless it is asked for more
_MOST_CLAIMS = 20_000


@dataclass(frozen=True, slots=True)
class Ledger:
    """The entries of a scope, newest change first, and how good the predictions were."""

    entries: tuple[LedgerEntry, ...]
    calibration: Calibration
    scope: Scope


def report_ledger(
    store: Store, changes: Iterable[TimelineChange], *, scope: Scope, today: date, threshold: float
) -> Ledger:
    """Return the ledger of a scope over these changes of its timeline.

    Changes that nobody can have noticed (nothing went live by them) are left out. Each change has an entry about the
    mean score, and one about each other metric that was predicted. A score below `threshold` counts as low. Effects
    that were settled stay as they were then. Across a change of the embedding model that has a map, days are moved to
    one scale, and each entry says which. A change is of the day that it is in the service's time zone. Raises
    SourceUnavailable.
    """
    local = put_in_zone(changes, calendar_of(store, scope).zone)
    told = [each for each in local if each.reach > 0 and each.kind not in UNTOLD and each.ts.date() < today]
    if not told:
        return Ledger((), calibrate(()), scope)
    claims = match_claims(told, _list_claims(store, scope), service=scope.service)
    settled = list_settled(store, scope)
    first = min(each.ts for each in told).date() - timedelta(days=BEFORE_DAYS)
    days = list_days(store, window=Window(first, today - timedelta(days=1)), scope=scope)
    segments = _read_segments(store, told, scope, today)
    measures = _Measures(told, days, segments, threshold, today, change=_find_model_change(store, scope, days, today))
    entries = [
        _enter(change, metric, claims.get((name_change(change), metric), ()), settled, measures, scope)
        for change in sorted(told, key=lambda each: (each.ts, each.summary), reverse=True)
        for metric in _metrics_of(change, claims)
    ]
    return Ledger(tuple(entries), calibrate(entries), scope)


def list_settled(store: Store, scope: Scope) -> dict[tuple[str, str, str], SettledEffect]:
    """Return the effects that were measured for good in an environment, by change, service and metric."""
    return read_settled(reversed(_list_entries(store, Action.LEDGER_MEASURE, scope)))


class _Measures:
    """Measures each change on the scale of the model that answered when it was made (`core.ledger.scales`)."""

    def __init__(
        self, told: Sequence[TimelineChange], days: Sequence[DailyScores], segments: Segments, threshold: float,
        today: date, *, change: ModelChange | None,
    ) -> None:  # fmt: skip
        self.change = change
        self._present = self._former = Measuring(told, days, segments, threshold, today)
        if change:
            former = _cut_segments(segments, change.changed_on)
            low = change.bridge.invert().apply(threshold)
            self._present = Measuring(told, days, segments, threshold, today, scaled=change.present_days)
            self._former = Measuring(told, days, former, low, today, scaled=change.former_days)

    def of(self, change: TimelineChange) -> Measuring:
        """Return what measures a change."""
        return self._former if self.change and self.change.is_before(change) else self._present

    def measure(self, change: TimelineChange, metric: str) -> MeasuredEffect | None:
        """Return the effect of a change; across the change of the model, with the map's error in its interval."""
        found = self.of(change).measure(change, metric)
        if found and self.change and metric == SCORE and self.change.is_itself(change):
            return self.change.widen(found)
        return found


def _find_model_change(store: Store, scope: Scope, days: Sequence[DailyScores], today: date) -> ModelChange | None:
    """Return the last change of the model within the days, where it has a map."""
    maps = list_model_maps(store, scope)
    if not maps or not days:
        return None
    last = today - timedelta(days=1)
    models = list_segment_scores(store, "model", window=Window(days[0].day, last), scope=scope)
    return find_model_change(models, maps, today=last)


def _cut_segments(segments: Segments, end: date) -> Segments:
    """Return the days of segments before `end`: those of the former model alone."""
    return {
        name: {value: [day for day in days if day.day < end] for value, days in values.items()}
        for name, values in segments.items()
    }


def _metrics_of(change: TimelineChange, claims: dict[tuple[str, str], tuple[EffectClaim, ...]]) -> Iterable[str]:
    named = {metric for change_id, metric in claims if change_id == name_change(change)}
    return (SCORE, *sorted(named - {SCORE}))


def _list_claims(store: Store, scope: Scope) -> tuple[EffectClaim, ...]:
    entries = [
        entry
        for action in (Action.LEDGER_PREDICT, Action.PREDICTION_SAVE)
        for entry in _list_entries(store, action, scope)
    ]
    versions: dict[str, list[str]] = {}
    for index in list_indexes(store):
        versions.setdefault(index.corpus_version, []).append(index.name)
    return read_claims(entries, versions)


def _list_entries(store: Store, action: Action, scope: Scope) -> tuple[AuditEntry, ...]:
    return list_audit(store, AuditFilter(action=action, environment=scope.environment), limit=_MOST_CLAIMS)


def _read_segments(store: Store, changes: Sequence[TimelineChange], scope: Scope, today: date) -> Segments:
    """Return the days of each segment that a change touches, from a week before the first of them."""
    touching = [each for each in changes if each.touches and each.kind is not ChangeKind.INDEX]
    if not touching:
        return {}
    first = min(each.ts for each in touching).date() - timedelta(days=SHARE_DAYS)
    window = Window(first, today - timedelta(days=1))
    named = {name for each in touching for name, _ in each.touches}
    return {name: list_segment_scores(store, name, window=window, scope=scope) for name in sorted(named)}


def _enter(
    change: TimelineChange,
    metric: str,
    claims: Sequence[EffectClaim],
    settled: dict[tuple[str, str, str], SettledEffect],
    measures: _Measures,
    scope: Scope,
) -> LedgerEntry:
    known, measure = settled.get((name_change(change), scope.service, metric)), measures.of(change)
    measured = known.measured if known else measures.measure(change, metric)
    claim = claims[-1] if claims else None
    companions, is_over = measure.companions(change), measure.is_over(change)
    scale = measures.change.describe(change) if measures.change and not known and metric != EMPTY_SHARE else ""
    predicted = claim.predicted if claim else None
    status = judge_effect(measured, predicted, is_over=is_over, metric=metric)
    if companions and predicted is not None:
        status = EntryStatus.CANNOT_TELL
    entry = LedgerEntry(
        name_change(change), change.ts.astimezone(UTC), str(change.kind), change.target, change.summary, change.actor,
        metric,
        predicted, measured, status, is_afterwards=bool(claim and claim.at > change.ts),
        together=tuple(each.summary for each in companions), predicted_in=claim.entry_id if claim else None,
        superseded=tuple(each.entry_id for each in claims[:-1]), entry_id=change.entry_id, is_over=is_over, scale=scale,
    )  # fmt: skip
    return replace(entry, why=_explain(entry, is_over=is_over))


def _explain(entry: LedgerEntry, *, is_over: bool) -> str:
    """Return why an entry has no verdict; "" where it has one or needs none."""
    if entry.together and entry.predicted is not None:
        count = len(entry.together)
        return f"{count} other change{'s' if count > 1 else ''} came within a week: the effect is that of all together"
    if entry.status is EntryStatus.TOO_EARLY:
        return f"measured for good {AFTER_DAYS} days after the change"
    if entry.status is EntryStatus.CANNOT_TELL:
        return "too few days with questions around the change" if entry.measured is None else "the interval is too wide"
    if entry.measured is None:
        return "" if is_over else "too few days since the change"
    return ""

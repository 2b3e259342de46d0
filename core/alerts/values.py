"""Shell: what the metrics of alerts are: by day from the log, and now from the backlog and the canaries."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from weakref import WeakKeyDictionary

from core.alerts.metrics import CANARY, MEAN_SCORE, OWN, AlertMetric, Unit, ValueSource
from core.alerts.readings import DayValue, Reading, judge_canaries, judge_days, judge_drift, judge_now
from core.alerts.rules import AlertKind, AlertRule
from core.alerts.sequential import MetricShift, judge_sequential, list_changes
from core.causes.timeline import TimelineChange
from core.coverage.backlog import TopicState, list_backlog
from core.coverage.report import find_threshold
from core.drift.report import DriftOverview, find_present_scale, list_days_on_scale, report_drift
from core.errors import InvalidInput
from core.log.histograms import count_below
from core.log.metrics import MetricSums, list_metric_days
from core.log.retrievals import Window, last_days, today_in
from core.log.values import DailyScores
from core.metrics.daily import read_metric_days
from core.metrics.definition import MetricDefinition
from core.metrics.records import get_own_metric
from core.rollouts.canary import CanaryCall, CanaryVerdict
from quarterdeck.clock import HOUR_MS, to_ms
from quarterdeck.scope import Scope
from quarterdeck.store import Store

VERDICT_DAYS = 400  # of a sequential verdict: a level that lasts for longer is the usual one
_STEP_DAYS = 28  # the first of them moves so seldom, because what was learned from it would differ
_MOST_KEPT = 200
_Kept = OrderedDict[Hashable, tuple[int, tuple[DayValue, ...]]]
_kept: WeakKeyDictionary[Store, _Kept] = WeakKeyDictionary()
_lock = threading.Lock()


@dataclass(frozen=True, slots=True)
class AlertSources:
    """Where alerts read what the log does not hold; what is not given is not watched.

    `model` is the embedding model of the backlog. `canaries` returns the verdicts of an environment's canaries by flag,
    `changes` what changed in a scope since a time.
    """

    model: str = ""
    low_score: float | None = None
    canaries: Callable[[str], Mapping[str, CanaryVerdict]] | None = None
    changes: Callable[[Scope, datetime], Sequence[TimelineChange]] | None = None


class ScopeValues:
    """The values of one scope, each read once. Keep it for one check or one backtest."""

    def __init__(self, store: Store, scope: Scope, sources: AlertSources, *, now: datetime, days: int) -> None:
        self.scope = scope
        self.today: date = today_in(store, scope, now=now)
        self._store, self._sources, self._now = store, sources, now
        self._window: Window = last_days(days, until=self.today)
        self._scores: dict[date, DailyScores] | None = None
        self._numbers: dict[str, dict[date, MetricSums]] = {}
        self._threshold: float | None = None
        self._drift: DriftOverview | None = None

    def read(self, rule: AlertRule) -> Reading:
        """Return what a rule's metric says now. Raises SourceUnavailable, and InvalidInput if it is not watched."""
        if rule.metric == CANARY:
            verdicts = self._list_canaries()
            if rule.kind is AlertKind.VERDICT:
                return judge_canaries(rule, verdicts)
            bad = sum(verdict.call is CanaryCall.ROLL_BACK for verdict in verdicts.values())
            return judge_now(rule, float(bad))
        if rule.kind is AlertKind.VERDICT and rule.metric == MEAN_SCORE:
            if self._drift is None:
                self._drift = report_drift(self._store, scope=self.scope, today=self.today)
            return judge_drift(rule, self._drift.report, scope=self.scope)
        if rule.kind is AlertKind.VERDICT:
            falls, is_share = self._find_direction(rule.watched)
            return judge_sequential(
                rule, self._list_long(rule.watched), today=self.today, falls=falls, is_share=is_share
            )
        if rule.watched.source is ValueSource.NOW:
            return judge_now(rule, self._count_gaps())
        return judge_days(rule, self.list_days(rule.watched), today=self.today)

    def list_changes(self, metric: AlertMetric) -> tuple[MetricShift, ...]:
        """Return every change for the worse of a metric that its sequential verdict called in the last 13 months."""
        falls, is_share = self._find_direction(metric)
        return list_changes(self._list_long(metric), metric, today=self.today, falls=falls, is_share=is_share)

    def list_days(self, metric: AlertMetric) -> tuple[DayValue, ...]:
        """Return the metric of each day of the window, today included, since the first with questions."""
        if own := self._define(metric):
            return self._list_own(own)
        scores = self._list_scores()
        if not scores:
            return ()
        first = max(self._window.first, min(scores))
        every = [first + timedelta(days=ago) for ago in range((self._window.last - first).days + 1)]
        return tuple(self._find_day(metric, day, scores.get(day)) for day in every)

    def _list_long(self, metric: AlertMetric) -> tuple[DayValue, ...]:
        """Return the days that a verdict is made of, read at most once an hour: some metrics read every row."""
        first = (self.today - timedelta(days=VERDICT_DAYS)).toordinal()
        days = self.today.toordinal() - first // _STEP_DAYS * _STEP_DAYS
        key = (self.scope, metric.name, repr(self._define(metric)), self.today)
        with _lock:
            kept = _kept.setdefault(self._store, OrderedDict())
            known = kept.get(key)
        if known is None or not 0 <= to_ms(self._now) - known[0] < HOUR_MS:
            values = ScopeValues(self._store, self.scope, self._sources, now=self._now, days=days)
            known = (to_ms(self._now), values.list_days(metric))
            with _lock:
                kept[key] = known
                while len(kept) > _MOST_KEPT:
                    kept.popitem(last=False)
        return known[1]

    def _find_direction(self, metric: AlertMetric) -> tuple[bool, bool]:
        """Return whether lower is worse, and whether the values are shares."""
        own = self._define(metric)
        return (own.is_higher_better, own.is_share) if own else (metric.falls, metric.unit is Unit.SHARE)

    def _define(self, metric: AlertMetric) -> MetricDefinition | None:
        """Return what people defined, None for a built-in metric."""
        if not metric.name.startswith(OWN):
            return None
        name = metric.name.removeprefix(OWN)
        definition, _ = get_own_metric(self._store, self.scope.environment, name)
        if definition is None:
            raise InvalidInput("metric", f"there is no own metric {name!r} in {self.scope.environment} any more")
        return definition

    def _list_own(self, definition: MetricDefinition) -> tuple[DayValue, ...]:
        found = read_metric_days(self._store, self.scope, definition, self._window)
        return tuple(DayValue(day.day, day.value, int(day.count)) for day in found)

    def _find_day(self, metric: AlertMetric, day: date, scores: DailyScores | None) -> DayValue:
        questions = scores.questions if scores else 0
        if metric.name == "volume":
            return DayValue(day, float(questions), questions)
        if scores is None or not questions:
            return DayValue(day, None, 0)
        return DayValue(day, self._find_value(metric.name, day, scores), questions)

    def _find_value(self, name: str, day: date, scores: DailyScores) -> float | None:
        if name == "mean_score":
            return scores.mean if scores.count else None
        if name == "low_share":
            return self._share_low(scores)
        if name in ("empty_share", "failed_share"):
            return (scores.empty if name == "empty_share" else scores.failed) / scores.questions
        if name in ("latency_p50", "latency_p95"):
            found = self._list_numbers("latency_ms").get(day)
            return found.quantile(0.5 if name == "latency_p50" else 0.95) if found else None
        found = self._list_numbers(name).get(day)
        if found is None:
            return None
        return found.total if name == "cost_usd" else found.mean

    def _share_low(self, scores: DailyScores) -> float | None:
        if not scores.count:
            return None
        if self._threshold is None:
            low = self._sources.low_score
            self._threshold = find_threshold(self._store, scope=self.scope, today=self.today, low_score=low)
        return min(count_below(scores.histogram, self._threshold), scores.count) / scores.count

    def _list_scores(self) -> dict[date, DailyScores]:
        if self._scores is None:
            scale = find_present_scale(self._store, self.scope, today=self.today)
            found = list_days_on_scale(self._store, window=self._window, scope=self.scope, scale=scale)
            self._scores = {day.day: day for day in found if day.questions}
        return self._scores

    def _list_numbers(self, name: str) -> dict[date, MetricSums]:
        if name not in self._numbers:
            self._numbers[name] = list_metric_days(self._store, self.scope, [name], self._window).get(name, {})
        return self._numbers[name]

    def _count_gaps(self) -> float:
        found = list_backlog(self._store, self._sources.model, self.scope)
        return float(sum(topic.state is TopicState.OPEN for topic in found))

    def _list_canaries(self) -> Mapping[str, CanaryVerdict]:
        if self._sources.canaries is None:
            raise InvalidInput("metric", "canaries are not read here")
        return self._sources.canaries(self.scope.environment)

"""Shell: reports a metric by segment and day, recently and before, and which segment carries a change."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta

from core.log.retrievals import Window
from core.metrics.carrying import Carrier, find_carrier, has_parts
from core.metrics.daily import read_metric_days, read_metric_segments
from core.metrics.definition import MetricDay, MetricDefinition, say_metric_amount, say_metric_value
from quarterdeck.scope import Scope
from quarterdeck.store import Store

MOST_SEGMENTS = 50
RECENT_DAYS = 7


@dataclass(frozen=True, slots=True)
class MetricSegment:
    """A metric of one value of a dimension ("" for questions without one), by day and over both times.

    The means are over days, weighted by what was counted; None without any.
    """

    value: str
    days: tuple[MetricDay, ...]
    count: float
    before: float | None
    recent: float | None

    @property
    def change(self) -> float | None:
        """The recent figure less the one before; None while one of them is unknown."""
        return None if self.recent is None or self.before is None else self.recent - self.before


@dataclass(frozen=True, slots=True)
class SegmentsReport:
    """A metric by segment. `recent_from` is the first of the recent days; `left_out` values had fewer questions."""

    metric: MetricDefinition
    dimension: str
    recent_from: date
    whole: MetricSegment
    segments: tuple[MetricSegment, ...]
    left_out: int
    carrier: Carrier | None

    @property
    def sentence(self) -> str:
        """The change, and the segment that carries it."""
        return _say(self)


def report_metric_segments(
    store: Store,
    scope: Scope,
    metric: MetricDefinition,
    window: Window,
    dimension: str,
    *,
    recent_days: int = RECENT_DAYS,
) -> SegmentsReport:
    """Report on a metric by the values of a dimension, those with the most questions first.

    Recent are the last days of the window, at most half of it. Raises InvalidInput for an unknown dimension and for a
    metric of events, and SourceUnavailable.
    """
    length = (window.last - window.first).days + 1
    recent_from = window.last - timedelta(days=max(1, min(recent_days, length // 2)) - 1)
    found = read_metric_segments(store, scope, metric, window, dimension)
    whole = _measure("", read_metric_days(store, scope, metric, window), recent_from)
    segments = sorted((_measure(value, days, recent_from) for value, days in found.items()), key=lambda s: -s.count)
    carrier = find_carrier(found, recent_from) if has_parts(metric) else None
    left_out = max(0, len(segments) - MOST_SEGMENTS)
    return SegmentsReport(metric, dimension, recent_from, whole, tuple(segments[:MOST_SEGMENTS]), left_out, carrier)


def _measure(value: str, days: Sequence[MetricDay], recent_from: date) -> MetricSegment:
    recent, before = ([d for d in days if (d.day >= recent_from) is is_recent] for is_recent in (True, False))
    return MetricSegment(value, tuple(days), sum(d.count for d in days), _mean(before), _mean(recent))


def _mean(days: Sequence[MetricDay]) -> float | None:
    count = sum(day.count for day in days)
    return sum(day.count * day.value for day in days) / count if count else None


def _say(report: SegmentsReport) -> str:
    metric, whole = report.metric, report.whole
    since = f"since {report.recent_from:%d %b %Y}"
    if whole.recent is None:
        return f"{metric.name} has no figure {since}."
    now = say_metric_value(metric, whole.recent)
    if whole.change is None or whole.before is None:
        return f"{metric.name} is {now} {since}; there is no figure before."
    side = "above" if whole.change > 0 else "below"
    moved = f"{metric.name} is {now} {since}, {say_metric_amount(metric, whole.change)} {side} before"
    if report.carrier is not None:
        carrier = report.carrier
        return f"{moved}: {report.dimension} {carrier.value} carries {carrier.explained_share:.0%} of the change."
    if not has_parts(metric):
        return f"{moved}. Nothing is searched for what carries it, because a percentile is not made of its parts."
    return f"{moved}. No {report.dimension.replace('_', ' ')} carries the change."

"""Rule: what an alert can be about: the metrics, which direction is worse, and how their values are written."""

from dataclasses import dataclass
from enum import StrEnum

from core.errors import InvalidInput


class Unit(StrEnum):
    """What a value of a metric counts."""

    SCORE = "score"  # 0 to 1
    SHARE = "share"  # 0 to 1
    COUNT = "count"
    MILLISECONDS = "ms"
    DOLLARS = "usd"
    NUMBER = "number"


class ValueSource(StrEnum):
    """Where the values of a metric come from: one a day from the log, or one now."""

    DAYS = "days"
    NOW = "now"


@dataclass(frozen=True, slots=True)
class AlertMetric:
    """A metric. `is_shared` says that it is no service's own."""

    name: str
    title: str
    unit: Unit
    falls: bool = False  # whether lower is worse
    source: ValueSource = ValueSource.DAYS
    is_shared: bool = False

    @property
    def has_verdict(self) -> bool:
        """Whether a sequential verdict can watch it: a metric by day has one, and canaries have their own."""
        return self.source is ValueSource.DAYS or self.name == CANARY

    def say(self, value: float | None) -> str:
        """Return a value as people read it.

        >>> find_metric("failed_share").say(0.0312), find_metric("latency_p95").say(1234.5)
        ('3.1%', '1,234 ms')
        """
        if value is None:
            return "no value"
        if self.unit is Unit.SHARE:
            return f"{value:.1%}"
        if self.unit is Unit.MILLISECONDS:
            return f"{value:,.0f} ms"
        if self.unit is Unit.DOLLARS:
            return f"${value:,.4f}"
        if self.unit is Unit.COUNT:
            return f"{value:,.0f}"
        return f"{value:.2f}" if self.unit is Unit.SCORE else f"{value:,.4g}"


MEAN_SCORE, CANARY = "mean_score", "canary"
OWN = "own:"  # what the names of metrics begin with that people defined
METRICS = (
    AlertMetric(MEAN_SCORE, "Mean score", Unit.SCORE, falls=True),
    AlertMetric("low_share", "Share of low scores", Unit.SHARE),
    AlertMetric("empty_share", "Share without a hit", Unit.SHARE),
    AlertMetric("failed_share", "Share that failed", Unit.SHARE),
    AlertMetric("volume", "Questions a day", Unit.COUNT, falls=True),
    AlertMetric("latency_p50", "Latency, median", Unit.MILLISECONDS),
    AlertMetric("latency_p95", "Latency, 95th percentile", Unit.MILLISECONDS),
    AlertMetric("cost_usd", "Cost a day", Unit.DOLLARS),
    AlertMetric("feedback", "Mean feedback", Unit.NUMBER, falls=True),
    AlertMetric("coverage_gap", "Open coverage gaps", Unit.COUNT, source=ValueSource.NOW),
    AlertMetric(CANARY, "Canaries to roll back", Unit.COUNT, source=ValueSource.NOW, is_shared=True),
)  # fmt: skip
_BY_NAME = {metric.name: metric for metric in METRICS}


def find_metric(name: str) -> AlertMetric:
    """Return the metric of that name; `own:NAME` is one that people defined. Raises InvalidInput, listing all."""
    if name.startswith(OWN) and name != OWN:
        return AlertMetric(name, name.removeprefix(OWN), Unit.NUMBER)
    if name not in _BY_NAME:
        raise InvalidInput("metric", f"must be one of {', '.join(_BY_NAME)} or own:NAME, not {name[:80]!r}")
    return _BY_NAME[name]

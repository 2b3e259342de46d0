"""Rule: the metrics that every environment has, and how a metric is found by its name among these and own ones."""

from collections.abc import Iterable

from core.errors import InvalidInput
from core.metrics.definition import ERROR, MetricDefinition, MetricSource, Statistic

_MEAN, _SHARE = Statistic.MEAN, Statistic.SHARE
BUILT_IN = (
    MetricDefinition("score", MetricSource.SIMILARITY, _MEAN, margin=0.03),
    MetricDefinition("error rate", MetricSource.STATE, _SHARE, ERROR, is_higher_better=False, margin=0.02),
    MetricDefinition("latency", MetricSource.LATENCY, _MEAN, is_higher_better=False, margin=0.15, is_relative=True),
    MetricDefinition("cost", MetricSource.COST, _MEAN, is_higher_better=False, margin=0.15, is_relative=True),
    MetricDefinition("faithfulness", MetricSource.SCORE, _MEAN, "faithfulness", margin=0.05),
    MetricDefinition("feedback", MetricSource.SCORE, _MEAN, "feedback", margin=0.1),
    MetricDefinition(
        "latency p95", MetricSource.LATENCY, Statistic.PERCENTILE, is_higher_better=False, margin=0.15, is_relative=True
    ),
    MetricDefinition("tokens", MetricSource.TOKENS, _MEAN, is_higher_better=False, margin=0.15, is_relative=True),
    MetricDefinition("empty share", MetricSource.STATE, _SHARE, "empty", is_higher_better=False, margin=0.02),
    MetricDefinition("failed share", MetricSource.STATE, _SHARE, "failed", is_higher_better=False, margin=0.02),
    MetricDefinition("unscored share", MetricSource.STATE, _SHARE, "unscored", is_higher_better=False, margin=0.02),
)


def find_builtin(name: str) -> MetricDefinition:
    """Return the built-in metric of this name, in any case. Raises InvalidInput, listing them."""
    return find_metric(name, BUILT_IN)


def find_metric(name: str, known: Iterable[MetricDefinition]) -> MetricDefinition:
    """Return the metric of this name, in any case. Raises InvalidInput, listing the known ones."""
    listed, wanted = tuple(known), name.strip().casefold()
    for metric in listed:
        if metric.name.casefold() == wanted:
            return metric
    names = ", ".join(metric.name for metric in listed)
    raise InvalidInput("metric", f"there is no metric {name[:60]!r}; there are: {names}")

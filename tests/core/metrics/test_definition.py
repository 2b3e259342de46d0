"""What a metric may be, how it is worded, and that it survives being stored."""

from typing import Any

import pytest

from core.arms.arms import HIGHER_IS_BETTER, Metric
from core.errors import InvalidInput
from core.metrics.builtin import BUILT_IN, find_builtin
from core.metrics.definition import (
    MetricDefinition,
    MetricSource,
    Statistic,
    read_metric,
    say_metric_amount,
    say_metric_value,
    write_metric,
)

RESOLVED = MetricDefinition("resolved", MetricSource.EVENT, Statistic.SHARE, "resolved")
COST_PER_CLICK = MetricDefinition(
    "cost per click", MetricSource.COST, Statistic.RATIO, per="click", is_higher_better=False, margin=0.1,
    is_relative=True,
)  # fmt: skip
SLOW = MetricDefinition("slow", MetricSource.LATENCY, Statistic.SHARE, at_least=2_000, is_higher_better=False)


@pytest.mark.parametrize("metric", [*BUILT_IN, RESOLVED, COST_PER_CLICK, SLOW], ids=str)
def test_a_metric_survives_being_stored(metric: MetricDefinition) -> None:
    assert read_metric(write_metric(metric)) == metric


def test_metrics_are_worded_with_their_unit() -> None:
    assert [each.definition for each in (RESOLVED, COST_PER_CLICK, SLOW)] == [
        "share of users with the event resolved", "cost per click", "share of values of latency of at least 2000",
    ]  # fmt: skip
    assert find_builtin("Latency P95").definition == "95th percentile of latency"
    assert find_builtin("error rate").definition == "share of questions without a score"
    assert COST_PER_CLICK.shown_unit == "USD per click"
    assert say_metric_value(COST_PER_CLICK, 0.0312) == "$0.0312 per click"
    assert say_metric_value(RESOLVED, 0.125) == "12.5%"
    assert say_metric_amount(RESOLVED, -0.02) == "2.0 points"
    assert say_metric_value(MetricDefinition("stars", MetricSource.SCORE, Statistic.MEAN, "stars"), 4.256) == "4.26"


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("name", {"name": "a, b"}),
        ("name", {"name": " a"}),
        ("name", {"name": ""}),
        ("of", {"of": ""}),
        ("of", {"source": MetricSource.LATENCY, "of": "p95"}),
        ("of", {"source": MetricSource.STATE, "statistic": Statistic.SHARE, "of": "slow"}),
        ("statistic", {"source": MetricSource.STATE, "of": "empty"}),
        ("per", {"statistic": Statistic.RATIO}),
        ("per", {"per": "questions"}),
        ("percentile", {"statistic": Statistic.PERCENTILE, "percentile": 100.0}),
        ("at_least", {"at_least": 0.5}),
        ("at_least", {"statistic": Statistic.SHARE}),
        ("margin", {"margin": 0.0}),
        ("margin", {"margin": float("nan")}),
        ("margin", {"is_relative": True, "margin": 2.0}),
        ("unit", {"unit": "x" * 21}),
    ],
)
def test_a_wrong_field_is_named(field: str, change: dict[str, Any]) -> None:
    given = {"name": "m", "source": MetricSource.SCORE, "statistic": Statistic.MEAN, "of": "stars"} | change
    with pytest.raises(InvalidInput) as error:
        MetricDefinition(**given)
    assert error.value.field == field


def test_the_metrics_of_arms_are_built_in_with_the_same_direction() -> None:
    for metric in Metric:
        assert find_builtin(str(metric)).is_higher_better == (metric in HIGHER_IS_BETTER)
    with pytest.raises(InvalidInput, match="there is no metric 'speed'; there are: score, error rate"):
        find_builtin("speed")

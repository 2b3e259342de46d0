"""Metrics: what experiments, canaries and alerts can be about; those built in and those that people define."""

from typing import Annotated, Literal

from fastapi import Path
from pydantic import ConfigDict, Field

from app.http.backends import get_store
from app.http.v1.callers import From
from app.http.v1.changes import ChangeAnswer, Make
from app.http.v1.models import Answered, Environment, Limit, Page, Position, Reason, Reasoned, cut_page
from app.http.v1.routing import make_router
from core.metrics.builtin import BUILT_IN
from core.metrics.daily import list_metrics
from core.metrics.definition import (
    MAX_METRIC_NAME,
    MAX_OF,
    MAX_UNIT,
    MetricDefinition,
    MetricSource,
    Statistic,
    define_metric,
)
from core.metrics.operations import add_metric, remove_metric
from quarterdeck.scope import Scope

router = make_router("metrics")
OwnName = Annotated[str, Path(min_length=1, max_length=MAX_METRIC_NAME, examples=["resolution rate"])]


class MetricAnswer(Answered):
    """A metric: where its numbers come from, and which statistic of them counts."""

    name: str
    definition: str = Field(description="What it is in words.")
    source: MetricSource
    of: str = Field(description="The name of the score, event or state.")
    statistic: Statistic
    unit: str
    is_higher_better: bool
    margin: float = Field(description="How much worse an arm may be, in the unit, unless `is_relative`.")
    is_relative: bool = Field(description="Whether the margin is a share of the stable arm's figure.")
    is_built_in: bool


class MetricChange(Reasoned):
    """The definition of a metric under its name."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"source": "event", "statistic": "share", "of": "resolved", "reason": "it is what we promise"},
                {"source": "cost", "statistic": "ratio", "per": "questions", "margin": 0.1, "reason": "the bill grows"},
                {"source": "latency", "statistic": "percentile", "percentile": 99, "reason": "the slowest leave"},
            ]
        }
    )

    source: MetricSource
    statistic: Statistic
    of: str = Field("", max_length=MAX_OF)
    better: Literal["up", "down"] | None = None
    margin: float | None = Field(None, gt=0)
    is_relative: bool | None = None
    per: str = Field("", max_length=MAX_OF, description="Of a ratio: questions, values, users, or an event's name.")
    at_least: float | None = Field(None, description="Of a share: the number from which on a value counts.")
    percentile: float = Field(95.0, ge=1, le=99)
    unit: str = Field("", max_length=MAX_UNIT)
    environment: str | None = Field(None, max_length=64)


@router.get("/v1/metric-definitions", name="list_metrics")
def list_all_metrics(
    caller: From, environment: Environment = None, limit: Limit = 50, cursor: Position = None
) -> Page[MetricAnswer]:
    """Return the metrics of an environment: the built-in ones, then own ones."""
    named = caller.find_environment(environment)
    items, following = cut_page(list_metrics(get_store(), Scope(named, "")), cursor, limit)
    return Page[MetricAnswer](items=tuple(map(_describe, items)), next=following)


@router.post("/v1/metric-definitions/{name}", name="add_metric")
def post_metric(name: OwnName, body: MetricChange, make: Make) -> ChangeAnswer:
    """Define a metric. 409 if the name is taken."""
    metric = define_metric(
        name, body.source, body.statistic, of=body.of, better=body.better or "", margin=body.margin,
        relative=body.is_relative, per=body.per, at_least=body.at_least, percentile=body.percentile, unit=body.unit,
    )  # fmt: skip
    environment = make.caller.find_environment(body.environment)
    return make.make(body.reason, environment, lambda act: add_metric(get_store(), metric, act))


@router.delete("/v1/metric-definitions/{name}", name="remove_metric")
def delete_metric(name: OwnName, make: Make, reason: Reason, environment: Environment = None) -> ChangeAnswer:
    """Remove an own metric. Running experiments keep it; canaries that name it wait."""
    named = make.caller.find_environment(environment)
    return make.make(reason, named, lambda act: remove_metric(get_store(), name, act))


def _describe(metric: MetricDefinition) -> MetricAnswer:
    return MetricAnswer(
        name=metric.name, definition=metric.definition, source=metric.source, of=metric.of,
        statistic=metric.statistic, unit=metric.shown_unit, is_higher_better=metric.is_higher_better,
        margin=metric.margin, is_relative=metric.is_relative, is_built_in=metric in BUILT_IN,
    )  # fmt: skip

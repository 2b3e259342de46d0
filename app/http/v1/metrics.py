"""Metrics: what experiments, canaries and alerts can be about; those built in and those that people define."""

from datetime import date, timedelta
from typing import Annotated, Literal

from fastapi import Path, Query
from pydantic import ConfigDict, Field

from app.http.backends import get_store
from app.http.v1.callers import From
from app.http.v1.changes import ChangeAnswer, Make
from app.http.v1.models import (
    Answered,
    Days,
    Environment,
    Limit,
    Page,
    Position,
    Reason,
    Reasoned,
    Service,
    Untrusted,
    cut_page,
)
from app.http.v1.reads import today_of
from app.http.v1.routing import make_router
from core.log.retrievals import Window
from core.metrics.builtin import BUILT_IN
from core.metrics.daily import get_metric, list_metrics
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
from core.metrics.segments import report_metric_segments
from quarterdeck.scope import Scope

router = make_router("metrics")
Dimension = Annotated[
    str, Query(min_length=1, max_length=128, description="A built-in dimension, or one that the service declares.")
]
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


class MetricDayAnswer(Answered):
    """A metric on one day: its value, and how much is behind it."""

    day: date
    count: float
    value: float


class MetricSegmentAnswer(Answered):
    """A metric of one value of a dimension, empty for questions without one; recently, before, and by day."""

    value: Untrusted[str]
    count: float
    before: float | None
    recent: float | None
    change: float | None
    days: tuple[MetricDayAnswer, ...]


class CarrierAnswer(Answered):
    """The segment that carries the change, corrected for searching among all values."""

    value: Untrusted[str]
    change: float = Field(description="Of everything, as the mean over days.")
    without: float = Field(description="The change without this segment.")
    explained_share: float
    searched: int


class MetricSegmentsAnswer(Answered):
    """A metric by segment and day."""

    environment: str
    service: str
    metric: str
    dimension: str
    recent_from: date = Field(description="The first of the recent days, which are compared with those before.")
    sentence: Untrusted[str]
    whole: MetricSegmentAnswer
    segments: tuple[MetricSegmentAnswer, ...] = Field(description="Those with the most questions first, at most 50.")
    left_out: int
    carrier: CarrierAnswer | None


@router.get("/v1/metric-definitions", name="list_metrics")
def list_all_metrics(
    caller: From, environment: Environment = None, limit: Limit = 50, cursor: Position = None
) -> Page[MetricAnswer]:
    """Return the metrics of an environment: the built-in ones, then own ones."""
    named = caller.find_environment(environment)
    items, following = cut_page(list_metrics(get_store(), Scope(named, "")), cursor, limit)
    return Page[MetricAnswer](items=tuple(map(_describe, items)), next=following)


@router.get("/v1/metric-definitions/{name}/segments", name="get_metric_segments")
def get_metric_segments(
    caller: From, name: OwnName, dimension: Dimension = "prompt_version", environment: Environment = None,
    service: Service = None, days: Days = 30,
) -> MetricSegmentsAnswer:  # fmt: skip
    """Return a metric by the values of a dimension and by day, and the segment that carries its latest change."""
    store, scope = get_store(), caller.find_scope(environment, service)
    today = today_of(scope)
    window = Window(today - timedelta(days=days - 1), today)
    found = report_metric_segments(store, scope, get_metric(store, scope, name), window, dimension)
    return MetricSegmentsAnswer(
        environment=scope.environment, service=scope.service, metric=found.metric.name, dimension=found.dimension,
        recent_from=found.recent_from, sentence=found.sentence, left_out=found.left_out,
        whole=MetricSegmentAnswer.model_validate(found.whole),
        segments=tuple(map(MetricSegmentAnswer.model_validate, found.segments)),
        carrier=CarrierAnswer.model_validate(found.carrier) if found.carrier else None,
    )  # fmt: skip


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

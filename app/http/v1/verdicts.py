"""Verdicts of drift with their episodes, causes and days, the overview, and the timeline."""

from datetime import date, datetime, timedelta
from typing import Annotated

from fastapi import Query
from pydantic import Field

from app.http.backends import get_config, get_store
from app.http.v1.callers import From
from app.http.v1.changes import ChangeAnswer, Make
from app.http.v1.models import (
    Answered,
    Days,
    Environment,
    Limit,
    Page,
    Position,
    Reasoned,
    Service,
    Untrusted,
    cut_page,
)
from app.http.v1.reads import (
    GAP_DAYS,
    get_corpus,
    get_tracking,
    load_canaries,
    load_changes,
    load_drift,
    load_experiments,
    load_named_coverage,
    load_shelved,
    load_what_changed,
    today_of,
)
from app.http.v1.routing import make_router
from core.causes.causes import CauseKind
from core.causes.timeline import ChangeKind
from core.drift.episodes import EpisodeKind
from core.drift.operations import accept_level
from core.drift.report import DriftOverview, report_episodes
from core.drift.verdict import DriftStatus
from core.overview import (
    Area,
    Standing,
    describe_areas,
    describe_corpus,
    describe_coverage,
    describe_drift,
    describe_prompts,
    describe_rollouts,
)
from core.prompts.naming import list_naming
from quarterdeck.scope import Scope

router = make_router("verdicts")


class ScopeAnswer(Answered):
    """An environment and a service in it that reported questions."""

    environment: str
    service: str


class StatesAnswer(Answered):
    """How many questions have a similarity, a number that is none yet, hits without a number, no hits, an error."""

    scored: int
    unmapped: int
    unscored: int
    empty: int
    failed: int


class SegmentAnswer(Answered):
    """The verdict of one value of a dimension, such as a prompt version."""

    segment: Untrusted[str]
    status: DriftStatus
    count: int = Field(description="Questions in the recent window.")
    mean: float | None
    delta: float | None
    delta_low: float | None
    delta_high: float | None


class DimensionAnswer(Answered):
    """The verdicts of a dimension's segments, worst first."""

    dimension: str
    segments: tuple[SegmentAnswer, ...]


class VerdictAnswer(Answered):
    """Whether retrieval drifts: the status with its reason, and the means compared. Scores are 0 to 1."""

    environment: str
    service: str
    today: date
    status: DriftStatus
    reason: str
    action: str = Field(description="What to do about it.")
    recent_avg_score: float | None
    baseline_avg_score: float | None
    delta: float | None = Field(description="Recent minus reference mean; negative is a drop.")
    delta_low: float | None = Field(description="Lower end of its 95% interval.")
    delta_high: float | None = Field(description="Upper end of its 95% interval.")
    changed_on: date | None
    called_on: date | None
    outage_since: date | None
    recent_count: int
    baseline_count: int
    smallest_drop: float | None = Field(description="The smallest drop that these data would show.")
    notes: tuple[str, ...]
    states: StatesAnswer = Field(description="What became of the questions of the recent window, today included.")
    dimensions: tuple[DimensionAnswer, ...] = ()


class EpisodeAnswer(Answered):
    """A drop or an outage, now or in the past."""

    kind: EpisodeKind
    changed_on: date
    called_on: date
    ended_on: date | None
    fall: float | None = Field(description="How far the mean score fell.")


class TimelineAnswer(Answered):
    """A recorded change of the deck or of another system."""

    ts: datetime
    kind: ChangeKind
    target: Untrusted[str]
    summary: Untrusted[str]
    actor: Untrusted[str]
    reason: Untrusted[str]
    entry_id: int | None = Field(description="The audit entry, if the deck made the change.")
    reach: float = Field(description="The largest share of users who can be affected, 0 to 1.")
    url: Untrusted[str]


class CauseAnswer(Answered):
    """A possible cause of the drop, with how likely it is."""

    kind: CauseKind
    title: Untrusted[str]
    confidence: float = Field(description="0 to 1.")
    evidence: Untrusted[str]
    explained_share: float | None
    change: TimelineAnswer | None


class TopicShareAnswer(Answered):
    """The share of the fall that is due to the growth of a topic."""

    topic_id: str
    label: Untrusted[str]
    share: float


class CausesAnswer(Answered):
    """What explains the drop, the likeliest cause first; empty without a dated drop."""

    environment: str
    service: str
    sentence: Untrusted[str]
    causes: tuple[CauseAnswer, ...]
    topics: tuple[TopicShareAnswer, ...]
    segments: Untrusted[str] = Field(description="The segment that carries the drop, in a sentence; empty without one.")
    problems: tuple[str, ...] = Field(description="Sources that could not be read.")


class DayAnswer(Answered):
    """One day of a service."""

    day: date
    questions: int
    scored: int
    mean: float | None = Field(description="Mean similarity, 0 to 1; null on a day without scores.")
    unmapped: int
    unscored: int
    empty: int
    failed: int


class AreaAnswer(Answered):
    """How one area stands, in a sentence."""

    page: str
    standing: Standing
    sentence: Untrusted[str]
    figure: str
    change: str
    decision: Untrusted[str] = Field(description="What needs a decision today; empty for nothing.")


class OverviewAnswer(Answered):
    """The areas of the overview."""

    environment: str
    service: str
    areas: tuple[AreaAnswer, ...]


class LevelChange(Reasoned):
    """Accepts the level of scores since a day as normal; null withdraws that."""

    accepted_on: date | None
    service: str = Field(min_length=1, max_length=128)
    environment: str | None = Field(None, max_length=64)


@router.get("/v1/services")
def list_services(
    caller: From, environment: Environment = None, limit: Limit = 50, cursor: Position = None
) -> Page[ScopeAnswer]:
    """Return the environments and services that reported questions, as far as the token may see them."""
    items, following = cut_page(caller.list_visible(environment), cursor, limit)
    return Page[ScopeAnswer](items=tuple(map(ScopeAnswer.model_validate, items)), next=following)


@router.get("/v1/overview")
def get_overview(caller: From, environment: Environment = None, service: Service = None) -> OverviewAnswer:
    """Return one sentence per area: how it stands, and what needs a decision today.

    A token for some services gets the areas drift and coverage, because the others are of the whole environment.
    """
    scope = caller.find_scope(environment, service)
    readable = caller.may_read(scope.environment)
    steps = [
        ("drift", lambda: describe_drift(load_drift(scope), lambda: load_what_changed(scope, readable=readable))),
        ("coverage", lambda: _describe_coverage(scope, readable=readable)),
    ]
    if not caller.services:
        named = caller.find_environment(environment)
        steps += [
            ("prompts", _describe_prompts),
            ("corpus", lambda: describe_corpus(get_store(), get_corpus())),
            ("rollouts", lambda: _describe_rollouts(named)),
        ]
    areas = tuple(map(AreaAnswer.model_validate, describe_areas(steps)))
    return OverviewAnswer(environment=scope.environment, service=scope.service, areas=areas)


def _describe_prompts() -> Area:
    return describe_prompts(get_tracking(), get_config().experiment, naming=list_naming(get_store()))


def _describe_coverage(scope: Scope, *, readable: bool) -> Area:
    coverage, _ = load_named_coverage(scope, GAP_DAYS, readable=readable)
    return describe_coverage(coverage, load_shelved(scope, GAP_DAYS, readable=readable))


@router.get("/v1/verdict")
def get_verdict(caller: From, environment: Environment = None, service: Service = None) -> VerdictAnswer:
    """Return the drift verdict of a service with those of its segments."""
    scope = caller.find_scope(environment, service)
    found = load_drift(scope)
    dimensions = tuple(
        DimensionAnswer(dimension=name, segments=tuple(map(SegmentAnswer.model_validate, segments)))
        for name, segments in found.segments
    )
    return _describe(found, scope, dimensions)


@router.get("/v1/verdicts")
def list_verdicts(
    caller: From,
    environment: Environment = None,
    limit: Annotated[int, Query(ge=1, le=20, description="How many services a page has at most.")] = 10,
    cursor: Position = None,
) -> Page[VerdictAnswer]:
    """Return the drift verdict of each service, without segments."""
    scopes, following = cut_page(caller.list_visible(environment), cursor, limit)
    return Page[VerdictAnswer](items=tuple(_describe(load_drift(each), each) for each in scopes), next=following)


@router.get("/v1/episodes")
def list_episodes(
    caller: From,
    environment: Environment = None,
    service: Service = None,
    limit: Limit = 50,
    cursor: Position = None,
) -> Page[EpisodeAnswer]:
    """Return the drops and outages of a service, newest first."""
    scope = caller.find_scope(environment, service)
    found = report_episodes(get_store(), scope=scope, today=today_of(scope))
    newest = sorted(found, key=lambda each: each.changed_on, reverse=True)
    items, following = cut_page(newest, cursor, limit)
    return Page[EpisodeAnswer](items=tuple(map(EpisodeAnswer.model_validate, items)), next=following)


@router.get("/v1/causes")
def get_causes(caller: From, environment: Environment = None, service: Service = None) -> CausesAnswer:
    """Return why the score fell: causes with their evidence, and the topics that carry the drop.

    Topics are named by number unless the token has the scope `questions`.
    """
    scope = caller.find_scope(environment, service)
    told = load_what_changed(scope, readable=caller.may_read(scope.environment))
    return CausesAnswer(
        environment=scope.environment, service=scope.service, sentence=told.sentence,
        causes=tuple(map(CauseAnswer.model_validate, told.causes.ranked)),
        topics=tuple(map(TopicShareAnswer.model_validate, told.topics)), segments=told.segments,
        problems=told.problems,
    )  # fmt: skip


@router.get("/v1/timeline")
def list_timeline(
    caller: From,
    environment: Environment = None,
    service: Service = None,
    limit: Limit = 50,
    cursor: Position = None,
) -> Page[TimelineAnswer]:
    """Return the changes of the last 120 days that can concern a service, newest first."""
    caller.check_shared()
    scope = caller.find_scope(environment, service)
    newest = sorted(load_changes(scope)[0], key=lambda each: each.ts, reverse=True)
    items, following = cut_page(newest, cursor, limit)
    return Page[TimelineAnswer](items=tuple(map(TimelineAnswer.model_validate, items)), next=following)


@router.get("/v1/days")
def list_days(
    caller: From, environment: Environment = None, service: Service = None, days: Days = 30
) -> Page[DayAnswer]:
    """Return the daily scores of a service, oldest first."""
    scope = caller.find_scope(environment, service)
    since = today_of(scope) - timedelta(days=days - 1)
    found = (day for day in load_drift(scope).days if day.day >= since)
    items = tuple(
        DayAnswer(
            day=day.day, questions=day.questions, scored=day.count, mean=day.mean if day.count else None,
            unmapped=day.unmapped, unscored=day.unscored, empty=day.empty, failed=day.failed,
        )
        for day in found
    )  # fmt: skip
    return Page[DayAnswer](items=items, next=None)


@router.put("/v1/accepted-level", name="accept_level")
def put_accepted_level(body: LevelChange, make: Make) -> ChangeAnswer:
    """Accept the level of a service's scores since a day as normal, or withdraw that."""
    scope = make.caller.find_scope(body.environment, body.service)
    return make.make(
        body.reason,
        scope.environment,
        lambda act: accept_level(get_store(), body.accepted_on, act, service=scope.service),
    )


def _describe(found: DriftOverview, scope: Scope, dimensions: tuple[DimensionAnswer, ...] = ()) -> VerdictAnswer:
    report = found.report
    told = {name: getattr(report, name) for name in VerdictAnswer.model_fields if hasattr(report, name)}
    return VerdictAnswer(
        **told, environment=scope.environment, service=scope.service, today=today_of(scope),
        states=StatesAnswer.model_validate(found.states), dimensions=dimensions,
    )  # fmt: skip


def _describe_rollouts(environment: str) -> Area:
    return describe_rollouts(
        get_store(), environment, lambda: load_canaries(environment), lambda: load_experiments(environment)
    )

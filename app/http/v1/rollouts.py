"""Canaries and A/B experiments: how each stands, and the changes that a person may make to it."""

import math
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Annotated

from pydantic import Field

from app.http.backends import get_store
from app.http.v1.callers import From
from app.http.v1.changes import ChangeAnswer, Make
from app.http.v1.models import Answered, Asked, Environment, Limit, Page, Position, Reasoned, cut_page
from app.http.v1.reads import load_canaries, load_experiments
from app.http.v1.routing import make_router
from core.arms.comparisons import ArmComparison, Margin
from core.audit.acts import Act
from core.errors import Conflict
from core.flags.definition import FlagDefinition
from core.flags.layers import find_layer
from core.flags.store import Flag, get_flag
from core.metrics.daily import list_metrics
from core.metrics.definition import MAX_METRIC_NAME, MetricDefinition
from core.rollouts.canaries import CanaryReport, get_canary, promote_canary, roll_back_canary
from core.rollouts.canary import CanaryCall
from core.rollouts.experiment import ExperimentCall
from core.rollouts.experiment_design import Direction, parse_guardrail, parse_metric, plan_experiment
from core.rollouts.experiment_records import Experiment, ExperimentState, get_experiment
from core.rollouts.experiments import ExperimentReport, LayerPlace, decide_for, start_experiment, stop_experiment
from quarterdeck.scope import Scope

router = make_router("rollouts")
LONGEST_KEY = 300
Key = Annotated[str, Field(min_length=1, max_length=LONGEST_KEY)]
Name = Annotated[str, Field(min_length=1, max_length=100)]
MetricName = Annotated[
    str, Field(min_length=1, max_length=MAX_METRIC_NAME, description="A name of /v1/metric-definitions.")
]


class ComparisonAnswer(Answered):
    """One metric of green compared with blue: how much worse it is, with the bounds that hold at any time."""

    metric: str
    stable_mean: float | None
    other_mean: float | None
    margin: float = Field(description="How much worse it may be, in the metric's unit.")
    harm: float | None
    least_harm: float | None
    most_harm: float | None
    is_safe: bool
    is_worse: bool


class CanaryAnswer(Answered):
    """A canary: its share of users, and what to do with it."""

    flag: str
    version: int = Field(description="Send it with a change: 409 if the flag was changed since.")
    share_pct: float
    since: datetime
    is_planned: bool
    call: CanaryCall
    is_healthy: bool
    reason: str
    missing: tuple[str, ...]
    comparisons: tuple[ComparisonAnswer, ...]
    signals: tuple[ComparisonAnswer, ...] = Field(description="Metrics that only pause it.")
    warnings: tuple[str, ...] = Field(description="Metrics whose margin is too large ever to be exceeded.")


class LiftAnswer(Answered):
    """How much better an arm is than the control in a metric, with the bounds that hold at any time."""

    arm: str
    metric: str
    gain: float | None
    least: float | None
    most: float | None


class ExperimentAnswer(Answered):
    """An A/B experiment: its design, its users by arm, and what to do with it."""

    name: str
    flag: str
    environment: str
    state: ExperimentState
    version: int = Field(description="Send it with a change: 409 if somebody else was faster.")
    arms: tuple[str, ...] = Field(description="The control first.")
    layer: str | None = Field(description="The layer whose users it shares with no other experiment; null for none.")
    metric: str
    direction: Direction
    effect: float
    started: datetime
    started_by: str
    ended: datetime | None
    winner: str
    users: dict[str, int]
    crossed: int = Field(description="Users who were in two arms, and count in none.")
    mismatch_p: float | None = Field(description="Always-valid p-value of the split; below 0.001 it is wrong.")
    likely_reasons: tuple[str, ...] = Field(description="Why users are not split as they should be.")
    call: ExperimentCall
    reason: str
    missing: tuple[str, ...]
    lifts: tuple[LiftAnswer, ...]


class CanaryMove(Reasoned):
    """Takes a canary's next step, or everybody back to blue."""

    flag: Key
    version: int = Field(ge=1)
    environment: str | None = Field(None, max_length=64)


class GuardrailChange(Asked):
    """How much worse another metric may get."""

    metric: MetricName
    amount: float | None = Field(None, gt=0, description="Of an own metric, its margin by default.")


class ExperimentStart(Reasoned):
    """The design of an experiment on a flag that splits its users."""

    name: Name
    flag: Key
    version: int = Field(ge=1, description="The flag's version.")
    metric: MetricName
    effect: float = Field(gt=0, description="The smallest difference worth having, in the metric's unit.")
    control: str = Field("", max_length=300)
    direction: Direction | None = None
    guardrails: tuple[GuardrailChange, ...] = Field((), max_length=20)
    further: tuple[MetricName, ...] = Field((), max_length=20, description="Metrics that are shown and decide nothing.")
    min_run_days: float = Field(7.0, ge=0, le=365)
    services: tuple[Annotated[str, Field(min_length=1, max_length=128)], ...] = Field((), max_length=20)
    reported: bool = Field(False, description="Count users where a service reports that they saw it, not when it asks.")
    layer: str = Field("", max_length=63, description="Take only users of this layer who are in no other experiment.")
    layer_share_pct: float = Field(10.0, gt=0, le=100, description="Of the layer's users, this percentage.")
    confirm: str = Field("", max_length=LONGEST_KEY, description="The flag's key, if most of production would change.")
    environment: str | None = Field(None, max_length=64)


class ExperimentStop(Reasoned):
    """Ends an experiment without a winner."""

    name: Name
    version: int = Field(ge=0)
    environment: str | None = Field(None, max_length=64)


class ExperimentDecision(ExperimentStop):
    """Ends an experiment with a winner, whom everybody gets."""

    arm: str = Field(min_length=1, max_length=300)
    confirm: str = Field("", max_length=LONGEST_KEY, description="The flag's key, if most of production would change.")


@router.get("/v1/canaries", name="list_canaries")
def list_all_canaries(
    caller: From, environment: Environment = None, limit: Limit = 50, cursor: Position = None
) -> Page[CanaryAnswer]:
    """Return the canaries of an environment with their verdicts."""
    named = caller.find_environment(environment)
    items, following = cut_page(load_canaries(named), cursor, limit)
    return Page[CanaryAnswer](items=tuple(map(_describe_canary, items)), next=following)


@router.post("/v1/canaries/promote", name="promote_canary")
def promote_one_canary(body: CanaryMove, make: Make) -> ChangeAnswer:
    """Take the next step of a canary's plan, whatever its verdict. The last one lets an index go live everywhere."""
    environment = make.caller.find_environment(body.environment)
    return make.make(
        body.reason,
        environment,
        lambda act: promote_canary(get_store(), _expect(get_canary(get_store(), environment, body.flag), body), act),
    )


@router.post("/v1/canaries/rollback", name="roll_back_canary")
def roll_back_one_canary(body: CanaryMove, make: Make) -> ChangeAnswer:
    """Put everybody back on blue."""
    environment = make.caller.find_environment(body.environment)
    return make.make(
        body.reason,
        environment,
        lambda act: roll_back_canary(get_store(), _expect(get_canary(get_store(), environment, body.flag), body), act),
    )


@router.get("/v1/experiments", name="list_experiments")
def list_all_experiments(
    caller: From, environment: Environment = None, limit: Limit = 50, cursor: Position = None
) -> Page[ExperimentAnswer]:
    """Return the experiments of an environment with their verdicts."""
    named = caller.find_environment(environment)
    items, following = cut_page(load_experiments(named), cursor, limit)
    return Page[ExperimentAnswer](items=tuple(map(_describe_experiment, items)), next=following)


@router.post("/v1/experiments", name="start_experiment")
def post_experiment(body: ExperimentStart, make: Make) -> ChangeAnswer:
    """Start an experiment: clients record its users from now on."""
    environment = make.caller.find_environment(body.environment)

    def start(act: Act) -> int:
        flag = _expect(get_flag(get_store(), environment, body.flag), body)
        known = list_metrics(get_store(), Scope(environment, ""))
        design = plan_experiment(
            flag.key, flag.view, name=body.name, metric=parse_metric(body.metric, known), effect=body.effect,
            control=body.control, direction=body.direction, min_run=timedelta(days=body.min_run_days),
            guardrails=[_read_guardrail(each, known) for each in body.guardrails], services=body.services,
            further=[parse_metric(each, known) for each in body.further],
        )  # fmt: skip
        place = LayerPlace(body.layer, body.layer_share_pct) if body.layer else None
        now = datetime.now(UTC)
        return start_experiment(
            get_store(), flag, design, act, place=place, reported=body.reported, typed_name=body.confirm, now=now
        )

    return make.make(body.reason, environment, start)


@router.post("/v1/experiments/stop", name="stop_experiment")
def stop_one_experiment(body: ExperimentStop, make: Make) -> ChangeAnswer:
    """End an experiment without a winner; the flag serves as before."""
    environment = make.caller.find_environment(body.environment)
    return make.make(
        body.reason, environment, lambda act: stop_experiment(get_store(), _find_experiment(environment, body), act)
    )


@router.post("/v1/experiments/decide", name="decide_experiment")
def decide_one_experiment(body: ExperimentDecision, make: Make) -> ChangeAnswer:
    """End an experiment with a winner, whom everybody gets from now on."""
    environment = make.caller.find_environment(body.environment)
    return make.make(
        body.reason,
        environment,
        lambda act: decide_for(
            get_store(), _find_experiment(environment, body), body.arm, act, typed_name=body.confirm,
            now=datetime.now(UTC),
        ),
    )  # fmt: skip


def _read_guardrail(asked: GuardrailChange, known: Iterable[MetricDefinition]) -> Margin:
    if asked.amount is None:
        return parse_guardrail(asked.metric, known)
    return Margin(parse_metric(asked.metric, known), asked.amount)


def _expect(flag: Flag, asked: CanaryMove | ExperimentStart) -> Flag:
    """Return the flag if it is the version that the caller saw. Raises Conflict."""
    if flag.version != asked.version:
        raise Conflict(f"flag {flag.key!r} is at version {flag.version}, not {asked.version}; read it again")
    return flag


def _find_experiment(environment: str, asked: ExperimentStop) -> Experiment:
    found = get_experiment(get_store(), environment, asked.name)
    if found.version != asked.version:
        raise Conflict(f"experiment {asked.name!r} is at version {found.version}, not {asked.version}; read it again")
    return found


def _describe_canary(report: CanaryReport) -> CanaryAnswer:
    verdict = report.verdict
    return CanaryAnswer(
        flag=report.flag.key, version=report.flag.version, share_pct=report.share_pct, since=report.since,
        is_planned=report.is_planned, call=verdict.call, is_healthy=verdict.is_healthy, reason=verdict.reason,
        missing=verdict.missing, comparisons=tuple(map(_describe_comparison, verdict.comparisons)),
        signals=tuple(map(_describe_comparison, verdict.signals)), warnings=verdict.warnings,
    )  # fmt: skip


def _describe_comparison(compared: ArmComparison) -> ComparisonAnswer:
    return ComparisonAnswer(
        metric=str(compared.metric), stable_mean=_known(compared.stable.mean), other_mean=_known(compared.other.mean),
        margin=compared.margin, harm=compared.harm, least_harm=_known(compared.least_harm),
        most_harm=_known(compared.most_harm), is_safe=compared.is_safe, is_worse=compared.is_worse,
    )  # fmt: skip


def _describe_experiment(report: ExperimentReport) -> ExperimentAnswer:
    experiment, verdict, design = report.experiment, report.verdict, report.experiment.design
    lifts: Iterable[LiftAnswer] = (
        LiftAnswer(
            arm=each.arm, metric=str(each.metric), gain=each.gain, least=_known(each.least), most=_known(each.most)
        )
        for each in verdict.lifts
    )
    return ExperimentAnswer(
        name=design.name, flag=design.flag, environment=experiment.environment, state=experiment.state,
        version=experiment.version, arms=design.arms, metric=str(design.metric), direction=design.direction,
        layer=find_layer(FlagDefinition(experiment.definition)),
        effect=design.effect, started=experiment.started, started_by=experiment.started_by, ended=experiment.ended,
        winner=experiment.winner, users=report.noted, call=verdict.call, reason=verdict.reason,
        missing=verdict.missing, lifts=tuple(lifts), crossed=report.crossed, mismatch_p=verdict.mismatch_p,
        likely_reasons=report.reasons,
    )  # fmt: skip


def _known(number: float | None) -> float | None:
    """Return a number, None for one that is infinite or none, which is how bounds without data are told."""
    return number if number is not None and math.isfinite(number) else None

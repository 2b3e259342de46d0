"""Prompt evaluations: experiments in MLflow, their runs, the winner by a rule, and what is in production."""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated

from fastapi import Path, Query
from pydantic import Field

from app.http.backends import get_config, get_store
from app.http.v1.callers import From
from app.http.v1.changes import ChangeAnswer, Make
from app.http.v1.flags import ExperimentAfter, read_experiment
from app.http.v1.models import Answered, Limit, Page, Position, Reasoned, Untrusted, cut_page, lead_to, read_position
from app.http.v1.reads import get_tracking
from app.http.v1.routing import make_router
from core.errors import NotFound
from core.prompts.contests import Verdict, find_experiment, report_prompts
from core.prompts.decisions import WinnerRule
from core.prompts.naming import list_naming
from core.prompts.promotion import Serving, find_promotion, promote, roll_back
from core.tracking.runs import Run, RunFilter

router = make_router("prompts")
Named = Annotated[
    str | None,
    Query(alias="experiment", max_length=500, description="The MLflow experiment (default: as on the page)."),
]
PromptName = Annotated[str, Path(min_length=1, max_length=250)]


class RunAnswer(Answered):
    """A run in MLflow."""

    run_id: str
    name: Untrusted[str]
    experiment: Untrusted[str]
    status: str
    started: datetime
    metrics: dict[str, float | None]
    params: Untrusted[dict[str, str]]


class ContenderAnswer(Answered):
    """A compared version of a prompt, by its newest run."""

    run_id: str
    label: Untrusted[str]
    faithfulness: float | None
    cost_usd: float | None = Field(description="Mean cost of a query.")
    case_count: int | None
    problem: Untrusted[str] = Field(description="Why it is not judged case by case; empty if it is.")


class IntervalAnswer(Answered):
    """A 95% interval."""

    low: float
    high: float


class WinnerAnswer(Answered):
    """Which version wins by a rule, and how it compares with its rival."""

    experiment: str
    prompt: str
    rule: WinnerRule
    verdict: Verdict
    reason: Untrusted[str]
    winner: Untrusted[str | None] = Field(description="The label of the winner; null without one.")
    winner_run_id: str | None
    production: str | None = Field(description="What is in production.")
    cases: int
    difference: float | None
    interval: IntervalAnswer | None
    contenders: tuple[ContenderAnswer, ...]
    notes: Untrusted[tuple[str, ...]]


class PromotionAnswer(Answered):
    """The last promotion of a prompt: what it put into production, and what was there before."""

    audit_entry: int
    at: datetime
    actor: str
    former: str
    promoted: str
    is_partial: bool = Field(
        description="Whether a flag brings it to a part of the users; then `former` is in production."
    )


class PromotionChange(Reasoned):
    """Puts the prompt of a run into production; `reason` is the decision, which the run keeps too."""

    run_id: str = Field(min_length=1, max_length=64)
    expected: int | None = Field(ge=0, description="The registry's version in production now; null for none.")
    flag: str | None = Field(None, min_length=1, max_length=300, description="The flag that serves it; null for none.")
    rollout_pct: float = Field(
        20.0, ge=0, le=100, description="Users who get it, in percent. Below 100, production stays as it is."
    )
    experiment: ExperimentAfter | None = Field(None, description="Starts on the flag, in the same step.")


@router.get("/v1/runs/experiments")
def list_tracking_experiments(caller: From, limit: Limit = 50, cursor: Position = None) -> Page[str]:
    """Return the names of the experiments in MLflow."""
    caller.check_shared()
    items, following = cut_page(get_tracking().list_experiments(), cursor, limit)
    return Page[str](items=tuple(items), next=following)


@router.get("/v1/runs", responses=lead_to(get_run={"parameters": {
    "run_id": "$response.body#/items/0/run_id",
}}))  # fmt: skip
def list_runs(
    caller: From,
    experiment: Named = None,
    prompt: Annotated[str | None, Query(max_length=250)] = None,
    version: Annotated[str | None, Query(max_length=250)] = None,
    limit: Limit = 50,
    cursor: Position = None,
) -> Page[RunAnswer]:
    """Return the runs of an experiment, newest first."""
    caller.check_shared()
    where, start = RunFilter(_choose(experiment), prompt=prompt, version=version), read_position(cursor)
    found = get_tracking().page_runs(where, limit=limit + 1, offset=start).runs
    following = str(start + limit) if len(found) > limit else None
    answers = tuple(RunAnswer.model_validate(_tell(each)) for each in found[:limit])
    return Page[RunAnswer](items=answers, next=following)


@router.get("/v1/runs/{run_id}")
def get_run(caller: From, run_id: Annotated[str, Path(min_length=1, max_length=64)]) -> RunAnswer:
    """Return one run."""
    caller.check_shared()
    return RunAnswer.model_validate(_tell(get_tracking().get_run(run_id)))


@router.get("/v1/winner")
def get_winner(
    caller: From,
    experiment: Named = None,
    rule: WinnerRule = WinnerRule.FAITHFULNESS_PER_COST,
    ceiling_usd: Annotated[float | None, Query(gt=0, le=10, description="At most, USD a query.")] = None,
) -> WinnerAnswer:
    """Return which version of a prompt wins by a rule, over the newest run of each version."""
    caller.check_shared()
    named = _choose(experiment)
    found = report_prompts(
        get_tracking(), experiment=named, rule=rule, ceiling_usd=ceiling_usd, naming=list_naming(get_store())
    )
    decision = found.decision
    return WinnerAnswer(
        experiment=named, prompt=found.prompt, rule=rule, verdict=found.verdict,
        reason=found.reason, winner=found.winner.label if found.winner else None,
        winner_run_id=found.winner.run.run_id if found.winner else None,
        production=found.production.label if found.production else None, cases=decision.cases if decision else 0,
        difference=decision.difference if decision else None,
        interval=IntervalAnswer.model_validate(decision.interval) if decision and decision.interval else None,
        contenders=tuple(
            ContenderAnswer(
                run_id=each.run.run_id, label=each.label, faithfulness=each.faithfulness, cost_usd=each.cost_usd,
                case_count=each.case_count, problem=each.problem,
            )
            for each in found.contenders
        ),
        notes=found.notes,
    )  # fmt: skip


@router.get("/v1/promotions/{prompt}")
def get_promotion(caller: From, prompt: PromptName) -> PromotionAnswer:
    """Return the last promotion of a prompt."""
    caller.check_shared()
    found = find_promotion(get_store(), prompt)
    if found is None:
        raise NotFound(f"promotion: {prompt[:80]!r} was never promoted")
    return PromotionAnswer(
        audit_entry=found.entry.entry_id, at=found.entry.ts, actor=found.entry.actor, former=found.former.name,
        promoted=found.promoted.partly or found.promoted.name, is_partial=bool(found.promoted.partly),
    )  # fmt: skip


@router.post("/v1/promotions", name="promote_prompt")
def post_promotion(body: PromotionChange, make: Make) -> ChangeAnswer:
    """Put the prompt of a run into production, with the flag that serves it. The token needs `shared` too."""
    make.caller.check_shared()
    serving = Serving(body.flag, body.rollout_pct) if body.flag else None
    return make.make(
        body.reason,
        make.caller.environment,
        lambda act: promote(
            get_store(),
            get_tracking(),
            body.run_id,
            act,
            serving=serving,
            expected=body.expected,
            then=read_experiment(body.experiment),
        ),
    )


@router.post("/v1/promotions/{prompt}/rollback", name="roll_back_prompt")
def roll_back_promotion(prompt: PromptName, body: Reasoned, make: Make) -> ChangeAnswer:
    """Take the last promotion of a prompt back. The token needs the scope `shared` too."""
    make.caller.check_shared()
    return make.make(
        body.reason, make.caller.environment, lambda act: roll_back(get_store(), get_tracking(), prompt, act)
    )


def _choose(experiment: str | None) -> str:
    return find_experiment(get_tracking(), experiment or get_config().experiment, naming=list_naming(get_store()))


def _tell(run: Run) -> Mapping[str, object]:
    return {
        "run_id": run.run_id, "name": run.name, "experiment": run.experiment, "status": run.status,
        "started": run.started, "metrics": dict(run.metrics), "params": dict(run.params),
    }  # fmt: skip

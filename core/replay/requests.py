"""Shell: runs a replay as somebody asks for it: checks everything first, opens models and the corpus, and foresees.

`replaying.py` searches; this module knows the configuration.
"""

from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path

from core.config import Config
from core.corpus.corpus import Corpus
from core.coverage.assignments import TopicAssignments, assign_topics
from core.coverage.report import find_threshold, report_coverage
from core.drift.report import get_accepted_day, report_drift
from core.embedding.embed import Embedder
from core.embedding.vectors import VectorCache
from core.errors import InvalidInput, SourceUnavailable
from core.indexes.builds import get_live
from core.indexes.ingest import OnProgress
from core.indexes.registry import get_index
from core.log.retrievals import last_days
from core.prompts.answers import EXTRACTIVE
from core.prompts.bench import read_text
from core.prompts.prices import parse_prices
from core.prompts.prompts import Prompt
from core.prompts.registered import settle_prompt
from core.prompts.spending import Budget
from core.prompts.trials import Trial, open_models, read_prompt
from core.replay.candidates import ReplayCandidate
from core.replay.comparison import ReplayResult
from core.replay.prompting import ANSWERS, AnswerPlan
from core.replay.remembered import replaying_alone
from core.replay.replaying import SAMPLE, ReplayPlan, replay_sides
from core.replay.staging import StagingTools, stage_sides
from core.replay.watching import foresee_drift
from core.tracking.gateway import Tracking
from quarterdeck.scope import Scope
from quarterdeck.store import Store

FOLDER = "replays"  # below the deck's home


@dataclass(frozen=True, slots=True)
class ReplayRequest:
    """What is replayed against what, over which questions.

    The candidate's parts are those of `ReplayCandidate`; `prompt` and `live_prompt` are files or registered versions.
    `answering` says who answers and judges, at what price and under which ceiling; its prompts and cases are not used.
    """

    index: str = ""
    documents: str = ""
    characters: int | None = None
    embedding_model: str = ""
    reranker: str = ""
    depth: int = 30
    prompt: str = ""
    live_prompt: str = ""
    live_reranker: str = ""
    reranker_usd: float = 0.0
    alias: str = "default"
    window_days: int = 7
    sample: int = SAMPLE
    seed: int = 0
    top_k: int = 5
    has_topics: bool = True
    answers: int = ANSWERS
    answering: Trial = field(default_factory=lambda: Trial(()))


def run_replay(
    config: Config,
    store: Store,
    scope: Scope,
    request: ReplayRequest,
    *,
    today: date,
    on_progress: OnProgress | None = None,
) -> ReplayResult:
    """Return the replay of a request. Vectors, rerankings and answers are remembered, so a canceled one goes on.

    Raises InvalidInput and NotFound before anything is searched for a wrong candidate, prompt, model, price or index,
    Conflict while the same candidate is replayed for this scope, CeilingReached when a reranker passes the ceiling, and
    SourceUnavailable.
    """
    live = get_live(store, request.alias)
    budget = Budget(request.answering.max_cost_usd)
    candidate = read_candidate(config, request)
    plan = _plan_answers(config, request, candidate.prompt, budget)
    if candidate.index:
        get_index(store, candidate.index)
    with replaying_alone(config.home / FOLDER, candidate.name, f"{scope.service} in {scope.environment}"):
        cache = VectorCache(store)
        topics, threshold = _group(config, store, scope, request, today)
        tools = StagingTools(
            lambda model: Embedder(model, cache=cache), lambda: Corpus(config.corpus_repo), config.home / FOLDER,
            budget, request.reranker_usd,
        )  # fmt: skip
        questions = ReplayPlan(
            scope, last_days(request.window_days, until=today), threshold, sample=request.sample, top_k=request.top_k,
            seed=request.seed,
        )  # fmt: skip
        with stage_sides(
            store, live, candidate, tools, live_reranker=request.live_reranker, on_progress=on_progress
        ) as sides:
            found = replay_sides(
                store, tools.embedder_of, sides, questions, changes=candidate.changes, prompt=candidate.prompt,
                answers=plan, topics=topics, on_progress=on_progress,
            )  # fmt: skip
    return foresee(store, found, today=today)


def read_candidate(config: Config, request: ReplayRequest) -> ReplayCandidate:
    """Return the candidate of a request, its prompt read. Raises InvalidInput and NotFound."""
    prompt = read_prompt(Tracking(config.tracking_uri), Path(request.prompt)) if request.prompt else None
    return ReplayCandidate(
        request.index, request.documents, request.characters, request.embedding_model, request.reranker, request.depth,
        prompt,
    )  # fmt: skip


def foresee(store: Store, found: ReplayResult, *, today: date) -> ReplayResult:
    """Return a replay with the verdicts that are watched as they would become.

    A change of the embedding model begins a new reference, so there is no verdict to foresee.
    """
    if found.about.changes_model or not found.score.value:
        return found
    scope = Scope(found.about.environment, found.about.service)
    days = report_drift(store, scope=scope, today=today).days
    watched = foresee_drift(days, found.score, today=today, accepted_on=get_accepted_day(store, scope))
    return replace(found, watched=(watched,) if watched else ())


def _group(
    config: Config, store: Store, scope: Scope, request: ReplayRequest, today: date
) -> tuple[TopicAssignments | None, float]:
    """Return the topics of the scope's low-scoring questions, and the scope's threshold."""
    if not request.has_topics:
        return None, find_threshold(store, scope=scope, today=today, low_score=config.low_score)
    coverage = report_coverage(
        store, Embedder(config.embedding_model, cache=VectorCache(store)), scope=scope, today=today,
        window_days=request.window_days, low_score=config.low_score,
    )  # fmt: skip
    return assign_topics(coverage), coverage.threshold


def _plan_answers(config: Config, request: ReplayRequest, prompt: Prompt | None, budget: Budget) -> AnswerPlan | None:
    """Return how questions are answered; None where no prompt is given."""
    asks = request.answering
    is_paid = asks.answerer != EXTRACTIVE or asks.judge != "offline" or bool(request.reranker_usd)
    if is_paid and asks.max_cost_usd is None:
        raise InvalidInput("max-cost-usd", "say what the replay may cost: models and servers are paid by the question")
    if prompt is None and not request.live_prompt:
        if asks.answerer != EXTRACTIVE:
            raise InvalidInput("prompt", f"{asks.answerer} answers a prompt; name one with --prompt or --live-prompt")
        return None
    live = _read_live_prompt(Tracking(config.tracking_uri), request.live_prompt, prompt)
    prices = parse_prices(read_text(asks.prices), source=str(asks.prices))
    answerer, judge = open_models(asks, prices, budget)
    folder = config.home / FOLDER
    return AnswerPlan(live, prices, folder, request.answers, answerer, judge, budget, asks.concurrency)


def _read_live_prompt(tracking: Tracking, named: str, prompt: Prompt | None) -> Prompt:
    """Return the prompt that answers now: the one that is named, else the version in production."""
    if named or prompt is None:
        return read_prompt(tracking, Path(named))
    try:
        production = tracking.production_version(prompt.name, with_runs=True)
    except SourceUnavailable as error:
        raise SourceUnavailable(f"{error}. Or name the prompt that answers now with --live-prompt.") from error
    if production is None:
        problem = f"no version of {prompt.name} is in production; name the prompt that answers now"
        raise InvalidInput("live-prompt", problem)
    return settle_prompt(tracking, production)

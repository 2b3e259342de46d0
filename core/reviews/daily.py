"""Shell: runs the configured judge over production answers, within what is left of the day's budget."""

from datetime import datetime

from core.config import PROJECT, Config
from core.embedding.embed import Embedder
from core.embedding.vectors import VectorCache
from core.prompts.bench import read_text
from core.prompts.models import Protocols, open_model
from core.prompts.prices import parse_prices
from core.prompts.spending import Budget
from core.reviews.judged import sum_judging
from core.reviews.judging import (
    ProductionJudge,
    judge_all_answers,
    make_model_judge,
    make_offline_judge,
    start_of_day,
)
from quarterdeck.store import Store

PRICES = PROJECT / "data" / "prices.yaml"


def judge_production(config: Config, store: Store, *, now: datetime) -> int:
    """Judge a part of the sample of production answers of every scope; return how many.

    Without a model the offline judge does it. Does nothing once the day's budget is spent. Raises InvalidInput for a
    model without a price, SourceUnavailable.
    """
    if not config.judge_answers:
        return 0
    embedder = Embedder(config.embedding_model, cache=VectorCache(store))
    judge = _open_judge(config, store, embedder, now=now)
    if judge is None:
        return 0
    return judge_all_answers(store, embedder, judge, now=now, per_day=config.judge_answers)


def _open_judge(config: Config, store: Store, embedder: Embedder, *, now: datetime) -> ProductionJudge | None:
    """Return the judge; None where its budget of the day is spent."""
    if not config.judge_model:
        return make_offline_judge(embedder)
    left = config.judge_usd - sum_judging(store, since_ms=start_of_day(now)).spent_usd
    if left <= 0:
        return None
    budget = Budget(left)
    protocol, _, name = config.judge_model.partition(":")
    prices = parse_prices(read_text(PRICES), source=str(PRICES))
    return make_model_judge(open_model(Protocols(protocol), name, prices=prices, budget=budget), budget)

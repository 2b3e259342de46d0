"""Rule: compares the answers of two prompts, or of one over two searches: faithfulness, refusals, cost and time.

`prompting.py` gets the answers and has them judged.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np

from core.replay.sampling import DrawnQuestion
from core.replay.shifts import Floats, GroupShift, ReplayShift, describe_group, mean_of, sort_groups

_LEAST = 2
_NONE_SEEN = 3.0  # of n answers none was otherwise: at most 3 / n are, with 95% (Hanley & Lippman-Hand 1983)


@dataclass(frozen=True, slots=True)
class AnswerOutcome:
    """An answer to one drawn question, by its place: judged as production answers are, so a refusal has no scores.

    Faithfulness and relevancy are 0 to 1. `latency_ms` is None where copying sentences says nothing about a product.
    """

    place: int
    refused: bool
    faithfulness: float
    relevancy: float
    cost_usd: float
    latency_ms: float | None = None


@dataclass(frozen=True, slots=True)
class AnswerMetric:
    """A metric of the answers on both sides and its shift with a 95% interval.

    `low` and `high` hold the candidate's mean over as many answers of another week with 95%.
    """

    live: float
    candidate: float
    shift: ReplayShift
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class AnswerComparison:
    """Two prompts on the same questions. `compared` questions were answered and judged on both sides.

    `remembered` answers come from former runs. `failed` questions have no answer or no verdict; `not_run` ones were
    left out at the budget, which `stopped` explains. Costs are USD an answer, latencies the median in ms. `by_place`
    has the faithfulness of both answers by the question's place, None for a refusal.
    """

    live: str
    candidate: str
    answerer: str
    judge: str
    compared: int
    remembered: int
    failed: int
    not_run: int
    stopped: str
    spent_usd: float
    faithfulness: AnswerMetric
    relevancy: AnswerMetric
    refused: AnswerMetric
    live_cost_usd: float
    candidate_cost_usd: float
    live_latency_ms: float | None
    candidate_latency_ms: float | None
    topics: tuple[GroupShift, ...]
    by_place: Mapping[int, tuple[float | None, float | None]]


@dataclass(frozen=True, slots=True)
class AnswerRun:
    """How the answers of both sides were made: the labels of the prompts, who answers and judges, what was left out."""

    live: str
    candidate: str
    answerer: str
    judge: str
    remembered: int = 0
    failed: int = 0
    not_run: int = 0
    stopped: str = ""
    spent_usd: float = 0.0


def compare_answers(
    run: AnswerRun,
    asked: Mapping[int, DrawnQuestion],
    live: Sequence[AnswerOutcome],
    candidate: Sequence[AnswerOutcome],
    *,
    labels: Mapping[str, str],
) -> AnswerComparison | None:
    """Return how the candidate's answers compare, over the questions that both sides answered; None without any.

    `asked` are the questions by their place, with the weights of this sample. Means of faithfulness and relevancy are
    over answers that are no refusal, as those of production are.
    """
    before, after = ({each.place: each for each in side} for side in (live, candidate))
    places = sorted(before.keys() & after.keys())
    if not places:
        return None
    pairs = [(before[at], after[at]) for at in places]
    weights = np.array([asked[at].weight for at in places])
    answered = [np.array([not pair[side].refused for pair in pairs], dtype=float) for side in (0, 1)]
    scores = {
        name: estimate_metric(
            weights, answered, [np.array([getattr(pair[side], name) for pair in pairs]) for side in (0, 1)]
        )
        for name in ("faithfulness", "relevancy")
    }
    everybody = [np.ones(len(places))] * 2
    sides = tuple([pair[side] for pair in pairs] for side in (0, 1))
    return AnswerComparison(
        run.live, run.candidate, run.answerer, run.judge, len(places), run.remembered, run.failed, run.not_run,
        run.stopped, run.spent_usd, scores["faithfulness"], scores["relevancy"],
        estimate_metric(weights, everybody, [1 - each for each in answered]),
        live_cost_usd=mean_of([each.cost_usd for each in sides[0]], weights),
        candidate_cost_usd=mean_of([each.cost_usd for each in sides[1]], weights),
        live_latency_ms=_time(sides[0]), candidate_latency_ms=_time(sides[1]),
        topics=_compare_topics(asked, before, after, labels),
        by_place={at: (_faithfulness(before[at]), _faithfulness(after[at])) for at in places},
    )  # fmt: skip


def estimate_metric(weights: Floats, counted: Sequence[Floats], values: Sequence[Floats]) -> AnswerMetric:
    """Return the means of both sides over the questions that count there, their shift, and what another week may show.

    A mean is the ratio sum(w c y) / sum(w c) with c 1 where a question counts. Its standard error follows from the
    influences w c (y - mean) / sum(w c), with distinct questions as clusters; the shift's from their difference, so a
    question that counts on both sides is paired (linearization; Cochran 1977, ch. 6). The quantile is Student's with
    (sum w)^2 / sum w^2 - 1 degrees of freedom. Another week draws other questions, so its mean varies as much again:
    its interval is sqrt(2) as wide, and where all were alike at least 3 / n. Assumes independent questions and
    traffic as before. Fewer than two questions say nothing.
    """
    from scipy.stats import t

    means, influences = [], []
    for c, y in zip(counted, values, strict=True):
        share = weights * c
        total = float(share.sum())
        means.append(float(share @ y / total) if total else 0.0)
        influences.append(share * (y - means[-1]) / total if total else np.zeros(len(weights)))
    size = len(weights)
    if size < _LEAST or not all((weights * c).sum() for c in counted):
        return AnswerMetric(means[0], means[1], ReplayShift(means[1] - means[0], -1.0, 1.0), 0.0, 1.0)
    effective = float(weights.sum() ** 2 / (weights @ weights))
    quantile = float(t.ppf(0.975, max(1.0, effective - 1)))
    spread = size / (size - 1)
    moved = influences[1] - influences[0]
    half = quantile * math.sqrt(spread * float(moved @ moved))
    shift = means[1] - means[0]
    ahead = quantile * math.sqrt(2 * spread * float(influences[1] @ influences[1]))
    share = weights * counted[1]
    ahead = max(ahead, _NONE_SEEN * float(share @ share) / float(share.sum()) ** 2)
    return AnswerMetric(
        means[0], means[1], ReplayShift(shift, max(-1.0, shift - half), min(1.0, shift + half)),
        max(0.0, means[1] - ahead), min(1.0, means[1] + ahead),
    )  # fmt: skip


def _compare_topics(
    asked: Mapping[int, DrawnQuestion],
    before: Mapping[int, AnswerOutcome],
    after: Mapping[int, AnswerOutcome],
    labels: Mapping[str, str],
) -> tuple[GroupShift, ...]:
    """Return the faithfulness of each topic over the questions that both sides answer, losers first."""
    both = sorted(at for at in before.keys() & after.keys() if not before[at].refused and not after[at].refused)
    scores = tuple(np.array([side[at].faithfulness for at in both]) for side in (before, after))
    groups = []
    for name in sorted({asked[at].topic_id for at in both}):
        weights = {place: asked[at].weight for place, at in enumerate(both) if asked[at].topic_id == name}
        label = labels.get(name) or "other questions"
        groups.append(describe_group("topic", name, label, weights, (scores[0], scores[1])))
    return sort_groups(groups)


def _faithfulness(outcome: AnswerOutcome) -> float | None:
    return None if outcome.refused else outcome.faithfulness


def _time(outcomes: Sequence[AnswerOutcome]) -> float | None:
    """Return the median latency of those that have one."""
    times = [ms for each in outcomes if (ms := each.latency_ms) is not None]
    return median(times) if times else None

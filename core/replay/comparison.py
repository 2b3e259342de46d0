"""Rule: compares what is live and a candidate find for the same questions: shifts with intervals, who wins.

`sampling.py` draws the questions, `replaying.py` searches, `gate.py` holds the result to thresholds.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from core.drift.scales import ModelMap
from core.errors import InvalidInput
from core.ledger.entries import EffectPrediction
from core.replay.answering import AnswerComparison
from core.replay.sampling import DrawnQuestion
from core.replay.shifts import (
    Floats,
    GroupShift,
    ReplayShift,
    carry_scale,
    describe_group,
    estimate_shift,
    map_scores,
    mean_of,
    sort_groups,
    weigh_topic,
)
from core.replay.watching import WatchedVerdict

MOST_CHANGED = 20
CHANGED = 0.01  # a score that moves less counts as unchanged
_MISSED = 0.01  # what a prediction misses: as in core.predictions.prediction


class HitState(StrEnum):
    """What a search found: a hit that scores well, one below the threshold, or nothing."""

    WELL = "well"
    LOW = "low"
    EMPTY = "empty"


@dataclass(frozen=True, slots=True)
class FoundPassage:
    """A hit of a replayed question, without its text."""

    document: str
    section: str
    score: float


@dataclass(frozen=True, slots=True)
class HitLists:
    """The hits of one question in both indexes, best first, and the share of the live passages that both found."""

    live: tuple[FoundPassage, ...]
    candidate: tuple[FoundPassage, ...]
    overlap: float
    document_overlap: float


@dataclass(frozen=True, slots=True)
class StateShift:
    """The share of questions in one state, 0 to 1, in both indexes."""

    state: HitState
    live: float
    candidate: float
    share: ReplayShift


@dataclass(frozen=True, slots=True)
class ReplayedQuestion:
    """One of the questions that change most, with its hits in both indexes.

    `change` is the score's change; across models, the change on the live model's scale. Of a prompt, the faithfulness
    of both answers is there too, None for a refusal or no answer.
    """

    text: str
    asked: int
    topic_id: str
    live_score: float
    candidate_score: float
    change: float
    hits: HitLists
    live_faithfulness: float | None = None
    candidate_faithfulness: float | None = None

    @property
    def loses(self) -> bool:
        """Whether the question is worse off."""
        return self.change < 0 or self.answer_change < 0

    @property
    def answer_change(self) -> float:
        """The change of faithfulness, 0 where one of the answers has none."""
        if self.live_faithfulness is None or self.candidate_faithfulness is None:
            return 0.0
        return self.candidate_faithfulness - self.live_faithfulness


@dataclass(frozen=True, slots=True)
class ReplayOf:
    """What was replayed: what is live, the candidate and their models, whose questions, of which days, drawn how.

    `distinct` and `asked` count the questions of the log, of which some may not have been drawn. `changes` names the
    parts of the candidate. `kinds` are the kinds of scores that the scope's log maps to similarities: with any, scores
    of the searches are carried over to the log's scale, which `threshold` is on.
    """

    live: str
    candidate: str
    live_model: str
    candidate_model: str
    environment: str
    service: str
    first: date
    last: date
    distinct: int
    asked: int
    threshold: float
    top_k: int
    seed: int
    changes: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()

    @property
    def changes_model(self) -> bool:
        """Whether scores of the two indexes are on different scales."""
        return self.live_model != self.candidate_model


@dataclass(frozen=True, slots=True)
class SideCost:
    """What one side took for a question, in ms: its search in batches, and its reranking where that was not remembered.

    `rerank_ms` is None without any. `usd` is what its reranker cost now, all questions together.
    """

    search_ms: float
    rerank_ms: float | None = None
    usd: float = 0.0


@dataclass(frozen=True, slots=True)
class ReplayResult:
    """The result. Means are weighted by times asked, `score` as the daily mean: no text weighs more than 1%.

    `overlap` is the mean share of the live index's first k passages that the candidate finds too, `document_overlap`
    that of documents. `better` and `worse` are shares of the times asked that move by more than 0.01.
    `logged_score` is what the log says of the same questions: far from `live_score`, the service does more than search.
    `embedded` counts texts that were not cached, questions and passages. `costs` are those of both sides, live first.
    Across embedding models, `score` is the shift of the raw scores; where a map leads to the live model's scale,
    `carried` is the shift on it.
    """

    about: ReplayOf
    replayed: int
    embedded: int
    logged_score: float
    live_score: float
    candidate_score: float
    score: ReplayShift
    states: tuple[StateShift, ...]
    overlap: float
    document_overlap: float
    better: float
    worse: float
    topics: tuple[GroupShift, ...]
    segments: tuple[GroupShift, ...]
    changed: tuple[ReplayedQuestion, ...]
    costs: tuple[SideCost, ...] = ()
    answers: AnswerComparison | None = None
    watched: tuple[WatchedVerdict, ...] = ()
    carried: ReplayShift | None = None

    @property
    def watched_shift(self) -> ReplayShift:
        """The shift of the mean as it will be watched: with a map, on the scale of the live model."""
        return self.carried or self.score

    @property
    def predicted(self) -> EffectPrediction:
        """The predicted effect on the mean score that is watched: the shift, its interval widened by 0.01 each way."""
        shift = self.watched_shift
        return EffectPrediction(shift.value, max(-1.0, shift.low - _MISSED), min(1.0, shift.high + _MISSED))

    @property
    def low_share(self) -> StateShift:
        """The share of low scores."""
        return next(each for each in self.states if each.state is HitState.LOW)


def compare_hits(
    about: ReplayOf,
    drawn: Sequence[DrawnQuestion],
    hits: Sequence[HitLists],
    *,
    labels: Mapping[str, str],
    segments: Mapping[tuple[str, str], Mapping[int, float]],
    embedded: int = 0,
    costs: tuple[SideCost, ...] = (),
    answers: AnswerComparison | None = None,
    bridge: ModelMap | None = None,
) -> ReplayResult:
    """Return how the candidate does against what is live on the drawn questions.

    `labels` name topics by id. `segments` give, for a dimension and its value, the weight of each question there, by
    its place in `drawn`. `bridge` leads from the candidate's embedding model to the live one. Raises
    InvalidInput without questions, and where hits do not fit.
    """
    if not drawn:
        raise InvalidInput("questions", f"there are none with a score from {about.first} to {about.last}")
    if len(drawn) != len(hits):
        raise InvalidInput("hits", f"there are {len(hits)} for {len(drawn)} questions")
    weights = np.array([each.weight for each in drawn])
    capped = np.array([each.capped_weight for each in drawn])
    logged = np.array([each.logged_score for each in drawn])
    live, candidate = _score_sides(hits, logged, weights, learned=bool(about.kinds))
    shown = map_scores(candidate, live, weights) if about.changes_model else candidate
    moved = shown - live
    scaled = _carry(candidate, bridge) if bridge and about.changes_model else candidate
    topics = [
        describe_group("topic", name, labels.get(name) or "other questions", weigh_topic(drawn, name), (live, shown))
        for name in {each.topic_id for each in drawn}
    ]
    of_segments = [
        describe_group(kind, name, name or "(none)", by_place, (live, shown))
        for (kind, name), by_place in segments.items()
    ]
    return ReplayResult(
        about=about,
        replayed=len(drawn),
        embedded=embedded,
        logged_score=mean_of(logged, weights),
        live_score=mean_of(live, capped),
        candidate_score=mean_of(candidate, capped),
        score=estimate_shift(capped, candidate - live),
        states=tuple(_count_states(hits, (live, scaled), about.threshold, weights)),
        overlap=mean_of([each.overlap for each in hits], weights),
        document_overlap=mean_of([each.document_overlap for each in hits], weights),
        better=mean_of(moved > CHANGED, weights),
        worse=mean_of(moved < -CHANGED, weights),
        topics=sort_groups(topics),
        segments=sort_groups(of_segments),
        changed=_pick_changed(drawn, hits, (live, candidate, moved), answers),
        costs=costs,
        answers=answers,
        carried=None if scaled is candidate else estimate_shift(capped, scaled - live),
    )


def _carry(scores: Floats, bridge: ModelMap) -> Floats:
    """Return scores on the scale of the other model; 0 is that of a search without hits."""
    return np.array([bridge.apply(score) if score else 0.0 for score in scores.tolist()])


def _pick_changed(
    drawn: Sequence[DrawnQuestion],
    hits: Sequence[HitLists],
    scores: tuple[Floats, Floats, Floats],
    answers: AnswerComparison | None,
) -> tuple[ReplayedQuestion, ...]:
    """Return the questions that change most, by score or by faithfulness; of equal ones those that weigh more."""
    live, candidate, moved = scores
    faithful = answers.by_place if answers else {}
    far = np.maximum(np.abs(moved), [abs(_differ(faithful.get(at))) for at in range(len(drawn))])
    weights = np.array([each.weight for each in drawn])
    order = np.argsort(-far * (1 + 1e-6 * np.log1p(weights)), kind="stable")[:MOST_CHANGED]
    return tuple(
        ReplayedQuestion(
            drawn[at].text, drawn[at].asked, drawn[at].topic_id, float(live[at]), float(candidate[at]),
            float(moved[at]), hits[at], *faithful.get(at, (None, None)),
        )
        for at in order
    )  # fmt: skip


def _score_sides(hits: Sequence[HitLists], logged: Floats, weights: Floats, *, learned: bool) -> tuple[Floats, Floats]:
    """Return the best similarity of each question on both sides, 0 without hits, on the log's scale."""
    live, candidate = (_best(each.live for each in hits), _best(each.candidate for each in hits))
    if not learned:
        return live, candidate
    mapped = tuple(carry_scale(each, live, logged, weights) for each in (live, candidate))
    found = (np.array([bool(each.live) for each in hits]), np.array([bool(each.candidate) for each in hits]))
    return mapped[0] * found[0], mapped[1] * found[1]


def _count_states(
    hits: Sequence[HitLists], scores: tuple[Floats, Floats], threshold: float, weights: Floats
) -> list[StateShift]:
    sides = ([each.live for each in hits], [each.candidate for each in hits])
    before, after = (_name_states(*side, threshold) for side in zip(sides, scores, strict=True))
    return [
        StateShift(
            state, mean_of(before == state, weights), mean_of(after == state, weights),
            estimate_shift(weights, (after == state).astype(float) - (before == state)),
        )
        for state in HitState
    ]  # fmt: skip


def _name_states(found: Sequence[Sequence[FoundPassage]], scores: Floats, threshold: float) -> NDArray[np.str_]:
    scored = np.where(scores < threshold, str(HitState.LOW), str(HitState.WELL))
    return np.where([bool(each) for each in found], scored, str(HitState.EMPTY))


def _differ(pair: tuple[float | None, float | None] | None) -> float:
    return 0.0 if pair is None or pair[0] is None or pair[1] is None else pair[1] - pair[0]


def _best(found: Iterable[Sequence[FoundPassage]]) -> Floats:
    """Return the best similarity of each search, which `log_retrieval` takes of the documents of a row."""
    return np.array([max((hit.score for hit in each), default=0.0) for each in found])

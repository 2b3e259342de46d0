"""Rule: compares what the live and the candidate index find for the same questions: shifts with intervals, who wins.

`sampling.py` draws the questions, `replaying.py` searches, `gate.py` holds the result to thresholds.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.errors import InvalidInput
from core.ledger.entries import EffectPrediction
from core.replay.sampling import DrawnQuestion

MOST_CHANGED = 20
CHANGED = 0.01  # a score that moves less counts as unchanged
_MISSED = 0.01  # what a prediction misses: as in core.predictions.prediction
_LEAST_CLUSTERS = 2
_Floats = NDArray[np.float64]


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
class ReplayShift:
    """The change of a mean or a share from the live to the candidate index, with its 95% interval."""

    value: float
    low: float
    high: float

    @property
    def is_fall(self) -> bool:
        """Whether the whole interval lies below zero."""
        return self.high < 0

    @property
    def is_rise(self) -> bool:
        """Whether the whole interval lies above zero."""
        return self.low > 0


@dataclass(frozen=True, slots=True)
class GroupShift:
    """A topic or a segment: distinct questions, the questions of the log that they stand for, and its score shift."""

    kind: str
    name: str
    label: str
    distinct: int
    asked: float
    live_score: float
    candidate_score: float
    score: ReplayShift

    @property
    def verdict(self) -> str:
        """Whether the group wins or loses by its interval, or neither."""
        return "wins" if self.score.is_rise else "loses" if self.score.is_fall else "no difference shown"


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

    `change` is the score's change; across models, the change on the live model's scale.
    """

    text: str
    asked: int
    topic_id: str
    live_score: float
    candidate_score: float
    change: float
    hits: HitLists


@dataclass(frozen=True, slots=True)
class ReplayOf:
    """What was replayed: the two indexes and their models, whose questions, of which days, drawn how.

    `distinct` and `asked` count the questions of the log, of which some may not have been drawn.
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

    @property
    def changes_model(self) -> bool:
        """Whether scores of the two indexes are on different scales."""
        return self.live_model != self.candidate_model


@dataclass(frozen=True, slots=True)
class ReplayResult:
    """The result. Means are weighted by times asked, `score` as the daily mean: no text weighs more than 1%.

    `overlap` is the mean share of the live index's first k passages that the candidate finds too, `document_overlap`
    that of documents. `better` and `worse` are shares of the times asked that move by more than 0.01.
    `logged_score` is what the log says of the same questions: far from `live_score`, the service does more than search.
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

    @property
    def predicted(self) -> EffectPrediction:
        """The predicted effect on the mean score that is watched: the shift, its interval widened by 0.01 each way."""
        low, high = self.score.low - _MISSED, self.score.high + _MISSED
        return EffectPrediction(self.score.value, max(-1.0, low), min(1.0, high))

    @property
    def low_share(self) -> StateShift:
        """The share of low scores."""
        return next(each for each in self.states if each.state is HitState.LOW)


def estimate_shift(weights: Sequence[float] | _Floats, changes: Sequence[float] | _Floats) -> ReplayShift:
    """Return the weighted mean of paired changes, with a 95% interval for other days' questions.

    Distinct questions are clusters. With weights w_i and changes d_i of G questions, the standard error is
    sqrt(G / (G - 1) sum (w_i (d_i - mean))^2) / sum w_i; the quantile is Student's with (sum w)^2 / sum w^2 - 1 degrees
    of freedom, since a few popular questions carry little evidence. It assumes that distinct questions are independent.
    Fewer than two questions, or weights of nothing, say nothing: the interval is -1 to 1.
    """
    from scipy.stats import t

    w, d = np.asarray(weights, dtype=float), np.asarray(changes, dtype=float)
    kept = w > 0
    w, d = w[kept], d[kept]
    if not len(w):
        return ReplayShift(0.0, -1.0, 1.0)
    mean = float(w @ d / w.sum())
    if len(w) < _LEAST_CLUSTERS:
        return ReplayShift(mean, -1.0, 1.0)
    spread = float((w * (d - mean)) @ (w * (d - mean))) * len(w) / (len(w) - 1)
    freedom = max(1.0, float(w.sum() ** 2 / (w @ w)) - 1)
    half = float(t.ppf(0.975, freedom)) * math.sqrt(spread) / float(w.sum())
    return ReplayShift(mean, max(-1.0, mean - half), min(1.0, mean + half))


def map_scores(scores: _Floats, onto: _Floats, weights: _Floats) -> _Floats:
    """Return scores of one model on the scale of another: the value of `onto` with the same weighted rank.

    Both are the scores of the same questions, so the means agree, and only who gains on whom remains.
    """
    ranks = _rank(scores, weights)
    order = np.argsort(onto, kind="stable")
    return np.asarray(np.interp(ranks, _rank(onto, weights)[order], onto[order]))


def compare_hits(
    about: ReplayOf,
    drawn: Sequence[DrawnQuestion],
    hits: Sequence[HitLists],
    *,
    labels: Mapping[str, str],
    segments: Mapping[tuple[str, str], Mapping[int, float]],
    embedded: int = 0,
) -> ReplayResult:
    """Return how the candidate index does against the live one on the drawn questions.

    `labels` name topics by id. `segments` give, for a dimension and its value, the weight of each question there, by
    its place in `drawn`. Raises InvalidInput without questions, and where hits do not fit.
    """
    if not drawn:
        raise InvalidInput("questions", f"there are none with a score from {about.first} to {about.last}")
    if len(drawn) != len(hits):
        raise InvalidInput("hits", f"there are {len(hits)} for {len(drawn)} questions")
    live, candidate = (_top(each.live for each in hits), _top(each.candidate for each in hits))
    weights = np.array([each.weight for each in drawn])
    capped = np.array([each.capped_weight for each in drawn])
    shown = map_scores(candidate, live, weights) if about.changes_model else candidate
    moved = shown - live
    groups = {("topic", name): _weigh_topic(drawn, name) for name in {each.topic_id for each in drawn}}
    made = [
        _describe_group(kind, name, labels.get(name) or "other questions", by_place, (live, shown))
        for (kind, name), by_place in groups.items()
    ]
    of_segments = [
        _describe_group(kind, name, name or "(none)", by_place, (live, shown))
        for (kind, name), by_place in segments.items()
    ]
    order = np.argsort(-np.abs(moved) * (1 + 1e-6 * np.log1p(weights)), kind="stable")[:MOST_CHANGED]
    return ReplayResult(
        about=about,
        replayed=len(drawn),
        embedded=embedded,
        logged_score=_mean([each.logged_score for each in drawn], weights),
        live_score=_mean(live, capped),
        candidate_score=_mean(candidate, capped),
        score=estimate_shift(capped, candidate - live),
        states=tuple(_count_states(hits, about.threshold, weights)),
        overlap=_mean([each.overlap for each in hits], weights),
        document_overlap=_mean([each.document_overlap for each in hits], weights),
        better=_mean(moved > CHANGED, weights),
        worse=_mean(moved < -CHANGED, weights),
        topics=_sort_groups(made),
        segments=_sort_groups(of_segments),
        changed=tuple(
            ReplayedQuestion(
                drawn[at].text, drawn[at].asked, drawn[at].topic_id, float(live[at]), float(candidate[at]),
                float(moved[at]), hits[at],
            )
            for at in order
        ),
    )  # fmt: skip


def name_state(hits: Sequence[FoundPassage], threshold: float) -> HitState:
    """Return the state of one search."""
    if not hits:
        return HitState.EMPTY
    return HitState.LOW if hits[0].score < threshold else HitState.WELL


def _count_states(hits: Sequence[HitLists], threshold: float, weights: _Floats) -> list[StateShift]:
    before = np.array([str(name_state(each.live, threshold)) for each in hits])
    after = np.array([str(name_state(each.candidate, threshold)) for each in hits])
    return [
        StateShift(
            state, _mean(before == state, weights), _mean(after == state, weights),
            estimate_shift(weights, (after == state).astype(float) - (before == state)),
        )
        for state in HitState
    ]  # fmt: skip


def _weigh_topic(drawn: Sequence[DrawnQuestion], topic_id: str) -> dict[int, float]:
    return {at: each.weight for at, each in enumerate(drawn) if each.topic_id == topic_id}


def _describe_group(
    kind: str, name: str, label: str, by_place: Mapping[int, float], scores: tuple[_Floats, _Floats]
) -> GroupShift:
    places, weights = list(by_place), np.array(list(by_place.values()))
    live, candidate = (each[places] for each in scores)
    return GroupShift(
        kind, name, label, len(places), float(weights.sum()), _mean(live, weights), _mean(candidate, weights),
        estimate_shift(weights, candidate - live),
    )  # fmt: skip


def _sort_groups(groups: Sequence[GroupShift]) -> tuple[GroupShift, ...]:
    """Return the losers first, by how much of the whole they lose; then those that change nothing, then winners."""
    return tuple(sorted(groups, key=lambda each: (each.score.value * each.asked, each.kind, each.name)))


def _top(found: Iterable[Sequence[FoundPassage]]) -> _Floats:
    return np.array([each[0].score if each else 0.0 for each in found])


def _mean(values: Sequence[float] | NDArray[Any], weights: _Floats) -> float:
    return float(np.asarray(values, dtype=float) @ weights / weights.sum()) if weights.sum() else 0.0


def _rank(scores: _Floats, weights: _Floats) -> _Floats:
    """Return each score's weighted share of lower ones, ties in the middle, 0 to 1."""
    values, place = np.unique(scores, return_inverse=True)
    sums = np.bincount(place, weights=weights, minlength=len(values))
    middles = np.cumsum(sums) - sums / 2
    return np.asarray((middles / sums.sum())[place])

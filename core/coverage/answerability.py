"""Rule: the probability that an index answers a question, from what its searches by meaning and by words found.

`wording.py` searches by words; `judging.py` gets the questions and the indexes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from core.coverage.wording import WordIndex, question_words
from core.errors import InvalidInput

FORMER = 2  # questions of the session that are read together with one that may not stand alone
LEAST_PASSAGES = 50  # of an index: below this, its background means nothing
LEAST_QUESTIONS = 50  # for a prior of their own
ANSWERS_FROM = 0.5
_BACKGROUND = 0.9
_RIVALS = slice(4, 10)  # the hits that the words of the first one are compared with
_PRIORS = (0.02, 0.98)
_ROUNDS = 100


class CoverageFinding(StrEnum):
    """Why a question scores low: the search missed a passage, another index has one, or none is known."""

    NOT_FOUND = "indexed but not found"
    OUTDATED = "outdated"
    NOT_INDEXED = "not indexed"


@dataclass(frozen=True, slots=True)
class QuestionView:
    """A question as it is searched: its words and its unit vector."""

    text: str
    vector: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class AnswerEvidence:
    """What speaks for an answer; larger is better. Each is the mean over the views of the question.

    `lead`: how far the nearest passage stands above nine in ten others, as a share of what was possible: 1 is the same
    text. `agreement`: 1 / the rank of that passage in the search by words. `wording`: the share of the question's words
    that it holds, minus that of the fifth to tenth nearest passages; rare words weigh more.
    """

    lead: float
    agreement: float
    wording: float


class AnswerSearch:
    """Finds the evidence in the passages of one index: a text and a unit vector each.

    Searches all passages, so it is exact. Raises InvalidInput for fewer than `LEAST_PASSAGES`.
    """

    def __init__(self, texts: Sequence[str], vectors: NDArray[np.float32]) -> None:
        if len(texts) < LEAST_PASSAGES or len(vectors) != len(texts):
            raise InvalidInput(
                "passages", f"must be at least {LEAST_PASSAGES} with one vector each, not {len(texts)} texts"
            )
        self._words = WordIndex(texts)
        self._vectors = vectors

    def weigh(self, views: Sequence[QuestionView]) -> AnswerEvidence:
        """Return the evidence for a question: alone, and after the former ones of its session if it has any."""
        found = np.array([self._weigh(view) for view in views])
        return AnswerEvidence(*(float(value) for value in found.mean(axis=0)))

    def _weigh(self, view: QuestionView) -> tuple[float, float, float]:
        similar = (self._vectors @ view.vector).astype(np.float64)
        nearest = np.argsort(-similar, kind="stable")[: _RIVALS.stop]
        top, background = similar[nearest[0]], np.quantile(similar, _BACKGROUND)
        words = question_words(view.text)
        scores, held = self._words.score(words), self._words.cover(words)
        own = scores[nearest[0]]
        return (
            (top - background) / max(1.0 - background, 1e-6),
            1.0 / (1 + np.count_nonzero(scores > own)) if own > 0 else 0.0,
            held[nearest[0]] - held[nearest[_RIVALS]].mean(),
        )


@dataclass(frozen=True, slots=True)
class AnswerModel:
    """A logistic regression over the evidence, with no weight below 0. `prior` is the answered share it was fitted on.

    The log odds are `bias` + `weights` * (evidence - `center`) / `spread`.
    """

    center: tuple[float, ...]
    spread: tuple[float, ...]
    weights: tuple[float, ...]
    bias: float
    prior: float

    def estimate(self, evidence: Sequence[AnswerEvidence]) -> NDArray[np.float64]:
        """Return the probability of an answer for each question, at the prior that suits these questions together.

        From `LEAST_QUESTIONS` on, the prior is estimated from the questions themselves, so they have to be a sample of
        all that is asked: not the low ones alone.
        """
        odds = np.exp(self.bias + self._scale(evidence) @ np.array(self.weights))
        prior = self.prior
        if len(evidence) >= LEAST_QUESTIONS:
            prior = _estimate_prior(odds, self.prior)
        odds = odds * _odds(prior) / _odds(self.prior)
        return np.asarray(odds / (1 + odds))

    def _scale(self, evidence: Sequence[AnswerEvidence]) -> NDArray[np.float64]:
        return np.asarray((_rows(evidence) - np.array(self.center)) / np.array(self.spread))


# Fitted on 180 human questions of two collections of MTRAG-UN together (finance posts, cloud documentation), with
# all-MiniLM-L6-v2: `python -m benchmarks.answerability --fit`. How it does on a collection that it has not seen is
# measured by fitting on one and testing on the other; see docs/figures.md.
ANSWER_MODEL = AnswerModel(
    center=(0.3533, 0.4797, 0.2941),
    spread=(0.1338, 0.2944, 0.2563),
    weights=(1.389, 0.778, 0.612),
    bias=1.872,
    prior=0.7333,
)


def fit_answer_model(evidence: Sequence[AnswerEvidence], answered: Sequence[bool]) -> AnswerModel:
    """Return the model of labeled questions: maximum likelihood with a penalty of half the squared weights, none < 0.

    AnswerEvidence is standardized first. Needs questions of both kinds, and at least 50; with 60 the weights are rough.
    """
    from scipy.optimize import minimize

    truth = np.array(answered, dtype=np.float64)
    if len(truth) < LEAST_QUESTIONS or truth.min() == truth.max():
        raise InvalidInput("answered", f"needs at least {LEAST_QUESTIONS} questions, of both kinds")
    rows = _rows(evidence)
    center, spread = rows.mean(axis=0), np.maximum(rows.std(axis=0), 1e-9)
    scaled = np.column_stack([(rows - center) / spread, np.ones(len(rows))])

    def loss(weights: NDArray[np.float64]) -> float:
        logits = scaled @ weights
        return float(np.logaddexp(0, logits).sum() - truth @ logits + 0.5 * weights[:-1] @ weights[:-1])

    size = rows.shape[1]
    found = minimize(loss, np.zeros(size + 1), method="L-BFGS-B", bounds=[*[(0, None)] * size, (None, None)]).x
    return AnswerModel(
        tuple(center.tolist()),
        tuple(spread.tolist()),
        tuple(found[:-1].tolist()),
        float(found[-1]),
        float(truth.mean()),
    )


def decide_finding(searched: float, others: Sequence[float]) -> CoverageFinding:
    """Return why a question scored low: `searched` and `others` are the probabilities that these indexes answer it.

    The index that was searched answers it: indexed but not found. Else another one does: outdated. Else: not indexed.
    An index answers from a probability of `ANSWERS_FROM` on.
    """
    if searched >= ANSWERS_FROM:
        return CoverageFinding.NOT_FOUND
    return CoverageFinding.OUTDATED if max(others, default=0.0) >= ANSWERS_FROM else CoverageFinding.NOT_INDEXED


def _estimate_prior(odds: NDArray[np.float64], prior: float) -> float:
    """Return the answered share of these questions, by expectation maximization (Saerens et al. 2002).

    Assumes that answered questions look like the ones that the model was fitted on, and so do the others.
    """
    share = prior
    for _ in range(_ROUNDS):
        moved = odds * _odds(share) / _odds(prior)
        share = float(np.clip((moved / (1 + moved)).mean(), *_PRIORS))
    return share


def _odds(share: float) -> float:
    return share / (1 - share)


def _rows(evidence: Sequence[AnswerEvidence]) -> NDArray[np.float64]:
    found = [(each.lead, each.agreement, each.wording) for each in evidence]
    return np.array(found, dtype=np.float64).reshape(len(found), 3)

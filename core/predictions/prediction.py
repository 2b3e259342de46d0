"""Rule: predicts what a new corpus version would do to the scores of recent questions, from vectors and scores.

Also compares the prediction with what was measured once the version was live.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.coverage.topics import Topic
from core.errors import InvalidInput
from core.log.values import AskedQuery

TOP_K = 5
_BLOCK = 1_024
_WORSE = 0.01
_MISSED = 0.01


@dataclass(frozen=True, slots=True)
class QueryPrediction:
    """One distinct query: its top-1 score in the live index and in the new version.

    `document` is the new one that would answer it, "" if the live answer remains the best. `topic_id` is "" for a query
    outside of all topics: well covered, or an outlier.
    """

    text: str
    count: int
    topic_id: str
    live_score: float
    predicted_score: float
    document: str = ""


@dataclass(frozen=True, slots=True)
class TopicPrediction:
    """A topic of low-scoring queries: mean scores weighted by times asked, and the lifted share.

    `lifted_share` is the share of times asked (0 to 1) that rises from below the threshold to at least the threshold.
    """

    topic_id: str
    label: str
    count: int
    live_score: float
    predicted_score: float
    lifted_share: float
    documents: tuple[str, ...]

    @property
    def lift(self) -> float:
        """The predicted rise of the mean score."""
        return self.predicted_score - self.live_score


@dataclass(frozen=True, slots=True)
class LiftingDocument:
    """A new document that would answer queries better: distinct queries, times asked, and total score gained."""

    document: str
    queries: int
    asked: int
    gain: float


@dataclass(frozen=True, slots=True)
class Prediction:
    """The effect of replacing the index `live` by `target`. Scores and shares are 0 to 1.

    No query reaches the new documents in `unreached`, nor those in `idle`, which are unchanged. Scores are on the scale
    of the embedding `model`, "" where it was not kept.
    """

    target: str
    live: str
    threshold: float
    queries: tuple[QueryPrediction, ...]
    topics: tuple[TopicPrediction, ...]
    lifting: tuple[LiftingDocument, ...]
    unreached: tuple[str, ...]
    new_documents: int
    new_chunks: int
    removed_chunks: int
    idle: tuple[str, ...] = ()
    model: str = ""

    @property
    def lifted_share(self) -> float:
        """Of the times a low-scoring query was asked, the share that would reach the threshold; 0 if none is low."""
        return _lifted_share(self.queries, self.threshold)

    @property
    def lift(self) -> float:
        """The predicted rise of the mean score over all queries."""
        return _mean(self.queries, "predicted_score") - _mean(self.queries, "live_score")

    @property
    def worse(self) -> tuple[QueryPrediction, ...]:
        """The queries that would score lower by more than 0.01, because their present answer would be gone."""
        return tuple(query for query in self.queries if query.predicted_score < query.live_score - _WORSE)


def predict_mean(found: Prediction) -> tuple[float, float, float]:
    """Return the predicted change of the mean score of these questions, with a 95% interval for the days to come.

    The interval takes distinct questions as clusters that other days draw anew, and adds 0.01 for what a prediction
    misses of the index's own search (`benchmarks.prediction`). With c_i times asked and d_i the difference of question
    i, the standard error is sqrt(sum (c_i (d_i - mean))^2) / sum c_i. All three are 0 without questions.
    """
    asked = sum(query.count for query in found.queries)
    if not asked:
        return 0.0, 0.0, 0.0
    mean = found.lift
    spread = sum((q.count * (q.predicted_score - q.live_score - mean)) ** 2 for q in found.queries)
    half = 1.96 * math.sqrt(spread) / asked + _MISSED
    return mean, max(-1.0, mean - half), min(1.0, mean + half)


def hide_questions(found: Prediction) -> Prediction:
    """Return a prediction without anything that users asked: topics by number, queries without text."""
    topics = tuple(replace(topic, label=f"Topic {at}") for at, topic in enumerate(found.topics, 1))
    return replace(found, queries=tuple(replace(query, text="") for query in found.queries), topics=topics)


@dataclass(frozen=True, slots=True)
class Unshipped:
    """The difference between the new version and the live index: new passages, and the best of the remaining ones.

    `chunk_vectors` has a unit row per new passage, `chunk_documents` its document. `kept_scores` has a row per query
    with the scores of its best remaining passages, best first, -1 if there are fewer; `kept_documents` has their
    documents. `standing` are the unchanged documents.
    """

    chunk_vectors: NDArray[np.float32]
    chunk_documents: tuple[str, ...]
    kept_scores: NDArray[np.float32]
    removed_chunks: int = 0
    kept_documents: tuple[tuple[str, ...], ...] = ()
    standing: tuple[str, ...] = ()


def predict_lift(
    queries: Sequence[AskedQuery],
    vectors: NDArray[np.float32],
    live_scores: Sequence[float],
    unshipped: Unshipped,
    *,
    topics: Sequence[Topic],
    threshold: float,
    target: str,
    live: str,
) -> Prediction:
    """Return the predicted scores by query, topic and new document.

    `queries` start with those that the topics' members index. A query's predicted score is the cosine to its best
    passage among the remaining and the new ones: as exact as the index's search. A query reaches a document that
    answers it best, or that is among its best `kept_scores.shape[1]` passages with a score of at least the threshold.
    A topic of few queries says little, so check `count`.

    Raises InvalidInput for shapes that do not fit.
    """
    _check(queries, vectors, live_scores, unshipped)
    best, best_at, reached, floor = _search_new(vectors, unshipped, threshold)
    kept = np.maximum(unshipped.kept_scores[:, 0], 0.0)
    predicted = np.clip(np.maximum(kept, best), 0.0, 1.0)
    topic_of = {member: topic.topic_id for topic in topics for member in topic.members}
    found = tuple(
        QueryPrediction(
            query.text, query.count, topic_of.get(at, ""), float(live_scores[at]), float(predicted[at]),
            unshipped.chunk_documents[best_at[at]] if best[at] > kept[at] else "",
        )
        for at, query in enumerate(queries)
    )  # fmt: skip
    return Prediction(
        target=target,
        live=live,
        threshold=threshold,
        queries=found,
        topics=tuple(_describe(topic, [found[member] for member in topic.members], threshold) for topic in topics),
        lifting=_rank_documents(found),
        unreached=tuple(sorted(set(unshipped.chunk_documents) - {unshipped.chunk_documents[at] for at in reached})),
        new_documents=len(set(unshipped.chunk_documents)),
        new_chunks=len(unshipped.chunk_documents),
        removed_chunks=unshipped.removed_chunks,
        idle=tuple(sorted(set(unshipped.standing) - _reach_kept(unshipped, best, floor))),
    )


@dataclass(frozen=True, slots=True)
class LiftComparison:
    """Predicted and measured, over the queries that were measured; means are weighted by times asked."""

    label: str
    queries: int
    live_score: float
    predicted_score: float
    measured_score: float
    predicted_lifted_share: float
    measured_lifted_share: float

    @property
    def error(self) -> float:
        """Predicted minus measured rise of the mean score."""
        return self.predicted_score - self.measured_score


@dataclass(frozen=True, slots=True)
class PredictionCheck:
    """The accuracy of a prediction: over all measured queries, by topic, and for the worst query."""

    target: str
    total: LiftComparison | None
    topics: tuple[LiftComparison, ...]
    largest_error: float


def compare_prediction(prediction: Prediction, measured: Mapping[str, float]) -> PredictionCheck:
    """Compare a prediction with the measured top-1 scores, by query text.

    `measured` comes from searching the built index, or from the log after the swap. Queries without a measurement are
    left out on both sides, and so is a topic without any measured query. The total is None if nothing was measured.
    """
    pairs = [(query, measured[query.text]) for query in prediction.queries if query.text in measured]
    topics = []
    for topic in prediction.topics:
        of_topic = [pair for pair in pairs if pair[0].topic_id == topic.topic_id]
        if of_topic:
            topics.append(_compare(topic.label, of_topic, prediction.threshold))
    return PredictionCheck(
        prediction.target,
        _compare("all queries", pairs, prediction.threshold) if pairs else None,
        tuple(topics),
        max((abs(query.predicted_score - score) for query, score in pairs), default=0.0),
    )


def parse_prediction(stored: Mapping[str, Any]) -> Prediction:
    """Return the prediction from its `dataclasses.asdict` form."""
    return Prediction(
        **{
            **stored,
            "queries": tuple(QueryPrediction(**each) for each in stored["queries"]),
            "topics": tuple(
                TopicPrediction(**{**each, "documents": tuple(each["documents"])}) for each in stored["topics"]
            ),
            "lifting": tuple(LiftingDocument(**each) for each in stored["lifting"]),
            "unreached": tuple(stored["unreached"]),
            "idle": tuple(stored.get("idle", ())),
        }
    )


def _search_new(
    vectors: NDArray[np.float32], unshipped: Unshipped, threshold: float
) -> tuple[NDArray[np.float32], NDArray[np.int64], set[int], NDArray[np.float32]]:
    """Return each query's best new score and its position, the new passages reached by any query, and the score
    that a passage needs to be among the best of each query."""
    best = np.full(len(vectors), -1.0, dtype=np.float32)
    best_at = np.zeros(len(vectors), dtype=np.int64)
    floor = np.full(len(vectors), threshold, dtype=np.float32)
    reached: set[int] = set()
    if not len(unshipped.chunk_documents):
        return best, best_at, reached, floor
    top_k = unshipped.kept_scores.shape[1]
    for start in range(0, len(vectors), _BLOCK):
        rows = slice(start, start + _BLOCK)
        scores = vectors[rows] @ unshipped.chunk_vectors.T
        best[rows], best_at[rows] = scores.max(axis=1), scores.argmax(axis=1)
        nearest = np.argsort(-scores, axis=1)[:, :top_k]
        new = np.take_along_axis(scores, nearest, axis=1)
        merged = -np.sort(-np.hstack([unshipped.kept_scores[rows], new]), axis=1)[:, :top_k]
        floor[rows] = np.maximum(merged[:, -1], threshold)
        reached |= set(nearest[new >= floor[rows, None]].tolist())
    reached |= set(best_at[best > np.maximum(unshipped.kept_scores[:, 0], 0.0)].tolist())
    return best, best_at, reached, floor


def _reach_kept(unshipped: Unshipped, best_new: NDArray[np.float32], floor: NDArray[np.float32]) -> set[str]:
    """Return the documents of remaining passages that any query reaches."""
    return {
        document
        for at, documents in enumerate(unshipped.kept_documents)
        for place, document in enumerate(documents)
        if (score := unshipped.kept_scores[at, place]) >= floor[at] or (place == 0 and score >= best_new[at])
    }


def _describe(topic: Topic, members: Sequence[QueryPrediction], threshold: float) -> TopicPrediction:
    return TopicPrediction(
        topic.topic_id,
        topic.label,
        sum(query.count for query in members),
        _mean(members, "live_score"),
        _mean(members, "predicted_score"),
        _lifted_share(members, threshold),
        tuple(each.document for each in _rank_documents(members)),
    )


def _rank_documents(queries: Sequence[QueryPrediction]) -> tuple[LiftingDocument, ...]:
    by_document: dict[str, list[QueryPrediction]] = {}
    for query in queries:
        if query.document and query.predicted_score > query.live_score:
            by_document.setdefault(query.document, []).append(query)
    found = [
        LiftingDocument(
            document,
            len(lifted),
            sum(query.count for query in lifted),
            sum(query.count * (query.predicted_score - query.live_score) for query in lifted),
        )
        for document, lifted in by_document.items()
    ]
    return tuple(sorted(found, key=lambda each: (-each.gain, each.document)))


def _lifted_share(queries: Sequence[QueryPrediction], threshold: float) -> float:
    low = [query for query in queries if query.live_score < threshold]
    asked = sum(query.count for query in low)
    return sum(query.count for query in low if query.predicted_score >= threshold) / asked if asked else 0.0


def _mean(queries: Sequence[QueryPrediction], field: str) -> float:
    asked = sum(query.count for query in queries)
    return sum(query.count * getattr(query, field) for query in queries) / asked if asked else 0.0


def _compare(label: str, pairs: Sequence[tuple[QueryPrediction, float]], threshold: float) -> LiftComparison:
    queries = [query for query, _ in pairs]
    really = [
        QueryPrediction(query.text, query.count, query.topic_id, query.live_score, score) for query, score in pairs
    ]
    return LiftComparison(
        label,
        len(queries),
        _mean(queries, "live_score"),
        _mean(queries, "predicted_score"),
        _mean(really, "predicted_score"),
        _lifted_share(queries, threshold),
        _lifted_share(really, threshold),
    )


def _check(
    queries: Sequence[AskedQuery], vectors: NDArray[np.float32], live_scores: Sequence[float], unshipped: Unshipped
) -> None:
    if not len(queries) == len(vectors) == len(live_scores) == len(unshipped.kept_scores):
        raise InvalidInput("queries", "each needs one vector, one live score and one row of kept scores")
    if len(unshipped.chunk_vectors) != len(unshipped.chunk_documents):
        raise InvalidInput("chunk_vectors", "each new passage needs one vector and one document")
    if unshipped.kept_scores.ndim != 2 or (len(queries) and unshipped.kept_scores.shape[1] < 1):
        raise InvalidInput("kept_scores", f"have shape {unshipped.kept_scores.shape}, not queries x top k")

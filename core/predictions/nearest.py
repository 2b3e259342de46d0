"""Shell: finds what the live index holds nearest to a topic, and what each corpus version is predicted to do."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from core.embedding.embed import Embedder
from core.indexes.backends import open_indexes
from core.indexes.builds import find_live
from core.predictions.misses import Miss, NearPassage, explain_misses
from core.predictions.prediction import TopicPrediction
from core.predictions.predictions import list_predictions
from quarterdeck.scope import DEFAULT_SCOPE, Scope
from quarterdeck.store import Store

_HITS = 3


@dataclass(frozen=True, slots=True)
class Nearest:
    """The live index ("" if none fits the model) and its documents that come nearest."""

    index_name: str
    misses: tuple[Miss, ...]


def find_nearest(store: Store, embedder: Embedder, typical: Sequence[str], *, alias: str = "default") -> Nearest:
    """Return the live index's documents nearest to a topic's typical questions, and why each is no answer.

    Uses cached vectors only, so no page waits for the model. Raises SourceUnavailable and NotFound when the index
    cannot be read.
    """
    live = find_live(store, alias)
    if live is None or live.model != embedder.model:
        return Nearest("", ())
    known = embedder.get_known(typical)
    questions = [question for question in typical if question in known]
    if not questions:
        return Nearest(live.name, ())
    vectors = np.array([known[question] for question in questions], dtype=np.float32)
    hits = open_indexes(live.location).search(live.name, vectors, top_k=_HITS)
    passages = [
        NearPassage(question, hit.document, hit.section, hit.text, hit.score)
        for question, found in zip(questions, hits, strict=True)
        for hit in found
    ]
    return Nearest(live.name, explain_misses(passages))


def list_topic_predictions(
    store: Store, topic_id: str, scope: Scope = DEFAULT_SCOPE
) -> tuple[tuple[str, TopicPrediction], ...]:
    """Return the topic's predictions by corpus version, the best first; empty if none was made yet."""
    found = [
        (prediction.target, topic)
        for prediction in list_predictions(store, scope)
        for topic in prediction.topics
        if topic.topic_id == topic_id
    ]
    return tuple(sorted(found, key=lambda pair: (-pair[1].predicted_score, pair[0])))

"""Rule: carries topics from one embedding model to another, by the questions near them that have vectors of both."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from core.coverage.topics import KnownTopic

LEAST_QUESTIONS = 3  # near a topic, below which its center cannot be told
MOST_QUESTIONS = 100  # near a topic, that tell its center
NEAR = 0.5  # cosine of a question with the center of its topic, under the former model


def find_members(topics: Sequence[KnownTopic], vectors: NDArray[np.float32]) -> Mapping[str, tuple[int, ...]]:
    """Return the rows that belong to each topic, by its id, at most 100 of them.

    `vectors` are unit vectors of questions, a row each, of the model that the topics come from. A question belongs to
    the topic whose center is nearest, from a cosine of 0.5. A topic with fewer than three questions is left out.
    """
    if not topics or not len(vectors):
        return {}
    likeness = vectors @ np.array([topic.centroid for topic in topics], dtype=np.float32).T
    nearest = np.where(likeness.max(axis=1) >= NEAR, likeness.argmax(axis=1), -1)
    rows = {topic.topic_id: np.flatnonzero(nearest == at) for at, topic in enumerate(topics)}
    return {key: tuple(of[:MOST_QUESTIONS].tolist()) for key, of in rows.items() if len(of) >= LEAST_QUESTIONS}


def find_center(vectors: NDArray[np.float32]) -> tuple[float, ...]:
    """Return the center of unit vectors, of length 1."""
    total = vectors.sum(axis=0)
    return tuple((total / max(float(np.linalg.norm(total)), 1e-9)).tolist())

"""Rule: carries topics from one embedding model to another, by the questions near them that have vectors of both."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from core.coverage.topics import KnownTopic

LEAST_QUESTIONS = 3  # near a topic, below which its center cannot be told
NEAR = 0.5  # cosine of a question with the center of its topic, under the former model


def carry_topics(
    topics: Sequence[KnownTopic], former: NDArray[np.float32], present: NDArray[np.float32]
) -> Mapping[str, tuple[float, ...]]:
    """Return the centers of topics under another model, by id, each of length 1.

    `former` and `present` are unit vectors of the same questions, a row each, of the model that the topics come from
    and of the other one. A question belongs to the topic whose center is nearest, from a cosine of 0.5. A topic with
    fewer than three questions is left out: it stays with its model.
    """
    if not topics or not len(former):
        return {}
    centers = np.array([topic.centroid for topic in topics], dtype=np.float32)
    likeness = former @ centers.T
    nearest = np.where(likeness.max(axis=1) >= NEAR, likeness.argmax(axis=1), -1)
    found = {}
    for at, topic in enumerate(topics):
        members = present[nearest == at]
        length = float(np.linalg.norm(members.sum(axis=0))) if len(members) >= LEAST_QUESTIONS else 0.0
        if length > 0:
            found[topic.topic_id] = tuple(float(each) for each in members.sum(axis=0) / length)
    return found

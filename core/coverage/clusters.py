"""Rule: clusters weighted vectors. Ward's tree on smoothed unit vectors, refined by weighted k-means.

Knows nothing of texts, scores or topics: `topics.py` names and ranks what is found here. `trees.py` grows the tree and
`granularity.py` chooses where it is cut.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from core.coverage.granularity import FEW, choose_clusters, silhouette
from core.coverage.trees import (
    Labels,
    Neighbors,
    Vectors,
    Weights,
    centers_of,
    cut,
    find_neighbors,
    grow_tree,
    nearest,
    refine,
    smooth,
)

SAMPLE_LIMIT = 5_000  # Ward's algorithm needs n^2/2 distances, 100 MB at this size
_PART = 20_000  # further vectors are assigned in parts, which bounds memory


@dataclass(frozen=True, slots=True)
class Clustering:
    """A cluster number (0..k-1) for each vector. Outliers get the nearest cluster but do not shape it.

    `sampled` are the rows that shaped the clusters: all of them, up to `SAMPLE_LIMIT`.
    """

    labels: Labels
    outlying: NDArray[np.bool_]
    clusters: int
    chosen_by: str
    sampled: Labels


def cluster_vectors(vectors: Vectors, counts: Weights, *, clusters: int | None = None, seed: int = 0) -> Clustering:
    """Group unit vectors into `clusters` clusters, or into as many as the data support.

    1. A vector weighs 1 + ln of its count: a question that was asked a thousand times must not become a topic alone.
    2. Of more than `SAMPLE_LIMIT` vectors, the most asked ones and a seeded sample of the rest shape the clusters.
    3. Vectors whose nearest neighbors are no nearer than unrelated vectors are set aside as outliers.
    4. Each vector moves towards its nearest neighbors, which evens out wording.
    5. Ward's tree is cut at the wanted number, and the cut starts a spherical k-means. Of fewer than `FEW` vectors,
       where the nearest neighbors are often of another topic, it moves the vectors as they are.
    6. The vectors outside the sample join the nearest cluster.

    Needs at least as many vectors as clusters. Deterministic for the same vectors in the same order.
    """
    weights = 1.0 + np.log(counts)
    sampled = _sample(counts, SAMPLE_LIMIT, seed)
    own, mass = vectors[sampled], weights[sampled]
    near = find_neighbors(own, own, own=True)
    smoothed = smooth(own, mass, near, own)
    strange = _find_strange(own, smoothed, mass, seed)
    outlying = _closeness(near, counts[sampled]) < strange
    if (~outlying).sum() < max(2, clusters or 0):
        outlying[:] = False
    labels, centers, chosen_by = _shape(own, smoothed, mass, outlying, clusters, seed)
    found = Clustering(labels, outlying, len(centers), chosen_by, sampled)
    return found if len(sampled) == len(vectors) else _extend(found, vectors, counts, centers, strange)


def _shape(
    vectors: Vectors, smoothed: Vectors, weights: Weights, outlying: NDArray[np.bool_], wanted: int | None, seed: int
) -> tuple[Labels, Vectors, str]:
    """Return the cluster of each vector, the centers of the clusters, and how their number was chosen."""
    inside = np.flatnonzero(~outlying)
    merges = grow_tree(smoothed[inside])
    clusters, chosen_by = wanted or 1, "set by hand"
    if wanted is None:
        clusters, chosen_by = choose_clusters(vectors[inside], weights[inside], merges, seed=seed)
    labels = np.empty(len(vectors), dtype=np.int64)
    moving = vectors if len(vectors) < FEW else smoothed
    labels[inside] = refine(moving[inside], weights[inside], cut(merges, clusters), clusters)
    centers = centers_of(vectors[inside], labels[inside], weights[inside], clusters)
    labels[outlying] = nearest(vectors[outlying], centers)[0]
    return labels, centers_of(smoothed[inside], labels[inside], weights[inside], clusters), chosen_by


def _extend(found: Clustering, vectors: Vectors, counts: Weights, centers: Vectors, strange: float) -> Clustering:
    """Return the clustering of all vectors: those outside the sample join the nearest center."""
    pool = vectors[found.sampled]
    labels = np.empty(len(vectors), dtype=np.int64)
    outlying = np.empty(len(vectors), dtype=np.bool_)
    rest = np.setdiff1d(np.arange(len(vectors)), found.sampled)
    labels[found.sampled], outlying[found.sampled] = found.labels, found.outlying
    for start in range(0, len(rest), _PART):
        rows = rest[start : start + _PART]
        near = find_neighbors(vectors[rows], pool, own=False)
        outlying[rows] = _closeness(near, counts[rows]) < strange
        labels[rows] = nearest(smooth(vectors[rows], 1.0 + np.log(counts[rows]), near, pool), centers)[0]
    return Clustering(labels, outlying, found.clusters, found.chosen_by, found.sampled)


def _sample(counts: Weights, limit: int, seed: int) -> Labels:
    """Return the rows that shape the clusters: half of them the most asked ones, half a sample of the others."""
    if len(counts) <= limit:
        return np.arange(len(counts))
    order = np.argsort(-counts, kind="stable")
    drawn = np.random.default_rng(seed).choice(order[limit // 2 :], limit - limit // 2, replace=False)
    return np.sort(np.concatenate([order[: limit // 2], drawn]))


def _closeness(near: Neighbors, counts: Weights) -> Vectors:
    """Return the mean similarity of each vector to its nearest five others; a repeated query is its own neighbor."""
    few = near.first(5).similarity
    copies = np.minimum(counts - 1, few.shape[1]).astype(np.int64)
    ranks = np.arange(few.shape[1])
    shifted = np.take_along_axis(few, (ranks - copies[:, None]).clip(0), 1)
    return np.asarray(np.where(ranks < copies[:, None], 1.0, shifted).mean(axis=1), dtype=np.float32)


def _find_strange(vectors: Vectors, smoothed: Vectors, weights: Weights, seed: int) -> float:
    """Return the similarity that 99 of 100 unrelated pairs stay below: an outlier is no nearer to its neighbors.

    Unrelated are pairs from different branches of the tree, at its finest good cut up to sqrt(n). Of fewer than
    `FEW` vectors, where many a topic has hardly five questions, 90 of 100.
    """
    sample = _draw(len(vectors), SAMPLE_LIMIT // 2, seed)
    branches = _branches(vectors[sample], weights[sample], grow_tree(smoothed[sample]))
    left, right = np.random.default_rng(seed).integers(0, len(sample), (2, 20_000))
    strangers = branches[left] != branches[right]
    if not strangers.any():
        return -2.0
    left, right = sample[left[strangers]], sample[right[strangers]]
    return float(np.quantile(np.einsum("ij,ij->i", vectors[left], vectors[right]), 0.9 if len(vectors) < FEW else 0.99))


def _draw(count: int, limit: int, seed: int) -> Labels:
    if count <= limit:
        return np.arange(count)
    return np.sort(np.random.default_rng(seed).choice(count, limit, replace=False))


def _branches(vectors: Vectors, weights: Weights, merges: NDArray[np.float64]) -> Labels:
    grid = np.unique(np.geomspace(1, max(1, np.sqrt(len(vectors))), 20).round().astype(int))
    cuts = [cut(merges, int(k)) for k in grid]
    scores = np.array([silhouette(vectors, one, weights) for one in cuts])
    return cuts[int(np.flatnonzero(scores >= 0.8 * scores.max())[-1])]

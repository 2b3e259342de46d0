"""Rule: vectors, their neighbors, centers and Ward's tree; what the clustering and the choice of its number build on.

Knows nothing of texts, scores or topics.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]
Labels = NDArray[np.int64]
Weights = NDArray[np.float64]
Tree = NDArray[np.float64]  # the merges, as scipy's `linkage` gives them

NEIGHBORS = 8
_BLOCK = 512  # rows per matrix product: bounds memory at _BLOCK x the sample's size
_SMOOTHING = 0.6  # share of a vector that its neighbors replace


@dataclass(frozen=True, slots=True)
class Neighbors:
    """The nearest other vectors of each vector, nearest first, with their similarity."""

    at: Labels
    similarity: Vectors

    def first(self, count: int) -> "Neighbors":
        """Return the nearest `count` of them."""
        return Neighbors(self.at[:, :count], self.similarity[:, :count])


def normalize(vectors: Vectors) -> Vectors:
    """Return the vectors scaled to length 1 (a zero vector stays zero)."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(lengths, 1e-12), dtype=np.float32)


def nearest(vectors: Vectors, centers: Vectors) -> tuple[Labels, Vectors]:
    """Return for each vector the center with the largest dot product, and that product."""
    labels = np.empty(len(vectors), dtype=np.int64)
    products = np.empty(len(vectors), dtype=np.float32)
    for rows in blocks(len(vectors), 8_192):
        similarity = vectors[rows] @ centers.T
        labels[rows] = similarity.argmax(axis=1)
        products[rows] = np.take_along_axis(similarity, labels[rows][:, None], axis=1)[:, 0]
    return labels, products


def cluster_sums(vectors: Vectors, labels: Labels, weights: Weights, clusters: int) -> tuple[Weights, Weights]:
    """Return the weighted sum of the vectors of each cluster, and the weight of each cluster."""
    from scipy.sparse import csr_matrix

    at = np.arange(len(labels))
    membership = csr_matrix((weights, (labels, at)), shape=(clusters, len(labels)))
    return np.asarray(membership @ vectors), np.bincount(labels, weights, clusters).astype(np.float64)


def centers_of(vectors: Vectors, labels: Labels, weights: Weights, clusters: int) -> Vectors:
    """Return the weighted mean of each cluster's vectors, at length 1."""
    return normalize(cluster_sums(vectors, labels, weights, clusters)[0].astype(np.float32))


def refine(vectors: Vectors, weights: Weights, labels: Labels, clusters: int) -> Labels:
    """Spherical k-means from a given start; stops when nothing moves, or before a cluster would become empty."""
    for _ in range(50):
        moved, _ = nearest(vectors, centers_of(vectors, labels, weights, clusters))
        if np.array_equal(moved, labels) or np.bincount(moved, minlength=clusters).min() == 0:
            break
        labels = moved
    return labels


def find_neighbors(vectors: Vectors, pool: Vectors, *, own: bool) -> Neighbors:
    """Return the neighbors of the vectors among the pool; with `own` the pool is the vectors themselves."""
    count = max(1, min(NEIGHBORS, int(np.sqrt(len(pool)) / 2), len(pool) - own))
    at = np.empty((len(vectors), count), dtype=np.int64)
    found = np.empty((len(vectors), count), dtype=np.float32)
    for rows in blocks(len(vectors)):
        similarity = vectors[rows] @ pool.T
        if own:
            np.fill_diagonal(similarity[:, rows.start :], -2.0)
        best = np.argpartition(-similarity, min(count, len(pool) - 1), axis=1)[:, :count]
        values = np.take_along_axis(similarity, best, axis=1)
        order = np.argsort(-values, axis=1, kind="stable")
        at[rows] = np.take_along_axis(best, order, axis=1)
        found[rows] = np.take_along_axis(values, order, axis=1)
    return Neighbors(at, found)


def smooth(vectors: Vectors, weights: Weights, near: Neighbors, pool: Vectors) -> Vectors:
    """Return each unit vector mixed with the mean of its nearest neighbors in the pool, at length 1.

    Neighbors are weighted by squared similarity. Their number grows with the square root of the pool, from none below 9
    vectors to 8 from about 600. A frequent query moves less, because its own copies are among its neighbors.
    """
    count = min(near.at.shape[1], int(np.sqrt(len(pool)) / 3))
    if not count:
        return vectors
    pull = np.clip(near.similarity[:, :count], 0.0, None) ** 2
    pull = pull / np.maximum(pull.sum(axis=1, keepdims=True), 1e-12)
    mean = np.zeros_like(vectors)
    for column in range(count):
        mean += pull[:, column, None] * pool[near.at[:, column]]
    share = (_SMOOTHING * count / (count + weights - 1))[:, None].astype(np.float32)
    return normalize((1 - share) * vectors + share * mean)


def grow_tree(vectors: Vectors) -> Tree:
    """Return the merges of Ward's tree; distances come from matrix products, many times faster than pair by pair."""
    from scipy.cluster.hierarchy import linkage

    count = len(vectors)
    if count < 2:
        return np.empty((0, 4))
    distances = np.empty(count * (count - 1) // 2)
    end = 0
    for rows in blocks(count):
        squared = 2.0 - 2.0 * (vectors[rows] @ vectors[rows.start :].T)
        for row in range(len(squared)):
            tail = np.maximum(squared[row, row + 1 :], 0.0)
            distances[end : end + len(tail)] = np.sqrt(tail)
            end += len(tail)
    return np.asarray(linkage(distances, method="ward"))


def cut(merges: Tree, clusters: int) -> Labels:
    """Undo the last `clusters - 1` merges; gives exactly that many clusters even when distances tie."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    leaves = len(merges) + 1
    kept = leaves - clusters
    parents = np.repeat(np.arange(leaves, leaves + kept), 2)
    children = merges[:kept, :2].astype(np.int64).ravel()
    nodes = leaves + kept
    graph = coo_matrix((np.ones(2 * kept), (parents, children)), shape=(nodes, nodes))
    return np.asarray(connected_components(graph, directed=False)[1][:leaves], dtype=np.int64)


def blocks(count: int, size: int = _BLOCK) -> Iterator[slice]:
    """Return slices of at most `size` rows."""
    for start in range(0, count, size):
        yield slice(start, min(start + size, count))

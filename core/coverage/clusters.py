"""Rule: clusters weighted vectors. Ward's tree on smoothed unit vectors, refined by weighted k-means.

Knows nothing of texts, scores or topics: `topics.py` names and ranks what is found here.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]
Labels = NDArray[np.int64]
Weights = NDArray[np.float64]

TREE_LIMIT = 5_000  # Ward's tree holds n^2/2 distances: 100 MB at this size
POOL_LIMIT = 10_000  # neighbors are looked for among so many vectors at most
_BLOCK = 512  # rows a matrix product: bounds memory at _BLOCK x POOL_LIMIT
_SMOOTHING = 0.7  # how much of a vector its neighbors replace
_MOST_CLUSTERS = 300
_NEARLY_BEST = 0.88  # see `_choose_clusters`


@dataclass(frozen=True, slots=True)
class Clustering:
    """A cluster number 0..k-1 for every vector, the nearest one for outliers, which make up no cluster themselves."""

    labels: Labels
    outlying: NDArray[np.bool_]
    clusters: int
    chosen_by: str


@dataclass(frozen=True, slots=True)
class _Neighbors:
    """The nearest other vectors of each vector, nearest first, with their similarity."""

    at: Labels
    similarity: Vectors

    def first(self, count: int) -> "_Neighbors":
        return _Neighbors(self.at[:, :count], self.similarity[:, :count])


def normalize(vectors: Vectors) -> Vectors:
    """Return the vectors at length 1 (a zero vector stays zero)."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(lengths, 1e-12), dtype=np.float32)


def cluster_vectors(vectors: Vectors, weights: Weights, *, clusters: int | None = None, seed: int = 0) -> Clustering:
    """Return `clusters` groups of unit vectors, or as many as the silhouette asks for.

    1. Vectors whose nearest neighbors are no nearer than strangers are set aside as outliers.
    2. Each vector moves towards its nearest neighbors, which evens out wording.
    3. Ward's tree over at most `TREE_LIMIT` vectors (beyond that a seeded sample) is cut at the wanted number.
    4. The cut starts a spherical k-means over all vectors, where a vector pulls by its weight.

    Needs at least as many vectors as clusters. The same vectors in the same order give the same answer.
    """
    near = _find_neighbors(vectors, max(1, min(8, int(np.sqrt(len(vectors)) / 2))), seed)
    smooth = _smooth(vectors, weights, near)
    outlying = _find_outliers(vectors, smooth, weights, near, seed)
    if (~outlying).sum() < max(2, clusters or 0):
        outlying[:] = False
    inside = np.flatnonzero(~outlying)
    sample = inside[_sample(len(inside), TREE_LIMIT, seed)]
    merges = _grow_tree(smooth[sample])
    chosen_by = "set by hand"
    if clusters is None:
        clusters, chosen_by = _choose_clusters(vectors[sample], weights[sample], merges)
    start = _centers(smooth[sample], _cut(merges, clusters), weights[sample], clusters)
    labels = nearest(smooth, start)[0]
    labels[sample] = _cut(merges, clusters)
    labels[inside] = _refine(smooth[inside], weights[inside], labels[inside], clusters)
    centers = _centers(vectors[inside], labels[inside], weights[inside], clusters)
    labels[outlying] = nearest(vectors[outlying], centers)[0]
    return Clustering(labels, outlying, clusters, chosen_by)


def nearest(vectors: Vectors, centers: Vectors) -> tuple[Labels, Vectors]:
    """Return for each vector the center with the largest dot product, and that product."""
    labels = np.empty(len(vectors), dtype=np.int64)
    products = np.empty(len(vectors), dtype=np.float32)
    for rows in _blocks(len(vectors), 8_192):
        similarity = vectors[rows] @ centers.T
        labels[rows] = similarity.argmax(axis=1)
        products[rows] = np.take_along_axis(similarity, labels[rows][:, None], axis=1)[:, 0]
    return labels, products


def silhouette(vectors: Vectors, labels: Labels, weights: Weights) -> float:
    """Return the weighted mean silhouette (-1..1) under cosine distance; 0 for a single cluster.

    For unit vectors the mean distance to a cluster is 1 - x.mean(cluster), so the figure is exact without n^2
    distances (Rousseeuw 1987). A vector that is alone in its cluster counts 0.
    """
    clusters = int(labels.max()) + 1
    if clusters < 2:
        return 0.0
    sums, sizes = cluster_sums(vectors, labels, weights, clusters)
    total = 0.0
    for rows in _blocks(len(vectors)):
        mine, mass = labels[rows], weights[rows]
        toward = vectors[rows] @ sums.T
        at = np.arange(len(mine))
        others = np.maximum(sizes[mine] - mass, 1e-9)
        inside = 1.0 - (toward[at, mine] - mass) / others
        outside = 1.0 - toward / sizes
        outside[at, mine] = np.inf
        nearest = outside.min(axis=1)
        score = (nearest - inside) / np.maximum(np.maximum(inside, nearest), 1e-9)
        total += float((score * mass)[sizes[mine] - mass > 1e-9].sum())
    return total / float(weights.sum())


def cluster_sums(vectors: Vectors, labels: Labels, weights: Weights, clusters: int) -> tuple[Weights, Weights]:
    """Return the weighted sum of the vectors of each cluster, and the weight of each cluster."""
    from scipy.sparse import csr_matrix

    at = np.arange(len(labels))
    membership = csr_matrix((weights, (labels, at)), shape=(clusters, len(labels)))
    return np.asarray(membership @ vectors), np.bincount(labels, weights, clusters).astype(np.float64)


def _sample(count: int, limit: int, seed: int) -> Labels:
    if count <= limit:
        return np.arange(count)
    return np.sort(np.random.default_rng(seed).choice(count, limit, replace=False))


def _centers(vectors: Vectors, labels: Labels, weights: Weights, clusters: int) -> Vectors:
    sums, _ = cluster_sums(vectors, labels, weights, clusters)
    return normalize(sums.astype(np.float32))


def _find_neighbors(vectors: Vectors, count: int, seed: int) -> _Neighbors:
    pool = _sample(len(vectors), POOL_LIMIT, seed)
    count = min(count, len(pool) - 1)
    place = np.full(len(vectors), -1)
    place[pool] = np.arange(len(pool))
    at = np.empty((len(vectors), count), dtype=np.int64)
    found = np.empty((len(vectors), count), dtype=np.float32)
    for rows in _blocks(len(vectors)):
        similarity = vectors[rows] @ vectors[pool].T
        own = place[rows]
        similarity[np.flatnonzero(own >= 0), own[own >= 0]] = -2.0
        best = np.argpartition(-similarity, min(count, len(pool) - 1), axis=1)[:, :count]
        values = np.take_along_axis(similarity, best, axis=1)
        order = np.argsort(-values, axis=1, kind="stable")
        at[rows] = pool[np.take_along_axis(best, order, axis=1)]
        found[rows] = np.take_along_axis(values, order, axis=1)
    return _Neighbors(at, found)


def _smooth(vectors: Vectors, weights: Weights, near: _Neighbors) -> Vectors:
    """Return each unit vector mixed with the mean of its nearest neighbors, at length 1.

    Neighbors count by their squared similarity. Their number grows with the square root of the vectors, from none
    below 16 vectors to 8 from about 1,000 on, so that small sets are left as they are. A query asked often is moved
    less: its own copies are among its neighbors.
    """
    near = near.first(min(8, int(np.sqrt(len(vectors)) / 4)))
    if not near.at.size:
        return vectors
    pull = np.clip(near.similarity, 0.0, None) ** 2
    pull = pull / np.maximum(pull.sum(axis=1, keepdims=True), 1e-12)
    mean = np.zeros_like(vectors)
    for column in range(pull.shape[1]):
        mean += pull[:, column, None] * vectors[near.at[:, column]]
    count = pull.shape[1]
    share = (_SMOOTHING * count / (count + weights - 1))[:, None].astype(np.float32)
    return normalize((1 - share) * vectors + share * mean)


def _find_outliers(
    vectors: Vectors, smooth: Vectors, weights: Weights, near: _Neighbors, seed: int
) -> NDArray[np.bool_]:
    """Return which vectors belong nowhere: their nearest neighbors are no nearer than strangers are.

    The mean similarity to the nearest five others (a query asked again is its own neighbor) is held against pairs
    from different branches of the tree (its finest good cut up to sqrt(n)); an outlier stays below 99 of 100 of those.
    """
    few = near.first(5).similarity
    copies = np.minimum(weights - 1, few.shape[1]).astype(np.int64)
    ranks = np.arange(few.shape[1])
    closeness = np.where(ranks < copies[:, None], 1.0, np.take_along_axis(few, (ranks - copies[:, None]).clip(0), 1))
    sample = _sample(len(vectors), TREE_LIMIT // 2, seed)
    branches = _branches(vectors[sample], weights[sample], _grow_tree(smooth[sample]))
    left, right = np.random.default_rng(seed).integers(0, len(sample), (2, 20_000))
    strangers = branches[left] != branches[right]
    if not strangers.any():
        return np.zeros(len(vectors), dtype=np.bool_)
    left, right = sample[left[strangers]], sample[right[strangers]]
    strange = np.quantile(np.einsum("ij,ij->i", vectors[left], vectors[right]), 0.99)
    return np.asarray(closeness.mean(axis=1) < strange)


def _branches(vectors: Vectors, weights: Weights, merges: NDArray[np.float64]) -> Labels:
    grid = np.unique(np.geomspace(1, max(1, np.sqrt(len(vectors))), 20).round().astype(int))
    cuts = [_cut(merges, int(k)) for k in grid]
    scores = np.array([silhouette(vectors, cut, weights) for cut in cuts])
    return cuts[int(np.flatnonzero(scores >= 0.8 * scores.max())[-1])]


def _grow_tree(vectors: Vectors) -> NDArray[np.float64]:
    """Return the merges of Ward's tree; distances by matrix product, many times faster than pair by pair."""
    from scipy.cluster.hierarchy import linkage

    count = len(vectors)
    if count < 2:
        return np.empty((0, 4))
    distances = np.empty(count * (count - 1) // 2)
    end = 0
    for rows in _blocks(count):
        squared = 2.0 - 2.0 * (vectors[rows] @ vectors[rows.start :].T)
        for row in range(len(squared)):
            tail = np.maximum(squared[row, row + 1 :], 0.0)
            distances[end : end + len(tail)] = np.sqrt(tail)
            end += len(tail)
    return np.asarray(linkage(distances, method="ward"))


def _cut(merges: NDArray[np.float64], clusters: int) -> Labels:
    """Undo the last `clusters - 1` merges; exactly that many clusters also where distances tie."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    leaves = len(merges) + 1
    kept = leaves - clusters
    parents = np.repeat(np.arange(leaves, leaves + kept), 2)
    children = merges[:kept, :2].astype(np.int64).ravel()
    nodes = leaves + kept
    graph = coo_matrix((np.ones(2 * kept), (parents, children)), shape=(nodes, nodes))
    return np.asarray(connected_components(graph, directed=False)[1][:leaves], dtype=np.int64)


def _choose_clusters(vectors: Vectors, weights: Weights, merges: NDArray[np.float64]) -> tuple[int, str]:
    """Return a number of clusters that the silhouette supports, and how it was chosen.

    The silhouette of short texts is a plateau that creeps up with ever finer cuts. Of the cuts within 12% of the best,
    the coarsest with at least sqrt(n) clusters is taken, else the finest: many similar questions never end up in a
    handful of vague topics, and well separated groups, where few cuts come near the best, are found as they are.
    """
    most = min(len(vectors) // 3, _MOST_CLUSTERS)
    if most < 2:
        return 1, "too few distinct queries to split"
    grid = np.unique(np.geomspace(2, most, 40).round().astype(int))
    scores = np.array([silhouette(vectors, _cut(merges, int(k)), weights) for k in grid])
    method = f"silhouette over 2..{most}"
    if scores.max() <= 0:
        return 1, f"{method}: no split is better than none"
    good = grid[scores >= _NEARLY_BEST * scores.max()]
    fine = good[good >= np.sqrt(len(vectors))]
    return int(fine[0] if len(fine) else good[-1]), method


def _refine(smooth: Vectors, weights: Weights, labels: Labels, clusters: int) -> Labels:
    """Spherical k-means from a start; stops when nothing moves, or before a cluster would run empty."""
    for _ in range(50):
        moved, _ = nearest(smooth, _centers(smooth, labels, weights, clusters))
        if np.array_equal(moved, labels) or np.bincount(moved, minlength=clusters).min() == 0:
            break
        labels = moved
    return labels


def _blocks(count: int, size: int = _BLOCK) -> Iterator[slice]:
    for start in range(0, count, size):
        yield slice(start, min(start + size, count))

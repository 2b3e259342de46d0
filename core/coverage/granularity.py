"""Rule: how many clusters a tree is cut into: as many as are well separated and come out of both halves of the data.

Knows nothing of texts, scores or topics.
"""

import numpy as np

from core.coverage.trees import (
    Labels,
    Tree,
    Vectors,
    Weights,
    blocks,
    cluster_sums,
    cut,
    find_neighbors,
    grow_tree,
    nearest,
    smooth,
)

MOST_CLUSTERS = 300
_GRID = 40
_NEARLY_BEST, _NEARLY_BEST_OF_FEW = 0.93, 0.97
_DIFFUSE = 0.42  # halves that agree less have no groups in common
_MOST_ROUGH = 40
FEW = 400  # below this, the agreement of halves is itself uncertain


def choose_clusters(vectors: Vectors, weights: Weights, merges: Tree, *, seed: int) -> tuple[int, str]:
    """Return a number of clusters that the data support, and how it was chosen.

    A cut is rated by its silhouette times its stability (Ben-Hur et al. 2002): both halves of the data are clustered
    alone, and stability is the adjusted Rand index between a half's own clusters and those that its nearest neighbors
    in the other half give it. The silhouette of short texts rises slowly with ever finer cuts, and stability falls. Of
    the cuts within 7% of the best, takes the coarsest with at least sqrt(n / 2) clusters, or 40, else the finest; then
    the best nearby. So many similar questions never collapse into a few vague topics, and well separated groups, where
    few cuts come near the best, are found as they are. With fewer than 400 vectors, where halves differ by chance, the
    root of the stability counts, within 3%, and the coarsest cut is taken.

    Where the halves hardly agree (below 0.42) the texts are diffuse, and no number is right: takes sqrt(n / 2) (Mardia
    et al. 1979), at most 40. Below six vectors, takes one cluster.
    """
    most = min(len(vectors) // 2, MOST_CLUSTERS)
    if most < 3:
        return 1, "too few distinct queries to split"
    halves = _split(vectors, weights, seed)
    power, nearly = (0.5, _NEARLY_BEST_OF_FEW) if len(vectors) < FEW else (1.0, _NEARLY_BEST)

    def rate(clusters: int) -> tuple[float, float]:
        stability = max(0.001, float(np.mean([half.agreement(clusters) for half in halves])))
        return silhouette(vectors, cut(merges, clusters), weights) * stability**power, stability

    grid = np.unique(np.geomspace(2, most, _GRID).round().astype(int))
    rated = np.array([rate(int(k)) for k in grid])
    method = f"silhouette and stability over 2..{most}"
    if rated[:, 0].max() <= 0:
        return 1, f"{method}: no split is better than none"
    rough = max(2, min(_MOST_ROUGH, round(np.sqrt(len(vectors) / 2))))
    good = np.flatnonzero(rated[:, 0] >= nearly * rated[:, 0].max())
    fine = good[grid[good] >= rough] if len(vectors) >= FEW else good
    first = int(fine[0] if len(fine) else good[-1])
    if rated[first, 1] < _DIFFUSE:
        return rough, f"{method}: diffuse, sqrt(n / 2)"
    near = range(int(grid[max(0, first - 1)]) + 1, int(grid[min(len(grid) - 1, first + 1)]))
    return max(near, key=lambda k: (rate(k)[0], -k), default=int(grid[first])), method


def silhouette(vectors: Vectors, labels: Labels, weights: Weights) -> float:
    """Return the weighted mean silhouette (-1..1) under cosine distance; 0 for a single cluster.

    For unit vectors the mean distance to a cluster is 1 - x.mean(cluster), so the figure is exact without n^2
    distances (Rousseeuw 1987). A vector alone in its cluster counts 0.
    """
    clusters = int(labels.max()) + 1
    if clusters < 2:
        return 0.0
    sums, sizes = cluster_sums(vectors, labels, weights, clusters)
    total = 0.0
    for rows in blocks(len(vectors)):
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


def adjusted_rand(left: Labels, right: Labels) -> float:
    """Return how far two groupings agree, 1 for equal ones and 0 by chance (Hubert and Arabie 1985)."""
    width = int(right.max()) + 1
    table = np.bincount(left * width + right, minlength=(int(left.max()) + 1) * width).reshape(-1, width)
    both, rows, columns = (_count_pairs(counts) for counts in (table, table.sum(axis=1), table.sum(axis=0)))
    expected = rows * columns / max(1.0, len(left) * (len(left) - 1) / 2)
    most = (rows + columns) / 2
    return (both - expected) / (most - expected) if most > expected else 1.0


def _count_pairs(counts: Labels) -> float:
    return float((counts * (counts - 1.0)).sum() / 2)


class _Halves:
    """Two halves of the vectors, each with its own tree and its nearest neighbors in the other."""

    def __init__(self, left: Vectors, right: Vectors, weights: tuple[Weights, Weights]) -> None:
        self._trees = _grow(left, weights[0]), _grow(right, weights[1])
        self._to_left = nearest(right, left)[0]
        self._to_right = nearest(left, right)[0]

    def agreement(self, clusters: int) -> float:
        """Return the stability of a cut; 0 where a half has too few vectors for it."""
        if clusters > 0.6 * len(self._to_right):
            return 0.0
        left, right = (cut(tree, clusters) for tree in self._trees)
        return (adjusted_rand(right, left[self._to_left]) + adjusted_rand(left, right[self._to_right])) / 2


def _grow(vectors: Vectors, weights: Weights) -> Tree:
    return grow_tree(smooth(vectors, weights, find_neighbors(vectors, vectors, own=True), vectors))


def _split(vectors: Vectors, weights: Weights, seed: int) -> list[_Halves]:
    """Return splits into random halves: two of 2,000 vectors and more, up to eight of a few."""
    found = []
    for turn in range(8 if len(vectors) < FEW else 3 if len(vectors) < 2_000 else 2):
        order = np.random.default_rng((seed, turn)).permutation(len(vectors))
        left, right = np.sort(order[: len(order) // 2]), np.sort(order[len(order) // 2 :])
        found.append(_Halves(vectors[left], vectors[right], (weights[left], weights[right])))
    return found

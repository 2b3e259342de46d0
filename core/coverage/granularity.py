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
    refine,
    smooth,
)

MOST_CLUSTERS = 300
_GRID = 40
_NEARLY_BEST = 0.93
_DIFFUSE = 0.42  # halves that agree less have no groups in common
_MOST_ROUGH = 40
FEW = 400  # below this, the agreement of halves is itself uncertain
_TRUST, _PRIOR, _FADING, _USUAL = 12.0, 9.0, 3.0, 0.65  # see `_weigh_cuts`
_NEARBY = 1.15
_HARDLY = 0.3  # `_DIFFUSE` for few, as a mean over the cuts


def choose_clusters(vectors: Vectors, weights: Weights, merges: Tree, *, seed: int) -> tuple[int, str]:
    """Return a number of clusters that the data support, and how it was chosen.

    A cut is rated by its silhouette times its stability (Ben-Hur et al. 2002): both halves of the data are clustered
    alone, and stability is the adjusted Rand index between a half's own clusters and those that its nearest neighbors
    in the other half give it. The silhouette of short texts rises slowly with ever finer cuts, and stability falls. Of
    the cuts within 7% of the best, takes the coarsest with at least sqrt(n / 2) clusters, or 40, else the finest; then
    the best nearby. So many similar questions never collapse into a few vague topics, and well separated groups, where
    few cuts come near the best, are found as they are.

    Where the halves hardly agree (below 0.42) the texts are diffuse, and no number is right: takes sqrt(n / 2) (Mardia
    et al. 1979), at most 40. With fewer than 400 vectors, where the best cut changes with every few more questions,
    takes the mean of all cuts, as `_weigh_cuts` weighs them, or 0.65 sqrt(n) for diffuse ones. Below six vectors, takes
    one cluster.
    """
    most = min(len(vectors) // 2, MOST_CLUSTERS)
    if most < 3:
        return 1, "too few distinct questions to split"
    grid = np.unique(np.geomspace(2, most, _GRID).round().astype(int))
    method = f"silhouette and stability over 2..{most}"
    choose = _average if len(vectors) < FEW else _choose_of_many
    chosen, note = choose(_Cuts(vectors, weights, merges, _split(vectors, weights, seed)), grid)
    distinct = len(np.unique(vectors.round(4), axis=0)) if len(vectors) < FEW else len(vectors)
    return min(chosen, distinct), method + note  # what points in one direction is one group


def _choose_of_many(cuts: "_Cuts", grid: Labels) -> tuple[int, str]:
    """Return the best of the cuts that are nearly best, and a remark."""
    stability = np.array([cuts.stability(int(k)) for k in grid])
    rated = np.array([cuts.separation(int(k)) for k in grid]) * stability
    if rated.max() <= 0:
        return 1, ": no split is better than none"
    rough = max(2, min(_MOST_ROUGH, round(np.sqrt(cuts.count / 2))))
    good = np.flatnonzero(rated >= _NEARLY_BEST * rated.max())
    fine = good[grid[good] >= rough]
    first = int(fine[0] if len(fine) else good[-1])
    if stability[first] < _DIFFUSE:
        return rough, ": diffuse, sqrt(n / 2)"
    near = range(int(grid[max(0, first - 1)]) + 1, int(grid[min(len(grid) - 1, first + 1)]))
    best = max(near, key=lambda k: (cuts.separation(k) * cuts.stability(k), -k), default=int(grid[first]))
    return best, ""


def _average(cuts: "_Cuts", grid: Labels) -> tuple[int, str]:
    """Return the weighted geometric mean of the numbers, moved by at most 15% to the best rated one, and a remark."""
    stability = np.array([cuts.stability(int(k)) for k in grid])
    rated = np.array([cuts.separation_of_few(int(k)) for k in grid]) * np.sqrt(stability)
    if rated.max() <= 0:
        return 1, ": no split is better than none"
    usual = _USUAL * np.sqrt(cuts.count)
    agreed = _agreement(grid, rated, stability)
    if agreed < _HARDLY:
        return max(2, min(int(grid[-1]), round(usual))), ": diffuse, 0.65 sqrt(n)"
    shares = _weigh_cuts(grid, rated, agreed=agreed, usual=usual)
    mean = float(np.exp((shares * np.log(grid)).sum()))
    near = range(max(2, int(np.ceil(mean / _NEARBY))), min(int(grid[-1]), int(mean * _NEARBY)) + 1)
    best = max(near, key=lambda k: (cuts.separation_of_few(k) * cuts.stability(k) ** 0.5, -k), default=round(mean))
    return best, ": the mean of the cuts"


def _agreement(grid: Labels, rated: Weights, stability: Weights) -> float:
    """Return the mean stability of the cuts, weighted by the fourth power of their rating, on a logarithmic scale."""
    return float(np.average(stability, weights=(np.maximum(rated, 0.0) / rated.max()) ** 4 * _widths(grid)))


def _weigh_cuts(grid: Labels, rated: Weights, *, agreed: float, usual: float) -> Weights:
    """Return how much each cut counts, as shares: its rating to the power of 12 `agreed`, times a prior.

    The prior is log-normal around the usual number for as many questions, with precision 9 exp(-3 `agreed`): where
    halves find other groups, ratings mean little. A number counts by its share of the logarithmic scale. The constants
    come from 170 sets of 40 to 249 questions in 3 to 20 classes (docs/figures.md).
    """
    weighed = _TRUST * agreed * np.log(np.maximum(rated, 1e-6) / rated.max())
    weighed -= _PRIOR * np.exp(-_FADING * agreed) * (np.log(grid) - np.log(usual)) ** 2 / 2
    shares = np.exp(weighed - weighed.max()) * _widths(grid)
    return np.asarray(shares / shares.sum())


def _widths(grid: Labels) -> Weights:
    return np.asarray(np.gradient(np.log(grid)) if len(grid) > 1 else np.ones(1), dtype=np.float64)


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


class _Cuts:
    """The cuts of one tree, rated."""

    def __init__(self, vectors: Vectors, weights: Weights, merges: Tree, halves: "list[_Halves]") -> None:
        self.count = len(vectors)
        self._vectors, self._weights, self._merges, self._halves = vectors, weights, merges, halves

    def separation(self, clusters: int) -> float:
        """Return the silhouette of a cut."""
        return silhouette(self._vectors, cut(self._merges, clusters), self._weights)

    def stability(self, clusters: int) -> float:
        """Return how far both halves agree in it, at least a little."""
        return max(0.001, float(np.mean([half.agreement(clusters) for half in self._halves])))

    def separation_of_few(self, clusters: int) -> float:
        """Return the silhouette of a cut of few vectors: of the clusters that k-means makes of it."""
        labels = refine(self._vectors, self._weights, cut(self._merges, clusters), clusters)
        return silhouette(self._vectors, labels, self._weights)


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

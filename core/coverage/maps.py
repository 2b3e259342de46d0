"""Rule: places questions on a map, so that those that ask alike lie together."""

import numpy as np
from numpy.typing import NDArray

from core.coverage.trees import normalize
from core.errors import InvalidInput

MAP_LIMIT = 2_000


def map_queries(vectors: NDArray[np.float32], *, seed: int = 0) -> NDArray[np.float64]:
    """Return a point (x, y) for each vector: t-SNE with cosine distances, seeded.

    Neighborhoods are reliable, distances between far groups are not. Raises InvalidInput above 2,000 vectors.
    """
    from sklearn.manifold import TSNE

    if len(vectors) > MAP_LIMIT:
        raise InvalidInput("vectors", f"a map holds at most {MAP_LIMIT} points, not {len(vectors)}")
    unit = normalize(np.asarray(vectors, dtype=np.float32))
    plane = _principal_plane(unit)
    if len(unit) < 5 or float(np.ptp(plane)) < 1e-6:
        return plane
    perplexity = min(30.0, (len(unit) - 1) / 3)
    start = (plane / plane[:, 0].std() * 1e-4).astype(np.float32)
    points = TSNE(2, perplexity=perplexity, init=start, random_state=seed, n_jobs=1).fit_transform(unit)
    return np.asarray(points, dtype=np.float64)


def _principal_plane(unit: NDArray[np.float32]) -> NDArray[np.float64]:
    centered = unit.astype(np.float64) - (unit.mean(axis=0) if len(unit) else 0.0)
    if min(centered.shape) == 0:
        return np.zeros((len(unit), 2))
    left, sizes, right = np.linalg.svd(centered, full_matrices=False)
    plane = np.zeros((len(unit), 2))
    for axis in range(min(2, len(sizes))):
        sign = np.sign(right[axis][np.abs(right[axis]).argmax()])
        plane[:, axis] = left[:, axis] * sizes[axis] * sign
    return plane

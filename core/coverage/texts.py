"""Rule: merges queries whose texts are equal but for case and spaces, and keeps their vectors and counts together."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from core.coverage.trees import cluster_sums, normalize
from core.log.values import AskedQuery, normalize_query


@dataclass(frozen=True, slots=True)
class Texts:
    """The queries with equal texts merged, ordered by name so that the order of rows does not matter.

    `weights` are times asked, `of_query` is the place of each query's text, `written` its most frequent spelling.
    """

    names: tuple[str, ...]
    vectors: NDArray[np.float32]
    weights: NDArray[np.float64]
    of_query: NDArray[np.int64]
    written: tuple[str, ...]

    @property
    def rows(self) -> list[list[int]]:
        """The queries of each text."""
        found: list[list[int]] = [[] for _ in self.names]
        for row, at in enumerate(self.of_query.tolist()):
            found[at].append(row)
        return found


def merge_texts(queries: Sequence[AskedQuery], vectors: NDArray[np.float32]) -> Texts:
    """Return the distinct texts of the queries with unit vectors: the means of their spellings, by times asked."""
    keys = [normalize_query(query.text) for query in queries]
    names = sorted(set(keys))
    place = {name: at for at, name in enumerate(names)}
    of_query = np.array([place[key] for key in keys], dtype=np.int64)
    counts = np.array([query.count for query in queries], dtype=np.float64)
    if len(names) == len(keys):  # nothing to merge: without the sums in double precision, which 200,000 texts feel
        order = np.argsort(of_query)
        unit, weights = normalize(np.asarray(vectors, dtype=np.float32)[order]), counts[order]
    else:
        sums, weights = cluster_sums(normalize(np.asarray(vectors, dtype=np.float32)), of_query, counts, len(names))
        unit = normalize(sums.astype(np.float32))
    return Texts(tuple(names), unit, weights, of_query, _as_written(queries, of_query, len(names)))


def _as_written(queries: Sequence[AskedQuery], of_query: NDArray[np.int64], count: int) -> tuple[str, ...]:
    best: list[tuple[int, str]] = [(0, "")] * count
    for query, at in zip(queries, of_query.tolist(), strict=True):
        best[at] = min(best[at], (-query.count, query.text))
    return tuple(text for _, text in best)

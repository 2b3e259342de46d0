"""Rule: finds out what kind of number a retriever gave, so that no other scale is stored as a cosine.

In this order: what the service says, what the number is called, what the retriever and its library are called, and the
numbers themselves.
"""

import re
from collections.abc import Sequence
from itertools import pairwise

from quarterdeck.similarity import COSINE

_BY_NAME = (
    ("rerank", re.compile(r"re-?_?rank|cross_?-?encoder|colbert|flashrank|rankgpt", re.IGNORECASE)),
    ("bm25", re.compile(r"bm_?25|okapi|tf_?-?idf|full_?text|keyword_?search|keyword_?table", re.IGNORECASE)),
    ("rrf", re.compile(r"fusion|rrf|reciprocal|hybrid|ensemble|merger|joiner", re.IGNORECASE)),
    ("dot", re.compile(r"sparse|splade|max_inner_product|dot_product", re.IGNORECASE)),
)
_METRICS = (
    ("cosine", re.compile(r"cosine|angular", re.IGNORECASE)),
    ("dot", re.compile(r"\bip\b|inner|dot", re.IGNORECASE)),
    ("l2", re.compile(r"l2|euclid", re.IGNORECASE)),
)
_SQUARED = re.compile(r"chroma|lance|faiss|milvus", re.IGNORECASE)  # their L2 distances are squared
_ROUNDING = 1e-3
_FEWEST_IN_ORDER = 3  # numbers that never fall, from the best hit on, are distances


def find_kind(numbers: Sequence[float], label: str, *, names: str, metric: str = "", told: str | None = None) -> str:
    """Return the kind of these numbers, best hit first.

    `told` is what the service says; `label` what the number is called: a kind, `distance`, or nothing. `names` are the
    names of the retriever, its span and library; `metric` is the store's.

    >>> find_kind([3.4, 1.6], "", names="InMemoryBM25Retriever.run"), find_kind([0.8, 0.7], "", names="retrieve")
    ('bm25', 'cosine')
    >>> find_kind([0.3, 0.9], "distance", names="chroma.query")
    'squared_l2'
    """
    if told:
        return told
    if label == "distance":
        return _find_distance(numbers, names, metric)
    if label:
        return label
    for kind, pattern in _BY_NAME:
        if pattern.search(names):
            return kind
    if _rises(numbers):
        return "dot" if min(numbers) < 0 else "cosine_distance" if _are_cosines(numbers) else "l2"
    return COSINE if _is_within(numbers, -1.0, 1.0) else "dot"


def _find_distance(numbers: Sequence[float], names: str, metric: str) -> str:
    found = next((kind for kind, pattern in _METRICS if pattern.search(metric)), "")
    if not found and len(set(numbers)) > 1 and list(numbers) == sorted(numbers, reverse=True):
        found = "dot"  # the best hit has the largest number: only called a distance
    if found == "dot":
        return "dot"
    if found == "cosine":
        return "cosine_distance" if _is_within(numbers, 0.0, 2.0) else "dot"
    if min(numbers, default=0.0) < 0:
        return "dot"
    if _SQUARED.search(names):
        return "squared_l2"
    return "l2" if found == "l2" or not _are_cosines(numbers) else "cosine_distance"


def _rises(numbers: Sequence[float]) -> bool:
    """Return whether numbers only rise; a passage that is there twice has the same number twice."""
    has_risen = len(numbers) >= _FEWEST_IN_ORDER and numbers[0] < numbers[-1]
    return has_risen and all(a <= b for a, b in pairwise(numbers))


def _are_cosines(distances: Sequence[float]) -> bool:
    """Return whether these can be cosine distances: the best hit of a search points away from no question."""
    return _is_within(distances, 0.0, 2.0) and min(distances) <= 1.0


def _is_within(numbers: Sequence[float], low: float, high: float) -> bool:
    return all(low - _ROUNDING <= number <= high + _ROUNDING for number in numbers)

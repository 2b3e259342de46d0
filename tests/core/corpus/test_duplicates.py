"""Near duplicates of documents: found where half is repeated, and not where boilerplate or a subject is shared."""

import numpy as np

from core.corpus.duplicates import find_duplicates
from core.embedding.embed import Vectors


def point(seed: int, *, near: int | None = None) -> Vectors:
    row = np.random.default_rng(seed).normal(size=64)
    if near is not None:
        row = np.random.default_rng(near).normal(size=64) + 0.1 * row
    return (row / np.linalg.norm(row)).astype(np.float32)


def test_a_document_that_repeats_most_of_another_is_found_once() -> None:
    documents = ["long.md"] * 4 + ["copy.md"] * 3 + ["other.md"] * 3
    rows = [point(n) for n in range(4)] + [point(100, near=0), point(101, near=1), point(102)]
    rows += [point(n) for n in range(200, 203)]
    (pair,) = find_duplicates(documents, np.stack(rows))
    assert (pair.document, pair.other, pair.matched, pair.passages) == ("copy.md", "long.md", 2, 3)
    assert 0.95 <= pair.similarity < 1.0
    assert round(pair.share, 2) == 0.67


def test_one_shared_passage_of_many_and_boilerplate_are_no_duplicates() -> None:
    one = ["a.md"] * 4 + ["b.md"] * 4
    rows = [point(n) for n in range(8)]
    rows[4] = rows[0]
    assert find_duplicates(one, np.stack(rows)) == ()
    many = [f"{n}.md" for n in range(30)]
    assert find_duplicates(many, np.stack([point(1)] * 30)) == ()  # the same license in all of them
    few = find_duplicates(many[:3], np.stack([point(1)] * 3))
    assert [(pair.document, pair.other, pair.share) for pair in few] == [
        ("0.md", "1.md", 1.0), ("0.md", "2.md", 1.0), ("1.md", "2.md", 1.0)
    ]  # fmt: skip


def test_nothing_is_compared_with_nothing() -> None:
    assert find_duplicates([], np.empty((0, 0), np.float32)) == ()

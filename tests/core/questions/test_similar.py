"""Questions like one: the shortlist of coarse vectors holds those that the true vectors rank first."""

import numpy as np

from core.questions.similar import encode, rank, shortlist


def test_the_nearest_are_found_among_many_and_texts_without_a_vector_are_counted() -> None:
    rng = np.random.default_rng(3)
    vectors = rng.normal(size=(20_000, 64)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    known = {f"q {number}": row for number, row in enumerate(vectors)}
    texts = [*known, "never embedded"]
    coded = encode(texts, known)
    assert (len(coded.texts), coded.asked) == (20_000, 20_001)
    for number in range(5):
        vector = vectors[number]
        truth = [f"q {at}" for at in np.argsort(-(vectors @ vector))[:20]]
        found = rank(shortlist(coded, vector), known, vector, most=20)
        assert [each.text for each in found] == truth
        assert found[0].similarity == np.float32(vectors[number] @ vector)


def test_without_vectors_nothing_is_similar() -> None:
    coded = encode(["a", "b"], {})
    assert (coded.texts, coded.asked, shortlist(coded, np.ones(3, np.float32))) == ((), 2, ())

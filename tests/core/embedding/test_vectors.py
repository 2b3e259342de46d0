import numpy as np
import pytest

from core.embedding.embed import Embedder
from core.embedding.vectors import VectorCache
from core.errors import SourceUnavailable
from core.log.values import normalize_query

ROWS = np.arange(6, dtype=np.float32).reshape(2, 3)


def test_a_vector_is_found_again_by_model_and_by_text_in_any_case_and_spacing(store):
    cache = VectorCache(store)
    cache.save_vectors("m1", ["What is  an mbuf", "ring"], ROWS)
    found = cache.get_vectors("m1", ["what is an MBUF ", "What is  an mbuf", "hugepage"])
    assert sorted(found) == ["What is  an mbuf", "what is an MBUF "]
    assert all((vector == ROWS[0]).all() for vector in found.values())
    assert cache.get_vectors("m2", ["ring"]) == {}


def test_the_first_vector_of_a_text_stays(store):
    cache = VectorCache(store)
    cache.save_vectors("m1", ["ring"], ROWS[:1])
    cache.save_vectors("m1", ["Ring"], ROWS[1:])
    assert (cache.get_vectors("m1", ["ring"])["ring"] == ROWS[0]).all()


def test_thousands_of_texts_are_read_in_slices(store):
    cache = VectorCache(store)
    texts = [f"query {n}" for n in range(1_203)]
    cache.save_vectors("m1", texts, np.ones((1_203, 2), dtype=np.float32))
    assert len(cache.get_vectors("m1", texts)) == 1_203


def test_normalization_keeps_what_differs_in_meaning():
    assert normalize_query(" A\tB\n c ") == "a b c"
    assert normalize_query("rte_eth") != normalize_query("rte eth")


@pytest.mark.slow
def test_only_new_texts_are_embedded(store):
    progress = []
    embedder = Embedder(cache=VectorCache(store))
    first = embedder.embed(["what is an mbuf", "ring"], on_progress=lambda done, total: progress.append((done, total)))
    second = embedder.embed(["ring", "RING", "hugepages"], on_progress=lambda *step: progress.append(step))
    assert progress == [(2, 2), (1, 1)]
    assert np.allclose((first**2).sum(axis=1), 1, atol=1e-5)
    assert (second[0] == first[1]).all()
    assert (second[1] == first[1]).all()


@pytest.mark.slow
def test_a_model_that_is_not_there_gives_one_line():
    with pytest.raises(SourceUnavailable, match="embedding model '/no/such/model' could not be loaded"):
        Embedder("/no/such/model").embed(["a"])


def test_nothing_to_embed_needs_no_model():
    assert Embedder("/no/such/model").embed([]).shape == (0, 0)

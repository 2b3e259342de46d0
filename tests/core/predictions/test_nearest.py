from dataclasses import asdict
from datetime import UTC, datetime

import numpy as np
import pytest

from core.audit.acts import Act
from core.embedding.chunks import Chunk
from core.embedding.embed import Embedder
from core.embedding.vectors import VectorCache
from core.indexes.backends import open_indexes
from core.indexes.operations import register_index, swap_index
from core.indexes.registry import Index
from core.predictions.nearest import Nearest, find_nearest, list_topic_predictions
from core.predictions.operations import save_prediction
from core.predictions.prediction import Prediction, TopicPrediction

NOW = datetime(2026, 3, 1, tzinfo=UTC)
ACT = Act("ada", "why", at=NOW)


@pytest.fixture
def embedder(store):
    cache = VectorCache(store)
    cache.save_vectors("m1", ["ping from VPP"], np.array([[0.6, 0.8]], dtype=np.float32))
    return Embedder("m1", cache=cache)


def make_live(store, folder, model: str = "m1") -> None:
    chunks = [Chunk("eal.rst", "EAL", "Ping the socket."), Chunk("mbuf.rst", "Mbuf", "A pool of buffers.")]
    open_indexes(str(folder)).build("docs-v1", chunks, np.eye(2, dtype=np.float32))
    register_index(store, Index("docs-v1", str(folder), "v1", model, 2, NOW, "ada"), ACT)
    swap_index(store, "default", "docs-v1", ACT, expected=None)


@pytest.mark.deep
@pytest.mark.slow
def test_the_live_indexs_nearest_documents_are_named_with_what_they_lack(store, tmp_path, embedder):
    make_live(store, tmp_path / "indexes")
    found = find_nearest(store, embedder, ["ping from VPP", "a question without a vector"])
    assert found.index_name == "docs-v1"
    assert [(miss.document, round(miss.score, 2), miss.lacks) for miss in found.misses] == [
        ("mbuf.rst", 0.8, ("ping", "VPP")),
        ("eal.rst", 0.6, ("VPP",)),
    ]


@pytest.mark.deep
def test_without_a_live_index_of_this_model_nothing_is_near(store, tmp_path, embedder):
    assert find_nearest(store, embedder, ["ping from VPP"]) == Nearest("", ())
    make_live(store, tmp_path / "indexes", model="m2")
    assert find_nearest(store, embedder, ["ping from VPP"]) == Nearest("", ())


def test_a_topic_gets_what_each_corpus_version_was_predicted_to_do_to_it(store):
    for version, score in (("v2", 0.5), ("v3", 0.7)):
        topic = TopicPrediction("t-1", "vpp", 10, 0.3, score, 0.9, ("cli.rst",))
        save_prediction(store, Prediction(version, "docs-v1", 0.46, (), (topic,), (), (), 1, 1, 0), ACT)
    found = list_topic_predictions(store, "t-1")
    assert [(version, topic.predicted_score) for version, topic in found] == [("v3", 0.7), ("v2", 0.5)]
    assert asdict(found[0][1])["documents"] == ("cli.rst",)
    assert list_topic_predictions(store, "t-2") == ()

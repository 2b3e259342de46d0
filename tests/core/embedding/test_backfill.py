import threading
from collections.abc import Sequence

import numpy as np

from core.embedding.backfill import Backfill, BackfillProgress
from core.embedding.embed import Embedder
from core.embedding.vectors import VectorCache
from core.errors import SourceUnavailable


class SlowEmbedder(Embedder):
    """Embeds by text length, and only once it is released."""

    def __init__(self, store) -> None:
        super().__init__("by-length", cache=VectorCache(store))
        self.let_go = threading.Event()

    def _encode(self, texts: list[str]) -> np.ndarray:
        assert self.let_go.wait(30)
        return np.array([[len(text), 1.0] for text in texts], dtype=np.float32)


class BrokenEmbedder(Embedder):
    def embed(self, texts: Sequence[str], **_options: object) -> np.ndarray:
        raise SourceUnavailable("embedding model 'x' could not be loaded")


def finish(backfill: Backfill) -> BackfillProgress:
    for thread in threading.enumerate():
        if thread.name == "quarterdeck-embed":
            thread.join(30)
    return backfill.progress


def test_new_texts_are_embedded_beside_the_caller_with_progress(store):
    embedder = SlowEmbedder(store)
    backfill = Backfill(embedder)
    texts = [f"query {n}" for n in range(600)]
    assert backfill.start(texts) == BackfillProgress(0, 600, running=True)
    assert backfill.start(["another"]) == backfill.progress
    assert embedder.get_known(texts) == {}
    embedder.let_go.set()
    assert finish(backfill) == BackfillProgress(600, 600, running=False)
    assert len(embedder.get_known(texts)) == 600
    assert embedder.get_known(["another"]) == {}


def test_a_failure_is_one_line_and_the_next_start_tries_again():
    backfill = Backfill(BrokenEmbedder())
    for _ in range(2):
        backfill.start(["a"])
        assert finish(backfill).problem == "embedding model 'x' could not be loaded"

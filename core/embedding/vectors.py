"""Gateway to the vector cache in the shared store: each text is embedded once per model, whoever asks for it."""

import hashlib
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import ColumnElement, Connection, delete, func, select

from core.log.values import normalize_query
from quarterdeck.schema import vectors
from quarterdeck.store import Store

_SLICE = 500


class VectorCache:
    """Caches unit vectors by (model, normalized text). Texts that differ only in case or spacing share one vector."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def get_vectors(self, model: str, texts: Sequence[str]) -> dict[str, NDArray[np.float32]]:
        """Return the cached vectors by text; other texts are left out."""
        by_hash: dict[bytes, list[str]] = {}
        for text in texts:
            by_hash.setdefault(hash_text(text), []).append(text)
        hashes = list(by_hash)
        found: dict[str, NDArray[np.float32]] = {}
        with self._store.read() as connection:
            for start in range(0, len(hashes), _SLICE):
                part = hashes[start : start + _SLICE]
                rows = connection.execute(
                    select(vectors.c.query_hash, vectors.c.vector).where(
                        vectors.c.model == model, vectors.c.query_hash.in_(part)
                    )
                )
                for key, vector in rows:
                    for text in by_hash[bytes(key)]:
                        found[text] = np.frombuffer(vector, dtype=np.float32)
        return found

    def save_vectors(self, model: str, texts: Sequence[str], rows: NDArray[np.float32]) -> None:
        """Cache one vector per text; a cached text keeps its vector."""
        mark = "?" if self._store.dialect == "sqlite" else "%s"
        statement = (
            f"INSERT INTO vectors (model, query_hash, vector) VALUES ({mark}, {mark}, {mark}) ON CONFLICT DO NOTHING"
        )
        pairs = zip(texts, rows, strict=True)
        values = [(model, hash_text(text), row.astype(np.float32).tobytes()) for text, row in pairs]
        if values:
            with self._store.begin() as connection:
                connection.exec_driver_sql(statement, values)

    def count(self, texts: Sequence[str]) -> int:
        """Return how many vectors are cached for these texts, of any model."""
        with self._store.read() as connection:
            query = select(func.count()).select_from(vectors)
            return sum(int(connection.scalar(query.where(which)) or 0) for which in _any_model(texts))


def forget_vectors(connection: Connection, texts: Sequence[str]) -> None:
    """Delete the vectors of these texts, of every model, in an open transaction."""
    for which in _any_model(texts):
        connection.execute(delete(vectors).where(which))


def _any_model(texts: Sequence[str]) -> Iterator[ColumnElement[bool]]:
    hashes = sorted({hash_text(text) for text in texts})
    for start in range(0, len(hashes), _SLICE):
        yield vectors.c.query_hash.in_(hashes[start : start + _SLICE])


def hash_text(text: str) -> bytes:
    """Return the name of a text in the store: texts that differ only in case or spacing share it."""
    return hashlib.blake2b(normalize_query(text).encode(), digest_size=16).digest()

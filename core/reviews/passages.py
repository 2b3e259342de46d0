"""Shell: finds the passages behind an answer: those of its documents in the index that was live when it was asked."""

from collections.abc import Sequence
from itertools import chain

import numpy as np

from core.embedding.chunks import Chunk
from core.embedding.embed import Embedder
from core.errors import QuarterdeckError
from core.indexes.backends import open_indexes
from core.indexes.registry import Index, list_aliases, list_indexes, list_swaps
from core.log.filters import LoggedQuestion
from core.questions.documents import match_files
from quarterdeck.store import Store

MOST_PASSAGES = 50_000  # of an index whose passages are read
PASSAGES = 8  # behind an answer: those of its documents that are nearest to the question
_MOST_OF_DOCUMENTS = 200  # passages of all its documents that are compared with the question


class AnswerPassages:
    """The passages of the indexes, read once for many answers. Keep it for one run."""

    def __init__(self, store: Store, embedder: Embedder, *, alias: str = "default") -> None:
        self._embedder = embedder
        self._swaps = list_swaps(store, alias)
        self._indexes = {index.name: index for index in list_indexes(store) if index.model == embedder.model}
        self._live = next((known.index_name for known in list_aliases(store) if known.alias == alias), "")
        self._known: dict[str, dict[str, list[Chunk]]] = {}

    def find(self, question: LoggedQuestion) -> tuple[Chunk, ...]:
        """Return the passages of an answer's documents, nearest to the question first; () where none is known."""
        index = self._find_index(question)
        if index is None or not question.documents:
            return ()
        chunks = self._read(index)
        files = match_files((hit.id for hit in question.documents), chunks)
        ordered = (chunks[files[hit.id]] for hit in question.documents if hit.id in files)
        found = list(dict.fromkeys(chain.from_iterable(ordered)))[:_MOST_OF_DOCUMENTS]
        return tuple(found[place] for place in self._rank(question.query, [chunk.text for chunk in found]))

    def _find_index(self, question: LoggedQuestion) -> Index | None:
        """Return the index that the question names, else the one that was live then, else the live one."""
        then = next((swap.index for swap in reversed(self._swaps) if swap.at <= question.ts), "")
        names = (question.index_version or "", then, self._live)
        return next((self._indexes[name] for name in names if name in self._indexes), None)

    def _read(self, index: Index) -> dict[str, list[Chunk]]:
        if index.name not in self._known:
            found: dict[str, list[Chunk]] = {}
            try:
                listed = open_indexes(index.location).list_chunks(index.name) if index.chunks <= MOST_PASSAGES else ()
            except QuarterdeckError:  # an index that was removed has no passages any more
                listed = ()
            for chunk in listed:
                found.setdefault(chunk.document, []).append(chunk)
            self._known[index.name] = found
        return self._known[index.name]

    def _rank(self, query: str, texts: Sequence[str]) -> list[int]:
        if len(texts) <= PASSAGES:
            return list(range(len(texts)))
        similar = self._embedder.embed(texts) @ self._embedder.embed([query])[0]
        return [int(place) for place in np.argsort(-similar, kind="stable")[:PASSAGES]]

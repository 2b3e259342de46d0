"""Shell: searches a logged question again, now: in the live index, and in the one that waits to go live."""

from collections.abc import Iterable
from dataclasses import dataclass

from core.embedding.embed import Embedder, Vectors
from core.errors import QuarterdeckError
from core.indexes.backends import open_indexes
from core.indexes.builds import find_live
from core.indexes.registry import Index, list_indexes
from quarterdeck.store import Store

_PASSAGES, _HITS = 20, 5


@dataclass(frozen=True, slots=True)
class FoundHit:
    """A document that an index finds, with the similarity of its best passage."""

    document: str
    section: str
    score: float


@dataclass(frozen=True, slots=True)
class IndexAnswer:
    """What one index finds for a question, best first; `problem` says in one line why it could not be read."""

    index_name: str
    corpus_version: str
    hits: tuple[FoundHit, ...] = ()
    problem: str = ""

    @property
    def best(self) -> float | None:
        """The similarity of the best hit."""
        return self.hits[0].score if self.hits else None


@dataclass(frozen=True, slots=True)
class SearchedAgain:
    """What the live and the waiting index find; None where there is no such index of the deck's embedding model."""

    live: IndexAnswer | None
    waiting: IndexAnswer | None


def is_embedded(embedder: Embedder, text: str) -> bool:
    """Whether the vector of a text is cached, so that a search needs no model."""
    return text in embedder.get_known([text])


def search_again(store: Store, embedder: Embedder, text: str, *, alias: str = "default") -> SearchedAgain:
    """Return what the live index and the newest one built after it find for a question.

    Loads the embedding model unless the text's vector is cached. Raises SourceUnavailable where the model or the
    store cannot be read; an index that cannot be read has its problem in its answer.
    """
    live = find_live(store, alias)
    if live is not None and live.model != embedder.model:
        live = None
    waiting = find_waiting(list_indexes(store), live, model=embedder.model)
    if live is None and waiting is None:
        return SearchedAgain(None, None)
    vector = embedder.embed([text])
    return SearchedAgain(*(None if index is None else _ask(index, vector) for index in (live, waiting)))


def find_waiting(indexes: Iterable[Index], live: Index | None, *, model: str) -> Index | None:
    """Return the newest index of the model that was built after the live one; without a live one, the newest."""
    later = [
        index for index in indexes
        if index.model == model and (live is None or (index.built > live.built and index.name != live.name))
    ]  # fmt: skip
    return max(later, key=lambda index: index.built, default=None)


def _ask(index: Index, vector: Vectors) -> IndexAnswer:
    try:
        (passages,) = open_indexes(index.location).search(index.name, vector, top_k=_PASSAGES)
    except QuarterdeckError as error:
        return IndexAnswer(index.name, index.corpus_version, problem=str(error))
    best: dict[str, FoundHit] = {}
    for passage in passages:
        best.setdefault(passage.document, FoundHit(passage.document, passage.section, passage.score))
    return IndexAnswer(index.name, index.corpus_version, tuple(best.values())[:_HITS])

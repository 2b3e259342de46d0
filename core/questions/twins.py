"""Shell: finds near duplicates among the documents of the live index, by the vectors that its build has cached."""

from dataclasses import dataclass

import numpy as np

from core.corpus.duplicates import NearDuplicate, find_duplicates
from core.embedding.embed import Embedder
from core.indexes.backends import open_indexes
from core.indexes.builds import find_live
from quarterdeck.store import Store

MOST_PASSAGES = 20_000


@dataclass(frozen=True, slots=True)
class DuplicateReport:
    """Near duplicates, and what was compared: `compared` of `passages` passages of `documents` documents of an index.

    The others have no cached vector of the deck's embedding model, or were beyond the first 20,000.
    """

    index_name: str
    documents: int
    passages: int
    compared: int
    pairs: tuple[NearDuplicate, ...]


def report_duplicates(store: Store, embedder: Embedder, *, alias: str = "default") -> DuplicateReport | None:
    """Return the near duplicates of the live index; None where nothing is live. Loads no model.

    Raises SourceUnavailable and NotFound for an index that cannot be read.
    """
    live = find_live(store, alias)
    if live is None:
        return None
    chunks = open_indexes(live.location).list_chunks(live.name)
    first = chunks[:MOST_PASSAGES]
    known = embedder.get_known([chunk.text for chunk in first]) if live.model == embedder.model else {}
    having = [chunk for chunk in first if chunk.text in known]
    vectors = np.stack([known[chunk.text] for chunk in having]) if having else np.empty((0, 0), np.float32)
    pairs = find_duplicates([chunk.document for chunk in having], vectors)
    return DuplicateReport(live.name, len({chunk.document for chunk in chunks}), len(chunks), len(having), pairs)

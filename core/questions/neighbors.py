"""Shell: loads the newest questions with their cached vectors, and finds those that are like one of them."""

from core.embedding.embed import Embedder
from core.log.readers import open_reader
from core.questions.similar import MOST_TEXTS, KnownQuestions, SimilarQuestion, encode, rank, shortlist
from quarterdeck.scope import Scope
from quarterdeck.store import Store

MOST_ROWS = 2_000_000  # newest rows that are looked through for distinct texts


def load_known(store: Store, embedder: Embedder, scope: Scope) -> KnownQuestions:
    """Return the newest distinct questions of a scope, at most MOST_TEXTS, that have a cached vector.

    Raises SourceUnavailable.
    """
    texts = list(open_reader(store).list_newest_texts(scope, MOST_ROWS, MOST_TEXTS))
    return encode(texts, embedder.get_known(texts))


def find_similar(
    embedder: Embedder, known: KnownQuestions, text: str, *, most: int = 20
) -> tuple[SimilarQuestion, ...]:
    """Return the questions most similar to a text, without itself; loads the model unless the vector is cached.

    Raises SourceUnavailable where the model cannot be loaded.
    """
    (vector,) = embedder.embed([text])
    candidates = [each for each in shortlist(known, vector) if each != text]
    return rank(candidates, embedder.get_known(candidates), vector, most=most)

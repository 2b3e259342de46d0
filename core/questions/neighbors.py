"""Shell: loads the newest questions with their cached vectors, and finds those that are like one of them."""

from dataclasses import replace

from core.embedding.embed import Embedder
from core.errors import NotFound
from core.log.filters import QuestionFilter
from core.log.questions import list_page, with_spellings
from core.log.readers import open_reader
from core.questions.similar import MOST_TEXTS, KnownQuestions, SimilarQuestion, encode, rank, shortlist
from quarterdeck.scope import Scope
from quarterdeck.store import Store

MOST_ROWS = 2_000_000  # newest rows that are looked through for distinct texts
ALIKE_FROM = 0.5  # the cosine from which on a question is listed as one like another


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


def narrow_to_like(
    store: Store, embedder: Embedder, known: KnownQuestions, wanted: QuestionFilter, name: str
) -> tuple[str, QuestionFilter]:
    """Return the text of the question with this id, and the filter for it and those most like it, in any spelling.

    The wanted filter needs a span; its own texts, as those of a topic, are narrowed. Raises NotFound for an id that
    the scope does not have, and for a text that was removed.
    """
    found = list_page(store, QuestionFilter(scope=wanted.scope, retrieval_id=name), limit=1).questions
    if not found or not found[0].query:
        raise NotFound(f"like: there is no question {name[:80]!r} in this service, or its text was removed")
    text = found[0].query
    similar = find_similar(embedder, known, text)
    texts = (text, *(each.text for each in similar if each.similarity >= ALIKE_FROM))
    start_ms, end_ms = wanted.start_ms or 0, wanted.end_ms or 0
    like = with_spellings(store, replace(wanted, texts=texts), start_ms=start_ms, end_ms=end_ms)
    if wanted.texts is None:
        return text, like
    return text, replace(like, texts=tuple(sorted({*wanted.texts} & {*(like.texts or ())})))

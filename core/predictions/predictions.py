"""Shell: predicts what a corpus version would do before it ships, and measures what it did afterwards."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from core.audit.settings import Family, SettingKey, get_setting, list_settings, name_scope, scope_key, setting_key
from core.coverage.report import Coverage
from core.coverage.topics import Topic
from core.drift.present import PresentScale, make_scale
from core.drift.report import list_model_maps
from core.embedding.embed import Embedder, Vectors
from core.embedding.vectors import VectorCache
from core.errors import InvalidInput, NotFound
from core.indexes.backends import Passage, open_indexes
from core.indexes.ingest import DocumentSource, OnProgress, embed_chunks
from core.indexes.registry import Index, list_indexes
from core.log.retrievals import Window, list_questions
from core.log.values import AskedQuery
from core.predictions.prediction import (
    TOP_K,
    Prediction,
    PredictionCheck,
    Unshipped,
    compare_prediction,
    parse_prediction,
    predict_lift,
)
from quarterdeck.scope import DEFAULT_SCOPE, Scope
from quarterdeck.store import Store

_MOST_LOW = 5_000
_MOST_QUERIES = 2_000
_FIRST_HITS = 20


def predict_coverage(
    store: Store,
    embedder: Embedder,
    source: DocumentSource,
    live: Index,
    coverage: Coverage,
    *,
    on_progress: OnProgress | None = None,
) -> Prediction:
    """Return what `source` would do to the topics of `coverage`, and to the well covered queries of the same days.

    Of the low ones it takes the 5,000 most asked, of the others 2,000. Where the live index has another model than the
    `embedder`, which grouped the topics, its own model is used. Raises what `predict_version` raises.
    """
    first = coverage.queries[:_MOST_LOW]
    topics = [
        replace(topic, members=members)
        for topic in coverage.topics.topics
        if (members := tuple(member for member in topic.members if member < len(first)))
    ]
    low = {query.text for query in coverage.queries}
    asked = list_questions(store, coverage.window, limit=_MOST_QUERIES, scope=coverage.scope)
    others = [query for query in asked if query.text not in low]
    return predict_version(
        _embedder_for(store, embedder, live.model), source, live, [*first, *others], topics,
        threshold=coverage.low.of(live.model), on_progress=on_progress,
    )  # fmt: skip


def predict_version(
    embedder: Embedder,
    source: DocumentSource,
    live: Index,
    queries: Sequence[AskedQuery],
    topics: Sequence[Topic],
    *,
    threshold: float,
    top_k: int = TOP_K,
    on_progress: OnProgress | None = None,
) -> Prediction:
    """Return the prediction for `queries`, which start with those that the topics index.

    Embeds only what the live index does not hold and the cache does not know; an index that is built from the source
    later finds these vectors in the cache. Raises InvalidInput when the live index is of another model or the
    name of the version is too long to be kept, NotFound and SourceUnavailable when it cannot be read.
    """
    setting_key(Family.PREDICTION, source.version)  # a version whose prediction cannot be kept is not predicted
    if live.model != embedder.model:
        raise InvalidInput("model", f"the live index {live.name} was built with {live.model}, not {embedder.model}")
    indexes = open_indexes(live.location)
    held = {chunk.text for chunk in indexes.list_chunks(live.name)}
    home = {chunk.text: chunk.document for chunk in source.chunks}  # a text may be in another document now
    wanted = home.keys()
    new = [chunk for chunk in source.chunks if chunk.text not in held]
    chunk_vectors, _ = embed_chunks(embedder, new, on_progress=on_progress)
    vectors = embedder.embed([query.text for query in queries])
    hits = _search_past(live, vectors, held - wanted, top_k)
    kept = [[hit for hit in found if hit.text in wanted][:top_k] for found in hits]
    unshipped = Unshipped(
        chunk_vectors,
        tuple(chunk.document for chunk in new),
        _scores_of(kept, top_k),
        len(held - wanted),
        tuple(tuple(home[hit.text] for hit in found) for found in kept),
        tuple(sorted({chunk.document for chunk in source.chunks} - {chunk.document for chunk in new})),
    )
    found = predict_lift(
        queries, vectors, [found[0].score if found else 0.0 for found in hits], unshipped,
        topics=topics, threshold=threshold, target=source.version, live=live.name,
    )  # fmt: skip
    return replace(found, model=embedder.model)


def add_to_live(drafts: DocumentSource, live: Index) -> DocumentSource:
    """Return the live documents plus those of `drafts`, which replace documents of the same name."""
    names = {chunk.document for chunk in drafts.chunks}
    kept = [chunk for chunk in open_indexes(live.location).list_chunks(live.name) if chunk.document not in names]
    documents = len({chunk.document for chunk in kept}) + drafts.documents
    return replace(drafts, documents=documents, chunks=(*kept, *drafts.chunks))


def measure_prediction(
    store: Store, embedder: Embedder, prediction: Prediction, scope: Scope = DEFAULT_SCOPE
) -> PredictionCheck:
    """Compare a prediction with the scores of its queries in the newest index built from its target.

    Scores of an index of another embedding model are carried to the scale of the prediction. Raises NotFound when there
    is no index yet, and InvalidInput for one of another model without a map.
    """
    built = _find_built(store, prediction)
    if built is None:
        raise NotFound(f"index: no index is built from corpus version {prediction.target!r} yet; build one first")
    scale = _scale_of(store, prediction, scope)
    if not _is_comparable(built, scale):
        raise InvalidInput(
            "model",
            f"{prediction.target} was predicted with {scale.model}, and {built.name} is built with {built.model}: "
            f"learn their map first, with `quarterdeck index map`",
        )
    texts = [query.text for query in prediction.queries]
    vectors = _embedder_for(store, embedder, built.model).embed(texts)
    hits = open_indexes(built.location).search(built.name, vectors, top_k=1)
    scores = (found[0].score if found else 0.0 for found in hits)
    carried = {text: scale.carry(built.model, score) for text, score in zip(texts, scores, strict=True)}
    return compare_prediction(prediction, carried)


def measure_in_log(
    store: Store, prediction: Prediction, window: Window, scope: Scope = DEFAULT_SCOPE
) -> PredictionCheck:
    """Compare a prediction with the logged scores of its queries in `window`: whole days after the swap.

    Scores of other embedding models are carried to the scale of the prediction; where the index that was built has one
    without a map, nothing is compared.
    """
    built, scale = _find_built(store, prediction), _scale_of(store, prediction, scope)
    if built and not _is_comparable(built, scale):
        return compare_prediction(prediction, {})
    asked = list_questions(store, window, scope=scope, scale=scale)
    return compare_prediction(prediction, {query.text: query.mean_score for query in asked})


def prediction_key(target: str, scope: Scope = DEFAULT_SCOPE) -> SettingKey:
    """Return the name of the setting that keeps what a corpus version would do to the questions of a scope."""
    if scope == DEFAULT_SCOPE:
        return setting_key(Family.PREDICTION, target)
    return scope_key(Family.PREDICTION_OF, scope, target)


def find_prediction(store: Store, target: str, scope: Scope = DEFAULT_SCOPE) -> Prediction | None:
    """Return the last saved prediction of a corpus version for a scope, or None."""
    stored, _ = get_setting(store, prediction_key(target, scope))
    return parse_prediction(stored) if stored else None


def get_prediction(store: Store, target: str, scope: Scope = DEFAULT_SCOPE) -> Prediction:
    """Return the last saved prediction of a corpus version for a scope. Raises NotFound."""
    found = find_prediction(store, target, scope)
    if found is None:
        raise NotFound(f"prediction: corpus version {target!r} has none; run `quarterdeck index predict`")
    return found


def list_predictions(store: Store, scope: Scope = DEFAULT_SCOPE) -> tuple[Prediction, ...]:
    """Return the last saved prediction of each corpus version for a scope."""
    if scope == DEFAULT_SCOPE:
        found = list_settings(store, Family.PREDICTION)
    else:
        found = list_settings(store, Family.PREDICTION_OF, name_scope(scope))
    return tuple(parse_prediction(stored.value) for stored in found)


def _find_built(store: Store, prediction: Prediction) -> Index | None:
    """Return the newest index that was built from a prediction's target."""
    return next((each for each in list_indexes(store) if each.corpus_version == prediction.target), None)


def _scale_of(store: Store, prediction: Prediction, scope: Scope) -> PresentScale:
    """Return the scale of a prediction; one without a model was kept before, with the model of its live index."""
    of_live = next((each.model for each in list_indexes(store) if each.name == prediction.live), "")
    return make_scale(list_model_maps(store, scope), prediction.model or of_live)


def _is_comparable(built: Index, scale: PresentScale) -> bool:
    return built.model == scale.model or not scale.model or built.model in scale.list_bounds(None)


def _embedder_for(store: Store, embedder: Embedder, model: str) -> Embedder:
    return embedder if embedder.model == model else Embedder(model, cache=VectorCache(store))


def _search_past(live: Index, vectors: Vectors, gone: set[str], top_k: int) -> list[tuple[Passage, ...]]:
    """Return enough hits per query that `top_k` of them remain in the new version, or all hits there are."""
    indexes = open_indexes(live.location)
    depth = top_k if not gone else max(_FIRST_HITS, 2 * top_k)
    hits = list(indexes.search(live.name, vectors, top_k=depth))
    while depth < live.chunks:
        short = [at for at, found in enumerate(hits) if sum(hit.text not in gone for hit in found) < top_k]
        if not short:
            break
        depth = min(live.chunks, 10 * depth)
        for at, found in zip(short, indexes.search(live.name, vectors[short], top_k=depth), strict=True):
            hits[at] = found
    return hits


def _scores_of(hits: Iterable[Sequence[Passage]], top_k: int) -> NDArray[np.float32]:
    rows = [[hit.score for hit in found[:top_k]] for found in hits]
    padded = [[*row, *[-1.0] * (top_k - len(row))] for row in rows]
    return np.asarray(padded, dtype=np.float32).reshape(len(rows), top_k)

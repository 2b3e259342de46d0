"""Shell: learns the map between two embedding models from last days' questions, searched in an index of each."""

from collections.abc import Callable

from core.drift.scales import ModelMap, learn_model_map
from core.embedding.embed import Embedder
from core.errors import InvalidInput
from core.indexes.backends import open_indexes
from core.indexes.ingest import OnProgress
from core.indexes.registry import Index
from core.log.retrievals import list_questions
from core.replay.replaying import MOST_DISTINCT, ReplayPlan
from core.replay.sampling import draw_questions
from quarterdeck.store import Store

_SLICE = 500


def learn_map_between(
    store: Store,
    embedder_of: Callable[[str], Embedder],
    live: Index,
    candidate: Index,
    plan: ReplayPlan,
    *,
    on_progress: OnProgress | None = None,
) -> ModelMap:
    """Return the map from the live index's model to the candidate's, by the best hit of each question in both.

    The questions are drawn as for a replay. Raises InvalidInput where both indexes have one model, and for too few
    questions; and what reading the log, the cache and the indexes raises.
    """
    if live.model == candidate.model:
        raise InvalidInput("index", f"{candidate.name} has the model of the live index, {live.model}: no map is needed")
    asked = list_questions(store, plan.window, limit=MOST_DISTINCT, scope=plan.scope)
    drawn = draw_questions(asked, {}, size=plan.sample, seed=plan.seed)
    texts = [each.text for each in drawn]
    before, after = (_find_best(embedder_of, index, texts, on_progress) for index in (live, candidate))
    both = [at for at in range(len(drawn)) if before[at] is not None and after[at] is not None]
    return learn_model_map(
        live.model, candidate.model, [before[at] or 0.0 for at in both], [after[at] or 0.0 for at in both],
        [drawn[at].weight for at in both],
    )  # fmt: skip


def _find_best(
    embedder_of: Callable[[str], Embedder], index: Index, texts: list[str], on_progress: OnProgress | None
) -> list[float | None]:
    """Return the score of the best hit of each question, None without one."""

    def count(done: int, total: int) -> None:
        if on_progress:
            on_progress("embed", done, total)

    vectors, indexes = embedder_of(index.model).embed(texts, on_progress=count), open_indexes(index.location)
    found: list[float | None] = []
    for start in range(0, len(texts), _SLICE):
        hits = indexes.search(index.name, vectors[start : start + _SLICE], top_k=1)
        found += [each[0].score if each else None for each in hits]
    return found

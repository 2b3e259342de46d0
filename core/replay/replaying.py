"""Shell: replays the questions of the last days through the live and a candidate index, with cached vectors.

It searches and gathers; `comparison.py` decides what the two hit lists mean.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from core.coverage.assignments import TopicAssignments
from core.embedding.embed import Embedder, Vectors
from core.errors import InvalidInput
from core.indexes.backends import Passage, open_indexes
from core.indexes.ingest import OnProgress
from core.indexes.registry import Index
from core.log.filters import LoggedQuestion, QuestionFilter, read_question
from core.log.readers import open_reader
from core.log.retrievals import Window, find_bounds, list_dimensions, list_questions
from core.log.values import normalize_query
from core.replay.comparison import FoundPassage, HitLists, ReplayOf, ReplayResult, compare_hits
from core.replay.sampling import DrawnQuestion, draw_questions
from quarterdeck.retrieval import SCORED, STATES
from quarterdeck.scope import Scope
from quarterdeck.store import Store

MOST_DISTINCT = 100_000
SAMPLE = 5_000
_SLICE = 500  # questions between two reports of progress
_NEWEST_ROWS = 20_000
_OF_THE_INDEX = "index_version"  # every question has the live one


@dataclass(frozen=True, slots=True)
class ReplayPlan:
    """Which questions are replayed, and how: drawn by `seed`, `sample` at most, `top_k` hits each."""

    scope: Scope
    window: Window
    threshold: float
    sample: int = SAMPLE
    top_k: int = 5
    seed: int = 0


def replay_index(
    store: Store,
    embedder_of: Callable[[str], Embedder],
    live: Index,
    candidate: Index,
    plan: ReplayPlan,
    *,
    topics: TopicAssignments | None = None,
    on_progress: OnProgress | None = None,
) -> ReplayResult:
    """Return what the candidate would do to the questions of the log, against the live index.

    `embedder_of` returns the embedder of a model; each model embeds a question once, and the cache keeps it. `topics`
    stratify the sample. Raises InvalidInput where the two indexes are the same or there are no questions, and what
    reading the log, the cache and the indexes raises.
    """
    if live.name == candidate.name:
        raise InvalidInput("index", f"{candidate.name} is the live index; choose another one")
    asked = list_questions(store, plan.window, limit=MOST_DISTINCT, scope=plan.scope)
    topic_of = topics.by_text if topics else {}
    drawn = draw_questions(
        asked, {query.text: topic_of.get(normalize_query(query.text), "") for query in asked},
        size=plan.sample, seed=plan.seed,
    )  # fmt: skip
    texts = [each.text for each in drawn]
    vectors, embedded = _embed(embedder_of, (live.model, candidate.model), texts, on_progress)
    hits = _pair(
        _search(live, vectors[live.model], plan.top_k, "live", on_progress),
        _search(candidate, vectors[candidate.model], plan.top_k, "candidate", on_progress),
        plan.top_k,
    )
    about = ReplayOf(
        live.name, candidate.name, live.model, candidate.model, plan.scope.environment, plan.scope.service,
        plan.window.first, plan.window.last, len(asked), sum(query.count for query in asked), plan.threshold,
        plan.top_k, plan.seed,
    )  # fmt: skip
    return compare_hits(
        about, drawn, hits,
        labels=topics.labels if topics else {}, segments=_weigh_segments(store, drawn, plan), embedded=embedded,
    )  # fmt: skip


def _embed(
    embedder_of: Callable[[str], Embedder], models: Iterable[str], texts: Sequence[str], on_progress: OnProgress | None
) -> tuple[dict[str, Vectors], int]:
    """Return the questions' vectors by model, and how many texts were not cached."""
    found: dict[str, Vectors] = {}
    news: dict[str, int] = {}
    for model in dict.fromkeys(models):

        def count(done: int, total: int, model: str = model) -> None:
            news[model] = total
            if on_progress:
                on_progress("embed", done, total)

        found[model] = embedder_of(model).embed(texts, on_progress=count)
    return found, sum(news.values())


def _search(
    index: Index, vectors: Vectors, top_k: int, step: str, on_progress: OnProgress | None
) -> list[tuple[Passage, ...]]:
    indexes = open_indexes(index.location)
    hits: list[tuple[Passage, ...]] = []
    for start in range(0, len(vectors), _SLICE):
        hits += indexes.search(index.name, vectors[start : start + _SLICE], top_k=top_k)
        if on_progress:
            on_progress(step, len(hits), len(vectors))
    return hits


def _pair(live: Sequence[Sequence[Passage]], candidate: Sequence[Sequence[Passage]], top_k: int) -> list[HitLists]:
    return [
        HitLists(
            _shorten(before), _shorten(after),
            _overlap([hit.text for hit in before], [hit.text for hit in after], top_k),
            _overlap([hit.document for hit in before], [hit.document for hit in after], top_k),
        )
        for before, after in zip(live, candidate, strict=True)
    ]  # fmt: skip


def _shorten(hits: Sequence[Passage]) -> tuple[FoundPassage, ...]:
    return tuple(FoundPassage(hit.document, hit.section, hit.score) for hit in hits)


def _overlap(before: Sequence[str], after: Sequence[str], top_k: int) -> float:
    """Return the share of the live hits that the candidate has too; 1 where neither has any."""
    wanted, found = set(before[:top_k]), set(after[:top_k])
    if not wanted:
        return 0.0 if found else 1.0
    return len(wanted & found) / len(wanted)


def _weigh_segments(
    store: Store, drawn: Sequence[DrawnQuestion], plan: ReplayPlan
) -> dict[tuple[str, str], dict[int, float]]:
    """Return each question's weight in each segment, from the newest 20,000 rows of the window.

    A row stands for what its question's draw stands for, divided by the times that it was asked.
    """
    place = {normalize_query(each.text): at for at, each in enumerate(drawn)}
    found: defaultdict[tuple[str, str], defaultdict[int, float]] = defaultdict(lambda: defaultdict(float))
    dimensions = [name for name in list_dimensions(store, plan.scope) if name != _OF_THE_INDEX]
    for row in _list_rows(store, plan):
        at = place.get(normalize_query(row.query))
        if at is None:
            continue
        for name in dimensions:
            if (value := _value_of(row, name)) is not None:
                found[name, value][at] += row.weight * drawn[at].weight / drawn[at].asked
    varied = {name for name, _ in found if sum(other == name for other, _ in found) > 1}
    return {key: dict(by_place) for key, by_place in found.items() if key[0] in varied}


def _list_rows(store: Store, plan: ReplayPlan) -> Iterable[LoggedQuestion]:
    start_ms, end_ms = find_bounds(store, plan.scope, plan.window)
    wanted = QuestionFilter(scope=plan.scope, start_ms=start_ms, end_ms=end_ms, states=(STATES[SCORED],))
    return map(read_question, open_reader(store).list_rows(wanted, _NEWEST_ROWS, None))


def _value_of(row: LoggedQuestion, dimension: str) -> str | None:
    known: Mapping[str, str | None] = {"arm": row.arm, "prompt_version": row.prompt_version, "model": row.model}
    value = known[dimension] if dimension in known else row.attributes.get(dimension)
    return None if value is None else str(value)

"""Shell: replays the questions of the last days through what is live and a candidate, with cached vectors.

It searches and gathers; `staging.py` makes both sides, `comparison.py` decides what the two hit lists mean.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from core.coverage.assignments import TopicAssignments
from core.drift.present import PresentScale, make_scale
from core.drift.report import list_model_maps
from core.drift.scales import find_map
from core.embedding.embed import Embedder, Vectors
from core.errors import InvalidInput
from core.indexes.backends import Passage
from core.indexes.ingest import OnProgress
from core.indexes.registry import Index
from core.log.filters import LoggedQuestion, QuestionFilter, read_question
from core.log.readers import open_reader
from core.log.retrievals import Window, find_bounds, list_dimensions, list_questions
from core.log.score_maps import list_scales
from core.log.values import AskedQuery, normalize_query
from core.prompts.prompts import Prompt
from core.replay.comparison import FoundPassage, HitLists, ReplayOf, ReplayResult, compare_hits
from core.replay.prompting import AnsweredSide, AnswerPlan, answer_both, count_passages
from core.replay.sampling import DrawnQuestion, draw_questions, thin_questions
from core.replay.staging import ReplaySide, side_of
from quarterdeck.retrieval import SCORED, STATES
from quarterdeck.scope import Scope
from quarterdeck.store import Store

MOST_DISTINCT = 100_000
SAMPLE = 5_000
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
    """Return what a registered index would do to the questions of the log, against the live index.

    Raises InvalidInput where the two are the same, and what `replay_sides` raises.
    """
    if live.name == candidate.name:
        raise InvalidInput("index", f"{candidate.name} is the live index; choose another one")
    sides = (side_of(live), side_of(candidate))
    return replay_sides(store, embedder_of, sides, plan, topics=topics, on_progress=on_progress)


def replay_sides(
    store: Store,
    embedder_of: Callable[[str], Embedder],
    sides: tuple[ReplaySide, ReplaySide],
    plan: ReplayPlan,
    *,
    changes: tuple[str, ...] = (),
    prompt: Prompt | None = None,
    answers: AnswerPlan | None = None,
    topics: TopicAssignments | None = None,
    on_progress: OnProgress | None = None,
) -> ReplayResult:
    """Return what the candidate side would do to the questions of the log, against the live side.

    `embedder_of` returns the embedder of a model; each model embeds a question once, and the cache keeps it. `topics`
    stratify the sample. With `answers`, a part of the questions is answered with its live prompt and with `prompt` (the
    same one by default). Raises InvalidInput where there are no questions, and what reading the log, the cache, the
    indexes and the answerer raises.
    """
    live, candidate = sides
    labels = topics.labels if topics else {}
    maps = list_model_maps(store, plan.scope)
    asked, drawn = _draw(store, plan, topics, make_scale(maps, live.model))
    about = ReplayOf(
        live.name, candidate.name, live.model, candidate.model, plan.scope.environment, plan.scope.service,
        plan.window.first, plan.window.last, len(asked), sum(query.count for query in asked), plan.threshold,
        plan.top_k, plan.seed, changes or (candidate.name,), list_kinds(store, plan.scope),
    )  # fmt: skip
    if not drawn:
        return compare_hits(about, drawn, (), labels=labels, segments={})
    texts = [each.text for each in drawn]
    vectors, embedded = _embed(embedder_of, (live.model, candidate.model), texts, on_progress)
    prompts = (answers.live, prompt or answers.live) if answers else ()
    wanted = max(plan.top_k, count_passages(answers, prompts)) if answers else plan.top_k
    before, live_cost = live.search(texts, vectors[live.model], wanted, "live", on_progress)
    after, cost = candidate.search(texts, vectors[candidate.model], wanted, "candidate", on_progress)
    answered = None
    if answers:
        part = thin_questions(drawn, size=answers.size, seed=plan.seed)
        old, new = (
            AnsweredSide(each, {at: hits[at] for at in part})
            for each, hits in zip(prompts, (before, after), strict=True)
        )
        embedder = embedder_of(live.model)
        answered = answer_both(answers, embedder, part, (old, new), labels=labels, on_progress=on_progress)
    return compare_hits(
        about, drawn, _pair(before, after, plan.top_k), labels=labels, segments=_weigh_segments(store, drawn, plan),
        embedded=embedded + live.embedded + candidate.embedded, costs=(live_cost, cost), answers=answered,
        bridge=find_map(maps, candidate.model, live.model),
    )  # fmt: skip


def _draw(
    store: Store, plan: ReplayPlan, topics: TopicAssignments | None, scale: PresentScale
) -> tuple[Sequence[AskedQuery], tuple[DrawnQuestion, ...]]:
    """Return the questions of the log, with scores on the scale of the live model, and those that are drawn."""
    asked = list_questions(store, plan.window, limit=MOST_DISTINCT, scope=plan.scope, scale=scale)
    by_text = topics.by_text if topics else {}
    topic_of = {query.text: by_text.get(normalize_query(query.text), "") for query in asked}
    return asked, draw_questions(asked, topic_of, size=plan.sample, seed=plan.seed)


def list_kinds(store: Store, scope: Scope) -> tuple[str, ...]:
    """Return the kinds of scores that a scope's log maps to similarities by a learned map: they are no cosines."""
    return tuple(sorted({scale.kind for scale in list_scales(store, scope)}))


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


def _pair(live: Sequence[Sequence[Passage]], candidate: Sequence[Sequence[Passage]], top_k: int) -> list[HitLists]:
    return [
        HitLists(
            _shorten(before[:top_k]), _shorten(after[:top_k]),
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

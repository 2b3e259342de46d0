"""Rule: makes rows of the spans of one trace: one row for each question that was searched for.

The outermost searches with the same text are one row: fusion, ensembles and reranking search several times for it.
What searched within them adds its best number as a score of its own.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from core.errors import InvalidInput
from core.intake.names import CHAIN, EMBEDDING, MODEL, RERANKER, RETRIEVER, STORE
from core.intake.notes import Hits, SpanNote
from quarterdeck.clock import from_ms
from quarterdeck.hits import MAX_DOCUMENTS, best_score
from quarterdeck.retrieval import Retrieval
from quarterdeck.scope import Scope
from quarterdeck.similarity import COSINE

ASKED = "asked"  # the attribute with the root's question, where the search was for another text
_SEARCHES = (RETRIEVER, STORE)
_BOUNDED = (COSINE, "probability")
_OF_TRACE = ("session_id", "user_id", "prompt_version", "model", "cost_usd", "tokens")
_DEEPEST = 200


@dataclass(frozen=True, slots=True)
class Component:
    """The best number of something that searched or reranked within a question: its kind, its name, the number."""

    kind: str
    name: str
    value: float


@dataclass(frozen=True, slots=True)
class Question:
    """One row, the outermost spans that it is made of, and the numbers of what searched within them."""

    retrieval: Retrieval
    span_ids: tuple[str, ...]
    components: tuple[Component, ...]


@dataclass(frozen=True, slots=True)
class Refused:
    """A search that is no row, and why."""

    note: SpanNote
    error: InvalidInput


@dataclass(frozen=True, slots=True)
class Assembled:
    """What the spans of a trace hold so far. `judged` are spans that say something of quality, with the row's number.

    The number counts from 0; it is that of the first row where a span belongs to none.
    """

    questions: tuple[Question, ...]
    refused: tuple[Refused, ...]
    judged: tuple[tuple[int, SpanNote], ...] = ()


def assemble(trace_id: str, notes: Sequence[SpanNote]) -> Assembled:
    """Return the rows of a trace, and its searches that are none. The rows are numbered by their start.

    The order of the notes does not matter.
    """
    trace = _Trace(sorted(notes, key=lambda note: (note.start_ns, note.span_id)))
    questions, refused, groups = [], [], dict[tuple[Scope, str], list[SpanNote]]()
    for search in trace.outermost:
        if not trace.is_readable(search):
            reason, problem = search.problem or ("no_documents", "the span has none")
            refused.append(Refused(search, InvalidInput(reason, problem)))
        elif text := trace.find_text(search):
            groups.setdefault((search.scope, text), []).append(search)
        else:
            refused.append(Refused(search, InvalidInput("no_query", "neither the span nor its trace has a question")))
    number = 1
    for (scope, text), searches in groups.items():
        try:
            questions.append(_make_question(trace, trace_id, number, scope, text, searches))
            number += 1
        except InvalidInput as error:
            refused.append(Refused(searches[0], error))
    judged = tuple((trace.find_judged(note, questions), note) for note in trace.notes if note.judgements)
    return Assembled(tuple(questions), tuple(refused), judged)


def name_row(trace_id: str, number: int) -> str:
    """Return the retrieval id of a trace's row; rows are numbered from 1.

    >>> name_row("5b8efff798038103d269b633813fc60c", 2)
    '5b8efff798038103d269b633813fc60c-2'
    """
    return trace_id if number == 1 else f"{trace_id}-{number}"


def is_rooted(notes: Sequence[SpanNote]) -> bool:
    """Return whether the root of a trace came: what is missing is late, or comes from another service."""
    return any(not note.parent_id for note in notes)


def is_whole(notes: Sequence[SpanNote]) -> bool:
    """Return whether a root came, and every parent."""
    known = {note.span_id for note in notes}
    return is_rooted(notes) and all(not note.parent_id or note.parent_id in known for note in notes)


class _Trace:
    """The notes of one trace by their start, and how they hang together."""

    def __init__(self, notes: Sequence[SpanNote]) -> None:
        self.notes = notes
        self._by_id = {note.span_id: note for note in notes}
        self.searches = [note for note in notes if note.role in _SEARCHES]
        self._tops = {note.span_id: self._find_top(note) for note in notes if note.role in (*_SEARCHES, RERANKER)}
        self.outermost = [note for note in self.searches if self._tops[note.span_id] is note]

    def list_ancestors(self, note: SpanNote) -> Iterator[SpanNote]:
        """Yield what a span is in, the nearest first."""
        seen = {note.span_id}
        while len(seen) < _DEEPEST and (parent := self._by_id.get(note.parent_id)) and parent.span_id not in seen:
            seen.add(parent.span_id)
            yield parent
            note = parent

    def list_within(self, searches: Sequence[SpanNote]) -> list[SpanNote]:
        """Return what searched or reranked within these outermost searches."""
        tops = {search.span_id for search in searches}
        inner = [self._by_id[name] for name, top in self._tops.items() if top.span_id in tops and name not in tops]
        return sorted(inner, key=lambda note: (note.start_ns, note.span_id))

    def is_readable(self, search: SpanNote) -> bool:
        """Return whether something is known about a search's documents, if only by what searched within it."""
        return search.problem is None or self._knows_documents(search)

    def find_hits(self, search: SpanNote) -> SpanNote:
        """Return who knows the documents of a search: itself, else the first that searched within it."""
        if search.problem is None:
            return search
        return next(each for each in self.list_within([search]) if each.role in _SEARCHES and each.hits is not None)

    def find_text(self, search: SpanNote) -> str:
        """Return the text that was searched for: the span's own; for a vector, what was asked, or was embedded."""
        own = next((note.question for note in (search, *self.list_within([search])) if note.question), "")
        return (own or self.find_asked(search) or self._find_embedded(search)).strip()

    def find_asked(self, search: SpanNote) -> str:
        """Return the question of the outermost span around a search, else of the first root that has one."""
        around = [note.question for note in self.list_ancestors(search) if note.question and note.role == CHAIN]
        around += [note.question for note in self.list_ancestors(search) if note.question and not note.parent_id]
        if around:
            return around[-1].strip()
        roots = (note.question for note in self.notes if not note.parent_id and note.role not in _SEARCHES)
        return next(filter(None, roots), "").strip()

    def find_judged(self, note: SpanNote, questions: Sequence[Question]) -> int:
        """Return which question a span with judgments is about: the one it is part of, else the first within it."""
        places = {span_id: place for place, question in enumerate(questions) for span_id in question.span_ids}
        around = [note.span_id, *(each.span_id for each in self.list_ancestors(note))]
        if own := [places[span_id] for span_id in around if span_id in places]:
            return own[0]
        within = (
            place
            for span_id, place in places.items()
            if any(each.span_id == note.span_id for each in self.list_ancestors(self._by_id[span_id]))
        )
        return min(within, default=0)

    def _find_embedded(self, search: SpanNote) -> str:
        texts = [note.question for note in self.notes if note.role == EMBEDDING and note.start_ns <= search.start_ns]
        return next(filter(None, reversed(texts)), "")

    def _find_top(self, note: SpanNote) -> SpanNote:
        around = [each for each in self.list_ancestors(note) if each.role in _SEARCHES]
        return around[-1] if around else note

    def _knows_documents(self, search: SpanNote) -> bool:
        return search.hits is not None or any(
            each.hits is not None for each in self.list_within([search]) if each.role in _SEARCHES
        )


def _make_question(
    trace: _Trace, trace_id: str, number: int, scope: Scope, text: str, searches: Sequence[SpanNote]
) -> Question:
    inner = [*trace.list_within(searches), *_find_rerankers(trace, text, searches)]
    knowing = [trace.find_hits(search) for search in searches]
    main = min(knowing, key=_rank)
    hits, kind = _join_hits(main, knowing, inner)
    asked = trace.find_asked(searches[0])
    attributes = {**main.attributes, **searches[0].attributes}
    if asked and asked != text:
        attributes[ASKED] = asked
    failed = main.hits is None
    retrieval = Retrieval(
        ts=from_ms(searches[0].start_ns // 1_000_000),
        query=text,
        score_kind=kind or None,
        documents=None if failed else hits,
        error=main.error or "the retrieval failed" if failed else None,
        latency_ms=_measure_latency(searches),
        retrieval_id=name_row(trace_id, number),
        trace_id=trace_id,
        span_id=searches[0].span_id,
        attributes=attributes or None,
        scope=scope,
        **_find_fields(trace, searches, inner, is_first=number == 1),
    )
    components = _list_components(main, [*knowing, *inner])
    return Question(retrieval, tuple(search.span_id for search in searches), tuple(components))


def _rank(search: SpanNote) -> tuple[int, int, str]:
    """Sort searches for the same text: first those whose number says most."""
    if search.hits is None:
        worth = 4
    elif not search.hits:
        worth = 3
    elif not search.kind:
        worth = 2
    else:
        worth = 0 if search.kind in _BOUNDED else 1
    return worth, search.start_ns, search.span_id


def _join_hits(main: SpanNote, searches: Sequence[SpanNote], inner: Sequence[SpanNote]) -> tuple[Hits, str]:
    """Return the documents of a question in order, and the kind of their numbers.

    A fusion that keeps the numbers of what it fused has their kind, not one of its own. Where a reranker put its number
    in place of the retriever's, the retriever's is the row's, and the reranker's a score beside it.
    """
    hits, kind = main.hits or (), main.kind
    within = [note for note in inner if note.role in _SEARCHES and note.hits and note.kind]
    known: dict[tuple[str, float | None], str] = {hit: note.kind for note in within for hit in note.hits or ()}
    kinds = {known.get(hit) for hit in hits if hit[1] is not None}
    if kind and len(kinds) == 1 and (kept := kinds.pop()):
        kind = kept
    elif kind == "rerank" and (base := next((note for note in within if note.kind in _BOUNDED), None)):
        scores = dict(base.hits or ())
        if any(scores.get(name) is not None for name, _ in hits):
            hits, kind = tuple((name, scores.get(name)) for name, _ in hits), base.kind
    names = {name for name, _ in hits}
    for search in searches:
        for name, score in search.hits or ():
            if name not in names and len(hits) < MAX_DOCUMENTS:
                names.add(name)
                hits = (*hits, (name, score if search.kind == kind else None))
    return hits, kind


def _find_rerankers(trace: _Trace, text: str, searches: Sequence[SpanNote]) -> list[SpanNote]:
    """Return the rerankers beside the searches: of the same text, or without one after this question's search."""
    found = []
    for note in trace.notes:
        if note.role != RERANKER or any(each.role in _SEARCHES for each in trace.list_ancestors(note)):
            continue
        before = [search for search in trace.outermost if search.start_ns <= note.start_ns]
        if note.question.strip() == text or (not note.question and before and before[-1] in searches):
            found.append(note)
    return found


def _list_components(main: SpanNote, notes: Sequence[SpanNote]) -> list[Component]:
    """Return the best numbers of what searched or reranked within a question, each number once."""
    own = best_score(main.hits or (), main.kind)
    found: dict[tuple[str, float], Component] = {}
    for note in notes:
        name = note.name or note.role
        if note.reranked is not None:
            found.setdefault(("rerank", note.reranked), Component("rerank", name, note.reranked))
        best = best_score(note.hits, note.kind) if note.hits and note.kind and note is not main else None
        if best is not None and (best != own):
            found.setdefault((note.kind, best), Component(note.kind, name, best))
    return list(found.values())


def _measure_latency(searches: Sequence[SpanNote]) -> float | None:
    """Return the time from the first start to the last end, in milliseconds."""
    ends = [note.start_ns / 1e6 + note.latency_ms for note in searches if note.latency_ms is not None]
    if len(searches) == 1:
        return searches[0].latency_ms
    return max(ends) - searches[0].start_ns / 1e6 if ends else None


def _find_fields(
    trace: _Trace, searches: Sequence[SpanNote], inner: Sequence[SpanNote], *, is_first: bool
) -> dict[str, Any]:
    """Return the optional fields: of the searches, of what they are in, then of any span of the trace."""
    around = [note for search in searches for note in trace.list_ancestors(search)]
    embedders = [note for note in trace.notes if note.role == EMBEDDING]
    found: dict[str, Any] = {}
    for note in (*searches, *inner, *around):
        for name, value in note.fields.items():
            found.setdefault(name, value)
    for note in (*embedders, *trace.notes):
        for name, value in note.fields.items():
            if name in _OF_TRACE:
                found.setdefault(name, value)
    if not is_first:  # what the whole trace cost is counted once
        return {name: value for name, value in found.items() if name not in ("cost_usd", "tokens")}
    for name in ("tokens", "cost_usd"):
        total = _add_up(trace, name)
        if total is not None:
            found.setdefault(name, total)
    roots = [note.answer for note in trace.notes if note.answer and not note.parent_id]
    models = [note.answer for note in trace.notes if note.answer and note.role == MODEL]
    if roots or models:
        found["answer"] = (roots or models)[-1]
    return found


def _add_up(trace: _Trace, name: str) -> float | None:
    """Return the sum of a number over the trace; a span's number includes those of the spans in it."""
    having = [note for note in trace.notes if getattr(note, name) is not None]
    ids = {note.span_id for note in having}
    outer = [note for note in having if not any(each.span_id in ids for each in trace.list_ancestors(note))]
    return sum(getattr(note, name) for note in outer) if outer else None

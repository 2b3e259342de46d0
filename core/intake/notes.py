"""Rule: what one span says about a question, and how that is kept while its trace is open."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, NamedTuple

from core.safety.letters import show_text
from quarterdeck.scope import DEFAULT_SCOPE, Scope

Hits = tuple[tuple[str, float | None], ...]


class Judgement(NamedTuple):
    """What a span says of the quality of a question's answer. `of_trace`: it judges the trace, not the span."""

    name: str
    value: float
    source: str
    comment: str = ""
    of_trace: bool = False


@dataclass(frozen=True, slots=True)
class SpanNote:
    """What a span says about a question. `role` is one of `core.intake.names`, or "" for any other span.

    `hits` is None if the search failed, `kind` that of the hits' numbers. `reranked` is the best number of a reranker.
    `problem` says why a retrieval cannot be read: a reason, and a sentence. `misjudged` says so of its judgments.
    `is_own_only`: the sender may judge rows of its own service alone.
    """

    span_id: str
    parent_id: str = ""
    role: str = ""
    name: str = ""
    start_ns: int = 0
    scope: Scope = DEFAULT_SCOPE
    question: str = ""
    hits: Hits | None = None
    kind: str = ""
    reranked: float | None = None
    latency_ms: float | None = None
    error: str = ""
    fields: Mapping[str, Any] = field(default_factory=dict)
    attributes: Mapping[str, Any] = field(default_factory=dict)
    answer: str = ""
    tokens: float | None = None
    cost_usd: float | None = None
    problem: tuple[str, str] | None = None
    judgements: tuple[Judgement, ...] = ()
    misjudged: tuple[tuple[str, str], ...] = ()
    is_own_only: bool = False


_FIELDS = tuple(each.name for each in fields(SpanNote) if each.name != "misjudged")  # which is counted as it comes
_ONLY_IF_TRUE = ("judgements", "is_own_only")
_encode = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode
_PLAIN = '{"parent_id":"%s"}'


def dump_note(note: SpanNote) -> str:
    """Return a note as compact JSON, without what it does not say, and without the span's id."""
    if not note.role and not note.start_ns and not note.judgements:
        return _PLAIN % note.parent_id
    said = {
        name: value
        for name in _FIELDS[1:]
        if (value := getattr(note, name)) is not None
        and value != ""
        and value != {}
        and (value or name not in _ONLY_IF_TRUE)
    }
    body = _encode(said)
    return body if body.isascii() else show_text(body)  # JSON within attributes may hold half a letter


def load_note(span_id: str, body: str) -> SpanNote:
    """Return the note that `dump_note` wrote; what a newer release added is left out."""
    said = json.loads(body)
    values = {name: said[name] for name in _FIELDS if name in said}
    if "scope" in values:
        values["scope"] = Scope(*values["scope"])
    if "hits" in values:
        values["hits"] = tuple((name, score) for name, score in values["hits"])
    if "judgements" in values:
        values["judgements"] = tuple(Judgement(*each) for each in values["judgements"])
    if "problem" in values:
        reason, problem = values["problem"]
        values["problem"] = (reason, problem)
    return SpanNote(span_id=span_id, **values)

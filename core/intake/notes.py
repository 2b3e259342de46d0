"""Rule: what one span says about a question, and how that is kept while its trace is open."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from core.safety.letters import show_text
from quarterdeck.scope import DEFAULT_SCOPE, Scope

Hits = tuple[tuple[str, float | None], ...]


@dataclass(frozen=True, slots=True)
class SpanNote:
    """What a span says about a question. `role` is one of `core.intake.names`, or "" for any other span.

    `hits` is None if the search failed, `kind` that of the hits' numbers. `reranked` is the best number of a reranker.
    `problem` says why a retrieval cannot be read: a reason, and a sentence.
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


_FIELDS = tuple(each.name for each in fields(SpanNote))
_encode = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode
_PLAIN = '{"parent_id":"%s"}'


def dump_note(note: SpanNote) -> str:
    """Return a note as compact JSON, without what it does not say, and without the span's id."""
    if not note.role and not note.start_ns:
        return _PLAIN % note.parent_id
    said = {
        name: value
        for name in _FIELDS[1:]
        if (value := getattr(note, name)) is not None and value != "" and value != {}
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
    if "problem" in values:
        reason, problem = values["problem"]
        values["problem"] = (reason, problem)
    return SpanNote(span_id=span_id, **values)

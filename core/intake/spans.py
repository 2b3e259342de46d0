"""Rule: reads one span, whoever wrote it, and reduces it to what it says about a question.

`otlp.py` and `traces.py` deal with how spans arrive, `questions.py` makes rows of the spans of a trace.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from core.errors import InvalidInput
from core.intake import names
from core.intake.documents import Found, find_documents, parse_json, read_documents
from core.intake.judgements import judge_span
from core.intake.names import CHAIN, EMBEDDING, MODEL, RERANKER, RETRIEVER, STORE
from core.intake.notes import SpanNote
from core.intake.queries import find_question, read_input
from core.intake.scales import find_kind
from core.safety.letters import show_text
from quarterdeck.hits import MAX_DOCUMENTS
from quarterdeck.redaction import Redactor
from quarterdeck.retrieval import LATEST, MAX_ANSWER_CHARACTERS, MAX_QUERY_CHARACTERS
from quarterdeck.scope import DEFAULT_SCOPE, Scope, make_scope
from quarterdeck.similarity import is_number

LABELS = ("arm", "prompt_version", "index_version", "model", "session_id", "user_id")
NUMBERS = ("cost_usd", "faithfulness", "feedback", "tokens")

_LATEST_NS = int(LATEST.timestamp()) * 10**9
_FLAT = re.compile(r"(?:retrieval\.documents|reranker\.output_documents)\.(\d{1,6})\.(?:document\.)?(.+)")
_RETRIEVES = re.compile(r"retriev", re.IGNORECASE)
_ANSWERS = re.compile(r"query_?engine|retrieval_?qa|chain|workflow|pipeline", re.IGNORECASE)
_TEXTS = re.compile(r"texts=\[(['\"])(.+?)\1[,\]]", re.DOTALL)
_RESULT = re.compile(r"db\.(?:query|search)\.result")
_FIELDS = {
    name: (field, place)
    for field, listed in (("session_id", names.SESSIONS), ("user_id", names.USERS),
                          ("prompt_version", names.PROMPT_VERSIONS), ("model", names.EMBEDDING_MODELS[:2]))
    for place, name in enumerate(listed)
} | {f"quarterdeck.{name}": (name, -1) for name in (*LABELS, *NUMBERS)}  # fmt: skip
_NAMED = (
    "traceloop.entity.name", "db.system", "db.system.name", "gen_ai.data_source.id", "ls_retriever_name",
    "ls_vector_store_provider", "traceloop.association.properties.ls_vector_store_provider",
    "traceloop.association.properties.ls_retriever_name",
)  # fmt: skip
_MODEL_UNKNOWN = frozenset({"", "unknown", "none"})
_MOST_ATTRIBUTES = 24
_MOST_OF_ROOT, _MOST_WITHIN = 200_000, 2_000  # longer inputs of roots and of chains are not searched for a question

ScopeOf = Callable[[str | None, str | None], Scope]  # of an environment and a service; raises InvalidInput


@dataclass(frozen=True, slots=True)
class SpanChoices:
    """What a service chose: whether answers are kept, and the kind of its scores where a span does not say it."""

    keep_answers: bool = False
    score_kind: str = ""


ChoicesOf = Callable[[Scope], SpanChoices]


@dataclass(frozen=True, slots=True)
class Span:
    """One span as it came: ids in hex, times in nanoseconds, attributes and events as plain values."""

    trace_id: str
    span_id: str
    parent_id: str = ""
    name: str = ""
    library: str = ""
    start_ns: int = 0
    end_ns: int = 0
    failed: bool = False
    message: str = ""
    attributes: Mapping[str, Any] = field(default_factory=dict)
    events: Sequence[tuple[str, Mapping[str, Any]]] = ()
    resource: Mapping[str, Any] = field(default_factory=dict)


def read_span(
    span: Span,
    *,
    redact: Redactor,
    choices_of: ChoicesOf = lambda _scope: SpanChoices(),
    scope_of: ScopeOf = make_scope,
    home: Scope = DEFAULT_SCOPE,
) -> SpanNote:
    """Return what a span says about a question; questions and answers are redacted.

    A retrieval that cannot be read is noted with its problem, one whose scope is refused under `home`. Spans of other
    kinds are noted for their place in the trace, and for what they say of its quality.
    """
    role = find_role(span)
    judged, wrong = judge_span(span.attributes, span.events, redact=redact) if _may_judge(span) else ((), ())
    if not role and span.parent_id and not judged and not wrong:
        return SpanNote(span.span_id, span.parent_id)
    scope = None
    try:
        scope = _find_scope(span, scope_of)
        note = SpanNote(span.span_id, span.parent_id, "", _plain_name(span.name), span.start_ns, scope)
        if role or not span.parent_id:
            note = _read(span, role, scope, redact, choices_of(scope))
    except InvalidInput as error:
        problem = (error.field, error.problem)
        if scope is None:  # whose it is is refused, and with it what it says of others
            wrong, judged = (error,) * len((*judged, *wrong)), ()
        if role in (RETRIEVER, STORE):
            name = _plain_name(span.name)
            note = SpanNote(span.span_id, span.parent_id, role, name, span.start_ns, scope or home, problem=problem)
        else:
            note = SpanNote(span.span_id, span.parent_id, scope=scope or home)
    if not judged and not wrong:
        return note
    return replace(note, judgements=judged, misjudged=tuple((each.field, each.problem) for each in wrong))


def _may_judge(span: Span) -> bool:
    """Return whether a span can hold judgments: most do not."""
    if span.events and any(name == "gen_ai.evaluation.result" for name, _ in span.events):
        return True
    return any(
        name.startswith(("annotations.", "evaluations.", "trace.", "gen_ai.evaluation."))
        or (name == "openinference.span.kind" and str(value).upper() == "EVALUATOR")
        for name, value in span.attributes.items()
    )


def find_role(span: Span) -> str:
    """Return what a span is: a retriever, a query of a vector store, a reranker, a model …; "" for all others.

    Of several conventions on one span, one that says retriever is right: LangSmith calls it `embeddings` as well.
    """
    attributes = span.attributes
    found = {name: role for name in names.KINDS if name in attributes and (role := _look_up(name, attributes[name]))}
    if RETRIEVER in found.values():
        return RETRIEVER
    if (STORE in found.values() or _is_store(attributes)) and _is_read(span):
        return STORE
    role = next((role for role in found.values() if role != STORE), "")
    return _named_retriever(span) if role == CHAIN and "openinference.span.kind" not in found else role


def _look_up(name: str, value: Any) -> str:
    return names.KINDS[name].get(str(value).strip('"').lower(), "")


def _named_retriever(span: Span) -> str:
    """A task is a retriever if its name says so and its output holds documents, or is not captured."""
    name = f"{span.attributes.get('traceloop.entity.name') or ''} {span.name}"
    if _RETRIEVES.search(name) and not _ANSWERS.search(name):
        outputs = [span.attributes[each] for each in names.OUTPUTS if span.attributes.get(each) is not None]
        if not outputs or any(find_documents(each) for each in outputs):
            return RETRIEVER
    return CHAIN


def _is_store(attributes: Mapping[str, Any]) -> bool:
    system = str(next((attributes[name] for name in names.STORE_SYSTEMS if attributes.get(name)), "")).lower()
    return system in names.VECTOR_STORES or "db.vector.query.top_k" in attributes


def _is_read(span: Span) -> bool:
    named = (str(span.attributes[name]) for name in names.STORE_OPERATIONS if span.attributes.get(name))
    said = (next(named, "") or span.name).lower()
    if any(word in said for word in names.STORE_WRITES):
        return False
    return any(word in said for word in names.STORE_READS)


def _read(span: Span, role: str, scope: Scope, redact: Redactor, choices: SpanChoices) -> SpanNote:
    attributes = _with_events(span)
    metadata = parse_json(attributes.get("metadata"))
    sources = (attributes, metadata if isinstance(metadata, Mapping) else {}, span.resource)
    common: dict[str, Any] = {
        "span_id": span.span_id, "parent_id": span.parent_id, "role": role, "name": _plain_name(span.name),
        "start_ns": span.start_ns, "scope": scope, "fields": _find_fields(role, *sources),
    }  # fmt: skip
    if role in (RETRIEVER, STORE, RERANKER):
        return SpanNote(**common, **_read_search(span, role, attributes, sources, redact, choices))
    tokens, cost = (
        (None, None) if role == CHAIN and span.parent_id else (_find_tokens(attributes), _find_cost(attributes))
    )
    answer = _find_answer(attributes, redact) if role != EMBEDDING and choices.keep_answers else ""
    most = _MOST_WITHIN if span.parent_id else _MOST_OF_ROOT
    question = "" if role == MODEL else _redact(_find_question(attributes, most=most), redact)
    return SpanNote(**common, question=question, answer=answer, tokens=tokens, cost_usd=cost)


def _read_search(
    span: Span,
    role: str,
    attributes: Mapping[str, Any],
    sources: Sequence[Mapping[str, Any]],
    redact: Redactor,
    choices: SpanChoices,
) -> dict[str, Any]:
    """Return what a retriever, a vector store or a reranker says: its question, documents and numbers."""
    if not 0 < span.start_ns < _LATEST_NS:
        raise InvalidInput("ts", "the span has no start time between 1970 and 2100")
    question = _find_question(attributes) if role != STORE else _find_in_statement(attributes)
    problem, documents = None, None
    try:
        documents = _find_documents(span, attributes)
    except InvalidInput as error:  # a span within it may know them
        problem = (error.field, error.problem)
    hits, kind, reranked = _measure(span, role, documents or [], sources, choices)
    has_failed = documents is None and problem is None
    return {
        "question": _redact(question, redact), "hits": None if documents is None else hits, "kind": kind,
        "reranked": reranked, "problem": problem, "error": _redact(_find_error(span), redact) if has_failed else "",
        "latency_ms": (span.end_ns - span.start_ns) / 1e6 if span.end_ns >= span.start_ns else None,
        "attributes": _find_attributes(attributes, sources[1]),
    }  # fmt: skip


def _with_events(span: Span) -> Mapping[str, Any]:
    """Return a span's attributes with those of its events: earlier conventions put inputs and outputs there."""
    merged: dict[str, Any] = {}
    for name, event in span.events:
        if name != "exception" and not _RESULT.match(name):
            merged.update(event)
    return {**merged, **span.attributes} if merged else span.attributes


def _find_scope(span: Span, scope_of: ScopeOf) -> Scope:
    environment = _first_text(names.ENVIRONMENTS, span.resource, span.attributes)
    return scope_of(environment, _first_text(("service.name",), span.resource))


def _find_fields(role: str, *sources: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a retrieval that a span names; `quarterdeck.arm` and the like go first.

    The most specific name wins, and of one name the first source that has it.
    """
    found: dict[str, tuple[tuple[int, int], Any]] = {}
    for place, source in enumerate(sources):
        for key, value in source.items():
            if key not in _FIELDS or value in (None, "") or isinstance(value, Mapping | list):
                continue
            field, rank = _FIELDS[key]
            if field not in found or (rank, place) < found[field][0]:
                found[field] = ((rank, place), value)
    fields = {name: value if name in NUMBERS else _as_label(value) for name, (_, value) in found.items()}
    if role == EMBEDDING:
        fields.setdefault("model", _first_text(names.EMBEDDING_MODELS, *sources))
    if str(fields.get("model") or "").lower() in _MODEL_UNKNOWN:
        fields.pop("model", None)
    return fields


def _as_label(value: Any) -> str:
    return str(value).strip('"')  # MLflow writes texts as JSON


def _find_question(attributes: Mapping[str, Any], *, most: int = 10_000_000) -> str:
    """Return the question of a span, "" if it holds none. Raises InvalidInput if the application hides it."""
    for name in (*names.QUERIES, *names.INPUTS):
        value = attributes.get(name)
        if value is None or (isinstance(value, str) and len(value) > most):
            continue
        if isinstance(value, str) and value in names.HIDDEN:
            raise InvalidInput("hidden", f"{name} is hidden by the application's own setting")
        is_plain = name in names.PLAIN_INPUTS and attributes.get("input.mime_type") != "application/json"
        found = find_question(value) if is_plain else read_input(value)
        if found:
            return found
    return ""


def _find_in_statement(attributes: Mapping[str, Any]) -> str:
    """Return the text that a vector store was asked for, where its instrumentation writes it."""
    named = attributes.get("db.vector.query.text")
    texts = _TEXTS.match(str(attributes.get("db.query.text") or ""))
    return str(named) if named else texts[2] if texts else ""


def _find_documents(span: Span, attributes: Mapping[str, Any]) -> list[Found] | None:
    """Return the documents of a search, None if it failed. Raises InvalidInput if nothing is known about them."""
    for name in names.DOCUMENTS:
        if attributes.get(name) is not None:
            found = find_documents(attributes[name])
            if found is None:
                raise InvalidInput("no_documents", f"{name} holds no list of documents")
            return found
    listed = _list_flat(attributes) or _list_results(span)
    if listed:
        return read_documents(listed)
    output = next((attributes[name] for name in names.OUTPUTS if attributes.get(name) is not None), None)
    if isinstance(output, str) and output in names.HIDDEN:
        raise InvalidInput("hidden", "the documents are hidden by the application's own setting")
    found = None if output is None else find_documents(output)
    if found is None and any(attributes.get(name) == 0 for name in names.COUNTS):
        return []
    if found is None and span.failed:
        return None
    if found is None and isinstance(output, str) and output.strip() and not output.lstrip().startswith(("{", "[")):
        return read_documents([output])  # the retriever gave one text
    if found is None and output is None and "openinference.span.kind" in attributes:
        return []  # OpenInference writes one attribute per document property, and none for an empty list
    if found is None:
        raise InvalidInput("no_documents", "the span has none; enable content capture in the instrumentation")
    return found


def _list_flat(attributes: Mapping[str, Any]) -> list[Any]:
    """Return the documents that are written as one attribute a property, in order."""
    flat: dict[int, dict[str, Any]] = {}
    for key, value in attributes.items():
        if key.startswith("re") and (match := _FLAT.fullmatch(key)):
            flat.setdefault(int(match[1]), {})[match[2]] = value
    return [flat[place] for place in sorted(flat)]


def _list_results(span: Span) -> list[Any]:
    """Return the documents that a vector store's span holds as events."""
    return [
        {key.rpartition(".")[2]: value for key, value in event.items()}
        for name, event in span.events
        if _RESULT.match(name)
    ]


def _measure(
    span: Span, role: str, documents: Sequence[Found], sources: Sequence[Mapping[str, Any]], choices: SpanChoices
) -> tuple[tuple[tuple[str, float | None], ...], str, float | None]:
    """Return the hits, the kind of their numbers, and the best number of a reranker beside them."""
    documents = documents[:MAX_DOCUMENTS]
    label = next((each.label for each in documents if each.number is not None), "")
    numbers = [each.number for each in documents if each.number is not None and each.label == label]
    hits = tuple((each.id, each.number if each.label == label else None) for each in documents)
    reranked = max((each.reranked for each in documents if each.reranked is not None), default=None)
    if not numbers:
        return hits, "", reranked
    told = _first_text(("quarterdeck.score_kind",), *sources)
    if role == RERANKER:
        told = told or "rerank"
    elif label in ("", "distance"):
        told = told or choices.score_kind
    attributes, metadata, _ = sources
    said = [
        span.name,
        span.library,
        *(source[name] for source in (attributes, metadata) for name in _NAMED if name in source),
    ]
    metric = " ".join(str(value) for key, value in attributes.items() if "metric" in key or key.endswith("space"))
    kind = find_kind(numbers, label, names=" ".join(str(each) for each in said if each), metric=metric, told=told)
    return hits, kind, reranked


def _find_error(span: Span) -> str:
    for name, event in span.events:
        if name == "exception":
            said = event.get("exception.message") or event.get("exception.type")
            return _first_line(str(said or ""))
    return _first_line(str(span.attributes.get("langfuse.observation.status_message") or span.message))


def _first_line(message: str) -> str:
    """Return what an error says, without the traceback that some instrumentations append."""
    line = (message.strip().splitlines() or [""])[0].partition("Traceback (most recent call last)")[0]
    return line.strip()[:256] or "the retrieval failed"


def _find_attributes(attributes: Mapping[str, Any], metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return the names and values that the service itself attached, such as a tenant."""
    found: dict[str, Any] = {}
    for name, value in metadata.items():
        found[str(name)] = value
    for name, value in attributes.items():
        own = next((prefix for prefix in names.OWN_ATTRIBUTES if name.startswith(prefix)), None)
        if own:
            found[name.removeprefix(own)] = value
    kept = {
        name: value if not isinstance(value, str) else value[:256]
        for name, value in found.items()
        if isinstance(value, str | int | float | bool) and value != "" and name not in names.NOT_ATTRIBUTES
        and not name.startswith((*names.FRAMEWORKS_OWN, "quarterdeck."))
    }  # fmt: skip
    return dict(list(kept.items())[:_MOST_ATTRIBUTES])


def _find_tokens(attributes: Mapping[str, Any]) -> float | None:
    total = _first_number(names.TOKENS, attributes)
    if total is None:
        parts = [_first_number(each, attributes) for each in (names.TOKENS_IN, names.TOKENS_OUT)]
        total = sum(part or 0.0 for part in parts) if any(part is not None for part in parts) else None
    return _sum_details(names.USAGES, ("total", "total_tokens"), attributes) if total is None else total


def _find_cost(attributes: Mapping[str, Any]) -> float | None:
    cost = _first_number(names.COSTS, attributes)
    return _sum_details(names.COST_DETAILS, ("total", "total_cost"), attributes) if cost is None else cost


def _sum_details(keys: Sequence[str], totals: Sequence[str], attributes: Mapping[str, Any]) -> float | None:
    """Return the total in an object of numbers, or their sum."""
    for key in keys:
        details = parse_json(attributes.get(key))
        if isinstance(details, Mapping):
            numbers = {name: float(value) for name, value in details.items() if is_number(value)}
            if numbers:
                return next((numbers[total] for total in totals if total in numbers), sum(numbers.values()))
    return None


def _find_answer(attributes: Mapping[str, Any], redact: Redactor) -> str:
    for name in names.OUTPUTS:
        value = attributes.get(name)
        text = _read_answer(parse_json(value)) if value not in (None, "") else None
        if text and text not in names.HIDDEN:
            return redact(_storable(text[:MAX_ANSWER_CHARACTERS]))
    flat = attributes.get("llm.output_messages.0.message.content")
    return redact(_storable(flat[:MAX_ANSWER_CHARACTERS])) if isinstance(flat, str) else ""


def _storable(text: str) -> str:
    return show_text(text.replace("\x00", ""))


def _read_answer(value: Any, depth: int = 6) -> str | None:
    """Return the text of an answer: itself, or what an object or a list of messages holds under a usual name."""
    if isinstance(value, str):
        return value if value.strip() else None
    if isinstance(value, list) and depth:
        return next(filter(None, (_read_answer(each, depth - 1) for each in value)), None)
    if isinstance(value, Mapping) and depth:
        for name in ("answer", "result", "text", "content", "replies", "response", "output", "outputs", "parts",
                     "message", "messages", "kwargs", "generations", "choices", "data"):  # fmt: skip
            found = _read_answer(value.get(name), depth - 1)
            if found:
                return found
        nested = [each for each in value.values() if isinstance(each, Mapping)]
        return next(filter(None, (_read_answer(each, depth - 1) for each in nested)), None)
    return None


def _redact(question: str, redact: Redactor) -> str:
    if not question or len(question) > MAX_QUERY_CHARACTERS:
        return question[: MAX_QUERY_CHARACTERS + 1]  # too long: refused when its row is made
    return redact(question if question.isascii() else show_text(question))


def _plain_name(name: str) -> str:
    """Return a span's name as every database takes it."""
    return name[:128] if name.isprintable() else "".join(each for each in name[:128] if each.isprintable())


def _first_text(keys: Sequence[str], *sources: Mapping[str, Any]) -> str | None:
    for key in keys:
        for source in sources:
            value = source.get(key)
            if value not in (None, "") and not isinstance(value, Mapping | list):
                return str(value)
    return None


def _first_number(keys: Sequence[str], attributes: Mapping[str, Any]) -> float | None:
    for key in keys:
        value = attributes.get(key)
        if value is not None and is_number(value):
            return float(value)
    return None

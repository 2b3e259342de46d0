"""Rule: reads the documents that a span found, in whatever form a framework writes them: their ids and their numbers.

What kind of number it is, `scales.py` decides.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from hashlib import sha256
from typing import Any, NamedTuple

from core.intake.names import IDS, METADATA_IDS, NUMBERS, TEXTS
from quarterdeck.hits import MAX_DOCUMENTS
from quarterdeck.similarity import is_number

UNNAMED = "(unnamed)"  # a document of which neither an id nor its text is known

_LISTS = (
    "documents", "docs", "nodes", "source_nodes", "source_documents", "retrieved_documents", "results", "result",
    "matches", "hits", "points", "passages", "context", "outputs", "output", "response", "data", "generations",
)  # fmt: skip
_INNER = ("node", "document", "kwargs", "entity", "payload", "doc", "chunk", "_source", "_additional")
_NESTED = {name: place for place, name in enumerate((*_INNER, "metadata", "meta", "fields", "properties"))}
_RANKS = {name: place for place, name in enumerate(NUMBERS)}
_DEEPEST = 5
_MOST = 5 * MAX_DOCUMENTS
_TEXT_ID = re.compile(
    r"\bid_?\s*[=:]\s*'?\"?([\w./:-]{1,200})|['\"](?:id|source|file_name|doc_id)['\"]: ['\"]([^'\"]{1,200})"
)
_TEXT_SCORE = re.compile(r"\b(score|distance|relevance_score)['\"]?\s*[=:]\s*(-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?)")
_REPR = re.compile(r"<?\w{0,40}(?:Document|Node|NodeWithScore|Point|Hit|Chunk)\w{0,40}\(|page_content=")


class Found(NamedTuple):
    """One document: its id, its own number and what that is called, and a reranker's number beside it."""

    id: str
    number: float | None = None
    label: str = ""  # a kind, or `distance`, or "" if its name says nothing
    reranked: float | None = None


def find_documents(value: Any) -> list[Found] | None:
    """Return the documents in a span's output, in order; None if it holds no list of documents."""
    found = _find_list(value, _DEEPEST)
    return None if found is None else read_documents(found)


def read_documents(documents: Iterable[Any]) -> list[Found]:
    """Return what each document says; those that say nothing at all are left out."""
    found = []
    for place, document in enumerate(documents):
        if place >= _MOST:
            break
        read = _read(document, _DEEPEST)
        if read is not None:
            found.append(read)
    return found


def parse_json(text: Any) -> Any:
    """Return the parsed JSON text; anything else unchanged."""
    if not isinstance(text, str) or not text.lstrip().startswith(("{", "[", '"')):
        return text
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _find_list(value: Any, depth: int) -> Sequence[Any] | None:
    value = parse_json(value)
    if isinstance(value, list | tuple):
        if value and all(isinstance(each, list) for each in value) and not _is_pair(value[0]):
            return _find_list(value[0], depth - 1) if depth else None  # one list for each query
        return value if all(isinstance(each, Mapping | str) or _is_pair(each) for each in value) else None
    if not isinstance(value, Mapping) or not depth:
        return None
    if isinstance(value.get("ids"), list):
        return list(_join_columns(value))
    for name in _LISTS:
        if value.get(name) not in (None, ""):
            found = _find_list(value[name], depth - 1)
            if found is not None:
                return found
    return None


def _join_columns(value: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Return the documents of a result that holds a list for each property, as Chroma's does."""
    columns: dict[str, list[Any]] = {}
    for plural, single in (("ids", "id"), ("distances", "distance"), ("scores", "score"), ("metadatas", "metadata"),
                           ("documents", "content")):  # fmt: skip
        column = value.get(plural)
        if isinstance(column, list) and column:
            columns[single] = column[0] if isinstance(column[0], list) else column
    for place in range(len(columns.get("id", ()))):
        yield {name: column[place] for name, column in columns.items() if place < len(column)}


def _is_pair(value: Any) -> bool:
    return (
        isinstance(value, list | tuple) and len(value) == 2 and not isinstance(value[0], list) and is_number(value[1])
    )


def _read(document: Any, depth: int) -> Found | None:
    if isinstance(document, str):
        parsed = parse_json(document)
        return _read_text(document) if parsed is document or isinstance(parsed, str) else _read(parsed, depth)
    if _is_pair(document):
        inner = _read(document[0], depth)
        return inner and inner._replace(number=float(document[1]), label="")
    if not isinstance(document, Mapping) or not document:
        return None
    sources = list(_list_sources(document, depth))
    number, label = _find_number(sources)
    reranked = None
    if label != "rerank":
        reranked = _find_reranked(sources)
    return Found(_find_id(sources) or UNNAMED, number, label, reranked)


def _list_sources(document: Mapping[str, Any], depth: int) -> Iterator[Mapping[str, Any]]:
    """Yield a document and what is nested in it: its metadata after itself."""
    yield document
    nested = sorted((_NESTED[name], name) for name in document if name in _NESTED) if depth else ()
    for _, name in nested:
        inner = parse_json(document[name])
        if isinstance(inner, Mapping):
            yield from _list_sources(inner, depth - 1)


def _find_number(sources: Sequence[Mapping[str, Any]]) -> tuple[float | None, str]:
    """Return a document's number and what it is called; a reranker's if there is no other."""
    for source in sources:
        for name in _list_numbers(source):
            if NUMBERS[name] != "rerank" and (number := _number(source[name])) is not None:
                return number, NUMBERS[name]
    number = _find_reranked(sources)
    return number, "" if number is None else "rerank"


def _find_reranked(sources: Sequence[Mapping[str, Any]]) -> float | None:
    for source in sources:
        for name in _list_numbers(source):
            if NUMBERS[name] == "rerank" and (number := _number(source[name])) is not None:
                return number
    return None


def _list_numbers(source: Mapping[str, Any]) -> list[str]:
    """Return the names in a source that numbers have, the most usual first."""
    found = [name for name in source if name in _RANKS]
    return sorted(found, key=_RANKS.__getitem__) if len(found) > 1 else found


def _number(value: Any) -> float | None:
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return None
    return float(value) if value is not None and is_number(value) else None


def _find_id(sources: Sequence[Mapping[str, Any]]) -> str:
    for number, source in enumerate(sources):
        for name in IDS if not number else METADATA_IDS + IDS:
            value = source.get(name)
            if value not in (None, "") and not isinstance(value, Mapping | list | bool):
                return str(value)
    for source in sources:
        for name in TEXTS:
            text = source.get(name)
            if isinstance(text, str) and text:
                return _name_text(text)
    return ""


def _read_text(text: str) -> Found | None:
    """Return what the text of a document says; frameworks write `Document(id=…, score: …)` and the like."""
    if not text.strip():
        return None
    if not _REPR.match(text):
        return Found(_name_text(text))
    named, scored = _TEXT_ID.search(text), _TEXT_SCORE.search(text)
    name = (named[1] or named[2]) if named else _name_text(text)
    return Found(name, float(scored[2]), NUMBERS[scored[1]]) if scored else Found(name)


def _name_text(text: str) -> str:
    return sha256(text.encode("utf-8", "replace")).hexdigest()[:16]

"""Rule: reads a retriever span, whoever wrote it: its query, and the best score among its documents.

Works on plain values; `otlp.py` and `traces.py` deal with how spans arrive.
"""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from core.errors import InvalidInput
from core.intake.rows import NUMBERS

LABELS = ("arm", "prompt_version", "index_version")
_QUERY_NAMES = ("query", "question", "input", "search_query", "query_text", "text", "query_str", "str_or_query_bundle")
_SCORE_NAMES = ("score", "similarity", "similarity_score", "relevance_score")


def find_query(value: Any) -> str:
    """Return the query among a span's inputs: text, or the text under a name like query. Raises InvalidInput."""
    if isinstance(value, str) and value.strip():
        return value
    if isinstance(value, Mapping):
        for name in _QUERY_NAMES:
            if isinstance(value.get(name), str) and value[name].strip():
                return str(value[name])
        texts = [each for each in value.values() if isinstance(each, str) and each.strip()]
        if len(texts) == 1:
            return texts[0]
    raise InvalidInput("query", "the span's input holds no query text")


def find_top_score(documents: Any) -> float | None:
    """Return the highest score of a span's documents, None for an empty list.

    A document's score is its own or its metadata's. Raises InvalidInput when none has one, or one is not 0 to 1.
    """
    if not isinstance(documents, Sequence) or isinstance(documents, str):
        raise InvalidInput("documents", "must be a list of documents")
    if not documents:
        return None
    scores = [score for score in map(_find_score, documents) if score is not None]
    if not scores:
        raise InvalidInput("score", f"none of the {len(documents)} documents carries a score")
    for score in scores:
        if not isinstance(score, int | float) or isinstance(score, bool) or not math.isfinite(score):
            raise InvalidInput("score", f"must be a number, not {score!r}")
        if not 0.0 <= score <= 1.0:
            raise InvalidInput("score", f"must be a similarity between 0 and 1, not {score!r}")
    return float(max(scores))


def find_fields(*sources: Mapping[str, Any]) -> dict[str, Any]:
    """Return the retrieval's optional fields that a span names: `quarterdeck.arm` and the like, the first source's."""
    found: dict[str, Any] = {}
    for name in (*LABELS, *sorted(NUMBERS - {"score", "latency_ms"})):
        for source in sources:
            value = source.get(f"quarterdeck.{name}")
            if value is not None:
                found.setdefault(name, str(value) if name in LABELS else value)
    return found


def parse_json(text: Any) -> Any:
    """Return what a JSON text holds; anything else as it is."""
    if not isinstance(text, str) or not text.lstrip().startswith(("{", "[", '"')):
        return text
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _find_score(document: Any) -> Any:
    if not isinstance(document, Mapping):
        return None
    for source in (document, parse_json(document.get("metadata"))):
        if isinstance(source, Mapping):
            for name in _SCORE_NAMES:
                if source.get(name) is not None:
                    return source[name]
    return None

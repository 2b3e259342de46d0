"""Rule: finds the user's question in a span's input: text, or JSON as frameworks write it. A vector is no question."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from core.intake.documents import parse_json
from core.intake.names import QUERY_NAMES, WRAPPERS

_DEEPEST = 6
_VECTOR = re.compile(r"<?\[?(?:\d{1,9}-dimensional vector|vector of size \d{1,9}|embedding)\]?>?", re.IGNORECASE)
_NUMBERS = re.compile(
    r"\[\s*-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?\s*(?:,\s*(?:\.\.\.|-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?)\s*)+\]?"
)
_NOT_QUESTIONS = frozenset({"type", "role", "id", "name", "run_type", "filters", "collection", "collection_name",
                            "search_type", "model", "mode", "namespace", "template"})  # fmt: skip
_ASKING = frozenset({"user", "human"})


def find_question(value: Any, depth: int = _DEEPEST) -> str | None:
    """Return the question in a span's input, None if there is none.

    Of an object, the value of a key like `query` is taken, then what is nested in it, then its only text; of messages,
    the last one of the user.

    >>> find_question({"query_bundle": {"query_str": "what is an mbuf", "embedding": None}})
    'what is an mbuf'
    >>> find_question({"query_embedding": "<64-dimensional vector>", "top_k": 5}) is None
    True
    """
    if isinstance(value, str):
        return value if value.strip() and not is_vector(value) else None
    if not depth:
        return None
    if isinstance(value, Mapping):
        return _find_in_object(value, depth)
    if isinstance(value, Sequence) and not isinstance(value, bytes):
        return _find_in_list(value, depth)
    return None


def read_input(value: Any) -> str | None:
    """Return the question in an input that may be JSON."""
    return find_question(parse_json(value))


def is_vector(text: str) -> bool:
    """Return whether a text stands for an embedding rather than for words."""
    shown = text.strip()
    if not shown.startswith(("<", "[")) and "vector of size" not in shown:
        return False
    return bool(_VECTOR.fullmatch(shown) or _NUMBERS.match(shown))


def _find_in_object(value: Mapping[str, Any], depth: int) -> str | None:
    if value.get("role") is not None or "lc" in value or value.get("type") in _ASKING:
        return _find_content(value)
    for name in (*QUERY_NAMES, *WRAPPERS):
        found = find_question(_opened(value.get(name)), depth - 1)
        if found:
            return found
    texts = [text for name, text in value.items() if name not in _NOT_QUESTIONS and isinstance(text, str)]
    texts = [text for text in texts if text.strip() and not is_vector(text)]
    if len(texts) == 1:
        return texts[0]
    for inner in value.values():
        if isinstance(inner, Mapping) and (found := find_question(inner, depth - 1)):
            return found
    return None


def _find_in_list(value: Sequence[Any], depth: int) -> str | None:
    asked = [each for each in value if isinstance(each, Mapping) and _find_content(each)]
    if asked:
        return _find_content(asked[-1])
    for each in value:
        found = find_question(each, depth - 1)
        if found:
            return found
    return None


def _find_content(message: Mapping[str, Any]) -> str | None:
    """Return the text of a user's message; None for a message of anybody else."""
    inner = next((message[name] for name in ("kwargs", "data") if isinstance(message.get(name), Mapping)), message)
    who = str(message.get("role") or inner.get("type") or message.get("type") or "").lower()
    if who not in _ASKING:
        return None
    content = inner.get("content", inner.get("parts"))
    if isinstance(content, str):
        return content if content.strip() else None
    for part in content if isinstance(content, list) else ():
        text = (
            part if isinstance(part, str) else isinstance(part, Mapping) and (part.get("text") or part.get("content"))
        )
        if isinstance(text, str) and text.strip():
            return text
    return None


def _opened(value: Any) -> Any:
    """Return JSON within JSON parsed; other texts stay."""
    return parse_json(value) if isinstance(value, str) and value.startswith("{") else value

"""Rule: the terms by which a question is found: keys of its exact values, and the words of its text.

`search_packs.py` packs them, `sql_search.py` looks them up. A key is a hash, so whoever finds a row compares it again.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from typing import Any

from core.log.filters import LABELS, QuestionFilter
from quarterdeck.retrieval import EMPTY, SCORED

MOST_TEXTS = 50  # of a filter that are looked up by their keys
_SHORTEST = 2  # letters of a word that is looked up by its beginning
# Chinese, Japanese and Thai have no spaces between words: every letter is a word of its own.
_ALONE = "\u0e00-\u0e7f\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"
_WORD = re.compile(f"[{_ALONE}]|[^\\W_{_ALONE}]+")
_IS_ALONE = re.compile(f"[{_ALONE}]")


def split_words(text: str) -> list[str]:
    """Return the words of a text, casefolded: runs of letters and digits.

    >>> split_words("How do I set rte_mbuf to 5?")
    ['how', 'do', 'i', 'set', 'rte', 'mbuf', 'to', '5']
    """
    return _WORD.findall(text.casefold())


def holds_words(text: str, search: str) -> bool:
    """Whether each word of a search is the beginning of a word of the text; a search without words is a part of it.

    >>> holds_words("What is an mbuf pool?", "MBUF po")
    True
    """
    wanted = split_words(search)
    if not wanted:
        return search in text
    words = split_words(text)
    return all(any(word.startswith(each) for word in words) for each in wanted)


def is_looked_up(word: str) -> bool:
    """Whether a word of a search is found by its beginning: a single letter of an alphabet begins too many."""
    return len(word) >= _SHORTEST or bool(_IS_ALONE.match(word))


@dataclass(frozen=True, slots=True)
class SearchTerms:
    """What a filter looks up: one key of each tuple of `keys`, and a word with each beginning of `beginnings`."""

    keys: tuple[tuple[int, ...], ...]
    beginnings: tuple[str, ...]

    @classmethod
    def of_filter(cls, scope_id: int, wanted: QuestionFilter) -> "SearchTerms":
        """Return the terms of a filter for the rows of one scope; both are empty where nothing of it is packed."""

        def key(field: str, value: str) -> int:
            return make_key(scope_id, field, value)

        named = (*wanted.labels, ("session_id", wanted.session_id), ("user_id", wanted.user_id))
        keys: list[tuple[int, ...]] = [(key(name, value),) for name, value in named if value or name in LABELS]
        keys += [(key("document", document),) for document in wanted.documents]
        keys += [(key(f"attribute {name}", _unify(value)),) for name, value in wanted.attributes]
        if wanted.places and SCORED not in wanted.places:
            keys.append(tuple(key("state", str(place)) for place in wanted.places))
        if wanted.texts is not None and 0 < len(wanted.texts) <= MOST_TEXTS:
            keys.append(tuple(key("text", text) for text in wanted.texts))
        words = sorted({word for word in split_words(wanted.search) if is_looked_up(word)})
        return cls(tuple(keys), tuple(words))

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to look up."""
        return not self.keys and not self.beginnings


def list_keys(row: Mapping[str, Any]) -> Iterator[int]:
    """Yield the keys of a stored row."""
    scope_id = row["scope_id"]
    for name in (*LABELS, "session_id", "user_id"):
        if (value := row[name]) or name in LABELS:
            yield make_key(scope_id, name, value or "")
    for document, _ in json.loads(row["documents"] or "[]"):
        yield make_key(scope_id, "document", document)
    for name, value in json.loads(row["attributes"] or "{}").items():
        if not isinstance(value, dict | list):
            yield make_key(
                scope_id, f"attribute {name}", _unify(value if isinstance(value, str) else json.dumps(value))
            )
    state = row["state"]
    if state is None:
        state = EMPTY if row["score"] is None else SCORED
    yield make_key(scope_id, "state", str(state))
    if row["query"]:
        yield make_key(scope_id, "text", row["query"])


def list_words(text: str) -> Iterable[str]:
    """Return the distinct words of a text."""
    return set(split_words(text))


@lru_cache(maxsize=200_000)
def make_key(scope_id: int, field: str, value: str) -> int:
    """Return the key of a value of a field of the rows of a scope, 32 bits."""
    said = f"{scope_id}\0{field}\0{value}".encode("utf-8", "surrogatepass")
    return int.from_bytes(blake2b(said, digest_size=4).digest())


def _unify(value: str) -> str:
    """Return one form of an attribute's value: numbers that are equal are written alike."""
    try:
        return repr(float(value))
    except ValueError:
        return value

"""Rule: the documents behind a retrieval, and its attributes: what services give, brought into one form."""

import json
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from hashlib import sha256
from itertools import islice
from os import PathLike, fspath
from typing import Any

from quarterdeck.errors import InvalidInput
from quarterdeck.ids import name_of
from quarterdeck.similarity import best, is_number

MAX_DOCUMENTS = 20
MAX_ID_CHARACTERS = 512
MAX_ATTRIBUTES = 32
MAX_NAME_CHARACTERS = 64
MAX_VALUE_CHARACTERS = 256

Hits = tuple[tuple[str, float | None], ...]  # in order, the best rank first: id and the retriever's own number


def read_documents(documents: Any) -> Hits:
    """Return the hits of a retrieval in order, at most 20.

    A hit is an id, an (id, score), or an object with `id`, `score` and perhaps `rank`; a document of a framework is
    one, also in place of the id. A hit without an id is named by its text. Raises InvalidInput.

    >>> read_documents(["docs/mbuf.md", ("docs/ring.md", 0.7), {"id": 7, "score": 0.5}])
    (('docs/mbuf.md', None), ('docs/ring.md', 0.7), ('7', 0.5))
    """
    if (usual := _read_usual(documents)) is not None:
        return usual
    if isinstance(documents, str | bytes | Mapping) or not isinstance(documents, Iterable):
        raise InvalidInput("documents", f"must be a list of hits, not {type(documents).__name__}")
    found = [_read_hit(place, each) for place, each in enumerate(islice(documents, 1_000))]
    if any(rank != place for place, (rank, _) in enumerate(found)):
        found.sort(key=lambda each: each[0])
    return tuple(hit for _, hit in found[:MAX_DOCUMENTS])


def best_score(hits: Hits, kind: str) -> float | None:
    """Return the best hit's number; None if no hit has one."""
    scores = [score for _, score in hits if score is not None]
    return best(scores, kind) if scores else None


def read_attributes(attributes: Any) -> dict[str, Any] | None:
    """Return attributes as names with texts, numbers and truth values; None if there are none. Raises InvalidInput.

    Further names than 32 are left out, other values become text, and long texts are cut at 256 characters.

    >>> read_attributes({"tenant": "acme", "top_k": 5, "beta": None})
    {'tenant': 'acme', 'top_k': 5}
    """
    if attributes is None:
        return None
    if not isinstance(attributes, Mapping):
        raise InvalidInput("attributes", f"must be names and values, not {type(attributes).__name__}")
    kept: dict[str, Any] = {}
    for name, value in attributes.items():
        if len(kept) >= MAX_ATTRIBUTES:
            break
        if (
            name in _known and type(value) is str and len(value) <= MAX_VALUE_CHARACTERS and value.isprintable()
            and len(name) <= MAX_NAME_CHARACTERS
        ):  # fmt: skip
            kept[name] = value
            continue
        if value is None:
            continue
        named = _plain(str(name), MAX_NAME_CHARACTERS)
        if named:
            _learn(named)
            kept[named] = value if type(value) in (int, bool) and abs(value) < 2**53 else _read_value(value)
    return kept or None


def dump_hits(hits: Hits) -> str:
    """Return hits as the JSON that the log stores: [[id, score], …]."""
    return _dump(hits)


def dump_attributes(attributes: Mapping[str, Any]) -> str:
    """Return attributes as the JSON that the log stores."""
    return _dump(attributes)


def _choose_dump() -> Callable[[Any], str]:
    """Return a function that writes compact JSON: orjson's where it is installed, which is several times faster."""
    try:
        import orjson
    except ModuleNotFoundError:
        return json.JSONEncoder(separators=(",", ":"), ensure_ascii=False, check_circular=False).encode
    return lambda value: orjson.dumps(value).decode()


_dump = _choose_dump()


_known: set[str] = set()  # ids and names that were checked: they repeat
_MOST_KNOWN = 50_000


def _learn(name: str) -> str:
    if len(_known) >= _MOST_KNOWN:
        _known.clear()
    _known.add(name)
    return name


def _read_usual(documents: Any) -> Hits | None:
    """Return the hits if all of them are pairs or objects of a known id and a finite float, else None."""
    if type(documents) is not list or len(documents) > MAX_DOCUMENTS:
        return None
    hits = []
    try:
        for hit in documents:
            if type(hit) is dict:
                name, score = hit["id"], hit["score"]
                if len(hit) != 2:
                    return None
                hit = (name, score)
            else:
                name, score = hit
            if type(hit) is not tuple or type(score) is not float or score - score != 0.0 or name not in _known:
                return None
            hits.append(hit)
    except (TypeError, ValueError, KeyError):
        return None
    return tuple(hits)


def _read_hit(place: int, hit: Any) -> tuple[float, tuple[str, float | None]]:
    if type(hit) is tuple and len(hit) == 2 and type(hit[0]) is str and type(hit[1]) is float:
        return place, (_check_id(hit[0]), _check_score(hit[1]))
    if isinstance(hit, list | tuple) and len(hit) == 2:
        return place, (_find_id(place, hit[0], in_pair=True), _check_score(hit[1]))
    if not isinstance(hit, Mapping):
        name, score = _find_id(place, hit), getattr(hit, "score", None)
        return place, (name, _check_score(score) if is_number(score) else None)
    rank = hit.get("rank", place)
    return float(rank) if is_number(rank) else place, (_find_id(place, hit), _check_score(hit.get("score")))


def _find_id(place: int, hit: Any, *, in_pair: bool = False) -> str:
    """Return the id of a hit, else the hash of its text: of an id, an object, or a document of a framework."""
    named = fspath(hit) if isinstance(hit, PathLike) else name_of(hit)
    if isinstance(named, str):
        return _check_id(named)
    read: Callable[..., Any] = hit.get if isinstance(hit, Mapping) else partial(getattr, hit)
    metadata = read("metadata", None)
    for found in (read("id", None), read("node_id", None), *map(_reader(metadata), ("id", "source"))):
        if found is not None and found != "":
            return _check_id(found)
    for name in ("text", "content", "page_content"):
        if isinstance(text := read(name, None), str) and text:
            return sha256(text.encode("utf-8", "replace")).hexdigest()[:16]
    if isinstance(hit, Mapping):
        raise InvalidInput("documents", f"hit {place + 1} has no id")
    if in_pair and hit is not None and not is_number(hit):
        return _check_id(hit)
    raise InvalidInput("documents", f"a hit is an id, an (id, score) or an object with id, not {type(hit).__name__}")


def _reader(metadata: Any) -> Callable[[str], Any]:
    return metadata.get if isinstance(metadata, Mapping) else lambda _name: None


def _check_id(name: Any) -> str:
    kept = _plain(name if isinstance(name, str) else str(name), MAX_ID_CHARACTERS)
    if not kept:
        raise InvalidInput("documents", "the id of a hit is empty")
    return _learn(kept)


def _check_score(score: Any) -> float | None:
    """Return a hit's number; None if there is none, NaN for example. Raises InvalidInput for a text."""
    if isinstance(score, str):
        raise InvalidInput("documents", f"the score of a hit must be a number, not the text {score[:40]!r}")
    return float(score) if score is not None and is_number(score) else None


def _read_value(value: Any) -> Any:
    if isinstance(value, str):
        return _plain(value, MAX_VALUE_CHARACTERS)
    if is_number(value):
        return float(value)
    return _plain(str(value), MAX_VALUE_CHARACTERS)


def _plain(text: str, longest: int) -> str:
    """Return the text with what databases and pages cannot show left out, cut to a length."""
    if not text.isprintable():
        text = "".join(each if each.isprintable() else " " for each in text).strip()
    return text[:longest]

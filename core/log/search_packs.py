"""Rule: the terms of a slice of the log in packs: for every term, which rows of the slice have it.

A slice is SLICE consecutive row numbers, and a pack holds some of its terms, so that a look-up reads little. A term of
very many rows is noted without them: whoever looks for it finds rows anywhere in the slice.
"""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from core.log.search_terms import list_keys, list_words
from quarterdeck.schema import SEARCH_SLICE

SLICE = SEARCH_SLICE  # a place in it takes two bytes
KEY_PARTS, WORD_PARTS = 64, 32
MOST_PLACES = SLICE // 32  # of a term whose rows are noted
Places = NDArray[np.uint16]
_PREFIX = 2  # letters of a word that say in which pack it is


class FoundPlaces(NamedTuple):
    """The rows of a slice that have a term; `is_common` says that they are many and not noted."""

    places: Places
    is_common: bool = False


NOWHERE = FoundPlaces(np.empty(0, dtype=np.uint16))
EVERYWHERE = FoundPlaces(np.empty(0, dtype=np.uint16), is_common=True)


def part_of_key(key: int) -> int:
    """Return the number of the pack that holds a key."""
    return key % KEY_PARTS


def part_of_word(word: str) -> int:
    """Return the number of the pack that holds a word, and all words with its first letters."""
    return KEY_PARTS + crc32(word[:_PREFIX].encode("utf-8", "surrogatepass")) % WORD_PARTS


def pack_rows(rows: Iterable[Mapping[str, Any]]) -> dict[int, bytes]:
    """Return the packs of the rows of one slice, by number."""
    keys, words = defaultdict[int, list[int]](list), defaultdict[str, list[int]](list)
    for row in rows:
        place = row["id"] % SLICE
        for key in set(list_keys(row)):
            keys[key].append(place)
        for word in list_words(row["query"]):
            words[word].append(place)
    packs = {part: _pack_keys(some) for part, some in _share(keys, part_of_key).items()}
    return packs | {part: _pack_words(some) for part, some in _share(words, part_of_word).items()}


def find_key(packed: bytes, key: int) -> FoundPlaces:
    """Return the rows with a key, from its pack."""
    count = int(np.frombuffer(packed, np.uint32, 1)[0])
    known, ends = np.frombuffer(packed, np.uint32, 2 * count, 4).reshape(2, count)
    at = int(np.searchsorted(known, key))
    if at == count or known[at] != key:
        return NOWHERE
    return _read_places(packed, 4 + 8 * count, ends, at)


def find_beginning(packed: bytes, beginning: str) -> FoundPlaces:
    """Return the rows with a word that begins so, from the pack of these words."""
    count, size = (int(number) for number in np.frombuffer(packed, np.uint32, 2))
    ends = np.frombuffer(packed, np.uint32, count, 8)
    words = packed[8 + 4 * count : 8 + 4 * count + size].decode("utf-8", "surrogatepass").rstrip("\n").split("\n")
    at, places = bisect_left(words, beginning), list[Places]()
    while at < count and words[at].startswith(beginning):
        found = _read_places(packed, 8 + 4 * count + size, ends, at)
        if found.is_common:
            return EVERYWHERE
        places.append(found.places)
        at += 1
    return FoundPlaces(np.unique(np.concatenate(places))) if places else NOWHERE


def intersect(found: Iterable[FoundPlaces]) -> FoundPlaces:
    """Return the rows that have all terms; common ones rule out none."""
    places: Places | None = None
    for each in found:
        if not each.is_common:
            places = each.places if places is None else np.intersect1d(places, each.places, assume_unique=True)
    return EVERYWHERE if places is None else FoundPlaces(places)


def unite(found: Iterable[FoundPlaces]) -> FoundPlaces:
    """Return the rows that have one of the terms."""
    listed = list(found)
    if any(each.is_common for each in listed):
        return EVERYWHERE
    return FoundPlaces(np.unique(np.concatenate([each.places for each in listed])))


def _share(terms: Mapping[Any, list[int]], part_of: Any) -> dict[int, dict[Any, list[int]]]:
    shared = defaultdict[int, dict[Any, list[int]]](dict)
    for term in sorted(terms):
        shared[part_of(term)][term] = terms[term]
    return shared


def _pack_keys(terms: Mapping[int, list[int]]) -> bytes:
    ends, places = _pack_places(terms.values())
    return b"".join((np.uint32(len(terms)).tobytes(), np.array(list(terms), np.uint32).tobytes(), ends, places))


def _pack_words(terms: Mapping[str, list[int]]) -> bytes:
    ends, places = _pack_places(terms.values())
    words = "\n".join(terms).encode("utf-8", "surrogatepass")
    words += b"\n" * (1 + -(len(words) + 1) % 4)  # numbers begin at multiples of their size
    return b"".join((np.array([len(terms), len(words)], np.uint32).tobytes(), ends, words, places))


def _pack_places(listed: Iterable[list[int]]) -> tuple[bytes, bytes]:
    """Return where the places of each term end, and the places; those of common terms are left out."""
    kept = [each if len(each) <= MOST_PLACES else [] for each in listed]
    ends = np.cumsum([len(each) for each in kept], dtype=np.uint32)
    return ends.tobytes(), np.array([place for each in kept for place in each], np.uint16).tobytes()


def _read_places(packed: bytes, offset: int, ends: NDArray[np.uint32], at: int) -> FoundPlaces:
    first = int(ends[at - 1]) if at else 0
    count = int(ends[at]) - first
    return FoundPlaces(np.frombuffer(packed, np.uint16, count, offset + 2 * first)) if count else EVERYWHERE

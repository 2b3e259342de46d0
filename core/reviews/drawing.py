"""Rule: draws questions for reviewers and judges: the same seed and the same ids draw the same ones."""

import hashlib
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import TypeVar

from core.errors import InvalidInput

MOST_QUESTIONS = 1_000  # of a queue
_Key = TypeVar("_Key", bound=Hashable)


def draw(keys: Iterable[str], size: int, *, seed: int) -> tuple[str, ...]:
    """Return a random sample of ids without repetition, in random order. Which ones were offered is not changed by it.

    Raises InvalidInput for a size outside 1 to 1,000.

    >>> draw(["a", "b", "c"], 2, seed=1) == draw(["c", "a", "b"], 2, seed=1)
    True
    """
    check_size(size)
    return tuple(sorted(set(keys), key=lambda key: (fraction_of(key, seed=seed), key))[:size])


def draw_evenly(groups: Mapping[_Key, Sequence[str]], size: int, *, seed: int) -> tuple[str, ...]:
    """Return a random sample with the same number of each group, as far as it has so many; no id twice."""
    check_size(size)
    drawn = {group: draw(keys, MOST_QUESTIONS, seed=seed) for group, keys in groups.items() if keys}
    longest = max(map(len, drawn.values()), default=0)
    in_turn = (keys[place] for place in range(longest) for keys in drawn.values() if place < len(keys))
    return tuple(dict.fromkeys(in_turn))[:size]


def fraction_of(key: str, *, seed: int) -> float:
    """Return a number from 0 to below 1 that an id and a seed always give, evenly distributed over ids."""
    digest = hashlib.blake2b(f"{seed}:{key}".encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest) / 2**64


def check_size(size: int) -> None:
    """Raise InvalidInput unless a queue may have so many questions."""
    if not 1 <= size <= MOST_QUESTIONS:
        raise InvalidInput("size", f"must be 1 to {MOST_QUESTIONS:,} questions, not {size:,}")

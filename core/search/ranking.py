"""Rule: finds things of the deck by the words of their names, the best match first."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class SearchKind(StrEnum):
    """What can be found, in the order in which it is shown."""

    PAGE = "Pages"
    FLAG = "Flags"
    TOPIC = "Topics"
    PROMPT = "Prompts"
    DOCUMENT = "Documents"
    QUESTION = "Questions"


@dataclass(frozen=True, slots=True)
class SearchItem:
    """Something that can be found: its name, words that describe it, and the page and filters that show it."""

    title: str
    page: str
    filters: tuple[tuple[str, str], ...] = ()
    detail: str = ""


def rank_items(words: str, items: Iterable[SearchItem]) -> tuple[SearchItem, ...]:
    """Return the items that hold every word, in any case: first those whose name begins with the words.

    Then come those in whose name each of them begins a word, those whose name holds them, and those whose detail does.

    >>> items = [SearchItem("use_hyde", "rollouts"), SearchItem("Hyde park", "corpus"), SearchItem("x", "corpus")]
    >>> [item.title for item in rank_items("hyde", items)]
    ['Hyde park', 'use_hyde']
    """
    wanted = words.casefold().split()
    if not wanted:
        return ()
    ranked = [(rank, at, item) for at, item in enumerate(items) if (rank := _rank(wanted, item)) is not None]
    return tuple(item for _, _, item in sorted(ranked, key=lambda each: each[:2]))


def _rank(wanted: list[str], item: SearchItem) -> int | None:
    """How well an item matches, 0 is best; None if it does not."""
    title = item.title.casefold()
    if not all(word in f"{title} {item.detail.casefold()}" for word in wanted):
        return None
    if title.startswith(" ".join(wanted)):
        return 0
    parts = title.replace("_", " ").replace("-", " ").replace("/", " ").split()
    if all(any(part.startswith(word) for part in parts) for word in wanted):
        return 1
    return 2 if all(word in title for word in wanted) else 3

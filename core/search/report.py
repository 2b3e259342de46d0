"""Shell: searches everything that the deck can show; a source that cannot be read leaves the others."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from core.errors import QuarterdeckError
from core.search.ranking import SearchItem, SearchKind, rank_items

MOST_SHOWN = 5
SearchSource = Callable[[str], Iterable[SearchItem]]


@dataclass(frozen=True, slots=True)
class SearchGroup:
    """The best items of one kind, and how many more there are. `problem` says in one line why there are none."""

    kind: SearchKind
    items: tuple[SearchItem, ...] = ()
    more: int = 0
    problem: str = ""


def search_deck(words: str, sources: Mapping[SearchKind, SearchSource]) -> tuple[SearchGroup, ...]:
    """Return what the words find, by kind. Kinds without any are left out, unreadable ones say so.

    A source gets the words and returns candidates; all but questions, which their own index finds, are ranked here.
    """
    if not words.strip():
        return ()
    groups = (_search(words, kind, source) for kind, source in sources.items())
    return tuple(group for group in groups if group.items or group.problem)


def _search(words: str, kind: SearchKind, source: SearchSource) -> SearchGroup:
    try:
        found = tuple(source(words))
    except QuarterdeckError as error:
        return SearchGroup(kind, problem=str(error))
    ranked = found if kind is SearchKind.QUESTION else rank_items(words, found)
    return SearchGroup(kind, ranked[:MOST_SHOWN], max(0, len(ranked) - MOST_SHOWN))

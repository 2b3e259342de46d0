"""Rule: how many of what, and the names of some of many, as every sentence says them."""

from collections.abc import Sequence

MOST_NAMED = 3


def count_of(count: int, one: str, many: str = "") -> str:
    """Return a count with its noun; `many` is the plural where it is not the singular with an s.

    >>> count_of(1, "case"), count_of(1200, "case"), count_of(2, "query", "queries")
    ('1 case', '1,200 cases', '2 queries')
    """
    return f"{count:,} {one if count == 1 else many or f'{one}s'}"


def say_names(names: Sequence[str], most: int = MOST_NAMED) -> str:
    """Return the first names, and how many more there are.

    >>> say_names(["a", "b"]), say_names(["a", "b", "c", "d", "e"])
    ('a, b', 'a, b, c and 2 more')
    """
    said = ", ".join(names[:most])
    return f"{said} and {len(names) - most:,} more" if len(names) > most else said

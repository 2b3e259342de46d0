"""Rule: an index canary, the flag by which a share of users searches a candidate index instead of an alias's live one.

Its key is `index:` and the alias. Its variants are blue, the live index, and green, the candidate; their values are the
indexes' names. It counts only while the alias is as it was when the canary began: `PINNED` in its metadata is the
alias's version, which every swap moves.
"""

from collections.abc import Container, Mapping
from dataclasses import dataclass
from typing import Any

from quarterdeck.shapes import list_own_variants

PREFIX = "index:"
PINNED = "index_alias_version"
LIVE, CANDIDATE = "blue", "green"


@dataclass(frozen=True, slots=True)
class IndexArms:
    """The two indexes that an index canary compares, and the version that the alias has to have."""

    alias: str
    live: str
    candidate: str
    alias_version: int

    def holds(self, index_name: str | None, version: int) -> bool:
        """Return whether the alias is still as it was when the canary began."""
        return (self.live, self.alias_version) == (index_name, version)


def canary_key(alias: str) -> str:
    """Return the key of the flag that is the index canary of an alias."""
    return f"{PREFIX}{alias}"


def alias_of(key: str) -> str | None:
    """Return the alias whose index canary has this key; None for any other flag.

    >>> alias_of(canary_key("default")), alias_of("answer-service")
    ('default', None)
    """
    alias = key.removeprefix(PREFIX)
    return alias if alias and alias != key else None


def read_arms(key: str, definition: Any) -> IndexArms | None:
    """Return the indexes that a flag compares; None if it is no index canary, or one that cannot be read."""
    alias = alias_of(key)
    if alias is None or not isinstance(definition, Mapping):
        return None
    variants, metadata = definition.get("variants"), definition.get("metadata")
    if not isinstance(variants, Mapping) or not isinstance(metadata, Mapping):
        return None
    live, candidate, pinned = variants.get(LIVE), variants.get(CANDIDATE), metadata.get(PINNED)
    if not isinstance(live, str) or not isinstance(candidate, str) or live == candidate:
        return None
    if isinstance(pinned, bool) or not isinstance(pinned, int | float):
        return None
    if len(list_own_variants(variants)) != 2:  # users in a holdout have a variant besides: the live index
        return None
    return IndexArms(alias, live, candidate, int(pinned))


def find_candidates(
    definitions: Mapping[str, Any], aliases: Mapping[str, tuple[str, int]], usable: Container[str]
) -> dict[str, str]:
    """Return the candidate of each alias whose canary counts: the alias was not moved, the candidate can be searched.

    `aliases` are each alias's index and version.
    """
    found = (read_arms(key, definition) for key, definition in definitions.items() if key.startswith(PREFIX))
    return {
        arms.alias: arms.candidate
        for arms in found
        if arms and arms.candidate in usable and arms.holds(*aliases.get(arms.alias, (None, 0)))
    }

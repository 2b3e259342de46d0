"""Rule: which flags can be cleaned up, from where their keys stand in the code and how they are used."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from quarterdeck.index_canaries import alias_of

NAMED_PLACES = 3


@dataclass(frozen=True, slots=True)
class CodeReference:
    """A line of a file that names a flag. `is_asked` if a client is asked for it there."""

    key: str
    path: str
    line: int
    is_asked: bool = False

    @property
    def place(self) -> str:
        """File and line."""
        return f"{self.path}:{self.line}"


@dataclass(frozen=True, slots=True)
class Cleanup:
    """One thing to do: a flag or a key, why, and what."""

    key: str
    reason: str
    action: str


def plan_cleanup(
    stale: Mapping[str, Sequence[str]], found: Sequence[CodeReference], *, where: str
) -> tuple[Cleanup, ...]:
    """Return what to clean up: dead flags, stale ones that the code still asks for, and keys without a flag.

    `stale` has every flag of an environment, which `where` names, with the reasons why it could go.
    """
    places: dict[str, list[CodeReference]] = {}
    for each in found:
        places.setdefault(each.key, []).append(each)
    plan = []
    for key, reasons in stale.items():
        if alias_of(key):
            continue  # an index canary: code asks for the index of its alias
        if key not in places:
            why = "; ".join(("it stands nowhere in the code", *reasons))
            plan.append(Cleanup(key, why, "delete the flag, unless other code asks for it"))
        elif reasons:
            plan.append(Cleanup(key, "; ".join(reasons), f"take it out of {say_places(places[key])}, then delete it"))
    for key, at in places.items():
        asked = [each for each in at if each.is_asked]
        if key not in stale and asked:
            why = f"the code asks for it at {say_places(asked)}"
            plan.append(Cleanup(key, why, f"create the flag in {where}, or take the code out: it gets its default"))
    return tuple(plan)


def say_places(found: Sequence[CodeReference]) -> str:
    """Return the first places, and how many more there are."""
    named = ", ".join(each.place for each in found[:NAMED_PLACES])
    more = len(found) - NAMED_PLACES
    return f"{named} and {more} more" if more > 0 else named

"""Rule: for how many users a change of a flag changes the answer, and whether that is dangerous."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from core.flags.definition import FlagDefinition
from quarterdeck.buckets import check_bucketing
from quarterdeck.flags import FlagSet
from quarterdeck.store import DEFAULT_ENVIRONMENT

MOST_USERS = 0.5
MADE_UP_COUNT = 2_000

Context = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Impact:
    """Of `asked` users, how many get another answer. `are_made_up`: no user is known, so invented ids were asked."""

    asked: int
    changed: int
    are_made_up: bool = False

    @property
    def share(self) -> float:
        """The share of the users that were asked, 0 to 1."""
        return self.changed / self.asked if self.asked else 0.0


def measure_impact(
    key: str, before: Mapping[str, Any] | None, after: Mapping[str, Any] | None, user_ids: Iterable[str]
) -> Impact:
    """Return how many users' answers change; None stands for a flag that is not there.

    Where a flag gives no answer (off, or not there) a user gets the default in the caller's code, taken to be the
    client's own: off, or blue for a canary. Users are known by their id alone, so rules on other attributes catch none.
    Raises InvalidInput where this process would put users into other buckets than clients do.
    """
    for definition in (before, after):
        check_bucketing(definition or {})
    ids = list(user_ids)
    are_made_up = not ids
    if are_made_up:
        ids = [f"user-{number}" for number in range(MADE_UP_COUNT)]
    fallback = _usual_default(after or before or {})
    old, new = (_Answers(key, definition, fallback) for definition in (before, after))
    changed = sum(old.give(user_id) != new.give(user_id) for user_id in ids)
    return Impact(len(ids), changed, are_made_up)


def must_type_name(environment: str, impact: Impact) -> bool:
    """Whether a change is so wide that its author has to type the flag's name: over half of production's users."""
    return environment == DEFAULT_ENVIRONMENT and impact.share > MOST_USERS


class _Answers:
    """What one definition answers, as variant and value."""

    def __init__(self, key: str, definition: Mapping[str, Any] | None, fallback: tuple[str | None, Any]) -> None:
        self._key = key
        self._flags = FlagSet.from_definitions({"flags": {key: definition}}) if definition else None
        self._fallback = fallback

    def give(self, user_id: str) -> tuple[str | None, Any]:
        if self._flags is None:
            return self._fallback
        found = self._flags.resolve(self._key, {"targetingKey": user_id})
        return (found.variant, found.value) if found.variant is not None else self._fallback


def _usual_default(definition: Mapping[str, Any]) -> tuple[str | None, Any]:
    """The answer that a caller's default usually stands for."""
    variants = FlagDefinition(definition).variants
    for name, value in variants.items():
        if value is False or (name == "blue" and set(variants) == {"blue", "green"}) or name == "off":
            return name, value
    return None, None

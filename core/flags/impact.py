"""Rule: for how many users a change of a flag changes the answer, and whether that is dangerous."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from core.flags.definition import FlagDefinition
from quarterdeck.buckets import check_bucketing
from quarterdeck.flags import FlagSet
from quarterdeck.scope import DEFAULT_ENVIRONMENT

MOST_USERS = 0.5
MADE_UP_COUNT = 2_000
NAMED_MOVERS = 20


@dataclass(frozen=True, slots=True)
class Mover:
    """A user who gets another answer: the variants before and after, None for the default in the caller's code."""

    user: str
    before: str | None
    after: str | None


@dataclass(frozen=True, slots=True)
class Impact:
    """How many of `asked` users get another answer. `are_made_up`: no users are known, so invented ids were used.

    `movers` names the first of them.
    """

    asked: int
    changed: int
    are_made_up: bool = False
    movers: tuple[Mover, ...] = field(default=(), compare=False)

    @property
    def share(self) -> float:
        """The share of the asked users, 0 to 1."""
        return self.changed / self.asked if self.asked else 0.0


def measure_impact(
    key: str, before: Mapping[str, Any] | None, after: Mapping[str, Any] | None, user_ids: Iterable[str],
    contexts: Mapping[str, Mapping[str, Any]] = MappingProxyType({}),
) -> Impact:  # fmt: skip
    """Return how many users' answers change; None is a flag that does not exist.

    If a flag gives no answer (it is off or missing), a user gets the caller's default, assumed to be the client's own:
    off, or blue for a canary. `contexts` has the known attributes of users; one that is not there counts as missing.
    Raises InvalidInput if this process would assign users to other buckets than clients do.
    """
    for definition in (before, after):
        check_bucketing(definition or {})
    ids = list(user_ids)
    are_made_up = not ids
    if are_made_up:
        ids = [f"user-{number}" for number in range(MADE_UP_COUNT)]
    fallback = _usual_default(after or before or {})
    old, new = (_Answers(key, definition, fallback) for definition in (before, after))
    changed, movers = 0, []
    for user_id in ids:
        context = {**contexts.get(user_id, {}), "targetingKey": user_id}
        was, will_be = old.give(context), new.give(context)
        if was != will_be:
            changed += 1
            if changed <= NAMED_MOVERS:
                movers.append(Mover(user_id, was[0], will_be[0]))
    return Impact(len(ids), changed, are_made_up, tuple(movers))


def must_type_name(environment: str, impact: Impact) -> bool:
    """Whether a change is so wide that its author must type the flag's key: over half of production's users."""
    return environment == DEFAULT_ENVIRONMENT and impact.share > MOST_USERS


class _Answers:
    """The answers of one definition, as variant and value."""

    def __init__(self, key: str, definition: Mapping[str, Any] | None, fallback: tuple[str | None, Any]) -> None:
        self._key = key
        self._flags = FlagSet.from_definitions({"flags": {key: definition}}) if definition else None
        self._fallback = fallback

    def give(self, context: Mapping[str, Any]) -> tuple[str | None, Any]:
        if self._flags is None:
            return self._fallback
        found = self._flags.resolve(self._key, context)
        return (found.variant, found.value) if found.variant is not None else self._fallback


def _usual_default(definition: Mapping[str, Any]) -> tuple[str | None, Any]:
    """The answer of a typical caller's default."""
    said = FlagDefinition(definition)
    for name, value in said.variants.items():
        if value is False or (name == "blue" and said.own_variants == {"blue", "green"}) or name == "off":
            return name, value
    return None, None

"""Rule: what a flag's definition says, as one frozen view of its flagd JSON, which nothing else takes apart.

Definitions are changed by `quarterdeck.definitions`, whose functions take the JSON and return new JSON.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import Any

from core.errors import InvalidInput
from core.flags.canary_plan import CANARY, STABLE, Plan, read_plan
from quarterdeck import definitions
from quarterdeck.rules import TargetingRule
from quarterdeck.shapes import list_own_variants
from quarterdeck.slices import Slice, read_slices
from quarterdeck.weights import TOTAL_WEIGHT

_STATES = {True: "ENABLED", False: "DISABLED"}
_SERVED = ("state", "variants", "defaultVariant", "targeting")


@dataclass(frozen=True)  # without slots, so that answers that take work are worked out once
class FlagDefinition:
    """What a definition says. `raw` is the JSON as it is stored, with every field that only others know of.

    An empty definition means that there is no flag: it is off and has no variants.
    """

    raw: Mapping[str, Any]

    @property
    def is_on(self) -> bool:
        """Whether the flag is switched on; off is the kill switch."""
        return self.raw.get("state") == _STATES[True]

    @property
    def variants(self) -> Mapping[str, Any]:
        """The value of each variant, read-only."""
        return MappingProxyType(self.raw.get("variants") or {})

    @property
    def own_variants(self) -> frozenset[str]:
        """The names of the variants, without the one that only users outside its slices get."""
        return frozenset(list_own_variants(self.variants))

    @cached_property
    def slices(self) -> tuple[Slice, ...]:
        """The slices of layers and holdouts whose users alone the flag touches; empty where it touches everybody."""
        return read_slices(self.raw)

    @property
    def reached(self) -> float:
        """The share of all users inside every slice, 0 to 1: slices of different spaces are independent."""
        return math.prod(each.share for each in self.slices)

    @property
    def default_variant(self) -> str | None:
        """The variant of everybody whom the targeting leaves out."""
        return self.raw.get("defaultVariant")

    @property
    def metadata(self) -> Mapping[str, Any]:
        """The metadata, read-only."""
        return MappingProxyType(self.raw.get("metadata") or {})

    @property
    def prompt_version(self) -> Any:
        """The prompt version that the flag brings to users, as its metadata says; None where it says nothing."""
        return self.metadata.get("prompt_version")

    @property
    def experiment(self) -> Any:
        """The metadata's `experiment`, by which clients record their users: a name, true or false; None without one."""
        return self.metadata.get("experiment")

    @property
    def served(self) -> tuple[Any, ...]:
        """The parts that decide who gets what: while they are equal, no user's answer differs."""
        return tuple(self.raw.get(part) for part in _SERVED)

    @cached_property
    def rollout_pct(self) -> float | None:
        """The percentage of users, of those no rule catches, who are on, enrolled or on green; None without rollout."""
        return definitions.rollout_pct(self.raw) if self.raw else None

    @property
    def share_pct(self) -> float | None:
        """The percentage of users whom the flag reaches now: its rollout, or 0 while it is off."""
        return self.rollout_pct if self.is_on else 0.0

    @property
    def is_partly_on(self) -> bool:
        """Whether some users are on, enrolled or on green, and not all."""
        return 0 < (self.share_pct or 0.0) < 100

    @cached_property
    def bucket_by(self) -> str | None:
        """The attribute that a user's bucket sticks to; None without a rollout."""
        return definitions.read_bucket_by(self.raw) if self.raw else None

    @cached_property
    def weights(self) -> Mapping[str, float]:
        """Each variant's percentage of the enrolled users of an A/B split; empty for any other flag."""
        try:
            weights = definitions.read_weights(self.raw)
        except InvalidInput:
            return {}
        return {name: weight * 100 / TOTAL_WEIGHT for name, weight in weights.items()}

    @cached_property
    def rules(self) -> tuple[TargetingRule, ...] | None:
        """The ordered rules in front of the rollout, after the slices; None where the targeting was written by hand."""
        return definitions.read_rules(self.raw)

    @property
    def is_canary(self) -> bool:
        """Whether the flag is a rollout with the variants blue and green."""
        return self.own_variants == {STABLE, CANARY} and self.rollout_pct is not None

    @property
    def green_pct(self) -> float:
        """The percentage of users on green; 0 while the flag is off."""
        return self.share_pct or 0.0

    @cached_property
    def plan(self) -> Plan | None:
        """The canary's plan in the metadata, None where there is none. Raises InvalidInput, naming the field."""
        return read_plan(self.metadata, is_canary=self.is_canary)


def say_state(*, on: bool) -> str:
    """Return flagd's word for a flag that is on or off."""
    return _STATES[on]


def set_metadata(definition: Mapping[str, Any], entries: Mapping[str, Any]) -> dict[str, Any]:
    """The same definition with these entries in its metadata; None takes an entry out, and all others stay."""
    kept = {name: value for name, value in FlagDefinition(definition).metadata.items() if name not in entries}
    given = {name: value for name, value in entries.items() if value is not None}
    return {**definition, "metadata": kept | given}
